"""One call fits any policy to any loss on any data: ``fit(policy, loss, data, reference=...)``."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import like, to_numpy
from prefsim.checks import check_integer, check_kind, check_positive
from prefsim.losses.catalogue import as_loss
from prefsim.losses.registry import container_of
from prefsim.losses.running import settled_on
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.fit_certificate import REMEDY, Certificate, certified, default_tolerance
from prefsim.solvers.fit_inputs import (
    Data,
    check_data,
    check_reference,
    looked_at,
    reference_for,
    refuse_options,
)
from prefsim.solvers.fit_problem import (
    Penalty,
    minimised_at_rest,
    problem_of,
    sees_margins,
    weighted,
)
from prefsim.solvers.reference import NOT_GIVEN
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array, Loss

__all__ = ["FitResult", "fit", "fit_result", "objective"]

OPTIONS = ("reference", "penalty", "tolerance", "max_iterations")


@readable
class FitResult(NamedTuple):
    """A fitted policy and its certificate.

    Attributes
    ----------
    policy
        The fitted policy, in the array library of the one given.
    value
        Objective at the policy: a float, or ``(*batch,)`` for a batch of policies.
    grad_norm
        Largest absolute entry of the gradient at the policy, rounded as its type rounds it; where
        the objective has a kink there, of the smallest mean of the gradients around it. Shaped like
        ``value``.
    converged
        Whether every ``grad_norm <= tolerance`` and nothing ``diverges``.
    history
        ``(iterations, 2)``: objective (summed over the batch) and worst gradient, before each step.
    loss
        The loss as training left it: a :class:`prefsim.losses.RunningLoss` with its state, any
        other as it was given.
    reference
        The reference as training left it: where it follows the policy its last one, else the one
        given.
    diverges
        Whether there is no finite minimiser: the objective falls for ever as the parameters grow,
        and the policy is where the search stopped. Booleans shaped like ``value``.
    """

    policy: Any
    value: Any
    grad_norm: Any
    converged: bool
    history: np.ndarray
    loss: Any = None
    reference: Any = None
    diverges: Any = False


def objective(
    policy: InMemoryPolicy,
    loss: Loss | str,
    data: Data,
    *,
    reference: InMemoryPolicy | None = NOT_GIVEN,
    penalty: Penalty | None = None,
) -> Array:
    """Return the weighted sum of ``loss`` over ``data`` (plus ``penalty(policy)``).

    It is exact where the data are a population.

    Parameters
    ----------
    policy
        An in-memory policy on any backend; with torch the value carries its graph.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``, or the name of one;
        one with a running state is taken as it stands.
    data
        Comparisons, Feedback, Rankings or Segments.
    reference
        The reference policy. ``None`` stands for log-probabilities of zero, which makes a loss
        reference-free; it must be said where the loss reads the reference.
    penalty
        A further term, a function of the policy with value ``(*batch,)``.

    Returns
    -------
    Array ``(*batch,)``.
    """
    check_kind(InMemoryPolicy, policy=policy)
    loss = as_loss(loss)
    check_data(data)
    reference = reference_for(policy, loss, data, reference)
    check_reference(policy, reference)
    ref_logps = None if reference is None else data.log_probs(_in_library_of(policy, reference))
    container, weight = data.examples(policy, ref_logps, container_of(loss))
    return weighted(policy, loss, container, weight, penalty)


def _in_library_of(policy: InMemoryPolicy, reference: InMemoryPolicy) -> InMemoryPolicy:
    return reference.with_parameters(like(reference.parameters, policy.parameters))


@functools.singledispatch
def fit(
    policy: Any,
    loss: Loss | str,
    data: Any,
    *,
    reference: Any = NOT_GIVEN,
    penalty: Penalty | None = None,
    tolerance: float | None = None,
    max_iterations: int = 500,
) -> FitResult:
    """Fit ``policy`` to ``loss`` on ``data``; the optimiser follows the type of the policy.

    In-memory policies (tabular, log-linear, token tree, network) are optimised full-batch and
    deterministically in float64 to ``grad_norm <= tolerance``: Newton steps where the size allows
    or the contexts of a table are problems of their own, quasi-Newton and then Newton–CG beyond.
    Leading batch axes are independent problems, solved in one call: of policies, of data, or of an
    option of the loss, as in ``functools.partial(losses.dpo, beta=betas[:, None])``; a grid of
    options on each of a batch of worlds is ``beta=betas[:, None, None]``.

    **A minimum that does not exist** is no convergence. Comparisons that a policy can rank without
    an error, such as a few that were sampled, drive the parameters of most losses to infinity, and
    the gradient vanishes on the way. ``diverges`` says so: exactly for the losses of a margin
    (connectivity of the graph of preferences, a linear program for a log-linear policy), and for
    others by looking on beyond where the search ended.

    **Kinks** of losses of pairs, such as the hinge, are met: a minimum at a kink is found by steps
    along all that meet there, each a quadratic program, and certified by the weights of the slopes
    beside it that sum to zero.

    A loss with a running state (:class:`prefsim.losses.RunningLoss`) sees all of the data at once
    here, and its state is what endless repetition of them leads to: the minimum is one at which the
    state stands still. Its path is :func:`gradient_descent`.

    Language models (:class:`prefsim.lm.CausalLM`) are trained by AdamW on accelerate, on text
    (:class:`prefsim.lm.TextComparisons` and the like), with the options of
    :class:`prefsim.lm.TrainingOptions` in place of ``penalty``, ``tolerance`` and
    ``max_iterations``; the result is a :class:`prefsim.lm.TrainResult`.

    Parameters
    ----------
    policy
        Where to start. It is not changed.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``, or the name of one;
        the annotation of its first argument says what it needs.
    data
        Comparisons, Feedback, Rankings or Segments; for a language model their counterparts of
        text.
    reference
        The reference policy, of the same prompts and responses. A loss that reads it must be told:
        ``None`` stands for log-probabilities of zero, which makes the loss reference-free.
    penalty
        A further differentiable term, a function of the policy with value ``(*batch,)``.
    tolerance
        Largest absolute gradient entry at which the fit counts as converged, > 0; 1e-10 in float64
        and sixteen roundings of a narrower type unless given.
    max_iterations
        Most optimisation steps, an integer >= 1.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError
        If the policy, the data or the reference is of no known type, or an option is not known.
    ValueError
        If the loss does not fit the data, reads a reference and was told none, a reference has
        another shape, all weights are zero, a hyper-parameter is out of range or the objective is
        not finite at the start.

    Warns
    -----
    ConvergenceWarning
        If there is no finite minimiser, or ``grad_norm`` stays above ``tolerance``.

    Examples
    --------
    >>> from prefsim import losses
    >>> from prefsim.data import Comparisons
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.worlds import ContextualBandit
    >>> world, reference = ContextualBandit(reward=[[0.0, 1.0]]), TabularPolicy.uniform(1, 2)
    >>> fit(
    ...     reference, losses.dpo, Comparisons.population(world, reference), reference=reference
    ... ).policy.probs.round(6)
    array([[4.50000e-05, 9.99955e-01]])
    """
    raise TypeError(
        "fit knows in-memory policies (prefsim.policies) and language models (prefsim.lm), got"
        f" {type(policy).__name__}"
    )


@fit.register
def fit_in_memory(
    policy: InMemoryPolicy,
    loss: Loss | str,
    data: Data,
    *,
    reference: Any = NOT_GIVEN,
    penalty: Penalty | None = None,
    tolerance: float | None = None,
    max_iterations: int = 500,
    **unknown: Any,
) -> FitResult:
    """Fit an in-memory policy; see :func:`fit`."""
    refuse_options(policy, unknown, OPTIONS)
    if tolerance is None:
        tolerance = default_tolerance(policy.parameters)
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    loss = as_loss(loss)
    check_data(data)
    reference = reference_for(policy, loss, data, reference)
    problem, start = problem_of(policy, loss, data, reference, penalty)
    # What was given has passed: evaluated once at the start, with every check.
    searched = looked_at(loss)
    problem = problem._replace(convex=sees_margins(problem, searched, start))
    result = minimised_at_rest(problem, searched, start, tolerance, max_iterations)
    certificate = certified(problem, searched, start, result, tolerance)
    _warn(certificate, result.iterations, tolerance)
    end = certificate.parameters
    return fit_result(
        policy,
        certificate,
        tolerance,
        problem.batch,
        result.history,
    )._replace(reference=reference, loss=settled_on(loss, *problem.examples(end)[1:]))


def _warn(certificate: Certificate, iterations: int, tolerance: float) -> None:
    """Warn the caller of :func:`fit` where the certificate is none of a minimum."""
    norm, diverges = to_numpy(certificate.grad_norm), certificate.diverges
    if diverges.any():
        of = f" in {diverges.sum()} of {diverges.size} problems" if diverges.size > 1 else ""
        warn_caller(f"fit found no finite minimiser{of}: {certificate.why}; {REMEDY}")
    elif (norm > tolerance).any():
        warn_caller(
            f"fit stopped after {iterations} steps with gradient {norm.max():.3g} above"
            f" tolerance = {tolerance:g}; the policy is the best found: take more steps"
            " (max_iterations) or start elsewhere; the loss may have no finite minimiser"
        )


def fit_result(
    policy: InMemoryPolicy,
    certificate: Certificate,
    tolerance: float,
    batch: tuple[int, ...],
    history: Any,
) -> FitResult:
    """Return a certificate of flat problems as the result of a policy's own batch and library."""
    end = certificate.parameters
    fitted = policy.with_parameters(like(end.reshape(*batch, -1), policy.parameters))
    value, norm = to_numpy(certificate.value), to_numpy(certificate.grad_norm)
    parts = [each.reshape(batch) for each in (value, norm, certificate.diverges)]
    converged = bool((norm <= tolerance).all() and not certificate.diverges.any())
    value, norm, diverges = parts if batch else [each.item() for each in parts]
    return FitResult(fitted, value, norm, converged, np.asarray(history), diverges=diverges)

"""One call fits any policy to any loss on any data: ``fit(policy, loss, data, reference=...)``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import like, to_numpy
from prefsim.checks import check_positive
from prefsim.losses.registry import container_of
from prefsim.losses.running import after_batch, settled_on
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.fit_problem import Data, Penalty, minimised_at_rest, problem_of, weighted
from prefsim.solvers.reference_update import ReferenceUpdate
from prefsim.solvers.results import ConvergenceWarning
from prefsim.typing import Array, Loss

if TYPE_CHECKING:
    import torch

__all__ = ["FitResult", "fit", "gradient_descent", "objective"]


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
        Largest absolute entry of the gradient, recomputed at the policy; shaped like ``value``.
    converged
        Whether every ``grad_norm <= tolerance``.
    history
        ``(iterations, 2)``: objective (summed over the batch) and worst gradient, before each step.
    loss
        The loss as training left it: a :class:`prefsim.losses.RunningLoss` with its state, any
        other as it was given.
    reference
        The reference as training left it: where it follows the policy its last one, else the one
        given.
    """

    policy: Any
    value: Any
    grad_norm: Any
    converged: bool
    history: np.ndarray
    loss: Any = None
    reference: Any = None


def objective(
    policy: InMemoryPolicy,
    loss: Loss,
    data: Data,
    *,
    reference: InMemoryPolicy | None = None,
    penalty: Penalty | None = None,
) -> Array:
    """Return the weighted sum of ``loss`` over ``data`` (plus ``penalty(policy)``).

    It is exact where the data are a population.

    Parameters
    ----------
    policy
        An in-memory policy on any backend; with torch the value carries its graph.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``; one with a running
        state is taken as it stands.
    data
        Comparisons, Feedback, Rankings or Segments.
    reference
        The reference policy; none stands for log-probabilities of zero, which makes a loss
        reference-free.
    penalty
        A further term, a function of the policy with value ``(*batch,)``.

    Returns
    -------
    Array ``(*batch,)``.
    """
    if len(data) == 0:
        raise ValueError("data must hold at least one row, got 0")
    ref_logps = None if reference is None else data.log_probs(_in_library_of(policy, reference))
    examples = data.examples(policy, ref_logps, container_of(loss))
    return weighted(policy, loss, *examples, penalty)


def _in_library_of(policy: InMemoryPolicy, reference: InMemoryPolicy) -> InMemoryPolicy:
    return reference.with_parameters(like(reference.parameters, policy.parameters))


@functools.singledispatch
def fit(
    policy: Any,
    loss: Loss,
    data: Any,
    *,
    reference: Any = None,
    penalty: Penalty | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 500,
) -> FitResult:
    """Fit ``policy`` to ``loss`` on ``data``; the optimiser follows the type of the policy.

    In-memory policies (tabular, log-linear, token tree, network) are optimised full-batch and
    deterministically in float64 to ``grad_norm <= tolerance``: Newton steps where the size allows,
    quasi-Newton and then Newton–CG beyond. Leading batch axes are independent problems, solved in
    one call.

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
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``; the annotation of its
        first argument says what it needs.
    data
        Comparisons, Feedback, Rankings or Segments; for a language model their counterparts of
        text.
    reference
        The reference policy; none makes the loss reference-free.
    penalty
        A further differentiable term, a function of the policy with value ``(*batch,)``.
    tolerance
        Largest absolute gradient entry at which the fit counts as converged, > 0.
    max_iterations
        Most optimisation steps.

    Returns
    -------
    FitResult

    Raises
    ------
    TypeError
        If the policy is of no known type.
    ValueError
        If the loss does not fit the data, a hyper-parameter is out of range or the objective is not
        finite at the start.

    Warns
    -----
    ConvergenceWarning
        If ``grad_norm`` stays above ``tolerance``, for instance where the loss is unbounded below
        or not smooth.

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
    loss: Loss,
    data: Data,
    *,
    reference: Any = None,
    penalty: Penalty | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 500,
) -> FitResult:
    """Fit an in-memory policy; see :func:`fit`."""
    check_positive(tolerance=tolerance, max_iterations=max_iterations)
    problem, start = problem_of(policy, loss, data, reference, penalty)
    result = minimised_at_rest(problem, loss, start, tolerance, max_iterations)
    converged = bool((result.grad_norm <= tolerance).all())
    if not converged:
        worst = float(result.grad_norm.max())
        warnings.warn(
            f"fit stopped after {result.iterations} steps with gradient {worst:.3g} above"
            f" tolerance = {tolerance:g}; the loss may have no finite minimiser",
            ConvergenceWarning,
            stacklevel=2,
        )
    end = result.parameters
    return _fit_result(
        policy,
        end,
        result.value,
        result.grad_norm,
        converged,
        problem.batch,
        result.history,
        settled_on(loss, *problem.examples(end)[1:]),
    )._replace(reference=reference)


def gradient_descent(
    policy: InMemoryPolicy,
    loss: Loss,
    data: Data,
    *,
    reference: InMemoryPolicy | None = None,
    penalty: Penalty | None = None,
    step: float,
    iterations: int,
    tolerance: float = 1e-10,
    record: Callable[[Any], Any] | None = None,
    record_every: int = 1,
    reference_update: ReferenceUpdate | None = None,
) -> tuple[FitResult, list[Any]]:
    """Follow plain gradient descent on the exact objective.

    For claims about the path rather than the minimum. A loss with a running state
    (:class:`prefsim.losses.RunningLoss`) moves with every step: the state first, then the step.

    Parameters
    ----------
    policy, loss, data, reference, penalty, tolerance
        As for :func:`fit`.
    step
        Step size, > 0.
    iterations
        Number of steps.
    record
        A function of the current policy (torch arrays, no graph), evaluated before the first and
        after every ``record_every``-th step.
    reference_update
        How the reference follows the policy (TR-DPO); it stays where it is unless given. It must
        then be a policy of the same parameters.

    Returns
    -------
    FitResult and the list of recorded values. No warning is given: the end of a path is no claim of
    convergence.

    Raises
    ------
    ValueError
        As for :func:`fit`, or if a reference that follows is none of the same parameters.
    """
    import torch

    check_positive(step=step, iterations=iterations, record_every=record_every)
    problem, theta = problem_of(policy, loss, data, reference, penalty)
    followed = None
    if reference_update is not None:
        reference_update.checked()
        followed = _parameters_that_follow(reference, policy, theta)
    history, recorded = [], []

    def note(parameters: Any) -> None:
        if record is not None:
            recorded.append(record(problem.policy_of(parameters)))

    note(theta)
    for i in range(iterations + 1):
        theta = theta.detach().requires_grad_(True)
        examples = problem.examples(theta)
        # To be judged at the end is no further batch.
        if i < iterations:
            loss = after_batch(loss, *examples[1:])
        value = problem.value(loss, examples)
        (gradient,) = torch.autograd.grad(value.sum(), theta)
        norm = gradient.abs().amax(dim=-1)
        history.append((float(value.detach().sum()), float(norm.max())))
        if i == iterations:
            break
        theta = theta.detach() - step * gradient
        if reference_update is not None and reference_update.is_due(i + 1):
            followed = reference_update.mixed(followed, problem.policy_of(theta).parameters)
            problem = problem.against(policy.with_parameters(followed))
        if (i + 1) % record_every == 0:
            note(theta)
    converged = bool((norm <= tolerance).all())
    result = _fit_result(
        policy,
        theta.detach(),
        value.detach(),
        norm,
        converged,
        problem.batch,
        tuple(history),
        loss,
    )
    if followed is not None:
        moved = like(followed, policy.parameters)
        return result._replace(reference=policy.with_parameters(moved)), recorded
    return result._replace(reference=reference), recorded


def _parameters_that_follow(
    reference: InMemoryPolicy | None,
    policy: InMemoryPolicy,
    theta: torch.Tensor,
) -> torch.Tensor:
    """Return the parameters of a reference that is to follow a policy, as tensors beside it."""
    import torch

    size = policy.parameters.shape[-1]
    if type(reference) is not type(policy) or reference.parameters.shape[-1] != size:
        raise ValueError(
            f"a reference that follows the policy must be a {type(policy).__name__} of {size}"
            f" parameters like it, got {type(reference).__name__}"
        )
    return torch.as_tensor(to_numpy(reference.parameters)).to(theta)


def _fit_result(
    policy: InMemoryPolicy,
    parameters: torch.Tensor,
    value: torch.Tensor,
    norm: torch.Tensor,
    converged: bool,
    batch: tuple[int, ...],
    history: Any,
    loss: Loss,
) -> FitResult:
    fitted = policy.with_parameters(like(parameters.reshape(*batch, -1), policy.parameters))
    values, norms = to_numpy(value).reshape(batch), to_numpy(norm).reshape(batch)
    trace = np.asarray(history)
    if not batch:
        return FitResult(fitted, float(values), float(norms), converged, trace, loss)
    return FitResult(fitted, values, norms, converged, trace, loss)

"""One call fits any policy to any loss on any data: ``fit(policy, loss, data, reference=...)``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_positive
from prefsim.losses.registry import container_of
from prefsim.numerics import array_namespace
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.results import ConvergenceWarning
from prefsim.typing import Array, Loss

if TYPE_CHECKING:
    import torch


Penalty = Callable[[Any], Array]

__all__ = ["FitResult", "fit", "gradient_descent", "objective"]


class Data(Protocol):
    """What :func:`fit` needs of a data container."""

    def __len__(self) -> int: ...

    def log_probs(self, policy: Any) -> tuple[Array, ...]:
        """Return log-probabilities of the rows."""
        ...

    def examples(self, policy: Any, ref_logps: Any, kind: type) -> tuple[Any, Any]:
        """Return the loss's container and the weight of each value."""
        ...


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
    """

    policy: Any
    value: Any
    grad_norm: Any
    converged: bool
    history: np.ndarray


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
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``.
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
    return _objective(policy, loss, data, ref_logps, container_of(loss), penalty)


def _objective(
    policy: Any, loss: Loss, data: Data, ref_logps: Any, kind: type, penalty: Penalty | None
) -> Any:
    return _weighted(policy, loss, *data.examples(policy, ref_logps, kind), penalty)


def _weighted(
    policy: Any, loss: Loss, container: Any, weight: Array, penalty: Penalty | None
) -> Any:
    values = loss(container)
    total = array_namespace(values).sum(weight * values, axis=-1)
    return total if penalty is None else total + penalty(policy)


def _in_library_of(policy: InMemoryPolicy, reference: InMemoryPolicy) -> InMemoryPolicy:
    from prefsim.backend import like

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
    from prefsim.solvers.optimisers.newton import minimise

    check_positive(tolerance=tolerance, max_iterations=max_iterations)
    problem, start, batch = _torch_problem(policy, loss, data, reference, penalty)
    result = minimise(problem, start, tolerance=tolerance, max_iterations=max_iterations)
    converged = bool((result.grad_norm <= tolerance).all())
    if not converged:
        worst = float(result.grad_norm.max())
        warnings.warn(
            f"fit stopped after {result.iterations} steps with gradient {worst:.3g} above"
            f" tolerance = {tolerance:g}; the loss may have no finite minimiser",
            ConvergenceWarning,
            stacklevel=2,
        )
    return _fit_result(
        policy, result.parameters, result.value, result.grad_norm, converged, batch, result.history
    )


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
) -> tuple[FitResult, list[Any]]:
    """Follow plain gradient descent on the exact objective.

    For claims about the path rather than the minimum.

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

    Returns
    -------
    FitResult and the list of recorded values. No warning is given: the end of a path is no claim of
    convergence.
    """
    import torch

    check_positive(step=step, iterations=iterations, record_every=record_every)
    problem, theta, batch = _torch_problem(policy, loss, data, reference, penalty)
    history, recorded = [], []

    def note(parameters: Any) -> None:
        if record is not None:
            recorded.append(record(policy.with_parameters(parameters.reshape(*batch, -1))))

    note(theta)
    for i in range(iterations + 1):
        theta = theta.detach().requires_grad_(True)
        value = problem(theta)
        (gradient,) = torch.autograd.grad(value.sum(), theta)
        norm = gradient.abs().amax(dim=-1)
        history.append((float(value.detach().sum()), float(norm.max())))
        if i == iterations:
            break
        theta = theta.detach() - step * gradient
        if (i + 1) % record_every == 0:
            note(theta)
    converged = bool((norm <= tolerance).all())
    return (
        _fit_result(policy, theta.detach(), value.detach(), norm, converged, batch, tuple(history)),
        recorded,
    )


def _torch_problem(
    policy: InMemoryPolicy,
    loss: Loss,
    data: Data,
    reference: InMemoryPolicy | None,
    penalty: Penalty | None,
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor, tuple[int, ...]]:
    """Return the objective, the start and the policy's batch shape.

    The objective is a function of float64 parameters ``(B, D)``.
    """
    import torch

    kind = container_of(loss)
    if len(data) == 0:
        raise ValueError("data must hold at least one row, got 0")
    given = policy.parameters
    device = given.device if isinstance(given, torch.Tensor) else "cpu"
    start = torch.as_tensor(given, dtype=torch.float64, device=device).detach()
    ref_logps = None
    if reference is not None:
        with torch.no_grad():
            as_torch = torch.as_tensor(reference.parameters, dtype=torch.float64, device=device)
            ref_logps = data.log_probs(reference.with_parameters(as_torch))
    # The data may carry a batch that the start does not: one start for many problems.
    with torch.no_grad():
        at_start = policy.with_parameters(start)
        container, weight = data.examples(at_start, ref_logps, kind)
        value = _weighted(at_start, loss, container, weight, penalty)
    batch = tuple(np.broadcast_shapes(tuple(value.shape), tuple(start.shape[:-1])))
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            "the objective must be finite at the start, got an infinite or undefined value; "
            "a row of positive weight may have probability zero under the policy or the reference"
        )
    _check_weights(loss, to_numpy(weight))
    start = start.expand(*batch, start.shape[-1]).reshape(-1, start.shape[-1]).clone()

    def problem(theta: torch.Tensor) -> torch.Tensor:
        return _objective(
            policy.with_parameters(theta.reshape(*batch, -1)), loss, data, ref_logps, kind, penalty
        ).reshape(-1)

    return problem, start, batch


def _check_weights(loss: Loss, weight: np.ndarray) -> None:
    """Raise where weights would not reach the batch statistic of a loss.

    Weights are applied to its values, which come too late.
    """
    from prefsim.losses.catalogue import couples_batch

    if not np.allclose(weight, weight.flat[0], rtol=1e-9, atol=0) and couples_batch(loss):
        raise ValueError(
            "the loss couples the examples of its batch and sees no weights, so that it needs hard"
            " labels of equal weight; got unequal weights (sample the data, or pass the batch's"
            " statistic as an option of the loss)"
        )


def _fit_result(
    policy: InMemoryPolicy,
    parameters: torch.Tensor,
    value: torch.Tensor,
    norm: torch.Tensor,
    converged: bool,
    batch: tuple[int, ...],
    history: Any,
) -> FitResult:
    from prefsim.backend import like

    fitted = policy.with_parameters(like(parameters.reshape(*batch, -1), policy.parameters))
    values, norms = to_numpy(value).reshape(batch), to_numpy(norm).reshape(batch)
    if not batch:
        return FitResult(fitted, float(values), float(norms), converged, np.asarray(history))
    return FitResult(fitted, values, norms, converged, np.asarray(history))

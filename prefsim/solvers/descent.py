"""Gradient descent on a fit's objective, for claims about the path rather than the minimum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import (
    check_callable,
    check_choice,
    check_integer,
    check_kind,
    check_positive,
)
from prefsim.losses.catalogue import as_loss
from prefsim.losses.running import after_batch
from prefsim.numerics import as_tensor
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.fit import FitResult, fit_result
from prefsim.solvers.fit_certificate import Certificate, default_tolerance, rounded_like
from prefsim.solvers.fit_inputs import Data, check_data, reference_for
from prefsim.solvers.fit_problem import Penalty, Problem, problem_of
from prefsim.solvers.optimisers.updates import OPTIMISERS
from prefsim.solvers.reference import NOT_GIVEN
from prefsim.solvers.reference_update import ReferenceUpdate
from prefsim.typing import Loss

if TYPE_CHECKING:
    import torch

__all__ = ["gradient_descent"]


def gradient_descent(
    policy: InMemoryPolicy,
    loss: Loss | str,
    data: Data,
    *,
    reference: InMemoryPolicy | None = NOT_GIVEN,
    penalty: Penalty | None = None,
    step: float,
    iterations: int,
    tolerance: float | None = None,
    record: Callable[[Any], Any] | None = None,
    record_every: int = 1,
    reference_update: ReferenceUpdate | None = None,
    optimiser: str = "sgd",
    batch_size: int | None = None,
    seed: Seed | None = None,
) -> tuple[FitResult, list[Any]]:
    """Follow gradient descent: plain and on the exact objective, or as models are trained.

    For claims about the path rather than the minimum. A loss with a running state
    (:class:`prefsim.losses.RunningLoss`) moves with every step: the state first, then the step.

    Parameters
    ----------
    policy, loss, data, reference, penalty, tolerance
        As for :func:`fit`. Of a batch of data sets some may have no weight at all: nothing moves
        their policies but the penalty.
    step
        Step size, > 0; Adam's learning rate.
    iterations
        Number of steps.
    record
        A function of the current policy, in the array library of the one given, evaluated before
        the first and after every ``record_every``-th step.
    reference_update
        How the reference follows the policy (TR-DPO); it stays where it is unless given. It must
        then be a policy of the same parameters.
    optimiser
        ``"sgd"``, a step against the gradient, or ``"adam"``, of Kingma and Ba with their
        constants and without decay of weights.
    batch_size
        Rows of each step, drawn anew in every pass over the data, each row once in a pass; all of
        them unless given. Their weighted sum is scaled so that the gradient is right on average.
    seed
        Of the rows' order, needed with ``batch_size``.

    Returns
    -------
    FitResult and the list of recorded values. Value and gradient of the result are those on all
    data, its history those of each step's rows. No warning is given: the end of a path is no claim
    of convergence.

    Raises
    ------
    ValueError
        As for :func:`fit`, or if a reference that follows is none of the same parameters, a batch
        is larger than the data, or its seed is missing.

    Examples
    --------
    >>> from prefsim import losses
    >>> from prefsim.data import Comparisons
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.worlds import ContextualBandit
    >>> start = TabularPolicy.uniform(1, 2)
    >>> data = Comparisons.sample(ContextualBandit(reward=[[0.0, 1.0]]), 200, seed=0)
    >>> result, path = gradient_descent(
    ...     start,
    ...     losses.ipo,
    ...     data,
    ...     reference=start,
    ...     optimiser="adam",
    ...     step=0.1,
    ...     iterations=100,
    ...     batch_size=20,
    ...     seed=0,
    ...     record=lambda policy: policy.probs[0, 1].round(2),
    ... )
    >>> len(path), bool(path[0] == 0.5), bool(path[-1] > 0.8)
    (101, True, True)
    """
    import torch

    check_positive(step=step)
    check_integer(low=1, iterations=iterations, record_every=record_every)
    check_choice(tuple(OPTIMISERS), optimiser=optimiser)
    check_kind(InMemoryPolicy, policy=policy)
    if record is not None:
        check_callable(record=record)
    if tolerance is None:
        tolerance = default_tolerance(policy.parameters)
    check_positive(tolerance=tolerance)
    current = as_loss(loss)
    check_data(data)
    reference = reference_for(policy, current, data, reference)
    batches = _batches(len(data), batch_size, seed)
    # A round may leave one of many policies without data: it stays, and claims nothing.
    problem, theta = problem_of(
        policy,
        current,
        data,
        reference,
        penalty,
        whole_rows=batch_size is not None,
        some_empty=True,
    )
    followed = None
    if reference_update is not None:
        reference_update.checked()
        followed = _parameters_that_follow(reference, policy, theta)
    history, recorded = [], []
    update = OPTIMISERS[optimiser](step)

    def in_own_library(parameters: Any) -> Any:
        moved = like(parameters.detach().reshape(*problem.batch, -1), policy.parameters)
        return policy.with_parameters(moved)

    def slope(examples: Any, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        value = problem.value(current, examples, scale=scale)
        (gradient,) = torch.autograd.grad(value.sum(), theta)
        norm = gradient.abs().amax(dim=-1)
        history.append((float(value.detach().sum()), float(norm.max())))
        return value.detach(), gradient, norm

    if record is not None:
        recorded.append(record(in_own_library(theta)))
    for i in range(iterations):
        theta = theta.detach().requires_grad_(True)
        examples, scale = _some_rows(problem, problem.examples(theta), next(batches))
        current = after_batch(current, *examples[1:])
        _, gradient, _ = slope(examples, scale)
        theta = theta.detach() - update(gradient)
        if reference_update is not None and reference_update.is_due(i + 1):
            followed = reference_update.mixed(followed, problem.policy_of(theta).parameters)
            problem = problem.against(policy.with_parameters(followed))
        if record is not None and (i + 1) % record_every == 0:
            recorded.append(record(in_own_library(theta)))
    # To be judged at the end is no further batch.
    theta = rounded_like(theta.detach(), policy.parameters).requires_grad_(True)
    value, _, norm = slope(problem.examples(theta), 1.0)
    nowhere = np.zeros(norm.numel(), dtype=bool)
    certificate = Certificate(theta.detach(), value, norm, nowhere)
    result = fit_result(policy, certificate, tolerance, problem.batch, tuple(history))
    if followed is not None:
        reference = policy.with_parameters(like(followed, policy.parameters))
    return result._replace(loss=current, reference=reference), recorded


def _batches(rows: int, size: int | None, seed: Seed | None) -> Iterator[np.ndarray | None]:
    """Return which rows each step takes: an endless iterator, of None where it takes all."""
    if size is None:
        return iter(lambda: None, 0)
    check_integer(low=1, high=rows, batch_size=size)
    if seed is None:
        raise ValueError("seed must be given with batch_size, to draw the rows of each step")
    rng = random_generator(seed)

    def passes() -> Iterator[np.ndarray]:
        while True:
            order = rng.permutation(rows)
            # What is left of a pass is less than a batch, and would weigh more than its share.
            yield from order[: rows - rows % size].reshape(-1, size)

    return passes()


def _some_rows(
    problem: Problem, examples: tuple[Any, Any, Any], rows: np.ndarray | None
) -> tuple[tuple[Any, Any, Any], float]:
    """Return the examples of some rows, and what their sum is scaled by to stand for all."""
    import torch

    if rows is None:
        return examples, 1.0
    policy, container, weight = examples
    n, of_all = len(problem.data), weight.shape[-1]
    # A row that enters both ways is two examples: those of all rows as they stand come first.
    which = (rows + n * np.arange(of_all // n)[:, None]).reshape(-1)
    index = torch.as_tensor(which, device=weight.device)
    example = problem.kind.example()
    fields = {}
    for name, field in container._asdict().items():
        if field is not None:
            axis = field.ndim - getattr(example, name).ndim
            fields[name] = field.index_select(axis, index)
    chosen = (policy, container._replace(**fields), weight.index_select(-1, index))
    return chosen, n / len(rows)


def _parameters_that_follow(
    reference: InMemoryPolicy | None,
    policy: InMemoryPolicy,
    theta: torch.Tensor,
) -> torch.Tensor:
    """Return the parameters of a reference that is to follow a policy, as tensors beside it."""
    size = policy.parameters.shape[-1]
    if type(reference) is not type(policy) or reference.parameters.shape[-1] != size:
        raise ValueError(
            f"a reference that follows the policy must be a {type(policy).__name__} of {size}"
            f" parameters like it, got {type(reference).__name__}"
        )
    return as_tensor(to_numpy(reference.parameters)).to(theta)

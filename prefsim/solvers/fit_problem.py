"""The objective of a fit, as a function of parameters, and its minimum."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.data.comparisons import Comparisons
from prefsim.losses.catalogue import couples_batch
from prefsim.losses.registry import container_of
from prefsim.losses.running import RunningLoss, settled_on
from prefsim.numerics import array_namespace, as_tensor
from prefsim.policies.base import InMemoryPolicy
from prefsim.policies.loglinear import LogLinearPolicy
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.solvers.context_blocks import is_plain_table, minimised_by_contexts
from prefsim.solvers.equal_rows import merged
from prefsim.solvers.fit_inputs import Data, check_reference, check_weights
from prefsim.solvers.likelihood.separability import is_convex_in_the_margin
from prefsim.solvers.pair_costs import is_sum_over_pairs, minimised_along_kinks, pair_costs
from prefsim.typing import Array, Loss

if TYPE_CHECKING:
    import torch

    from prefsim.solvers.optimisers.newton import NewtonResult

Penalty = Callable[[Any], Array]

__all__ = ["Penalty", "Problem", "minimised_at_rest", "problem_of", "sees_margins", "weighted"]

# Newton steps after which an objective that is not at its minimum is asked whether it has kinks:
# more than a smooth one takes.
SMOOTH_STEPS = 40


def weighted(
    policy: Any, loss: Loss, container: Any, weight: Array, penalty: Penalty | None
) -> Any:
    """Return the weighted sum of the values of a loss, plus the penalty, ``(*batch,)``."""
    values = loss(container)
    total = array_namespace(values).sum(weight * values, axis=-1)
    return total if penalty is None else total + penalty(policy)


class Problem(NamedTuple):
    """The objective of a fit as a function of float64 parameters ``(B, D)``.

    Attributes
    ----------
    policy, data, kind, penalty
        What is fitted, to what, for a loss of which container, and a further term.
    ref_logps
        Log-probabilities of the reference on the data.
    batch
        Shape of B.
    rows
        The container and the weights as a function of the policy's table, all else prepared; None
        for data that know no such function.
    couples
        Says whether the loss couples the examples of its batch, which is measured when first asked.
    convex
        Whether it is known that the loss is a convex function of each pair's margin and nothing
        else; see :func:`sees_margins`.
    """

    policy: InMemoryPolicy
    data: Data
    ref_logps: Any
    kind: type[Any]
    penalty: Penalty | None
    batch: tuple[int, ...]
    rows: Callable[[Any], tuple[Any, Any]] | None
    couples: Callable[[], bool]
    convex: bool = False

    @property
    def coupled(self) -> bool:
        """Whether the loss couples the examples of its batch."""
        return self.couples()

    def policy_of(self, theta: torch.Tensor) -> Any:
        """Return the policy of parameters, with the policy's own batch axes."""
        return self.policy.with_parameters(theta.reshape(*self.batch, -1))

    def against(self, reference: Any) -> Problem:
        """Return the same problem against another reference, whose parameters are tensors."""
        ref_logps = self.data.log_probs(reference)
        rows = _prepared(self.data, reference, ref_logps, self.kind)
        return self._replace(ref_logps=ref_logps, rows=rows)

    def examples(self, theta: torch.Tensor) -> tuple[Any, Any, Any]:
        """Return the policy, the loss's container and the weight of each value."""
        policy = self.policy_of(theta)
        if self.rows is None:
            return policy, *self.data.examples(policy, self.ref_logps, self.kind)
        return policy, *self.rows(policy.log_probs)

    def value(
        self, loss: Loss, examples: tuple[Any, Any, Any], *, scale: float = 1.0
    ) -> torch.Tensor:
        """Return the objective of what :meth:`examples` made, ``(B,)``.

        Weights are multiplied by ``scale``, with which some of the rows stand for all.
        """
        policy, container, weight = examples
        return weighted(policy, loss, container, scale * weight, self.penalty).reshape(-1)

    def settled(self, loss: Loss, theta: torch.Tensor) -> torch.Tensor:
        """Return the objective with the state of the loss, if it has one, at rest, ``(B,)``."""
        examples = self.examples(theta)
        return self.value(settled_on(loss, *examples[1:]), examples)


def problem_of(
    policy: InMemoryPolicy,
    loss: Loss,
    data: Data,
    reference: InMemoryPolicy | None,
    penalty: Penalty | None,
    *,
    whole_rows: bool = False,
    some_empty: bool = False,
) -> tuple[Problem, torch.Tensor]:
    """Return the objective and the parameters ``(B, D)`` to start from.

    Equal rows become one unless ``whole_rows``. With ``some_empty`` data sets without weight may
    stand beside others.
    """
    import torch

    kind = container_of(loss)
    check_reference(policy, reference)
    given = policy.parameters
    device = given.device if isinstance(given, torch.Tensor) else "cpu"
    start = as_tensor(given, dtype=torch.float64, device=device).detach()
    data = data if whole_rows else merged(data, loss)
    ref_logps = None
    if reference is not None:
        with torch.no_grad():
            as_torch = as_tensor(reference.parameters, dtype=torch.float64, device=device)
            ref_logps = data.log_probs(reference.with_parameters(as_torch))
    # The data may carry a batch that the start does not: one start for many problems.
    with torch.no_grad():
        at_start = policy.with_parameters(start)
        rows = _prepared(data, at_start, ref_logps, kind)
        if rows is None:
            container, weight = data.examples(at_start, ref_logps, kind)
        else:
            container, weight = rows(at_start.log_probs)
        first = settled_on(loss, container, weight)
        value = weighted(at_start, first, container, weight, penalty)
    batch = tuple(np.broadcast_shapes(tuple(value.shape), tuple(start.shape[:-1])))
    couples = functools.cache(functools.partial(couples_batch, loss))
    check_weights(to_numpy(weight), couples, some_empty=some_empty)
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            "the objective must be finite at the start, got an infinite or undefined value; "
            "a row of positive weight may have probability zero under the policy or the reference"
        )
    if batch and first is not loss:
        raise ValueError(
            f"a loss with a running state trains one policy at a time, got a batch of {batch}"
        )
    wide = start.expand(*batch, start.shape[-1])
    if wide.shape != start.shape:
        rows = _prepared(data, policy.with_parameters(wide), ref_logps, kind)
    start = wide.reshape(-1, start.shape[-1]).clone()
    return Problem(policy, data, ref_logps, kind, penalty, batch, rows, couples), start


def _prepared(data: Data, policy: Any, ref_logps: Any, kind: type[Any]) -> Any:
    """Return the examples as a function of the policy's table, where the data know it as one."""
    prepare = getattr(data, "prepared", None)
    return None if prepare is None else prepare(policy, policy.log_probs, ref_logps, kind)


def sees_margins(problem: Problem, loss: Loss, start: torch.Tensor) -> bool:
    """Return whether a loss of comparisons is convex in each margin, of a policy made of logits.

    Then the rows alone say whether there is a minimum, and each context of a table has a Hessian
    that is a sum over its rows.
    """
    import torch

    made_of_logits = is_plain_table(problem.policy) or isinstance(
        problem.policy, TokenTreePolicy | LogLinearPolicy
    )
    if not made_of_logits or problem.penalty is not None or problem.coupled:
        return False
    if not isinstance(problem.data, Comparisons) or isinstance(loss, RunningLoss):
        return False
    with torch.no_grad():
        _, pairs, _ = problem.examples(start)
    return is_convex_in_the_margin(loss, pairs)


def _minimised(
    problem: Problem, loss: Loss, start: torch.Tensor, tolerance: float, max_iterations: int
) -> NewtonResult:
    """Minimise by Newton steps, and where these end at kinks by steps along them."""
    from prefsim.solvers.optimisers.kink_pieces import has_kinks

    def smoothly(theta: torch.Tensor, steps: int) -> NewtonResult:
        from prefsim.solvers.optimisers.newton import minimise

        options: dict[str, Any] = {"tolerance": tolerance, "max_iterations": steps}
        by_contexts = minimised_by_contexts(problem, loss, theta, **options)
        if by_contexts is not None:
            return by_contexts
        objective = functools.partial(problem.settled, loss)
        return minimise(objective, theta, convex=problem.convex, **options)

    may_have_kinks = is_sum_over_pairs(problem, loss, start)
    first = min(max_iterations, SMOOTH_STEPS) if may_have_kinks else max_iterations
    result = smoothly(start, first)
    left = max_iterations - result.iterations
    if not may_have_kinks or left <= 0 or not bool((result.grad_norm > tolerance).any()):
        return result
    total = pair_costs(problem, loss, start)
    assert total is not None
    if has_kinks(total, start.reshape(total.shape)):
        rest = minimised_along_kinks(total, result, tolerance, left)
    else:
        rest = smoothly(result.parameters, left)
    return rest._replace(
        history=result.history + rest.history, iterations=result.iterations + rest.iterations
    )


def minimised_at_rest(
    problem: Problem, loss: Loss, start: torch.Tensor, tolerance: float, max_iterations: int
) -> NewtonResult:
    """Minimise where the state of the loss, if it has one, stands still."""
    from prefsim.solvers.optimisers.newton import minimise, value_and_gradient

    def at_state(held: Loss, theta: torch.Tensor) -> torch.Tensor:
        return problem.value(held, problem.examples(theta))

    if not isinstance(loss, RunningLoss) or problem.coupled:
        return _minimised(problem, loss, start, tolerance, max_iterations)
    # Of each example alone at a given state: a minimum at that state, and then the next state. No
    # gradient goes through a state, so that nothing falls along both together.
    history: tuple[tuple[float, float], ...] = ()
    for _ in range(max_iterations):
        held = settled_on(loss, *problem.examples(start)[1:])
        result = minimise(
            functools.partial(at_state, held),
            start,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        history += result.history
        settled = functools.partial(problem.settled, loss)
        value, gradient, _ = value_and_gradient(settled, result.parameters)
        norm = gradient.abs().amax(dim=-1)
        found = result._replace(
            value=value, grad_norm=norm, history=history, iterations=len(history)
        )
        if bool((norm <= tolerance).all()) or bool((result.grad_norm > tolerance).any()):
            break
        start = result.parameters
    return found

"""Problems with constrained expected rewards as solvers see them: checked, along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_context_probs,
    as_float_array,
    as_floats,
    as_log_policies,
    check_broadcast,
    check_choice,
    check_constant,
    check_positive,
    check_shape,
    is_array,
)
from prefsim.numerics import array_namespace, like, to_numpy

__all__ = [
    "ConstrainedProblem",
    "SENSES",
    "as_given",
    "constrained_problem",
    "host_problem",
    "of_size_one",
]

SENSES = ("at_least", "equal", "at_most")


class ConstrainedProblem(NamedTuple):
    """Expected rewards with thresholds, and what the policy is measured against.

    Attributes
    ----------
    rewards, reference
        ``(..., m, X, Y)`` and ``(..., X, Y)``, the latter in nats.
    thresholds, weights
        ``(..., m)``.
    beta
        A number or ``(...)``.
    contexts
        Their shares, ``(X,)``.
    signs
        ``(m,)``, −1 where a multiplier lowers the weight of its reward.
    senses
        m of :data:`SENSES`.
    """

    rewards: Any
    reference: Any
    thresholds: Any
    weights: Any
    beta: Any
    contexts: Any
    signs: Any
    senses: tuple[str, ...]

    def rows(self, rows: Any) -> ConstrainedProblem:
        """Return some problems of a flat batch."""
        return self._replace(**{name: getattr(self, name)[rows] for name in _OF_EACH})


_OF_EACH = ("rewards", "reference", "thresholds", "weights", "beta")


def constrained_problem(
    rewards: Any,
    ref_log_probs: Any,
    thresholds: Any,
    beta: Any,
    sense: str | Sequence[str],
    weights: Any,
    context_probs: Any,
    **further: Any,
) -> tuple[ConstrainedProblem, tuple[Any, ...]]:
    """Return a problem whose arrays fit each other, and further arrays ``(..., m)``, or raise."""
    check_positive(arrays=True, beta=beta)
    (ref_log_probs,) = as_log_policies(ref_log_probs=ref_log_probs)
    several = is_array(beta)
    rewards, reference, thresholds, weights, beta, *others = as_floats(
        optional=("weights",),
        rewards=rewards,
        ref_log_probs=ref_log_probs,
        thresholds=thresholds,
        weights=weights,
        beta=beta,
        **further,
    )
    check_shape(reference, "ref_log_probs", (None, None))
    contexts, responses = reference.shape[-2:]
    check_shape(rewards, "rewards", (None, contexts, responses))
    m = rewards.shape[-3]
    if m == 0:
        raise ValueError(f"rewards must hold at least one, got shape {tuple(rewards.shape)}")
    check_shape(thresholds, "thresholds", (m,))
    xp = array_namespace(rewards)
    weights = xp.zeros_like(thresholds) if weights is None else weights
    check_shape(weights, "weights", (m,))
    for (name, _), each in zip(further.items(), others, strict=True):
        check_shape(each, name, (m,))
    check_broadcast(
        rewards=rewards[..., 0, 0, 0],
        ref_log_probs=reference[..., 0, 0],
        thresholds=thresholds[..., 0],
        weights=weights[..., 0],
        beta=beta,
        **{name: each[..., 0] for name, each in zip(further, others, strict=True)},
    )
    senses = tuple(sense) if isinstance(sense, list | tuple) else (sense,) * m
    if len(senses) != m:
        raise ValueError(f"sense must be one word, or one for each of {m} rewards, got {senses}")
    for each in senses:
        check_choice(SENSES, sense=each)
    rho = as_context_probs(context_probs, contexts)
    turned = np.asarray([-1.0 if each == "at_most" else 1.0 for each in senses])
    shares, signs = like(rho, rewards), like(turned, rewards)
    strength = beta if several else float(beta)
    problem = ConstrainedProblem(
        rewards, reference, thresholds, weights, strength, shares, signs, senses
    )
    return problem, tuple(others)


def host_problem(
    rewards: Any,
    ref_log_probs: Any,
    thresholds: Any,
    beta: Any,
    sense: str | Sequence[str],
    weights: Any,
    context_probs: Any,
) -> tuple[ConstrainedProblem, tuple[int, ...], Any]:
    """Return problems along one axis, in NumPy and double precision.

    Besides, the axes they had, and an array of the library and precision in which they came, for
    :func:`as_given`.
    """
    table = getattr(ref_log_probs, "log_probs", ref_log_probs)
    check_constant(table, "ref_log_probs")
    (table,) = as_log_policies(ref_log_probs=table)
    given, *_ = as_floats(nan=True, rewards=rewards, ref_log_probs=table, thresholds=thresholds)
    # What single precision holds sums to one only as well as it can.
    log_probs = to_numpy(table).astype(np.float64)
    log_probs = log_probs - np.log(np.exp(log_probs).sum(axis=-1, keepdims=True))
    problem, _ = constrained_problem(
        as_float_array(rewards, "rewards"),
        log_probs,
        as_float_array(thresholds, "thresholds"),
        as_float_array(beta, "beta") if is_array(beta) else beta,
        sense,
        None if weights is None else as_float_array(weights, "weights"),
        context_probs,
    )
    *lead, m, contexts, responses = problem.rewards.shape
    batch = np.broadcast_shapes(
        tuple(lead),
        problem.reference.shape[:-2],
        problem.thresholds.shape[:-1],
        problem.weights.shape[:-1],
        np.shape(problem.beta),
    )

    def flat(values: Any, *tail: int) -> np.ndarray:
        return np.broadcast_to(values, (*batch, *tail)).reshape((-1, *tail))

    return (
        problem._replace(
            rewards=flat(problem.rewards, m, contexts, responses),
            reference=flat(problem.reference, contexts, responses),
            thresholds=flat(problem.thresholds, m),
            weights=flat(problem.weights, m),
            beta=flat(problem.beta),
        ),
        batch,
        given,
    )


def as_given(values: np.ndarray, given: Any) -> Any:
    """Return booleans in the library of ``given``, and numbers in its precision too."""
    if values.dtype != bool:
        return like(values, given)
    xp = array_namespace(given)
    return xp.astype(like(values, given, integer=True), xp.bool)


def of_size_one(problem: ConstrainedProblem) -> tuple[ConstrainedProblem, np.ndarray]:
    """Return a flat batch in units that bring its largest reward or threshold to [1, 2), and these.

    Multipliers have no unit.
    """
    seen = problem.reference[:, None] > -np.inf
    largest = np.where(seen, np.abs(problem.rewards), 0.0).max(axis=(1, 2, 3), initial=0.0)
    largest = np.maximum(largest, np.abs(problem.thresholds).max(axis=1))
    # Powers of two, by which nothing is rounded.
    sizes = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))))
    scaled = problem._replace(
        rewards=problem.rewards / sizes[:, None, None, None],
        thresholds=problem.thresholds / sizes[:, None],
        beta=problem.beta / sizes,
    )
    return scaled, sizes

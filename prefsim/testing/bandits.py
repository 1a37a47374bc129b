"""Hypothesis strategies for bandits, policies with full support and compared pairs.

Every strategy shrinks towards the plainest instance: one context, two responses, rewards of zero, a
uniform policy.

Examples
--------
>>> from hypothesis import given
>>> from prefsim.solvers import optimal_policy
>>> @given(bandits_with_reference(), betas())
... def test_the_optimum_is_a_distribution(instance, beta):
...     world, reference = instance
...     assert (
...         abs(optimal_policy(world.reward, reference.probs, beta=beta).sum(axis=-1) - 1).max()
...         < 1e-12
...     )
>>> test_the_optimum_is_a_distribution()
"""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefsim.containers import PairLogps
from prefsim.divergences import DIVERGENCES
from prefsim.policies.tabular import TabularPolicy
from prefsim.worlds.bandit import ContextualBandit

__all__ = [
    "alphas",
    "bandits",
    "bandits_with_reference",
    "betas",
    "divergences",
    "flip_rates",
    "general_bandits",
    "general_bandits_with_reference",
    "margins",
    "pair_logps",
    "policies",
    "tables",
]


@functools.lru_cache(maxsize=1024)  # building a strategy costs more than drawing from it
def tables(
    shape: tuple[int, ...] | st.SearchStrategy[tuple[int, ...]], *, low: float, high: float
) -> st.SearchStrategy[np.ndarray]:
    """Float64 arrays of ``shape`` with entries in ``[low, high]``.

    The shape may be a strategy of shapes.
    """
    return hnp.arrays(
        np.float64, shape, elements=st.floats(low, high, allow_subnormal=False), fill=st.nothing()
    )


def betas(low: float = 0.05, high: float = 5.0) -> st.SearchStrategy[float]:
    """Strengths of a penalty in ``[low, high]``, spread evenly over the orders of magnitude."""
    return st.floats(float(np.log10(low)), float(np.log10(high))).map(
        lambda exponent: min(max(10.0**exponent, low), high)
    )


def flip_rates(low: float = 0.0, high: float = 0.45) -> st.SearchStrategy[float]:
    """Rates of label flips in ``[low, high]``, below one half."""
    return st.floats(low, high, allow_subnormal=False)


def alphas(low: float = 0.05, high: float = 0.95) -> st.SearchStrategy[float]:
    """Orders of the alpha divergence, strictly between 0 and 1."""
    return st.floats(low, high)


def divergences() -> st.SearchStrategy[str]:
    """Names of :data:`prefsim.divergences.DIVERGENCES`."""
    return st.sampled_from(DIVERGENCES)


def margins(
    limit: float = 50.0, *, size: int | st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[np.ndarray]:
    """Implicit-reward margins in nats, each in ``[-limit, limit]``.

    ``(n,)`` with n up to 8 unless ``size`` says otherwise.
    """
    if size is None:
        sizes = st.integers(1, 8)
    elif isinstance(size, int):
        sizes = st.just(size)
    else:
        sizes = size
    return sizes.flatmap(lambda n: tables((n,), low=-limit, high=limit))


@st.composite
def pair_logps(
    draw: st.DrawFn, *, max_size: int = 6, lowest: float = -60.0, lengths: bool = False
) -> PairLogps:
    """Log-probabilities of up to ``max_size`` compared pairs, each in ``[lowest, 0]`` nats.

    With ``lengths`` also 1 to 50 tokens each.
    """
    n = draw(st.integers(1, max_size))
    chosen, rejected, ref_chosen, ref_rejected = (
        draw(tables((n,), low=lowest, high=0.0)) for _ in range(4)
    )
    if not lengths:
        return PairLogps(chosen, rejected, ref_chosen, ref_rejected)
    tokens = hnp.arrays(np.int64, n, elements=st.integers(1, 50), fill=st.nothing()).map(
        lambda count: count.astype(np.float64)
    )
    return PairLogps(
        chosen,
        rejected,
        ref_chosen,
        ref_rejected,
        chosen_length=draw(tokens),
        rejected_length=draw(tokens),
    )


def bandits(
    *,
    n_contexts: int | None = None,
    n_responses: int | None = None,
    max_contexts: int = 3,
    max_responses: int = 6,
    scale: float = 3.0,
) -> st.SearchStrategy[ContextualBandit]:
    """Contextual bandits with rewards in ``[-scale, scale]`` and uneven contexts.

    Sizes are drawn unless given.
    """
    contexts = st.integers(1, max_contexts) if n_contexts is None else st.just(n_contexts)
    responses = st.integers(2, max_responses) if n_responses is None else st.just(n_responses)

    return st.tuples(contexts, responses).flatmap(functools.partial(_bandits_of_shape, scale=scale))


@functools.lru_cache(maxsize=256)
def _bandits_of_shape(
    shape: tuple[int, int], *, scale: float
) -> st.SearchStrategy[ContextualBandit]:
    def build(parts: tuple[np.ndarray, np.ndarray]) -> ContextualBandit:
        reward, weight = parts
        return ContextualBandit(reward=reward, context_probs=weight / weight.sum())

    return st.tuples(
        tables(shape, low=-scale, high=scale), tables((shape[0],), low=0.1, high=1.0)
    ).map(build)


@functools.lru_cache(maxsize=256)
def policies(
    n_contexts: int, n_responses: int, *, spread: float = 2.0
) -> st.SearchStrategy[TabularPolicy]:
    """Tabular policies with full support.

    logits in ``[-spread, spread]``, so no ratio of probabilities exceeds ``exp(2 spread)``.
    """
    return tables((n_contexts, n_responses), low=-spread, high=spread).map(
        TabularPolicy.from_logits
    )


def bandits_with_reference(
    *, spread: float = 2.0, **sizes: float
) -> st.SearchStrategy[tuple[ContextualBandit, TabularPolicy]]:
    """Pairs of a bandit and a reference policy of its shape with full support.

    Options are those of :func:`bandits`.
    """
    made = bandits(**sizes)  # type: ignore[arg-type]
    return made.flatmap(functools.partial(_with_reference, spread=spread))


def general_bandits(
    *,
    n_contexts: int | None = None,
    n_responses: int | None = None,
    max_contexts: int = 3,
    max_responses: int = 5,
) -> st.SearchStrategy[ContextualBandit]:
    """Contextual bandits with any preferences and uneven contexts, and without a reward.

    Preferences of 0, ½ and 1 turn up often, and cycles from three responses on. Sizes are drawn
    unless given.
    """
    contexts = st.integers(1, max_contexts) if n_contexts is None else st.just(n_contexts)
    responses = st.integers(2, max_responses) if n_responses is None else st.just(n_responses)
    return st.tuples(contexts, responses).flatmap(_general_bandits_of_shape)


@functools.lru_cache(maxsize=256)
def _general_bandits_of_shape(shape: tuple[int, int]) -> st.SearchStrategy[ContextualBandit]:
    contexts, responses = shape

    def build(margins: np.ndarray, weight: np.ndarray) -> ContextualBandit:
        upper = np.triu(margins, 1)
        return ContextualBandit(
            preference=0.5 + upper - np.swapaxes(upper, -1, -2), context_probs=weight / weight.sum()
        )

    return st.builds(
        build,
        tables((contexts, responses, responses), low=-0.5, high=0.5),
        tables((contexts,), low=0.1, high=1.0),
    )


def general_bandits_with_reference(
    *, spread: float = 2.0, **sizes: int
) -> st.SearchStrategy[tuple[ContextualBandit, TabularPolicy]]:
    """Pairs of a bandit with any preferences and a reference policy of its shape.

    The reference has full support. Options are those of :func:`general_bandits`.

    Examples
    --------
    >>> from hypothesis import given
    >>> from prefsim.solvers import solve_nash
    >>> @given(general_bandits_with_reference(max_responses=3))
    ... def test_every_context_has_an_equilibrium(instance):
    ...     world, reference = instance
    ...     nash = solve_nash(world, method="regularised", reference=reference, tau=0.5)
    ...     assert nash.policy.shape == reference.probs.shape and nash.converged.all()
    >>> test_every_context_has_an_equilibrium()
    """
    return general_bandits(**sizes).flatmap(functools.partial(_with_reference, spread=spread))


def _with_reference(
    world: ContextualBandit, *, spread: float
) -> st.SearchStrategy[tuple[ContextualBandit, TabularPolicy]]:
    return st.tuples(st.just(world), policies(world.n_contexts, world.n_responses, spread=spread))

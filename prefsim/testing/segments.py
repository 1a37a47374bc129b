"""Hypothesis strategies for compared trajectory segments.

And for the small decision processes that they come from.

Every strategy shrinks towards the plainest instance: one state, one action, one step, rewards of
zero.

Examples
--------
>>> from hypothesis import given
>>> from prefsim.data import Segments
>>> @given(segment_processes(max_states=3))
... def test_weights_of_a_population_sum_to_one(process):
...     mdp, length = process
...     assert abs(Segments.population(mdp, length, scores=mdp.reward).weight.sum() - 1) < 1e-12
>>> test_weights_of_a_population_sum_to_one()
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefsim.containers import TokenPairLogps
from prefsim.data.segments import Segments
from prefsim.testing.bandits import tables
from prefsim.testing.mdps import mdps
from prefsim.worlds.mdp import TabularMDP

__all__ = ["SegmentProcess", "potentials", "segment_pairs", "segment_processes", "token_pair_logps"]


class SegmentProcess(NamedTuple):
    """A decision process and the number of steps of its segments."""

    mdp: TabularMDP
    length: int


@st.composite
def segment_processes(
    draw: st.DrawFn, *, max_states: int = 4, max_length: int = 3, scale: float = 2.0, **options: Any
) -> SegmentProcess:
    """Return a process with rewards of its pairs, small enough to enumerate its segments.

    The discount is in [0.1, 0.95].

    Options are those of :func:`~prefsim.testing.mdps.mdps`.
    """
    discount = draw(st.floats(0.1, 0.95))
    mdp = draw(
        mdps(
            max_states=max_states,
            transition_rewards=False,
            discount=discount,
            scale=scale,
            **options,
        )
    )
    # Certain moves branch by actions alone, others also by successors.
    certain = bool((mdp.transitions.max(axis=-1) == 1).all())
    branches = mdp.n_actions * (1 if certain else mdp.n_states)
    fits = [t for t in range(1, max_length + 1) if mdp.n_states * branches**t <= 400]
    return SegmentProcess(mdp, draw(st.sampled_from(fits or [1])))


def potentials(mdp: TabularMDP, *, scale: float = 3.0) -> st.SearchStrategy[np.ndarray]:
    """Return potentials ``(S,)`` in ``[-scale, scale]``, zero in terminal states."""
    alive = ~np.asarray(mdp.terminal)
    return tables((mdp.n_states,), low=-scale, high=scale).map(
        lambda values: np.where(alive, values, 0.0)
    )


@st.composite
def segment_pairs(
    draw: st.DrawFn,
    *,
    n_states: int = 3,
    n_actions: int = 2,
    max_pairs: int = 4,
    max_length: int = 3,
) -> Segments:
    """Return compared segments with any indices, soft labels and weights (some zero).

    Masks count the first steps.
    """
    n, length = draw(st.integers(1, max_pairs)), draw(st.integers(1, max_length))
    states = draw(hnp.arrays(np.int64, (n, 2, length + 1), elements=st.integers(0, n_states - 1)))
    actions = draw(hnp.arrays(np.int64, (n, 2, length), elements=st.integers(0, n_actions - 1)))
    steps = draw(hnp.arrays(np.int64, (n, 2, 1), elements=st.integers(1, length)))
    prob = draw(hnp.arrays(np.float64, (n,), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
    weight = draw(hnp.arrays(np.float64, (n,), elements=st.sampled_from([0.0, 0.5, 1.0])))
    return Segments(states, actions, prob, weight, np.arange(length) < steps)


@st.composite
def token_pair_logps(
    draw: st.DrawFn, *, max_pairs: int = 3, max_length: int = 4, low: float = -6.0
) -> TokenPairLogps:
    """Return log-probabilities of the steps of compared segments in ``[low, 0]``.

    Masks count the first steps.
    """
    n, length = draw(st.integers(1, max_pairs)), draw(st.integers(1, max_length))
    log_probs = tables((n, length), low=low, high=0.0)
    counts = hnp.arrays(np.int64, (n, 1), elements=st.integers(1, length))
    return TokenPairLogps(
        chosen=draw(log_probs),
        rejected=draw(log_probs),
        ref_chosen=draw(log_probs),
        ref_rejected=draw(log_probs),
        chosen_mask=np.arange(length) < draw(counts),
        rejected_mask=np.arange(length) < draw(counts),
    )

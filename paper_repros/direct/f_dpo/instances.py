"""Bandits, laws and rival policies that the claims are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from prefsim.numerics import log_softmax
from prefsim.testing import alphas, bandits_with_reference, betas, divergences, policies, tables

BANDITS = bandits_with_reference(max_contexts=2, scale=1.5, spread=1.0)
SMALL_BANDITS = bandits_with_reference(n_contexts=1, max_responses=4, scale=1.5, spread=1.0)


def several_laws(k: int) -> st.SearchStrategy[np.ndarray]:
    """Return k log-laws of two to six outcomes, ``(k, n)``."""
    return st.integers(2, 6).flatmap(lambda n: tables((k, n), low=-8.0, high=8.0).map(log_softmax))


# Close to a fair coin, where all the constants are attained in the limit.
NEAR_COINS = st.lists(st.floats(0.05, 0.5), min_size=2, max_size=2).map(
    lambda logits: log_softmax(np.stack([np.zeros(2), logits], axis=-1))
)


@st.composite
def rivals(draw: st.DrawFn) -> dict[str, Any]:
    """Return a bandit, a penalty, and another policy that is brought to the same reward."""
    world, reference = draw(BANDITS)
    return {
        "bandit": (world, reference),
        "beta": draw(betas(0.3, 3.0)),
        "divergence": draw(divergences()),
        "alpha": draw(alphas(0.1, 0.9)),
        "rival": draw(policies(world.n_contexts, world.n_responses, spread=3.0)),
        "same_reward": True,
    }

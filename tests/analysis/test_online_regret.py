"""Regrets: values, and all rules by enumeration."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import dynamic_regret, external_regret, loss_variation, swap_regret
from prefsim.losses.online import regret_path
from prefsim.numerics import softmax
from prefsim.solvers.online_learning.hedge import hedge
from prefsim.solvers.online_learning.linear_attention import cumulative_before
from prefsim.testing.bandits import tables

LOSSES = np.array([[1, 0, 0.5], [0, 1, 0.5], [0.2, 0.8, 0.1], [0.9, 0.1, 0.4]])
PLAYED = hedge(cumulative_before(LOSSES), step=0.5)


def test_values():
    assert external_regret(PLAYED, LOSSES) == pytest.approx(0.4486226367, abs=5e-11)
    assert dynamic_regret(PLAYED, LOSSES) == pytest.approx(1.7486226367, abs=5e-11)
    assert loss_variation(LOSSES) == pytest.approx(2.1)
    path = regret_path(PLAYED, LOSSES)
    for t in range(1, 5):
        assert path[t - 1] == pytest.approx(external_regret(PLAYED[:t], LOSSES[:t]), abs=1e-15)


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 3)).flatmap(
        lambda shape: st.tuples(tables(shape, low=-2, high=2), tables(shape, low=-1, high=1))
    )
)
def test_swap_regret_is_the_largest_of_all_rules(drawn):
    decisions, losses = softmax(drawn[0]), drawn[1]
    d = losses.shape[-1]
    gains = [
        (decisions * (losses - losses[:, list(rule)])).sum()
        for rule in itertools.product(range(d), repeat=d)
    ]
    assert swap_regret(decisions, losses) == pytest.approx(max(gains), abs=1e-12)
    constant = [(decisions * (losses - losses[:, [b] * d])).sum() for b in range(d)]
    assert external_regret(decisions, losses) == pytest.approx(max(constant), abs=1e-12)


def test_batches_and_tensors():
    decisions, losses = np.stack([PLAYED, PLAYED[::-1]]), np.stack([LOSSES, LOSSES[:, ::-1]])
    for regret in (external_regret, dynamic_regret, swap_regret):
        each = [regret(*pair) for pair in zip(decisions, losses, strict=True)]
        np.testing.assert_allclose(regret(decisions, losses), each, atol=1e-15)
        np.testing.assert_allclose(
            regret(torch.tensor(decisions), losses).numpy(), each, atol=1e-15
        )
        # One learner against several sequences.
        assert regret(PLAYED, losses).shape == (2,)


def test_bad_input():
    with pytest.raises(ValueError, match="decisions must sum to 1"):
        external_regret(2 * PLAYED, LOSSES)
    with pytest.raises(ValueError, match="losses must hold no NaN"):
        swap_regret(PLAYED, np.full_like(LOSSES, np.nan))
    with pytest.raises(ValueError, match="decisions must have trailing shape"):
        dynamic_regret(PLAYED[:3], LOSSES)
    with pytest.raises(ValueError, match="at least one round"):
        external_regret(PLAYED[:0], LOSSES[:0])

"""CPL: the golden soft values, what each assumption is for, and the reproduction's verdict (golden losses: ``tests/losses``)."""

import functools

import numpy as np
import pytest

from paper_repros import _cpl_experiments as experiments
from paper_repros import cpl as paper
from prefsim.data import Segments
from prefsim.losses import cpl
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.planning import soft_value_iteration
from prefsim.worlds import TabularMDP

SWAP = TabularMDP(np.eye(2)[[[0, 1], [1, 0]]], [[0.0, 1.0], [0.5, 0.0]], discount=0.9)


def test_golden_soft_values():
    found = soft_value_iteration(SWAP, temperature=0.5)
    np.testing.assert_allclose(found.value, [7.97830252, 7.62777071], atol=5e-9)
    np.testing.assert_allclose(
        found.advantage, [[-0.79783025, -0.11330888], [-0.26277707, -0.44729844]], atol=5e-9
    )
    np.testing.assert_allclose(
        found.policy, [[0.20277455, 0.79722545], [0.59122765, 0.40877235]], atol=5e-9
    )


def fitted(mdp, length, *, lambda_=1.0, discount=None, alpha=0.5):
    expert = soft_value_iteration(mdp, temperature=0.5)
    data = Segments.population(mdp, length, scores=expert.advantage, discount=mdp.discount)
    loss = functools.partial(
        cpl, alpha=alpha, lambda_=lambda_, discount=mdp.discount if discount is None else discount
    )
    return np.abs(
        fit(TabularPolicy.uniform(*mdp.reward.shape), loss, data).policy.probs - expert.policy
    ).max()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_golden_expert_is_recovered(length):
    assert fitted(SWAP, length) < 1e-10


@pytest.mark.parametrize(
    "wrong", [{"lambda_": 0.5}, {"discount": 0.5}, {"discount": 1.0}, {"alpha": 1.0}]
)
def test_each_assumption_is_needed(wrong):
    assert fitted(SWAP, 2, **wrong) > 5e-3


def test_the_wrong_discount_does_not_matter_for_one_step():
    assert fitted(SWAP, 1, discount=0.5) < 1e-10


def test_a_behaviour_cloned_reference_makes_cpl_kl():
    """With a reference the loss recovers the expert of the reward on top of it.

    Π* ∝ π_ref · (what the advantages say).
    """
    reference = TabularPolicy.random(2, 2, seed=0)
    expert = soft_value_iteration(SWAP, temperature=0.5, reference=reference.probs)
    data = Segments.population(SWAP, 2, scores=expert.advantage, discount=0.9)
    loss = functools.partial(cpl, alpha=0.5, lambda_=1.0, discount=0.9)
    found = fit(TabularPolicy.uniform(2, 2), loss, data, reference=reference).policy.probs
    np.testing.assert_allclose(found, expert.policy, atol=1e-10)


def test_the_bias_shrinks_what_the_data_never_show():
    masses = list(experiments.mass_by_lambda(Run(quick=True)).values())
    assert masses == sorted(masses)
    assert masses[0] < 0.1 < 0.4 < masses[-1]


def test_the_reproduction():
    found = paper.reproduce(Run(quick=True))
    assert [c for c in found.criteria if not c.passed] == []
    assert len(found.criteria) == 6
    assert len(found.figure.axes) == 4
    for axes in found.figure.axes:
        assert axes.get_title()
        assert axes.get_ylabel()
    means = {
        (row["x"], row["method"]): row["value"]
        for row in found.table
        if row["part"] == "4 x 4 grids"
    }
    # The specification's means are over other draws of five seeds.
    assert means[3200, "CPL"] == pytest.approx(0.932, abs=0.05)
    assert means[800, "CPL"] == pytest.approx(0.753, abs=0.15)
    errors = {row["x"]: row["value"] for row in found.table if row["part"] == "population"}
    assert errors[1.0] < 1e-9
    assert 0.1 < errors[0.5] < 0.4

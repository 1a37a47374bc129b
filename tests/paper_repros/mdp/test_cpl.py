"""arXiv:2310.13639: soft values of a small process, what each assumption is for, the grids.

Values of the loss itself are in ``tests/losses``.
"""

import functools

import numpy as np
import pytest

from paper_repros.mdp.cpl.learning import HalfCovered, grid_returns, population_error
from prefsim.data import Segments
from prefsim.losses import cpl
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.planning import soft_value_iteration
from prefsim.worlds import TabularMDP

SWAP = TabularMDP(np.eye(2)[[[0, 1], [1, 0]]], [[0.0, 1.0], [0.5, 0.0]], discount=0.9)


def test_soft_values():
    found = soft_value_iteration(SWAP, temperature=0.5)
    np.testing.assert_allclose(found.value, [7.97830252, 7.62777071], atol=5e-9)
    np.testing.assert_allclose(
        found.advantage, [[-0.79783025, -0.11330888], [-0.26277707, -0.44729844]], atol=5e-9
    )
    np.testing.assert_allclose(
        found.policy, [[0.20277455, 0.79722545], [0.59122765, 0.40877235]], atol=5e-9
    )


def error(length, *, alpha=0.5, **options):
    """Return how far from the expert the exact population of pairs leads."""
    expert = soft_value_iteration(SWAP, temperature=0.5)
    data = Segments.population(SWAP, length, scores=expert.advantage, discount=0.9)
    loss = functools.partial(cpl, alpha=alpha, **({"lambda_": 1.0, "discount": 0.9} | options))
    return np.abs(fit(TabularPolicy.uniform(2, 2), loss, data).policy.probs - expert.policy).max()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_expert_is_recovered(length):
    assert error(length) < 1e-10


@pytest.mark.parametrize(
    "wrong", [{"lambda_": 0.5}, {"discount": 0.5}, {"discount": 1.0}, {"alpha": 1.0}]
)
def test_each_assumption_is_needed(wrong):
    assert error(2, **wrong) > 5e-3


def test_the_wrong_discount_does_not_matter_for_one_step():
    assert error(1, discount=0.5) < 1e-10


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
    half = HalfCovered.draw(400, 0)
    masses = [half.mass_outside(bias) for bias in (0.25, 0.75, 1.0)]
    assert masses == sorted(masses)
    assert masses[0] < 0.1 < 0.4 < masses[-1]


def test_the_bias_moves_the_population_optimum():
    assert population_error(1.0, 0) < 1e-9
    assert 0.1 < population_error(0.5, 0) < 0.4


def test_returns_in_grids():
    # Known means are over other draws, of five seeds.
    found = grid_returns(800, range(2))
    assert found["CPL"].mean() == pytest.approx(0.753, abs=0.15)
    assert found["partial return"].mean() < found["CPL"].mean()

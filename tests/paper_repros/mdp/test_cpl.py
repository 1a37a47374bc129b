"""arXiv:2310.13639: soft values of a small process, what each assumption is for, the grids.

Values of the loss itself are in ``tests/losses``.
"""

import functools

import numpy as np
import pytest

from paper_repros.mdp.cpl.continuous import Plane
from paper_repros.mdp.cpl.learning import (
    Exact,
    HalfCovered,
    RankedSegments,
    corner_grid,
    in_two_phases,
)
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
    found = fit(TabularPolicy.uniform(2, 2), loss, data, reference=None).policy.probs
    return np.abs(found - expert.policy).max()


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
    exact = Exact.draw(0)
    assert exact.error(1.0) < 1e-9
    assert 0.1 < exact.error(0.5) < 0.4


def test_cloning_first_stays_with_what_is_shown():
    phases = in_two_phases(HalfCovered.draw(400, 0), step=5.0, iterations=100)
    alone, cloned = phases.outside[-1]
    assert cloned < 0.02 < 0.3 < alone
    assert phases.loss[-1, 1] < phases.loss[0, 1]


def test_lists_are_ordered_as_pairs_of_segments_would_be():
    """Of two scores with Gumbel noise the first is higher with the logistic probability."""
    mdp = corner_grid(0)
    lists = RankedSegments.draw(mdp, 4000, 2, seed=0)
    pairs = lists.pairs()
    expert = soft_value_iteration(mdp, temperature=0.5)
    first, second = pairs.returns(expert.advantage, discount=0.95).T
    expected = 1 / (1 + np.exp(second - first))
    assert len(pairs) == 4000
    # Five standard errors of a mean of 4000 labels.
    assert pairs.prob[expected > 0.5].mean() == pytest.approx(
        expected[expected > 0.5].mean(), abs=0.05
    )


def test_the_value_of_a_plane_solves_its_riccati_equation():
    plane = Plane(angle=0.7, drift=0.9, push=0.8, effort=1.5, discount=0.9)
    value, advantage = plane.curvatures()
    state, push = np.array([0.4, -1.2]), np.array([0.3, 0.5])
    after = plane.move(state, push)
    worth = -(state @ state) - 1.5 * (push @ push) - 0.9 * value * (after @ after)
    off = push - plane.gain() @ state
    assert worth + value * (state @ state) == pytest.approx(-advantage * (off @ off), abs=1e-12)

"""arXiv:2306.03615: what couplings carry, what a spread does, and the algorithm on two tasks.

Values of the formulas themselves are in ``tests/solvers``, ``tests/data`` and ``tests/losses``.
"""

import numpy as np
import pytest

from paper_repros.mdp.pearl.clouds import (
    Cloud,
    by_four_indices,
    path_of,
    permutations_of,
    random_distances,
    transfer,
    transfer_exactly,
)
from paper_repros.mdp.pearl.spreads import (
    ELSEWHERE,
    ROBUST,
    pair_of,
    rank_correlations,
    softplus_by_panels,
    world,
)
from paper_repros.mdp.pearl.two_tasks import (
    PLACES,
    accuracies,
    learned_pay,
    scaled_returns,
    transferred,
    two_tasks,
)
from prefsim.gradients import loss_gradient
from prefsim.losses import gaussian_bradley_terry
from prefsim.raters.logistic_normal import expected_softplus
from prefsim.solvers.coupled_distances import gromov_wasserstein_cost

SOURCE = np.array([[0, 1, 2], [1, 0, 1.5], [2, 1.5, 0]])
TARGET = np.array([[0.0, 3], [3, 0]])
COUPLING = np.array([[1 / 3, 0], [1 / 6, 1 / 6], [0, 1 / 3]])


def test_costs_written_out():
    cost, _ = by_four_indices(SOURCE, TARGET, COUPLING)
    assert cost == pytest.approx(1.7777777778, abs=5e-11)


def test_the_cheapest_coupling_is_never_dearer_and_keeps_labels_longer():
    clouds = [Cloud.draw(seed) for seed in range(12)]
    once, exact = transfer(clouds, restarts=0, seed=0), transfer_exactly(clouds)
    assert (exact.value <= once.value + 1e-12).all()
    np.testing.assert_array_equal(once.accuracy[:, 0], 1.0)
    assert exact.accuracy[:, 1:3].mean() > 0.95 > once.accuracy[:, 1:3].mean()


def test_the_cheapest_permutation_by_the_library():
    cloud = Cloud.draw(3)
    small = Cloud(cloud.source[:5], cloud.targets[:, :5], *[cloud.labels[:5, :5]] * 2)
    source, target = (
        np.linalg.norm(x[:, None] - x, axis=-1) for x in (small.source, small.targets[2])
    )
    costs = gromov_wasserstein_cost(source, target, permutations_of(5))
    p = np.argmax(permutations_of(5)[np.argmin(costs)], axis=0)
    by_distances = np.mean((source[np.ix_(p, p)] - target) ** 2)
    assert costs.min() == pytest.approx(by_distances, abs=1e-12)


def test_euclidean_costs_take_whole_steps():
    rng = np.random.default_rng(2)
    tables = random_distances(rng, 5), random_distances(rng, 5)
    start = np.full((5, 5), 1 / 25)
    best, full = (path_of(*tables, start, 3, full=way) for way in (False, True))
    np.testing.assert_allclose(best, full, atol=1e-12)


def test_panels_are_exact():
    assert softplus_by_panels(-1.0, 2.0) == pytest.approx(float(expected_softplus(-1.0, 2.0)))


@pytest.mark.parametrize(("form", "blind"), [("expected", True), ("marginal", False)])
def test_only_the_likelihood_lets_labels_speak_of_noise(form, blind):
    pair = pair_of(0, 2.0, np.full((1, 4), 0.7))
    slopes = [
        loss_gradient(
            lambda x: gaussian_bradley_terry(x, form=form, mean_weight=0.0, entropy_weight=0.0),
            side,
        )
        for side in (pair, pair.swapped())
    ]
    right, wrong = slopes[0].chosen_log_deviation[0, 0], slopes[1].rejected_log_deviation[0, 0]
    assert right > 0
    # A label that goes against the mean speaks for noise.
    assert wrong == pytest.approx(right, rel=1e-9) if blind else wrong < 0


def test_robust_reward_learning_is_bradley_terry_in_rank():
    worlds = [world(0, 0.2), world(0, kind=ELSEWHERE[1])]
    plain, robust = rank_correlations(worlds), rank_correlations(worlds, ROBUST)
    np.testing.assert_allclose(robust, plain, atol=5e-3)
    assert not np.array_equal(robust, plain)


def test_the_algorithm_on_a_turned_task():
    pairs = [two_tasks(seed, 0.0, 20, same_walks=True) for seed in (0, 1)]
    targets = [target for _, target in pairs]
    labels = transferred(pairs, restarts=0, seed=0)
    np.testing.assert_array_equal(labels, [target.preference() for target in targets])
    np.testing.assert_array_equal(accuracies(targets, labels), 1.0)
    pay = learned_pay(targets, labels, ROBUST, seed=0)
    earned = np.array([scaled_returns(t, p[None])[0] for t, p in zip(targets, pay, strict=True)])
    assert (earned > 0.5).all()


def test_true_rewards_earn_the_optimum_and_equal_ones_nothing():
    _, target = two_tasks(0, 0.3, 20, same_walks=False)
    earned = scaled_returns(target, np.stack([target.pay, np.zeros(PLACES)]))
    np.testing.assert_allclose(earned, [1.0, 0.0], atol=1e-12)


def test_names_of_places_do_not_matter():
    source, _ = two_tasks(4, 0.0, 10, same_walks=True)
    order = np.random.default_rng(0).permutation(PLACES)
    renamed = source.renamed(order)
    np.testing.assert_array_equal(renamed.features(), source.features())
    np.testing.assert_array_equal(renamed.preference(), source.preference())
    np.testing.assert_allclose(
        scaled_returns(renamed, source.pay[np.argsort(order)][None]), 1.0, atol=1e-12
    )

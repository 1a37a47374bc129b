"""Robust DPO: what wrong rates and separable labels do, and the numbers of the study."""

import functools
import math

import numpy as np
import pytest

from paper_repros.robust.rdpo.flipped_labels import NAMES, NEARLY_EVEN, Estimates, LinearTask
from prefsim import losses
from prefsim.analysis.loglinear import estimate_covariance
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import ConvergenceWarning, fit

ONE_PAIR = TabularPolicy.uniform(1, 2)


def fitted_margin(preference: float, flip_rate: float, beta: float = 0.5, **options: int) -> float:
    """Return βm of rDPO on one pair that is preferred with this probability."""
    data = Comparisons([0], [0], [1], prob=preference)
    loss = functools.partial(losses.rdpo, beta=beta, flip_rate=flip_rate)
    policy = fit(ONE_PAIR, loss, data, reference=ONE_PAIR, **options).policy
    return float(beta * (policy.log_probs[0, 0] - policy.log_probs[0, 1]))


@pytest.mark.parametrize(("assumed", "target"), [(0.0, 0.62), (0.1, 0.65), (0.3, 0.8)])
def test_a_wrong_rate_ends_at_the_wrong_target(assumed, target):
    """p = 0.8 flipped at 0.3 gives q = 0.62.

    Corrected for another rate the loss learns (q − ε̂)/(1 − 2ε̂).
    """
    q = flip_labels(np.asarray(0.8), 0.3)
    assert q == pytest.approx(0.62)
    assert (q - assumed) / (1 - 2 * assumed) == pytest.approx(target)
    assert fitted_margin(float(q), assumed) == pytest.approx(
        math.log(target / (1 - target)), abs=1e-10
    )


def test_a_rate_that_is_too_high_has_no_minimiser():
    with pytest.warns(ConvergenceWarning, match="may have no finite minimiser"):
        fitted_margin(0.62, 0.4, max_iterations=50)  # the target would be 1.1


def test_separable_labels_have_no_minimiser_unless_the_weights_are_held():
    data = Comparisons([0], [0], [1])
    loss = functools.partial(losses.rdpo, beta=0.5, flip_rate=0.1)
    with pytest.warns(ConvergenceWarning):
        free = fit(ONE_PAIR, loss, data, reference=ONE_PAIR, max_iterations=50)
    assert free.value < -1
    held = fit(
        ONE_PAIR,
        loss,
        data,
        reference=ONE_PAIR,
        penalty=lambda policy: 1e-2 * (policy.parameters**2).sum(-1),
    )
    assert held.converged
    assert held.value > free.value


def test_the_depth_of_a_large_margin():
    pair = losses.PairLogps(np.zeros(1), np.full(1, -1e4), np.zeros(1), np.zeros(1))
    assert losses.rdpo(pair, beta=0.1, flip_rate=0.1)[0] == pytest.approx(-125.0, rel=1e-12)


def test_errors_of_plain_and_conservative_dpo_on_the_study():
    """On the population with ε = 0.2 only rDPO finds θ*.

    The others end far from it, cDPO farther.
    """
    task = LinearTask.study(0)._replace(flip_rate=0.2)
    errors = {
        name: float(np.abs(task.fit(name, task.population(0.2)).parameters - task.weights).max())
        for name in NAMES
    }
    assert errors["rDPO"] < 1e-8
    assert 1 < errors["DPO"] < errors["cDPO"]


def test_the_estimator_is_wider_for_noisier_labels_by_the_stated_factor():
    """At even preferences the variance grows by exactly 1/(1 − 2ε)²."""
    task = LinearTask.draw(0, 0.0)._replace(weights=np.zeros(3))
    clean, noisy = (
        estimate_covariance(task.population(), task.features, beta=0.5, flip_rate=rate)
        for rate in (0.0, 0.3)
    )
    np.testing.assert_allclose(noisy, clean / 0.4**2, rtol=1e-12)


@pytest.mark.parametrize(
    ("rate", "dpo", "cdpo", "rdpo"),
    [
        (0.1, 0.315, 0.647, 0.0246),
        (0.2, 0.756, 1.511, 0.0334),
        (0.3, 1.358, 2.285, 0.0340),
        (0.4, 2.108, 2.777, 0.0994),
    ],
)
def test_reward_lost_on_the_study(rate, dpo, cdpo, rdpo):
    """Means over 30 other data sets, within the spread that such means show."""
    task = LinearTask.study(0)._replace(flip_rate=rate)
    lost = {name: gaps.mean() for name, gaps in task.reward_lost(NAMES, 2000, 30, 1000).items()}
    assert lost["DPO"] == pytest.approx(dpo, abs=0.05)
    assert lost["cDPO"] == pytest.approx(cdpo, abs=0.03)
    assert lost["rDPO"] == pytest.approx(rdpo, abs=0.12)


def test_the_bound_without_its_factor_for_flips_is_too_small():
    found = Estimates.draw(LinearTask.draw(7, 0.3, scale=NEARLY_EVEN), 64_000, 50, 8)
    assert found.distance.shape == (50,)
    assert (found.distance < found.bound(chance=0.001)).all()
    assert (found.distance > found.bound(chance=0.001, flip_rate=0.0)).any()
    assert found.divergence_share().max() < 1

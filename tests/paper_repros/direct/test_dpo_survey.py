"""arXiv:2503.11701: where losses stop, against closed forms; how the plane is labelled."""

import functools

import numpy as np
import pytest

from paper_repros.direct.dpo_survey.plane import BETA, Setting, Stop, best_rewards
from paper_repros.direct.dpo_survey.reproduction import markers, part_of
from prefsim import losses
from prefsim.losses.taxonomy import PARTS
from prefsim.numerics import softmax

SETTING = Setting.draw(range(2))


def test_every_loss_stands_in_the_taxonomy():
    labels = SETTING.losses()
    assert {"dpo", "dpo(flipped)", "rdpo", "infonca", "f_dpo(alpha)"} <= set(labels)
    assert {part_of(label) for label in labels} == set(PARTS)


def test_the_strength_is_the_same_for_all():
    configured = SETTING.losses()
    assert configured["dpo"][0].keywords == {"beta": BETA}
    assert configured["ipo"][0].keywords == {"tau": BETA}
    assert configured["sft"][0].keywords == {}


def test_ipo_stops_at_the_least_squares_solution():
    # Of every pair alike, the least squares are the mean of the targets over the opponents.
    preference = np.asarray(SETTING.worlds.preference)[:, 0]
    log_ratio = ((2 * preference - 1) / (2 * BETA)).mean(axis=-1)
    loss = functools.partial(losses.ipo, tau=BETA)
    stop = SETTING.stop(loss, [SETTING.comparisons], max_iterations=100)
    np.testing.assert_allclose(stop.probs, softmax(log_ratio), atol=1e-10)
    assert stop.smooth.all()


def test_distances_from_the_reference():
    configured = SETTING.losses()
    expected = {
        "ipo": 0.031,
        "sppo_hard": 0.038,
        "nca_pair": 0.134,
        "bco_pair": 0.314,
        "dpo": 0.528,
    }
    for label, kl in expected.items():
        stop = SETTING.stop(*configured[label], max_iterations=100)
        assert stop.kl[0] == pytest.approx(kl, abs=5e-4)


def test_a_kinked_loss_is_told_apart():
    configured = SETTING.losses()
    assert not SETTING.stop(*configured["hinge"], max_iterations=20).smooth.any()


def test_the_optimum_lies_on_the_curve_of_best_rewards():
    kl, reward = best_rewards(SETTING.rewards[0], np.asarray([BETA]))
    optimum = SETTING.optimum()
    assert kl[0] == pytest.approx(optimum.kl[0], rel=1e-12)
    assert reward[0] == pytest.approx(optimum.reward[0], rel=1e-12)


def test_losses_that_stop_together_share_a_marker():
    def stop(kl, reward, smooth=True):
        at = (np.asarray([part]) for part in (kl, reward))
        return Stop(*at, np.ones((1, 1)), np.asarray([smooth]), value=np.zeros(1))

    stops = {
        "dpo": stop(0.5, 0.9),
        "rdpo": stop(0.5001, 0.9),
        "hinge": stop(0.9, 1.0, smooth=False),
        # Rounding may leave a divergence below zero.
        "ipo": stop(-1e-17, 0.3),
    }
    assert [(marker.labels, marker.kl) for marker in markers(stops)] == [
        (["ipo"], 0.0),
        (["dpo", "rdpo"], 0.5),
        (["hinge*"], 0.9),
    ]

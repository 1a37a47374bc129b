"""Values that arXiv:2503.08942 fixes, where mirror descent is stable, what bugs would be seen."""

import numpy as np
import pytest

from paper_repros.nash.egpo import noise, rounds
from paper_repros.nash.egpo.algorithms import (
    ALGORITHMS,
    SETTINGS,
    games_and_references,
    gaps_of_algorithm,
    largest_stable_step,
)
from paper_repros.nash.egpo.claims import (
    noise_keeps_egpo_at_a_distance_of_its_variance,
    pairs_of_the_policy_slow_rare_responses,
)
from paper_repros.nash.egpo.rounds import against, against_each_other, slope, value
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.gradients import loss_gradient
from prefsim.loops.rounds import SelfPlayRound
from prefsim.losses import PairLogps
from prefsim.numerics import categorical_kl
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import regularised_gap
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.testing.games import Play
from prefsim.worlds import TEXTBOOK_REFERENCE, textbook_game

GAME = to_numpy(textbook_game().preference)
REFERENCE = np.asarray(TEXTBOOK_REFERENCE)
HERE = np.array([0.2, 0.5, 0.3])
UNIFORM = np.full(3, 1 / 3)
PLAY = Play(GAME, REFERENCE, HERE, UNIFORM, tau=0.1, weight=0.05)


def iterate(steps):
    path = nash_path(
        GAME, method="egpo", reference=REFERENCE, tau=0.1, step=0.5, iterations=steps, record=steps
    )
    return path.policy[-1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (0.5121395539, 0.2891208929, 0.1987395532)),
        (10, (0.5739678066, 0.2147377471, 0.2112944463)),
        (100, (0.5307283289, 0.1923133701, 0.2769583010)),
    ],
)
def test_iterates(steps, expected):
    np.testing.assert_allclose(iterate(steps), expected, atol=1e-10)


def test_certificates():
    found, target = iterate(100), PLAY.equilibrium()
    assert categorical_kl(np.log(target), np.log(found)) == pytest.approx(7.125971e-7, rel=1e-6)
    assert regularised_gap(GAME, found, reference=REFERENCE, tau=0.1) == pytest.approx(
        4.687094e-7, rel=1e-6
    )


def test_online_ipo_1():
    data = against(PLAY, HERE, UNIFORM)
    assert value(PLAY, HERE, data) == pytest.approx(4.8836140390, abs=1e-10)
    np.testing.assert_allclose(
        slope(PLAY, HERE, data), [-2.4661654203, -0.1633436128, 2.6295090330], atol=1e-9
    )


def test_online_ipo_2():
    data = against_each_other(PLAY, HERE)
    assert value(PLAY, HERE, data) == pytest.approx(8.5255386760, abs=1e-10)
    np.testing.assert_allclose(
        slope(PLAY, HERE, data), [-1.6080679439, -0.5659371483, 2.1740050922], atol=1e-9
    )


def test_one_draw_of_the_opponent_changes_the_value_but_not_the_gradient():
    exact, single = against(PLAY, HERE, UNIFORM), [against(PLAY, y, UNIFORM) for y in np.eye(3)]
    mean_slope = sum(p * slope(PLAY, HERE, data) for p, data in zip(HERE, single, strict=True))
    mean_value = sum(p * value(PLAY, HERE, data) for p, data in zip(HERE, single, strict=True))
    np.testing.assert_allclose(mean_slope, slope(PLAY, HERE, exact), atol=1e-12)
    assert mean_value > value(PLAY, HERE, exact) + 0.1


def test_the_opponent_is_a_constant():
    pair = PairLogps(
        *np.log([0.6, 0.4, 0.5, 0.5]), chosen_score=np.asarray(0.7), rejected_score=np.asarray(0.2)
    )
    found = loss_gradient(losses.online_ipo, pair)
    assert found.chosen != 0
    assert found.rejected != 0
    assert found.chosen_score == found.rejected_score == 0


@pytest.mark.parametrize(("share", "settles"), [(0.9, True), (1.1, False)])
def test_the_condition_of_local_stability(share, settles):
    """Mirror descent from near the equilibrium, on either side of the largest stable step.

    With a share c of it the fastest rotation is multiplied by √(1 − 2ηβ(1 − c)) in an update: in so
    many updates as are made here by exp(∓5), from 1e-6, which is far from rounding and from where
    play is no longer linear.
    """
    beta = 0.03
    games, references = games_and_references(0)
    limits = largest_stable_step(games, references, beta=beta)
    for game, reference, limit in zip(games, references, limits, strict=True):
        options = {"reference": reference, "tau": beta}
        point = solve_nash(game, method="regularised", **options).policy
        start = point * np.exp(1e-6 * np.random.default_rng(0).standard_normal(point.shape))
        step = share * limit
        with pytest.warns(StepSizeWarning):
            path = nash_path(
                game,
                method="inpo",
                step=step,
                initial=start / start.sum(),
                iterations=int(5 / (step * beta * abs(1 - share))),
                record=3,
                **options,
            )
        distance = np.abs(path.policy - point).max(axis=1)
        # It turns: its largest value over many updates says how far away it is.
        tenth = len(distance) // 10
        first, last = distance[:tenth].max(), distance[-tenth:].max()
        assert 1e-10 < last < 1e-2
        assert (last < first / 10) if settles else (last > first * 10)


# Median and largest gap at the end of the games of seed 0, for β = 0.1.
KNOWN_GAPS = {
    "EGPO": (0, 1e-16),
    "online IPO 1": (0, 1e-16),
    "online IPO 2": (5e-7, 7e-6),
    "Nash-MD": (2e-5, 7e-5),
    "Nash-MD-PG": (2e-2, 0.1),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_known_gaps(name):
    """To the one digit that is known of them."""
    ends = gaps_of_algorithm(name, *games_and_references(0), SETTINGS[0]).gap[-1]
    digits = [float(f"{gap:.0e}") for gap in (np.median(ends), ends.max())]
    assert digits == pytest.approx(KNOWN_GAPS[name], rel=1e-9, abs=1e-15)


# --- rounds that are wrong in one way ---


def no_trial(policy, opponent, data, train):
    return train(policy, data(policy, policy))


def trained_from_the_trial(policy, trial, data, train):
    return train(trial, data(policy, trial))


def pairs_of_the_trial(policy, trial, data, train):
    return train(policy, data(trial, trial))


def as_it_should_be(policy, trial, data, train):
    return train(policy, data(policy, trial))


def rounds_that(second_half):
    """Return the loop of play with another second half of a round."""

    def play(policy, draw, loss, *, rounds, seed, reference, extragradient, train):
        rng = np.random.default_rng(seed)

        def trained(start, data):
            return train(start, loss, data, reference)

        def data(playing, opponent):
            return draw(playing, opponent, rng)

        for _ in range(rounds):
            trial = trained(policy, data(policy, policy))
            policy = second_half(policy, trial, data, trained)
            yield SelfPlayRound(None, policy)

    return play


@pytest.mark.parametrize("second_half", [no_trial, trained_from_the_trial])
def test_a_wrong_round_is_noticed_by_its_noise(second_half, monkeypatch):
    monkeypatch.setattr(noise, "play_rounds", rounds_that(second_half))
    verdict = noise_keeps_egpo_at_a_distance_of_its_variance(
        seed=0, step=1.5, triples=60, trial=True, lean=0.0
    )
    assert verdict.error > 0


@pytest.mark.parametrize(
    ("second_half", "noticed"),
    [
        (as_it_should_be, False),
        (no_trial, True),
        (trained_from_the_trial, True),
        (pairs_of_the_trial, True),
    ],
)
def test_a_wrong_round_is_noticed_exactly(second_half, noticed, monkeypatch):
    monkeypatch.setattr(rounds, "play_rounds", rounds_that(second_half))
    verdict = pairs_of_the_policy_slow_rare_responses(
        PLAY, share=0.5, sampler=lambda policy: policy
    )
    assert (verdict.error > 1e-6) is noticed

"""Values that arXiv:2405.00675 fixes: a step, regressions, iterates, the options of its authors."""

import numpy as np
import pytest
import torch

from paper_repros.nash.sppo import rounds
from paper_repros.nash.sppo.claims import (
    TEXTBOOK,
    half_the_step,
    log_normaliser,
    next_policy,
    regression,
    win_rates,
)
from paper_repros.nash.sppo.rounds import preferences_by_prompt, shortfalls
from prefsim import losses
from prefsim.solvers import nash_path
from prefsim.solvers.games.certificates import mirror_step, payoff
from prefsim.testing.games import Play
from prefsim.worlds import TEXTBOOK_REFERENCE

REFERENCE = np.asarray(TEXTBOOK_REFERENCE)
PLAY = Play(TEXTBOOK.preference, REFERENCE, TEXTBOOK.policy, REFERENCE, tau=0.5, weight=1.0)


def iterates(iterations):
    path = nash_path(
        PLAY.preference, method="sppo", iterations=iterations, initial=REFERENCE, step=0.5
    )
    return path.policy


def test_one_step():
    assert PLAY.step == 2.0
    np.testing.assert_allclose(win_rates(PLAY), [0.58, 0.46, 0.42], rtol=1e-14)
    assert log_normaliser(PLAY) == pytest.approx(1.0090386726, abs=1e-10)
    np.testing.assert_allclose(
        np.exp(next_policy(PLAY)), [0.4651806731, 0.3659240779, 0.1688952489], atol=1e-10
    )


@pytest.mark.parametrize(
    ("normaliser", "expected"), [(half_the_step, 0.3918526075), (log_normaliser, 0.3900016845)]
)
def test_the_two_regressions(normaliser, expected):
    here = np.log([0.2, 0.5, 0.3])
    assert float(regression(PLAY, normaliser, here)) == pytest.approx(expected, abs=1e-10)
    assert float(regression(PLAY, normaliser, torch.tensor(here))) == pytest.approx(
        expected, abs=1e-10
    )


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (10, [0.5962437040, 0.1951253256, 0.2086309704]),
        (100, [0.6420857355, 0.1102986294, 0.2476156351]),
    ],
)
def test_iterates(iterations, expected):
    np.testing.assert_allclose(iterates(iterations)[-1], expected, atol=1e-10)


def test_the_third_power():
    """Against the same minimisation in arithmetic of 40 digits."""
    np.testing.assert_allclose(
        shortfalls(TEXTBOOK, (0.4, 0.2, 0.1)), [4.655e-6, 5.7795e-7, 7.197e-8], rtol=1e-4
    )


def logps(ratios, wins):
    columns = [np.asarray([x]) for x in (*ratios, 0.0, 0.0)]
    return losses.PairLogps(
        *columns, chosen_score=np.asarray([wins[0]]), rejected_score=np.asarray([wins[1]])
    )


def test_one_comparison_in_place_of_win_rates():
    """The authors' single variant.

    The pair's own preference p, and 1 − p for the rejected response.
    """
    p, beta, u = 0.8, 0.5, (0.3, -0.2)
    expected = 0.5 * ((u[0] - (p - 0.5) / beta) ** 2 + (u[1] + (p - 0.5) / beta) ** 2)
    assert losses.sppo(logps(u, (p, 1 - p)), beta=beta)[0] == pytest.approx(expected, rel=1e-14)
    assert losses.sppo_hard(logps(u, (1.0, 0.0)), beta=beta)[0] == pytest.approx(
        2 * losses.sppo(logps(u, (1.0, 0.0)), beta=beta)[0]
    )


def test_the_authors_step_size_keeps_single_precision_targets():
    """β = 1e-3: targets of ±500 nats."""
    pair = logps((500.0, -500.0), (1.0, 0.0))
    assert losses.sppo(pair, beta=1e-3)[0] == pytest.approx(0.0, abs=1e-18)
    single = losses.PairLogps(*(None if x is None else x.astype(np.float32) for x in pair))
    assert losses.sppo(single, beta=1e-3)[0] <= (500 * np.finfo(np.float32).eps) ** 2
    assert losses.sppo(single, beta=1e-3).dtype == np.float32


def test_the_reference_is_the_last_iterate():
    """Regression on the first reference forgets what the earlier steps added."""
    _, one, two = iterates(2)
    wins = payoff(PLAY.preference, one)
    from_last, from_first = (
        np.exp(mirror_step(np.log(start), None, wins, step=0.5)) for start in (one, REFERENCE)
    )
    np.testing.assert_allclose(from_last, two, rtol=1e-13)
    assert np.abs(from_first - two).max() > 1e-3


class Started(Exception):
    """Play has begun."""


def test_methods_have_one_start_and_seeds_have_others(monkeypatch):
    starts = []

    def self_play(policy, *_, **__):
        starts.extend(policy.parameters.numpy())
        raise Started

    monkeypatch.setattr(rounds, "self_play", self_play)
    for seed in (0, 1, 2, 2):
        features, preference = preferences_by_prompt(seed, 3)
        with pytest.raises(Started):
            rounds.trained_on_own_samples(
                losses.sppo, preference, features, step=1.0, iterations=1, seed=seed
            )
    assert len({start.tobytes() for start in starts}) == 9
    np.testing.assert_array_equal(starts[6:9], starts[9:])

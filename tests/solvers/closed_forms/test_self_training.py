"""Exact iterative DPO and best-of-n.

Against the fitted loss and against enumeration, in bad inputs and far out.
"""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.closed_forms.self_training import best_of_n, iterative_dpo_step
from prefsim.testing.games import preference_games, references
from prefsim.worlds import ContextualBandit, PreferenceGame


def inner(game):
    return 0.5 + 0.8 * (game.preference - 0.5)


@given(st.data(), st.floats(0.3, 3.0))
def test_the_step_minimises_the_loss(data, beta):
    preference = inner(data.draw(preference_games(min_n=2, max_n=5)))
    last = data.draw(references(preference.shape[-1], spread=1.0))
    policy = TabularPolicy.from_probs(last[None])
    pairs = Comparisons.self_play(ContextualBandit(preference=preference[None]), policy)
    expected = fit(
        policy, functools.partial(losses.dpo, beta=beta), pairs, reference=policy
    ).policy.probs[0]
    np.testing.assert_allclose(
        np.exp(iterative_dpo_step(preference, np.log(last), beta=beta)), expected, atol=1e-9
    )


def test_bradley_terry_preferences_give_their_scores():
    """The step is π e^{r/β}, however rare a response."""
    reward, logs = np.array([0.0, 1.0, -2.0, 0.5]), np.array([0.0, -300.0, -5.0, -1000.0])
    logs = logs - np.log(np.exp(logs).sum())
    moved = iterative_dpo_step(PreferenceGame.from_reward(reward).preference, logs, beta=0.5) - (
        logs + reward / 0.5
    )
    np.testing.assert_allclose(moved, moved[0], atol=1e-11)


def test_batches():
    games = inner(PreferenceGame.random(4, seed=0, batch_shape=(3, 2)))
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 1)))
    together = iterative_dpo_step(games, logs, beta=1.0)
    assert together.shape == (3, 2, 4)
    np.testing.assert_allclose(
        together[2, 1], iterative_dpo_step(games[2, 1], logs[2, 0], beta=1.0), atol=1e-13
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 99))
def test_best_of_n_by_enumeration(score, n, seed):
    probs = np.random.default_rng(seed).dirichlet(np.ones(len(score)))
    expected = np.zeros(len(score))
    for draws in itertools.product(range(len(score)), repeat=n):
        best = [y for y in draws if score[y] == max(score[d] for d in draws)]
        for y in best:
            expected[y] += np.prod(probs[list(draws)]) / len(best)
    np.testing.assert_allclose(
        np.exp(best_of_n(np.asarray(score, dtype=float), np.log(probs), n)), expected, atol=1e-12
    )


def test_a_rare_best_response_is_found_n_times_as_often():
    logs = np.array([0.0, -200.0])
    np.testing.assert_allclose(
        best_of_n([0.0, 1.0], logs, 5), [0.0, -200.0 + np.log(5)], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: iterative_dpo_step([[0.5, 1.0], [0.0, 0.5]], np.log([0.5, 0.5]), beta=1.0),
            "strictly between 0 and 1, got 1",
        ),
        (
            lambda: iterative_dpo_step([[0.5, 0.6], [0.6, 0.5]], np.log([0.5, 0.5]), beta=1.0),
            "preference",
        ),
        (lambda: iterative_dpo_step([[0.5, 0.6], [0.4, 0.5]], np.zeros(3), beta=1.0), "log_policy"),
        (
            lambda: iterative_dpo_step([[0.5, 0.6], [0.4, 0.5]], [0.0, -np.inf], beta=1.0),
            "log_policy must be finite",
        ),
        (
            lambda: iterative_dpo_step([[0.5, 0.6], [0.4, 0.5]], np.log([0.5, 0.5]), beta=0.0),
            "beta must be",
        ),
        (lambda: best_of_n([0.0, 1.0], np.log([0.5, 0.5]), 0), "n must be"),
        (lambda: best_of_n([0.0, 1.0, 2.0], np.log([0.5, 0.5]), 2), "score"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

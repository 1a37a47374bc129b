"""Regressions of single responses on scores and on win probabilities."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from self_play_losses import policy, world

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.losses import JudgedLogps, PairLogps, PairRewards
from prefsim.numerics import logsumexp
from prefsim.solvers import fit, gpo_update, objective

SCORES = np.array([[0, -1.35, 0.34], [1.35, 0, -0.06], [-0.34, 0.06, 0]])
LAST = np.array([0.4, 0.4, 0.2])
PAYOFFS = np.array([-0.472, 0.528, -0.112])


def pairs_of(payoffs):
    """All pairs of draws of the last policy, with what each response is worth against it."""
    pairs = Comparisons.population(world(np.full((3, 3), 0.5)), policy(LAST))
    scores = {
        "chosen_score": payoffs[pairs.chosen],
        "rejected_score": payoffs[pairs.rejected],
    }
    return Comparisons(
        pairs.prompt, pairs.chosen, pairs.rejected, pairs.prob, pairs.weight, **scores
    )


def singles(pairs, side):
    """One side of pairs as judged responses of one token."""
    logp, ref_logp, win_prob = (
        getattr(pairs, name) for name in (side, f"ref_{side}", f"{side}_score")
    )
    return JudgedLogps(logp[:, None], ref_logp[:, None], np.ones((logp.size, 1), bool), win_prob)


def test_general_preference_optimisation():
    loss, data = functools.partial(losses.gpo, beta=0.5), pairs_of(PAYOFFS)
    at_last = objective(policy(LAST), loss, data, reference=policy(LAST))
    # Σ π_t (s/β)².
    assert float(at_last) == pytest.approx(0.812544, abs=1e-12)
    update = policy(np.exp(gpo_update(np.log(LAST), SCORES, beta=0.5)))
    # What is left of every response is the logarithm of the normaliser.
    at_update = objective(update, loss, data, reference=policy(LAST))
    assert float(at_update) == pytest.approx(0.3821485995**2, abs=1e-9)


def test_less_the_normaliser_the_minimum_is_the_update():
    log_z = logsumexp(np.log(LAST) + PAYOFFS / 0.5)
    data = pairs_of(PAYOFFS - 0.5 * log_z)
    found = fit(policy(LAST), functools.partial(losses.gpo, beta=0.5), data, reference=policy(LAST))
    np.testing.assert_allclose(
        found.policy.probs[0], [0.1061991333, 0.7847113535, 0.1090895132], atol=1e-9
    )
    assert found.value == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 99), st.floats(0.05, 5.0), st.floats(0.5, 20.0))
def test_gpo_is_sppo_on_scores(seed, beta, limit):
    pairs = PairLogps.example(seed=seed)
    scores = np.random.default_rng(seed).uniform(-limit, limit, (2, 6))
    scored = pairs._replace(chosen_score=scores[0], rejected_score=scores[1])
    chances = 0.5 + scores / (2 * limit)
    judged = pairs._replace(chosen_score=chances[0], rejected_score=chances[1])
    np.testing.assert_allclose(
        losses.gpo(scored, beta=beta),
        losses.sppo(judged, beta=beta / (2 * limit)),
        rtol=1e-10,
    )


@given(st.integers(0, 99), st.floats(0.05, 5.0))
def test_sppo_is_the_mean_of_its_responses(seed, beta):
    pairs = PairLogps.example(seed=seed)
    chosen, rejected = (
        losses.sppo_single(singles(pairs, side), beta=beta) for side in ("chosen", "rejected")
    )
    np.testing.assert_allclose(0.5 * (chosen + rejected), losses.sppo(pairs, beta=beta), rtol=1e-13)


@given(st.integers(0, 99), st.floats(0.05, 5.0))
def test_certain_judgements_are_hard_labels(seed, beta):
    pairs = PairLogps.example(seed=seed)
    certain = pairs._replace(chosen_score=np.ones(6), rejected_score=np.zeros(6))
    found = sum(
        losses.sppo_single(singles(certain, side), beta=beta) for side in ("chosen", "rejected")
    )
    np.testing.assert_allclose(found, losses.sppo_hard(pairs, beta=beta), rtol=1e-12)


def test_tokens_add_up_and_padding_never_matters():
    judged = JudgedLogps.example()
    of_tokens = losses.sppo_single(judged, beta=0.5)
    sums = [np.where(judged.mask, x, 0).sum(-1) for x in (judged.logp, judged.ref_logp)]
    expected = (sums[0] - sums[1] - (judged.win_prob - 0.5) / 0.5) ** 2
    np.testing.assert_allclose(of_tokens, expected, rtol=1e-12)
    behind = ~judged.mask
    assert behind.any()
    garbage = judged._replace(
        logp=np.where(behind, -np.inf, judged.logp),
        ref_logp=np.where(behind, -np.inf, judged.ref_logp),
    )
    np.testing.assert_array_equal(losses.sppo_single(garbage, beta=0.5), of_tokens)


def test_scores_are_regressed_on_the_target():
    scores = np.array([-1.35, 0.34, -0.06]) / 0.1
    found = losses.score_regression(PairRewards(scores, np.zeros(3)))
    np.testing.assert_allclose(found, [276.125, 21.78, 56.18], rtol=1e-12)
    # A cycle leaves rewards nothing to say: every advantage is 0 on average.
    rewards = np.array([1.0, -0.5, 0.25])
    around = PairRewards(rewards, np.roll(rewards, -1))
    assert losses.score_regression(around, target=2.0).mean() > 2.0
    level = PairRewards(np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(losses.score_regression(level, target=2.0), 2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.gpo(PairLogps.example(), beta=0.0), "beta must be a finite number > 0"),
        (
            lambda: losses.gpo(PairLogps.example()._replace(chosen_score=None)),
            "chosen_score is needed",
        ),
        (
            lambda: losses.gpo(PairLogps.example()._replace(rejected_score=None)),
            "rejected_score is needed",
        ),
        (
            lambda: losses.sppo_single(JudgedLogps.example(), beta=-1.0),
            "beta must be a finite number > 0",
        ),
        (
            lambda: losses.sppo_single(JudgedLogps.example()._replace(win_prob=np.full(6, 1.2))),
            r"win_prob must be a probability in \[0, 1\]",
        ),
        (
            lambda: losses.sppo_single(JudgedLogps.example()._replace(win_prob=np.zeros(5))),
            "arrays must have one shape",
        ),
        (
            lambda: losses.score_regression(PairRewards.example(), target=0.0),
            "target must be a finite number > 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

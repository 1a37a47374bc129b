"""D²O online: samples drawn anew from the policy under training."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import Negatives
from prefsim.loops import descent, play_rounds, refreshed_negatives
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit

START = TabularPolicy.random(2, 4, seed=3)
PROMPT, REJECTED = [0, 1, 1], [2, 0, 3]


def test_rounds_of_the_exact_form_follow_their_recursion():
    """q falls to (βq − α)/(β − α) against the policy it was, and the others stay in proportion."""
    start = TabularPolicy.from_probs([[0.5, 0.1, 0.4]])
    beta, alpha = 2.0, 0.3
    draw = refreshed_negatives([0], [0], n_samples=None)
    loss = functools.partial(losses.d2o, beta=beta, alpha=alpha)
    q = 0.5
    for played in play_rounds(start, draw, loss, rounds=3, seed=0):
        q = (beta * q - alpha) / (beta - alpha)
        expected = [q, 0.2 * (1 - q), 0.8 * (1 - q)]
        np.testing.assert_allclose(played.policy.probs[0], expected, atol=1e-8)
    # Against the start for ever, the first of them is where it ends.
    *_, last = play_rounds(start, draw, loss, rounds=1, seed=0, reference=start)
    assert last.policy.probs[0, 0] == pytest.approx((beta * 0.5 - alpha) / (beta - alpha), abs=1e-8)


def test_every_round_draws_from_the_policy_of_then():
    draw = refreshed_negatives(PROMPT, REJECTED, n_samples=3, weight=[0.5, 0.25, 0.25])
    loss = functools.partial(losses.d2o, beta=0.5, alpha=0.2)
    train = descent(step=5.0, iterations=4)
    rounds = list(play_rounds(START, draw, loss, rounds=3, seed=7, train=train))
    policy, rng = START, np.random.default_rng(7)
    for played in rounds:
        data = Negatives.sample(PROMPT, REJECTED, policy, 3, seed=rng, weight=[0.5, 0.25, 0.25])
        np.testing.assert_array_equal(played.pairs.samples, data.samples)
        np.testing.assert_array_equal(played.pairs.weight, [0.5, 0.25, 0.25])
        policy = train(policy, loss, data, policy)
        np.testing.assert_array_equal(played.policy.probs, policy.probs)
    before, after = (p.log_prob(np.asarray(PROMPT), np.asarray(REJECTED)) for p in (START, policy))
    assert (after < before).all()


def test_one_round_is_a_fit():
    draw = refreshed_negatives([0], [1], n_samples=None)
    loss = functools.partial(losses.d2o, beta=2.0, alpha=0.1)
    start = TabularPolicy(START.logits[:1])
    (played,) = play_rounds(start, draw, loss, rounds=1, seed=0)
    data = Negatives.population([0], [1], start)
    expected = fit(start, loss, data, reference=start).policy
    np.testing.assert_array_equal(played.policy.probs, expected.probs)


@pytest.mark.parametrize(
    ("prompt", "rejected", "n_samples", "message"),
    [
        ([0, 1], [0], 2, "one shape, got prompt"),
        ([0], [-1], 2, "rejected must be >= 0"),
        ([0], [0], 0, "n_samples must be an integer >= 1, got 0"),
        ([0], [0], 1.5, "n_samples must be an integer >= 1, got 1.5"),
    ],
)
def test_bad_input(prompt, rejected, n_samples, message):
    with pytest.raises(ValueError, match=message):
        refreshed_negatives(prompt, rejected, n_samples=n_samples)

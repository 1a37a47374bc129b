"""Rollouts: populations are expectations, samples are their limit, tokens are those of a tree."""

import functools
import math

import numpy as np
import pytest

from prefsim import losses
from prefsim.containers import ListLogps, TokenListLogps
from prefsim.data import Rollouts
from prefsim.gradients import gradient
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import objective
from prefsim.worlds import ContextualBandit, TokenTree

TREE = TokenTree.random(3, 2, seed=0, end_token=2, n_contexts=2)
POLICY = TokenTreePolicy.random(TREE, seed=1)
REFERENCE = TokenTreePolicy.random(TREE, seed=2)


def test_a_population_has_every_group_with_its_probability():
    data = Rollouts.population(TREE, POLICY, 2)
    assert len(data) == 2 * 7**2
    np.testing.assert_allclose(data.weight.sum(), 1, rtol=1e-12)
    shares = np.zeros((2, 7, 7))
    shares[data.prompt, data.completions[:, 0], data.completions[:, 1]] = data.weight
    expected = 0.5 * POLICY.probs[:, :, None] * POLICY.probs[:, None, :]
    np.testing.assert_allclose(shares, expected, rtol=1e-12)
    np.testing.assert_array_equal(data.scores, TREE.reward[data.prompt[:, None], data.completions])


def test_what_is_never_drawn_is_left_out():
    world = ContextualBandit(reward=[[0.0, 1.0, 2.0]])
    data = Rollouts.population(world, TabularPolicy.from_probs([[0.5, 0.0, 0.5]]), 2)
    assert data.completions.tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


def test_samples_approach_the_population():
    loss = functools.partial(losses.grpo, beta=0.3, kl="reward")
    here = TokenTreePolicy.random(TREE, seed=3)
    exact = objective(here, loss, Rollouts.population(TREE, POLICY, 3), reference=REFERENCE)
    drawn = Rollouts.sample(TREE, POLICY, 20_000, 3, seed=0)
    seen, _ = drawn.examples(here, drawn.log_probs(REFERENCE), TokenListLogps)
    values = loss(seen)
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(values.size)
    assert values.std() / np.sqrt(values.size) < 0.01 < abs(exact)


def test_tokens_are_those_of_the_tree_and_sum_to_responses():
    data = Rollouts.sample(TREE, POLICY, 5, 4, seed=1)
    tokens, _ = data.examples(POLICY, data.log_probs(REFERENCE), TokenListLogps)
    lists, _ = data.examples(POLICY, data.log_probs(REFERENCE), ListLogps)
    asked = np.broadcast_to(data.prompt[:, None], data.completions.shape)
    np.testing.assert_array_equal(tokens.mask, TREE.mask[data.completions])
    np.testing.assert_array_equal(tokens.logp, tokens.old_logp)
    for policy, field, old in ((POLICY, "logps", "old_logps"), (REFERENCE, "ref_logps", None)):
        expected = policy.log_prob(asked, data.completions)
        np.testing.assert_allclose(getattr(lists, field), expected, rtol=1e-12)
        if old is not None:
            np.testing.assert_allclose(getattr(lists, old), expected, rtol=1e-12)


def test_a_response_of_a_table_is_one_token():
    world = ContextualBandit(reward=[[0.0, 1.0], [2.0, 3.0]])
    policy = TabularPolicy.from_probs([[0.5, 0.5], [0.2, 0.8]])
    data = Rollouts.sample(world, policy, 6, 3, seed=0)
    tokens, _ = data.examples(policy, None, TokenListLogps)
    assert tokens.logp.shape == tokens.mask.shape == (6, 3, 1)
    assert tokens.mask.all()
    again = Rollouts.sample(world, policy, 6, 3, seed=0)
    np.testing.assert_array_equal(data.completions, again.completions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rollouts([0], [[0, 1]], [[0.0]]), "scores must have trailing shape"),
        (lambda: Rollouts([0], [0, 1], [[0.0]]), r"completions \(n, K\)"),
        (lambda: Rollouts([0], [0], [0.0]), r"completions \(n, K\), got \(1,\) and \(1,\)"),
        (lambda: Rollouts([[0]], [[0]], [[0.0]]), r"prompt must be \(n,\) .*, got \(1, 1\)"),
        (lambda: Rollouts([0, 1], [[0]], [[0.0]]), r"got \(2,\) and \(1, 1\)"),
        (
            lambda: Rollouts([0], [[0]], [[0.0]], advantage=[[0.0]]),
            r"advantage must be \(n, K, T\)",
        ),
        (lambda: Rollouts.population(TREE, POLICY, 8), "the most that is enumerated is 2000000"),
        (
            lambda: Rollouts.population(TokenTree(3, 2, end_token=2), POLICY, 1),
            r"need one world with a reward \(X, Y\)",
        ),
        (
            lambda: Rollouts.population(
                ContextualBandit.random(2, 3, seed=0, batch_shape=(2,)), POLICY, 1
            ),
            r"need one world with a reward \(X, Y\)",
        ),
        (
            lambda: Rollouts.sample(TREE, TabularPolicy.uniform(2, 3), 4, 2, seed=0),
            "must be one over the world's contexts and responses",
        ),
        (
            lambda: Rollouts([2], [[0]], [[0.0]]).log_probs(POLICY),
            "prompt must be >= 0 and < 2, got 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_draws_at_another_temperature():
    sharper = TokenTreePolicy(TREE, POLICY.logits / 0.7)
    as_trained = Rollouts.population(TREE, POLICY, 1, temperature=0.7)
    as_drawn = Rollouts.population(TREE, POLICY, 1, temperature=0.7, as_drawn=True)
    expected = Rollouts.population(TREE, sharper, 1)
    np.testing.assert_allclose(as_trained.weight, expected.weight, rtol=1e-12)
    np.testing.assert_allclose(as_drawn.old_logp, expected.old_logp, rtol=1e-12)
    plain = Rollouts.population(TREE, POLICY, 1)
    np.testing.assert_array_equal(as_trained.old_logp, plain.old_logp)
    assert np.abs(as_trained.weight - plain.weight).max() > 0.01
    drawn, asked = (
        Rollouts.sample(TREE, policy, 6, 2, seed=0, temperature=tau, as_drawn=True)
        for policy, tau in ((sharper, 1.0), (POLICY, 0.7))
    )
    np.testing.assert_array_equal(drawn.completions, asked.completions)
    np.testing.assert_allclose(drawn.old_logp, asked.old_logp, rtol=1e-12)


def test_the_ratio_of_what_was_drawn_makes_up_for_the_temperature():
    """On responses of one token, without clipping: the gradient of the expected reward again."""
    world = ContextualBandit(reward=[[0.0, 1.0, 2.0]])
    policy = TabularPolicy.from_probs([[0.5, 0.3, 0.2]])
    loss = functools.partial(
        losses.ppo, beta=0.0, reduction="sum", clip_low=math.inf, clip_high=math.inf
    )

    def slope(**how):
        data = Rollouts.population(world, policy, 1, **how)
        return gradient(
            lambda logits: objective(TabularPolicy(logits), loss, data, reference=None),
            policy.logits,
        )

    np.testing.assert_allclose(slope(temperature=0.5, as_drawn=True), slope(), atol=1e-14)
    assert np.abs(slope(temperature=0.5) - slope()).max() > 0.05


def test_bad_temperatures():
    with pytest.raises(ValueError, match="temperature must be"):
        Rollouts.population(TREE, POLICY, 1, temperature=0.0)
    with pytest.raises(ValueError, match="as_drawn must be"):
        Rollouts.sample(TREE, POLICY, 1, 1, seed=0, as_drawn=1)

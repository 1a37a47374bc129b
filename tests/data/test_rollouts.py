"""Rollouts: populations are expectations, samples are their limit, tokens are those of a tree."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.containers import ListLogps, TokenListLogps
from prefsim.data import Rollouts
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

"""Soft backward induction on token trees against the tilt over sequences and autograd."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.numerics import logsumexp, softmax
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import solve_nash
from prefsim.solvers.planning.tree_backup import (
    expected_backup,
    prefix_values,
    score_gradient_in_tree,
    soft_backup,
    token_gradient_in_tree,
)
from prefsim.testing.tokens import token_tree_policies, token_trees
from prefsim.worlds import PreferenceGame, TokenTree

PAIRS = token_trees().flatmap(lambda tree: st.tuples(st.just(tree), token_tree_policies(tree)))


@given(PAIRS, st.floats(-50.0, 50.0))
def test_the_backup_is_the_tilt_over_sequences(pair, scale):
    tree, policy = pair
    values = scale * np.asarray(tree.reward)
    found = soft_backup(policy, values)
    tilted = np.asarray(policy.log_probs) + values
    np.testing.assert_allclose(found.policy.probs, softmax(tilted), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.value[..., 0], logsumexp(tilted), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("end_token", [None, 0, 2])
def test_batches_and_libraries(end_token):
    tree = TokenTree.random(3, 3, seed=0, n_contexts=2, end_token=end_token)
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, 2, tree.n_nodes, 3))
    values = rng.standard_normal((4, 2, tree.n_sequences))
    together = soft_backup(TokenTreePolicy(tree, logits), values)
    assert together.value.shape == (4, 2, tree.n_nodes)
    alone = soft_backup(TokenTreePolicy(tree, logits[1]), values[1])
    np.testing.assert_array_equal(alone.policy.logits, together.policy.logits[1])
    shared = soft_backup(TokenTreePolicy(tree, logits[0]), values)
    np.testing.assert_allclose(shared.policy.logits[0], together.policy.logits[0], rtol=1e-14)
    for library in (torch.as_tensor, array_api_strict.asarray):
        other = soft_backup(TokenTreePolicy(tree, library(logits)), library(values))
        np.testing.assert_allclose(
            np.asarray(other.policy.logits), together.policy.logits, rtol=1e-13
        )
        gradient = score_gradient_in_tree(TokenTreePolicy(tree, library(logits)), library(values))
        np.testing.assert_allclose(
            np.asarray(gradient),
            score_gradient_in_tree(TokenTreePolicy(tree, logits), values),
            atol=1e-13,
        )


def test_impossible_sequences_stay_impossible():
    tree = TokenTree(2, 2)
    policy = TokenTreePolicy.from_sequence_probs(tree, [[0.5, 0.5, 0.0, 0.0]])
    found = soft_backup(policy, np.array([[0.0, 1.0, 5.0, 5.0]]))
    np.testing.assert_allclose(
        found.policy.probs, [[1 / (1 + np.e), np.e / (1 + np.e), 0.0, 0.0]], atol=1e-15
    )


def test_hedge_over_trajectories_by_backups():
    tree = TokenTree(2, 3)
    game = np.asarray(PreferenceGame.random(8, seed=1).preference)
    policy = TokenTreePolicy.uniform(tree)
    for _ in range(200):
        policy = soft_backup(policy, 0.3 * (game @ policy.probs[0])[None]).policy
    flat = solve_nash(game, method="spo", step=0.3, max_iterations=200, tolerance=0.0)
    np.testing.assert_allclose(policy.probs[0], flat.policy, atol=1e-13)


@given(PAIRS, st.integers(0, 99))
def test_the_gradient_is_that_of_autograd(pair, seed):
    tree, policy = pair
    weights = np.random.default_rng(seed).standard_normal((tree.n_contexts, tree.n_sequences))
    logits = torch.tensor(policy.logits, requires_grad=True)
    (TokenTreePolicy(tree, logits).log_probs * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(
        score_gradient_in_tree(policy, weights), logits.grad.numpy(), atol=1e-12
    )


def recursion(tree, policy, tokens, leaves, discount, mean):
    """Return the value of the empty prefix, by recursion over sequences."""
    table = np.asarray(policy.logits)
    table = table - logsumexp(table)[..., None]

    def value(below, depth):
        node = tree.nodes[below[0], depth]
        parts = []
        for token in range(tree.vocabulary_size):
            rows = below[tree.sequences[below, depth] == token]
            ended = depth + 1 == tree.lengths[rows[0]]
            after = leaves[rows[0]] if ended else discount * value(rows, depth + 1)
            parts.append(tokens[node, token] + after)
        log_probs, parts = table[0, node], np.asarray(parts)
        if mean:
            return np.sum(np.exp(log_probs) * parts)
        return np.log(np.sum(np.exp(log_probs + parts)))

    return value(np.arange(tree.n_sequences), 0)


@pytest.mark.parametrize("end_token", [None, 0])
@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_tokens_and_sequences_are_paid(end_token, discount):
    tree = TokenTree(3, 3, end_token=end_token)
    policy = TokenTreePolicy.random(tree, seed=0)
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((tree.n_nodes, 3))
    leaves = rng.standard_normal(tree.n_sequences)
    options = {"token_values": tokens[None], "discount": discount}
    soft = soft_backup(policy, leaves[None], **options)
    mean = expected_backup(policy, leaves[None], **options)
    for found, by_mean in ((soft.value, False), (mean.value, True)):
        expected = recursion(tree, policy, tokens, leaves, discount, by_mean)
        np.testing.assert_allclose(found[0, 0], expected, atol=1e-13)
    if discount == 1.0:
        total = leaves + tree.along(tokens).sum(axis=-1)
        whole = soft_backup(policy, total[None])
        np.testing.assert_allclose(whole.policy.probs, soft.policy.probs, atol=1e-14)
        np.testing.assert_allclose(whole.value[0, 0], soft.value[0, 0], atol=1e-13)
        paid = expected_backup(policy, total[None]).value[0, 0]
        np.testing.assert_allclose(np.exp(policy.log_probs)[0] @ total, paid, atol=1e-14)
    probs = softmax(policy.logits)
    np.testing.assert_allclose((probs * mean.action_value).sum(axis=-1), mean.value, atol=1e-14)


def test_tokens_alone_are_a_batch_of_their_own():
    tree = TokenTree(2, 2, end_token=1)
    policy = TokenTreePolicy.random(tree, seed=0)
    tokens = np.random.default_rng(0).standard_normal((5, 1, tree.n_nodes, 2))
    leaves = np.random.default_rng(1).standard_normal((1, tree.n_sequences))
    found = expected_backup(policy, leaves, token_values=tokens)
    assert found.value.shape == (5, 1, tree.n_nodes)
    assert found.action_value.shape == tokens.shape
    one = expected_backup(policy, leaves, token_values=tokens[3])
    np.testing.assert_allclose(found.value[3], one.value, atol=1e-15)
    for library in (torch.as_tensor, array_api_strict.asarray):
        other = TokenTreePolicy(tree, library(policy.logits))
        value = expected_backup(other, library(leaves), token_values=library(tokens)).value
        np.testing.assert_allclose(np.asarray(value), found.value, atol=1e-14)


@given(PAIRS, st.integers(0, 99))
def test_the_gradient_of_tokens_is_that_of_autograd(pair, seed):
    tree, policy = pair
    shape = (tree.n_contexts, tree.n_sequences, tree.max_length)
    weights = np.random.default_rng(seed).standard_normal(shape)
    logits = torch.tensor(policy.logits, requires_grad=True)
    (TokenTreePolicy(tree, logits).token_log_prob_table * torch.tensor(weights)).sum().backward()
    spoilt = np.where(tree.mask, weights, np.nan)
    np.testing.assert_allclose(
        token_gradient_in_tree(policy, spoilt), logits.grad.numpy(), atol=1e-12
    )


@pytest.mark.parametrize("backup", [soft_backup, expected_backup])
def test_what_is_paid_must_be_said_and_fit(backup):
    policy = TokenTreePolicy.uniform(TokenTree(2, 3))
    with pytest.raises(ValueError, match="leaf_values or token_values must be given"):
        backup(policy)
    with pytest.raises(ValueError, match=r"token_values must have trailing shape \(1, 7, 2\)"):
        backup(policy, token_values=np.zeros((1, 6, 2)))
    with pytest.raises(ValueError, match="discount must lie"):
        backup(policy, token_values=np.zeros((1, 7, 2)), discount=1.5)
    with pytest.raises(ValueError, match="token_values is a torch tensor that requires a gradient"):
        backup(policy, token_values=torch.zeros((1, 7, 2), requires_grad=True))


@pytest.mark.parametrize("function", [soft_backup, expected_backup, score_gradient_in_tree])
def test_bad_input(function):
    with pytest.raises(ValueError, match=r"must have trailing shape \(1, 8\), got \(1, 7\)"):
        function(TokenTreePolicy.uniform(TokenTree(2, 3)), np.zeros((1, 7)))


@given(PAIRS, st.integers(0, 1000))
def test_prefixes_are_worth_what_is_paid_behind_them(pair, seed):
    tree, policy = pair
    rewards = np.random.default_rng(seed).normal(
        size=(tree.n_contexts, tree.n_sequences, tree.max_length)
    )
    found = prefix_values(policy, np.where(tree.mask, rewards, np.nan))
    probs = np.asarray(policy.probs)
    whole = np.where(tree.mask, rewards, 0.0)
    np.testing.assert_allclose(found[:, 0], (probs * whole.sum(axis=-1)).sum(axis=-1), atol=1e-12)
    for node in range(tree.n_nodes):
        row, at = np.nonzero(tree.nodes == node)
        mass = probs[:, row] / probs[:, row].sum(axis=-1, keepdims=True)
        later = np.array([whole[:, n, t:].sum(axis=-1) for n, t in zip(row, at, strict=True)]).T
        np.testing.assert_allclose(found[:, node], (mass * later).sum(axis=-1), atol=1e-12)


@given(PAIRS, st.integers(0, 1000))
def test_paid_by_prefix_they_are_the_expected_backup(pair, seed):
    """Also of prefixes that the policy never reaches, and of several tables at once."""
    tree, policy = pair
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(3, tree.n_contexts, tree.n_nodes, tree.vocabulary_size))
    leaves = rng.normal(size=(tree.n_contexts, tree.n_sequences))
    rewards = tree.along(tokens)
    rewards[..., np.arange(tree.n_sequences), tree.lengths - 1] += leaves
    one = np.zeros((tree.n_contexts, tree.n_sequences))
    one[:, seed % tree.n_sequences] = 1.0
    for drawn_by in (policy, TokenTreePolicy.from_sequence_probs(tree, one)):
        expected = expected_backup(drawn_by, leaves, token_values=tokens).value
        np.testing.assert_allclose(prefix_values(drawn_by, rewards), expected, atol=1e-12)


def test_prefixes_of_no_chance_and_bad_rewards():
    tree = TokenTree(2, 2)
    policy = TokenTreePolicy.from_sequence_probs(tree, [[0.5, 0.5, 0.0, 0.0]])
    found = prefix_values(policy, np.ones((1, 4, 2)))
    np.testing.assert_allclose(found, [[2.0, 1.0, 1.0]])
    several = TokenTreePolicy(tree, np.stack([policy.logits, np.zeros((1, 3, 2))]))
    paid = np.arange(8.0).reshape(1, 4, 2)
    np.testing.assert_allclose(prefix_values(several, paid), [[[3, 2, 6]], [[7, 2, 6]]])
    with pytest.raises(ValueError, match="rewards must have trailing shape"):
        prefix_values(policy, np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match="rewards must"):
        prefix_values(policy, np.full((1, 4, 2), np.inf))
    with pytest.raises(TypeError, match="policy must be a TokenTreePolicy"):
        prefix_values(np.ones(3), np.ones((1, 4, 2)))

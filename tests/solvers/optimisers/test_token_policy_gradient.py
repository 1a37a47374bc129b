"""The expected gradient of trainers against their loss, autograd and draws."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Rollouts
from prefsim.policies import TokenTreePolicy
from prefsim.solvers.optimisers.token_policy_gradient import token_policy_gradient
from prefsim.solvers.planning import expected_backup, token_gradient_in_tree
from prefsim.testing.tokens import token_tree_policies, token_trees
from prefsim.worlds import TokenTree

PAIRS = token_trees().flatmap(lambda tree: st.tuples(st.just(tree), token_tree_policies(tree)))


def drawn(tree, seed, *batch):
    rng = np.random.default_rng(seed)
    rewards = rng.standard_normal((*batch, tree.n_contexts, tree.n_sequences, tree.max_length))
    return rewards, rng.standard_normal((*batch, tree.n_contexts, tree.n_nodes))


@given(PAIRS, st.integers(0, 99), st.floats(0.0, 1.0))
def test_it_is_minus_the_expected_gradient_of_ppo(pair, seed, trace):
    tree, policy = pair
    rewards, critic = drawn(tree, seed)
    found = token_policy_gradient(policy, rewards, critic, discount=0.9, trace=trace)
    data = Rollouts.population(tree, policy, 1)
    advantage = found.advantages[data.prompt, data.completions[:, 0]][:, None]
    logits = torch.tensor(policy.logits, requires_grad=True)
    logp, mask = TokenTreePolicy(tree, logits).token_log_probs(
        data.prompt[:, None], data.completions
    )
    batch = losses.TokenListLogps(
        logp=logp,
        ref_logp=torch.zeros_like(logp),
        mask=mask,
        scores=torch.zeros(logp.shape[:-1]),
        advantage=torch.tensor(advantage),
    )
    loss = losses.ppo(batch, beta=0.0, reduction="sum")
    # Rows are weighted by the probability of their prompt too.
    (loss * torch.tensor(data.weight) * tree.n_contexts).sum().backward()
    np.testing.assert_allclose(found.gradient, -logits.grad.numpy(), atol=1e-12)


@given(PAIRS, st.integers(0, 99))
def test_with_full_traces_it_is_the_gradient_of_what_is_paid(pair, seed):
    tree, policy = pair
    tokens = np.random.default_rng(seed).standard_normal(policy.logits.shape)
    _, critic = drawn(tree, seed)
    logits = torch.tensor(policy.logits, requires_grad=True)
    paid = expected_backup(TokenTreePolicy(tree, logits), token_values=torch.tensor(tokens))
    paid.value[..., 0].sum().backward()
    found = token_policy_gradient(policy, tree.along(tokens), critic, trace=1.0)
    np.testing.assert_allclose(found.gradient, logits.grad.numpy(), atol=1e-12)


@given(PAIRS, st.integers(0, 99))
def test_an_exact_critic_and_no_trace_give_the_advantages(pair, seed):
    tree, policy = pair
    tokens = np.random.default_rng(seed).standard_normal(policy.logits.shape)
    exact = expected_backup(policy, token_values=tokens, discount=0.8)
    critic = exact.value
    found = token_policy_gradient(policy, tree.along(tokens), critic, discount=0.8, trace=0.0)
    advantage = tree.along(exact.action_value - critic[..., None])
    np.testing.assert_allclose(found.advantages, advantage, atol=1e-12)
    first = np.exp(policy.log_probs) * found.advantages[..., 0]
    np.testing.assert_allclose(first.sum(axis=-1), 0.0, atol=1e-12)


def test_mean_and_variance_are_those_of_single_sequences():
    tree = TokenTree.random(2, 3, seed=0, end_token=1)
    policy = TokenTreePolicy.random(tree, seed=1)
    rewards, critic = drawn(tree, 2)
    found = token_policy_gradient(policy, rewards, critic, trace=0.7)
    one_each = np.eye(tree.n_sequences)[:, None, :, None] * found.advantages
    each = token_gradient_in_tree(policy, one_each).reshape(tree.n_sequences, -1)
    probs = np.exp(policy.log_probs)[0]
    mean = probs @ each
    np.testing.assert_allclose(found.gradient.ravel(), mean, atol=1e-14)
    spread = probs @ ((each - mean) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found.variance, [spread], atol=1e-12)


def test_batches_and_libraries():
    tree = TokenTree.random(3, 2, seed=0, n_contexts=2, end_token=2)
    logits = np.random.default_rng(1).standard_normal((4, 2, tree.n_nodes, 3))
    rewards, critic = drawn(tree, 3, 4)
    together = token_policy_gradient(TokenTreePolicy(tree, logits), rewards, critic)
    assert together.variance.shape == (4, 2)
    alone = token_policy_gradient(TokenTreePolicy(tree, logits[1]), rewards[1], critic[1])
    shared = token_policy_gradient(TokenTreePolicy(tree, logits[1]), rewards, critic)
    for one, all_, wide in zip(alone, together, shared, strict=True):
        np.testing.assert_allclose(one, all_[1], atol=1e-14)
        np.testing.assert_allclose(one, wide[1], atol=1e-14)
    for library in (torch.as_tensor, array_api_strict.asarray):
        other = token_policy_gradient(
            TokenTreePolicy(tree, library(logits)), library(rewards), library(critic)
        )
        for one, all_ in zip(other, together, strict=True):
            np.testing.assert_allclose(np.asarray(one), all_, atol=1e-13)


def test_what_lies_behind_the_end_does_not_count():
    tree = TokenTree(2, 2, end_token=1)
    policy = TokenTreePolicy.random(tree, seed=0)
    rewards, _ = drawn(tree, 0)
    spoilt = np.where(tree.mask, rewards, np.nan)
    for found, expected in zip(
        token_policy_gradient(policy, spoilt), token_policy_gradient(policy, rewards), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.zeros((1, 3, 3))}, r"rewards must have trailing shape \(1, 4, 2\)"),
        ({"critic": np.zeros((1, 4))}, r"critic must have trailing shape \(1, 3\)"),
        ({"trace": 1.5}, "trace must lie"),
        ({"discount": -0.5}, "discount must lie"),
        ({"rewards": torch.zeros((1, 4, 2), requires_grad=True)}, "requires a gradient"),
    ],
)
def test_bad_input(change, message):
    given_ = {
        "policy": TokenTreePolicy.uniform(TokenTree(2, 2)),
        "rewards": np.zeros((1, 4, 2)),
        "critic": np.zeros((1, 3)),
    }
    with pytest.raises(ValueError, match=message):
        token_policy_gradient(**given_ | change)

"""PPO, GRPO and RLOO: published numbers, their parts, and exact gradients on trees of tokens."""

import functools
import math

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.containers import map_fields
from prefsim.data import Rollouts
from prefsim.gradients import gradient, loss_gradient
from prefsim.losses import ListLogps, TokenListLogps
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import objective, optimal_policy
from prefsim.worlds import ContextualBandit, TokenTree

# --- numbers of the public trainer of Ivison et al. 2024: two responses, of three tokens and two

MASK = np.array([[True, True, True], [True, True, False]])
OLD = np.array([[-1.0, -0.5, -2.0], [-0.3, -0.9, np.nan]])
REF = np.array([[-1.2, -0.4, -1.5], [-0.6, -0.7, np.nan]])
VALUES = np.array([[0.2, 0.4, 0.6], [0.1, -0.2, np.nan]])
SCORES = np.array([1.3, -10.0])
NEW = OLD + np.array([[0.3, -0.4, 0.05], [-0.5, 0.2, 0.0]])
NEW_VALUES = VALUES + np.array([[0.5, -0.1, 0.3], [0.1, -0.6, 0.0]])


def estimates():
    rewards = losses.kl_shaped_rewards(SCORES, OLD, REF, MASK, beta=0.05)
    return rewards, *losses.gae(rewards, VALUES, MASK)


def test_rewards_and_advantages_of_the_trainer():
    rewards, advantages, returns = estimates()
    np.testing.assert_allclose(rewards, [[-0.01, 0.005, 1.325], [-0.015, -9.99, 0]], atol=1e-12)
    np.testing.assert_allclose(
        advantages, [[1.0390625, 0.89375, 0.725], [-9.6155, -9.79, 0]], atol=1e-12
    )
    np.testing.assert_allclose(
        returns, [[1.2390625, 1.29375, 1.325], [-9.5155, -9.99, 0]], atol=1e-12
    )
    np.testing.assert_allclose(
        losses.whitened(advantages, MASK),
        [[0.75651744, 0.73146812, 0.70237859], [-1.08014171, -1.11022244, 0]],
        atol=5e-9,
    )


def test_losses_of_the_trainer():
    _, advantages, returns = estimates()
    # Two prompts of one response each.
    drawn = TokenListLogps(
        *(x[:, None] for x in (NEW, REF, MASK)), SCORES[:, None], OLD[:, None], advantages[:, None]
    )
    policy = losses.ppo(drawn, beta=0.0, whiten=True).mean()
    said = losses.TokenValues(*(x[:, None] for x in (NEW_VALUES, returns, MASK, VALUES)))
    value = losses.value_loss(said).mean()
    np.testing.assert_allclose(policy, 0.0167226273, atol=5e-11)
    np.testing.assert_allclose(value, 18.8326230191, atol=5e-11)
    np.testing.assert_allclose(policy + 0.1 * value, 1.8999849292, atol=5e-11)


def test_estimates_at_the_ends_of_the_trace():
    rewards, values = np.random.default_rng(0).normal(size=(2, 4, 6))
    every = np.ones((4, 6), dtype=bool)
    whole, _ = losses.gae(rewards, values, every, trace=1.0)
    np.testing.assert_allclose(whole, losses.rewards_to_go(rewards) - values, atol=1e-12)
    step, _ = losses.gae(rewards, values, every, discount=0.9, trace=0.0)
    after = np.concatenate([values[:, 1:], np.zeros((4, 1))], axis=1)
    np.testing.assert_allclose(step, rewards + 0.9 * after - values, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_without_a_value_function_the_other_responses_are_what_is_expected(k):
    drawn = TokenListLogps.example(3)
    drawn = map_fields(drawn, lambda x: x[:, :k])._replace(advantage=None)
    scores = drawn.scores
    others = (scores.sum(axis=-1, keepdims=True) - scores) / max(k - 1, 1)
    given = np.broadcast_to((scores - others)[..., None], drawn.logp.shape)
    found = losses.ppo(drawn, beta=0.0)
    expected = losses.ppo(drawn._replace(advantage=given), beta=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_whitening_forgets_shift_and_scale():
    values, mask = np.random.default_rng(1).normal(size=(3, 2, 5)), np.ones((3, 2, 5), dtype=bool)
    mask[0, 0, 2:] = False
    found = losses.whitened(values, mask)
    np.testing.assert_allclose(found[mask].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(found[mask].var(ddof=1), 1, atol=1e-5)
    np.testing.assert_allclose(losses.whitened(7 * values - 3, mask), found, atol=1e-5)
    with pytest.raises(ValueError, match="at least two tokens to whiten, got 1"):
        losses.whitened(np.ones(3), np.array([True, False, False]))


def test_tokens_of_responses_are_averaged_as_said():
    drawn = TokenListLogps.example()
    counts = drawn.mask.sum(axis=-1)
    each = np.where(drawn.mask, drawn.logp, 0).sum(axis=-1)
    by_hand = {
        "sum": each.mean(axis=-1),
        "response": (each / counts).mean(axis=-1),
        "batch": each.sum(axis=-1) * len(each) / counts.sum(),
    }
    for reduction, expected in by_hand.items():
        found = losses.reduced(drawn.logp, drawn.mask, reduction=reduction)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_leave_one_out_advantage_is_that_of_the_group_but_for_a_factor():
    rewards = np.random.default_rng(2).normal(size=(3, 5))
    others = np.stack([np.delete(rewards, i, axis=1).mean(axis=1) for i in range(5)], axis=1)
    np.testing.assert_allclose(losses.leave_one_out(rewards), rewards - others, atol=1e-14)
    np.testing.assert_allclose(
        losses.group_advantage(rewards, scale=False), 0.8 * (rewards - others), atol=1e-14
    )
    scaled = losses.group_advantage(rewards)
    np.testing.assert_allclose(scaled.std(axis=1, ddof=1), 1, rtol=1e-12)
    np.testing.assert_allclose(losses.group_advantage(5 * rewards + 2), scaled, atol=1e-12)


@pytest.mark.parametrize(
    ("sign", "log_ratio", "moves"),
    [
        (1, 0.1, True),
        (1, 0.3, False),
        (1, -3.0, True),
        (-1, -0.1, True),
        (-1, -0.4, False),
        (-1, 3.0, True),
    ],
)
def test_a_step_in_the_direction_of_improvement_is_clipped(sign, log_ratio, moves):
    """Above 1.2 a good token gains nothing more, below .75 a bad one; the way back is open."""
    drawn = TokenListLogps.example(1)
    drawn = map_fields(drawn, lambda x: x[:, :1])._replace(
        logp=drawn.old_logp[:, :1] + log_ratio, advantage=np.full((1, 1, 5), float(sign))
    )
    for loss in (
        functools.partial(losses.ppo, beta=0.0, clip_high=0.2, clip_low=0.25),
        functools.partial(losses.ppo, beta=0.0, clip_high=0.2, clip_low=0.25, reduction="sum"),
    ):
        found = loss_gradient(loss, drawn).logp
        assert (found[drawn.mask] != 0).all() == moves
        assert not found[~drawn.mask].any()


def test_a_wider_upper_bound_lets_good_tokens_rise_further():
    drawn = TokenListLogps.example(1)
    drawn = drawn._replace(logp=drawn.old_logp + 0.22)
    found, wider = (
        loss_gradient(functools.partial(losses.grpo, beta=0.0, clip_high=high), drawn).logp
        for high in (0.2, 0.28)
    )
    good = losses.group_advantage(drawn.scores)[..., None] > 0
    moved = np.broadcast_to(good, drawn.mask.shape) & drawn.mask
    assert not found[moved].any()
    assert (wider[moved] < 0).all()
    np.testing.assert_array_equal(found[~moved], wider[~moved])


# --- exact expectations on a tree: responses of one to three tokens, two prompts

TREE = TokenTree.random(3, 3, seed=1, end_token=2, n_contexts=2)
REFERENCE = TokenTreePolicy.random(TREE, seed=2)
HERE = TokenTreePolicy.random(TREE, seed=3)
BETA = 0.7
BEST = TokenTreePolicy.from_sequence_probs(
    TREE, optimal_policy(TREE.reward, REFERENCE.probs, beta=BETA)
)
OPEN = {"clip_low": math.inf, "clip_high": math.inf}
# K, and what the expected gradient is of minus that of E R − β KL.
EXACT = {
    "reinforce": (losses.reinforce, {"baseline": 0.3}, 1, 1.0),
    "copg_group": (losses.copg_group, {"form": "gradient"}, 2, 2.0),
    "rloo": (losses.rloo, {}, 2, 1.0),
    "rloo, clipped": (losses.rloo, {"clip_low": 0.2, "clip_high": 0.3}, 2, 1.0),
    "ppo": (losses.ppo, {"reduction": "sum"}, 2, 1.0),
    "ppo, one response": (losses.ppo, {"reduction": "sum"}, 1, 1.0),
    "ppo, not clipped": (losses.ppo, {"reduction": "sum", **OPEN}, 2, 1.0),
    "grpo": (losses.grpo, {"reduction": "sum", "kl": "reward", "scale": False}, 2, 0.5),
}
REST = {"kl": "reward", "scale": False}
# At rest at the optimum, where all rewards are equal; elsewhere they go another way.
OTHER_WAYS = {
    "means over tokens": (losses.grpo, {**REST, "reduction": "response"}, 2),
    "divided by the deviation": (losses.grpo, {"kl": "reward", "reduction": "sum"}, 3),
}
NOT_AT_REST = {
    "ppo, means over tokens": (losses.ppo, {"reduction": "response"}, 2),
    "grpo": (losses.grpo, {}, 3),
    **{
        f"grpo, not divided, {k}": (
            losses.grpo,
            {"kl": "loss", "scale": False, "reduction": "sum", "estimator": k},
            2,
        )
        for k in ("k1", "k2", "k3")
    },
}


def expected_gradient(loss, options, k, policy):
    """The gradient in the logits of the expected loss of K draws from the policy itself."""
    configured = functools.partial(loss, beta=BETA, **options)
    data = Rollouts.population(TREE, policy, k)

    def value(logits):
        return objective(TokenTreePolicy(TREE, logits), configured, data, reference=REFERENCE)

    return gradient(value, policy.logits)


def regularised_gradient(policy):
    """The gradient of E R − β KL, by enumeration of all sequences."""

    def value(logits):
        here = TokenTreePolicy(TREE, logits)
        log_probs = here.log_probs
        gap = log_probs - torch.as_tensor(REFERENCE.log_probs)
        worth = torch.as_tensor(TREE.reward) - BETA * gap
        return (log_probs.exp() * worth).sum(dim=-1).mean()

    return gradient(value, policy.logits)


@pytest.mark.parametrize("name", EXACT)
def test_the_expected_gradient_is_that_of_the_regularised_reward(name):
    loss, options, k, factor = EXACT[name]
    found = expected_gradient(loss, options, k, HERE)
    np.testing.assert_allclose(found, -factor * regularised_gradient(HERE), atol=1e-12)
    assert np.abs(found).max() > 0.01
    at_best = expected_gradient(loss, options, k, BEST)
    np.testing.assert_allclose(at_best, 0, atol=1e-12)


def cosine(x, y):
    return float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_other_weights_go_another_way(name):
    found = expected_gradient(*OTHER_WAYS[name], HERE)
    assert 0.5 < cosine(found, -regularised_gradient(HERE)) < 0.99


def test_means_over_tokens_of_a_group_rest_at_the_optimum():
    loss, options, k = OTHER_WAYS["means over tokens"]
    np.testing.assert_allclose(expected_gradient(loss, options, k, BEST), 0, atol=1e-12)


@pytest.mark.parametrize(("scale", "fades"), [(False, True), (True, False)])
def test_divided_by_the_deviation_the_gradient_does_not_fade_at_the_optimum(scale, fades):
    away = np.random.default_rng(8).normal(size=BEST.logits.shape)
    options = {"kl": "reward", "reduction": "sum", "scale": scale}
    near, nearer = (
        np.abs(
            expected_gradient(
                losses.grpo, options, 3, TokenTreePolicy(TREE, BEST.logits + d * away)
            )
        ).max()
        for d in (1e-3, 1e-5)
    )
    assert (nearer < 0.02 * near) == fades
    assert (nearer > 0.9 * near) == (not fades)


@pytest.mark.parametrize("name", NOT_AT_REST)
def test_these_move_away_from_the_regularised_optimum(name):
    loss, options, k = NOT_AT_REST[name]
    assert np.abs(expected_gradient(loss, options, k, BEST)).max() > 0.001


def test_equal_rewards_are_no_advantage():
    drawn = TokenListLogps.example()._replace(scores=np.full((6, 4), 0.1))
    assert not losses.group_advantage(drawn.scores).any()
    assert not loss_gradient(functools.partial(losses.grpo, beta=0.0), drawn).logp.any()


def test_the_penalty_of_the_loss_is_the_divergence_where_a_response_is_one_token():
    """k2 on policy has the gradient of the divergence; k1 none, k3 that of the other one."""
    reward = np.random.default_rng(4).normal(size=(2, 4))
    world = ContextualBandit(reward=reward)
    here, reference = (
        TabularPolicy.from_logits(np.random.default_rng(seed).normal(size=(2, 4)))
        for seed in (5, 6)
    )
    data = Rollouts.population(world, here, 2)

    def of_loss(**options):
        loss = functools.partial(losses.ppo, **options)

        def value(logits):
            return objective(TabularPolicy(log_softmax(logits)), loss, data, reference=reference)

        return gradient(value, here.log_probs)

    def of(divergence):
        def value(logits):
            log_probs = torch.log_softmax(logits, dim=-1)
            return divergence(log_probs, torch.as_tensor(reference.log_probs)).sum(dim=-1).mean()

        return gradient(value, here.log_probs)

    without = of_loss(beta=0.0, reduction="sum")
    penalty = {
        k: of_loss(beta=1.0, kl="loss", estimator=k, reduction="sum") - without
        for k in ("k1", "k2", "k3")
    }
    forward = of(lambda p, q: p.exp() * (p - q))
    backward = of(lambda p, q: q.exp() * (q - p))
    np.testing.assert_allclose(penalty["k1"], 0, atol=1e-12)
    np.testing.assert_allclose(penalty["k2"], forward, atol=1e-12)
    np.testing.assert_allclose(penalty["k3"], backward, atol=1e-12)
    assert np.abs(forward - backward).max() > 0.01


def test_estimates_of_a_value_function_leave_the_gradient_alone_with_a_trace_of_one():
    data = Rollouts.population(TREE, HERE, 1)
    logp, ref = data.log_probs(HERE)[0], data.log_probs(REFERENCE)[0]
    mask = TREE.mask[data.completions]
    rewards = losses.kl_shaped_rewards(data.scores, logp, ref, mask, beta=BETA)
    # A guess for every prefix: what is known before a token biases nothing.
    guess = np.random.default_rng(7).normal(size=(2, TREE.n_nodes))
    values = guess[data.prompt[:, None, None], TREE.nodes[data.completions]]

    def found(trace):
        advantage, _ = losses.gae(rewards, values, mask, trace=trace)
        given = Rollouts(
            data.prompt,
            data.completions,
            data.scores,
            old_logp=data.old_logp,
            advantage=advantage,
            weight=data.weight,
        )
        loss = functools.partial(losses.ppo, beta=0.0, reduction="sum")

        def value(logits):
            return objective(TokenTreePolicy(TREE, logits), loss, given, reference=REFERENCE)

        return gradient(value, HERE.logits)

    exact = -regularised_gradient(HERE)
    np.testing.assert_allclose(found(1.0), exact, atol=1e-12)
    assert np.abs(found(0.5) - exact).max() > 0.01


def test_a_response_is_its_tokens():
    """On one token each, RLOO is PPO without a value function."""
    lists = ListLogps.example()
    tokens = TokenListLogps(
        lists.logps[..., None],
        lists.ref_logps[..., None],
        np.ones((*lists.logps.shape, 1), dtype=bool),
        lists.scores,
        lists.old_logps[..., None],
    )
    np.testing.assert_allclose(
        losses.ppo(tokens, **OPEN), losses.rloo(lists, beta=0.05), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: losses.ppo(x, clip_low=0.0), r"clip_low must lie in \(0.0, inf\]"),
        (lambda x: losses.ppo(x, kl="both"), "kl must be one of 'reward', 'loss'"),
        (lambda x: losses.grpo(x, estimator="k4"), "estimator must be one of 'k1', 'k2', 'k3'"),
        (lambda x: losses.grpo(x, reduction="mean"), "reduction must be one of"),
        (
            lambda x: losses.grpo(x._replace(mask=np.zeros_like(x.mask))),
            "at least one token of every response",
        ),
        (
            lambda x: losses.grpo(map_fields(x, lambda column: column[:, :1])),
            "at least two responses to a prompt to compare",
        ),
        (lambda x: losses.ppo(x._replace(scores=x.scores[:, :2])), "must have one shape"),
        (lambda x: losses.ppo(x._replace(old_logp=x.old_logp[..., :2])), "must have one shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(TokenListLogps.example())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.gae(np.ones(2), np.ones(2), np.ones(2, bool), trace=1.5), "trace must lie"),
        (lambda: losses.gae(np.ones(2), np.ones(3), np.ones(2, bool)), "must have one shape"),
        (lambda: losses.value_loss(losses.TokenValues.example(), clip=0.0), "clip must lie"),
        (lambda: losses.leave_one_out(np.ones((3, 1))), "at least two responses"),
        (lambda: losses.rloo(ListLogps.example()._replace(scores=np.ones(6))), "must have one"),
    ],
)
def test_bad_parts(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_response_without_an_end_has_another_score():
    scores, ended = np.array([[1.3, np.nan], [7.0, 2.0]]), np.array([[True, False], [False, True]])
    found = losses.finished_scores(scores, ended)
    np.testing.assert_array_equal(found, [[1.3, -10.0], [-10.0, 2.0]])
    np.testing.assert_array_equal(
        losses.finished_scores(torch.as_tensor(scores), torch.as_tensor(ended), unfinished=0.5),
        [[1.3, 0.5], [0.5, 2.0]],
    )
    with pytest.raises(ValueError, match="must have one shape"):
        losses.finished_scores(scores, ended[0])
    with pytest.raises(ValueError, match="unfinished must be"):
        losses.finished_scores(scores, ended, unfinished=np.inf)
    with pytest.raises(ValueError, match="ended must hold booleans"):
        losses.finished_scores(scores, scores)

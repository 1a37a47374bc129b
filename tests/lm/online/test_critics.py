"""A policy and its critic: advantages by hand, and the exact optimum."""

import functools

import numpy as np
import pytest
from lm_tree import PROMPTS, TREE, total_variation

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    TextRollouts,
    TokenCritic,
    draw_scored,
    play_actor_critic,
    trainer,
    tree_policy,
    tree_score,
    with_values,
)
from prefsim.solvers import optimal_policy

SCORE = tree_score(TREE, PROMPTS)


@pytest.fixture(scope="module")
def critic(start):
    return TokenCritic(CausalLM.from_config(start.plain.config, seed=5), seed=5)


@pytest.fixture(scope="module")
def drawn(start):
    draw = draw_scored(PROMPTS, SCORE, n_samples=3, max_new_tokens=2)
    return draw(start, start, np.random.default_rng(0))


def test_advantages_are_those_of_paid_rewards_and_values(start, critic, drawn):
    other = CausalLM.from_config(start.plain.config, seed=9)
    options = {"discount": 0.9, "trace": 0.8}
    found = with_values(drawn, critic, reference=other, beta=0.3, batch_size=2, **options)
    for i, (prompt, row) in enumerate(zip(drawn.prompt, drawn.completions, strict=True)):
        for k, answer in enumerate(row):
            n = len(answer)
            values = critic.numbers([prompt], [answer])[0].double().numpy()
            ref = other.token_log_probs([prompt], [answer])[0][0].double().numpy()
            rewards = -0.3 * (drawn.old_logp[i, k, :n] - ref)
            rewards[-1] += drawn.scores[i, k]
            ahead = 0.0
            for t in reversed(range(n)):
                after = values[t + 1] if t + 1 < n else 0.0
                ahead = rewards[t] + 0.9 * after - values[t] + 0.9 * 0.8 * ahead
                np.testing.assert_allclose(found.advantage[i, k, t], ahead, atol=1e-5)
                np.testing.assert_allclose(found.returns[i, k, t], ahead + values[t], atol=1e-5)
            np.testing.assert_allclose(found.old_values[i, k, :n], values, atol=1e-5)
            assert not found.advantage[i, k, n:].any()
    np.testing.assert_array_equal(found.scores, drawn.scores)
    np.testing.assert_array_equal(found.old_logp, drawn.old_logp)


def test_a_critic_learns_what_to_expect_and_ppo_ends_at_the_exact_optimum(start, reference):
    options = {"order": "given", "schedule": "constant", "warmup": 0.0, "max_grad_norm": None}
    draw = draw_scored(PROMPTS * 64, SCORE, n_samples=1, max_new_tokens=2, batch_size=128)
    *_, last = play_actor_critic(
        start,
        TokenCritic(CausalLM.from_config(start.plain.config, seed=5), seed=5),
        draw,
        functools.partial(losses.ppo, beta=0.0, reduction="sum"),
        rounds=70,
        seed=0,
        train=trainer(steps=1, batch_size=128, learning_rate=1e-2, **options),
        train_critic=trainer(epochs=1, batch_size=64, learning_rate=2e-2, **options),
        reference=start,
        beta=1.0,
        trace=1.0,
        batch_size=128,
        critic_loss=functools.partial(losses.value_loss, clip=1e9),
    )
    exact = optimal_policy(TREE.reward, reference.probs, beta=1.0)
    policy = tree_policy(last.policy, TREE, PROMPTS)
    assert total_variation(reference.probs, exact) > 0.3
    assert total_variation(policy.probs, exact) < 0.02
    # At the optimum everything that is paid is the same, and the critic has learned how much.
    paid = np.log(np.sum(reference.probs * np.exp(TREE.reward), axis=-1))
    expected = last.critic.numbers(PROMPTS, [[0]] * 2)[:, 0].numpy()
    np.testing.assert_allclose(expected, paid, atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.1}, "beta = 0.1 asks for a penalty, which needs a reference"),
        ({"beta": -1.0}, "beta must be"),
        ({"trace": 1.5}, "trace must lie"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_bad_options(critic, drawn, change, message):
    with pytest.raises(ValueError, match=message):
        with_values(drawn, critic, **change)


def test_what_is_not_drawn_or_cannot_be_called_is_refused(start, critic, drawn):
    text = TextRollouts(["a"], [["b"]], [[1.0]])
    with pytest.raises(ValueError, match="completions must be token ids, as they were drawn"):
        with_values(text, critic)
    unknown = TextRollouts(drawn.prompt, drawn.completions, drawn.scores)
    with pytest.raises(ValueError, match="needs old_logp of what was drawn"):
        with_values(unknown, critic, reference=start, beta=0.1)
    assert with_values(unknown, critic).advantage.shape == (2, 3, 2)
    draw = draw_scored(PROMPTS, SCORE, max_new_tokens=2)
    for change in ({"rounds": 0}, {"train": 3}, {"train_critic": 3}, {"critic_loss": None}):
        options = {"rounds": 1, "seed": 0, "train": trainer(steps=1)} | change
        with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
            play_actor_critic(start, critic, draw, losses.ppo, **options)

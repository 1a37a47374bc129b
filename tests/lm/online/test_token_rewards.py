"""Rewards of a model's tokens against the exact tree, rounds that are paid by them, and a table."""

import functools

import numpy as np
import pytest
from lm_made import small_llama
from lm_tree import LEAVES, PROMPTS, TREE, total_variation

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.lm import (
    CausalLM,
    RewardedTokens,
    TextRollouts,
    TokenCritic,
    draw_scored,
    log_ratio_token_rewards,
    play_actor_critic,
    rewarded_tokens,
    trainer,
    tree_pairs,
    tree_policy,
    with_values,
)
from prefsim.numerics import log_softmax
from prefsim.solvers import fit
from prefsim.solvers.planning import soft_backup

BETA = 0.5
STEADY = {"order": "given", "schedule": "constant", "warmup": 0.0, "max_grad_norm": None}
EVERY = TextRollouts(PROMPTS, [LEAVES, LEAVES], np.zeros((2, len(LEAVES))))


@pytest.fixture(scope="module")
def trained(start):
    """Return what DPO makes of the model, from all pairs that a rater of the tree's rewards saw."""
    pairs = tree_pairs(TREE, Comparisons.population(TREE.to_bandit()), PROMPTS)
    loss = functools.partial(losses.dpo, beta=BETA)
    options = STEADY | {"schedule": "cosine", "progress": False}
    steps = {"steps": 300, "batch_size": len(pairs), "learning_rate": 1e-2, "seed": 0}
    return fit(start, loss, pairs, reference=start, **options | steps).policy


def test_dpo_pays_tokens_what_the_exact_tree_does(start, trained, reference):
    """The shaped rewards of tokens, from labels of whole completions."""
    paid = log_ratio_token_rewards(trained, start, scale=BETA, clip=10.0)(EVERY)
    own = tree_policy(trained, TREE, PROMPTS)
    ratio = log_softmax(own.logits) - log_softmax(reference.logits)
    np.testing.assert_allclose(paid, BETA * TREE.along(ratio), atol=1e-5)
    best = soft_backup(reference, np.asarray(TREE.reward) / BETA).policy
    exact = BETA * TREE.along(log_softmax(best.logits) - log_softmax(reference.logits))
    assert np.abs(exact).max() > 0.5
    np.testing.assert_allclose(paid, exact, atol=5e-3)


def test_options_are_those_of_the_loss(start, trained):
    wide = log_ratio_token_rewards(trained, start, scale=0.1, clip=10.0, batch_size=3)(EVERY)
    narrow = log_ratio_token_rewards(trained, start, scale=0.1, clip=0.02)(EVERY)
    np.testing.assert_allclose(narrow, np.clip(wide, -0.02, 0.02), atol=1e-7)
    assert (np.abs(wide) > 0.02).any()
    assert not wide[..., 1][~EVERY.mask()[..., 1]].any()


def test_advantages_are_of_all_that_is_paid(start, trained):
    critic = TokenCritic(CausalLM.from_config(start.plain.config, seed=5), seed=5)
    pays = log_ratio_token_rewards(trained, start, scale=1.0, clip=10.0)
    tokens = pays(EVERY)
    scores = np.arange(14.0).reshape(2, 7)
    drawn = TextRollouts(PROMPTS, [LEAVES, LEAVES], scores)
    found = with_values(drawn, critic, token_rewards=pays, trace=1.0)
    values, mask = found.old_values, drawn.mask()
    to_go = np.cumsum(tokens[..., ::-1], axis=-1)[..., ::-1] + scores[..., None]
    np.testing.assert_allclose(found.advantage, np.where(mask, to_go - values, 0.0), atol=1e-5)
    # Behind the end it may pay what it likes.
    spoilt = with_values(
        drawn, critic, token_rewards=lambda _: np.where(mask, tokens, 9.0), trace=1.0
    )
    np.testing.assert_allclose(spoilt.advantage, found.advantage, atol=1e-12)


def test_rounds_on_dense_rewards_end_where_the_trained_model_is(start, trained, reference):
    """Of tokens alone, without a score and without looking ahead."""
    draw = draw_scored(PROMPTS * 64, lambda *_: 0.0, n_samples=1, max_new_tokens=2, batch_size=128)
    *_, last = play_actor_critic(
        start,
        TokenCritic(CausalLM.from_config(start.plain.config, seed=5), seed=5),
        draw,
        functools.partial(losses.ppo, beta=0.0, reduction="sum"),
        rounds=50,
        seed=0,
        train=trainer(steps=1, batch_size=128, learning_rate=1e-2, **STEADY),
        train_critic=trainer(epochs=1, batch_size=64, learning_rate=2e-2, **STEADY),
        reference=start,
        beta=BETA,
        trace=0.0,
        token_rewards=log_ratio_token_rewards(
            trained, start, scale=BETA, clip=10.0, batch_size=128
        ),
        batch_size=128,
    )
    goal = tree_policy(trained, TREE, PROMPTS).probs
    assert total_variation(reference.probs, goal) > 0.3
    assert total_variation(tree_policy(last.policy, TREE, PROMPTS).probs, goal) < 0.1


def test_tokens_of_a_text_with_their_rewards(llama, tokenizer):
    other = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=1)
    found = rewarded_tokens(llama, other, "was it a good film?", " it was dull")
    assert "".join(found.tokens) == " it was dull</s>"
    prompt, completion = ["was it a good film?"], [" it was dull"]
    ratio = llama.log_prob(prompt, completion) - other.log_prob(prompt, completion)
    assert found.rewards.sum() == pytest.approx(float(ratio), abs=1e-4)
    half = rewarded_tokens(llama, other, *prompt, *completion, scale=0.5, clip=0.1)
    np.testing.assert_allclose(half.rewards, np.clip(0.5 * found.rewards, -0.1, 0.1))
    lines = found.table(width=10).splitlines()
    assert len(lines) == len(found.tokens)
    assert max(line.count("+") + line.count("-") for line in lines) == 11
    assert lines[-1].endswith("'</s>'")


def test_tokens_without_a_tokenizer_are_numbers(start, trained):
    found = rewarded_tokens(trained, start, PROMPTS[0], [0, 2])
    assert found.tokens == ("0", "2")
    assert RewardedTokens((), np.zeros(0)).table() == ""


def test_bad_input(start, trained, llama):
    critic = TokenCritic(CausalLM.from_config(start.plain.config, seed=5), seed=5)
    for change in ({"scale": 0.0}, {"clip": -1.0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must"):
            log_ratio_token_rewards(trained, start, **change)
    for change in ({"trained": 5}, {"reference": None}):
        with pytest.raises(TypeError, match=f"{next(iter(change))} must be a CausalLM"):
            log_ratio_token_rewards(**{"trained": trained, "reference": start} | change)
    wrong = {
        "must have trailing shape": lambda _: np.zeros((2, 7, 3)),
        "must have 3 axes": lambda _: np.zeros((2, 7)),
        "must be finite": lambda _: np.full((2, 7, 2), np.nan),
    }
    for message, pays in wrong.items():
        with pytest.raises(ValueError, match=f"what token_rewards returns {message}"):
            with_values(EVERY, critic, token_rewards=pays)
    with pytest.raises(ValueError, match="token_rewards must be"):
        with_values(EVERY, critic, token_rewards=3)
    with pytest.raises(ValueError, match="token_rewards must be"):
        play_actor_critic(
            start, critic, print, losses.ppo, rounds=1, seed=0, train=print, token_rewards=3
        )
    with pytest.raises(ValueError, match="width must be"):
        RewardedTokens(("a",), np.ones(1)).table(width=0)
    with pytest.raises(ValueError, match="the same tokens"):
        rewarded_tokens(llama, _without_end(llama), "was it", " dull")


def _without_end(model):
    import dataclasses

    return dataclasses.replace(model, append_eos=False)

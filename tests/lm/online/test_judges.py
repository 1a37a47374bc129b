"""Judges: a reward or a comparison, in one call or many, that may fail or abstain."""

import numpy as np
import pytest
import torch
from lm_made import small_llama
from lm_tree import rows

from prefsim.lm import (
    CausalLM,
    PreferenceModel,
    as_rows,
    completion_scores,
    pairwise_judge,
    reward_judge,
)


def test_rewards_are_compared_by_bradley_terry():
    seen = []

    def reward(prompt, completion):
        seen.append((prompt, completion))
        return {"bad": 0.0, "fair": 1.0, "good": 3.0}[completion]

    prompt, first, second = (
        as_rows(["a", "b"]),
        rows(["good", "bad"], ["fair", "fair"]),
        rows(["fair"], ["bad"]),
    )
    found = reward_judge(reward, scale=0.5)(prompt, first, second)
    np.testing.assert_allclose(
        found[..., 0], 1 / (1 + np.exp(-0.5 * np.array([[2.0, -1.0], [1.0, 1.0]])))
    )
    assert sorted(seen) == [("a", "bad"), ("a", "fair"), ("a", "good"), ("b", "bad"), ("b", "fair")]
    hard = reward_judge(reward, scale=np.inf)(prompt, first, second)
    np.testing.assert_array_equal(hard[..., 0], [[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(
        reward_judge(reward, scale=np.inf)(prompt[:1], first[:1], first[:1]),
        [[[0.5, 1.0], [0.0, 0.5]]],
    )


def test_rewards_in_one_call():
    """A reward model sees every different completion once, all of them together.

    It may answer with a tensor.
    """
    calls = []

    def model(prompts, completions):
        calls.append((prompts, completions))
        return torch.tensor([float(len(text)) for text in completions], requires_grad=False)

    first = rows(["aaa", "a"], ["aa", "aa"])
    prompt = as_rows(["p", "q"])
    batched, single = (
        reward_judge(f, batched=b)(prompt, first, first)
        for f, b in ((model, True), (lambda p, c: len(c), False))
    )
    np.testing.assert_array_equal(batched, single)
    assert calls == [(["p", "p", "q"], ["aaa", "a", "aa"])]
    with pytest.raises(ValueError, match="one number for each of 3 completions"):
        reward_judge(lambda prompts, completions: [1.0], batched=True)(prompt, first, first)


def test_a_reward_may_fail():
    def reward(prompt, completion):
        if completion == "slow":
            raise TimeoutError
        return None if completion == "odd" else 1.0

    prompt, texts = as_rows(["p"]), rows(["slow", "fine", "odd"])
    found = reward_judge(reward, abstain_on=(TimeoutError,))(prompt, texts, texts)
    np.testing.assert_array_equal(
        np.isnan(found[0]), [[True, True, True], [True, False, True], [True, True, True]]
    )
    with pytest.raises(TimeoutError):
        reward_judge(reward)(prompt, texts, texts)
    with pytest.raises(ValueError, match="finite or NaN, got inf"):
        reward_judge(lambda p, c: np.inf)(prompt, texts, texts)

    def down(prompts, completions):
        raise ConnectionError

    assert np.isnan(
        reward_judge(down, batched=True, abstain_on=(ConnectionError,))(prompt, texts, texts)
    ).all()


def test_a_judge_that_likes_what_it_reads_first():
    """Asked in both orders, once each; the bias cancels."""
    asked = []

    def prefer(prompt, first, second):
        asked.append((first, second))
        return 0.5 + 0.1 * (len(first) - len(second)) + 0.05

    texts = rows(["a", "aa", "aaa", "aa"])
    found = pairwise_judge(prefer)(as_rows(["p"]), texts, texts)[0]
    lengths = np.array([1, 2, 3, 2])
    np.testing.assert_allclose(found, 0.5 + 0.1 * (lengths[:, None] - lengths), atol=1e-15)
    assert len(asked) == len(set(asked)) == 6


def test_a_judge_may_abstain():
    def prefer(prompt, first, second):
        if {first, second} == {"a", "b"}:
            raise TimeoutError
        return {"c": None, "d": np.nan, "e": -1.0}.get(first, True)

    texts = rows(["a", "b", "c", "d", "e"])
    found = pairwise_judge(prefer, abstain_on=(TimeoutError,))(as_rows(["p"]), texts, texts)[0]
    np.testing.assert_array_equal(np.isnan(found), ~np.eye(5, dtype=bool))
    with pytest.raises(TimeoutError):
        pairwise_judge(prefer)(as_rows(["p"]), texts, texts)


@pytest.mark.parametrize("text", ["a", [3, 4], [{"role": "user", "content": "a"}]])
def test_prompts_and_completions_of_every_kind(text):
    other = [*text, *text] if not isinstance(text, str) else "aa"
    found = reward_judge(lambda p, c: len(c), scale=np.inf)(
        as_rows([text]), rows([text, other]), rows([text])
    )
    np.testing.assert_array_equal(found, [[[0.5], [1.0]]])
    longer = pairwise_judge(lambda p, a, b: len(a) > len(b))
    np.testing.assert_array_equal(longer(as_rows([text]), rows([text, other]), rows([text])), found)


@pytest.mark.parametrize("dim", [1, 4])
def test_a_trained_model_judges(dim):
    """Its log-odds, at the scale that it was trained to, are the judge's own."""
    policy = CausalLM.from_config(small_llama(64), seed=0)
    model = PreferenceModel(policy, dim=dim, seed=1)
    prompts, answers = [[3, 4], [5]], [[[6, 2], [7, 8, 2], [9, 2]], [[10, 2], [11, 2], [12, 2]]]
    first = as_rows([row[:2] for row in answers], depth=2)
    second = as_rows([row[1:] for row in answers], depth=2)
    found = reward_judge(model)(as_rows(prompts), first, second)
    for m, prompt in enumerate(prompts):
        odds = model.log_odds(prompt, answers[m]).numpy()
        np.testing.assert_allclose(found[m], 1 / (1 + np.exp(-odds[:2, 1:])), atol=1e-6)
    if dim == 1:
        scores = completion_scores(model.rewards, prompts, answers, batched=True)
        np.testing.assert_allclose(
            found, 1 / (1 + np.exp(scores[:, None, 1:] - scores[:, :2, None])), atol=1e-6
        )
    sharp = reward_judge(model, scale=np.inf)(as_rows(prompts), first, second)
    np.testing.assert_array_equal(sharp, np.where(found > 0.5, 1, np.where(found < 0.5, 0, 0.5)))

"""A head on a language model's trunk: vectors whose skew form compares, or rewards."""

import numpy as np
import pytest
import torch
from lm_made import random_ids, small_llama
from peft import LoraConfig

from prefsim import losses
from prefsim.lm import CausalLM, PreferenceModel
from prefsim.raters import learned_temperature, prompt_scales

RNG = np.random.default_rng(0)
PROMPTS, FIRST, SECOND = (random_ids(RNG, 5) for _ in range(3))


def model_of(dim, **options):
    policy = CausalLM.from_config(small_llama(64), seed=0, dtype="float64")
    return PreferenceModel(policy, dim=dim, seed=1, **options)


def last_state(model, prompt, completion):
    """The last hidden states of one text, by the plain model itself."""
    ids = torch.tensor([[*prompt, *completion]])
    return model.classifier.model(input_ids=ids).last_hidden_state[0]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("temperature", [False, True])
def test_a_score_is_the_skew_form_of_the_states_of_the_last_tokens(gated, temperature):
    model = model_of(4, gated=gated, temperature=temperature)
    found = model.scores(PROMPTS, FIRST, SECOND)
    for row, (prompt, first, second) in enumerate(zip(PROMPTS, FIRST, SECOND, strict=True)):
        states = last_state(model, prompt, first)
        v, w = (
            model.head.weight @ last_state(model, prompt, completion)[-1]
            for completion in (first, second)
        )
        planes = torch.stack([v[0] * w[1] - v[1] * w[0], v[2] * w[3] - v[3] * w[2]])
        if gated:
            logits = model.gate.weight @ states[len(prompt) - 1]
            planes = planes * prompt_scales(logits, width=32)
        expected = planes.sum()
        if temperature:
            expected = expected / learned_temperature(torch.tensor(-2.25, dtype=torch.float64))
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("dim", [1, 2, 6])
def test_exchanging_two_responses_turns_the_sign(dim):
    model = model_of(dim)
    one, other = model.scores(PROMPTS, FIRST, SECOND), model.scores(PROMPTS, SECOND, FIRST)
    torch.testing.assert_close(one, -other, rtol=0, atol=1e-12)
    assert one.abs().min() > 1e-3


@pytest.mark.parametrize("options", [{"dim": 1}, {"dim": 4, "gated": True, "temperature": True}])
def test_a_table_is_the_scores_of_its_pairs(options):
    model = model_of(**options)
    table = model.score_table(PROMPTS[0], FIRST)
    i, j = np.indices((5, 5)).reshape(2, -1)
    pairs = model.scores([PROMPTS[0]] * 25, [FIRST[k] for k in i], [FIRST[k] for k in j])
    torch.testing.assert_close(table.ravel(), pairs, rtol=0, atol=1e-12)


def test_one_number_is_a_reward():
    model = model_of(1)
    reward = model.embed(PROMPTS, FIRST).vectors[:, 0]
    other = model.embed(PROMPTS, SECOND).vectors[:, 0]
    torch.testing.assert_close(model.scores(PROMPTS, FIRST, SECOND), reward - other)


def test_everything_is_trained():
    model = model_of(4, gated=True, temperature=True)
    score = model.scores(PROMPTS, FIRST, SECOND)
    losses.bradley_terry(losses.PairRewards(score, 0 * score)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_weights_follow_the_seed():
    one, same = model_of(4, gated=True), model_of(4, gated=True)
    torch.testing.assert_close(one.head.weight, same.head.weight, rtol=0, atol=0)
    torch.testing.assert_close(one.gate.weight, same.gate.weight, rtol=0, atol=0)
    policy = CausalLM.from_config(small_llama(64), seed=0, dtype="float64")
    other = PreferenceModel(policy, dim=4, seed=2)
    assert not torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1"),
        ({"dim": 3}, "dim must be even"),
        ({"dim": 1, "gated": True}, "has no planes to gate"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_adapters_that_are_switched_off_are_not_read():
    adapter = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapted = CausalLM.from_config(small_llama(64), seed=0, dtype="float64", adapter=adapter)
    on, off, plain = (
        PreferenceModel(policy, dim=4, seed=1).scores(PROMPTS, FIRST, SECOND)
        for policy in (
            adapted,
            adapted.without_adapters(),
            CausalLM.from_config(small_llama(64), seed=0, dtype="float64"),
        )
    )
    torch.testing.assert_close(off, plain, rtol=0, atol=1e-12)
    assert (on - plain).abs().max() > 1e-6

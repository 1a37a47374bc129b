"""Vectors of responses, against transformers' own hidden states."""

import numpy as np
import pytest
import torch
from lm_made import small_llama
from peft import LoraConfig

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.lm import CausalLM, response_embeddings
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import fit


def ids(n, rng):
    return [rng.integers(3, 64, rng.integers(1, 9)).tolist() for _ in range(n)]


@pytest.fixture(scope="module")
def policy():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_any_batch_gives_the_states_of_the_model(policy, batch_size, pooling):
    rng = np.random.default_rng(0)
    prompts, completions = ids(5, rng), ids(5, rng)
    expected = []
    for x, y in zip(prompts, completions, strict=True):
        output = policy.model(input_ids=torch.tensor([x + y]), output_hidden_states=True)
        states = output.hidden_states[-1][0, len(x) :].detach().numpy()
        expected.append(states[-1] if pooling == "last" else states.mean(axis=0))
    found = response_embeddings(
        policy, prompts, completions, pooling=pooling, batch_size=batch_size
    )
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_adapters_count_where_they_are_on():
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights=False
    )
    adapted = CausalLM.from_config(small_llama(64), seed=0, adapter=lora, dtype="float64")
    base = CausalLM.from_config(small_llama(64), seed=0, dtype="float64")
    rows = [[5, 6]], [[7, 8]]
    off = response_embeddings(adapted.without_adapters(), *rows)
    np.testing.assert_allclose(off, response_embeddings(base, *rows), rtol=1e-12)
    assert (response_embeddings(adapted, *rows) != off).all()


def test_a_linear_reward_is_fitted_on_them_exactly(policy):
    rng = np.random.default_rng(1)
    prompts, answers = ids(30, rng), [ids(30, rng), ids(30, rng)]
    found = np.stack([response_embeddings(policy, prompts, side) for side in answers], axis=1)
    weights = rng.normal(size=found.shape[-1])
    reward = found @ weights
    data = Comparisons(range(30), reward.argmax(axis=1), reward.argmin(axis=1))
    start = LogLinearPolicy.from_features(found)

    def ridge(policy):
        return 1e-4 * (policy.parameters**2).sum(-1)

    result = fit(start, losses.dpo, data, reference=start, penalty=ridge)
    scores = found @ np.asarray(result.policy.parameters)
    assert result.converged
    np.testing.assert_array_equal(scores.argmax(axis=1), reward.argmax(axis=1))


def test_several_poolings_are_those_of_one_after_the_other(policy):
    rng = np.random.default_rng(2)
    rows = ids(3, rng), ids(3, rng)
    apart = [response_embeddings(policy, *rows, pooling=name) for name in ("mean", "last")]
    together = response_embeddings(policy, *rows, pooling=("mean", "last"))
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=-1))


def test_nothing_and_what_is_out_of_range(policy):
    assert response_embeddings(policy, [], []).shape == (0, 0)
    with pytest.raises(ValueError, match="pooling must be one of"):
        response_embeddings(policy, [[5]], [[6]], pooling="first")
    with pytest.raises(ValueError, match="pooling must be one of"):
        response_embeddings(policy, [[5]], [[6]], pooling=())
    with pytest.raises(ValueError, match="pooling must be one of"):
        response_embeddings(policy, [[5]], [[6]], pooling=("last", "first"))
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        response_embeddings(policy, [[5]], [[6]], batch_size=0)
    with pytest.raises(ValueError, match=r"1 .*2|2 .*1"):
        response_embeddings(policy, [[5]], [[6], [7]])

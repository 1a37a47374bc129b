"""CHES of pairs of text, and products of gradients, against transformers' outputs and autograd."""

import numpy as np
import pytest
import torch
from lm_made import small_llama
from peft import LoraConfig

from prefsim.lm import CausalLM, ches_scores
from prefsim.lm.model.pair_measures import gradient_products


def ids(n, rng):
    return [rng.integers(3, 64, rng.integers(2, 9)).tolist() for _ in range(n)]


@pytest.fixture(scope="module")
def policy():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("normalised", [False, True])
def test_ches_of_any_batch_is_that_of_the_states(policy, batch_size, normalised):
    rng = np.random.default_rng(0)
    prompts, chosen, rejected = ids(5, rng), ids(5, rng), ids(5, rng)
    expected = []
    for x, *sides in zip(prompts, chosen, rejected, strict=True):
        sums = []
        for y in sides:
            output = policy.model(input_ids=torch.tensor([x + y]), output_hidden_states=True)
            # From the last token of the prompt to the last but one of the response.
            states = output.hidden_states[-1][0, len(x) - 1 : -1].detach()
            sums.append(states.mean(0) if normalised else states.sum(0))
        up, down = sums
        expected.append(float(up @ down - up @ up))
    found = ches_scores(
        policy, prompts, chosen, rejected, normalised=normalised, batch_size=batch_size
    )
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_both_kinds_are_those_of_one_after_the_other(policy):
    rng = np.random.default_rng(3)
    rows = ids(5, rng), ids(5, rng), ids(5, rng)
    apart = [ches_scores(policy, *rows, normalised=each) for each in (True, False)]
    together = ches_scores(policy, *rows, normalised=(True, False))
    torch.testing.assert_close(together, torch.stack(apart), rtol=0, atol=0)
    with pytest.raises(ValueError, match="normalised must be"):
        ches_scores(policy, *rows, normalised=(True, 2))


def test_adapters_count_where_they_are_on():
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    policy = CausalLM.from_config(small_llama(64), seed=0, adapter=lora, dtype="float64")
    rng = np.random.default_rng(1)
    rows = ids(2, rng), ids(2, rng), ids(2, rng)
    base = CausalLM.from_config(small_llama(64), seed=0, dtype="float64")
    np.testing.assert_allclose(
        ches_scores(policy.without_adapters(), *rows), ches_scores(base, *rows), rtol=1e-12
    )
    assert (ches_scores(policy, *rows) != ches_scores(base, *rows)).all()


def test_no_pairs_and_lists_that_do_not_fit(policy):
    assert ches_scores(policy, [], [], []).shape == (0,)
    with pytest.raises(ValueError, match=r"1 .*2|2 .*1"):
        ches_scores(policy, [[3], [4]], [[5]], [[6], [7]])
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        ches_scores(policy, [[3]], [[5]], [[6]], batch_size=0)


def test_products_of_gradients(policy):
    weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    other = torch.tensor([4.0], requires_grad=True)
    logps = torch.stack([(weight**2).sum(), (weight * torch.tensor([1.0, 0.0, -1.0])).sum()])
    # ∇ = (2, 4, 6) and (1, 0, −1); nothing depends on the other parameter.
    assert gradient_products(logps, [weight, other]) == (56.0, 2.0, -4.0)
    # Of separate forwards the same, and neither reaches into the other's graph.
    apart = [(weight**2).sum(), (weight * torch.tensor([1.0, 0.0, -1.0])).sum()]
    assert gradient_products(apart, [weight, other]) == (56.0, 2.0, -4.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_large_gradients_are_summed_wide(dtype):
    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(2, 300, 500, generator=generator).to(getattr(torch, dtype))
    weight = torch.zeros(300, 500, dtype=slopes.dtype, requires_grad=True)
    up, down, across = gradient_products([(weight * each).sum() for each in slopes], [weight])
    first, second = slopes.double().reshape(2, -1)
    np.testing.assert_allclose([up, down], [first @ first, second @ second], rtol=1e-6)
    assert across == pytest.approx(float(first @ second), abs=1e-6 * up)

"""References: frozen, adapters switched off, or log-probabilities on disk."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from lm_rows import COMPLETIONS, PROMPTS, ROWS, assert_scores

from prefsim.lm import (
    CausalLM,
    LogProbModel,
    collate,
    model_hash,
    reference_logps,
)
from prefsim.lm.model.reference_logps import shared_reference_logps


def adapted(config=None, seed=0, **options):
    from lm_made import small_llama
    from peft import LoraConfig

    settings = {
        "r": 4,
        "target_modules": ["q_proj", "v_proj"],
        "init_lora_weights": False,
        "lora_dropout": 0.1,
    } | options
    return CausalLM.from_config(
        config or small_llama(), seed=seed, adapter=LoraConfig(task_type="CAUSAL_LM", **settings)
    )


def test_adapters_saved_and_loaded(tmp_path):
    policy = adapted()
    base = policy.without_adapters()
    policy.save(tmp_path / "adapter")
    from lm_made import small_llama

    again = CausalLM.from_config(small_llama(), seed=0, adapter=str(tmp_path / "adapter"))
    plain = CausalLM.from_config(small_llama(), seed=0)
    torch.testing.assert_close(
        again.log_prob(PROMPTS, COMPLETIONS),
        policy.log_prob(PROMPTS, COMPLETIONS),
        rtol=0,
        atol=1e-5,
    )
    torch.testing.assert_close(
        base.log_prob(PROMPTS, COMPLETIONS), plain.log_prob(PROMPTS, COMPLETIONS), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"target_modules": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}],
    ids=["inside", "lora head", "own head"],
)
def test_references_agree(options, tmp_path):
    """Frozen copy, adapters off, cached: the same numbers, and not those of the policy."""
    from lm_made import small_llama

    policy = adapted(**options)
    if "modules_to_save" in options:
        with torch.no_grad():
            policy.log_prob_model.head().weight.mul_(1.5)
    assert_scores(policy)
    plain = CausalLM.from_config(small_llama(), seed=0)
    off = policy.without_adapters()
    copied = off.frozen()
    wanted = plain.log_prob(PROMPTS, COMPLETIONS)
    assert (policy.log_prob(PROMPTS, COMPLETIONS) - wanted).abs().max() > 0.1
    for reference in (plain.frozen(), off, copied):
        torch.testing.assert_close(
            reference.log_prob(PROMPTS, COMPLETIONS), wanted, rtol=0, atol=1e-5
        )
        for _ in range(2):  # computed, then read
            cached = reference_logps(reference, ROWS, cache=tmp_path / "cache")
            torch.testing.assert_close(torch.as_tensor(cached.sums), wanted, rtol=0, atol=1e-5)
    batch = collate(ROWS[1:3], pad_id=0)
    torch.testing.assert_close(
        cached.place(batch, [1, 2]),
        off.log_prob_model(batch, adapters=False).logp,
        rtol=0,
        atol=1e-5,
    )


def test_switching_adapters_off_leaves_what_is_trained():
    policy = adapted()
    before = {name: p.requires_grad for name, p in policy.model.named_parameters()}
    policy.without_adapters().log_prob(PROMPTS, COMPLETIONS)
    policy.without_adapters().sample([[1]], 1, 0, max_new_tokens=2)
    assert {name: p.requires_grad for name, p in policy.model.named_parameters()} == before
    assert any(before.values())
    assert not all(before.values())
    assert not any(p.requires_grad for p in policy.frozen().model.parameters())


def test_gradients_reach_the_adapters_alone():
    policy = adapted(target_modules=["q_proj", "lm_head"])
    policy.log_prob_model(collate(ROWS, pad_id=0)).logp.sum().backward()
    for name, parameter in policy.model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == ("lora_" in name), (
            name
        )


def test_the_cache_is_keyed_by_model_and_data(tmp_path, monkeypatch):
    policy = adapted()
    first = reference_logps(policy, ROWS, cache=tmp_path)
    reference_logps(policy, ROWS[:2], cache=tmp_path)
    reference_logps(policy.without_adapters(), ROWS, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.iterdir())) == 3
    before = model_hash(policy), model_hash(policy.without_adapters())
    with torch.no_grad():
        next(p for name, p in policy.model.named_parameters() if "lora_B" in name).mul_(2)
    assert model_hash(policy) != before[0]
    assert model_hash(policy.without_adapters()) == before[1]
    assert np.abs(reference_logps(policy, ROWS, cache=tmp_path).sums - first.sums).max() > 1e-3
    monkeypatch.setattr(CausalLM, "token_log_probs", None)  # what is cached is not computed again
    assert reference_logps(policy, ROWS, cache=tmp_path).offsets.tolist() == [0, 3, 4, 10, 12]


def test_the_cache_keeps_what_autocast_rounds_apart(tmp_path, llama):
    exact = reference_logps(llama, ROWS, cache=tmp_path).values
    with torch.autocast("cpu", torch.bfloat16):
        rounded = reference_logps(llama, ROWS, cache=tmp_path).values
        np.testing.assert_array_equal(reference_logps(llama, ROWS, cache=tmp_path).values, rounded)
    assert np.abs(rounded - exact).max() > 1e-4
    np.testing.assert_array_equal(reference_logps(llama, ROWS, cache=tmp_path).values, exact)


def test_a_cache_that_can_hold_nothing_is_refused_before_anything_is_computed(
    tmp_path, llama, monkeypatch
):
    monkeypatch.setattr(CausalLM, "token_log_probs", None)
    file = tmp_path / "file"
    file.write_text("not a folder")
    for cache in (file, file / "below", "/dev/full"):
        with pytest.raises(ValueError, match="cache must be a folder that can be written to"):
            reference_logps(llama, ROWS, cache=cache)


def test_a_broken_cache_is_named(tmp_path, llama):
    reference_logps(llama, ROWS, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=rf"{file.name}.*delete the file"):
        reference_logps(llama, ROWS, cache=tmp_path)


def test_an_interrupted_write_leaves_nothing(tmp_path, llama, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        reference_logps(llama, ROWS, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, len(ROWS)])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_work(tmp_path, llama, monkeypatch, count, processes):
    """Threads in the place of processes: what each computes is its part, and all get the whole."""
    rows = ROWS[:count]
    alone = reference_logps(llama, rows)
    barrier, computed = threading.Barrier(processes), []
    evaluate = CausalLM.token_log_probs

    def counted(self, prompts, completions, **options):
        computed.append(len(prompts))
        return evaluate(self, prompts, completions, **options)

    monkeypatch.setattr(CausalLM, "token_log_probs", counted)

    def share(process):
        return shared_reference_logps(
            llama,
            rows,
            cache=tmp_path,
            process=process,
            processes=processes,
            wait=lambda: barrier.wait(60),
        )

    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(share, range(processes)))
    assert sum(computed) == count and max(computed) == -(-count // processes)
    for each in found:
        np.testing.assert_allclose(each.values, alone.values, rtol=1e-5, atol=1e-5)
        assert (each.offsets == alone.offsets).all()
        assert (each.rows, each.model) == (alone.rows, alone.model)
    # What is kept is the whole, which anybody finds, and not the parts.
    assert len(list(tmp_path.iterdir())) == 1
    again = reference_logps(llama, rows, cache=tmp_path)
    np.testing.assert_array_equal(again.values, found[0].values)
    assert sum(computed) == count


def test_a_process_that_comes_late_is_waited_for(tmp_path, llama):
    barrier = threading.Barrier(2)

    def share(process):
        time.sleep(process)
        return shared_reference_logps(
            llama,
            ROWS[:1],
            cache=tmp_path,
            process=process,
            processes=2,
            wait=lambda: barrier.wait(20),
        )

    for _ in range(2):  # computed, then found
        with ThreadPoolExecutor(2) as pool:
            first, late = pool.map(share, range(2))
        np.testing.assert_array_equal(first.values, late.values)


def test_two_trainings_at_once_share_a_cache(tmp_path, llama):
    """Both of two processes, in step: each removes parts that the other has, too."""
    barrier = threading.Barrier(4)

    def share(number):
        return shared_reference_logps(
            llama,
            ROWS,
            cache=tmp_path,
            process=number % 2,
            processes=2,
            wait=lambda: barrier.wait(20),
        )

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(share, range(4)))
    alone = reference_logps(llama, ROWS)
    for each in found:
        np.testing.assert_allclose(each.values, alone.values, rtol=1e-5, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 1


def test_placing_the_wrong_rows_is_an_error(llama):
    with pytest.raises(ValueError, match="numbers of scored tokens"):
        reference_logps(llama, ROWS).place(collate(ROWS[:1], pad_id=0), [1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_placed_by_indices_as_by_the_mask(llama, side):
    stored, batch = reference_logps(llama, ROWS), collate(ROWS, pad_id=0, side=side)
    by_mask = stored.place(batch._replace(scored=None), range(4))
    assert torch.equal(stored.place(batch, range(4)), by_mask)
    assert (by_mask != 0).sum() == len(stored.values)


def test_prompt_tuning_is_refused():
    from lm_made import small_llama
    from peft import PromptTuningConfig, get_peft_model
    from transformers import LlamaForCausalLM

    model = get_peft_model(
        LlamaForCausalLM(small_llama()),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    with pytest.raises(ValueError, match="prompt tuning is not supported"):
        LogProbModel(model)

"""The language-model policy against transformers' own logits; sampling; references."""

import numpy as np
import pytest
import torch
from lm_rows import COMPLETIONS, PROMPTS, ROWS, assert_scores

from prefsim.lm import (
    CausalLM,
    LogProbModel,
    TokenBatch,
    collate,
)


def test_log_probs_equal_those_of_the_plain_model(llama):
    assert_scores(llama)
    assert llama.length(PROMPTS, COMPLETIONS).tolist() == [3, 1, 6, 2]


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_batches_change_nothing(llama, batch_size):
    torch.testing.assert_close(
        llama.log_prob(PROMPTS, COMPLETIONS, batch_size=batch_size),
        llama.log_prob(PROMPTS, COMPLETIONS),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "granite", "cohere", "phi", "qwen2", "opt"])
def test_other_architectures(name):
    """Families with something of their own in the way to the logits.

    Absolute positions (gpt2, opt), soft caps (gemma2), logit factors (granite, cohere), a head bias
    (phi), tied heads.
    """
    from transformers import AutoConfig

    small = {
        "vocab_size": 90,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    small |= {
        "intermediate_size": 48,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    special = {
        "gpt2": {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "vocab_size": 90,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "gemma2": small | {"final_logit_softcapping": 3.0, "initializer_range": 0.3},
        "granite": small | {"logits_scaling": 4.0},
        "cohere": small | {"logit_scale": 0.25},
        "opt": (
            {k: v for k, v in small.items() if k != "head_dim"}
            | {"ffn_dim": 48, "word_embed_proj_dim": 16}
        ),
    }
    policy = CausalLM.from_config(AutoConfig.for_model(name, **special.get(name, small)), seed=3)
    if name == "gemma2":
        assert policy.log_prob_model.softcap == 3.0
    if name == "phi":
        assert policy.log_prob_model.head().bias is not None
    assert_scores(policy)


def test_the_side_of_the_padding_changes_nothing():
    from transformers import GPT2Config

    config = GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        vocab_size=90,
        bos_token_id=1,
        eos_token_id=2,
    )
    policy = CausalLM.from_config(config, seed=0)
    right = policy.log_prob_model(collate(ROWS, pad_id=0)).logp.sum(dim=1)
    left = policy.log_prob_model(collate(ROWS, pad_id=0, side="left", multiple_of=16)).logp.sum(
        dim=1
    )
    torch.testing.assert_close(right, left, rtol=0, atol=1e-5)


def test_gradients_equal_those_of_the_plain_model(llama):
    policy = llama.frozen()
    policy.log_prob_model.requires_grad_(True)
    batch = collate(ROWS, pad_id=0)
    policy.log_prob_model(batch).logp.sum().backward()
    found = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    policy.log_prob_model.zero_grad()
    for row in ROWS:
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        logs = torch.log_softmax(policy.model(input_ids=ids).logits, dim=-1)[0, :-1].gather(
            1, ids[0, 1:, None]
        )
        logs[len(row.prompt_ids) - 1 :].sum().backward()
    for name, parameter in policy.model.named_parameters():
        assert (found[name] - parameter.grad).norm() <= 1e-5 * (1 + parameter.grad.norm()), name


def test_statistics_through_the_log_prob_model(llama):
    other = CausalLM.from_config(llama.log_prob_model.plain.config, seed=5)
    batch = collate(ROWS, pad_id=0)
    with torch.no_grad():
        ref_hidden, ref_head = other.log_prob_model.states(batch)
        found = llama.log_prob_model(
            batch, collision=True, ref_hidden=ref_hidden, ref_head=ref_head
        )
        kept = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
        ours, theirs = (
            torch.log_softmax(p.model(**kept).logits, dim=-1)[:, :-1] for p in (llama, other)
        )
    where = batch.completion_mask[:, 1:]
    torch.testing.assert_close(
        found.kl[:, 1:][where],
        (theirs.exp() * (theirs - ours)).sum(-1)[where],
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        found.collision[:, 1:][where], torch.logsumexp(2 * ours, -1)[where], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found.logp, llama.log_prob_model(batch).logp, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.ref_logp, other.log_prob_model(batch).logp, rtol=0, atol=1e-5)


def test_text_and_ids_score_alike(llama):
    prompts, completions = ["was it a good film?", "the cat"], [" it was great!", " sat on the mat"]
    rows = llama.encode(prompts, completions)
    by_ids = llama.log_prob([row.prompt_ids for row in rows], [row.completion_ids for row in rows])
    torch.testing.assert_close(llama.log_prob(prompts, completions), by_ids)
    assert all(row.completion_ids[-1] == 2 for row in rows)
    assert llama.decode(rows[0].completion_ids) == " it was great!"


def test_samples_are_reproducible_and_end_once(llama):
    prompts = ["the cat", [1, 20], [{"role": "user", "content": "was it good?"}]]
    first = llama.sample(prompts, 3, 7, max_new_tokens=12)
    assert first == llama.sample(prompts, 3, np.random.default_rng(7), max_new_tokens=12)
    assert first != llama.sample(prompts, 3, 8, max_new_tokens=12)
    assert [len(row) for row in first] == [3, 3, 3]
    for ids in (ids for row in first for ids in row):
        assert 1 <= len(ids) <= 12
        assert 2 not in ids[:-1]
        assert len(ids) == 12 or ids[-1] == 2


def test_sampling_leaves_the_random_state_and_the_settings_alone(llama):
    own = llama.model.generation_config
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    llama.sample([[1]], 2, 0, max_new_tokens=3)
    assert torch.equal(torch.rand(3), wanted)
    assert llama.model.generation_config is own


def test_samples_come_from_the_policy_and_not_from_the_models_settings():
    from lm_made import small_llama

    policy = CausalLM.from_config(small_llama(12), seed=1)
    policy.model.generation_config.update(
        top_k=2, temperature=0.2, repetition_penalty=3.0, do_sample=True
    )
    drawn = [ids[0] for ids in policy.sample([[1, 5, 5]], 4000, 3, max_new_tokens=1)[0]]
    exact = policy.log_prob([[1, 5, 5]] * 12, [[token] for token in range(12)]).exp().numpy()
    assert exact.sum() == pytest.approx(1.0, abs=1e-5)
    # Hoeffding and a union over 12 tokens: a deviation of 0.05 has probability below 1e-7.
    assert np.abs(np.bincount(drawn, minlength=12) / 4000 - exact).max() < 0.05


def test_left_padded_prompts_sample_as_alone():
    from lm_made import small_llama

    policy = CausalLM.from_config(small_llama(12), seed=1)
    drawn = policy.sample([[1, 5, 5], [1, 2, 3, 4, 5, 6, 7]], 4000, 3, max_new_tokens=1)[0]
    exact = policy.log_prob([[1, 5, 5]] * 12, [[token] for token in range(12)]).exp().numpy()
    assert np.abs(np.bincount([ids[0] for ids in drawn], minlength=12) / 4000 - exact).max() < 0.05


def test_loading_what_was_saved(llama, tmp_path):
    llama.save(tmp_path / "model")
    loaded = CausalLM.load(tmp_path / "model")
    torch.testing.assert_close(
        loaded.log_prob(["the cat"], [" sat"]),
        llama.log_prob(["the cat"], [" sat"]),
        rtol=0,
        atol=1e-6,
    )
    narrow = CausalLM.load(tmp_path / "model", dtype="bfloat16")
    assert next(narrow.model.parameters()).dtype == torch.bfloat16
    assert narrow.token_log_probs(["the cat"], [" sat"])[0].dtype == torch.float32
    torch.testing.assert_close(
        narrow.log_prob(["the cat"], [" sat"]),
        llama.log_prob(["the cat"], [" sat"]),
        rtol=0.05,
        atol=0.5,
    )
    wide = CausalLM.load(tmp_path / "model", dtype="float64", append_eos=False)
    assert wide.token_log_probs(["the cat"], [" sat"])[0].dtype == torch.float64


def test_evaluation_restores_the_mode_and_tracks_nothing(llama):
    llama.log_prob_model.train()
    assert not llama.log_prob(PROMPTS, COMPLETIONS).requires_grad
    assert llama.log_prob_model.training
    assert llama.log_prob_model.plain.model.training
    llama.log_prob_model.eval()


def test_training_mode_has_no_dropout():
    from transformers import GPT2Config

    config = GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        vocab_size=90,
        bos_token_id=1,
        eos_token_id=2,
    )
    policy = CausalLM.from_config(config, seed=0)
    batch = collate(ROWS, pad_id=0)
    quiet = policy.log_prob_model(batch).logp
    policy.log_prob_model.train()
    assert torch.equal(policy.log_prob_model(batch).logp, quiet)


def test_a_model_with_other_logits_is_refused():
    from lm_made import small_llama
    from transformers import LlamaForCausalLM

    class Odd(LlamaForCausalLM):
        def forward(self, *arguments, **options):
            found = super().forward(*arguments, **options)
            found.logits = found.logits * 2
            return found

    with pytest.raises(ValueError, match="the logits of Odd must be its output layer"):
        LogProbModel(Odd(small_llama()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.log_prob("text", "text"), "two lists of one length, got str and str"),
        (lambda p: p.log_prob([[1]], []), "two lists of one length, got 1 and 0"),
        (lambda p: p.log_prob([[1], [1]], [[2], []]), "row 1 has a completion without tokens"),
        (lambda p: p.log_prob([[]], [[2]]), "row 0 has a prompt without tokens"),
        (
            lambda p: p.log_prob([[1]], [[320]]),
            "row 0: the completion's token ids must be < 320, the model's vocabulary, got 320",
        ),
        (lambda p: p.log_prob([[1]], [[2.5]]), "row 0: completion ids must hold integers"),
        (lambda p: p.log_prob([[1]], [[2]], batch_size=0), "batch_size must be an integer >= 1"),
        (lambda p: p.sample([[1]], 0, 0), "n must be an integer >= 1"),
        (
            lambda p: p.sample([[1]], 1, 0, temperature=0.0),
            "temperature must be a finite number > 0",
        ),
        (lambda p: p.sample([[1]], 1, 0, top_p=0.0), r"top_p must lie in \(0.0, 1.0\]"),
        (lambda p: p.sample([[1]], 1, -1), "seed must be an integer >= 0"),
        (lambda p: p.without_adapters(), "no adapters to switch off"),
        (
            lambda p: CausalLM.load("/no/such/folder"),
            "neither a folder with a causal language model nor a reachable hub id",
        ),
        (lambda p: CausalLM.load("/no/such/folder", dtype="int8"), "dtype must be one of"),
        (
            lambda p: CausalLM.from_config(p.log_prob_model.plain.config, seed=0).log_prob(
                ["a"], ["b"]
            ),
            "row 0: text and chat messages need a tokenizer",
        ),
        (
            lambda p: CausalLM.from_config(p.log_prob_model.plain.config, seed=0).decode([1]),
            "no tokenizer",
        ),
    ],
)
def test_bad_inputs(llama, call, message):
    with pytest.raises(ValueError, match=message):
        call(llama)


def test_a_batch_moves():
    batch = collate(ROWS, pad_id=0)
    assert isinstance(batch.to("meta"), TokenBatch)
    assert batch.to("meta").input_ids.device.type == "meta"

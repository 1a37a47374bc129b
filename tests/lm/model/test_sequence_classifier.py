"""What is saved is a sequence classifier of transformers, which gives the same numbers."""

import json

import pytest
import torch
from lm_made import adapted_llama, byte_tokenizer, small_llama

from prefsim.lm import CausalLM, PreferenceModel, ResponseClassifier

PROMPTS = ["was it a good film?", "hello", "the cat sat on"]
ANSWERS = [" it was a great film, a really great film", " there", " the mat"]


def of_transformers(folder, texts, side):
    """The numbers that transformers gives for a padded batch of texts, by its own tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert bool((batch["attention_mask"] == 0).any())
    if side == "left":
        # Transformers counts positions from the first column unless it is told.
        batch["position_ids"] = (batch["attention_mask"].cumsum(dim=1) - 1).clamp_min(0)
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("form", ["plain", "adapters", "classes"])
def test_transformers_reads_the_same_numbers(tmp_path, form, side):
    tokenizer = byte_tokenizer()
    if form == "adapters":
        from peft import LoraConfig

        lora = LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False)
        policy = CausalLM.from_config(small_llama(), tokenizer, seed=0, adapter=lora)
    else:
        policy = CausalLM.from_config(small_llama(), tokenizer, seed=0)
    if form == "classes":
        model = ResponseClassifier(policy, classes=3, seed=1)
        ours = model.logits(PROMPTS, ANSWERS)
    else:
        model = PreferenceModel(policy, dim=1, seed=1)
        ours = model.rewards(PROMPTS, ANSWERS)[:, None]
    model.save(tmp_path)
    texts = [f"{x}{y}</s>" for x, y in zip(PROMPTS, ANSWERS, strict=True)]
    theirs = of_transformers(tmp_path, texts, side)
    torch.testing.assert_close(theirs, ours.float(), rtol=0, atol=1e-5)
    assert float(ours.std(dim=0).min()) > 0.1
    loaded = type(model).load(tmp_path)
    found, expected = (each.numbers(PROMPTS, ANSWERS) for each in (loaded, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == ["LlamaForSequenceClassification"]


@pytest.mark.parametrize(
    ("padding", "expected"), [("</s>", "<unk>"), (None, "<unk>"), ("<pad>", "<pad>")]
)
def test_padding_is_told_by_a_token_that_ends_no_text(tmp_path, padding, expected):
    """Transformers reads the last token that is not padding, and so never the end of a text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    tokenizer.pad_token = padding
    policy = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    model = PreferenceModel(policy, dim=1, seed=1)
    model.save(tmp_path)
    texts = [f"{x}{y}</s>" for x, y in zip(PROMPTS, ANSWERS, strict=True)]
    ours = model.rewards(PROMPTS, ANSWERS).float()
    for side in ("right", "left"):
        theirs = of_transformers(tmp_path, texts, side)[:, 0]
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert tokenizer.pad_token == padding, "what was given is not changed"
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path).pad_token == expected


def test_where_no_token_can_be_padding_transformers_reads_one_text_at_a_time(tmp_path):
    from transformers import AutoModelForSequenceClassification

    policy = CausalLM.from_config(small_llama(64, pad_token_id=2), seed=0)
    model = PreferenceModel(policy, dim=1, seed=1)
    model.save(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    row = torch.tensor([[5, 6, 7, 2]])
    torch.testing.assert_close(
        theirs(input_ids=row).logits[0].double(), model.rewards([[5, 6]], [[7, 2]])
    )
    with pytest.raises(ValueError, match="no padding token"):
        theirs(input_ids=row.repeat(2, 1))


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "opt", "qwen2", "gpt_neox", "phi3"])
def test_other_architectures(tmp_path, kind):
    """Each is checked against transformers' own number as it is made, and read back."""
    from transformers import AutoConfig

    sizes = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "gpt2":
        sizes |= {"n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 64}
    else:
        sizes |= {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
        sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
        sizes |= {"max_position_embeddings": 64, "ffn_dim": 48, "word_embed_proj_dim": 32}
    policy = CausalLM.from_config(AutoConfig.for_model(kind, **sizes), seed=0)
    model = PreferenceModel(policy, dim=1, seed=1)
    rows = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13, 14]]
    model.save(tmp_path)
    found = PreferenceModel.load(tmp_path).rewards(*rows)
    torch.testing.assert_close(found, model.rewards(*rows), rtol=0, atol=1e-6)


def test_gate_and_temperature_are_kept_beside_it(tmp_path):
    policy = CausalLM.from_config(small_llama(64), seed=0)
    model = PreferenceModel(policy, dim=4, gated=True, temperature=True, seed=1)
    with torch.no_grad():
        model.raw_temperature.fill_(0.5)
    model.save(tmp_path)
    loaded = PreferenceModel.load(tmp_path)
    rows = [[5, 6], [7]], [[8, 2], [9, 2]], [[10, 2], [11, 12, 2]]
    torch.testing.assert_close(loaded.scores(*rows), model.scores(*rows), rtol=0, atol=1e-6)
    PreferenceModel(policy, dim=4, seed=1).save(tmp_path)
    assert PreferenceModel.load(tmp_path).gate is None


def test_ends_of_a_completion_go_along(tmp_path):
    """A chat model ends its turns with more tokens than its tokenizer knows of."""
    policy = CausalLM.from_config(small_llama(64, pad_token_id=0), seed=0)
    policy.model.generation_config.eos_token_id = [2, 7]
    PreferenceModel(policy, dim=1, seed=0).save(tmp_path)
    assert set(PreferenceModel.load(tmp_path).end_ids) == {2, 7}


def test_what_cannot_be_kept_or_loaded(tmp_path):
    from transformers import GraniteConfig

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 4, "num_hidden_layers": 1, "vocab_size": 64}
    granite = CausalLM.from_config(GraniteConfig(**sizes), seed=0)
    with pytest.raises(ValueError, match="no sequence classifier of 'granite'"):
        PreferenceModel(granite, dim=1, seed=0)
    policy = CausalLM.from_config(small_llama(64), seed=0)
    policy.save(tmp_path / "policy")
    with pytest.raises(ValueError, match=r"not all there: 'score\.weight' is missing"):
        PreferenceModel.load(tmp_path / "policy")
    with pytest.raises(ValueError, match="is neither a folder with a reward model nor"):
        PreferenceModel.load(tmp_path / "nowhere")
    ResponseClassifier(policy, classes=3, seed=0).save(tmp_path / "classes")
    with pytest.raises(ValueError, match="dim must be even"):
        PreferenceModel.load(tmp_path / "classes")
    with pytest.raises(ValueError, match="a response has a reward where dim = 1, got dim = 2"):
        PreferenceModel(policy_of(), dim=2, seed=0).rewards([[1]], [[2]])
    with pytest.raises(ValueError, match="classes must be an integer >= 2"):
        ResponseClassifier(policy_of(), classes=1, seed=0)


def policy_of():
    return CausalLM.from_config(small_llama(64), seed=0)


def test_a_model_whose_adapters_are_off_is_copied_without_them():
    policy = adapted_llama()
    model = PreferenceModel(policy.without_adapters(), dim=1, seed=1)
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())

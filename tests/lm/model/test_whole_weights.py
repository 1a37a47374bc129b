"""Weights are all there, as they were written and of the right shape, or the model is refused."""

import json
import shutil

import pytest
import torch
from lm_made import byte_tokenizer, random_pairs, small_llama
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from prefsim import losses
from prefsim.lm import CausalLM
from prefsim.solvers import fit

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("whole")
    tokenizer = byte_tokenizer()
    start = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    start.save(tmp_path / "model")
    options = {"steps": 1, "progress": False, "reference": None}
    fit(start, losses.ipo, random_pairs(), out=tmp_path / "run", **options)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
    CausalLM.from_model(start.model, tokenizer, adapter=lora).save(tmp_path / "lora")
    return tmp_path


@pytest.fixture
def folder(made, tmp_path):
    """A model, the result of a training, adapters for the model, by these names."""
    shutil.copytree(made, tmp_path / "copy")
    # Adapters name their model.
    config = tmp_path / "copy/lora/adapter_config.json"
    named = json.loads(config.read_text()) | {"base_model_name_or_path": str(made / "model")}
    config.write_text(json.dumps(named))
    return tmp_path / "copy"


def changed(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("name", ["model/" + WEIGHTS, "lora/adapter_model.safetensors"])
def test_a_tensor_that_is_not_there_is_not_drawn(folder, name, place):
    changed(folder / name, lambda tensors: tensors.pop(sorted(tensors)[place]))
    with pytest.raises(ValueError, match="missing"):
        CausalLM.load((folder / name).parent)


@pytest.mark.parametrize("name", ["model/" + WEIGHTS, "lora/adapter_model.safetensors"])
def test_a_tensor_of_another_shape_is_named(folder, name):
    def cut(tensors):
        first = sorted(tensors)[1]
        tensors[first] = tensors[first][:1].clone()

    changed(folder / name, cut)
    with pytest.raises(ValueError, match=r"(embed_tokens|layers).*(shape|size)"):
        CausalLM.load((folder / name).parent)


def test_tied_weights_are_not_missing(tmp_path):
    CausalLM.from_config(small_llama(64, tie_word_embeddings=True), seed=0).save(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    assert CausalLM.load(tmp_path).vocabulary_size == 64


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "generation_config.json"])
def test_the_result_of_a_training_is_taken_as_it_was_written(folder, name):
    file = folder / "run/model" / name
    written = file.read_bytes()
    file.write_bytes(written[:-3] + bytes([written[-3] ^ 1]) + written[-2:])
    with pytest.raises(ValueError, match=rf"{name}' is not what was written there.*delete SHA256"):
        CausalLM.load(folder / "run/model")
    file.write_bytes(written)
    # What others put beside it, as a card, is none of the training's.
    (folder / "run/model/README.md").write_text("Trained on films.")
    assert CausalLM.load(folder / "run/model").vocabulary_size


def test_a_model_that_is_saved_over_another_is_its_own(folder):
    other = CausalLM.load(folder / "run/model")
    with torch.no_grad():
        next(other.log_prob_model.parameters()).zero_()
    other.save(folder / "run/model")
    again = CausalLM.load(folder / "run/model")
    assert not next(again.log_prob_model.parameters()).any()


def test_end_tokens_that_cannot_be_read_are_not_left_out(folder):
    (folder / "model/generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json: expected JSON"):
        CausalLM.load(folder / "model")

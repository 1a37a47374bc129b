"""What is loaded is all of what lies there, and what is not there is told at once."""

import sys
import time
from pathlib import Path

import pytest
import torch
from lm_made import byte_tokenizer, random_pairs, small_llama
from lm_rows import COMPLETIONS, PROMPTS
from peft import LoraConfig

from prefsim import losses
from prefsim.lm import CausalLM
from prefsim.lm.model import loading
from prefsim.solvers import fit


def lora():
    # Peft writes into it which model it was used for.
    return LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A model, adapters that were trained on it, and the policy that they make together."""
    folder = tmp_path_factory.mktemp("stages")
    tokenizer = byte_tokenizer()
    CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0).save(folder / "base")
    start = CausalLM.load(folder / "base", adapter=lora())
    options = {"steps": 3, "learning_rate": 1e-2, "progress": False}
    first = fit(start, losses.dpo, random_pairs(), reference=None, **options).policy
    first.save(folder / "first")
    return folder, first


def same(policy, other):
    torch.testing.assert_close(
        policy.log_prob(PROMPTS, COMPLETIONS),
        other.log_prob(PROMPTS, COMPLETIONS),
        rtol=0,
        atol=1e-5,
    )


def test_a_folder_of_adapters_brings_its_model_and_is_trained_on(stages):
    folder, first = stages
    again = CausalLM.load(folder / "first")
    same(again, first)
    base = CausalLM.load(folder / "base")
    same(again.without_adapters(), base)
    far = again.log_prob(PROMPTS, COMPLETIONS) - base.log_prob(PROMPTS, COMPLETIONS)
    assert far.abs().max() > 0.05
    assert again.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    options = {"steps": 1, "learning_rate": 1e-9, "progress": False}
    second = fit(again, losses.dpo, random_pairs(), reference=again.frozen(), **options)
    # It starts from the first stage, which the reference is too.
    assert second.value == pytest.approx(0.6931472, abs=1e-6)
    same(second.policy, first)


@pytest.mark.parametrize("way", ["load", "from_model", "injected by transformers"])
def test_further_adapters_do_not_take_the_place_of_those_that_are_there(stages, way):
    from transformers import AutoModelForCausalLM

    folder, first = stages
    if way == "load":
        model, load = folder / "first", CausalLM.load
    elif way == "from_model":
        model, load = first.frozen().model, CausalLM.from_model
    else:
        model = AutoModelForCausalLM.from_pretrained(folder / "first")
        load = CausalLM.from_model
    with pytest.raises(ValueError, match="carries adapters already, which others would take the"):
        load(model, adapter=lora())


def test_merged_adapters_are_weights_that_further_ones_go_on(stages):
    folder, first = stages
    merged = first.merged()
    same(merged, first)
    assert all(p.requires_grad for p in merged.log_prob_model.parameters())
    assert first.without_adapters()  # what was given keeps its own
    same(first.without_adapters().merged(), CausalLM.load(folder / "base"))
    merged.save(folder / "merged")
    second = CausalLM.load(folder / "merged", adapter=lora())
    same(second, first)
    with pytest.raises(ValueError, match="no adapters to merge"):
        merged.merged()


def test_fresh_adapters_follow_their_seed(stages):
    folder, _ = stages

    def drawn(**options):
        policy = CausalLM.load(folder / "base", adapter=lora(), **options)
        named = dict(policy.model.named_parameters())
        return torch.cat([p.detach().ravel() for n, p in named.items() if "lora_A" in n])

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = drawn()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(drawn(seed=0), first)
    assert not torch.equal(drawn(seed=1), first)


def test_adapters_without_a_model_say_so(stages, tmp_path):
    folder, _ = stages
    CausalLM.from_config(small_llama(64), seed=0, adapter=lora()).save(tmp_path / "lost")
    with pytest.raises(ValueError, match="do not say which model they are for: load that model wi"):
        CausalLM.load(tmp_path / "lost")
    moved = CausalLM.load(folder / "base", adapter=str(folder / "first"))
    moved.model.peft_config["default"].base_model_name_or_path = "gone/away/base"
    moved.save(tmp_path / "moved")
    with pytest.raises(
        ValueError, match=r"adapters '.*moved': their model 'gone/away/base' is nei"
    ):
        CausalLM.load(tmp_path / "moved")


@pytest.fixture
def online(monkeypatch):
    """A hub that may be asked, and that nobody answers for: as a machine without network has it."""
    import huggingface_hub

    asked = []

    class Session:
        def head(self, url, **options):
            asked.append(url)
            raise OSError("name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    return asked


PATHS = ["./model", "/no/such/model", "runs/first/model", "runs/", "~/model", "a b", Path("model")]


@pytest.mark.parametrize("name", PATHS)
def test_what_can_be_no_hub_id_is_not_asked_of_the_hub(online, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="neither a folder with a causal language model nor a rea"):
        CausalLM.load(name)
    assert time.perf_counter() - start < 5
    assert online == []


def test_a_path_beside_folders_that_are_there_is_one(online, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(ValueError, match="'models/lama' is neither a folder with"):
        CausalLM.load("models/lama")
    assert online == []
    (tmp_path / "file").write_text("{}")
    with pytest.raises(ValueError, match="'file' is neither a folder with"):
        CausalLM.load("file")
    assert online == []


@pytest.mark.parametrize("name", ["modle", "nobody/modle"])
def test_the_hub_is_asked_once_where_it_does_not_answer(online, name, stages):
    with pytest.raises(ValueError, match=r"nor a reachable hub id \(name or service not known\)"):
        CausalLM.load(name)
    assert online == [f"https://huggingface.co/{name}/resolve/main/config.json"]
    with pytest.raises(ValueError, match=r"adapter '.*modle' is neither a folder with adapters"):
        CausalLM.load(stages[0] / "base", adapter=name)


def test_a_hub_that_answers_is_asked_further(online, monkeypatch):
    import huggingface_hub
    import transformers

    class Session:
        def head(self, url, **options):
            online.append(url)

    found = []

    def from_pretrained(path, **options):
        found.append((path, options))
        raise OSError("it is not there after all")

    monkeypatch.setattr(huggingface_hub.utils, "get_session", Session)
    monkeypatch.setattr("prefsim.lm.model.loading.adapter_folder", lambda *_, **__: False)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(ValueError, match="neither a folder"):
        CausalLM.load("owner/model", revision="v1")
    assert len(online) == 1
    ((name, options),) = found
    assert name == "owner/model" and options.items() >= {"dtype": "auto", "revision": "v1"}.items()


def test_a_tokenizer_that_is_damaged_is_not_none(stages, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(stages[0] / "base", folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"the tokenizer of '.*model' cannot be loaded \("):
        CausalLM.load(folder)
    for file in folder.glob("*token*"):
        file.unlink()
    assert CausalLM.load(folder).tokenizer is None


@pytest.mark.parametrize(
    ("stage", "name", "message"),
    [
        ("base", "model.safetensors", "the weights of model '.*copy' cannot be read"),
        ("first", "adapter_model.safetensors", "adapters '.*copy' cannot be loaded"),
        ("first", "adapter_config.json", "adapter_config.json of '.*copy' cannot be read"),
    ],
)
def test_damaged_files_are_named(stages, tmp_path, stage, name, message):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(stages[0] / stage, folder)
    whole = (folder / name).read_bytes()
    for damaged in (whole[:-9], b"", b"\xff" * 100, b"[]"):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            CausalLM.load(folder)


def test_a_gguf_file_brings_its_tokenizer_or_says_why_not(stages, monkeypatch):
    """The option that names the file is the tokenizer's as well."""
    import transformers

    folder, _ = stages
    model = CausalLM.load(folder / "base").model
    asked = []

    def tokenizer(path, **options):
        asked.append(options)
        if len(asked) > 1:
            raise ValueError("no tokenizer in the file")
        return byte_tokenizer()

    auto = transformers.AutoModelForCausalLM
    whole = {"missing_keys": set(), "mismatched_keys": set()}
    monkeypatch.setattr(auto, "from_pretrained", lambda path, **options: (model, whole))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", tokenizer)
    policy = CausalLM.load(folder / "base", gguf_file="model.gguf")
    assert policy.tokenizer is not None
    assert asked == [{"gguf_file": "model.gguf"}]
    with pytest.raises(ValueError, match=r"cannot be loaded \(no tokenizer in the file"):
        CausalLM.load(folder / "base", gguf_file="model.gguf")


@pytest.mark.parametrize("missing", ["transformers", "peft"])
def test_packages_that_are_not_installed_are_named(stages, monkeypatch, missing):
    config, adapter = small_llama(64), lora()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=f"need {missing}, which `pip install 'prefsim.lm.'` bri"):
        CausalLM.load(stages[0] / "first")
    with pytest.raises(ImportError, match=f"need {missing}, which"):
        CausalLM.from_config(config, seed=0, adapter=adapter)


def test_torch_that_is_not_installed_is_named(monkeypatch):
    import prefsim.lm

    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [each for each in sys.modules if each.startswith("prefsim.lm.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"prefsim\.lm\.Head needs torch, which `pip install"):
        prefsim.lm.Head  # noqa: B018


def gpt2():
    from transformers import GPT2Config

    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 12, "vocab_size": 32}
    return CausalLM.from_config(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2), seed=0)


def test_sequences_beyond_the_positions_of_the_model_are_named():
    policy = gpt2()
    short, long = [[3] * 6, [4] * 6], [[3] * 6, [4] * 7]
    assert policy.log_prob([[5] * 6] * 2, short).shape == (2,)
    message = "row 1: a sequence may have 12 tokens, as many as the model has positions, got 13"
    with pytest.raises(ValueError, match=message):
        policy.log_prob([[5] * 6] * 2, long)
    from prefsim.lm import TextComparisons, references_of

    data = TextComparisons([[5] * 6] * 2, short, long)
    with pytest.raises(ValueError, match="example 1: a sequence may have 12 tokens"):
        fit(policy, losses.dpo, data, reference=policy, steps=1)
    with pytest.raises(ValueError, match="row 3: a sequence may have 12 tokens"):
        references_of(policy, data, losses.dpo)
    assert len(policy.sample([[5] * 6], 1, 0, max_new_tokens=6)) == 1
    with pytest.raises(ValueError, match="row 0: the prompt's 6 tokens and max_new_tokens = 7 are"):
        policy.sample([[5] * 6], 1, 0, max_new_tokens=7)


def test_calculated_positions_go_on_when_sampling(llama):
    assert len(llama.sample([[5] * 120], 1, 0, max_new_tokens=12)[0][0]) <= 12


def test_adapters_are_loaded_from_the_revision_that_was_asked_for(stages, monkeypatch):
    import peft

    asked = []
    load = peft.PeftModel.from_pretrained

    def from_pretrained(model, name, **options):
        asked.append(options.pop("revision", None))
        return load(model, name, **options)

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", from_pretrained)
    CausalLM.load(stages[0] / "first", revision="v1")
    assert asked == ["v1"]


def test_adapters_without_a_tokenizer_have_that_of_their_model(stages, tmp_path):
    import shutil

    from prefsim.lm.model.loading import load_tokenizer

    folder = tmp_path / "adapters"
    shutil.copytree(stages[0] / "first", folder)
    for file in folder.iterdir():
        if not file.name.startswith("adapter_"):
            file.unlink()
    assert load_tokenizer(folder, revision="v1").get_vocab() == (
        load_tokenizer(stages[0] / "base").get_vocab()
    )
    assert CausalLM.load(folder).tokenizer is not None


def test_a_name_is_looked_at_whatever_was_imported_before(monkeypatch):
    import huggingface_hub

    monkeypatch.delattr(huggingface_hub, "utils", raising=False)
    with pytest.raises(ValueError, match="neither a folder with a causal language model"):
        loading.check_place("no/such/place")

"""``prefsim train`` as a user meets it.

Real runs of two steps, dry runs, settings in files, and one line for each error.
"""

import contextlib
import functools
import gzip
import json
import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from lm_made import byte_tokenizer, small_llama

from prefsim import cli, losses
from prefsim.lm import CausalLM, TextComparisons, TrainingOptions
from prefsim.lm.command.memory import activation_numbers
from prefsim.lm.command.settings import trainable_losses
from prefsim.solvers import fit

PAIRS = [
    {
        "prompt": "was it a good film?",
        "chosen": f" it was a great film{' really' * (i % 3)}",
        "rejected": " the plot was dull",
    }
    for i in range(6)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, a tokenizer, a configuration and files of data."""
    folder = tmp_path_factory.mktemp("made")
    tokenizer = byte_tokenizer()
    CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0).save(folder / "model")
    CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=1).save(folder / "other")
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | sizes))
    (folder / "small.json").write_text(
        json.dumps({"model_type": "llama", "vocab_size": 10} | sizes)
    )
    (folder / "what.json").write_text(json.dumps({"model_type": "lama"}))
    lines = {
        "pairs.jsonl": PAIRS,
        "bad.jsonl": [*PAIRS[:2], PAIRS[2] | {"chosen": 3}],
        "empty_prompt.jsonl": [PAIRS[0], PAIRS[0] | {"prompt": [], "chosen": [], "rejected": []}],
        "big_ids.jsonl": [
            {"prompt": [1], "chosen": [5], "rejected": [6]},
            {"prompt": [1], "chosen": [5], "rejected": [999]},
        ],
        "long.jsonl": [*PAIRS, PAIRS[0] | {"chosen": " cat" * 300}],
        "labels.jsonl": [
            {"prompt": "hello", "completion": " there", "label": i % 2 == 0} for i in range(4)
        ],
        "dialogues.jsonl": [
            {
                "chosen": "\n\nHuman: hi\n\nAssistant: a",
                "rejected": f"\n\nHuman: {x}\n\nAssistant: b",
            }
            for x in ("hi", "ho")
        ],
    }
    for name, rows in lines.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def prefsim(capsys, tmp_path, monkeypatch, made):
    """Run a command in this process, in a folder with links to what was made.

    Return (exit code, stdout, stderr).
    """
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


BASE = ("train", "--loss", "dpo", "--model", "model", "--data", "pairs.jsonl")
QUICK = ("--steps", 2, "--batch-size", 3, "--learning-rate", 1e-3, "--json")


def trained(prefsim, *arguments):
    code, out, err = prefsim(*arguments)
    assert code == 0, err
    return json.loads(out)


def weights(folder):
    return dict(CausalLM.load(folder).model.named_parameters())


def test_a_run_is_the_call_of_fit(prefsim, tmp_path):
    report = trained(
        prefsim, *BASE, *QUICK, "--set", "beta=0.5", "--set", "label_smoothing=0.1", "--out", "run"
    )
    assert (report["steps"], report["model"]) == (2, "run/model")
    policy = CausalLM.load("model")
    columns = {name: [row[name] for row in PAIRS] for name in PAIRS[0]}
    loss = functools.partial(losses.dpo, beta=0.5, label_smoothing=0.1)
    data, options = (
        TextComparisons(**columns),
        {"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False},
    )
    expected = fit(policy, loss, data, reference=policy.frozen(), **options)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    start, found, wanted = (
        weights("model"),
        weights("run/model"),
        dict(expected.policy.model.named_parameters()),
    )
    assert any((found[name] - start[name]).abs().max() > 1e-4 for name in start)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-6)
    assert CausalLM.load("run/model").tokenizer is not None
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert lines[-1]["step"] == 2


def test_text_report(prefsim):
    code, out, _ = prefsim(*BASE, "--steps", 2, "--output", "run")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        out.splitlines()[0].split(":")[0],
        "Model",
        "Metrics",
    ]
    assert out.startswith("2 steps, loss ")


def test_precomputed_and_live_references_agree(prefsim, tmp_path):
    live = trained(prefsim, *BASE, *QUICK, "--out", "live", "--precision", "float32")
    stored = trained(prefsim, *BASE, *QUICK, "--out", "stored", "--precompute")
    assert stored["loss"] == pytest.approx(live["loss"], abs=1e-5)
    assert len(list((tmp_path / "stored" / "reference").glob("*.safetensors"))) == 1
    for name, value in weights("live/model").items():
        torch.testing.assert_close(weights("stored/model")[name], value, rtol=0, atol=1e-5)
    other = trained(prefsim, *BASE, *QUICK, "--out", "other-run", "--reference", "other")
    assert abs(other["loss"] - live["loss"]) > 1e-2


def test_a_loss_without_reference_takes_none(prefsim):
    arguments = (
        "train",
        "--loss",
        "simpo",
        "--model",
        "model",
        "--data",
        "pairs.jsonl",
        "--dry-run",
        "--json",
    )
    memory = trained(prefsim, *arguments)["memory"]
    assert memory["reference"] == 0
    memory = trained(prefsim, *arguments, "--reference", "start")["memory"]
    assert memory["reference"] == memory["weights"] > 0
    assert (
        trained(prefsim, *BASE, "--dry-run", "--json", "--reference", "none")["memory"]["reference"]
        == 0
    )


def test_adapters(prefsim, tmp_path):
    report = trained(prefsim, *BASE, *QUICK, "--lora-rank", 2, "--out", "run")
    assert report["steps"] == 2
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()
    found = trained(prefsim, *BASE, "--dry-run", "--json", "--lora-rank", 2)
    assert 0 < found["parameters"]["trained"] < found["parameters"]["all"]
    assert found["memory"]["reference"] == 0


def test_a_new_model(prefsim):
    arguments = (
        "train",
        "--loss",
        "sft",
        "--model",
        "config.json",
        "--tokenizer",
        "tokenizer",
        "--data",
        "pairs.jsonl",
    )
    report = trained(prefsim, *arguments, *QUICK, "--out", "run")
    assert report["steps"] == 2
    model = CausalLM.load("run/model")
    assert model.model.config.vocab_size == len(byte_tokenizer())
    assert model.model.config.eos_token_id == byte_tokenizer().eos_token_id
    again = trained(prefsim, *arguments, *QUICK, "--out", "again")
    other = trained(prefsim, *arguments, *QUICK, "--out", "other-seed", "--seed", 1)
    assert again["loss"] == report["loss"] != other["loss"]


def test_resume(prefsim, tmp_path):
    arguments = (*BASE, *QUICK, "--steps", 4, "--save-every", 1, "--keep", 9, "--out", "run")
    whole = trained(prefsim, *arguments)
    code, _, err = prefsim(*arguments)
    assert (code, err) == (
        2,
        "prefsim: --out run holds a training; give --resume or another folder\n",
    )
    # What an interruption behind the second step leaves.
    expected = weights("run/model")
    shutil.rmtree(tmp_path / "run" / "model")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{step:08d}")
    resumed = trained(prefsim, *arguments, "--resume")
    assert resumed == whole
    for name, value in weights("run/model").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_settings_in_a_file(prefsim, tmp_path):
    (tmp_path / "train.toml").write_text(
        'loss = "ipo"\nmodel = "model"\ndata = "pairs.jsonl"\nout = "from-file"\nsteps ='
        " 2\nbatch-size = 3\nlearning_rate = 1e-3\ngradient-checkpointing = true\njson ="
        " true\n\n[set]\ntau = 0.2\n"
    )
    filed = trained(prefsim, "train", "--config", "train.toml")
    arguments = (
        "train",
        "--loss",
        "ipo",
        "--set",
        "tau=0.2",
        "--model",
        "model",
        "--data",
        "pairs.jsonl",
        *QUICK,
    )
    assert filed["loss"] == pytest.approx(
        trained(prefsim, *arguments, "--out", "typed")["loss"], rel=1e-6
    )
    # The command line wins, and of the loss's options one at a time.
    report = trained(
        prefsim,
        "train",
        "--config",
        "train.toml",
        "--out",
        "other-run",
        "--steps",
        1,
        "--set",
        "tau=0.5",
    )
    assert (report["steps"], report["model"]) == (1, "other-run/model")
    assert abs(report["loss"] - filed["loss"]) > 1e-3


BAD_FILES = [
    ('lss = "dpo"', "key 'lss' is not known; there are loss, set, model, "),
    ('config = "x.toml"', "key 'config' is not known"),
    ("steps = 1.5", "steps must be an integer"),
    ('steps = "2"', "steps must be an integer"),
    ("steps = true", "steps must be an integer"),
    ("loss = 3", "loss must be a word"),
    ('set = "beta=1"', "set must be a table of the loss's options"),
    ("diagnostics = [1]", "diagnostics must be a list of words"),
    ("steps = ", "expected a file in TOML"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_bad_files_of_settings(prefsim, tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    code, out, err = prefsim(*BASE, "--dry-run", "--config", "bad.toml")
    assert (code, out) == (2, "")
    assert err.startswith(f"prefsim: bad.toml: {message}")
    assert err.count("\n") == 1


def test_dry_run(prefsim, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    report = trained(
        prefsim, *BASE, "--dry-run", "--json", "--epochs", 2, "--batch-size", 4, "--out", "run"
    )
    assert sorted(tmp_path.rglob("*")) == before
    tokenizer = byte_tokenizer()
    prompts = sum(2 * len(tokenizer(row["prompt"])["input_ids"]) for row in PAIRS)
    every = [
        len(tokenizer(row["prompt"] + row[name])["input_ids"]) + 1
        for row in PAIRS
        for name in ("chosen", "rejected")
    ]
    assert report["tokens"] == {
        "prompt": prompts,
        "completion": sum(every) - prompts,
        "longest_sequence": max(every),
    }
    assert report["data"] == {"rows": 6, "skipped": 0, "unused_columns": []}
    assert report["training"] == {"steps": 4, "epochs": 2.0, "examples_per_step": 4}
    size = sum(p.numel() for p in CausalLM.load("model").model.parameters())
    assert report["parameters"] == {"all": size, "trained": size}
    assert report["memory"]["activations"] == 8 * max(every) * 4 * activation_numbers(small_llama())
    code, out, _ = prefsim(*BASE, "--dry-run")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[:5]] == [
        "Rows",
        "Tokens",
        "Steps",
        "Parameters",
        "Memory, estimated",
    ]


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ((), "float32"),
        (("--dtype", "bfloat16"), "bfloat16"),
        (("--dtype", "bfloat16", "--lora-rank", "2"), "bfloat16"),
    ],
)
def test_the_estimate_is_what_a_training_holds(prefsim, made, options, dtype):
    memory = trained(prefsim, *BASE, "--dry-run", "--json", *options)["memory"]
    adapter = None
    if "--lora-rank" in options:
        from peft import LoraConfig

        adapter = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = CausalLM.load(made / "model", dtype=dtype, adapter=adapter)
    held = {}

    class Watched(torch.optim.AdamW):
        def step(self, *arguments, **keywords):
            found = super().step(*arguments, **keywords)
            every = list(policy.log_prob_model.parameters())
            held["weights"] = sum(p.numel() * p.itemsize for p in every)
            held["gradients"] = sum(
                p.grad.numel() * p.grad.itemsize for p in every if p.grad is not None
            )
            states = [value for state in self.state.values() for value in state.values()]
            held["optimizer"] = sum(
                value.numel() * value.itemsize for value in states if value.ndim
            )
            return found

    columns = {name: [row[name] for row in PAIRS] for name in PAIRS[0]}
    reference = policy.frozen() if adapter is None else policy.without_adapters()
    fit(
        policy,
        losses.dpo,
        TextComparisons(**columns),
        reference=reference,
        steps=1,
        optimizer=Watched,
        in_place=True,
        progress=False,
    )
    assert {name: memory[name] for name in held} == held
    shared = reference.log_prob_model is policy.log_prob_model
    assert memory["reference"] == (
        0 if shared else sum(p.numel() * p.itemsize for p in reference.log_prob_model.parameters())
    )


@pytest.mark.parametrize(("hidden", "inner", "groups"), [(64, 172, 2), (128, 512, 4), (96, 96, 1)])
def test_activations_are_nearly_those_that_autograd_keeps(hidden, inner, groups):
    from transformers import AutoModelForCausalLM

    batch, length, layers = 3, 96, 6
    config = small_llama(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_key_value_heads=groups,
    )
    model = AutoModelForCausalLM.from_config(config).train()
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.base_model(
            input_ids=torch.zeros(batch, length, dtype=torch.long), use_cache=False
        ).last_hidden_state
    found = sum(size for size, _ in kept.values())
    assert output.requires_grad
    assert 4 * batch * length * activation_numbers(config) == pytest.approx(found, rel=0.15)


def test_checkpointing_keeps_less():
    config = small_llama(num_hidden_layers=10)
    assert activation_numbers(config, checkpointing=True) < activation_numbers(config) / 5


def test_long_rows_and_unshared_prompts_are_left_out_on_request(prefsim):
    code, out, err = prefsim(*BASE[:-1], "long.jsonl", "--dry-run")
    assert (code, out) == (2, "")
    assert "a sequence may have 128 tokens" in err
    assert "in long.jsonl, line 7; see --max-tokens" in err
    found = trained(prefsim, *BASE[:-1], "long.jsonl", "--dry-run", "--json", "--max-tokens", 100)
    assert (found["data"]["rows"], found["data"]["skipped"]) == (6, 1)
    code, _, err = prefsim(*BASE[:-1], "long.jsonl", "--dry-run", "--max-tokens", 3)
    assert (code, err) == (
        2,
        "prefsim: long.jsonl: expected at least one line, got 7, all skipped\n",
    )
    found = trained(
        prefsim, *BASE[:-1], "dialogues.jsonl", "--dry-run", "--json", "--skip-unshared"
    )
    assert (found["data"]["rows"], found["data"]["skipped"]) == (1, 1)
    code, _, err = prefsim(
        *BASE[:-1], "dialogues.jsonl", "--skip-unshared", "--steps", 1, "--out", "run"
    )
    assert code == 0
    assert (
        "1 rows skipped, the first: dialogues.jsonl, line 2: chosen and rejected must be the same"
        " dialogue" in err
    )


ERRORS = [
    (("--loss", "dppo"), "loss 'dppo' is not known; a language model is trained with one of aot, "),
    (
        ("--loss", "cross_entropy"),
        "loss 'cross_entropy' takes what text cannot give; a language model is trained with one of",
    ),
    (("--set", "gamma=1"), "loss 'dpo' has no option 'gamma'; it has beta, label_smoothing"),
    (("--set", "beta"), "--set takes name=value, got 'beta'"),
    (("--set", "beta=1", "--set", "beta=2"), "--set got beta twice"),
    (("--set", "beta=x"), "dpo's beta must be a number, got 'x'"),
    (("--set", "beta=-1"), "beta must be a finite number > 0, got -1.0"),
    (("--set", "beta=nan"), "beta must be a finite number > 0, got nan"),
    (
        ("--model", "nothing"),
        "model 'nothing' is neither a folder with a causal language model nor a reachable hub id",
    ),
    (("--model", "small.json", "--tokenizer", "tokenizer"), "small.json: vocab_size must be >= "),
    (
        ("--model", "what.json"),
        "what.json: expected the configuration of a transformers model in JSON",
    ),
    (
        ("--model", "pairs.jsonl"),
        "pairs.jsonl: expected the configuration of a transformers model in JSON",
    ),
    (("--model", "config.json"), "pairs.jsonl, line 1: text and chat messages need a tokenizer"),
    (
        ("--tokenizer", "nothing"),
        "tokenizer 'nothing' is neither a folder with a tokenizer nor a reachable hub id",
    ),
    (("--data", "nothing.jsonl"), "nothing.jsonl: there is no such file"),
    (("--data", "bad.jsonl"), "bad.jsonl, line 3: chosen must be text"),
    (("--data", "empty_prompt.jsonl"), "empty_prompt.jsonl, line 2: prompt must be text"),
    (
        ("--data", "big_ids.jsonl"),
        "big_ids.jsonl, line 2: the completion's token ids must be < 320",
    ),
    (
        ("--data", "labels.jsonl"),
        "TextFeedback feed losses of UnpairedLogps, JudgedLogps, got a loss of PairLogps",
    ),
    (
        ("--data", "dialogues.jsonl"),
        "dialogues.jsonl, line 2: chosen and rejected must be the same dialogue",
    ),
    (("--split", "test"), "pairs.jsonl: a split is for folders and hub ids"),
    (("--max-tokens", "0"), "max_tokens must be an integer >= 1"),
    (("--steps", "2", "--epochs", "1"), "steps or epochs may be given, got both"),
    (("--batch-size", "0"), "batch_size must be an integer >= 1, got 0"),
    (("--steps", "many"), "Invalid value for '--steps': "),
    (("--schedule", "square"), "schedule must be one of"),
    (("--optimizer", "lion"), "optimizer must be one of"),
    (("--dtype", "int8"), "dtype must be one of"),
    (("--precision", "fp8"), "precision must be one of"),
    (
        ("--dtype", "bfloat16", "--precision", "float32"),
        "precision 'float32' needs parameters of float32",
    ),
    (("--lora-alpha", "2"), "--lora-alpha needs --lora-rank"),
    (("--lora-rank", "-1"), "lora_rank must be an integer >= 0"),
    (("--reference", "nothing"), "model 'nothing' is neither a folder"),
    (("--reference", "none", "--precompute"), "--precompute needs a reference"),
    (
        ("--loss", "tdpo1", "--precompute"),
        "the loss needs the KL divergence at every token, which --precompute does not keep",
    ),
    (("--loss", "tdpo1", "--reference", "none"), "the loss needs the KL divergence at every token"),
    (("--diagnostics", "colour"), "colour"),
    (("--no-such-option",), "No such option: --no-such-option"),
]


# A real run goes other ways where models are loaded.
BOTH_WAYS = ("--model", "--tokenizer", "--dtype")
CASES = [(*case, True) for case in ERRORS] + [
    (*case, False) for case in ERRORS if case[0][0] in BOTH_WAYS
]


@pytest.mark.parametrize(("arguments", "message", "dry"), CASES)
def test_every_error_is_one_line(prefsim, tmp_path, arguments, message, dry):
    before = sorted(tmp_path.iterdir())
    code, out, err = prefsim(*BASE, *arguments, *(["--dry-run"] if dry else ["--out", "run"]))
    assert (code, out) == (2, "")
    assert err.startswith("prefsim: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("missing", ["loss", "model", "data", "out"])
def test_what_must_be_given(prefsim, missing):
    given = {"loss": "dpo", "model": "model", "data": "pairs.jsonl", "out": "run"}
    arguments = [
        word for name, value in given.items() if name != missing for word in (f"--{name}", value)
    ]
    assert prefsim("train", *arguments) == (
        2,
        "",
        f"prefsim: --{missing} must be given, on the command line or in the file of --config\n",
    )


def test_packages_that_are_not_installed(prefsim, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "prefsim.lm.command.job", None)
    monkeypatch.delattr("prefsim.lm.command.job", raising=False)
    code, out, err = prefsim(*BASE, "--dry-run")
    assert (code, out) == (2, "")
    assert "`pip install 'prefsim[lm]'` brings" in err


def test_options_are_those_of_the_engine():
    import inspect

    from prefsim.lm.command.cli import train

    declared = {
        name: parameter.default for name, parameter in inspect.signature(train).parameters.items()
    }
    # Where the command has its own way: it trains what it has loaded, shows bars on terminals, and
    # saves for --resume.
    own = {"in_place", "progress", "save_every", "diagnostics"}
    for field in fields(TrainingOptions):
        if field.name in own - {"save_every", "diagnostics"}:
            assert field.name not in declared
        elif field.name not in own:
            assert declared[field.name] == field.default, field.name


def test_help(prefsim):
    code, out, err = prefsim("train", "--help")
    assert (code, err) == (0, "")
    for option in ("--loss NAME", "--set NAME=VALUE", "--dry-run", "--config", "--out, --output"):
        assert option in out
    assert "train" in prefsim("--help")[1]


def test_every_trainable_loss_is_configured_by_its_defaults():
    from prefsim.lm.command.settings import configured_loss

    for name in trainable_losses():
        assert configured_loss(name, {}).func is trainable_losses()[name]


def test_two_steps_on_hh_rlhf(prefsim, tmp_path, real_data):
    path = real_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", encoding="utf-8") as stream, contextlib.suppress(StopIteration):
        (tmp_path / "hh.jsonl").write_text(
            "".join(next(stream) for _ in range(60)), encoding="utf-8"
        )
    report = trained(
        prefsim,
        *BASE[:-1],
        "hh.jsonl",
        *QUICK,
        "--max-tokens",
        128,
        "--out",
        "run",
        "--log-every",
        1,
    )
    assert report["steps"] == 2
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(
        0.6931471805599453, abs=1e-6
    )  # the policy is its own reference yet


def test_the_how_to(prefsim, tmp_path, monkeypatch):
    """The commands of the document, between its blocks of Python.

    The documents' own test runs those without the commands.
    """
    document = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "train-a-language-model.md"
    folder = tmp_path / "how-to"
    folder.mkdir()
    monkeypatch.chdir(folder)
    blocks = re.findall(
        r"(<!-- test: needs real data -->\n)?^```(python|bash)\n(.*?)^```$",
        document.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    names = {"__name__": "__main__"}
    commands = 0
    for needs_data, language, code in blocks:
        if language == "python" and not needs_data:
            exec(compile(code, str(document), "exec"), names)
        elif language == "bash":
            for line in code.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line)
                assert program == "prefsim"
                code, out, err = prefsim(*arguments)
                assert (code, bool(out)) == (0, True), err
                commands += 1
    assert commands == 3
    assert {path.name for path in folder.iterdir()} >= {"run", "run-ipo"}

"""``prefsim train`` as a user meets it: runs of two steps, dry runs, settings in files."""

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
from lm_made import FILM_PAIRS, TRAIN, TWO_STEPS, byte_tokenizer, report_of, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, Evaluation, OnlineKL, TextComparisons, TrainingOptions
from prefsim.lm.command.memory import activation_bytes
from prefsim.lm.command.settings import trainable_losses
from prefsim.solvers import fit


def weights(folder):
    return dict(CausalLM.load(folder).model.named_parameters())


def test_a_run_is_the_call_of_fit(prefsim, tmp_path):
    report = report_of(
        prefsim,
        *TRAIN,
        *TWO_STEPS,
        "--set",
        "beta=0.5",
        "--set",
        "label_smoothing=0.1",
        "--out",
        "run",
    )
    assert (report["steps"], report["model"]) == (2, "run/model")
    policy = CausalLM.load("model")
    columns = {name: [row[name] for row in FILM_PAIRS] for name in FILM_PAIRS[0]}
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
    code, out, _ = prefsim(*TRAIN, "--steps", 2, "--output", "run")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        out.splitlines()[0].split(":")[0],
        "Model",
        "Metrics",
    ]
    assert out.startswith("2 steps, loss ")


def test_precomputed_and_live_references_agree(prefsim, tmp_path):
    live = report_of(prefsim, *TRAIN, *TWO_STEPS, "--out", "live", "--precision", "float32")
    stored = report_of(prefsim, *TRAIN, *TWO_STEPS, "--out", "stored", "--precompute")
    assert stored["loss"] == pytest.approx(live["loss"], abs=1e-5)
    assert len(list((tmp_path / "stored" / "reference").glob("*.safetensors"))) == 1
    for name, value in weights("live/model").items():
        torch.testing.assert_close(weights("stored/model")[name], value, rtol=0, atol=1e-5)
    other = report_of(prefsim, *TRAIN, *TWO_STEPS, "--out", "other-run", "--reference", "other")
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
    memory = report_of(prefsim, *arguments)["memory"]
    assert memory["reference"] == 0
    memory = report_of(prefsim, *arguments, "--reference", "start")["memory"]
    assert memory["reference"] == memory["weights"] > 0
    assert (
        report_of(prefsim, *TRAIN, "--dry-run", "--json", "--reference", "none")["memory"][
            "reference"
        ]
        == 0
    )


def test_adapters(prefsim, tmp_path):
    report = report_of(prefsim, *TRAIN, *TWO_STEPS, "--lora-rank", 2, "--out", "run")
    assert report["steps"] == 2
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()
    found = report_of(prefsim, *TRAIN, "--dry-run", "--json", "--lora-rank", 2)
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
    report = report_of(prefsim, *arguments, *TWO_STEPS, "--out", "run")
    assert report["steps"] == 2
    model = CausalLM.load("run/model")
    assert model.model.config.vocab_size == len(byte_tokenizer())
    assert model.model.config.eos_token_id == byte_tokenizer().eos_token_id
    again = report_of(prefsim, *arguments, *TWO_STEPS, "--out", "again")
    other = report_of(prefsim, *arguments, *TWO_STEPS, "--out", "other-seed", "--seed", 1)
    assert again["loss"] == report["loss"] != other["loss"]


def test_resume(prefsim, tmp_path):
    arguments = (*TRAIN, *TWO_STEPS, "--steps", 4, "--save-every", 1, "--keep", 9, "--out", "run")
    whole = report_of(prefsim, *arguments)
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
    resumed = report_of(prefsim, *arguments, "--resume")
    assert resumed == whole
    for name, value in weights("run/model").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_settings_in_a_file(prefsim, tmp_path):
    (tmp_path / "train.toml").write_text(
        'loss = "ipo"\nmodel = "model"\ndata = "pairs.jsonl"\nout = "from-file"\nsteps ='
        " 2\nbatch-size = 3\nlearning_rate = 1e-3\ngradient-checkpointing = true\njson ="
        " true\n\n[set]\ntau = 0.2\n"
    )
    filed = report_of(prefsim, "train", "--config", "train.toml")
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
        *TWO_STEPS,
    )
    assert filed["loss"] == pytest.approx(
        report_of(prefsim, *arguments, "--out", "typed")["loss"], rel=1e-6
    )
    # The command line wins, and of the loss's options one at a time.
    report = report_of(
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


def test_dry_run(prefsim, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    report = report_of(
        *(prefsim, *TRAIN, "--dry-run", "--json", "--epochs", 2, "--batch-size", 4),
        *("--out", "run", "--token-cache", "tokens"),
    )
    assert sorted(tmp_path.rglob("*")) == before
    tokenizer = byte_tokenizer()
    prompts = sum(2 * len(tokenizer(row["prompt"])["input_ids"]) for row in FILM_PAIRS)
    every = [
        len(tokenizer(row["prompt"] + row[name])["input_ids"]) + 1
        for row in FILM_PAIRS
        for name in ("chosen", "rejected")
    ]
    assert report["tokens"] == {
        "prompt": prompts,
        "completion": sum(every) - prompts,
        "longest_sequence": max(every),
        "truncated_rows": 0,
    }
    assert report["data"] == {"rows": 6, "skipped": 0, "unused_columns": [], "faults": []}
    assert report["training"] == {"steps": 4, "epochs": 2.0, "examples_per_step": 4}
    size = sum(p.numel() for p in CausalLM.load("model").model.parameters())
    assert report["parameters"] == {"all": size, "trained": size}
    assert report["memory"]["activations"] == 8 * max(every) * activation_bytes(small_llama())
    code, out, _ = prefsim(*TRAIN, "--dry-run")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[:5]] == [
        "Rows",
        "Tokens",
        "Steps",
        "Parameters",
        "Memory, estimated",
    ]


def test_long_rows_and_unshared_prompts_are_left_out_on_request(prefsim):
    code, out, err = prefsim(*TRAIN[:-1], "long.jsonl", "--dry-run")
    assert (code, out) == (2, "")
    assert "long.jsonl, line 7: a sequence may have 128 tokens" in err
    assert "got 310; see --max-tokens" in err
    found = report_of(
        prefsim, *TRAIN[:-1], "long.jsonl", "--dry-run", "--json", "--max-tokens", 100
    )
    assert (found["data"]["rows"], found["data"]["skipped"]) == (6, 1)
    code, _, err = prefsim(*TRAIN[:-1], "long.jsonl", "--dry-run", "--max-tokens", 3)
    assert (code, err) == (
        2,
        "prefsim: long.jsonl: expected at least one line, got 7, all skipped\n",
    )
    found = report_of(
        prefsim, *TRAIN[:-1], "dialogues.jsonl", "--dry-run", "--json", "--skip-unshared"
    )
    assert (found["data"]["rows"], found["data"]["skipped"]) == (1, 1)
    code, _, err = prefsim(
        *TRAIN[:-1], "dialogues.jsonl", "--skip-unshared", "--steps", 1, "--out", "run"
    )
    assert code == 0
    assert (
        "1 rows skipped, the first: dialogues.jsonl, line 2: chosen and rejected must be the same"
        " dialogue" in err
    )


def test_options_are_those_of_the_engine():
    import inspect

    from prefsim.lm.command.cli import train

    declared = {
        name: parameter.default for name, parameter in inspect.signature(train).parameters.items()
    }
    # Where the command has its own way: it trains what it has loaded, shows bars on terminals, and
    # saves for --resume, and says the parts of a penalty and of an evaluation one by one.
    own = {
        "in_place",
        "progress",
        "save_every",
        "diagnostics",
        "penalty",
        "evaluation",
        "trackers",
        "truncation",
    }
    for field in fields(OnlineKL)[1:]:
        name = {"samples": "online_samples", "max_new_tokens": "online_tokens"}[field.name]
        assert declared[name] == field.default
    assert declared["eval_every"] == Evaluation.every
    assert declared["best_by"] == Evaluation.best_by
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
        configured = configured_loss(name, {})
        if isinstance(configured, losses.RunningLoss):
            assert repr(configured) == repr(trainable_losses()[name]())
        else:
            assert configured.func is trainable_losses()[name]


def test_a_running_loss_by_name():
    from prefsim.lm.command.settings import configured_loss

    loss = configured_loss("running_beta_dpo", {"keep": "0.5", "seed": 3})
    assert repr(loss) == repr(losses.running_beta_dpo(keep=0.5, seed=3))
    with pytest.raises(ValueError, match="'running_bco' has no option 'keep'; it has beta"):
        configured_loss("running_bco", {"keep": 0.5})
    with pytest.raises(ValueError, match="keep must lie in"):
        configured_loss("running_beta_dpo", {"keep": "2"})


def test_two_steps_on_hh_rlhf(prefsim, tmp_path, real_data):
    path = real_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", encoding="utf-8") as stream, contextlib.suppress(StopIteration):
        (tmp_path / "hh.jsonl").write_text(
            "".join(next(stream) for _ in range(60)), encoding="utf-8"
        )
    report = report_of(
        prefsim,
        *TRAIN[:-1],
        "hh.jsonl",
        *TWO_STEPS,
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
    assert commands == 14
    left = {path.name for path in folder.iterdir()}
    assert left >= {"run", "run-ipo", "sft", "rm", "sparse", "tokens", "run-critic"}


@pytest.mark.parametrize("structure", ["cCPO", "n+-b"])
def test_a_preference_structure_trains_by_its_name_or_labels(prefsim, structure):
    options = ("--loss", "semantic", "--set", f"structure={structure}", "--set", "average=true")
    code, _, err = prefsim(*TRAIN, *options, "--steps", "1", "--out", "out", "--json")
    assert code == 0, err
    code, _, err = prefsim(*TRAIN, *options[:-1], "average=1", "--dry-run")
    assert code == 2 and "semantic's average must be true or false" in err
    code, _, err = prefsim(*TRAIN, "--loss", "semantic", "--set", "structure=n+-", "--dry-run")
    assert code == 2 and "structure must be one of 'CEUnl'" in err

"""Whatever is wrong with a command of ``prefsim train`` is said in one line."""

from pathlib import Path

import pytest
from lm_made import FILM_PAIRS, TRAIN

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
    code, out, err = prefsim(*TRAIN, "--dry-run", "--config", "bad.toml")
    assert (code, out) == (2, "")
    assert err.startswith(f"prefsim: bad.toml: {message}")
    assert err.count("\n") == 1


ERRORS = [
    (
        ("--loss", "dppo"),
        "loss 'dppo' is not known; did you mean 'ppo' or 'dpo'? a language model is trained with"
        " one of aldr_kl, ",
    ),
    (
        ("--loss", "spo_degree"),
        "loss 'spo_degree' takes what text cannot give; a language model is trained with one of",
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
    code, out, err = prefsim(*TRAIN, *arguments, *(["--dry-run"] if dry else ["--out", "run"]))
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
    monkeypatch.delitem(sys.modules, "prefsim.lm.command.plan", raising=False)
    code, out, err = prefsim(*TRAIN, "--dry-run")
    assert (code, out) == (2, "")
    assert "`pip install 'prefsim[lm]'` brings" in err


@pytest.mark.parametrize(
    ("loss", "columns", "message"),
    [
        ("sppo", {}, "chosen_score is needed by this loss, got None"),
        ("inpo", {}, "old_chosen is needed by this loss, got None"),
        ("sppo", {"chosen_score": 1.7, "rejected_score": 0.3}, "chosen_score must"),
    ],
)
def test_a_dry_run_fails_where_the_run_would(prefsim, write, loss, columns, message):
    write(*(row | columns for row in FILM_PAIRS), name="own.jsonl")
    arguments = ("train", "--loss", loss, "--model", "model", "--data", "own.jsonl")
    for last in (["--dry-run"], ["--out", "run"]):
        code, _, error = prefsim(*arguments, *last)
        assert code == 2
        assert message in error
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("attention", "message"),
    [("fast", '"fast"` is not supported'), ("flash_attention_2", "FlashAttention2")],
)
@pytest.mark.parametrize("model", ["model", "config.json"])
def test_an_attention_that_is_not_there_is_told(prefsim, attention, message, model):
    arguments = ("train", "--loss", "simpo", "--model", model, "--data", "pairs.jsonl")
    options = ("--tokenizer", "tokenizer", "--attn-implementation", attention)
    for last in (["--dry-run"], ["--out", "run"]):
        code, _, error = prefsim(*arguments, *options, *last)
        assert code == 2
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_what_needs_the_weights_everywhere_is_told(prefsim, write, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    row = {"prompt": "a film?", "completion": " great", "label": True}
    judged = write(row, row | {"prompt": "a log?", "label": False})
    matched = ("--loss", "bco_unpaired", "--data", judged, "--match-prompts")
    for option in (("--precompute",), matched):
        code, _, err = prefsim(*TRAIN, *option, "--out", "unwritten")
        assert code == 2 and f"{option[-1]} needs the weights in every process" in err

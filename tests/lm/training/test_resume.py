"""A training that is killed goes on to the same end; what is on disk is whole or not there."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_made import byte_tokenizer, small_llama

import prefsim
from prefsim import losses
from prefsim.lm import CausalLM, PreferenceModel, TextComparisons
from prefsim.lm.training import checkpoint as disk
from prefsim.lm.training.metrics import read_metrics
from prefsim.solvers import fit

# Importing takes most of the time of a small training: one process imports and forks the trainings,
# which are processes like any other.
SCRIPT = """
import os, signal, sys, time
import numpy as np
sys.path[:0] = {paths!r}
import accelerate, peft, prefsim.lm.training.engine
from lm_made import small_llama
from prefsim import losses
from prefsim.lm import CausalLM, PreferenceModel, TextComparisons
from prefsim.losses import PairLogps
from prefsim.solvers import fit

out, pause = sys.argv[1], 0.0
rng = np.random.default_rng(0)
made = [[rng.integers(3, 64, rng.integers(2, 8)).tolist() for _ in range(11)] for _ in range(3)]
policy = CausalLM.from_config(small_llama(64), seed=0)


def slow_dpo(logps: PairLogps):
    time.sleep(pause)
    return losses.dpo(logps, beta=0.5)


def forked(folder):
    child = os.fork()
    if child == 0:
        result = fit(
            policy, slow_dpo, TextComparisons(*made), reference=policy,
            steps=12, batch_size=4, learning_rate=3e-3, log_every=2, out=f"{{out}}/{{folder}}",
            save_every=3, resume=True, diagnostics=("displacement",), progress=False,
        )
        print(folder, float(result.history[-1, 0]).hex(), flush=True)
        os._exit(0)
    return child


def succeeded(child):
    return os.waitpid(child, 0)[1] == 0


assert succeeded(forked("whole"))
pause = 0.2
child = forked("killed")
while not os.path.exists(f"{{out}}/killed/checkpoints/step-00000006/state.json"):
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "ended before its checkpoint"
    time.sleep(0.02)
time.sleep(0.3)  # into the steps behind the checkpoint
os.kill(child, signal.SIGKILL)
status = os.waitpid(child, 0)[1]
assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
assert not os.path.exists(f"{{out}}/killed/model")
print("reached", max(os.listdir(f"{{out}}/killed/checkpoints")), flush=True)
pause = 0.0
assert succeeded(forked("killed"))
"""


def test_after_kill_9_the_run_ends_as_if_nothing_had_happened(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        SCRIPT.format(
            paths=[str(Path(__file__).parents[2]), str(Path(prefsim.__file__).parents[1])]
        )
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = dict(line.split() for line in ended.stdout.splitlines())
    assert said["reached"] in ("step-00000006", "step-00000009")
    assert said["killed"] == said["whole"], "the same final loss, to the last bit"
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert (
        [line["step"] for line in lines[0]]
        == [line["step"] for line in lines[1]]
        == [0, 2, 4, 6, 8, 10, 12]
    )
    for a, b in zip(*lines, strict=True):
        assert {k: v for k, v in a.items() if "second" not in k} == {
            k: v for k, v in b.items() if "second" not in k
        }
    models = [
        CausalLM.load(tmp_path / name / "model").log_prob_model.state_dict()
        for name in ("whole", "killed")
    ]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def pairs(n=7, seed=0):
    rng = np.random.default_rng(seed)
    return TextComparisons(
        *([rng.integers(3, 64, rng.integers(2, 8)).tolist() for _ in range(n)] for _ in range(3))
    )


@pytest.fixture(scope="module")
def tiny():
    return CausalLM.from_config(small_llama(64), seed=0)


dpo = functools.partial(losses.dpo, beta=0.5)
OPTIONS = {"steps": 6, "batch_size": 3, "learning_rate": 3e-3, "progress": False, "log_every": 2}


def stopping(after):
    """DPO that fails at its call number ``after``, under the name that the checkpoint knows."""
    calls = []

    def stop(logps: losses.PairLogps):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return losses.dpo(logps, beta=0.5)

    return stop


@pytest.mark.parametrize("form", ["whole", "adapters", "tied"])
def test_every_kind_of_model_resumes_to_the_same_parameters(tmp_path, form):
    from peft import LoraConfig

    adapter = (
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "lm_head"])
        if form == "adapters"
        else None
    )
    policy = CausalLM.from_config(
        small_llama(64, tie_word_embeddings=form == "tied"), seed=0, adapter=adapter
    )
    uninterrupted = fit(policy, stopping(99), pairs(), reference=None, **OPTIONS)
    # The property of the loss is measured by a few calls before the first step.
    with pytest.raises(KeyboardInterrupt):
        fit(policy, stopping(7), pairs(), reference=None, out=tmp_path, save_every=2, **OPTIONS)
    reached = disk.latest(tmp_path / "checkpoints")
    assert reached.step in (2, 4)
    resumed = fit(
        policy,
        stopping(99),
        pairs(),
        reference=None,
        out=tmp_path,
        save_every=2,
        resume=True,
        **OPTIONS,
    )
    np.testing.assert_array_equal(resumed.history, uninterrupted.history)
    for (name, a), b in zip(
        uninterrupted.policy.log_prob_model.named_parameters(),
        resumed.policy.log_prob_model.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b), name
    loaded = (
        CausalLM.load(tmp_path / "model")
        if adapter is None
        else CausalLM.from_config(small_llama(64), seed=0, adapter=str(tmp_path / "model"))
    )
    x, y = pairs().prompt, pairs().chosen
    torch.testing.assert_close(
        loaded.log_prob(x, y), resumed.policy.log_prob(x, y), rtol=0, atol=1e-5
    )


def test_a_finished_training_is_not_repeated(tiny, tmp_path):
    first = fit(tiny, dpo, pairs(), reference=tiny, out=tmp_path, save_every=4, **OPTIONS)
    again = fit(
        tiny, dpo, pairs(), reference=tiny, out=tmp_path, save_every=4, resume=True, **OPTIONS
    )
    np.testing.assert_array_equal(again.history, first.history)
    assert [line["step"] for line in again.metrics] == [line["step"] for line in first.metrics]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000006",
    ]


def test_old_checkpoints_are_removed_and_each_can_be_loaded(tmp_path):
    policy = CausalLM.from_config(small_llama(320), byte_tokenizer(), seed=0)
    fit(policy, dpo, pairs(), reference=policy, out=tmp_path, save_every=1, keep=3, **OPTIONS)
    folders = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name[-1] for path in folders] == ["4", "5", "6"]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "SHA256SUMS",
            "model",
            "optimizer.safetensors",
            "random.safetensors",
            "state.json",
        }
        assert CausalLM.load(folder / "model").tokenizer is not None


def test_settings_that_change_the_end_are_refused(tiny, tmp_path):
    fit(tiny, dpo, pairs(), reference=tiny, out=tmp_path, save_every=3, **OPTIONS)
    cases = [
        (
            {"resume": False},
            dpo,
            pairs(),
            "holds a training of 6 steps; give resume=True or another folder",
        ),
        (
            {"learning_rate": 1.0},
            dpo,
            pairs(),
            "learning_rate must be what it was before the interruption, 0.003, got 1.0",
        ),
        ({"steps": 9}, dpo, pairs(), "steps must be what it was before the interruption, 6, got 9"),
        ({}, losses.ipo, pairs(), "loss must be what it was before the interruption"),
        (
            {},
            functools.partial(losses.dpo, beta=0.1),
            pairs(),
            "loss must be .*beta=0.5.* got .*beta=0.1",
        ),
        ({}, dpo, pairs(seed=1), "data must be what it was before the interruption"),
    ]
    for options, loss, data, message in cases:
        with pytest.raises(ValueError, match=message):
            fit(
                tiny,
                loss,
                data,
                reference=tiny,
                **({"out": tmp_path, "save_every": 3, "resume": True} | OPTIONS | options),
            )


def test_a_failed_write_leaves_what_was_there(tmp_path):
    with disk.saved(tmp_path / "it") as folder:
        (folder / "a").write_text("1")

    def fail():
        with disk.saved(tmp_path / "it") as folder:
            (folder / "a").write_text("2")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert (tmp_path / "it/a").read_text() == "1"
    with disk.saved(tmp_path / "it") as folder:
        (folder / "a").write_text("3")
    assert (tmp_path / "it/a").read_text() == "3"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_checkpoint_that_was_being_written_is_not_taken(tiny, tmp_path):
    fit(tiny, dpo, pairs(), reference=tiny, out=tmp_path, save_every=3, **OPTIONS)
    half = tmp_path / "checkpoints/.step-00000009.partial"
    half.mkdir()
    (half / "state.json").write_text('{"step": 9')
    assert disk.latest(tmp_path / "checkpoints").step == 6
    (tmp_path / "checkpoints/step-00000006/state.json").write_text("{")
    with pytest.raises(
        ValueError,
        match=r"step-00000006' cannot be read .*; delete it to resume from the one before",
    ):
        fit(tiny, dpo, pairs(), reference=tiny, out=tmp_path, resume=True, **OPTIONS)


def test_metrics_cut_off_in_the_middle_of_a_line_are_read_up_to_there(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2}) + '\n{"step": ')
    assert [line["step"] for line in read_metrics(file)] == [1, 2]


def test_more_steps_of_a_constant_rate(tmp_path):
    policy = CausalLM.from_config(small_llama(64), seed=0)
    rng = np.random.default_rng(0)
    data = TextComparisons(*([rng.integers(3, 64, 5).tolist() for _ in range(7)] for _ in range(3)))

    def run(folder, steps, **options):
        constant = {"schedule": "constant", "warmup": 0.0, "learning_rate": 3e-3}
        return fit(
            policy,
            losses.dpo,
            data,
            reference=policy,
            steps=steps,
            batch_size=3,
            out=tmp_path / folder,
            save_every=2,
            progress=False,
            **(constant | options),
        )

    whole = run("whole", 7)
    run("cut", 4)
    more = run("cut", 7, resume=True)
    np.testing.assert_array_equal(more.history, whole.history)
    with pytest.raises(ValueError, match=r"steps must be what it was .* 7, got 5"):
        run("cut", 5, resume=True)
    run("linear", 4, schedule="linear")
    with pytest.raises(ValueError, match="more may be asked for with schedule='constant'"):
        run("linear", 7, schedule="linear", resume=True)


@pytest.mark.parametrize("with_head", [False, True])
def test_what_is_frozen_in_bfloat16_rounds_nothing_that_is_trained(tmp_path, with_head):
    made = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    policy = PreferenceModel(made, dim=1, seed=1) if with_head else made
    policy.plain.get_input_embeddings().requires_grad_(False)
    loss = losses.bradley_terry if with_head else dpo

    def run(folder, steps, **options):
        constant = {"schedule": "constant", "warmup": 0.0, "reference": None, "save_every": 2}
        given = OPTIONS | constant | {"steps": steps, "out": tmp_path / folder} | options
        return fit(policy, loss, pairs(), **given)

    whole = run("whole", 4)
    run("cut", 2)
    np.testing.assert_array_equal(run("cut", 4, resume=True).history, whole.history)

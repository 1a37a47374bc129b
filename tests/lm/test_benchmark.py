"""The benchmark of training steps, rehearsed on a processor as it runs on a GPU."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lm.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_with_toys():
    done = run("--gpu", "--rehearse", "--steps", "3", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["gpu"]
    ours = [row for row in rows if row["trainer"] == "prefsim"]
    assert [(row["model"], row["reference"]) for row in ours] == [
        ("toy", "model"),
        ("toy", "precomputed"),
        ("toy-lora", "adapters off"),
    ]
    for row in rows:
        assert row["tokens per second"] > 0 and row["memory"] > 0
        assert 0 < row["rate"] < row["matmul rate"]
        # The policy is its own reference at the first step.
        assert row["losses"][0] == pytest.approx(math.log(2), abs=1e-5)
        if row["model"] == "toy":
            assert row["loss error"] < 1e-4


def test_no_time_leaves_everything_out_by_name():
    done = run("--gpu", "--rehearse", "--minutes", "0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("left out: no time") >= 3
    assert not done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to train on")
def test_without_a_gpu_it_is_refused():
    done = run("--gpu")
    assert done.returncode == 1 and not done.stdout
    assert "--gpu needs a CUDA device, and torch finds none" in done.stderr
    assert run("--rehearse").returncode == 2

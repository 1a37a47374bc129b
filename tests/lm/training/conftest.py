"""The policies that most trainings start from."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lm_made import small_llama

import prefsim

ROOT = Path(prefsim.__file__).parents[1]


@pytest.fixture(scope="session")
def tiny():
    from prefsim.lm import CausalLM

    return CausalLM.from_config(small_llama(64), seed=0)


@pytest.fixture(scope="session")
def tiny64():
    from prefsim.lm import CausalLM

    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


@pytest.fixture(scope="session")
def free_port():
    """What gives a port that nobody listens at."""

    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def fsdp():
    """What ``accelerate launch`` with our configuration sets in the environment, on a CPU."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "prefsim/lm/fsdp.yaml"))
    found = {name.upper(): str(value).lower() for name, value in config.fsdp_config.items()}
    return found | {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_TORCH_DEVICE": "cpu"}


@pytest.fixture(scope="session")
def launch(free_port, fsdp):
    """What runs a script that makes processes of its own, and returns what it said as it went.

    Its text is filled in with ``paths``, so many ``ports``, ``fsdp`` and whatever else is given.
    """

    def run(script, out, *, ports, seconds=300, **filled):
        file = out / "launched.py"
        paths = [str(ROOT / "tests"), str(ROOT)]
        found = [free_port() for _ in range(ports)]
        file.write_text(script.format(paths=paths, ports=found, fsdp=fsdp, **filled))
        ended = subprocess.run(
            [sys.executable, str(file), str(out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert ended.returncode == 0, ended.stderr[-5000:]
        return ended.stderr

    return run

"""The policies that most trainings start from."""

import socket

import pytest
from lm_made import small_llama


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

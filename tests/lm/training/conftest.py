"""The policies that most trainings start from."""

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

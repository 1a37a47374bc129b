"""The tokenizer and the model that most tests share."""

import pytest
from lm_made import byte_tokenizer, small_llama


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="session")
def llama(tokenizer):
    from prefsim.lm import CausalLM

    return CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)

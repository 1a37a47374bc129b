"""A tiny transformer over the vocabulary of a token tree, and its table."""

import pytest
from lm_tree import PROMPTS, TREE

from prefsim.lm import CausalLM, tree_policy


@pytest.fixture(scope="session")
def start():
    from transformers import GPT2Config

    config = GPT2Config(
        vocab_size=3,
        n_embd=24,
        n_layer=1,
        n_head=2,
        n_positions=8,
        bos_token_id=None,
        eos_token_id=2,
        initializer_range=0.2,
    )
    return CausalLM.from_config(config, seed=0)


@pytest.fixture(scope="session")
def reference(start):
    return tree_policy(start, TREE, PROMPTS)

"""Two models, TRL's trainer of them, and its pairs."""

import pytest
from lm_made import byte_tokenizer, small_llama

from prefsim.lm import CausalLM, TextComparisons


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer of these tests alone: trainers may set its special tokens."""
    return byte_tokenizer()


@pytest.fixture(scope="session")
def models(tokenizer):
    """A policy, and a reference that is another model, so that no log-ratio is zero."""
    config = small_llama(len(tokenizer), initializer_range=0.15)
    return tuple(CausalLM.from_config(config, tokenizer, seed=seed) for seed in (0, 1))


@pytest.fixture(scope="session")
def dpo_trainer(models, tokenizer, tmp_path_factory):
    from trl_oracle import trainer_of

    return trainer_of(models, tokenizer, tmp_path_factory.mktemp("dpo"))


@pytest.fixture(scope="session")
def pairs(dpo_trainer):
    """The pairs in TRL's own tokens."""
    data = dpo_trainer.train_dataset
    return TextComparisons(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"])

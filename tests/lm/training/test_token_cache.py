"""Tokens on disk: made once, the same, and never those of another text or tokenizer."""

import numpy as np
import pytest
from lm_made import byte_tokenizer, small_llama

from prefsim import losses
from prefsim.containers import PairLogps
from prefsim.lm import CausalLM, TextComparisons, Truncation
from prefsim.lm.training.token_rows import token_rows
from prefsim.solvers import fit

FILMS = TextComparisons(
    ["was it a good film?", "was it?"], [" it was great", " yes"], [" it was dull", " no, no"]
)
CHATS = TextComparisons(
    [[{"role": "user", "content": "hello"}]],
    [[{"role": "assistant", "content": "a film"}]],
    [[{"role": "assistant", "content": "no"}]],
)
NUMBERS = TextComparisons([np.array([3, 4])], [[5]], [[6, 7]])


@pytest.fixture
def counted(monkeypatch):
    """How many sequences were made into tokens."""
    count, encode = [], CausalLM.encode

    def watched(self, prompts, completions):
        count.append(len(prompts))
        return encode(self, prompts, completions)

    monkeypatch.setattr(CausalLM, "encode", watched)
    return count


@pytest.mark.parametrize("data", [FILMS, CHATS, NUMBERS], ids=["text", "chat", "ids"])
def test_what_is_kept_is_what_was_made(llama, tmp_path, counted, data):
    plain = token_rows(llama, data, PairLogps)
    made = token_rows(llama, data, PairLogps, cache=tmp_path / "tokens")
    before = sum(counted)
    read = token_rows(llama, data, PairLogps, cache=tmp_path / "tokens")
    assert sum(counted) == before > 0
    for other in (made, read):
        assert other.tokens == plain.tokens and other.per_example == plain.per_example
        np.testing.assert_array_equal(other.lengths, plain.lengths)
    cut = Truncation(max_tokens=11, side="completion")
    if data is FILMS:
        with_cut = [
            token_rows(llama, data, PairLogps, cut, cache=cache)
            for cache in (None, tmp_path / "tokens")
        ]
        assert with_cut[0].tokens == with_cut[1].tokens and with_cut[1].truncated == 2


def test_another_text_or_tokenizer_or_use_is_kept_apart(tmp_path, counted):
    tokenizer = byte_tokenizer()
    policy = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    other = byte_tokenizer(300)
    template = byte_tokenizer()
    template.chat_template = template.chat_template.replace("+ '|>'", "+ '|> '")
    splitting = byte_tokenizer()
    splitting.split_special_tokens = True
    changed = [
        (policy, FILMS.take([1, 0])),
        (CausalLM(policy.log_prob_model, tokenizer, append_eos=False), FILMS),
        (CausalLM(policy.log_prob_model, other), FILMS),
        (CausalLM(policy.log_prob_model, template), FILMS),
        (CausalLM(policy.log_prob_model, splitting), FILMS),
        (CausalLM.from_config(small_llama(320, eos_token_id=5), tokenizer, seed=0), FILMS),
        (CausalLM(policy.log_prob_model, tokenizer, chat_template_kwargs={"a": 1}), FILMS),
    ]
    for number, (model, data) in enumerate([(policy, FILMS), *changed], start=1):
        before = sum(counted)
        found = token_rows(model, data, PairLogps, cache=tmp_path)
        assert sum(counted) > before
        assert found.tokens == token_rows(model, data, PairLogps).tokens
        assert len(list(tmp_path.iterdir())) == number


def test_a_warning_is_kept_too(tmp_path):
    from tokenizers import normalizers

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    policy = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    shouted = TextComparisons(["WAS it?"], [" yes"], [" no"])
    for _ in range(2):
        with pytest.warns(UserWarning, match="the tokenizer writes 2 of 2 texts otherwise"):
            token_rows(policy, shouted, PairLogps, cache=tmp_path)


def test_damage_is_named(llama, tmp_path):
    token_rows(llama, FILMS, PairLogps, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-8], whole[:-8] + bytes(8), b""):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot be read .*; delete the file to make them"):
            token_rows(llama, FILMS, PairLogps, cache=tmp_path)
    with pytest.raises(ValueError, match="token_cache must be a folder that can be written to"):
        token_rows(llama, FILMS, PairLogps, cache=file / "below")


def test_a_tokenizer_that_cannot_be_told_from_others_is_refused(llama, tmp_path):
    class Own:
        def __getattr__(self, name):
            if name == "backend_tokenizer":
                raise AttributeError(name)
            return getattr(llama.tokenizer, name)

    policy = CausalLM(llama.log_prob_model, Own())
    with pytest.raises(ValueError, match="whose rules can be read, got Own"):
        token_rows(policy, FILMS, PairLogps, cache=tmp_path)


def test_fit_makes_tokens_once(llama, tmp_path, counted):
    options = {"steps": 1, "batch_size": 2, "reference": llama, "progress": False}
    first = fit(llama, losses.dpo, FILMS, token_cache=tmp_path, **options)
    before = sum(counted)
    again = fit(llama, losses.dpo, FILMS, token_cache=tmp_path, **options)
    assert sum(counted) == before
    assert again.value == first.value

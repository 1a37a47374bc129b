"""Texts that a tokenizer writes otherwise than they were given are counted and said, once."""

import warnings

import pytest
from lm_made import byte_tokenizer, sentencepiece_tokenizer, small_llama
from tokenizers import normalizers

from prefsim.containers import PairLogps
from prefsim.lm import CausalLM, TextComparisons
from prefsim.lm.training.altered_text import rewrites
from prefsim.lm.training.token_rows import token_rows

TEXTS = TextComparisons(
    ["Is it Good?", "was it good?"], ["It is great!", "a great film!"], ["no", "it was bad"]
)


def normalising(normaliser):
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normaliser
    return tokenizer


def rows_of(tokenizer, texts=TEXTS):
    policy = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    return token_rows(policy, texts, PairLogps)


def test_which_tokenizers_rewrite():
    assert not rewrites(byte_tokenizer())
    assert not rewrites(normalising(normalizers.NFC()))
    assert rewrites(normalising(normalizers.Lowercase()))
    assert rewrites(normalising(normalizers.NFKC()))
    assert rewrites(normalising(normalizers.Replace("  ", " ")))


def test_lower_case_is_said_once_with_the_first_text():
    with pytest.warns(UserWarning, match="the tokenizer writes 2 of 4 texts otherwise") as caught:
        rows = rows_of(normalising(normalizers.Lowercase()))
    (warning,) = caught
    assert "example 0 has 'Is it Good?It is great!'" in str(warning.message)
    assert "is it good?it is great!" in str(warning.message)
    assert len(rows.tokens) == 4


def test_normal_forms_that_change_nothing_are_not_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows_of(normalising(normalizers.NFKC()))
        rows_of(byte_tokenizer())
    wide = TextComparisons(["ﬁne?"], ["yes"], ["no"])
    with pytest.warns(UserWarning, match="writes 2 of 2 texts"):
        rows_of(normalising(normalizers.NFKC()), wide)


def test_messages_are_looked_at_too():
    asked = [[{"role": "user", "content": "Was It Good?"}]]
    answers = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    chat = TextComparisons(asked, answers[:1], answers[1:])
    with pytest.warns(UserWarning, match="example 0 has 'Was It Good\\?'"):
        rows_of(normalising(normalizers.Lowercase()), chat)


@pytest.mark.parametrize("kind", ["first", "always", "normalizer"])
def test_a_space_behind_a_special_token(kind):
    tokenizer = sentencepiece_tokenizer(kind)
    policy = CausalLM.from_config(small_llama(len(tokenizer)), tokenizer, seed=0)
    plain = TextComparisons(["Q: "], ["was"], ["the dog"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        token_rows(policy, plain, PairLogps)
    marked = TextComparisons(["the dog</s>"], ["was"], ["</s> the dog"])
    if kind == "first":
        token_rows(policy, marked, PairLogps)
        return
    with pytest.warns(UserWarning, match="example 0 has 'the dog</s>was' as"):
        token_rows(policy, marked, PairLogps)

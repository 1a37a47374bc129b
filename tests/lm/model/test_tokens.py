"""Text, chat messages and ids.

The boundary between prompt and completion, the end token, padding.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_made import TEMPLATE, byte_tokenizer

from prefsim.lm import Tokens, collate, encode

TOKENIZER = byte_tokenizer()
EOS = 2


def text(ids):
    return TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@given(prompt=st.text(min_size=1, max_size=12), completion=st.text(max_size=12))
def test_texts_survive_and_the_prompt_does_not_depend_on_the_completion(prompt, completion):
    found = encode(TOKENIZER, prompt, completion, append_eos=True)
    assert found.prompt_ids == TOKENIZER(prompt)["input_ids"]
    assert found.completion_ids[-1] == EOS
    assert text(found.prompt_ids) == prompt
    assert text(found.completion_ids) == completion


def test_a_merge_over_the_boundary_is_not_made():
    whole = TOKENIZER("hello there")["input_ids"]
    for cut in range(1, 11):
        prompt, completion = "hello there"[:cut], "hello there"[cut:]
        found = encode(TOKENIZER, prompt, completion, append_eos=False)
        assert found.prompt_ids == TOKENIZER(prompt)["input_ids"]
        assert text(found.prompt_ids) + text(found.completion_ids) == "hello there"
    inside = encode(TOKENIZER, "hel", "lo there", append_eos=False)
    assert inside.prompt_ids + inside.completion_ids != whole, (
        "the cut must go through a token for this test to mean something"
    )
    clean = encode(TOKENIZER, "hello", " there", append_eos=False)
    assert clean.prompt_ids + clean.completion_ids == whole


def test_the_end_token_is_added_once_and_only_when_asked():
    assert encode(TOKENIZER, "a", "b", append_eos=False).completion_ids[-1] != EOS
    assert encode(TOKENIZER, "a", "b", append_eos=True).completion_ids.count(EOS) == 1
    assert encode(TOKENIZER, "a", "b</s>", append_eos=True).completion_ids.count(EOS) == 1
    assert encode(TOKENIZER, "a", "", append_eos=True).completion_ids == [EOS]
    assert encode(None, [1, 5], [7], append_eos=True) == Tokens([1, 5], [7])


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt():
    ending = byte_tokenizer(ends_with_eos=True)
    assert encode(ending, "the cat", " sat", append_eos=True) == encode(
        TOKENIZER, "the cat", " sat", append_eos=True
    )


def test_an_empty_prompt_is_the_beginning_of_sequence():
    assert encode(TOKENIZER, "", "cat", append_eos=False).prompt_ids == [1]


def test_chat_messages_follow_the_template_up_to_the_end_of_the_turn():
    prompt = [{"role": "user", "content": "was it good?"}]
    found = encode(
        TOKENIZER, prompt, [{"role": "assistant", "content": "a great film!"}], append_eos=True
    )
    assert TOKENIZER.decode(found.prompt_ids) == "<s><|user|>was it good?<|assistant|>"
    assert (
        TOKENIZER.decode(found.completion_ids) == "a great film!</s>"
    )  # the template's line break is behind the end
    assert encode(TOKENIZER, prompt, "a great film!", append_eos=True) == found


def test_a_template_that_rewrites_the_prompt_is_an_error():
    strange = byte_tokenizer()
    strange.chat_template = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(ValueError, match="they part at token"):
        encode(strange, [{"role": "user", "content": "hi"}], "yes", append_eos=True)


@pytest.mark.parametrize(
    ("prompt", "completion", "tokenizer", "message"),
    [
        ("a", "b", None, "need a tokenizer"),
        ([1], "b", None, "need a tokenizer"),
        (
            [1],
            [{"role": "assistant", "content": "b"}],
            TOKENIZER,
            "needs a prompt in chat messages",
        ),
        (
            "a",
            [{"role": "assistant", "content": "b"}],
            TOKENIZER,
            "needs a prompt in chat messages",
        ),
        ([1, -1], [1], None, "prompt ids must be >= 0, got -1 at index 1"),
        ([1], [0.5], None, "completion ids must hold integers"),
    ],
)
def test_bad_rows(prompt, completion, tokenizer, message):
    with pytest.raises(ValueError, match=message):
        encode(tokenizer, prompt, completion, append_eos=True)


def test_messages_need_a_template():
    bare = byte_tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="need a tokenizer with a chat template"):
        encode(bare, [{"role": "user", "content": "hi"}], "yes", append_eos=True)


def test_batches():
    rows = [Tokens([1, 5], [6, 7, 2]), Tokens([1], [2])]
    right = collate(rows, pad_id=9)
    assert right.input_ids.tolist() == [[1, 5, 6, 7, 2], [1, 2, 9, 9, 9]]
    assert right.attention_mask.tolist() == [[True] * 5, [True, True, False, False, False]]
    assert right.completion_mask.tolist() == [
        [False, False, True, True, True],
        [False, True, False, False, False],
    ]
    left = collate(rows, pad_id=9, side="left", multiple_of=4)
    assert left.input_ids.tolist() == [[9, 9, 9, 1, 5, 6, 7, 2], [9, 9, 9, 9, 9, 9, 1, 2]]
    assert left.completion_mask.sum(dim=1).tolist() == [3, 1]
    assert left.to("cpu").input_ids is not None


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "at least one sequence"),
        ([Tokens([1], [2]), Tokens([1], [])], {}, "row 1 has a completion without tokens"),
        ([Tokens([], [2])], {}, "row 0 has a prompt without tokens"),
        ([Tokens([1], [2])], {"side": "top"}, "side must be one of"),
        ([Tokens([1], [2])], {"multiple_of": 0}, "multiple_of must be an integer >= 1"),
    ],
)
def test_bad_batches(rows, options, message):
    with pytest.raises(ValueError, match=message):
        collate(rows, pad_id=0, **options)

"""Text, chat messages and ids as tokens.

The boundary between prompt and completion, the end token, templates; what is trained is what was
given.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_made import TEMPLATE, byte_tokenizer, sentencepiece_tokenizer

from prefsim.lm import Tokens, encode

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
    with pytest.raises(ValueError, match="they part at character 1"):
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


SENTENCE_PIECE = {
    kind: sentencepiece_tokenizer(kind) for kind in ("first", "always", "normalizer", "unigram")
}
WORDS = st.text(alphabet="the dogswami", max_size=9)


@pytest.mark.parametrize("kind", SENTENCE_PIECE)
@given(prompt=WORDS, completion=WORDS.filter(bool))
def test_no_space_is_trained_that_was_not_given(kind, prompt, completion):
    tokenizer = SENTENCE_PIECE[kind]
    found = encode(tokenizer, prompt, completion, append_eos=False)
    whole = tokenizer.decode(tokenizer(prompt + completion)["input_ids"])
    assert tokenizer.decode(found.prompt_ids + found.completion_ids) == whole
    assert whole.endswith(completion)
    assert found.prompt_ids == tokenizer(prompt)["input_ids"]


@pytest.mark.parametrize("kind", SENTENCE_PIECE)
def test_a_prompt_that_ends_in_a_space(kind):
    tokenizer = SENTENCE_PIECE[kind]
    found = encode(tokenizer, "the dog was ", "good", append_eos=False)
    assert tokenizer.decode(found.completion_ids).strip() == "good"
    assert tokenizer.decode(found.prompt_ids + found.completion_ids).endswith("dog was good")


@pytest.mark.parametrize("kind", SENTENCE_PIECE)
def test_a_completion_behind_token_ids(kind):
    tokenizer = SENTENCE_PIECE[kind]
    ids = tokenizer("the dog was ")["input_ids"]
    found = encode(tokenizer, ids, "good", append_eos=False)
    assert found.prompt_ids == ids
    assert tokenizer.decode(ids + found.completion_ids).endswith("dog was good")


def test_a_row_that_no_tokens_spell_is_refused():
    class Words:
        """Writes a space in front of every word, whatever is there."""

        bos_token_id = eos_token_id = unk_token_id = None
        words = ("go", "od?", "good?", "yes", "other")

        def __call__(self, text, add_special_tokens=True):
            found = text.split()
            return {
                "input_ids": [self.words.index(w if w in self.words else "other") for w in found]
            }

        def decode(self, ids, **_):
            return "".join(f" {self.words[token]}" for token in ids)

    assert encode(Words(), "good?", " yes", append_eos=False) == Tokens([2], [3])
    with pytest.raises(ValueError, match=r"the text of both, .* in ' good\?', got ' go od\?'"):
        encode(Words(), "go", "od?", append_eos=False)


def test_what_the_tokenizer_has_no_tokens_for_is_refused():
    with pytest.raises(ValueError, match=r"tokens for the whole text, got '<unk>' for a part of"):
        encode(SENTENCE_PIECE["unigram"], "the dog", " \N{DOG}", append_eos=False)
    written = encode(SENTENCE_PIECE["unigram"], "the dog", " <unk>", append_eos=False)
    assert 0 in written.completion_ids


@pytest.mark.parametrize("tokenizer", [TOKENIZER, *SENTENCE_PIECE.values()])
@pytest.mark.parametrize(("prompt", "completion"), [("<s>the dog", " was"), ("", "<s>the dog was")])
def test_a_beginning_that_is_written_is_not_added(tokenizer, prompt, completion):
    found = encode(tokenizer, prompt, completion, append_eos=False)
    assert (found.prompt_ids + found.completion_ids).count(1) == 1
    twice = encode(tokenizer, "<s>" + prompt, completion, append_eos=False)
    assert (twice.prompt_ids + twice.completion_ids).count(1) == 2


ASK = [{"role": "user", "content": "was it good?"}]


def with_template(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def parts(tokenizer, prompt, completion, **options):
    found = encode(tokenizer, prompt, completion, append_eos=True, **options)
    return tuple(tokenizer.decode(ids) for ids in found)


TURNS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.mark.parametrize("answer", ["it was", "the plot was dull", " hello", "hello", "\nhello"])
def test_a_generation_prompt_may_end_in_a_space(answer):
    assert parts(with_template(TURNS), ASK, answer) == (
        "user: was it good?\nassistant: ",
        f"{answer}</s>",
    )


# Generation is asked to reason; a dialogue holds answers alone, and no reasoning of earlier turns.
REASONING = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|assistant|>' +"
    " m['content'].split('</think>')[-1] + eos_token }}{% else %}{{ '<|user|>' + m['content'] }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if thinking is not defined or thinking %}{{ '<think>\\n' }}{% endif %}{% endif %}"
)


@pytest.mark.parametrize("answer", ["it was", "<b>it was</b>", "<thin", "</s>"])
def test_where_a_template_opens_reasoning_the_prompt_ends_before_it(answer):
    tokenizer = with_template(REASONING)
    expected = ("<s><|user|>was it good?<|assistant|>", answer.removesuffix("</s>") + "</s>")
    assert parts(tokenizer, ASK, answer) == expected
    assert parts(tokenizer, ASK, answer, chat_template_kwargs={"thinking": False}) == expected
    # What is sampled was sampled behind what generation sees.
    sampled = encode(tokenizer, ASK, [7], append_eos=True)
    assert tokenizer.decode(sampled.prompt_ids) == expected[0] + "<think>\n"


def test_options_of_a_template_reach_it():
    tokenizer = with_template("{{ 'thinking ' if thinking else '' }}" + TEMPLATE)
    assert parts(tokenizer, ASK, "yes", chat_template_kwargs={"thinking": True})[0] == (
        "thinking <s><|user|>was it good?<|assistant|>"
    )


@pytest.mark.parametrize(
    ("template", "prompt", "completion", "message"),
    [
        (REASONING, ASK, "<think>hm</think>it was", "the whole completion, but leaves out '<think"),
        (
            TURNS.replace("messages %}", "messages if m['role'] != 'system' %}", 1),
            [{"role": "system", "content": "Be short."}, *ASK],
            "yes",
            "the whole prompt, but leaves out 'Be short.', of a message by 'system'",
        ),
        (
            TURNS,
            ASK,
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": {"name": "look_up"}}],
                }
            ],
            "leaves out 'look_up'",
        ),
        (
            "{{ raise_exception('System role not supported') }}",
            ASK,
            "yes",
            "the chat template refuses the messages: TemplateError: System role not supported",
        ),
        ("{{ 1 // 0 }}", ASK, "yes", "refuses the messages: ZeroDivisionError"),
        ("{% for %}", ASK, "yes", "refuses the messages: TemplateSyntaxError"),
        # Instructions that are repeated in the last question alone.
        (
            "{% for m in messages %}{{ m['role'] + (': think! ' if loop.last and m['role'] != "
            "'assistant' else ': ') + m['content'] + eos_token }}{% endfor %}",
            ASK,
            "yes",
            "must render the prompt as the beginning of the dialogue; they part at character 7",
        ),
    ],
)
def test_templates_that_do_not_render_what_was_given(template, prompt, completion, message):
    with pytest.raises(ValueError, match=message):
        encode(with_template(template), prompt, completion, append_eos=True)


SAID = {
    "tool_calls": [{"arguments": "{}"}],
    "function_call": {"arguments": "{}"},
    "reasoning_content": "hm",
    "thinking": "hm",
    "images": ["a.png"],
}


@pytest.mark.parametrize("key", SAID)
def test_what_a_message_says_besides_its_content_is_written_or_refused(key):
    answer = {"role": "assistant", "content": "yes", key: SAID[key]}
    with pytest.raises(ValueError, match=rf"leaves out the {key} of a message by 'assistant'"):
        encode(with_template(TURNS), ASK, [answer], append_eos=True)
    writes = TURNS.replace("m['content']", f"m['content'] ~ (m['{key}'] | tojson if m['{key}'])")
    found = encode(with_template(writes), ASK, [answer], append_eos=True)
    plain = encode(with_template(writes), ASK, "yes", append_eos=True)
    assert len(found.completion_ids) > len(plain.completion_ids)
    # An earlier answer's reasoning need not be kept, but what it called.
    earlier = [*ASK, answer, *ASK]
    if key in ("tool_calls", "function_call"):
        with pytest.raises(ValueError, match=f"leaves out the {key}"):
            encode(with_template(TURNS), earlier, "no", append_eos=True)
    else:
        assert encode(with_template(TURNS), earlier, "no", append_eos=True).completion_ids


def test_an_option_that_a_template_does_not_have_is_named():
    options = {"enable_thinkin": False}
    with pytest.raises(ValueError, match=r"chat_template_kwargs .* has no 'enable_thinkin'"):
        encode(with_template(REASONING), ASK, "yes", append_eos=True, chat_template_kwargs=options)


STARTED = [*ASK, {"role": "assistant", "content": "it was"}]


@pytest.mark.parametrize("template", [TEMPLATE, TURNS, REASONING])
@pytest.mark.parametrize(
    "completion", [" a great film", [{"role": "assistant", "content": " a great film"}]]
)
def test_a_prompt_that_ends_in_a_started_answer_is_continued(template, completion):
    tokenizer = with_template(template)
    prompt, answer = parts(tokenizer, STARTED, completion)
    assert prompt.endswith("it was") and answer == " a great film</s>"
    whole = tokenizer.apply_chat_template(
        [*ASK, {"role": "assistant", "content": "it was a great film"}], tokenize=False
    )
    assert prompt + answer == whole.rstrip("\n")
    sampled = encode(tokenizer, STARTED, [7], append_eos=True)
    assert tokenizer.decode(sampled.prompt_ids) == prompt


def test_only_text_is_continued():
    for started in ({"content": ""}, {"content": [{"type": "text", "text": "it"}]}, {}):
        prompt = [*ASK, {"role": "assistant", **started}]
        with pytest.raises(ValueError, match="this message must be text alone"):
            encode(TOKENIZER, prompt, "yes", append_eos=True)


def test_generation_stops_at_the_first_of_two_end_tokens():
    twice = with_template(TEMPLATE + "{{ '' if add_generation_prompt else eos_token }}")
    assert parts(twice, ASK, "yes")[1] == "yes</s>"
    answers = [{"role": "assistant", "content": text} for text in ("yes", "no")]
    assert parts(twice, ASK, answers)[1] == "yes</s>\n<|assistant|>no</s>"


def test_what_the_tokenizer_refuses_is_said():
    with pytest.raises(ValueError, match=r"got the lone surrogate '\\ud800' at character 4"):
        encode(TOKENIZER, "the\ud800", "yes", append_eos=True)

    class Broken:
        bos_token_id = eos_token_id = None

        def __call__(self, text, **_):
            raise KeyError(text)

    with pytest.raises(ValueError, match="the tokenizer refuses: KeyError"):
        encode(Broken(), "the", "yes", append_eos=True)

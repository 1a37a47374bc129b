"""What columns and messages mean: used or refused by name, never dropped or guessed."""

import json

import pytest
from lm_made import TWO_STEPS, byte_tokenizer, report_of
from text_rows import HEAD, NO, PAIR, SYSTEM, USER, YES, columns, pairs

from prefsim.lm import TextFeedback, read_text_data

CHAT = {"prompt": [USER], "chosen": [YES], "rejected": [NO]}
TEXTS = {"chosen": "It is 4.", "rejected": "It is 5."}
TURNS = {"chosen": HEAD + " Yes.", "rejected": HEAD + " No."}
DIALOGUES = {"chosen": [USER, YES], "rejected": [USER, NO]}


@pytest.mark.parametrize(
    "further",
    [{"question": "What is 2 + 2?"}, {"id": 7}, {"prompt": None}, {"prompt": None, "a": 1}],
)
def test_no_prompt_is_guessed_beside_other_columns(write, further):
    with pytest.raises(ValueError, match=r"line 1: (the )?prompt must be"):
        read_text_data(write(TEXTS | further))
    with pytest.raises(ValueError, match=r"line 1: (the )?prompt must be"):
        read_text_data(write(further | TEXTS), skip_unshared=True)


@pytest.mark.parametrize("row", [TURNS, DIALOGUES])
def test_dialogues_say_their_prompt_but_not_beside_an_empty_one(write, row):
    assert read_text_data(write(row | {"id": 7})).unused == ("id",)
    with pytest.raises(ValueError, match=r"line 2: prompt must be text, .* got None"):
        read_text_data(write(row, row | {"prompt": None}))


def test_a_prompt_that_comes_late_is_not_dropped(write):
    with pytest.raises(
        ValueError, match="line 2: expected the columns chosen, rejected, as in the first row"
    ):
        read_text_data(write(TURNS, TURNS | {"prompt": "Is it good?"}))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (CHAT | {"system": "Be short."}, ([SYSTEM, USER], [YES], [NO])),
        (CHAT | {"system_prompt": "Be short."}, ([SYSTEM, USER], [YES], [NO])),
        (DIALOGUES | {"system": "Be short."}, ([SYSTEM, USER], [YES], [NO])),
        (CHAT | {"prompt": [SYSTEM, USER], "system": "Be short."}, ([SYSTEM, USER], [YES], [NO])),
        (CHAT | {"prompt": "Is it good?", "system": "Be short."}, ([SYSTEM, USER], [YES], [NO])),
        (CHAT | {"system": ""}, ([USER], [YES], [NO])),
        (CHAT | {"tools": [], "images": None, "chat_template_kwargs": {}}, ([USER], [YES], [NO])),
    ],
)
def test_a_system_message_in_a_column_is_the_first(write, row, expected):
    found = read_text_data(write(row))
    assert pairs(found) == [expected]
    assert not {"system", "system_prompt"} & set(found.unused)


def test_prompts_of_rejected_completions_and_mismatched_ones_are_read(write):
    found = read_text_data(write(PAIR | {"rejected_prompt": "Was it?"})).data
    assert found.rejected_prompt == ["Was it?"]
    row = {"prompt": "Hi", "completion": " you", "label": True, "mismatched": " they"}
    assert read_text_data(write(row)).data.mismatched == [" they"]
    with pytest.raises(ValueError, match=r"line 2: expected the columns .* got no mismatched"):
        read_text_data(write(row, row | {"mismatched": None}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PAIR | {"system": "Be short."}, "system message needs a prompt in chat messages"),
        (CHAT | {"prompt": [SYSTEM, USER], "system": "Be long."}, "one system message, got 'Be l"),
        (CHAT | {"system": 3}, "system must be text, got 3"),
        (CHAT | {"tools": [{"name": "look_up"}]}, "tools would change what the row says"),
        (CHAT | {"tools": '[{"name": "look_up"}]'}, "tools would change what the row says"),
        (PAIR | {"ref_chosen_logps": -3.5, "ref_rejected_logps": -4}, "ref_chosen_logps would"),
        (PAIR | {"reference_rejected_logps": -4}, "reference_rejected_logps would"),
        (PAIR | {"ref_logp_chosen": -4}, "ref_logp_chosen would"),
        (PAIR | {"reference_logps": [-4, -3]}, "reference_logps would"),
        (PAIR | {"rejected_ref_log_probs": -4}, "rejected_ref_log_probs would"),
        (CHAT | {"images": ["cat.png"]}, "images would change"),
        (CHAT | {"chat_template_kwargs": {"thinking": True}}, "chat_template_kwargs would"),
        (PAIR | {"label": 0}, "label would change what the row says"),
        (PAIR | {"history": [["a", "b"]]}, "history would change"),
        (CHAT | {"conversations": [USER]}, "conversations would change"),
        (CHAT | {"messages": [SYSTEM, USER]}, "messages must be what prompt, chosen or rejected"),
        (PAIR | {"samples": [" a", " b"]}, "got those of two kinds: prompt, chosen, rejected and"),
        (
            CHAT | {"chosen": [YES | {"weight": 0}]},
            r"chosen\[0\] must be learned as a whole, got weight 0",
        ),
        (DIALOGUES | {"rejected": [USER, NO | {"train": False}]}, "learned as a whole, got train"),
        (CHAT | {"prompt": [USER | {"role": "oracle"}]}, "by one of system, .* the role 'oracle'"),
        # What the answers share is theirs; a question must be shared.
        ({"chosen": [YES, YES], "rejected": [YES, NO]}, "a question among them"),
        # Answers that call tools, and what the tools say: not the model's words.
        (
            CHAT | {"chosen": [YES, {"role": "tool", "content": "4"}, YES]},
            "turns of the assistant behind the prompt, got 'assistant', 'tool', 'assistant'",
        ),
    ],
)
def test_what_would_be_dropped_is_refused(write, row, message):
    with pytest.raises(ValueError, match=rf"line 1: .*{message}"):
        read_text_data(write(row))


def test_every_row_is_looked_at(write):
    for column in ("tools", "ref_chosen_logps", "label"):
        with pytest.raises(ValueError, match=rf"line 3: {column} would change"):
            read_text_data(write(CHAT, CHAT | {column: None}, CHAT | {column: [1]}))


def test_messages_that_repeat_the_chosen_dialogue_are_not_used(write):
    row = {"prompt": "Is it good?", "messages": [USER, YES]} | DIALOGUES
    found = read_text_data(write(row))
    assert pairs(found) == [([USER], [YES], [NO])]
    assert found.unused == ("messages",)


HUMAN, GPT, GPT_NO = (
    {"from": who, "value": text}
    for who, text in (("human", "Is it good?"), ("gpt", "Yes."), ("gpt", "No."))
)


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [HUMAN], "chosen": GPT, "rejected": GPT_NO},
        {"conversations": [HUMAN], "chosen": [GPT], "rejected": [GPT_NO]},
        {"conversations": [USER], "chosen": "Yes.", "rejected": "No."},
        {"chosen": [HUMAN, GPT], "rejected": [HUMAN, GPT_NO]},
        {"prompt": "Is it good?", "chosen": [HUMAN, GPT], "rejected": [HUMAN, GPT_NO]},
        {"messages": [USER], "chosen": YES, "rejected": NO},
        {"messages": [USER, YES], "chosen": [USER, YES], "rejected": [USER, NO]},
        {
            "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [YES],
            "non_preferred_output": [NO],
        },
        {"prompt": [USER], "chosen": YES, "rejected": NO},
        {
            "prompt": [USER | {"content": [{"type": "text", "text": "Is it "}, {"text": "good?"}]}],
            "chosen": [YES | {"content": ["Yes."]}],
            "rejected": [NO],
        },
    ],
)
def test_layouts_of_other_tools(write, row):
    as_text = [
        tuple(
            part[0]["content"] if isinstance(part, list) and i else part
            for i, part in enumerate(found)
        )
        for found in pairs(read_text_data(write(row)))
    ]
    assert as_text == [([USER], "Yes.", "No.")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, YES], "label": True},
        {"conversations": [HUMAN, GPT], "label": True},
        {"conversations": [HUMAN, GPT], "kto_tag": True},
        {"messages": [USER, YES], "kto_tag": True},
        {"prompt": "Is it good?", "completion": [YES], "label": True},
        {"prompt": [USER], "completion": YES, "label": True},
    ],
)
def test_judged_dialogues(write, row):
    found = read_text_data(write(row)).data
    assert isinstance(found, TextFeedback)
    assert columns(found, "prompt", "completion") == ([[USER]], [[YES]])
    assert found.label.tolist() == [1.0]


def test_turns_of_tools_stay_in_the_prompt(write):
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "look_up"}}]}
    result = {"role": "tool", "content": "4"}
    found = read_text_data(
        write({"chosen": [USER, call, result, YES], "rejected": [USER, call, result, NO]})
    )
    assert pairs(found) == [([USER, call | {"content": ""}, result], [YES], [NO])]


def test_a_shared_turn_of_the_assistant_is_part_of_the_answers(write):
    found = read_text_data(write({"chosen": [USER, YES, YES], "rejected": [USER, YES, NO]}))
    assert pairs(found) == [([USER], [YES, YES], [YES, NO])]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [USER], "label": True}, "turns of the assistant behind the prompt, got noth"),
        ({"messages": [YES], "label": True}, "must hold what is answered"),
        ({"messages": "Hi", "label": True}, "messages must be a list of chat messages, got 'Hi'"),
        ({"conversations": [HUMAN, GPT], "chosen": GPT, "rejected": GPT_NO}, "must end with what"),
        (
            {"conversations": [{"from": "function_call", "value": "f"}], "label": True},
            "the role 'function_call'",
        ),
        ({"input": "Hi", "preferred_output": [YES], "non_preferred_output": [NO]}, "input must be"),
        (
            {
                "input": {"messages": [USER], "tools": [{"type": "function"}]},
                "preferred_output": [YES],
                "non_preferred_output": [NO],
            },
            "tools would change what the row says",
        ),
    ],
)
def test_layouts_of_other_tools_that_are_incomplete(write, row, message):
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        read_text_data(write(row))


def test_the_command_names_rows_that_teach_nothing(prefsim, tmp_path):
    prompt = "was it a good film?"
    texts = [(" it was", " it was not"), (" it was not", " it was"), (" the", " the")]
    rows = [{"prompt": prompt, "chosen": a, "rejected": b} for a, b in texts]
    (tmp_path / "faulty.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("train", "--loss", "dpo", "--model", "model", "--data", "faulty.jsonl")
    expected = [
        "1 rows compare a completion with itself, as tokens; the first: faulty.jsonl, line 3",
        "1 rows say the opposite of an earlier one; the first: faulty.jsonl, line 2, against"
        " faulty.jsonl, line 1",
    ]
    assert report_of(prefsim, *command, "--dry-run", "--json")["data"]["faults"] == expected
    code, _, err = prefsim(*command, "--steps", 1, "--out", "run")
    assert code == 0 and [line for line in err.splitlines() if "faulty" in line] == expected


def test_the_command_gives_options_to_the_template(prefsim, tmp_path):
    folder = tmp_path / "thinking"
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ 'think ' * 9 if thinking else '' }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    (tmp_path / "chat.jsonl").write_text(json.dumps(CHAT))
    command = ("train", "--loss", "dpo", "--model", "config.json", "--tokenizer", folder)
    command += ("--data", "chat.jsonl", "--dry-run")
    option = "--chat-template-kwargs"
    plain, thinking = (
        report_of(prefsim, *command, "--json", option, json.dumps({"thinking": value}))
        for value in (False, True)
    )
    assert thinking["tokens"]["prompt"] > plain["tokens"]["prompt"]
    code, _, err = prefsim(*command, option, "{thinking}")
    assert code == 2 and "--chat-template-kwargs: expected one JSON object" in err


def test_settings_with_a_byte_order_mark(prefsim, tmp_path):
    (tmp_path / "train.toml").write_bytes(b'\xef\xbb\xbfloss = "dpo"\nmodel = "model"\n')
    report = report_of(
        prefsim,
        *("train", "--config", "train.toml", "--data", "pairs.jsonl", "--dry-run", "--json"),
    )
    assert report["data"]["rows"] == 6


def test_long_rows_are_shortened_where_it_is_asked_for(prefsim):
    long = ("train", "--loss", "dpo", "--model", "model", "--data", "long.jsonl")
    options = ("--max-tokens", 100, "--truncate", "completion")
    plan = report_of(prefsim, *long, *options, "--dry-run", "--json")
    assert plan["data"]["skipped"] == 0
    assert plan["tokens"]["truncated_rows"] == 1
    assert plan["tokens"]["longest_sequence"] == 100
    assert "1 rows shortened to fit --max-tokens" in prefsim(*long, *options, "--dry-run")[1]
    code, _, error = prefsim(*long, *options, *TWO_STEPS, "--out", "run")
    assert code == 0
    assert "1 rows shortened to fit --max-tokens" in error
    code, _, error = prefsim(*long, "--max-tokens", 100, "--truncate", "prompt", "--dry-run")
    assert code == 2
    assert "long.jsonl, line 7: a completion has" in error
    code, _, error = prefsim(*long, "--truncate", "prompt", "--dry-run")
    assert code == 2
    assert "--truncate prompt needs --max-tokens" in error

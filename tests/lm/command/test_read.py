"""Files of text into containers: every layout of columns, and the dialogues of hh-rlhf."""

import gzip
import json

import pytest
from text_rows import HEAD, NO, PAIR, SYSTEM, USER, YES, columns, pairs

from prefsim.lm import TextFeedback, TextNegatives, TextRankings, read_text_data
from prefsim.lm.command.dialogues import ASSISTANT, HUMAN, read_compared


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (PAIR, ("Is it good?", " Yes.", " No.")),
        ({"prompt": [1, 2], "chosen": [3], "rejected": [4, 5]}, ([1, 2], [3], [4, 5])),
        (
            {"prompt": [SYSTEM, USER], "chosen": [YES], "rejected": [NO]},
            ([SYSTEM, USER], [YES], [NO]),
        ),
        # The assistant's text alone; the whole dialogue again; a prompt in text beside messages,
        # alone and as part of the dialogues.
        ({"prompt": [USER], "chosen": "Yes.", "rejected": "No."}, ([USER], "Yes.", "No.")),
        ({"prompt": [USER], "chosen": [USER, YES], "rejected": [USER, NO]}, ([USER], [YES], [NO])),
        ({"prompt": "Is it good?", "chosen": [YES], "rejected": [NO]}, ([USER], [YES], [NO])),
        (
            {
                "prompt": "Is it good?",
                "chosen": [SYSTEM, USER, YES],
                "rejected": [SYSTEM, USER, NO],
            },
            ([SYSTEM, USER], [YES], [NO]),
        ),
        # No prompt: messages, dialogues in text, other text.
        ({"chosen": [USER, YES], "rejected": [USER, NO]}, ([USER], [YES], [NO])),
        ({"chosen": [USER, YES], "rejected": [USER, YES, NO]}, ([USER], [YES], [YES, NO])),
        ({"chosen": HEAD + " Yes.", "rejected": HEAD + " No."}, (HEAD, " Yes.", " No.")),
        ({"chosen": HEAD + " Yes.", "rejected": HEAD}, (HEAD, " Yes.", "")),
        (
            {"chosen": "Q: good?\nA: yes", "rejected": "Q: good?\nA: yellow"},
            ("Q: good?\nA:", " yes", " yellow"),
        ),
        ({"chosen": "the cat sat", "rejected": "the cat"}, ("the", " cat sat", " cat")),
    ],
)
def test_pairs(write, row, expected):
    found = read_text_data(write(row, row))
    assert pairs(found) == [expected, expected]
    assert found.numbers == (1, 2)


def test_the_parts_of_a_dialogue_make_the_dialogue(write):
    (prompt, chosen, rejected), *_ = pairs(
        read_text_data(write({"chosen": HEAD + " Yes.", "rejected": HEAD + " No."}))
    )
    assert (prompt + chosen, prompt + rejected) == (HEAD + " Yes.", HEAD + " No.")


def test_labelled_completions(write):
    rows = [
        {"prompt": "Hi", "completion": " there", "label": True},
        {"prompt": "Hi", "completion": " you", "label": False},
    ]
    found = read_text_data(write(*rows)).data
    assert isinstance(found, TextFeedback)
    assert columns(found, "prompt", "completion", "label") == (
        ["Hi", "Hi"],
        [" there", " you"],
        [True, False],
    )
    soft = read_text_data(
        write({"prompt": "Hi", "completion": " you", "label": 0.25, "weight": 2})
    ).data
    assert (float(soft.label[0]), float(soft.weight[0])) == (0.25, 2.0)
    found = read_text_data(write({"prompt": [USER], "completion": [YES], "label": True})).data
    assert columns(found, "prompt", "completion") == ([[USER]], [[YES]])


def test_scored_completions(write):
    rows = [{"prompt": "Hi", "completions": [" a", " b", " c"], "scores": [1, 0.5, -2]}] * 2
    found = read_text_data(write(*rows)).data
    assert isinstance(found, TextRankings)
    assert [list(row) for row in found.completions] == [[" a", " b", " c"]] * 2
    assert [[float(score) for score in row] for row in found.scores] == [[1, 0.5, -2]] * 2


def test_answers_in_messages_make_a_question_of_a_prompt_in_text(write):
    def said(text):
        return [{"role": "assistant", "content": text}]

    asked = [{"role": "user", "content": "Hi"}]
    rows = [{"prompt": "Hi", "completions": [said("a"), said("b")], "scores": [1, 0]}]
    found = read_text_data(write(*rows)).data
    assert found.prompt == [asked] and found.completions == [[said("a"), said("b")]]
    rows = [{"prompt": "Hi", "rejected": said("a"), "samples": [said("b"), said("c")]}]
    found = read_text_data(write(*rows)).data
    assert (found.prompt, found.rejected) == ([asked], [said("a")])
    assert found.samples == [[said("b"), said("c")]]
    rows = [{"prompt": "Hi", "completions": ["a", said("b")], "scores": [1, 0]}]
    with pytest.raises(
        ValueError, match=r"completions\[1\] in chat messages needs a prompt in chat"
    ):
        read_text_data(write(*rows))


def test_anchored_completions(write):
    found = read_text_data(
        write(
            {
                "prompt": "Hi",
                "rejected": " a",
                "samples": [" b", " c"],
                "sample_weight": [0.25, 0.75],
            }
        )
    ).data
    assert isinstance(found, TextNegatives)
    assert columns(found, "prompt", "rejected", "samples") == (["Hi"], [" a"], [[" b", " c"]])
    assert found.sample_weight.tolist() == [[0.25, 0.75]]


def test_numbers_beside_pairs(write):
    row = PAIR | {"prob": 0.75, "weight": 2, "chosen_score": 3.5, "rejected_score": -1}
    found = read_text_data(write(row, row | {"prob": 1})).data
    assert [float(x) for x in found.prob] == [0.75, 1.0]
    assert [float(x) for x in found.weight] == [2.0, 2.0]
    other = read_text_data(write(PAIR | {"score_chosen": 3.5, "score_rejected": -1})).data
    assert (float(other.chosen_score[0]), float(other.rejected_score[0])) == (3.5, -1.0)
    assert other.old_chosen is None


def test_other_columns_are_named(write):
    found = read_text_data(write(PAIR | {"id": 7}, PAIR | {"source": "web"}))
    assert found.unused == ("id", "source")


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz", "data.parquet"])
def test_every_kind_of_file_gives_the_same_rows(write, tmp_path, name):
    rows = [{"chosen": [USER, YES], "rejected": [USER, NO], "weight": 0.5}] * 3
    if name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / name
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    else:
        path = write(*rows, name=name)
    found = read_text_data(path)
    assert pairs(found) == [([USER], [YES], [NO])] * 3
    assert found.place(2) == f"{path}, {'row' if name.endswith('.parquet') else 'line'} 3"


def test_blank_lines_are_counted(write):
    found = read_text_data(write(PAIR, "", PAIR))
    assert found.numbers == (1, 3)
    assert found.place(1).endswith("data.jsonl, line 3")


def test_a_folder_is_read_by_datasets(write, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, n in (("train", 3), ("test", 2)):
        write(*[PAIR] * n, name=f"corpus/{split}.jsonl")
    found = read_text_data(folder)
    assert (len(found), found.place(0)) == (3, f"{folder}, row 1")
    assert len(read_text_data(folder, split="test")) == 2
    assert len(read_text_data(folder, split="train[:1]")) == 1
    with pytest.raises(ValueError, match=r"corpus: split 'dev' of this folder cannot be loaded"):
        read_text_data(folder, split="dev")


def test_a_hub_data_set(monkeypatch):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(
        [{"chosen": [USER, YES], "rejected": [USER, NO | {"name": "x"}], "id": "7"}]
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    # A table has every key of any message; those that are empty are no part of a message.
    assert pairs(read_text_data("somebody/pairs")) == [([USER], [YES], [NO | {"name": "x"}])]


def test_hh_rlhf(real_data):
    path = real_data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with pytest.raises(
        ValueError,
        match=(
            r"harmless-base-test\.jsonl\.gz, line 1255: chosen and rejected must be the same"
            r" dialogue"
        ),
    ):
        read_text_data(path)
    found = read_text_data(path, skip_unshared=True)
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    # Counted apart from the reader: dialogues that are the same text up to their last "Assistant:".
    heads = [
        [row[name].rpartition("\n\nAssistant:")[0] for name in ("chosen", "rejected")]
        for row in rows
    ]
    same = [number for number, (a, b) in enumerate(heads, start=1) if a == b]
    assert found.numbers == tuple(same)
    assert len(found) + len(found.skipped) == len(rows)
    for number, (prompt, chosen, rejected) in zip(found.numbers, pairs(found), strict=True):
        assert prompt.endswith(ASSISTANT)
        assert (prompt + chosen, prompt + rejected) == (
            rows[number - 1]["chosen"],
            rows[number - 1]["rejected"],
        )
        assert HUMAN not in chosen + rejected


def test_compared_dialogues_are_taken_apart_and_those_of_two_prompts_left_out(tmp_path):
    def dialogue(question, answer):
        return f"{HUMAN} {question}{ASSISTANT} {answer}"

    rows = [
        {"chosen": dialogue("Why?", first), "rejected": dialogue(other, second)}
        for first, other, second in (("So.", "Why?", "No."), ("a", "How?", "b"), ("c", "Why?", "d"))
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read_compared(path)
    assert found.prompt == [f"{HUMAN} Why?{ASSISTANT}"] * 2
    assert (found.chosen, found.rejected) == ([" So.", " c"], [" No.", " d"])
    assert read_compared(path, pairs=1).chosen == [" So."]

"""Files of text that cannot be read: each bad row is named by its line, each source by its name."""

import json

import pytest
from text_rows import HEAD, NO, PAIR, SYSTEM, USER, YES

from prefsim.lm import read_text_data
from prefsim.lm.command.dialogues import UnsharedPrompt


def test_a_hub_id_that_cannot_be_reached(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def offline(*arguments, **options):
        asked.append((arguments, options))
        raise ConnectionError("Couldn't reach it on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        ValueError,
        match=(
            r"nobody/nothing: no such file or folder, and split 'train' of a hub data set cannot"
            r" be had"
        ),
    ):
        read_text_data("nobody/nothing")
    with pytest.raises(ValueError, match=r"Couldn't reach it on the Hub"):
        read_text_data("nobody/nothing:small", split="test[:5]")
    assert asked == [
        (("nobody/nothing", None), {"split": "train"}),
        (("nobody/nothing", "small"), {"split": "test[:5]"}),
    ]


BAD_ROWS = [
    ('{"prompt": "a", "chosen"', "expected one JSON object"),
    ("[1]", "expected one JSON object, got list"),
    (
        {"prompt": "a", "chosen": "b"},
        "expected the columns prompt, chosen, rejected, got no rejected",
    ),
    (PAIR | {"chosen": None}, "got no chosen"),
    (
        PAIR | {"chosen": 3},
        "chosen must be text, a list of chat messages or a list of token ids, got 3",
    ),
    (
        PAIR | {"chosen": [1, -2]},
        "chosen must be text, a list of chat messages or a list of token ids",
    ),
    (PAIR | {"chosen": []}, "chosen must be text"),
    (
        PAIR | {"prompt": [{"role": "user"}]},
        r"prompt\[0\] must be a chat message with 'content' in text",
    ),
    (
        PAIR | {"prompt": [{"role": "user", "content": [{"type": "image"}]}]},
        r"prompt\[0\]\.content\[0\] must be a chat message with 'content' in text",
    ),
    (
        PAIR | {"chosen": [YES], "rejected": " No."},
        "chosen in chat messages needs a prompt in chat messages",
    ),
    (
        {"prompt": [USER], "chosen": [USER], "rejected": [NO]},
        "chosen must hold turns of the assistant behind the prompt, got nothing",
    ),
    (
        {"prompt": [USER], "chosen": [YES], "rejected": [NO, USER]},
        "rejected must hold turns of the assistant .* 'assistant', 'user'",
    ),
    (
        {"prompt": "Why?", "chosen": [USER, YES], "rejected": [USER, NO]},
        "the prompt must be a message of both dialogues, got 'Why",
    ),
    (
        PAIR | {"weight": 1.0},
        "in every row or in none, got weight that the first row does not have",
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_its_line(write, row, message):
    with pytest.raises(ValueError, match=rf"data\.jsonl, line 3: .*{message}"):
        read_text_data(write(PAIR, "", row, PAIR))


DIALOGUES = {"chosen": HEAD + " Yes.", "rejected": HEAD + " No."}


UNSHARED = [
    (
        DIALOGUES | {"rejected": "\n\nHuman: Hello\n\nAssistant: No."},
        r"part at character 11: 'i.*' and 'ello",
    ),
    (DIALOGUES | {"rejected": "\n\nHuman: Hi"}, "rejected has no turn 'Assistant:'"),
    ({"chosen": "yes", "rejected": "no"}, "must begin with the same words"),
    ({"chosen": [USER, YES], "rejected": [SYSTEM, USER, NO]}, "begin with the same messages"),
    (
        {"chosen": [USER, YES, USER, YES], "rejected": [USER, NO, USER, NO]},
        "part at message 2, and message 3 of chosen is by 'user'",
    ),
]


@pytest.mark.parametrize(("row", "message"), UNSHARED)
def test_dialogues_with_two_prompts(write, row, message):
    good = (
        DIALOGUES
        if isinstance(row["chosen"], str)
        else {"chosen": [USER, YES], "rejected": [USER, NO]}
    )
    path = write(good, row, good)
    with pytest.raises(ValueError, match=rf"data\.jsonl, line 2: .*{message}") as raised:
        read_text_data(path)
    assert isinstance(raised.value.__cause__, UnsharedPrompt)
    found = read_text_data(path, skip_unshared=True)
    assert found.numbers == (1, 3)
    assert len(found.data) == len(found) == 2
    (skipped,) = found.skipped
    assert "line 2" in skipped
    with pytest.raises(ValueError, match="expected at least one line, got 1, all skipped"):
        read_text_data(write(row), skip_unshared=True)


def test_only_unshared_prompts_are_ever_skipped(write):
    with pytest.raises(ValueError, match=r"line 2: .*got no rejected"):
        read_text_data(write(DIALOGUES, {"chosen": HEAD}), skip_unshared=True)
    unfinished = {"chosen": HEAD + " Yes.\n\nHuman: Thanks", "rejected": HEAD + " No."}
    with pytest.raises(ValueError, match="line 1: chosen must end with a turn of the assistant"):
        read_text_data(write(unfinished), skip_unshared=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"prompt": "a", "completion": "b", "label": "good"}],
            "label must be true, false or a probability, got 'good'",
        ),
        (
            [{"prompt": "a", "completion": "b", "label": -1}],
            r"label must lie in \[0, 1\], got -1\.0$",
        ),
        ([{"prompt": "a", "completions": "b", "scores": [1]}], "completions must be a list"),
        (
            [{"prompt": "a", "completions": ["b"], "scores": []}],
            r"scores must be a list with at least one entry, got \[\]",
        ),
        (
            [{"prompt": "a", "rejected": "b", "samples": []}],
            "samples must be a list with at least one entry",
        ),
        ([{"prompt": "a", "completions": ["b"], "scores": [1, 2]}], "of one length, got 1 and 2"),
        (
            [{"prompt": "a", "completions": ["b", 3], "scores": [1, 2]}],
            r"completions\[1\] must be text",
        ),
        (
            [{"prompt": "a", "completions": ["b", "c"], "scores": [1, "2"]}],
            r"scores\[1\] must be a number, got '2'",
        ),
        (
            [{"text": "a", "prompt": None}],
            r"the columns must be one of \(prompt, chosen, rejected; .*\), got text",
        ),
        ([{"chosen": [USER, YES], "rejected": HEAD}], "must both be text or both chat messages"),
        ([PAIR | {"weight": "2"}], "weight must be a number, got '2'"),
        ([PAIR | {"chosen_score": 1, "score_chosen": 1}], "two names of one column"),
        ([PAIR | {"prob": 1.5}], "prob must lie in"),
        ([PAIR | {"weight": -1}], "weight must be a finite number >= 0, got -1.0"),
        (
            [PAIR | {"chosen_score": 1}],
            "columns of both completions or of none are needed, got chosen_score alone",
        ),
    ],
)
def test_bad_values(write, rows, message):
    with pytest.raises(ValueError, match=rf"data\.jsonl, line 1: .*{message}"):
        read_text_data(write(*rows))


def test_a_value_that_only_the_container_refuses_is_named_by_its_line(write):
    # A row of weight zero is no error, though a file of them is.
    weighted = [PAIR | {"prob": 1, "weight": 0}, PAIR | {"prob": 2, "weight": 1}]
    with pytest.raises(
        ValueError, match=r"data\.jsonl, line 2: prob must lie in \[0, 1\], got 2\.0$"
    ):
        read_text_data(write(*weighted))
    with pytest.raises(
        ValueError, match=r"data\.jsonl: weight must be >= 0 and not zero everywhere"
    ):
        read_text_data(write(*weighted[:1] * 2))
    lists = [{"prompt": "a", "completions": ["b"] * k, "scores": [0] * k} for k in (2, 2, 3)]
    with pytest.raises(
        ValueError,
        match=r"data\.jsonl, line 3: completions must hold lists of one length, 2, got 3$",
    ):
        read_text_data(write(*lists))
    with pytest.raises(ValueError, match=r"data\.jsonl, line 4: prob must lie in"):
        read_text_data(write(PAIR | {"prob": 1}, "", PAIR | {"prob": 0}, PAIR | {"prob": -0.5}))


def test_nothing_of_half_a_file(write, tmp_path):
    whole = write(*[PAIR | {"id": i} for i in range(500)], name="whole.jsonl.gz").read_bytes()
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: cannot be read after line \d+"):
        read_text_data(cut)
    broken = bytearray(whole)
    broken[30:40] = b"\xff" * 10
    cut.write_bytes(broken)
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: cannot be read after line \d+"):
        read_text_data(cut)
    torn = tmp_path / "torn.jsonl"
    torn.write_text(json.dumps(PAIR) + "\n" + json.dumps(PAIR)[:20])
    with pytest.raises(ValueError, match=r"torn\.jsonl, line 2: expected one JSON object"):
        read_text_data(torn)


def test_a_broken_table(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"data\.parquet: cannot be read after row 0"):
        read_text_data(path)


def test_sources_that_are_none(write, tmp_path):
    with pytest.raises(ValueError, match=r"missing\.jsonl: there is no such file"):
        read_text_data(tmp_path / "missing.jsonl")
    with pytest.raises(ValueError, match=r"must end in \.jsonl, \.ndjson or \.json \("):
        read_text_data(write(PAIR, name="data.csv"))
    with pytest.raises(
        ValueError, match=r"no/such/place: no such file or folder, and it is no hub id"
    ):
        read_text_data("no/such/place")
    with pytest.raises(ValueError, match="a split is for folders and hub ids"):
        read_text_data(write(PAIR), split="train")
    with pytest.raises(ValueError, match="expected at least one line, got none"):
        read_text_data(write(""))


@pytest.mark.parametrize(
    ("source", "package"), [("data.parquet", "pyarrow"), ("somebody/pairs", "datasets")]
)
def test_a_package_that_is_not_installed(monkeypatch, tmp_path, source, package):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "data.parquet").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=rf"need {package}, which `pip install 'prefsim\[lm\]'` brings"
    ):
        read_text_data(source)

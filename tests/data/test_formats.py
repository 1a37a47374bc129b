"""JSON lines: what goes out comes back, and a bad file is refused by line."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data import Comparisons, Feedback, Rankings, Segments, read_jsonl, write_jsonl

DATA = {
    "comparisons": Comparisons([0, 1], [2, 0], [1, 3], prob=[0.25, 1.0], weight=[0.5, 2.0]),
    "feedback": Feedback([0, 1, 1], [2, 0, 1], [1.0, 0.0, 0.3]),
    "feedback with columns of two methods": Feedback(
        [0, 1], [2, 0], [1.0, 0.0], mismatched=[1, 3], density_ratio=[0.5, 2.0]
    ),
    "rankings": Rankings([0, 1], [[0, 1, 2], [2, 1, 0]], [[3.0, 1.0, 2.0], [0.1, 0.2, 0.3]]),
    "segments": Segments(
        [[[0, 1, 2], [0, 0, 0]]],
        [[[1, 1], [0, 0]]],
        prob=[0.75],
        mask=[[[True, True], [True, False]]],
    ),
}


def same(a, b):
    assert type(a) is type(b)
    for name in type(a).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("name", DATA)
def test_round_trip(name, suffix, tmp_path):
    path = tmp_path / f"data{suffix}"
    write_jsonl(DATA[name], path)
    same(read_jsonl(path), DATA[name])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1), st.floats(0, 10)),
        min_size=1,
        max_size=5,
    )
)
def test_numbers_survive_exactly(tmp_path_factory, rows):
    prompt, response, prob, weight = map(list, zip(*rows, strict=True))
    data = Comparisons(prompt, response, response, prob, weight)
    path = tmp_path_factory.mktemp("json") / "d.jsonl"
    write_jsonl(data, path)
    same(read_jsonl(path), data)


def test_defaults_may_be_left_out(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"prompt": 0, "chosen": 1, "rejected": 2}\n\n{"prompt": 1, "chosen": 0, "rejected": 2}\n'
    )
    data = read_jsonl(path)
    assert len(data) == 2 and (data.prob == 1).all() and (data.weight == 0.5).all()


GOOD = '{"prompt": 0, "chosen": 1, "rejected": 2}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least one line, got an empty file"),
        (
            GOOD + '{"prompt": 0, "chosen": 1, "rej',
            r"d\.jsonl, line 2: expected one JSON object, got '\{",
        ),
        (GOOD + "[1, 2]\n", "line 2: expected one JSON object, got list"),
        (
            GOOD + '{"prompt": 0, "chosen": 1}\n',
            "line 2: expected the columns chosen, prompt, rejected, got chosen, prompt",
        ),
        (
            GOOD + '{"prompt": 0, "chosen": -1, "rejected": 2}\n',
            "line 2: chosen must be >= 0, got -1",
        ),
        (
            GOOD + '{"prompt": 0, "chosen": 0.5, "rejected": 2}\n',
            "line 2: chosen must hold integers",
        ),
        (
            GOOD + '{"prompt": 0, "chosen": "good", "rejected": 2}\n',
            "line 2: chosen must hold integers",
        ),
        (
            '{"prompt": 0, "chosen": 1, "rejected": 2, "prob": NaN}\n',
            "line 1: .*NaN is not a number",
        ),
        (
            '{"prompt": 0, "chosen": 1, "rejected": 2, "prob": 1.5}\n',
            r"line 1: prob must lie in \[0, 1\]",
        ),
        ('{"question": 0}\n', "line 1: columns must be one of"),
        (
            '{"prompt": 0, "completions": [0, 1], "scores": [1.0]}\n',
            "line 1: scores must have the shape",
        ),
        (
            (
                '{"prompt": 0, "completions": [0, 1], "scores": [1.0, 2.0]}\n{"prompt": 0,'
                ' "completions": [0], "scores": [1.0]}\n'
            ),
            r"line 2: completions must have shape \(2,\), that of the first row, got \(1,\)",
        ),
    ],
)
def test_bad_files(text, message, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_jsonl(path)


@pytest.mark.parametrize("between", ["", "\n"])
def test_lines_are_counted_through_files_that_are_read_in_parts(between, tmp_path):
    """Blank ends of lines, so that few rows are more than is read at once."""
    lines = [GOOD.rstrip() + " " * 1_000_000 + "\n" for _ in range(13)]
    path = tmp_path / "d.jsonl"
    path.write_text(between.join(lines))
    assert len(read_jsonl(path)) == 13
    for bad in (0, 6, 12):
        wrong = GOOD.replace('"chosen": 1', '"chosen": -1')
        path.write_text(between.join([*lines[:bad], wrong, *lines[bad + 1 :]]))
        number = 1 + bad * (1 + len(between))
        with pytest.raises(ValueError, match=rf"d\.jsonl, line {number}: chosen must be >= 0"):
            read_jsonl(path)


@pytest.mark.parametrize("line", ["1, " + GOOD, "[" + GOOD, GOOD.rstrip() + ",\n"])
def test_what_would_be_rows_side_by_side_is_none_of_a_line(line, tmp_path):
    """After lines that are right, more than is read at once."""
    path = tmp_path / "d.jsonl"
    for right in (4, 5, 6):
        path.write_text((GOOD.rstrip() + " " * 1_000_000 + "\n") * right + line * 3)
        message = rf"d\.jsonl, line {right + 1}: expected one JSON object, got '"
        with pytest.raises(ValueError, match=message):
            read_jsonl(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.jsonl: cannot be read"):
        read_jsonl(tmp_path / "missing.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b'{"prompt": "\xff\xfe"}\n')
    with pytest.raises(ValueError, match="expected UTF-8 text"):
        read_jsonl(tmp_path / "bytes.jsonl")
    whole = gzip.compress((GOOD * 2000).encode(), mtime=0)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.jsonl\.gz: cannot be read after line"):
        read_jsonl(tmp_path / "cut.jsonl.gz")


def test_nothing_half_written(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(GOOD)
    batched = Comparisons([0], [1], [2], prob=np.full((3, 1), 0.5))
    with pytest.raises(ValueError, match="a file holds one data set"):
        write_jsonl(batched, path)
    assert path.read_text() == GOOD and [p.name for p in tmp_path.iterdir()] == ["d.jsonl"]
    with pytest.raises(FileNotFoundError):
        write_jsonl(DATA["comparisons"], tmp_path / "nowhere" / "d.jsonl")


def test_lines_are_plain_json(tmp_path):
    path = tmp_path / "d.jsonl"
    write_jsonl(DATA["comparisons"], path)
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {"prompt": 0, "chosen": 2, "rejected": 1, "prob": 0.25, "weight": 0.5}

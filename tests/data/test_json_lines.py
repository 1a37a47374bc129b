"""Strict JSON: what a line may hold, and files in the encodings that people have."""

import gzip
import json
import re

import numpy as np
import pytest

from prefsim.data import Comparisons, Feedback, Rankings, Segments, read_jsonl, write_jsonl
from prefsim.data.json_lines import read_json_array, read_json_lines

GOOD = '{"prompt": 0, "chosen": 1, "rejected": 2}'
LISTS = '{"prompt": 0, "completions": [0, 1], "scores": [1, 2.5]}'


def refused(path, content, message):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as raised:
        read_jsonl(path)
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < len(str(path)) + 900
    return str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": 0, "chosen": 1, "rejected": 2, "rejected": 3}', "key 'rejected' stands twice"),
        ('{"prompt": true, "chosen": 1, "rejected": 2}', "prompt must hold integers, got True"),
        ('{"prompt": "0", "chosen": 1, "rejected": 2}', "prompt must hold integers, got '0'"),
        ('{"prompt": null, "chosen": 1, "rejected": 2}', "prompt must hold integers, got None"),
        ('{"prompt": [0, 1], "chosen": [1, 1], "rejected": [2, 2]}', r"integers, got \[0, 1\]"),
        ('{"prompt": 9223372036854775808, "chosen": 1, "rejected": 2}', r"integers below 2\*\*63"),
        (f'{{"prompt": 1{"0" * 400}, "chosen": 1, "rejected": 2}}', "number of 401 characters"),
        (f'{{"prompt": 1{"0" * 200}, "chosen": 1, "rejected": 2}}', "an integer of 665 bits"),
        (f'{{"prompt": {"[" * 9000 + "]" * 9000}}}', "nested too deeply"),
        ('{"prompt": 0, "chosen": 1, "rejected": 2} {}', "Extra data at character 43"),
        (f"{GOOD},{GOOD}", "Extra data"),
        ('{"prompt": 0, "chosen": 1, "rejected": 2, "a": 3}', "got a, chosen, prompt, rejected"),
        ('"' + "x" * 10**6 + '"', "expected one JSON object, got str"),
        ("x" * 10**6, r"got 'x{56}\.\.\. \(Expecting value at character 1\)"),
        (json.dumps({"k" * 1000 + str(i): 0 for i in range(1000)}), r"\.\.\.$"),
    ],
)
def test_bad_lines_are_named_wherever_they_stand(tmp_path, line, message):
    path = tmp_path / "d.jsonl"
    refused(path, "\n".join([line, GOOD, GOOD]), f"line 1: .*{message}")
    refused(path, "\n".join([GOOD, "", GOOD, line, GOOD]), f"line 4: .*{message}")
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as stream:
        stream.write("\n".join([GOOD, line]))
    with pytest.raises(ValueError, match=f"line 2: .*{message}"):
        read_jsonl(tmp_path / "d.jsonl.gz")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("prob", "true", "prob must hold numbers, got True"),
        ("prob", '"0.25"', "prob must hold numbers, got '0.25'"),
        ("prob", "[0.5]", r"prob must hold numbers, got \[0.5\]"),
        ("prob", "{}", r"prob must hold numbers, got \{\}"),
        ("weight", "1e999", "a number of 5 characters is beyond all floating-point numbers"),
        ("weight", "-1e-3", r"weight must be >= 0, got -0.001$"),
        ("prob", "1.5", r"prob must lie in \[0, 1\], got 1.5$"),
        ("weight", "NaN", "NaN is not a number that JSON allows"),
    ],
)
def test_bad_numbers_are_named_by_their_line(tmp_path, column, value, message):
    line, good = (f'{GOOD[:-1]}, "{column}": {entry}}}' for entry in (value, "0.5"))
    refused(
        tmp_path / "d.jsonl", "\n".join([*[good] * 70, line, *[good] * 9]), f"line 71: .*{message}"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LISTS.replace("[0, 1]", "[0, [1]]"), r"completions must hold integers, got \[1\]"),
        (LISTS.replace("[0, 1]", "[0, true]"), "completions must hold integers, got True"),
        (LISTS.replace("[0, 1]", "3"), "integers in lists 1 deep, none of them empty, got 3"),
        (LISTS.replace("[0, 1]", "[]"), r"none of them empty, got \[\]"),
        (LISTS.replace("[0, 1]", "[0]"), r"completions must have shape \(2,\), that of the first"),
        (LISTS.replace("[0, 1]", "[" * 9000 + "]" * 9000), "nested too deeply"),
        (LISTS.replace("2.5", '"2"'), "scores must hold numbers, got '2'"),
    ],
)
def test_bad_lists_are_named_by_their_line(tmp_path, line, message):
    refused(tmp_path / "d.jsonl", "\n".join([LISTS, line, LISTS]), f"line 2: .*{message}")


def test_segments_are_lists_in_lists(tmp_path):
    line = '{"states": [[0, 1], [0, 0]], "actions": [[1], [0]], "mask": [[true], [false]]}'
    path = tmp_path / "d.jsonl"
    path.write_text(f"{line}\n{line}")
    assert read_jsonl(path).mask.tolist() == [[[True], [False]]] * 2
    refused(path, f"{line}\n{line.replace('true', '1')}", "line 2: mask must hold booleans, got 1")
    ragged = line.replace("[0, 0]", "[0, 0, 0]")
    refused(
        path, f"{line}\n{ragged}", "line 2: states must be rectangular, got lists of 2 and of 3"
    )


def test_a_label_is_a_boolean_or_a_number(tmp_path):
    path = tmp_path / "d.jsonl"
    labels = ("true", "0.25", "0", "false")
    path.write_text("".join(f'{{"prompt": 0, "completion": 1, "label": {x}}}\n' for x in labels))
    assert read_jsonl(path).label.tolist() == [1, 0.25, 0, 0]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\n\n", " \n\t\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_line_ends(tmp_path, mark, line_end):
    path = tmp_path / "d.jsonl"
    path.write_bytes(mark + line_end.join([GOOD] * 3).encode())
    assert read_jsonl(path).chosen.tolist() == [1, 1, 1]
    assert [row for _, row in read_json_lines(path)] == [json.loads(GOOD)] * 3


def test_other_encodings_are_named_by_their_line(tmp_path):
    path = tmp_path / "d.jsonl"
    refused(path, GOOD.encode("utf-16"), "line 1: expected UTF-8 text")
    many = (GOOD + "\n").encode() * 5000
    refused(path, many + b'{"\xe9": 0}\n' + many, "line 5001: expected UTF-8 text")
    with gzip.open(tmp_path / "d.gz", "wb") as stream:
        stream.write(many + b"\xff")
    with pytest.raises(ValueError, match="line 5001: expected UTF-8 text"):
        list(read_json_lines(tmp_path / "d.gz"))


@pytest.mark.parametrize("name", ["d.json", "D.JSON", "d.json.gz"])
def test_an_array_of_rows(tmp_path, name):
    path = tmp_path / name
    text = json.dumps([json.loads(GOOD)] * 2, indent=1)
    path.write_bytes(
        gzip.compress(text.encode()) if name.endswith("gz") else b"\xef\xbb\xbf " + text.encode()
    )
    assert read_jsonl(path).chosen.tolist() == [1, 1]
    assert [number for number, _ in read_json_array(path)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected at least one line, got an empty file"),
        (f"[{GOOD}, 3]", "row 2: expected an object, got 3"),
        (f"[{GOOD},\n{GOOD[:-1]}, 'a'}}]", "line 2: expected a JSON array of objects"),
        (f'[{GOOD}, {GOOD[:-1]}, "prompt": 1}}]', "the key 'prompt' stands twice"),
        (f'[{GOOD}, {GOOD[:-1]}, "a": 1}}]', "row 2: expected the columns"),
        (f"[{GOOD}, {GOOD.replace('1', 'true')}]", "row 2: chosen must hold integers, got True"),
        (f"[{GOOD}, {GOOD.replace('1', '-1')}]", r"row 2: chosen must be >= 0, got -1$"),
        ("[" * 9000, "nested too deeply"),
        (f'{{\n"rows": [{GOOD}]}}', r"line 1: expected one JSON object, got '\{' "),
    ],
)
def test_bad_arrays(tmp_path, text, message):
    refused(tmp_path / "d.json", text, message)


def test_halves_of_pairs_of_surrogates_are_no_text(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"a": "\\ud83d\\ude00"}\n{"a": ["\\ud83d"]}\n')
    rows = read_json_lines(path)
    assert next(rows) == (1, {"a": "\N{GRINNING FACE}"})
    with pytest.raises(ValueError, match=re.escape(r"line 2: expected one JSON object")) as raised:
        next(rows)
    assert r"the lone surrogate \ud83d is not Unicode" in str(raised.value)


def test_blocks_of_any_size_give_the_same_rows(tmp_path, monkeypatch):
    from prefsim.data import formats

    rng = np.random.default_rng(0)
    n = 500
    data = [
        Comparisons(*rng.integers(9, size=(3, n)), prob=rng.random(n), weight=rng.random(n)),
        Feedback(*rng.integers(9, size=(2, n)), label=rng.random(n)),
        Rankings(rng.integers(9, size=n), rng.integers(9, size=(n, 3)), rng.normal(size=(n, 3))),
        Segments(rng.integers(9, size=(n, 2, 4)), rng.integers(9, size=(n, 2, 3))),
    ]
    for i, each in enumerate(data):
        write_jsonl(each, tmp_path / f"{i}.jsonl")
        whole = read_jsonl(tmp_path / f"{i}.jsonl")
        monkeypatch.setattr(formats, "_BLOCK_ROWS", 7)
        write_jsonl(each, tmp_path / "small.jsonl")
        assert (tmp_path / "small.jsonl").read_text() == (tmp_path / f"{i}.jsonl").read_text()
        monkeypatch.setattr(formats, "_BLOCK_BYTES", 300)
        small = read_jsonl(tmp_path / "small.jsonl")
        monkeypatch.undo()
        for name in type(each).__dataclass_fields__:
            for read in (whole, small):
                np.testing.assert_array_equal(getattr(read, name), getattr(each, name))


def test_what_json_cannot_hold_is_not_written(tmp_path):
    data = Comparisons([0], [1], [2], old_chosen=[-np.inf], old_rejected=[-1.0])
    with pytest.raises(ValueError, match="old_chosen must be finite, got -inf"):
        write_jsonl(data, tmp_path / "d.jsonl")
    assert not list(tmp_path.iterdir())

"""Files and folders that people have: names, encodings, saved data sets, and what is damaged."""

import datetime
import gzip
import json

import numpy as np
import pytest
from text_rows import HEAD, PAIR, pairs

from prefsim.lm import read_text_data

EXPECTED = (PAIR["prompt"], PAIR["chosen"], PAIR["rejected"])
LINE = json.dumps(PAIR)


@pytest.mark.parametrize(
    "name", ["d.JSONL", "d.ndjson", "d.NDJSON.gz", "d.json", "D.Json", "d.json.gz", "d.jsonl"]
)
@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
def test_names_and_byte_order_marks(tmp_path, name, mark):
    text = f"{mark}{LINE}\n{LINE}\n".encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.lower().endswith("gz") else text)
    found = read_text_data(path)
    assert pairs(found) == [EXPECTED] * 2
    assert found.place(1) == f"{path}, line 2"


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array(tmp_path, indent):
    path = tmp_path / "d.json"
    path.write_text(json.dumps([PAIR] * 3, indent=indent), encoding="utf-8-sig")
    found = read_text_data(path)
    assert pairs(found) == [EXPECTED] * 3
    assert found.place(2) == f"{path}, row 3"
    path.write_text(json.dumps([PAIR, PAIR | {"chosen": 3}], indent=indent))
    with pytest.raises(ValueError, match=r"d\.json, row 2: chosen must be text"):
        read_text_data(path)
    path.write_text(json.dumps({"data": [PAIR]}, indent=indent))
    with pytest.raises(ValueError, match=r"d\.json, line 1: "):
        read_text_data(path)


LINE_SEPARATORS = "\u2028\u2029\x85\x0b\x0c"


def test_line_separators_inside_a_text_end_no_line(tmp_path):
    path = tmp_path / "d.jsonl"
    row = PAIR | {"chosen": f" Yes{LINE_SEPARATORS}."}
    text = json.dumps(row, ensure_ascii=False).replace("\x0b", "\\u000b").replace("\x0c", "\\f")
    path.write_text(f"{text}\n{text}", encoding="utf-8")
    assert read_text_data(path).data.chosen == [f" Yes{LINE_SEPARATORS}."] * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE.replace("Yes", "\\ud800"), r"the lone surrogate \\ud800 is not Unicode text"),
        (LINE[:-1] + ', "chosen": " No."}', "the key 'chosen' stands twice"),
        (LINE[:-1] + ', "weight": true}', "weight must be a number, got True"),
        (LINE[:-1] + f', "weight": 1{"0" * 400}}}', "a number of 401 characters is beyond"),
        (LINE[:-1] + ', "weight": 1e400}', "a number of 5 characters is beyond"),
        (LINE[:-1] + f', "id": {"[" * 9000}{"]" * 9000}}}', "nested too deeply"),
        (LINE[:-1] + ', "old_chosen": 5.0, "old_rejected": -1}', "old_chosen must .* <= 0, got 5"),
        (json.dumps(PAIR | {"chosen": 7 * 10**100}), "got an integer of 336 bits"),
        (json.dumps(PAIR | {"chosen": {"role": "x" * 10**6}}), r"got \{'role': 'x+\.\.\.$"),
        (json.dumps(PAIR | {"chosen": [2**63]}), "chosen must be text, .* token ids"),
        (json.dumps({"x" * 10**5: 0}), "the columns must be one of"),
    ],
)
def test_bad_lines_are_named_in_a_readable_length(write, line, message):
    with pytest.raises(ValueError, match=rf"data\.jsonl, line 1: .*{message}") as raised:
        read_text_data(write(line))
    assert len(str(raised.value)) < 1200


def test_weights_beyond_all_numbers(write):
    with pytest.raises(ValueError, match=r"data\.jsonl: weight must have a finite sum"):
        read_text_data(write(*[PAIR | {"weight": 1e308}] * 3))


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return pytest.importorskip("datasets")


def test_a_data_set_saved_to_disk(datasets, tmp_path):
    table = datasets.Dataset.from_list([PAIR] * 3)
    table.save_to_disk(tmp_path / "one")
    found = read_text_data(tmp_path / "one")
    assert pairs(found) == [EXPECTED] * 3
    with pytest.raises(ValueError, match=r"one: the folder holds one saved data set without spl"):
        read_text_data(tmp_path / "one", split="test")
    datasets.DatasetDict(train=table, test=table.select([0])).save_to_disk(tmp_path / "two")
    assert len(read_text_data(tmp_path / "two")) == 3
    assert len(read_text_data(tmp_path / "two", split="test")) == 1
    with pytest.raises(ValueError, match=r"two: split must be one of train, test, got 'dev'"):
        read_text_data(tmp_path / "two", split="dev")
    (tmp_path / "one" / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"one: cannot be read as a saved data set \(.+\)$"):
        read_text_data(tmp_path / "one")


def test_a_folder_of_files_with_different_columns_says_so(datasets, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINE + "\n")
    (folder / "b.jsonl").write_text(json.dumps(PAIR | {"id": 3}) + "\n")
    with pytest.raises(ValueError, match=r"split 'train' of this folder .*column names don't mat"):
        read_text_data(folder)
    (folder / "b.jsonl").write_text(LINE[:20])
    with pytest.raises(ValueError, match=r"split 'train' of this folder .*JSON parse error"):
        read_text_data(folder)


def error_of(path):
    """Return what reading a file says: nothing where it goes well, and no error of another kind."""
    try:
        read_text_data(path)
    except ValueError as error:
        return str(error)
    return ""


def test_damaged_tables(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    rows = [PAIR | {"chosen": f" Yes {i}", "weight": float(i + 1)} for i in range(50)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=10)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(len(damaged), size=rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged[: rng.choice([len(damaged), rng.integers(len(damaged))])]))
        said = error_of(path)
        refused += bool(said)
        assert not said or (said.startswith(str(path)) and len(said) < len(str(path)) + 900)
    assert refused > 20
    for name, value in {"prob": b"\xff", "weight": datetime.date(2020, 1, 1)}.items():
        parquet.write_table(
            pyarrow.table({**{k: [v] for k, v in PAIR.items()}, "weight": [value]}), path
        )
        with pytest.raises(ValueError, match=rf"{path.name}, row 1: weight must be a number"):
            read_text_data(path)
        assert name


def test_dialogues_of_a_table_that_lacks_them_in_a_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    dialogue = {"chosen": HEAD + " Yes.", "rejected": HEAD + " No."}
    parquet.write_table(pyarrow.Table.from_pylist([PAIR, dialogue]), path)
    with pytest.raises(ValueError, match=r"row 2: expected the columns .* got no prompt"):
        read_text_data(path)

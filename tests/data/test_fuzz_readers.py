"""Files changed at random: every reader returns data or raises one ValueError that names the file.

Seeded mutations of good files: flipped bits, cuts, doubled and exchanged pieces, bytes of other
encodings, and values put into rows of JSON.
"""

import functools
import gzip
import json

import numpy as np
import pytest
from text_rows import HEAD, NO, PAIR, SYSTEM, USER, YES

from prefsim.data import read_jsonl, write_jsonl
from prefsim.data.comparisons import Comparisons
from prefsim.data.delivery import read_delivery
from prefsim.data.feedback import Feedback
from prefsim.data.rankings import Rankings
from prefsim.data.segments import Segments
from prefsim.lm import read_text_data
from prefsim.lm.command.settings import read_toml
from prefsim.worlds.ballots import read_preflib, synthetic_ballots

# A damaged header looks to NumPy as if Python 2 had written it.
pytestmark = pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required:UserWarning")

ROUNDS = 60
LONGEST_MESSAGE = 1500

PIECES = [
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", "\u2028\x85é".encode(), b"\xed\xa0\x80", b"\\ud800"),
    *(b"\n", b"\r", b"\r\n\r\n", b'"', b"{", b"}", b"[" * 3000, b"]", b",", b":", b"#", b"\\"),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"-1", b"true", b"null", b"0.5", b"{}", b"[]"),
]
VALUES = [
    *(None, True, False, 0, -1, 1.5, 2**63, -(10**400), 1e308, "", "0.25", "\ud800", "x" * 5000),
    *([], [0, 1], [[0], [1, 2]], [True], ["a"], [None], {}, {"role": "user"}, [USER], [YES], [{}]),
    *([{"from": "gpt", "value": "Yes."}], [USER | {"content": [{"type": "image"}]}]),
]
KEYS = [
    *("prompt", "chosen", "rejected", "completion", "completions", "label", "scores", "samples"),
    *("messages", "conversations", "system", "tools", "weight", "prob", "old_chosen", "mask", "id"),
    *("states", "actions", "mismatched", "rejected_prompt", "input", "chosen_score", "k" * 3000),
]


def changed_bytes(rng, content):
    """Return bytes with a few changes of one kind."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) + 1))
        kind = rng.integers(5)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + int(rng.integers(20))] = b""
        elif kind == 2:
            data[at:at] = PIECES[rng.integers(len(PIECES))]
        elif kind == 3:
            data[at:at] = data[at // 2 : at // 2 + int(rng.integers(40))]
        else:
            del data[at:]
    if rng.random() < 0.05:
        return bytes(data).decode("utf-8", errors="replace").encode("utf-16")
    return bytes(data)


def changed_rows(rng, content):
    """Return JSON lines with a value of another kind, or a key more or less, in some rows."""
    rows = [json.loads(line) for line in content.decode().splitlines()]
    for _ in range(rng.integers(1, 3)):
        row = rows[rng.integers(len(rows))]
        key = rng.choice([*row, KEYS[rng.integers(len(KEYS))]]) if row else KEYS[0]
        if rng.random() < 0.25:
            row.pop(key, None)
        else:
            row[key] = VALUES[rng.integers(len(VALUES))]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def error_of(read, path):
    """Return what a reader says; an error of another kind fails the test."""
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return ""


def survives(read, path, content, changes, seed, rounds=ROUNDS, mark=None):
    """Read changed files; most must be refused, or the changes change nothing."""
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(rounds):
        path.write_bytes(changes[rng.integers(len(changes))](rng, content))
        said = error_of(read, path)
        refused += bool(said)
        assert not said or (mark or str(path)) in said, said[:300]
        assert len(said) < len(str(path)) + LONGEST_MESSAGE
    path.write_bytes(content)
    assert error_of(read, path) == ""
    assert refused >= rounds // 5


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


TEXT_FILES = {
    "pairs": lines(*[PAIR | {"weight": i + 1, "prob": 0.5, "id": i} for i in range(4)]),
    "chat": lines(*[{"prompt": [SYSTEM, USER], "chosen": [YES], "rejected": [NO]}] * 3),
    "dialogues": lines(*[{"chosen": HEAD + " Yes.", "rejected": HEAD + " No."}] * 3),
    "feedback": lines(*[{"prompt": "Hi", "completion": " you", "label": True}] * 3),
    "judged dialogues": lines(*[{"messages": [USER, YES], "label": 0.25}] * 3),
    "rankings": lines(*[{"prompt": "Hi", "completions": [" a", " b"], "scores": [1, 0.5]}] * 3),
    "negatives": lines(*[{"prompt": [1, 2], "rejected": [3], "samples": [[4], [5, 6]]}] * 3),
    "sharegpt": lines(
        *[{"conversations": [{"from": "human", "value": "Hi"}], "chosen": YES, "rejected": NO}] * 3
    ),
}


@pytest.mark.parametrize("name", TEXT_FILES)
def test_text(tmp_path, name):
    survives(
        read_text_data,
        tmp_path / "data.jsonl",
        TEXT_FILES[name],
        (changed_bytes, changed_rows),
        seed=len(name),
    )


@pytest.mark.parametrize("name", ["pairs", "chat"])
def test_arrays_of_text(tmp_path, name):
    rows = [json.loads(line) for line in TEXT_FILES[name].decode().splitlines()]
    content = json.dumps(rows, indent=1).encode()
    survives(read_text_data, tmp_path / "data.json", content, (changed_bytes,), seed=1)


def test_compressed_text(tmp_path):
    content = gzip.compress(TEXT_FILES["pairs"] * 20, mtime=0)
    survives(read_text_data, tmp_path / "data.jsonl.gz", content, (changed_bytes,), seed=2)


def test_tables_of_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [json.loads(line) for line in TEXT_FILES["pairs"].decode().splitlines()] * 5
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "whole", row_group_size=7)
    content = (tmp_path / "whole").read_bytes()
    survives(read_text_data, tmp_path / "data.parquet", content, (changed_bytes,), seed=3)


RNG = np.random.default_rng(0)
DATA = {
    "comparisons": Comparisons([0, 1, 1], [2, 0, 3], [1, 3, 0], prob=[0.5, 1, 0.2]),
    "comparisons with scores": Comparisons(
        [0, 1],
        [1, 0],
        [0, 1],
        chosen_score=[1, 2],
        rejected_score=[0, 1],
        old_chosen=[-1, -2],
        old_rejected=[-1, -3],
    ),
    "feedback": Feedback([0, 1, 1], [2, 0, 1], [1.0, 0.0, 0.3], density_ratio=[0.5, 1, 2]),
    "rankings": Rankings([0, 1], [[0, 1, 2], [2, 1, 0]], RNG.normal(size=(2, 3))),
    "segments": Segments(RNG.integers(4, size=(3, 2, 4)), RNG.integers(4, size=(3, 2, 3))),
}


@pytest.mark.parametrize("name", DATA)
def test_integer_responses(tmp_path, name):
    path = tmp_path / "data.jsonl"
    write_jsonl(DATA[name], path)
    survives(read_jsonl, path, path.read_bytes(), (changed_bytes, changed_rows), seed=len(name))


def test_ballots(tmp_path):
    content = synthetic_ballots().read_bytes()
    survives(read_preflib, tmp_path / "d.toi", content, (changed_bytes,), seed=4)


def test_settings(tmp_path):
    content = b'loss = "ipo"\nsteps = 4\nlearning-rate = 1e-3\n\n[set]\ntau = 0.1\nx = [1, [2]]\n'
    survives(read_toml, tmp_path / "d.toml", content, (changed_bytes,), seed=5)


@pytest.mark.parametrize("kind", ["segment_pairs", "Y", "X"])
def test_the_delivery_study(tmp_path, kind):
    move = [[4, 2], [-1, 0], [0, -1], [0, -1]]
    arrays = {
        "segment_pairs": np.array([[move, move]] * 4),
        "Y": np.full(4, 0.5),
        "X": np.zeros((4, 3)),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"privileged_control_{name}.npy", array)
    path = tmp_path / f"privileged_control_{kind}.npy"
    survives(
        functools.partial(lambda folder, _: read_delivery(folder), tmp_path),
        path,
        path.read_bytes(),
        (changed_bytes,),
        seed=6,
        mark=str(tmp_path),
    )

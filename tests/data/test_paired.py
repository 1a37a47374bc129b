"""Judgements of named items out of a table of comma-separated values."""

import gzip

import numpy as np
import pytest

from prefsim.data.paired import read_paired

TABLE = "rater,first,second,choice\n1,tea,milk,first\n1,milk,water,tie\n2,tea,water,second\n"


def written(folder, text, name="judged.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read(tmp_path):
    judged = read_paired(written(tmp_path, TABLE))
    assert judged.items == ("milk", "tea", "water")
    assert judged.first.tolist() == [1, 0, 1]
    assert judged.second.tolist() == [0, 2, 2]
    assert judged.prob.tolist() == [1.0, 0.5, 0.0]
    assert {name: column.tolist() for name, column in judged.about.items()} == {
        "rater": ["1", "1", "2"]
    }
    assert judged.indicators().tolist() == [[-1, 1, 0], [1, 0, -1], [0, 1, -1]]
    assert judged.where(rater="2").prob.tolist() == [0.0]
    packed = tmp_path / "judged.csv.gz"
    packed.write_bytes(gzip.compress(TABLE.encode()))
    np.testing.assert_array_equal(read_paired(packed).prob, judged.prob)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must name each column once"),
        ("rater,first,second\n", "the first line must name each column once"),
        ("first,second,choice,choice\n", "the first line must name each column once"),
        ("first,second,choice\n", "expected at least one judgement"),
        ("first,second,choice\na,b\n", "line 2: expected 3 values, got 2"),
        ("first,second,choice\na,b,first\na,b,maybe\n", "line 3: choice must be"),
        ("first,second,choice\na,a,first\n", "line 2: an item must be compared with another"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_paired(written(tmp_path, text))


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_paired(tmp_path / "none.csv")
    path = tmp_path / "bytes.csv"
    path.write_bytes(b"first,second,choice\n\xff\xfe,b,first\n")
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_paired(path)


def test_what_nobody_judged(tmp_path):
    judged = read_paired(written(tmp_path, TABLE))
    with pytest.raises(ValueError, match="rater = 3, got none"):
        judged.where(rater="3")
    with pytest.raises(ValueError, match="a column must be one of rater"):
        judged.where(age="3")


def test_real_judgements(real_data):
    if not (real_data / "paired").is_dir():
        pytest.skip("no judgements of pairs there")
    sound = read_paired(real_data / "paired" / "sound_quality.csv.gz")
    assert len(sound.items) == 8 and sound.first.size == 21924
    schools = read_paired(real_data / "paired" / "cems_choice.csv.gz")
    wins = schools.indicators().clip(0).T @ schools.prob
    wins += (-schools.indicators()).clip(0).T @ (1 - schools.prob)
    rate = wins / np.abs(schools.indicators()).sum(axis=0)
    known = {"London": 0.751, "Paris": 0.568, "Barcelona": 0.468, "Stockholm": 0.320}
    for name, share in known.items():
        assert rate[schools.items.index(name)] == pytest.approx(share, abs=6e-4)

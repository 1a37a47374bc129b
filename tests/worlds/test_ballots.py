"""Ballot files and the preferences counted from them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.worlds.ballots import preference_of_ranks, read_preflib, synthetic_ballots
from prefsim.worlds.game import PreferenceGame

HEADER = """# FILE NAME: test.toi
# TITLE: Test
# DATA TYPE: {kind}
# NUMBER ALTERNATIVES: 3
# NUMBER VOTERS: 7
# NUMBER UNIQUE ORDERS: 3
# ALTERNATIVE NAME 1: Ann
# ALTERNATIVE NAME 2: Bob: the builder
# ALTERNATIVE NAME 3: Cy
"""
ORDERS = {
    "toi": "4: 1,{2,3}\n2: 3\n1: {1,2}\n",
    "toc": "4: 1,{2,3}\n2: 3,1,2\n1: {1,2,3}\n",
    "soi": "4: 1,2\n2: 3\n1: 2,1,3\n",
}
ORDERS["soc"] = "4: 1,2,3\n2: 3,1,2\n1: 2,1,3\n"


@pytest.fixture
def ballot_file(tmp_path):
    def write(kind="toi", old="", new="", text=None):
        path = tmp_path / f"test.{kind}"
        content = HEADER.format(kind=kind) + ORDERS[kind] if text is None else text
        assert old in content
        path.write_text(content.replace(old, new, 1) if old else content, encoding="utf-8")
        return path

    return write


def by_hand(ranks, counts):
    """Count pairs one voter at a time."""
    n = len(ranks[0])
    wins = np.zeros((n, n))
    for row, count in zip(ranks, counts, strict=True):
        level = [np.inf if r < 0 else r for r in row]
        for i, j in itertools.product(range(n), repeat=2):
            wins[i, j] += count * ((level[i] < level[j]) + 0.5 * (level[i] == level[j]))
    return wins / sum(counts)


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("toi", [[0, 1, 1], [-1, -1, 0], [0, 0, -1]]),
        ("toc", [[0, 1, 1], [1, 2, 0], [0, 0, 0]]),
        ("soi", [[0, 1, -1], [-1, -1, 0], [1, 0, 2]]),
        ("soc", [[0, 1, 2], [1, 2, 0], [1, 0, 2]]),
    ],
)
def test_all_four_kinds(ballot_file, kind, ranks):
    ballots = read_preflib(ballot_file(kind))
    assert ballots.ranks.tolist() == ranks
    assert ballots.counts.tolist() == [4, 2, 1]
    assert ballots.n_voters == 7
    assert ballots.labels == ("Ann", "Bob: the builder", "Cy")
    assert (ballots.title, ballots.kind) == ("Test", kind)
    np.testing.assert_allclose(
        PreferenceGame.from_ballots(ballots).preference,
        by_hand(ranks, [4, 2, 1]),
        rtol=0,
        atol=1e-15,
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# DATA TYPE: toi\n", "", r"test.toi, line 11: the header has no '# DATA TYPE: ...' line"),
        (
            "DATA TYPE: toi",
            "DATA TYPE: wmd",
            r"line 3: DATA TYPE must be one of soc, soi, toc, toi, got 'wmd'",
        ),
        (
            "ALTERNATIVES: 3",
            "ALTERNATIVES: three",
            r"line 4: NUMBER ALTERNATIVES must be a whole number > 0, got 'three'",
        ),
        (
            "ALTERNATIVES: 3",
            "ALTERNATIVES: 4",
            (
                r"line 4: 4 alternatives are announced, but no '# ALTERNATIVE NAME 4: ...' line"
                r" follows"
            ),
        ),
        ("VOTERS: 7", "VOTERS: 8", r"line 5: NUMBER VOTERS is 8, but the orders add up to 7"),
        ("VOTERS: 7", "VOTERS: -7", r"line 5: NUMBER VOTERS must be a whole number"),
        (
            "ORDERS: 3",
            "ORDERS: 4",
            r"line 12: the file ends after 3 orders, but its header announces 4",
        ),
        ("1: {1,2}\n", "", r"line 11: the file ends after 2 orders, but its header announces 3"),
        (
            "# ALTERNATIVE NAME 3: Cy",
            "# ALTERNATIVE NAME 2: Cy",
            r"line 9: ALTERNATIVE NAME 2 is given twice, first in line 8",
        ),
        ("# ALTERNATIVE NAME 3: Cy", "# ALTERNATIVE NAME 3 Cy", r"line 9: expected '# KEY: value'"),
        ("2: 3\n", "2: 4\n", r"line 11: alternative 4 is unknown, expected 1 to 3"),
        ("2: 3\n", "2: 0\n", r"line 11: alternative 0 is unknown"),
        ("2: 3\n", "2: 3,1,3\n", r"line 11: alternative 3 appears twice in '3,1,3'"),
        ("2: 3\n", "2: {3,3}\n", r"line 11: alternative 3 appears twice"),
        (
            "2: 3\n",
            "0: 3\n",
            r"line 11: expected 'count: order' with a whole count > 0, got '0: 3'",
        ),
        ("2: 3\n", "2.5: 3\n", r"line 11: expected 'count: order'"),
        ("2: 3\n", "2 3\n", r"line 11: expected 'count: order'"),
        (
            "2: 3\n",
            "2: 3,{1\n",
            r"line 11: expected alternatives separated by commas, ties in braces, got '3,{1'",
        ),
        ("2: 3\n", "2: {}\n", r"line 11: expected alternatives separated by commas"),
        ("2: 3\n", "2: 3,\n", r"line 11: expected alternatives separated by commas"),
        ("2: 3\n", "2: Cy\n", r"line 11: expected alternatives separated by commas"),
        ("2: 3\n", "# LATE: yes\n2: 3\n", r"line 11: a header line after the first order"),
        ("# FILE NAME: test.toi", "3", r"line 1: expected a header line '# KEY: value', got '3'"),
    ],
)
def test_a_malformed_file_names_the_line(ballot_file, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_preflib(ballot_file("toi", old, new))


def test_strict_and_complete_orders_are_what_they_say(ballot_file):
    with pytest.raises(ValueError, match=r"line 10: DATA TYPE soi has no ties, got '\{1,2\}'"):
        read_preflib(ballot_file("soi", "4: 1,2", "4: {1,2}"))
    with pytest.raises(
        ValueError,
        match=r"line 10: DATA TYPE soc ranks every alternative, but 3 is missing in '1,2'",
    ):
        read_preflib(ballot_file("soc", "4: 1,2,3", "4: 1,2"))


def test_files_that_cannot_be_read(tmp_path, ballot_file):
    with pytest.raises(
        ValueError, match=r"missing\.soi cannot be read as a ballot file: No such file"
    ):
        read_preflib(tmp_path / "missing.soi")
    with pytest.raises(ValueError, match="cannot be read as a ballot file: Is a directory"):
        read_preflib(tmp_path)
    with pytest.raises(ValueError, match="line 1: the file is empty"):
        read_preflib(ballot_file(text=" \n\n"))
    binary = tmp_path / "binary.soi"
    binary.write_bytes(b"# TITLE: x\n\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.soi, line 2: not UTF-8 text"):
        read_preflib(binary)


def test_a_file_cut_anywhere_is_refused(ballot_file):
    whole = HEADER.format(kind="toi") + ORDERS["toi"]
    for end in range(len(whole) - 2):
        with pytest.raises(ValueError, match=r"test\.toi, line \d+: "):
            read_preflib(ballot_file(text=whole[:end]))


def test_windows_line_ends_and_a_byte_order_mark(tmp_path, ballot_file):
    path = tmp_path / "windows.toi"
    path.write_bytes(
        b"\xef\xbb\xbf" + (HEADER.format(kind="toi") + ORDERS["toi"]).replace("\n", "\r\n").encode()
    )
    expected = read_preflib(ballot_file("toi"))
    found = read_preflib(path)
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    assert found.labels == expected.labels


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(
            st.tuples(st.lists(st.integers(-1, 3), min_size=n, max_size=n), st.integers(1, 9)),
            min_size=1,
            max_size=6,
        )
    )
)
def test_the_count_of_pairs_is_that_of_a_loop(ballots):
    ranks, counts = [list(part) for part in zip(*ballots, strict=True)]
    found = preference_of_ranks(ranks, counts)
    np.testing.assert_allclose(found, by_hand(ranks, counts), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found + found.T, np.ones_like(found))


def test_counting_in_blocks_and_batches(monkeypatch):
    rng = np.random.default_rng(0)
    ranks, weights = rng.integers(-1, 4, (2, 3, 50, 6)), rng.random((3, 50))
    whole = preference_of_ranks(ranks, weights)
    assert whole.shape == (2, 3, 6, 6)
    np.testing.assert_allclose(
        whole[1, 2], by_hand(ranks[1, 2].tolist(), weights[2].tolist()), atol=1e-14
    )
    wide = rng.integers(0, 2100, (5, 2100))
    np.testing.assert_allclose(
        preference_of_ranks(wide)[:3, :3], preference_of_ranks(wide[:, :3]), atol=1e-14
    )


@pytest.mark.parametrize(
    ("ranks", "weights", "message"),
    [
        ([[0, -2]], None, "rankings must be >= -1, got -2"),
        ([[0.5, 1]], None, "rankings must hold integers"),
        ([0, 1], None, r"rankings must have shape \(\.\.\., V, n\)"),
        (np.zeros((0, 3), int), None, "at least one ballot"),
        ([[0, 1]], [-1.0], "weights must be >= 0"),
        ([[0, 1]], [0.0], "positive sum"),
        ([[0, 1]], [1.0, 2.0], "weights must have trailing shape"),
        ([[0, 1]], [np.nan], "weights must be finite"),
    ],
)
def test_bad_rankings(ranks, weights, message):
    with pytest.raises(ValueError, match=message):
        preference_of_ranks(ranks, weights)


def test_the_shipped_file_is_a_paradox():
    game = PreferenceGame.from_preflib(synthetic_ballots())
    assert game.ballots.n_voters == 120
    assert (game.ballots.ranks == -1).any(), "it has incomplete orders"
    beats = game.preference > 0.5
    assert beats[0, 1]
    assert beats[1, 2]
    assert beats[2, 0]
    assert beats[:3, 3].all()
    assert game.condorcet_winner() == -1
    np.testing.assert_allclose(
        game.preference,
        by_hand(game.ballots.ranks.tolist(), game.ballots.counts.tolist()),
        atol=1e-15,
    )


@pytest.mark.parametrize(
    ("name", "voters", "winner"),
    [
        ("00002-00000001.soi", 475, "Bdale Garbee"),
        ("00002-00000007.soi", 403, "Stefano Zacchiroli"),
    ],
)
def test_real_elections(real_data, name, voters, winner):
    path = real_data / "preflib" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    game = PreferenceGame.from_preflib(path)
    assert game.ballots.n_voters == voters
    assert game.labels[int(game.condorcet_winner())] == winner
    np.testing.assert_allclose(
        game.preference,
        by_hand(game.ballots.ranks.tolist(), game.ballots.counts.tolist()),
        atol=1e-14,
    )


@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_names_may_hold_line_separators(tmp_path, mark, line_end):
    text = (HEADER.format(kind="toi") + ORDERS["toi"]).replace("Ann", "A\u2028n\x85n\x0c\u2029o")
    path = tmp_path / "d.toi"
    path.write_bytes((mark + text.replace("\n", line_end)).encode())
    assert read_preflib(path).labels[0] == "A\u2028n\x85n\x0c\u2029o"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("VOTERS: 7", f"VOTERS: {'7' * 9000}", "line 5: NUMBER VOTERS must be a whole number > 0"),
        ("4: 1,{2,3}", f"{'4' * 9000}: 1", "line 10: expected 'count: order' with a whole count"),
        ("4: 1,{2,3}", f"{2**63}: 1", "line 10: expected 'count: order' with a whole count"),
        ("4: 1,{2,3}", f"4: {'1' * 9000}", "line 10: alternative 11111111111111111111 is unkn"),
        ("4: 1,{2,3}", "4: \N{ARABIC-INDIC DIGIT ONE}", "line 10: alternative . is unknown"),
        ("4: 1,{2,3}", f"4: {'x' * 10**6}", "line 10: expected alternatives separated by commas"),
        ("# TITLE: Test", "# " + "x" * 10**6, "line 2: expected '# KEY: value', got '# xxx"),
        ("4: 1,{2,3}", f"{2**62}: 1,{{2,3}}\n{2**62}: 2", "line 5: NUMBER VOTERS is 7"),
    ],
)
def test_numbers_and_lines_beyond_measure(ballot_file, old, new, message):
    path = ballot_file(old=old, new=new)
    if new.count("\n"):
        path.write_text(path.read_text().replace("ORDERS: 3", "ORDERS: 4"))
    with pytest.raises(ValueError, match=message) as raised:
        read_preflib(path)
    assert len(str(raised.value)) < len(str(path)) + 300


def test_more_voters_than_an_array_counts_to(ballot_file):
    path = ballot_file(old="4: 1,{2,3}\n", new="")
    text = path.read_text().replace("2: 3", f"{2**62}: 3").replace("1: {1", f"{2**62}: {{1")
    path.write_text(
        text.replace("ORDERS: 3", "ORDERS: 2").replace("VOTERS: 7", f"VOTERS: {2**63 - 1}")
    )
    with pytest.raises(ValueError, match=f"line 5: .* but the orders add up to {2**63}"):
        read_preflib(path)

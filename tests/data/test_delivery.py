"""The human study.

What the reader makes of its files, reference values of what they say, and every way in which a
file can be wrong.
"""

import numpy as np
import pytest

from prefsim.data.delivery import delivery_segments, has_delivery, read_delivery
from prefsim.solvers.likelihood.rationality import cross_validated_loss, fit_rationality
from prefsim.solvers.planning import value_iteration
from prefsim.worlds.delivery import delivery_task

PAIRS = np.array(
    [
        [[[4, 2], [-1, 0], [0, -1], [0, -1]], [[8, 8], [0, 1], [0, 0], [0, 0]]],
        [[[0, 0], [-1, 0], [0, 1], [1, 0]], [[3, 3], [0, 1], [0, 1], [-1, 0]]],
    ]
)


@pytest.fixture
def study(tmp_path):
    def write(
        prefix="privileged_control", *, pairs=PAIRS, y=(1.0, 0.5), x=((0.0,) * 3,) * 2, skip=""
    ):
        for kind, array in (("segment_pairs", pairs), ("Y", np.asarray(y)), ("X", np.asarray(x))):
            if kind != skip:
                np.save(tmp_path / f"{prefix}_{kind}.npy", array)
        return tmp_path

    return write


def test_segments_are_replayed_on_the_board():
    found = delivery_segments(PAIRS)
    np.testing.assert_array_equal(found.states[0, 0], [42, 32, 31, 30])
    np.testing.assert_array_equal(found.states[0, 1], [88, 89, 89, 89])
    np.testing.assert_array_equal(found.mask[0], [[True] * 3, [True, False, False]])
    # Off the board and against the house, a move stays.
    np.testing.assert_array_equal(found.states[1], [[0, 0, 1, 11], [33, 33, 33, 23]])
    np.testing.assert_array_equal(found.actions[1], [[0, 3, 1], [3, 3, 0]])
    assert (found.prob == 0.5).all()


@pytest.mark.parametrize("prefix", ["privileged_control", "Privileged-Control_full_filtered"])
def test_labels_are_turned_round(study, prefix):
    folder = study(prefix)
    assert has_delivery(folder)
    assert not has_delivery(folder, "Trained-Control")
    found = read_delivery(folder)
    np.testing.assert_array_equal(found.segments.prob, [0.0, 0.5])
    assert found.statistics.shape == (2, 3)


def bad_pairs(pair, segment, row, value):
    pairs = PAIRS.copy()
    pairs[pair, segment, row] = value
    return pairs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": (1.0, 2.0)}, "Y must lie in"),
        ({"y": (1.0, np.nan)}, "Y must be finite"),
        ({"y": (1.0,)}, "Y must have one row for each of 2 segment pairs, got 1"),
        ({"y": np.ones((2, 1))}, "Y must have 1 axes"),
        ({"pairs": PAIRS[:1], "y": np.ones((1, 1)), "x": np.zeros((1, 3))}, "Y must have 1 axes"),
        ({"x": np.zeros(2)}, "X must have 2 axes"),
        ({"x": np.zeros((3, 3))}, "X must have one row for each of 2"),
        ({"x": np.zeros((2, 2))}, "X must have trailing shape"),
        ({"pairs": PAIRS.astype(float)}, "segment_pairs must hold integers"),
        ({"pairs": PAIRS[:, :, :3]}, "segment_pairs must have trailing shape"),
        (
            {"pairs": bad_pairs(1, 0, 0, (10, 0))},
            r"start on the board of 10 x 10 cells, got start \(10, 0\) in pair 1, segment 0",
        ),
        ({"pairs": bad_pairs(0, 1, 0, (-1, 4))}, r"got start \(-1, 4\) in pair 0, segment 1"),
        ({"pairs": bad_pairs(0, 1, 0, (-2, 4))}, "segment_pairs must be >= -1, got -2"),
        ({"pairs": bad_pairs(0, 1, 0, (3, 4))}, "can be stood on"),
        ({"pairs": bad_pairs(0, 1, 0, (2, 2))}, "does not end the episode"),
        (
            {"pairs": bad_pairs(0, 0, 2, (1, 1))},
            r"must move by .* got move 2 \(1, 1\) in pair 0, segment 0",
        ),
        ({"pairs": bad_pairs(0, 0, 3, (0, 0))}, "not be padded before the episode is over"),
        ({"pairs": bad_pairs(0, 1, 3, (0, 1))}, "must not leave a cell that ends the episode"),
        (
            {"skip": "Y"},
            (
                "must hold Privileged-Control_full_filtered_Y.npy or privileged_control_Y.npy, got"
                " neither"
            ),
        ),
    ],
)
def test_bad_files(study, options, message):
    folder = study(**options)
    with pytest.raises(ValueError, match=message):
        read_delivery(folder)


def test_unreadable_files(study, tmp_path):
    folder = study(skip="Y")
    np.save(
        tmp_path / "privileged_control_Y.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True
    )
    with pytest.raises(ValueError, match="must be a plain NumPy array, but cannot be read"):
        read_delivery(folder)
    (tmp_path / "privileged_control_Y.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="must be a plain NumPy array, but cannot be read"):
        read_delivery(folder)
    with pytest.raises(ValueError, match="folder must be a folder that exists"):
        read_delivery(tmp_path / "nowhere")


# --- the study itself ---


@pytest.fixture(scope="module")
def people(real_data):
    return read_delivery(real_data / "delivery")


def test_the_study_replays_exactly(people):
    segments, (total, start, end) = people.segments, people.statistics.T
    assert len(segments) == 1793
    task = delivery_task()
    value = np.asarray(value_iteration(task.mdp).value)
    seen = segments.returns(task.mdp.reward)
    np.testing.assert_array_equal(seen[:, 1] - seen[:, 0], total)
    np.testing.assert_array_equal(
        value[segments.states[:, 1, 0]] - value[segments.states[:, 0, 0]], start
    )
    np.testing.assert_array_equal(
        value[segments.states[:, 1, -1]] - value[segments.states[:, 0, -1]], end
    )


@pytest.mark.parametrize(
    ("model", "beta", "value", "held_out"),
    [("partial return", 0.058558, 0.619519, 0.6202), ("regret", 0.242024, 0.572739, 0.5732)],
)
def test_fits_to_all_labels(people, model, beta, value, held_out):
    total, start, end = people.statistics.T
    margin = -total if model == "partial return" else start - total - end
    found = fit_rationality(margin, people.segments.prob)
    assert found.beta == pytest.approx(beta, abs=5e-7)
    assert found.value == pytest.approx(value, abs=5e-7)
    assert abs(found.gradient) < 1e-12
    assert cross_validated_loss(margin, people.segments.prob, folds=10, seed=0) == pytest.approx(
        held_out, abs=1e-4
    )


def test_signs_of_all_labels(people):
    total, start, end = people.statistics.T
    regret, label = total + end - start, np.sign(0.5 - people.segments.prob)  # second minus first
    told = label != 0
    assert (np.sign(total) == label)[told].mean() == pytest.approx(0.5136, abs=5e-5)
    assert (np.sign(regret) == label)[told].mean() == pytest.approx(0.6372, abs=5e-5)
    apart = told & (total * regret < 0)
    assert apart.sum() == 386
    assert (np.sign(regret) == label)[apart].mean() == pytest.approx(0.65285, abs=5e-6)


def damaged(path, rng):
    content = bytearray(path.read_bytes())
    for place in rng.integers(min(len(content), 140), size=rng.integers(1, 6)):
        content[place] = rng.integers(256)
    path.write_bytes(bytes(content[: rng.choice([len(content), rng.integers(len(content))])]))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_named(study, seed):
    rng = np.random.default_rng(seed)
    folder = study()
    path = rng.choice(sorted(folder.glob("*.npy")))
    damaged(path, rng)
    said = ""
    try:
        read_delivery(folder)
    except ValueError as error:
        said = str(error)
    assert not said or str(folder) in said
    assert len(said) < len(str(path)) + 400


def test_a_header_that_asks_for_more_than_there_is(study):
    folder = study()
    path = folder / "privileged_control_Y.npy"
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 10**6)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(bytes(16))
    with pytest.raises(ValueError, match=r"control_Y\.npy must be a plain NumPy array"):
        read_delivery(folder)


def test_an_archive_is_no_array(study):
    folder = study()
    path = folder / "privileged_control_Y.npy"
    with path.open("wb") as stream:
        np.savez(stream, Y=np.ones(2))
    with pytest.raises(
        ValueError, match=r"control_Y\.npy must be a plain NumPy array, got an arch"
    ):
        read_delivery(folder)

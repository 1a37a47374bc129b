"""arXiv:2306.04925: bounds and diversity of heads, crowds, partners, real votes."""

import math

import numpy as np
import pytest

from paper_repros.robust.p2c import crowds, real_crowds, reproduction, written_out
from prefsim.data.locate import data_folder
from prefsim.losses.paired_classes import head_diversity

MARGINS = (
    np.tanh([[0.5, -1.0, 2.0], [0.0, 0.3, 1.0]]) - np.tanh([[0.0, 0.2, -2.0], [0.4, 0.3, -1.0]])
).T


def test_diversity_is_kl_and_entropy():
    rows = [written_out.divergence_of_heads(row) for row in MARGINS]
    assert np.mean([row.kl for row in rows]) == pytest.approx(0.06824302116665408, abs=1e-15)
    assert np.mean([row.entropy for row in rows]) == pytest.approx(0.5793896866467678, abs=1e-15)
    assert np.mean([row.cross_entropy for row in rows]) == pytest.approx(0.6476327078134219)


def test_the_most_diverse_heads_are_below_the_stated_bound():
    two, three = head_diversity(np.asarray([2.0, -2.0])), head_diversity(np.asarray([2.0, 2, -2]))
    assert math.log1p(math.exp(2)) == pytest.approx(2.1269, abs=5e-5)
    assert two == pytest.approx(1.8885, abs=5e-5)
    assert three == pytest.approx(1.3808, abs=5e-5)


def test_functions_are_what_is_written():
    off = written_out.distances(3)
    assert len(off) == 10
    assert max(off.values()) < 1e-14


def test_one_annotator_prefers_nobody():
    assert written_out.lead_of_preference(0.9, 0.2, 1, 1) == 0
    # Of three with a majority for class 1 all three are: η/(3 − 2η).
    expected = 0.8 / (3 - 1.6) - 0.6 / (3 - 1.2)
    assert written_out.lead_of_preference(0.8, 0.6, 3, 1) == pytest.approx(expected, abs=1e-15)


def test_heads_agree_below_the_limit_and_part_above():
    spread = reproduction.spreads(3, 100, 0)
    assert (spread[reproduction.SHARE_OF_LIMIT < 0.8] < 1e-3).all()
    assert (spread[reproduction.SHARE_OF_LIMIT > 1.2] > 0.5).all()


def test_sets_of_a_crowd_do_not_touch_each_other():
    both = crowds.drawn_crowd(2, 12, 5, seed=0, tests=20)
    for method in (crowds.MAJORITY, crowds.SHARES, crowds.NO_HEADS):
        found = crowds.predicted(both, method, steps=3, seed=1)
        assert found.shape == (2, 20, 2)
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
        changed = both._replace(inputs=both.inputs * np.asarray([1.0, 3.0])[:, None, None])
        again = crowds.predicted(changed, method, steps=3, seed=1)
        np.testing.assert_allclose(again[0], found[0], atol=1e-6)
        assert np.abs(again[1] - found[1]).max() > 1e-4


@pytest.mark.parametrize("partners", ["random", "disagreement", "inconsistency"])
def test_partners_are_of_the_own_class(partners):
    crowd = crowds.drawn_crowd(3, 12, 5, seed=0, tests=20)
    data = crowds.Training(crowd, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    method = crowds.P2C._replace(partners=partners)
    law = data.law(rng.random((3, 12, 2)), rng.random((3, 12, 3)), method, 0.5)
    same = crowd.label[:, :, None] == crowd.label[:, None, :]
    assert not law[~same].any()
    np.testing.assert_allclose(law.sum(axis=-1), 1)


def test_scores_of_a_perfect_and_of_a_reversed_guess():
    votes = crowds.of_two(np.asarray([[0.1, 0.4, 0.7, 0.9]]))
    right = crowds.scores(votes, votes)
    assert [part.tolist() for part in right] == [[1.0], [0.0], [pytest.approx(1.0)]]
    wrong = crowds.scores(votes[..., ::-1], votes)
    assert wrong.accuracy == [0.0]
    assert wrong.rank == pytest.approx(-1.0)


def test_listeners():
    folder = data_folder()
    crowd = None if folder is None else real_crowds.sound_crowd(folder, range(2))
    if crowd is None:
        pytest.skip("no judgements by listeners")
    assert crowd.inputs.shape == (2, 56, 44)
    assert crowd.test_votes.shape == (2, 56, 2)
    whole = crowd.votes[..., 0] * real_crowds.LISTENERS
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-12)
    np.testing.assert_allclose(crowd.test_votes.sum(axis=-1), 1)
    # A few listeners say what all do, on average.
    assert abs(crowd.votes[..., 0].mean() - crowd.test_votes[..., 0].mean()) < 0.1


def test_drawn_annotators_mostly_see_the_class():
    crowd = real_crowds.drawn_annotators("wine", range(2))
    if crowd is None:
        pytest.skip("scikit-learn is not installed")
    assert crowd.votes.shape == (2, 80, 3)
    assert crowd.votes.max(axis=-1).mean() > 0.6
    np.testing.assert_array_equal(np.sort(crowd.test_votes, axis=-1)[..., :2], 0)

"""Partners of one class: laws by hand, draws that follow them, what has no partner."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.class_pairs import (
    annealed_law,
    disagreement_law,
    disagreements,
    drawn_partners,
    inconsistency_law,
    random_partner_law,
)

LABEL = np.asarray([0, 1, 0, 1, 0])


def test_random_partners():
    law = random_partner_law(LABEL)
    np.testing.assert_array_equal(law[1], [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(law.sum(axis=-1), 1)
    np.testing.assert_array_equal(law > 0, (LABEL[:, None] == LABEL) & ~np.eye(5, dtype=bool))


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_disagreements_are_counted_as_they_are_defined(seed, heads):
    # Whole numbers, so that there are ties.
    rewards = np.random.default_rng(seed).integers(0, 3, (4, heads)).astype(float)
    found = disagreements(rewards)

    def vote(t, i, j):
        if rewards[i, t] == rewards[j, t]:
            return 2
        return int(rewards[i, t] > rewards[j, t])

    for i in range(4):
        for j in range(4):
            votes = [vote(t, i, j) for t in range(heads)]
            expected = sum(votes[a] != votes[b] for a in range(heads) for b in range(a))
            assert found[i, j] == expected
    law = disagreement_law(rewards, [0, 0, 0, 0])
    for i in range(4):
        most = max(found[i, j] for j in range(4) if j != i)
        best = [j for j in range(4) if j != i and found[i, j] == most]
        np.testing.assert_allclose(law[i, best], 1 / len(best))
        assert law[i].sum() == pytest.approx(1)


def test_disagreement_looks_at_the_own_class_alone():
    rewards = np.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 2.0], [2.0, 2.0]])
    np.testing.assert_array_equal(disagreement_law(rewards, [0, 1, 0, 1])[0], [0, 0, 1, 0])


def test_inconsistent_pairs_are_likely():
    cost = np.asarray([[9.0, 3.0, 7.0, 5.0, 9.0]] * 5)
    law = inconsistency_law(cost, [0] * 5)
    np.testing.assert_allclose(law[0], [0, 0, 4 / 12, 2 / 12, 6 / 12])
    # The least of anchor 1's partners is 5, not 3.
    np.testing.assert_allclose(law[1], [4 / 10, 0, 2 / 10, 0, 4 / 10])
    np.testing.assert_allclose(inconsistency_law(cost * 1e-300, [0] * 5), law)
    equal = inconsistency_law(np.ones((5, 5)), LABEL)
    np.testing.assert_array_equal(equal, random_partner_law(LABEL))


def test_annealing_goes_from_random_to_the_law():
    law = inconsistency_law(np.arange(25.0).reshape(5, 5), LABEL)
    np.testing.assert_array_equal(annealed_law(law, LABEL, progress=0.0), random_partner_law(LABEL))
    np.testing.assert_array_equal(annealed_law(law, LABEL, progress=1.0), law)


def test_draws_follow_the_law():
    law = np.asarray([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    drawn = drawn_partners(np.broadcast_to(law, (20_000, 3, 3)), seed=0)
    assert drawn.shape == (20_000, 3)
    for i in range(3):
        shares = np.bincount(drawn[:, i], minlength=3) / 20_000
        np.testing.assert_allclose(shares, law[i], atol=0.015)
        assert not shares[law[i] == 0].any()
    np.testing.assert_array_equal(drawn[:9], drawn_partners(np.stack([law] * 20_000), seed=0)[:9])
    assert (drawn != drawn_partners(np.stack([law] * 20_000), seed=1)).any()


def test_sets_do_not_touch_each_other():
    labels = np.stack([LABEL, 1 - LABEL, [0, 0, 1, 1, 1]])
    rng = np.random.default_rng(0)
    rewards, cost = rng.standard_normal((3, 5, 3)), rng.random((3, 5, 5))
    for law, alone in (
        (random_partner_law(labels), lambda k: random_partner_law(labels[k])),
        (disagreement_law(rewards, labels), lambda k: disagreement_law(rewards[k], labels[k])),
        (inconsistency_law(cost, labels), lambda k: inconsistency_law(cost[k], labels[k])),
    ):
        for k in range(3):
            np.testing.assert_array_equal(law[k], alone(k))


def test_tensors_are_taken():
    rewards = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 2.0]])
    assert disagreement_law(rewards, torch.tensor([0, 0, 0]))[0].tolist() == [0, 1, 0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"each class at least twice.*got 1 once"):
        random_partner_law([0, 0, 1])
    with pytest.raises(ValueError, match="label must hold integers"):
        random_partner_law([0.5, 0.5])
    with pytest.raises(ValueError, match="shapes must fit each other, got"):
        disagreement_law(np.zeros((4, 2)), LABEL)
    with pytest.raises(ValueError, match="progress must lie in"):
        annealed_law(random_partner_law(LABEL), LABEL, progress=1.5)
    with pytest.raises(ValueError, match="law must"):
        drawn_partners(np.ones((2, 2)), seed=0)
    with pytest.raises(ValueError, match="examples and heads"):
        disagreements([1.0, 2.0])

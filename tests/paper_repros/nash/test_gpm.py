"""Values of arXiv:2410.02197: scores, the loss, self-play on scores, elections."""

import numpy as np
import pytest

from paper_repros.nash.gpm import heads
from paper_repros.nash.gpm.cycles import (
    best_order,
    best_order_by_enumeration,
    cycle,
    mixture,
    on_circle,
    regressions_on_a_cycle,
)
from paper_repros.nash.gpm.heads import (
    BY_RANK,
    BY_SUIT,
    SUITS,
    TEXT_HEADS,
    Hands,
    drawn_hands,
    most_frequent_suit,
)
from paper_repros.nash.gpm.reproduction import decompose_majorities
from prefsim import losses
from prefsim.numerics import logsumexp, sigmoid
from prefsim.papers import Run
from prefsim.raters import learned_temperature, reward_embedding, score_matrix, skew_score
from prefsim.solvers import decompose_skew, fit_bradley_terry, fit_preference_embedding, gpo_update
from prefsim.solvers.games.certificates import payoff

VECTORS = np.array([[1, 0.5, -0.3, 0.2], [0.4, -1, 0.6, 0.1], [-0.7, 0.3, 0.2, 0.9]])
SCORES = np.array([[0, -1.35, 0.34], [1.35, 0, -0.06], [-0.34, 0.06, 0]])
POLICY = np.array([0.4, 0.4, 0.2])


def loss(score, temperature, margin=0.0):
    pair = losses.PairRewards(np.asarray(score) / temperature, np.zeros(np.shape(score)))
    return losses.bradley_terry(pair, margin=margin / temperature)


def test_scores():
    np.testing.assert_allclose(score_matrix(VECTORS), SCORES, atol=1e-15)
    np.testing.assert_allclose(
        skew_score(VECTORS[0], VECTORS[1], scales=np.array([1.5, 0.5])), -1.875, atol=1e-15
    )


def test_the_loss_is_bradley_terry_of_the_score():
    score = skew_score(VECTORS[0], VECTORS[1])
    assert loss(score, 0.1) == pytest.approx(13.5000013710, abs=5e-11)
    assert np.exp(-loss(score, 0.1)) == pytest.approx(1.3709572068e-6, rel=1e-10)
    assert loss(score, 1.0) == pytest.approx(1.5805085714, abs=5e-11)
    assert loss(score, 0.1, margin=0.05) == pytest.approx(
        -np.log(sigmoid(np.float64(-1.40 / 0.1))), rel=1e-12
    )


def test_the_regression_variant_is_half_of_ipo():
    # ½ (s/τ − m)², in the authors' code with m = 10.
    zero = np.zeros(3)
    ratios = losses.PairLogps(SCORES[0] / 0.1, zero, zero, zero)
    named = losses.score_regression(losses.PairRewards(SCORES[0] / 0.1, zero))
    np.testing.assert_allclose(named, 0.5 * losses.ipo(ratios, tau=1 / 20), rtol=1e-13)
    np.testing.assert_allclose(
        0.5 * losses.ipo(ratios, tau=1 / 20), 0.5 * (SCORES[0] / 0.1 - 10) ** 2, rtol=1e-13
    )


def test_a_learned_temperature_starts_at_a_tenth():
    assert learned_temperature(np.float64(-2.25)) == pytest.approx(
        np.log1p(np.exp(-2.25)), rel=1e-14
    )
    assert learned_temperature(np.float64(-2.25)) == pytest.approx(0.1, abs=0.002)


def test_five_on_a_circle():
    angle = 2 * np.pi * np.arange(5) / 5
    scores = score_matrix(on_circle(angle))
    np.testing.assert_allclose(
        scores[0], [0, 0.9510565163, 0.5877852523, -0.5877852523, -0.9510565163], atol=1e-10
    )
    assert ((scores > 1e-12).sum(axis=1) == 2).all()
    assert int(decompose_skew(scores).rank) == 2


def test_general_preference_optimisation():
    payoffs = payoff(SCORES, POLICY)
    np.testing.assert_allclose(payoffs, [-0.472, 0.528, -0.112], atol=1e-15)
    assert POLICY @ payoffs == pytest.approx(0.0, abs=1e-15)
    found = np.exp(gpo_update(np.log(POLICY), SCORES, beta=0.5))
    np.testing.assert_allclose(found, [0.1061991333, 0.7847113535, 0.1090895132], atol=1e-10)
    assert logsumexp(np.log(POLICY) + payoffs / 0.5) == pytest.approx(0.3821485995, abs=1e-10)


def test_the_partition_function_vanishes_only_to_first_order():
    payoffs = payoff(SCORES, POLICY)
    variance = POLICY @ payoffs**2
    left = [
        logsumexp(np.log(POLICY) + payoffs / beta) - variance / (2 * beta**2)
        for beta in (10.0, 100.0)
    ]
    assert np.log10(abs(left[0] / left[1])) == pytest.approx(3.0, abs=0.05)


def test_the_cycle_of_three():
    result = fit_bradley_terry(cycle(3))
    assert -float(result.log_likelihood) / 3 == pytest.approx(0.693147, abs=5e-7)
    np.testing.assert_allclose(result.reward, 0.0, atol=1e-12)
    assert best_order_by_enumeration(cycle(3)) == pytest.approx(2 / 3)
    fitted = [
        float(fit_preference_embedding(cycle(3), dim=2, ridge=ridge).objective)
        for ridge in (1e-2, 1e-4, 1e-6)
    ]
    assert fitted[2] < 1e-4 and fitted[2] < fitted[1] < fitted[0]


def test_a_table_less_its_transpose_doubles_a_skew_table():
    np.testing.assert_allclose(SCORES - SCORES.T, 2 * SCORES)
    slow, fast = (
        gpo_update(np.log(POLICY), table, beta=beta)
        for table, beta in ((SCORES, 0.5), (SCORES - SCORES.T, 1.0))
    )
    np.testing.assert_allclose(slow, fast, atol=1e-14)


def test_normalised_vectors_saturate():
    unit = VECTORS / np.linalg.norm(VECTORS, axis=-1, keepdims=True)
    assert np.abs(score_matrix(unit)).max() <= 1
    assert np.abs(score_matrix(unit, scales=np.array([2.0, 0.0]))).max() <= 2


def test_rewards_are_vectors_with_a_one():
    reward = np.array([0.3, -1.0, 2.0])
    np.testing.assert_array_equal(
        score_matrix(reward_embedding(reward)), np.subtract.outer(reward, reward)
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_best_order_is_that_of_enumeration(seed):
    rng = np.random.default_rng(seed)
    wins = rng.integers(0, 2, (6, 6)) * (1.0 - np.eye(6))
    assert best_order(wins) == pytest.approx(best_order_by_enumeration(wins))
    labels = mixture(rng)
    assert (labels * labels.T).max() == 0 and labels.sum() > 20


def test_elections_are_decomposed(real_data):
    files = sorted((real_data / "preflib").glob("*.soi"))
    if not files:
        pytest.skip(f"no ballots in {real_data / 'preflib'}")
    for election in map(decompose_majorities, files):
        assert election.rank == 4 and election.residual <= 1e-13
        # Two numbers hold every reward, so that they miss no more.
        assert 0.9 < election.reward_share <= election.plane_share <= 1


def test_hands_of_cards():
    shown, held_out = drawn_hands(30, np.random.default_rng(0))
    seen = {tuple(hand) for hand in shown.cards}
    assert len(seen) == 30 and not seen & {tuple(hand) for hand in held_out.cards}
    for hands in (shown, held_out):
        suits = most_frequent_suit(hands.cards)
        assert (np.bincount(suits) * SUITS == len(suits)).all() and suits.min() == 0
    # Three of suit 0 and two of suit 1; the other way round, with better cards.
    hands = Hands(np.array([[0, 0, 0, 3, 3], [3, 3, 3, 2, 2], [6, 7, 7, 6, 0]]))
    assert most_frequent_suit(np.array([0, 1, 3, 4, 8])) == -1
    np.testing.assert_array_equal(hands.log_odds(BY_SUIT), 2.0 * (cycle(3) - cycle(3).T))
    by_rank = hands.log_odds(BY_RANK)  # totals of 0, 4 and 2
    np.testing.assert_array_equal(np.sign(by_rank), [[0, -1, -1], [1, 0, 1], [1, -1, 0]])
    assert hands.accuracy(BY_RANK, by_rank) == 1 and hands.accuracy(BY_SUIT, 0 * by_rank) == 0.5


def test_no_order_of_hands_ranks_more_than_two_thirds_by_suit():
    hands, _ = drawn_hands(30, np.random.default_rng(1))
    suit = most_frequent_suit(hands.cards)
    by_suit = np.subtract.outer(-suit, -suit) + 0.0
    assert hands.accuracy(BY_SUIT, by_suit) == pytest.approx(2 / 3)
    for seed in range(5):
        reward = np.random.default_rng(seed).standard_normal(len(suit))
        assert hands.accuracy(BY_SUIT, np.subtract.outer(reward, reward)) <= 2 / 3


def test_a_head_learns_from_texts(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(heads, "STEPS", 3)
    for head in TEXT_HEADS.values():
        found = heads.learn_on_texts(head, 0)
        assert found == heads.learn_on_texts(head, 0)
        assert set(found) == {"cyclic", "transitive"}
        assert all(0.2 < share <= 1 for share in found.values())


def test_regressions_on_a_cycle():
    for target in (1.0, 10.0):
        rewards, vectors = regressions_on_a_cycle(np.ones(4), target)
        assert rewards == pytest.approx(target**2 / 2, rel=1e-12)
        assert vectors == pytest.approx(0.0, abs=1e-20)
    # Unequal weights move every advantage, and no reward reaches the target on all.
    rewards, _ = regressions_on_a_cycle(np.array([1.0, 2.0, 4.0]), 1.0)
    assert 0 < rewards < 0.5


def test_runs_of_other_seeds_share_no_texts(monkeypatch):
    pytest.importorskip("transformers")
    seen = []

    def learn_on_texts(head, seed):
        seen.append(seed)
        return dict.fromkeys(heads.CRITERIA, 1.0)

    monkeypatch.setattr(heads, "learn_on_texts", learn_on_texts)
    for seed in range(4):
        heads.learn_from_texts(Run(seed=seed))
    # Every head sees the same ones.
    assert len(seen) == len(TEXT_HEADS) * len(set(seen)) == 12 * len(TEXT_HEADS)

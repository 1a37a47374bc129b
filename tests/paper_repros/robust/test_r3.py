"""arXiv:2402.03469: the token world by other routes, and rewards that are learned and judged."""

import itertools
from collections import Counter

import numpy as np
import pytest

from paper_repros.robust.r3.preferences import Confounded, agreement, judge_harmless
from paper_repros.robust.r3.token_world import (
    EMBEDDINGS,
    QUERY,
    REWARDS,
    all_responses,
    ascended,
    means,
    optimum,
    terms_of,
    terms_of_relevances,
    tracking,
    values_by_length,
)
from prefsim.numerics import categorical_kl

# Of QR, LI, LI·QR and R³ at β = .05: the optimal value and the divergence from the reference.
VALUES = [0.89987137731, 0.91163033734, 0.66175007360, 0.61654215345]
DIVERGENCES = [1.90318982, 1.71170729, 4.46327682, 4.15246627]


def test_the_reference_and_the_terms_of_every_response_alone():
    responses, terms = all_responses(), terms_of()
    rows = [y for n in range(1, 7) for y in itertools.product(range(3), repeat=n)]
    assert sorted(rows) == sorted(tuple(row[row >= 0]) for row in responses.tokens)
    for k in np.random.default_rng(0).integers(0, len(rows), 40):
        row = [int(x) for x in responses.tokens[k] if x >= 0]
        n = len(row)
        chance = 3.0**-n * 0.7 ** (n - 1) * (0.3 if n < 6 else 1.0)
        assert np.exp(responses.log_reference[k]) == pytest.approx(chance)
        trigrams = Counter(zip(row, row[1:], row[2:], strict=False))
        assert terms.distinct[k] == (len(trigrams) / trigrams.total() if trigrams else 1.0)
        assert terms.length[k] == pytest.approx(n / 6)
        assert terms.relevance[k] == pytest.approx(np.mean([[1, 0.6, 0][x] for x in row]))
    expected = [means(responses.log_reference, term) for term in terms]
    np.testing.assert_allclose(expected, [0.490195, 0.98759624, 0.53333333], atol=1e-8)


def test_optimal_values_and_divergences():
    terms = terms_of()
    log_policy, log_z = optimum(np.stack([terms.reward(name) for name in REWARDS]), 20.0)
    np.testing.assert_allclose(0.05 * log_z, VALUES, atol=1e-11)
    divergence = categorical_kl(log_policy, all_responses().log_reference)
    np.testing.assert_allclose(divergence, DIVERGENCES, atol=1e-8)
    by_length = [values_by_length(name, 0.05) for name in list(REWARDS)[:3]]
    np.testing.assert_allclose(by_length, VALUES[:3], atol=1e-11)
    found = [means(log_policy[2:], term) for term in terms]
    stated = [[0.9927, 0.9896], [0.7138, 0.9979], [0.8914, 0.8347]]
    np.testing.assert_allclose(found, stated, atol=5e-5)


def test_worlds_are_their_relevances():
    drawn = np.random.default_rng(0).random((4, 3))
    many = terms_of_relevances(np.concatenate([drawn, [EMBEDDINGS @ QUERY]]))
    for term, own in zip(many, terms_of(), strict=True):
        np.testing.assert_allclose(term[-1], own, atol=1e-15)
    alone = terms_of_relevances(drawn[1:2])
    np.testing.assert_allclose(many.reward("R³")[1], alone.reward("R³")[0], atol=1e-15)


def test_gradients_climb_to_the_optimum_and_stay_there():
    reward = terms_of().reward("R³")[None]
    best, log_z = optimum(reward, 20.0)
    options = {"beta": 0.05, "optimiser": "sgd", "step": 20.0, "steps": 20}
    from_reference = ascended(reward, start=all_responses().log_reference, **options)
    assert (np.diff(from_reference[:, 0]) > 0).all()
    there = ascended(reward, start=best[0], **options)
    np.testing.assert_allclose(there, 0.05 * log_z[0], atol=1e-12)


def test_a_proxy_tracks_itself_and_not_its_opposite():
    reward = terms_of_relevances(np.random.default_rng(0).random((3, 3))).reward("LI·QR")
    inverse = np.linspace(0.0, 20.0, 5)
    np.testing.assert_allclose(tracking(reward, reward, inverse), 1.0)
    np.testing.assert_allclose(tracking(reward, -reward, inverse), -1.0)


def test_weight_of_length_where_it_goes_with_relevance():
    rng = np.random.default_rng(0)
    relevance, length = Confounded(0.8, 1.0).weights(4000, rng)
    assert length / relevance == pytest.approx(Confounded(0.8, 1.0).ratio(), rel=0.25)
    assert Confounded(0.8, 1.0).ratio() == pytest.approx(0.8 / 0.36)
    # Read exactly, relevance has the weight that people give it, and length has none.
    relevance, length = Confounded(0.8, 0.0).weights(4000, rng)
    assert relevance == pytest.approx(1.0, abs=0.15)
    assert length == pytest.approx(0.0, abs=0.15)


def test_agreement_counts_ties_as_half():
    found = agreement(np.array([1.0, 2.0, 3.0, 0.0]), np.array([0.0, 2.0, 1.0, 1.0]))
    assert found.share == pytest.approx(0.625)
    assert found.tied == 0.25


def test_harmless_answers(real_data, tmp_path):
    found = judge_harmless(real_data, pairs=300)
    assert set(found) == {*REWARDS, "RP"}
    # The more harmless answer is the shorter one more often than not.
    assert 0.35 < found["LI"].share < 0.5
    assert all(0.02 < each.half_width < 0.07 for each in found.values())
    assert judge_harmless(tmp_path, pairs=300) is None

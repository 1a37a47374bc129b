"""Filtered and ranked pairs by loops over prompts and responses, for batches."""

import itertools

import numpy as np
import pytest

from prefsim.data.filtered_pairs import filtered_pairs
from prefsim.data.ranked_pairs import PAIRINGS, ranked_comparisons, ranked_pairs

BATCH, M, K = (2, 3), 4, 3
RNG = np.random.default_rng(0)
PROMPT = RNG.integers(9, size=M)
RESPONSES = RNG.integers(9, size=(*BATCH, M, K))
SCORES = RNG.integers(0, 7, size=(*BATCH, M, K)).astype(float)
UPPER = np.triu(RNG.uniform(-0.5, 0.5, (5, K + 1, K + 1)), 1)
GAMES = 0.5 + UPPER - np.swapaxes(UPPER, -1, -2)


@pytest.mark.parametrize(("least", "margin"), [(5.0, 1.0), (3.0, 2.0), (0.0, 0.0), (9.0, 1.0)])
def test_pairs_that_pass_share_the_weight(least, margin):
    found = filtered_pairs(PROMPT, RESPONSES, SCORES, least=least, margin=margin)
    assert found.weight.shape == (*BATCH, M * K * (K - 1))
    for index in np.ndindex(*BATCH):
        rows = []
        for m, (i, j) in itertools.product(range(M), itertools.permutations(range(K), 2)):
            high, low = SCORES[index][m, i], SCORES[index][m, j]
            passes = high >= least and high - low >= margin
            responses = RESPONSES[index][m]
            rows.append((PROMPT[m], responses[i], responses[j], high, low, passes))
        prompt, chosen, rejected, high, low, passes = map(np.asarray, zip(*rows, strict=True))
        np.testing.assert_array_equal(found.prompt[index], prompt)
        np.testing.assert_array_equal(found.chosen[index], chosen)
        np.testing.assert_array_equal(found.rejected[index], rejected)
        np.testing.assert_array_equal(found.chosen_score[index], high)
        np.testing.assert_array_equal(found.rejected_score[index], low)
        np.testing.assert_allclose(found.weight[index], passes / max(passes.sum(), 1))
    assert (found.prob == 1).all()


def test_thresholds_unless_given_are_five_and_one():
    stated = filtered_pairs(PROMPT, RESPONSES, SCORES, least=5.0, margin=1.0)
    np.testing.assert_array_equal(filtered_pairs(PROMPT, RESPONSES, SCORES).weight, stated.weight)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_games_of_a_batch_are_paired_each_for_itself(pairing):
    together = ranked_pairs(GAMES, pairing=pairing)
    for g, game in enumerate(GAMES):
        alone = ranked_pairs(game, pairing=pairing)
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[g], part)
        for i, j, p, strength in zip(*alone, strict=True):
            assert p == game[i, j] and strength == abs(2 * p - 1)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_ranked_comparisons_name_the_responses(pairing):
    prompts, responses = RNG.integers(9, size=5), RNG.integers(9, size=(5, K + 1))
    found = ranked_comparisons(prompts, responses, GAMES, pairing=pairing)
    rows = []
    for g, game in enumerate(GAMES):
        for i, j, p, _ in zip(*ranked_pairs(game, pairing=pairing), strict=True):
            rows.append((prompts[g], responses[g, i], responses[g, j], p, 1 - p))
    columns = map(np.asarray, zip(*rows, strict=True))
    names = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score")
    for name, column in zip(names, columns, strict=True):
        np.testing.assert_allclose(getattr(found, name), column, rtol=1e-14)
    if pairing == "all":
        default = ranked_comparisons(prompts, responses, GAMES)
        np.testing.assert_array_equal(default.chosen, found.chosen)


@pytest.mark.parametrize(
    "shapes",
    [((1, 5), (5, 4), (5, 4, 4)), ((5,), (5, 3), (5, 4, 4)), ((5,), (4, 4), (5, 4, 4))],
)
def test_shapes_that_do_not_fit_are_told(shapes):
    prompt, responses = (np.zeros(shape, dtype=int) for shape in shapes[:2])
    with pytest.raises(ValueError, match=r"must be \(n,\), \(n, N\) and \(n, N, N\), got"):
        ranked_comparisons(prompt, responses, np.full(shapes[2], 0.5))
    with pytest.raises(ValueError, match="among N >= 2 responses"):
        ranked_pairs([[0.5]])

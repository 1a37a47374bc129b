"""Pairs filtered by the winner's score and the margin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.filtered_pairs import filtered_pairs


@given(st.integers(0, 99), st.integers(1, 3), st.integers(2, 5), st.floats(0, 6), st.floats(0, 2))
def test_what_passes(seed, m, k, least, margin):
    rng = np.random.default_rng(seed)
    responses, scores = rng.integers(0, 9, (2, m, k)), 6 * rng.random((2, m, k))
    pairs = filtered_pairs(np.arange(m), responses, scores, least=least, margin=margin)
    for b in range(2):
        expected = {
            (x, responses[b, x, i], responses[b, x, j], scores[b, x, i], scores[b, x, j])
            for x in range(m)
            for i in range(k)
            for j in range(k)
            if i != j and scores[b, x, i] >= least and scores[b, x, i] - scores[b, x, j] >= margin
        }
        kept = pairs.weight[b] > 0
        columns = (
            pairs.prompt,
            pairs.chosen,
            pairs.rejected,
            pairs.chosen_score,
            pairs.rejected_score,
        )
        assert set(zip(*(c[b][kept] for c in columns), strict=True)) == expected
        assert kept.sum() == len(expected)
        assert pairs.weight[b].sum() == pytest.approx(1.0 if expected else 0.0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0], [[1, 2]], [[1.0, 2.0]]), {"margin": -1.0}, "margin must be"),
        (([0], [[1, 2]], [[1.0, 2.0]]), {"least": float("nan")}, "least must be"),
        (([0, 1], [[1, 2]], [[1.0, 2.0]]), {}, r"got \(2,\), \(1, 2\) and \(1, 2\)"),
        (([0], [[1, 2]], [[1.0, 2.0, 3.0]]), {}, r"\(1, 3\)"),
        (([[0]], [[1, 2]], [[1.0, 2.0]]), {}, r"got \(1, 1\), \(1, 2\) and \(1, 2\)"),
        ((0, [1, 2], [[1.0, 2.0]]), {}, r"got \(\), \(2,\) and \(1, 2\)"),
        (([0], [[1, 2]], [[1.0, np.inf]]), {}, "scores must be finite"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        filtered_pairs(*arguments, **options)

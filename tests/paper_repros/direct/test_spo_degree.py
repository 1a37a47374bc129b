"""Golden values of arXiv:2409.17791.

Key phrases, the steps of removal, the head's losses, and the combined loss.
"""

import functools
from fractions import Fraction

import numpy as np
import pytest
import torch

from paper_repros import _spo_degree_text as text
from paper_repros import spo_degree as paper
from prefsim import losses
from prefsim.data.degradation import degrade, kept_tokens, key_phrases
from prefsim.papers import Run
from prefsim.policies import TokenTreePolicy
from prefsim.worlds import TokenTree

SECOND = [
    "red",
    "big",
    "car",
    "near",
    "old",
    "stone",
    "house",
    "with",
    "green",
    "door",
    "and",
    "tall",
    "tree",
]
STOPS = {"near", "with", "and"}
HIDDEN = np.asarray([0.5, -1.0, 2.0])
WEIGHTS = np.asarray([[0.1, 0.2, 0.3], [0.0, -0.1, 0.2], [0.4, 0.4, -0.2]])
LOGITS = WEIGHTS @ HIDDEN + np.asarray([0.0, 0.1, -0.1])


def test_golden_scores():
    words = [
        "deep",
        "learning",
        "models",
        "learn",
        "features",
        "and",
        "deep",
        "models",
        "need",
        "data",
    ]
    found = key_phrases(words, stop={"and", "need"})
    by_word = dict(zip(words, found.word_score.tolist(), strict=True))
    expected = {
        "deep": 3.5,
        "learning": 5,
        "models": 3.5,
        "learn": 5,
        "features": 5,
        "data": 1,
        "and": 0,
        "need": 0,
    }
    assert by_word == expected
    assert [found.score[found.phrase == i][0] for i in range(3)] == [22, 7, 1]
    assert found.n_phrases == 3


def test_golden_removal():
    found = key_phrases(SECOND, stop=STOPS)
    assert [found.score[found.phrase == i][0] for i in range(4)] == [9, 9, 4, 4]
    removed = degrade(SECOND, stop=STOPS)
    assert [" ".join(np.asarray(SECOND)[keep]) for keep in removed.keep] == [
        " ".join(SECOND),
        "near old stone house with green door and tall tree",
        "near with green door and tall tree",
        "near with and tall tree",
        "near with and",
    ]
    assert removed.degree.tolist() == [0, 1, 2, 3, 4]


def test_golden_head():
    np.testing.assert_allclose(LOGITS, [0.45, 0.6, -0.7], rtol=1e-15)
    each = losses.preference_degree(
        losses.DegreeLogits(np.tile(LOGITS, (3, 1, 1)), np.arange(3)[:, None])
    )
    np.testing.assert_allclose(each, [0.90764184, 0.75764184, 2.05764184], atol=6e-9)
    together = losses.preference_degree(
        losses.DegreeLogits(np.tile(LOGITS, (1, 3, 1)), np.arange(3)[None])
    )
    assert together[0] == pytest.approx(each.mean(), rel=1e-15)


def test_golden_combination():
    zero, head = np.zeros(1), LOGITS[None, None]
    data = losses.DegreePairLogps(
        zero, zero - 1, zero, zero, head, np.asarray([[0]]), head, np.asarray([[2]])
    )
    assert losses.spo_degree(data)[0] == pytest.approx(0.9409250286075035, rel=1e-15)
    assert losses.spo_degree(data, gamma_chosen=0.0, gamma_rejected=0.0) == losses.dpo(
        losses.PairLogps(zero, zero - 1, zero, zero)
    )
    only_chosen = losses.spo_degree(data, gamma_rejected=0.0)
    assert losses.spo_degree(data, gamma_chosen=0.0)[0] != only_chosen[0]


@pytest.mark.parametrize(
    "align", [losses.dpo, functools.partial(losses.ipo, tau=0.2), losses.simpo, losses.odpo]
)
def test_any_loss_on_pairs_may_be_extended(align):
    rng = np.random.default_rng(0)
    pairs = losses.PairLogps(
        *(-rng.random((4, 5))), *(3.0 + rng.random((2, 5))), np.full(5, 2.0), np.ones(5)
    )
    graded = (rng.standard_normal((5, 3, 3)), np.tile(np.arange(3), (5, 1)))
    data = losses.DegreePairLogps(*pairs[:4], *graded, *graded, *pairs[4:8])
    expected = align(pairs) + 0.3 * losses.preference_degree(losses.DegreeLogits(*graded))
    np.testing.assert_allclose(
        losses.spo_degree(data, align=align, gamma_chosen=0.1, gamma_rejected=0.2),
        expected,
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    ("phrases", "expected"),
    [(1, [0, -1, -1, -1, 4]), (2, [0, -1, 2, -1, 4]), (3, [0, 1, 2, -1, 4])],
)
def test_few_phrases_leave_equal_versions_out(phrases, expected):
    tokens = np.asarray([part for i in range(phrases) for part in (i + 1, 0)])
    removed = degrade(tokens, stop=[0])
    assert removed.degree.tolist() == expected
    versions = {tuple(keep) for keep in removed.keep}
    assert len(versions) == sum(k >= 0 for k in expected)


def test_no_content_is_left_out_rather_than_divided_by():
    removed = degrade([[0, 0, -1], [5, 0, 5]], stop=[0])
    assert removed.degree[0].tolist() == [-1] * 5
    logits = torch.zeros(2, 5, 5, dtype=torch.float64, requires_grad=True)
    value = losses.preference_degree(losses.DegreeLogits(logits, torch.as_tensor(removed.degree)))
    value.sum().backward()
    np.testing.assert_allclose(value.detach(), [0.0, np.log(5)], rtol=1e-15)
    assert (logits.grad[0] == 0).all()
    assert logits.grad.isfinite().all()


def test_a_batch_is_each_sequence_alone_and_equals_the_definition():
    tokens = np.random.default_rng(0).integers(-1, 8, (40, 2, 25))
    found, removed = key_phrases(tokens, stop=range(3)), degrade(tokens, stop=range(3), levels=3)
    for index in np.ndindex(40, 2):
        alone = degrade(tokens[index], stop=range(3), levels=3)
        np.testing.assert_array_equal(removed.keep[index], alone.keep)
        scores, order = text.by_definition(tokens[index].tolist(), {-1, 0, 1, 2})
        np.testing.assert_allclose(found.score[index], np.asarray(scores, dtype=float), rtol=1e-14)
        assert found.n_phrases[index] == len(order)
        assert [p for i in range(len(order)) for p in np.flatnonzero(found.rank[index] == i)] == [
            p for phrase in order for p in phrase
        ]


def test_a_tie_in_exact_arithmetic_is_a_tie():
    # two phrases of equal score whose words stand in another order, so that floating sums may
    # differ in the last place
    tokens = ["a", "b", "c", ".", "c", "b", "a", ".", "a", ".", "c", "d", "d", "."]
    scores, order = text.by_definition(tokens, {"."})
    assert scores[0] == scores[4]
    assert isinstance(scores[0], Fraction)
    assert order.index([0, 1, 2]) < order.index([4, 5, 6])
    rank = key_phrases(tokens, stop={"."}).rank
    assert rank[0] < rank[4]


def test_versions_move_to_the_left():
    tokens = np.asarray([4, 0, 5, 6, 0])
    versions = kept_tokens(tokens, degrade(tokens, stop=[0], levels=2).keep)
    assert versions.tolist() == [[4, 0, 5, 6, 0], [4, 0, 0, -1, -1], [0, 0, -1, -1, -1]]
    assert degrade(np.zeros((0, 3), int), stop=[]).keep.shape == (0, 5, 3)
    assert degrade(np.zeros((2, 0), int), stop=[0]).keep.shape == (2, 5, 0)


def test_ordinal_head():
    score, thresholds = np.asarray([-40.0, -0.3, 0.0, 2.0, 900.0]), np.asarray([-1.0, 0.5, 2.5])
    table = losses.ordinal_logits(score, thresholds)
    np.testing.assert_allclose(np.exp(table).sum(axis=-1), 1.0, rtol=1e-14)
    above = np.cumsum(np.exp(table)[:, ::-1], axis=-1)[:, ::-1][:, 1:]
    np.testing.assert_allclose(
        above[:4], 1 / (1 + np.exp(thresholds - score[:4, None])), rtol=1e-12
    )
    assert np.isfinite(table).all()
    moved = torch.as_tensor(score).requires_grad_()
    cuts = torch.as_tensor(thresholds).requires_grad_()
    assert torch.autograd.gradcheck(
        losses.ordinal_logits, (moved[1:4].detach().requires_grad_(), cuts)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: key_phrases([1.5], stop=[0]),
            "tokens must hold integers or words, got dtype float64",
        ),
        (lambda: key_phrases([-2], stop=[0]), "tokens must be >= -1, got -2"),
        (lambda: key_phrases(3, stop=[0]), "tokens must be an array of tokens with a last axis"),
        (lambda: key_phrases(["a"], stop="a"), "stop must be an array of tokens"),
        (lambda: key_phrases(["a"], stop=[0]), "stop must hold tokens of the same kind"),
        (lambda: degrade([1], stop=[0], levels=0), "levels must be an integer >= 1, got 0"),
        (
            lambda: losses.ordinal_logits(np.zeros(1), np.asarray([1.0, 1.0])),
            "thresholds must rise strictly",
        ),
        (
            lambda: losses.ordinal_logits(np.zeros(1), np.zeros((1, 1))),
            "thresholds must be a vector",
        ),
        (
            lambda: losses.preference_degree(
                losses.DegreeLogits(np.zeros((1, 2, 3)), np.asarray([[0, 3]]))
            ),
            "label must be >= 0 and < 3",
        ),
        (
            lambda: losses.preference_degree(
                losses.DegreeLogits(np.zeros((1, 2, 3)), np.asarray([0]))
            ),
            "label must have shape",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma_chosen": -0.1}, "gamma_chosen must be a finite number >= 0"),
        ({"gamma_rejected": float("nan")}, "gamma_rejected must be a finite number >= 0"),
        ({"align": "dpo"}, "align must be a function, got 'dpo'"),
    ],
)
def test_bad_options(options, message):
    zero, graded = np.zeros(1), (np.zeros((1, 2, 2)), np.asarray([[0, 1]]))
    with pytest.raises(ValueError, match=message):
        losses.spo_degree(
            losses.DegreePairLogps(zero, zero, zero, zero, *graded, *graded), **options
        )


def test_the_tree_is_degraded_as_a_whole():
    tree = TokenTree(3, 3, end_token=2)
    degrees = text.tree_degrees(TokenTreePolicy.uniform(tree), stop=[0], levels=2)
    index = tree.index_of([1, 0, 1])
    assert degrees.degree[index].tolist() == [0, 1, 2]
    assert degrees.keep[index].tolist() == [
        [True, True, True],
        [False, True, True],
        [False, True, False],
    ]
    other = tree.index_of([1, 0, 2])
    assert degrees.version[index, 1] != degrees.version[other, 1]
    assert degrees.degree[other].tolist() == [0, -1, 2]
    assert degrees.phrases[tree.index_of([0, 0, 0])] == 0
    degrees = text.tree_degrees(
        TokenTreePolicy.uniform(TokenTree(3, 5, end_token=2)), stop=[0], levels=3
    )
    law, entropy = text.posterior(degrees, degrees.version)
    assert 0 < entropy < np.log(3)
    assert text.expected_loss(degrees, law) == pytest.approx(entropy, rel=1e-12)


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 6

"""Golden values of arXiv:2405.14103.

The soft cross-entropy, its gradient, win scores, debiased judgements, the overfitting paths.
"""

import functools

import numpy as np
import pytest

from paper_repros import _osp_checks as checks
from paper_repros import _osp_training as training
from paper_repros import osp as paper
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.data.ranked_pairs import ranked_comparisons, win_scores
from prefsim.numerics import categorical_entropy
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.raters import both_orders, judge_logits
from prefsim.solvers import gradient_descent


@pytest.mark.parametrize(
    ("p", "margin", "value"),
    [
        (0.7, 1.0, 0.6743966600735709),
        (0.9, -2.75, 0.8125706676896002),
        (0.7, 3.0, 0.6443552444685271),
    ],
)
def test_golden_loss(p, margin, value):
    assert losses.spce(checks.pairs(margin, p), beta=0.1)[0] == pytest.approx(value, rel=1e-15)


def test_golden_gradient_minimiser_and_entropy():
    assert checks.slope(3.0, 0.7, 0.1)[0] == pytest.approx(-0.012555748318834, rel=1e-12)
    assert checks.slope(8.472978604, 0.7, 0.1)[0] == pytest.approx(0.0, abs=1e-12)
    entropy = 0.6108643020548935
    assert categorical_entropy(np.log([0.7, 0.3])) == pytest.approx(entropy, rel=1e-15)
    assert losses.spce(checks.pairs(8.472978603872, 0.7), beta=0.1)[0] == pytest.approx(
        entropy, rel=1e-13
    )


def test_golden_label_noise():
    hard = checks.slope([3.0, 3.0], np.asarray([1.0, 0.0]), 0.1)
    mean = 0.7 * hard[0] + 0.3 * hard[1]
    assert 0.7 * (hard[0] - mean) ** 2 + 0.3 * (hard[1] - mean) ** 2 == pytest.approx(
        0.0021, rel=1e-12
    )


def test_golden_win_scores():
    np.testing.assert_allclose(
        win_scores([[0.5, 0.7, 0.6], [0.3, 0.5, 0.8], [0.4, 0.2, 0.5]]),
        [0.65, 0.55, 0.30],
        rtol=1e-14,
    )


def test_golden_debiasing():
    shown, swapped = np.asarray(0.8 + 1.5), np.asarray(1.5 - 0.8)
    assert both_orders(shown, swapped, average="logit") == pytest.approx(0.68997, abs=5e-6)
    assert both_orders(shown, swapped, average="prob") == pytest.approx(0.62034, abs=5e-6)


def test_golden_overfitting_paths():
    path = training.train([0], 20_000)
    at = [path.kl[path.steps == t][0, :, 0] for t in (100, 1000, 20_000)]
    np.testing.assert_allclose([kl[0] for kl in at], 0.0, atol=2e-5)
    np.testing.assert_allclose([kl[2] for kl in at], [1.22, 4.67, 11.4], rtol=5e-3)


def test_the_recursion_is_gradient_descent_on_the_library_loss():
    reward, labels = training.rewards_and_labels([3])
    start = TabularPolicy.uniform(1, 8)
    for k in range(3):
        logits = []
        training.descend(labels[k], 25, lambda _, x, keep=logits: keep.append(x[0]), [25])
        p = labels[k, 0]
        data = Comparisons(np.zeros(28, int), *training.PAIRS, chosen_score=p, rejected_score=1 - p)
        loss = functools.partial(losses.spce, beta=training.BETA)
        found, _ = gradient_descent(
            start, loss, data, reference=start, step=training.STEP, iterations=25
        )
        np.testing.assert_allclose(found.policy.logits[0], logits[0], atol=1e-13)
    assert reward.shape == (1, 8)


def test_online_rounds_come_near_the_judges_optimum():
    kl = training.online(1.0, [0], rounds=4, draws=12, epochs=12)[0]
    assert kl[-1] < 0.05 * kl[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.spce(checks.pairs(1.0, 1.2)),
            r"chosen_score must be a probability in \[0, 1\]",
        ),
        (
            lambda: losses.spce(checks.pairs(1.0, np.nan)),
            r"chosen_score must be a probability in \[0, 1\]",
        ),
        (
            lambda: losses.spce(checks.pairs(1.0, 0.5)._replace(chosen_score=None)),
            "chosen_score is needed",
        ),
        (lambda: losses.spce(checks.pairs(1.0, 0.5), beta=0.0), "beta must be a finite number > 0"),
        (lambda: win_scores([[0.5]]), "N >= 2 responses"),
        (lambda: ranked_comparisons([0], [[0]], [[[0.5]]]), "N >= 2 responses"),
        (lambda: judge_logits(np.asarray([np.nan, 0.0])), "option_logits must be finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 12

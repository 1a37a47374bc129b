"""arXiv:2405.14103: the soft cross-entropy, win scores, debiased judgements, paths of training."""

import functools

import numpy as np
import pytest

from paper_repros.selfimprove.osp.claims import pairs, slope
from paper_repros.selfimprove.osp.judged_labels import (
    BETA,
    PAIRS,
    STEP,
    descend,
    online,
    rewards_and_labels,
    train,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.numerics import categorical_entropy
from prefsim.policies import TabularPolicy
from prefsim.raters import both_orders
from prefsim.raters.borda import borda_scores
from prefsim.solvers import gradient_descent


@pytest.mark.parametrize(
    ("p", "margin", "value"),
    [
        (0.7, 1.0, 0.6743966600735709),
        (0.9, -2.75, 0.8125706676896002),
        (0.7, 3.0, 0.6443552444685271),
    ],
)
def test_values_of_the_loss(p, margin, value):
    assert losses.spce(pairs(margin, p), beta=0.1)[0] == pytest.approx(value, rel=1e-15)


def test_gradient_minimiser_and_entropy():
    assert slope(3.0, 0.7, 0.1)[0] == pytest.approx(-0.012555748318834, rel=1e-12)
    assert slope(8.472978604, 0.7, 0.1)[0] == pytest.approx(0.0, abs=1e-12)
    entropy = 0.6108643020548935
    assert categorical_entropy(np.log([0.7, 0.3])) == pytest.approx(entropy, rel=1e-15)
    least = losses.spce(pairs(8.472978603872, 0.7), beta=0.1)[0]
    assert least == pytest.approx(entropy, rel=1e-13)


def test_variance_of_a_sampled_label():
    one, zero = slope([3.0, 3.0], [1.0, 0.0], 0.1)
    mean = 0.7 * one + 0.3 * zero
    variance = 0.7 * (one - mean) ** 2 + 0.3 * (zero - mean) ** 2
    assert variance == pytest.approx(0.0021, rel=1e-12)


def test_borda_scores():
    preference = np.array([[0.5, 0.7, 0.6], [0.3, 0.5, 0.8], [0.4, 0.2, 0.5]])
    np.testing.assert_allclose(borda_scores(preference), [0.65, 0.55, 0.30], rtol=1e-14)


@pytest.mark.parametrize(("average", "value"), [("logit", 0.68997), ("prob", 0.62034)])
def test_debiased_judgement(average, value):
    shown, swapped = np.asarray(0.8 + 1.5), np.asarray(1.5 - 0.8)
    assert both_orders(shown, swapped, average=average) == pytest.approx(value, abs=5e-6)


def test_paths_of_training():
    path = train([0], 20_000)
    soft, _, argmax = np.stack([path.kl_at(t)[:, 0] for t in (100, 1000, 20_000)], axis=1)
    np.testing.assert_allclose(soft, 0.0, atol=2e-5)
    np.testing.assert_allclose(argmax, [1.22, 4.67, 11.4], rtol=5e-3)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_recursion_is_gradient_descent_on_the_loss(kind):
    labels = rewards_and_labels([3])[1][kind]
    start = TabularPolicy.uniform(1, 8)
    p = labels[0]
    data = Comparisons(np.zeros(28, int), *PAIRS, chosen_score=p, rejected_score=1 - p)
    loss = functools.partial(losses.spce, beta=BETA)
    result, _ = gradient_descent(start, loss, data, reference=start, step=STEP, iterations=25)
    np.testing.assert_allclose(result.policy.logits, descend(labels, [25])[0], atol=1e-13)


def test_online_rounds_come_near_the_judges_optimum():
    kl = online(1.0, [0], rounds=4, draws=12, epochs=12)[0]
    assert kl[-1] < 0.05 * kl[0]

"""arXiv:2405.14103: the soft cross-entropy, win scores, debiased judgements, paths of training."""

import numpy as np
import pytest

from paper_repros.selfimprove.osp import reproduction
from paper_repros.selfimprove.osp.claims import pairs, slope
from paper_repros.selfimprove.osp.judged_labels import (
    BETA,
    PAIRS,
    STEP,
    descend,
    measured_decay,
    online,
    predicted_decay,
    rewards_and_labels,
)
from prefsim import losses
from prefsim.numerics import categorical_entropy, categorical_kl, log_softmax, sigmoid
from prefsim.papers import Run
from prefsim.raters import both_orders
from prefsim.raters.borda import borda_scores
from prefsim.solvers import gibbs_log_policy


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


def kl_to_optimum(reward, logits):
    target, _ = gibbs_log_policy(reward, np.full(8, -np.log(8)), beta=BETA)
    return categorical_kl(np.asarray(target), log_softmax(logits))


def test_paths_of_training():
    reward, labels = rewards_and_labels([0])
    # The same flow in short steps and in long ones.
    early = kl_to_optimum(reward, descend(labels, 1000, step=4.0)[[100, 1000]])
    late = kl_to_optimum(reward, descend(labels, 1000, step=80.0)[-1])
    soft, _, argmax = np.concatenate([early, late[None]])[..., 0].T
    np.testing.assert_allclose(soft, 0.0, atol=2e-5)
    np.testing.assert_allclose(argmax, [1.22, 4.67, 11.4], rtol=5e-3)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_descent_in_closed_form(kind):
    labels = rewards_and_labels([3])[1][kind]
    ends = np.eye(8)[PAIRS[0]] - np.eye(8)[PAIRS[1]]
    logits = np.zeros(8)
    for _ in range(25):
        pull = labels[0] - sigmoid(BETA * ends @ logits)
        logits = logits + STEP * BETA / 28 * pull @ ends
    np.testing.assert_allclose(descend(labels, 25)[-1, 0], logits, atol=1e-13)


def test_decay_is_that_of_the_slowest_direction():
    steps = np.arange(60)[:, None]
    path = 0.3 * 0.5**steps + np.asarray([0.8, 0.6]) ** steps
    np.testing.assert_allclose(measured_decay(path), [0.8, 0.6], rtol=2e-2)
    assert (predicted_decay(range(5)) < 1).all()


def test_online_rounds_come_near_the_judges_optimum():
    kl = online(1.0, [0], rounds=4, draws=12, epochs=12)[0]
    assert kl[-1] < 0.05 * kl[0]


def test_runs_of_two_seeds_share_no_world(monkeypatch):
    class Found(Exception):
        pass

    def stop(seeds, **options):
        raise Found(list(seeds))

    monkeypatch.setattr(reproduction, "train", stop)
    for quick in (True, False):
        drawn = []
        for seed in range(3):
            with pytest.raises(Found) as found:
                reproduction.reproduce(Run(quick=quick, seed=seed))
            drawn += found.value.args[0]
        assert len(set(drawn)) == len(drawn)

"""Score-function estimators of the KL gradient.

By hand, over many samples, on other array libraries.
"""

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.gradients import gradient
from prefsim.losses.kl_estimators import rloo_kl, score_function_kl, token_kl
from prefsim.numerics import categorical_kl, log_softmax, softmax

LOGPS, REFS = np.log([0.5, 0.2, 0.3]), np.log([0.25, 0.5, 0.25])


def test_leave_one_out_by_hand():
    ratio = LOGPS - REFS
    others = np.array(
        [(ratio[1] + ratio[2]) / 2, (ratio[0] + ratio[2]) / 2, (ratio[0] + ratio[1]) / 2]
    )
    np.testing.assert_allclose(rloo_kl(LOGPS, REFS), (ratio - others) * LOGPS, rtol=1e-14)
    np.testing.assert_allclose(score_function_kl(LOGPS, REFS), ratio * LOGPS, rtol=1e-14)


def test_the_weight_of_a_sample_is_no_part_of_its_gradient():
    found = gradient(lambda logps: rloo_kl(logps, torch.tensor(REFS)), LOGPS)
    ratio = LOGPS - REFS
    np.testing.assert_allclose(found, 1.5 * (ratio - ratio.mean()), rtol=1e-12)


def test_the_mean_over_samples_nears_the_gradient_and_the_baseline_lowers_the_variance():
    logits = np.array([0.3, -0.5, 1.0, 0.2])
    reference = log_softmax(np.array([-1.0, 9.0, 0.3, 0.0]))
    logp, probs = log_softmax(logits), softmax(logits)
    log_reference = torch.tensor(reference)
    exact = gradient(lambda theta: categorical_kl(log_softmax(theta), log_reference), logits)
    draws = np.random.default_rng(0).choice(4, p=probs, size=(40_000, 2))
    # The gradient of log π(y) is e_y − π: estimates of every draw without 40 000 backward passes.
    scores = np.eye(4)[draws] - probs
    spread = {}
    drawn_reference = torch.tensor(reference[draws])
    for estimator in (rloo_kl, score_function_kl):
        weight = gradient(lambda own, e=estimator: e(own, drawn_reference).mean(-1), logp[draws])
        estimates = (weight[..., None] * scores).sum(axis=1)
        error = estimates.mean(axis=0) - exact
        # Five standard errors in each of four entries: missed with a probability below 1e-5.
        assert (np.abs(error) <= 5 * estimates.std(axis=0) / np.sqrt(len(draws))).all()
        spread[estimator] = estimates.var(axis=0).sum()
    assert spread[rloo_kl] < spread[score_function_kl]


def test_a_large_common_offset_is_removed_by_the_baseline():
    offset = rloo_kl(LOGPS, REFS - 1000.0)
    np.testing.assert_allclose(offset, rloo_kl(LOGPS, REFS), rtol=1e-10)


def test_other_array_libraries_and_leading_axes():
    batch = np.stack([LOGPS, LOGPS[::-1]])
    expected = rloo_kl(batch, batch - 1.0 * np.arange(3))
    for convert in (torch.as_tensor, array_api_strict.asarray):
        found = rloo_kl(convert(batch), convert(batch - 1.0 * np.arange(3)))
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-13)


@pytest.mark.parametrize("shape", [(1,), (3, 1), ()])
def test_one_sample_has_no_other(shape):
    with pytest.raises(ValueError, match="at least two samples"):
        rloo_kl(np.zeros(shape), np.zeros(shape))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="arrays must have one shape"):
        score_function_kl(np.zeros(3), np.zeros(2))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_estimates_at_a_sample_are_right_on_average(estimator):
    mean = np.exp(LOGPS) @ token_kl(LOGPS, REFS, estimator=estimator)
    assert mean == pytest.approx(categorical_kl(LOGPS, REFS), rel=1e-13)


@pytest.mark.parametrize(
    ("estimator", "value"), [("k1", -1.5), ("k2", 1.125), ("k3", 1.9816890703380645)]
)
def test_the_estimate_at_one_sample(estimator, value):
    assert token_kl(np.asarray(-2.0), np.asarray(-0.5), estimator=estimator) == pytest.approx(value)
    assert token_kl(np.asarray(-2.0), np.asarray(-2.0), estimator=estimator) == 0

"""Rejected responses with anchoring samples: what a loss sees, and what is refused."""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.data import Negatives
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective

POLICY = TabularPolicy.random(2, 4, seed=0)
REFERENCE = TabularPolicy.random(2, 4, seed=1)


def test_exact_samples_are_all_responses_with_their_probabilities():
    data = Negatives.population([1, 0], [3, 2], REFERENCE)
    np.testing.assert_array_equal(data.samples, [[0, 1, 2, 3]] * 2)
    np.testing.assert_allclose(data.sample_weight, REFERENCE.probs[[1, 0]], atol=1e-15)
    np.testing.assert_array_equal(data.weight, [0.5, 0.5])
    assert len(data) == 2


def test_drawn_samples_answer_their_prompts():
    data = Negatives.sample(
        [0, 1], [0, 0], TabularPolicy.from_probs([[0, 1.0, 0, 0], [0, 0, 0, 1.0]]), 5, seed=0
    )
    np.testing.assert_array_equal(data.samples, [[1] * 5, [3] * 5])
    again = (
        Negatives.sample([0, 1], [0, 0], REFERENCE, 5, seed=3),
        Negatives.sample([0, 1], [0, 0], REFERENCE, 5, seed=3),
    )
    np.testing.assert_array_equal(again[0].samples, again[1].samples)


def test_examples_are_log_probabilities_of_the_rows():
    data = Negatives([0, 1, 1], [2, 0, 1], [[0, 1], [3, 3], [2, 0]], weight=[0.2, 0.3, 0.5])
    logps, weight = data.examples(POLICY, data.log_probs(REFERENCE), losses.AnchoredLogps)
    np.testing.assert_allclose(logps.rejected, POLICY.log_probs[[0, 1, 1], [2, 0, 1]])
    np.testing.assert_allclose(logps.samples[1], POLICY.log_probs[1, [3, 3]])
    np.testing.assert_allclose(logps.ref_samples[2], REFERENCE.log_probs[1, [2, 0]])
    np.testing.assert_array_equal(weight, [0.2, 0.3, 0.5])
    np.testing.assert_allclose(
        objective(POLICY, losses.d2o, data, reference=REFERENCE),
        (weight * losses.d2o(logps._replace(sample_weight=None))).sum(),
        rtol=1e-14,
    )


def test_weights_with_a_batch_are_a_batch_of_problems():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), (3, 1))
    loss = functools.partial(losses.d2o, beta=1.0, alpha=0.01)
    together = fit(
        REFERENCE, loss, Negatives([0], [1], np.arange(4)[None], shares), reference=REFERENCE
    )
    for share, probs in zip(shares, together.policy.probs, strict=True):
        alone = fit(
            REFERENCE, loss, Negatives([0], [1], np.arange(4)[None], share), reference=REFERENCE
        )
        np.testing.assert_allclose(probs[0], alone.policy.probs[0], atol=1e-9)
        # The optimum has a closed form: what the samples weigh, less α at the rejected response.
        np.testing.assert_allclose(probs[0], (share[0] - 0.01 * np.eye(4)[1]) / 0.99, atol=1e-9)


def test_a_sample_without_support_does_no_harm():
    half = TabularPolicy.from_probs([[0.5, 0.5, 0.0]])
    data = Negatives.population([0], [1], half)
    assert np.isfinite(objective(half, losses.d2o, data, reference=half))
    logits = torch.tensor([[0.0, 0.0, 1.0]], requires_grad=True)
    objective(TabularPolicy(logits), losses.d2o, data, reference=half).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Negatives([0], [0], np.zeros((1, 0), int)), r"samples \(n, K\) with K >= 1"),
        (lambda: Negatives([0], [0], [0, 1]), r"samples \(n, K\)"),
        (lambda: Negatives([[0]], [0], [[0]]), r"prompt must be \(n,\) .* got \(1, 1\)"),
        (lambda: Negatives([0, 1], [0, 1], [[0]]), r"samples \(n, K\) .* got \(2,\) and \(1, 1\)"),
        (lambda: Negatives([0, 1], [0], [[0], [0]]), "rejected must have n = 2 entries"),
        (lambda: Negatives([0], [-1], [[0]]), "rejected must be >= 0"),
        (lambda: Negatives([0], [0], [[0.5]]), "samples must hold integers"),
        (lambda: Negatives([0], [0], [[0, 1]], [[0.5, 0.4]]), "sample_weight must sum to 1"),
        (lambda: Negatives([0], [0], [[0, 1]], [[1.0]]), "sample_weight must have trailing shape"),
        (lambda: Negatives([0], [0], [[0]], weight=[-1.0]), "weight must be >= 0"),
        (lambda: Negatives.sample([0], [0], REFERENCE, 0, seed=0), "k must be an integer >= 1"),
        (
            lambda: objective(POLICY, losses.dpo, Negatives([0], [0], [[1]])),
            "Negatives feed losses of AnchoredLogps",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

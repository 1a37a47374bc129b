"""Penalties of a batch of policies by loops over contexts and responses."""

import numpy as np
import pytest
import torch

from prefsim.backend import use_backend
from prefsim.policies import TabularPolicy
from prefsim.solvers.optimisers.penalties import (
    cross_entropy_penalty,
    kl_penalty,
    sampled_kl_penalty,
)

BATCH, X, Y = (2, 3), 4, 3
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(*BATCH, X, Y))
POLICY = TabularPolicy.from_logits(LOGITS)
REFERENCE = TabularPolicy.from_logits(RNG.normal(size=(X, Y)))
BASE = RNG.dirichlet(np.ones(Y), X)
WEIGHT = RNG.uniform(0.5, 2.0, BATCH)
RHO = np.asarray([0.1, 0.2, 0.0, 0.7])


def kl(p, q):
    return float(p @ (np.log(p) - np.log(q)))


def cross_entropy(p, q):
    return -float(q @ np.log(p))


@pytest.mark.parametrize("rho", [None, RHO])
@pytest.mark.parametrize("weight", [1.5, WEIGHT])
def test_values_are_means_over_contexts(rho, weight):
    shares = np.full(X, 1 / X) if rho is None else rho
    found = {
        kl: kl_penalty(REFERENCE, weight=weight, context_probs=rho)(POLICY),
        cross_entropy: cross_entropy_penalty(BASE, weight=weight, context_probs=rho)(POLICY),
    }
    for index in np.ndindex(*BATCH):
        factor = np.broadcast_to(weight, BATCH)[index]
        for of, other in ((kl, REFERENCE.probs), (cross_entropy, BASE)):
            parts = [shares[x] * of(POLICY.probs[index][x], other[x]) for x in range(X)]
            assert found[of][index] == pytest.approx(factor * sum(parts), rel=1e-12)


def gradient(penalty, logits):
    leaf = torch.as_tensor(logits).clone().requires_grad_()
    with use_backend("torch"):
        policy = TabularPolicy.from_logits(logits)
    penalty(policy.with_parameters(leaf.reshape(*BATCH, -1))).sum().backward()
    return leaf.grad.numpy()


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_expected_estimator_has_the_slope_of_the_divergence(samples):
    options = {"weight": WEIGHT, "context_probs": RHO}
    exact = gradient(kl_penalty(REFERENCE, **options), LOGITS)
    sampled = gradient(sampled_kl_penalty(REFERENCE, samples=samples, **options), LOGITS)
    np.testing.assert_allclose(sampled, exact, atol=1e-12)
    assert (exact[..., RHO == 0, :] == 0).all()


@pytest.mark.parametrize("samples", [1, 2])
def test_the_mistake_of_a_ratio_that_is_differentiated(samples):
    options = {"weight": WEIGHT, "context_probs": RHO, "samples": samples}
    wrong = sampled_kl_penalty(REFERENCE, differentiate_ratio=True, **options)
    # The mean of (log π − log π_ref) log π, with the expectation held constant.
    log_policy = POLICY.log_probs
    terms = POLICY.probs * (log_policy - REFERENCE.log_probs) * log_policy
    np.testing.assert_allclose(wrong(POLICY), WEIGHT * (terms.sum(-1) @ RHO), rtol=1e-12)
    exact = gradient(kl_penalty(REFERENCE, weight=WEIGHT, context_probs=RHO), LOGITS)
    bias = gradient(wrong, LOGITS) - exact
    assert np.abs(bias).max() > 0.01
    # What is too much is the slope of a mean log-likelihood: minus that of the entropy.
    probs = POLICY.probs
    entropy = -(probs * log_policy).sum(-1, keepdims=True)
    slope = probs * (log_policy + entropy)
    np.testing.assert_allclose(bias, (WEIGHT[..., None, None] * RHO[:, None]) * slope, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kl_penalty(REFERENCE, weight=-1.0), "weight must be >= 0, got -1.0"),
        (lambda: kl_penalty(REFERENCE, weight=["a"]), "weight must be|weight must hold"),
        (lambda: kl_penalty(REFERENCE, weight=1.0, context_probs=[0.5, 0.5]), "context_probs"),
        (lambda: cross_entropy_penalty(BASE[0], weight=1.0), "base must"),
        (lambda: cross_entropy_penalty(2 * BASE, weight=1.0), "base must sum to 1"),
        (lambda: sampled_kl_penalty(REFERENCE, weight=1.0, samples=0), "samples must"),
    ],
)
def test_what_is_refused_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

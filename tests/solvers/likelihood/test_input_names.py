"""What the likelihood solvers are given: arrays of another kind or shape are refused by name."""

import re

import numpy as np
import pytest
import scipy.sparse

from prefsim.data import Segments
from prefsim.solvers.likelihood import reward_learning
from prefsim.solvers.likelihood.bradley_terry import count_matrix, fit_bradley_terry
from prefsim.solvers.likelihood.plackett_luce import fit_plackett_luce
from prefsim.solvers.likelihood.prompt_classifier import fit_prompt_classifier
from prefsim.solvers.likelihood.rationality import cross_validated_loss, fit_rationality
from prefsim.worlds import TabularMDP

MDP = TabularMDP.random(4, 3, discount=0.8, seed=0)
SEGMENTS = Segments.sample(MDP, 20, 2, seed=0, scores=np.asarray(MDP.reward))
FEATURES = np.random.default_rng(0).normal(size=(4, 3, 2))
FIT = {"iterations": 2}
LIBRARY = reward_learning.policy_library(MDP, FEATURES, 3, seed=0)
REFUSED = {
    "margin of words": (lambda: fit_rationality(["a"], [1.0]), "margin must"),
    "margin of two axes": (lambda: fit_rationality([[1.0]], [1.0]), "margin must have 1 axes"),
    "prob of words": (lambda: fit_rationality([1.0], ["a"]), "prob must"),
    "prob of two axes": (lambda: fit_rationality([1.0], [[1.0]]), "prob must have 1 axes"),
    "prob beyond 1": (lambda: fit_rationality([1.0], [1.5]), r"prob must lie in \[0, 1\]"),
    "weight of words": (lambda: fit_rationality([1.0], [1.0], ["a"]), "weight must"),
    "one weight": (lambda: fit_rationality([1.0], [1.0], 1.0), "weight must have at least 1 axes"),
    "held-out margin": (lambda: cross_validated_loss(["a"] * 2, [1.0, 0.0]), "margin must"),
    "held-out prob": (lambda: cross_validated_loss([1.0, 1.0], ["a"] * 2), "prob must"),
    "folds": (lambda: cross_validated_loss([1.0, 1.0], [1.0, 0.0], folds=3), "folds must"),
    "features of steps": (
        lambda: reward_learning.fit_partial_return_reward(SEGMENTS, FEATURES[0], **FIT),
        "features must have at least 3 axes",
    ),
    "features of the regret": (
        lambda: reward_learning.fit_regret_reward(SEGMENTS, MDP, FEATURES[0], **FIT),
        "features must have at least 3 axes",
    ),
    "start": (
        lambda: reward_learning.fit_regret_reward(SEGMENTS, MDP, FEATURES, start=[1.0], **FIT),
        "start must have at least 2 axes",
    ),
    "start of three": (
        lambda: reward_learning.fit_regret_reward(
            SEGMENTS, MDP, FEATURES, start=[[1.0, 2.0, 3.0]], **FIT
        ),
        "start must have trailing shape",
    ),
    "library": (
        lambda: reward_learning.fit_regret_reward_library(SEGMENTS, FEATURES, LIBRARY[0]),
        "library must have 3 axes",
    ),
    "library of others": (
        lambda: reward_learning.fit_regret_reward_library(SEGMENTS, FEATURES, LIBRARY[:, :2]),
        "library must have trailing shape",
    ),
    "features of a library": (
        lambda: reward_learning.fit_regret_reward_library(SEGMENTS, FEATURES[None], LIBRARY),
        "features must have 3 axes",
    ),
    "start with a library": (
        lambda: reward_learning.fit_regret_reward_library(
            SEGMENTS, FEATURES, LIBRARY, start=[1.0, 2.0, 3.0]
        ),
        "start must",
    ),
    "temperature": (
        lambda: reward_learning.fit_regret_reward_library(
            SEGMENTS, FEATURES, LIBRARY, temperature=0.0
        ),
        "temperature must",
    ),
    "policies": (lambda: reward_learning.policy_library(MDP, FEATURES, 0, seed=0), "n must"),
    "chosen": (lambda: count_matrix([0.5], [1], 2), "chosen must"),
    "rejected": (lambda: count_matrix([0], [0.5], 2), "rejected must"),
    "weights": (lambda: count_matrix([0], [1], 2, [-1.0]), "weight must"),
    "items": (lambda: count_matrix([0], [5], 2), "rejected must"),
    "counts": (lambda: fit_bradley_terry([[0.0, -1.0], [1.0, 0.0]]), "counts must be >= 0"),
    "no square": (lambda: fit_bradley_terry([[0.0, 1.0]]), "counts must have shape"),
    "own games": (lambda: fit_bradley_terry([[1.0, 1.0], [1.0, 0.0]]), "counts must have"),
    "sparse counts": (
        lambda: fit_bradley_terry(scipy.sparse.csr_array([[0.0, -1.0], [1.0, 0.0]])),
        "counts must be >= 0",
    ),
    "sparse own games": (
        lambda: fit_bradley_terry(scipy.sparse.csr_array([[0.0, 1.0], [1.0, 2.0]])),
        "counts must have a zero diagonal: item 1",
    ),
    "sparse nan": (
        lambda: fit_bradley_terry(scipy.sparse.csr_array([[0.0, np.nan], [1.0, 0.0]])),
        "counts must be finite",
    ),
    "no sparse square": (
        lambda: fit_bradley_terry(scipy.sparse.csr_array([[0.0, 1.0]])),
        "counts must have shape",
    ),
    "rankings": (lambda: fit_plackett_luce([[0.5, 1.0]], 2), "rankings must"),
    "ranked twice": (lambda: fit_plackett_luce([[0, 0]], 2), "rankings must not repeat"),
    "weight of rankings": (lambda: fit_plackett_luce([[0, 1]], 2, weight=[-1.0]), "weight must"),
    "unranked": (lambda: fit_plackett_luce([[0, 1]], 2, unranked="lost"), "unranked must"),
    "features of prompts": (lambda: fit_prompt_classifier([1.0], [True]), "features must"),
    "desirable": (lambda: fit_prompt_classifier([[1.0]], [2.0]), "desirable must"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        call()
    assert re.match(message, str(caught.value))


def test_an_item_without_comparisons_is_as_strong_as_the_prior_says():
    counts = np.zeros((4, 4))
    counts[0, 1], counts[1, 0], counts[1, 2], counts[2, 1] = 3.0, 1.0, 2.0, 2.0
    dense = fit_bradley_terry(counts, ridge=0.5)
    sparse = fit_bradley_terry(scipy.sparse.csr_array(counts), ridge=0.5)
    assert dense.converged and sparse.converged
    np.testing.assert_allclose(sparse.reward, dense.reward, atol=1e-9)
    np.testing.assert_allclose(sparse.log_likelihood, dense.log_likelihood, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_sparse_counts_are_dense_counts(seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.6, (30, 30)) * (1.0 - np.eye(30))
    counts += np.roll(np.eye(30), 1, axis=1)
    dense, sparse = fit_bradley_terry(counts), fit_bradley_terry(scipy.sparse.csr_array(counts))
    np.testing.assert_allclose(sparse.reward, dense.reward, atol=1e-9)
    np.testing.assert_allclose(sparse.log_likelihood, dense.log_likelihood, rtol=1e-12)
    difference = dense.reward[:, None] - dense.reward[None, :]
    by_definition = -(counts * np.logaddexp(0, -difference)).sum()
    np.testing.assert_allclose(dense.log_likelihood, by_definition, rtol=1e-12)

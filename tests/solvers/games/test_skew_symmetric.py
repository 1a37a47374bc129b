"""Skew scores: decomposition, general preference optimisation, maximum-likelihood embeddings."""

import functools
import warnings

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefsim.raters import embedding_preference, score_matrix
from prefsim.solvers import (
    ConvergenceWarning,
    decompose_skew,
    fit_bradley_terry,
    fit_preference_embedding,
    gpo_update,
    preference_scores,
    solve_nash,
)
from prefsim.solvers.games.preference_embedding import embedding_lower_bound, embedding_objective
from prefsim.testing import tables
from prefsim.worlds import PreferenceGame

LIBRARIES = [
    np.asarray,
    functools.partial(torch.as_tensor, dtype=torch.float64),
    array_api_strict.asarray,
]
CYCLE = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def skew_matrices(min_n=1, max_n=9, batch=()):
    return st.integers(min_n, max_n).flatmap(
        lambda n: tables((*batch, n, n), low=-4.0, high=4.0).map(
            lambda a: np.triu(a, 1) - np.swapaxes(np.triu(a, 1), -1, -2)
        )
    )


def some_counts(batch, n, seed):
    return np.random.default_rng(seed).integers(0, 5, (*batch, n, n)).astype(float) * (
        1 - np.eye(n)
    )


@given(skew_matrices(batch=(2,)))
def test_the_decomposition_is_exact(scores):
    found = decompose_skew(scores)
    assert found.embedding.shape[-1] == 2 * max(1, scores.shape[-1] // 2)
    np.testing.assert_allclose(score_matrix(found.embedding), scores, atol=1e-12)
    assert found.converged.all()
    np.testing.assert_allclose(
        found.residual,
        np.abs(score_matrix(found.embedding) - scores).max(axis=(-2, -1)),
        atol=1e-15,
    )
    singular = np.linalg.svd(scores, compute_uv=False)
    np.testing.assert_allclose(
        np.repeat(found.strengths, 2, axis=-1),
        singular[:, : 2 * (scores.shape[-1] // 2)],
        atol=1e-12,
    )
    squared = (found.embedding**2).sum(axis=-2).reshape(2, -1, 2)
    for axis in range(2):
        np.testing.assert_allclose(
            squared[:, : scores.shape[-1] // 2, axis], found.strengths, atol=1e-12
        )


@given(skew_matrices(min_n=2), st.integers(1, 5))
def test_a_short_embedding_is_the_best_of_its_length(scores, planes):
    found = decompose_skew(scores, dim=2 * planes)
    assert found.embedding.shape == (scores.shape[0], 2 * planes)
    left = scores - score_matrix(found.embedding)
    singular = np.linalg.svd(scores, compute_uv=False)[2 * planes :]
    np.testing.assert_allclose(np.linalg.norm(left), np.linalg.norm(singular), atol=1e-11)
    np.testing.assert_allclose(np.linalg.norm(left, 2), found.tail, atol=1e-11)
    assert found.converged


@pytest.mark.parametrize("library", LIBRARIES)
def test_array_libraries_agree(library):
    game = PreferenceGame.random(5, seed=0, batch_shape=(3,))
    scores = preference_scores(library(game.preference))
    np.testing.assert_allclose(
        np.asarray(scores), np.log(game.preference / (1 - game.preference)), atol=1e-12
    )
    found = decompose_skew(scores, dim=6)
    assert type(found.embedding) is type(scores)
    np.testing.assert_allclose(
        np.asarray(score_matrix(found.embedding)), np.asarray(scores), atol=1e-12
    )
    assert np.asarray(found.rank).tolist() == [4, 4, 4]
    np.testing.assert_allclose(
        np.asarray(embedding_preference(found.embedding)), game.preference, atol=1e-12
    )
    policy = library(np.log(np.full((3, 5), 0.2)))
    expected = gpo_update(np.log(np.full((3, 5), 0.2)), np.asarray(scores), beta=2.0)
    np.testing.assert_allclose(
        np.asarray(gpo_update(policy, scores, beta=2.0)), expected, atol=1e-12
    )
    found = embedding_objective(library(np.ones((5, 2))), library(np.ones((5, 5))), ridge=0.5)
    np.testing.assert_allclose(float(found), 25 * np.log(2) + 2.5, rtol=1e-14)


def test_single_precision_is_kept():
    found = decompose_skew(torch.tensor([[0.0, 2.0], [-2.0, 0.0]], dtype=torch.float32))
    assert found.embedding.dtype == torch.float32
    assert float(found.residual) <= 1e-6 and int(found.rank) == 2 and bool(found.converged)


@pytest.mark.parametrize(
    ("scores", "rank"),
    [
        ([[0.0]], 0),
        (np.zeros((4, 4)), 0),
        (np.subtract.outer(np.arange(5.0), np.arange(5.0)), 2),
        (np.kron(np.eye(3), [[0.0, 1.0], [-1.0, 0.0]]), 6),
        (CYCLE - CYCLE.T, 2),
        (np.triu(np.ones((6, 6)), 1) - np.tril(np.ones((6, 6)), -1), 6),
    ],
    ids=["single", "tied", "rewards", "three duels", "cycle", "tournament"],
)
def test_ranks(scores, rank):
    found = decompose_skew(scores)
    assert int(found.rank) == rank
    assert found.residual <= 1e-13
    if rank > 2:
        assert decompose_skew(scores, dim=rank - 2).tail > 0.1
    assert decompose_skew(scores, dim=max(2, rank)).residual <= 1e-13


def test_rare_preferences_keep_their_digits():
    chance = 1e-30
    scores = preference_scores([[0.5, 1.0 - chance], [chance, 0.5]])
    np.testing.assert_allclose(scores[0, 1], 30 * np.log(10), rtol=1e-12)


@given(skew_matrices(min_n=2, max_n=6), st.floats(0.2, 20.0), st.integers(0, 2**31))
def test_gpo_is_multiplicative_weights_on_a_game_of_bounded_scores(scores, beta, seed):
    start = np.random.default_rng(seed).dirichlet(np.full(len(scores), 3.0)) * 0.9 + 0.1 / len(
        scores
    )
    bound = max(float(np.abs(scores).max()), 1.0)
    run = solve_nash(
        0.5 + scores / (2 * bound),
        method="mwu",
        step=2 * bound / beta,
        initial=start,
        max_iterations=5,
        tolerance=0.0,
    )
    log_policy = np.log(start)
    for _ in range(5):
        following = gpo_update(log_policy, scores, beta=beta)
        assert np.exp(following) @ scores @ np.exp(log_policy) >= -1e-12
        log_policy = following
    np.testing.assert_allclose(np.exp(log_policy), run.policy, atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31), st.floats(0.0, 3.0))
def test_no_embedding_passes_the_bound(n, planes, seed, ridge):
    rng = np.random.default_rng(seed)
    counts = some_counts((), n, seed)
    embedding = rng.standard_normal((n, 2 * planes))
    other = rng.standard_normal((n, n)) * 3
    for scores in (score_matrix(embedding), other - other.T):
        assert (
            embedding_objective(embedding, counts, ridge=ridge)
            >= embedding_lower_bound(scores, counts, ridge=ridge) - 1e-10
        )


def test_without_a_ridge_a_long_embedding_has_the_log_odds_of_the_counts():
    counts = 1.0 + some_counts((4,), 5, 1)
    counts[:, 0, 3] = counts[:, 3, 0] = 0.0
    counts *= 1 - np.eye(5)
    result = fit_preference_embedding(counts, dim=4)
    scores = score_matrix(result.embedding)
    both = counts > 0
    np.testing.assert_allclose(
        scores[both], np.log(counts[both] / np.swapaxes(counts, -1, -2)[both]), atol=1e-12
    )
    assert result.iterations == 0 and result.converged.all()
    assert (result.gap <= 1e-11).all()


@pytest.mark.parametrize("ridge", [0.5, 0.1, 1e-2, 1e-4])
def test_the_cycle_with_a_ridge_has_a_closed_form(ridge):
    result = fit_preference_embedding(CYCLE, ridge=ridge)
    level = np.log(np.sqrt(3) / ridge - 1)
    np.testing.assert_allclose(score_matrix(result.embedding), level * (CYCLE - CYCLE.T), atol=1e-8)
    np.testing.assert_allclose(
        result.objective, 3 * np.log1p(np.exp(-level)) + ridge * np.sqrt(3) * level, rtol=1e-12
    )
    assert 0 <= result.gap <= 1e-8


def test_a_heavy_ridge_leaves_nothing():
    result = fit_preference_embedding(CYCLE, ridge=1.0)
    np.testing.assert_allclose(result.embedding, 0.0, atol=1e-7)
    np.testing.assert_allclose(result.objective, 3 * np.log(2), rtol=1e-12)
    assert result.gap <= 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_long_embeddings_reach_the_global_minimum_and_short_ones_say_what_they_miss(seed):
    counts = some_counts((5,), 6, seed)
    results = {
        dim: fit_preference_embedding(counts, dim=dim, ridge=0.5, seed=seed) for dim in (2, 4, 6)
    }
    for result in results.values():
        assert result.converged.all()
        np.testing.assert_allclose(
            embedding_objective(result.embedding, counts, ridge=0.5), result.objective, rtol=1e-13
        )
        # A gap is a promise about every other embedding.
        assert (results[6].objective >= result.objective - result.gap - 1e-9).all()
    assert (results[6].gap <= 1e-5).all()
    assert (np.diff([results[dim].objective for dim in (2, 4, 6)], axis=0) <= 1e-9).all()


def test_a_general_optimiser_finds_nothing_better():
    counts = some_counts((), 4, 3)
    result = fit_preference_embedding(counts, dim=2, ridge=0.3)
    rng = np.random.default_rng(0)
    found = [
        minimize(
            lambda v: embedding_objective(v.reshape(4, 2), counts, ridge=0.3),
            rng.standard_normal(8),
            method="BFGS",
        ).fun
        for _ in range(8)
    ]
    np.testing.assert_allclose(min(found), result.objective, rtol=1e-6)


def test_two_coordinates_contain_bradley_terry():
    counts = 1.0 + some_counts((3,), 6, 5)
    counts *= 1 - np.eye(6)
    rewards = fit_bradley_terry(counts)
    result = fit_preference_embedding(counts, dim=2, starts=2)
    assert result.converged.all()
    assert (result.objective <= -rewards.log_likelihood + 1e-9).all()


def test_batch_scale_order_and_repetition():
    counts = some_counts((3,), 5, 7)
    together = fit_preference_embedding(counts, ridge=0.5)
    again = fit_preference_embedding(counts, ridge=0.5)
    np.testing.assert_array_equal(together.embedding, again.embedding)
    scaled = fit_preference_embedding(1e3 * counts, ridge=0.5e3)
    np.testing.assert_allclose(scaled.objective, 1e3 * together.objective, rtol=1e-9)
    order = np.random.default_rng(0).permutation(5)
    moved = fit_preference_embedding(counts[:, order][:, :, order], ridge=0.5, starts=6)
    np.testing.assert_allclose(moved.objective, together.objective, rtol=1e-6)
    assert fit_preference_embedding(np.zeros((2, 0, 3, 3)), ridge=0.5).objective.shape == (2, 0)


def test_torch_in_and_out():
    counts = torch.tensor(CYCLE)
    result = fit_preference_embedding(counts, ridge=0.1)
    assert isinstance(result.embedding, torch.Tensor) and result.embedding.dtype == torch.float64
    np.testing.assert_allclose(
        result.objective.item(), fit_preference_embedding(CYCLE, ridge=0.1).objective, rtol=1e-12
    )


def test_stopping_early_warns_and_says_so():
    with pytest.warns(ConvergenceWarning, match="stopped after 1 steps"):
        result = fit_preference_embedding(some_counts((), 6, 0), ridge=0.5, max_iterations=1)
    assert not result.converged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_preference_embedding(np.zeros((3, 3)), ridge=0.5).converged


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: decompose_skew([[0.0, 1.0], [1.0, 0.0]]),
            r"scores must satisfy S \+ Sᵀ = 0, got S\[i, j\] \+ S\[j, i\] = 2 at",
        ),
        (lambda: decompose_skew([[1.0]]), r"S \+ Sᵀ = 0"),
        (lambda: decompose_skew([[0.0, np.inf], [-np.inf, 0.0]]), "scores must be finite"),
        (lambda: decompose_skew(np.zeros((2, 3))), r"shape \(\.\.\., n, n\)"),
        (lambda: decompose_skew(np.zeros((3, 3)), dim=3), "dim must be even, got 3"),
        (lambda: decompose_skew(np.zeros((3, 3)), rtol=-1.0), "rtol must be a finite number >= 0"),
        (
            lambda: preference_scores([[0.5, 1.0], [0.0, 0.5]]),
            r"must be > 0 everywhere for finite log-odds, got 0.0 at index \(1, 0\)",
        ),
        (lambda: preference_scores([[0.5, 0.7], [0.7, 0.5]]), r"P \+ Pᵀ = 1"),
        (
            lambda: gpo_update(np.log([0.5, 0.5]), np.zeros((2, 2)), beta=0.0),
            "beta must be a finite number > 0",
        ),
        (
            lambda: gpo_update(np.log([0.5, 0.5]), np.zeros((3, 3)), beta=1.0),
            r"scores must have trailing shape \(2, 2\)",
        ),
        (
            lambda: fit_preference_embedding(CYCLE),
            r"won by both sides, but the first of the pair at index \(0, 1\) always won.*ridge > 0",
        ),
        (lambda: fit_preference_embedding(CYCLE, dim=3, ridge=1.0), "dim must be even, got 3"),
        (lambda: fit_preference_embedding(-CYCLE, ridge=1.0), "wins must be >= 0"),
        (lambda: fit_preference_embedding(np.eye(2), ridge=1.0), "item 0 is compared with itself"),
        (lambda: fit_preference_embedding(CYCLE, ridge=-1.0), "ridge must be a finite number >= 0"),
        (
            lambda: fit_preference_embedding(CYCLE, ridge=1.0, starts=0),
            "starts must be an integer >= 1",
        ),
        (
            lambda: fit_preference_embedding(CYCLE, ridge=1.0, tolerance=0.0),
            "tolerance must be a finite number > 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dim", [2, 4, 6])
def test_vectors_are_as_long_as_was_asked_for(dim):
    wins = np.array([[0.0, 9.0, 1.0], [1.0, 0.0, 9.0], [9.0, 1.0, 0.0]])
    found = fit_preference_embedding(wins, dim=dim)
    assert found.embedding.shape == (3, dim) and found.iterations == 0
    log_odds = np.log(np.where(wins > 0, wins, 1.0)) - np.log(np.where(wins > 0, wins, 1.0)).T
    np.testing.assert_allclose(score_matrix(found.embedding), log_odds, atol=1e-9)

"""Bradley–Terry maximum likelihood.

The certificate recomputed, known answers, an independent peer, and loud failure without a maximum.
"""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from prefsim import use_backend
from prefsim.raters.bradley_terry import bradley_terry_gap, pairwise_preference
from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.likelihood.bradley_terry import (
    count_matrix,
    fit_bradley_terry,
)
from prefsim.solvers.likelihood.compared_pairs import SPARSE_PRODUCTS
from prefsim.testing.data import count_matrices, rewards, separable_counts

CYCLIC = np.array([[0.5, 0.9, 0.35], [0.1, 0.5, 0.9], [0.65, 0.1, 0.5]])


def gradient(counts, reward, ridge=0.0):
    """The gradient with logistic functions, entry by entry.

    An independent path to the certificate.
    """
    chance = expit(reward[:, None] - reward[None, :])
    return (counts - (counts + counts.T) * chance).sum(axis=1) - ridge * reward


def chain(n, won, lost):
    """Item i beats item i + 1 ``won`` times and loses ``lost`` times; nothing else is compared."""
    counts = np.zeros((n, n))
    first = np.arange(n - 1)
    counts[first, first + 1] = won
    counts[first + 1, first] = lost
    return counts


@given(count_matrices(), st.sampled_from([0.0, 0.0, 0.3]))
def test_the_certificate_holds_when_recomputed(counts, ridge):
    result = fit_bradley_terry(counts, ridge=ridge)
    error = np.abs(gradient(counts, result.reward, ridge))
    assert result.converged
    assert np.all(error <= 2e-12 * (counts + counts.T).sum(axis=1) + 1e-13)
    assert abs(result.grad_norm - error.max()) <= 1e-11
    assert abs(result.reward.sum()) <= 1e-12
    chance = pairwise_preference(result.reward)
    assert math.isclose(
        result.log_likelihood, np.sum(counts * np.log(chance)), rel_tol=1e-10, abs_tol=1e-12
    )


@given(count_matrices(max_items=4), st.integers(0, 2**31))
def test_no_other_rewards_are_likelier(counts, seed):
    result = fit_bradley_terry(counts)
    other = result.reward + 0.1 * np.random.default_rng(seed).standard_normal(result.reward.size)
    assert np.sum(counts * np.log(pairwise_preference(other))) <= result.log_likelihood + 1e-9


@given(rewards(max_items=6), st.integers(0, 2**31))
def test_a_bradley_terry_population_gives_its_rewards_back_whatever_the_pair_weights(reward, seed):
    weight = np.random.default_rng(seed).uniform(0.01, 1.0, (reward.size, reward.size))
    np.fill_diagonal(weight, 0.0)
    result = fit_bradley_terry((weight + weight.T) * pairwise_preference(reward))
    np.testing.assert_allclose(result.reward, reward - reward.mean(), atol=1e-9)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.8, 0.1, 0.1), (0.400867, -1.032371, 0.631505)),
        ((0.1, 0.1, 0.8), (-0.631505, 1.032371, -0.400867)),
    ],
)
def test_a_cyclic_preference_gives_rewards_that_depend_on_the_pairs_shown(shares, expected):
    # nash_md, C7: the best item changes from 3 to 2 with the sampling of pairs.
    weight = np.outer(shares, shares) * (1 - np.eye(3))
    result = fit_bradley_terry(weight * CYCLIC)
    np.testing.assert_allclose(result.reward, expected, atol=5e-7)
    assert bradley_terry_gap(CYCLIC) > 1


def test_the_same_rewards_as_choix_and_a_higher_likelihood_than_one_spectral_pass():
    choix = pytest.importorskip("choix")
    rng = np.random.default_rng(1)
    counts = rng.poisson(2.0, (40, 40)).astype(float)
    np.fill_diagonal(counts, 0.0)
    result = fit_bradley_terry(counts)
    np.testing.assert_allclose(
        result.reward, choix.ilsr_pairwise_dense(counts, tol=1e-13), atol=1e-9
    )
    spectral = choix.lsr_pairwise_dense(counts)
    assert np.sum(counts * np.log(pairwise_preference(spectral))) < result.log_likelihood - 1e-3


def test_a_ridge_is_choixs_penalty():
    choix = pytest.importorskip("choix")
    pairs = [(0, 1), (0, 2), (1, 2), (1, 3)]
    counts = count_matrix(*np.transpose(pairs), 4)
    # choix penalises alpha * |r|², this solver ridge / 2 * |r|².
    expected = choix.opt_pairwise(4, pairs, alpha=0.25, tol=1e-12)
    np.testing.assert_allclose(fit_bradley_terry(counts, ridge=0.5).reward, expected, atol=1e-8)


@given(count_matrices(batch_shape=(2, 3), max_items=5))
def test_a_batch_is_its_members(counts):
    batch = fit_bradley_terry(counts)
    assert batch.reward.shape == counts.shape[:-1]
    assert batch.grad_norm.shape == batch.log_likelihood.shape == batch.converged.shape == (2, 3)
    for index in np.ndindex(2, 3):
        single = fit_bradley_terry(counts[index])
        np.testing.assert_allclose(batch.reward[index], single.reward, atol=1e-9)
        np.testing.assert_allclose(
            batch.log_likelihood[index], single.log_likelihood, rtol=1e-10, atol=1e-12
        )


@given(count_matrices(max_items=6), st.sampled_from([0.0, 0.2]))
def test_sparse_counts_give_the_dense_answer(counts, ridge):
    dense, sparse = (
        fit_bradley_terry(table, ridge=ridge) for table in (counts, scipy.sparse.csr_array(counts))
    )
    np.testing.assert_allclose(sparse.reward, dense.reward, atol=1e-9)
    np.testing.assert_allclose(sparse.log_likelihood, dense.log_likelihood, rtol=1e-10, atol=1e-12)
    assert sparse.converged


def test_well_connected_and_badly_connected_comparisons_both_converge():
    # The first takes conjugate gradients, the second the factorisations behind them (dense, then
    # sparse).
    rng = np.random.default_rng(0)
    dense = rng.poisson(3.0, (300, 300)).astype(float)
    np.fill_diagonal(dense, 0.0)
    result = fit_bradley_terry(dense)
    assert result.converged
    assert np.abs(gradient(dense, result.reward)).max() < 1e-8
    line = chain(2 * SPARSE_PRODUCTS, 3, 1)
    for counts in (line, scipy.sparse.csr_array(line)):
        result = fit_bradley_terry(counts)
        np.testing.assert_allclose(-np.diff(result.reward), math.log(3), atol=1e-10)


def test_sixty_thousand_items_in_a_row():
    # 66,000 nats from end to end: the rounding of the rewards alone moves the gradient by more than
    # the tolerance.
    n = 60_000
    first, second = np.arange(n - 1), np.arange(1, n)
    counts = count_matrix(
        np.append(first, second),
        np.append(second, first),
        n,
        np.repeat([3.0, 1.0], n - 1),
        sparse=True,
    )
    result = fit_bradley_terry(counts, max_iterations=20)
    assert result.converged
    np.testing.assert_allclose(-np.diff(result.reward), math.log(3), atol=1e-10)


def test_a_ridge_on_a_long_chain():
    counts = chain(2 * SPARSE_PRODUCTS, 3, 1)
    dense, sparse = (
        fit_bradley_terry(table, ridge=1e-6, max_iterations=20)
        for table in (counts, scipy.sparse.csr_array(counts))
    )
    np.testing.assert_allclose(sparse.reward, dense.reward, atol=1e-9)
    assert np.abs(gradient(counts, sparse.reward, 1e-6)).max() < 1e-9


@pytest.mark.parametrize("n", [63, 64, 65, 130, 200])
def test_the_likelihood_of_many_items_counts_every_pair(n):
    """Sums of many items are taken in strips of a triangle."""
    counts = np.random.default_rng(n).poisson(1.5, (n, n)).astype(float)
    np.fill_diagonal(counts, 0.0)
    result = fit_bradley_terry(counts)
    expected = np.sum(counts * np.log(pairwise_preference(result.reward)))
    np.testing.assert_allclose(result.log_likelihood, expected, rtol=1e-12)


def test_two_groups_that_hardly_meet():
    # The gradient of the million comparisons inside the groups hides that of the few millionths
    # between them; the last step does not.
    counts = np.zeros((4, 4))
    counts[0, 1] = counts[1, 0] = counts[2, 3] = counts[3, 2] = 1e6
    counts[0, 2], counts[2, 0] = 3e-6, 1e-6
    for table in (counts, scipy.sparse.csr_array(counts)):
        reward = fit_bradley_terry(table).reward
        assert abs(reward[0] - reward[2] - math.log(3)) < 1e-3


def test_rewards_far_apart():
    # The answer of a chain is known: each link is its own log-odds, here 690 nats from end to end.
    counts = chain(51, 1e6, 1)
    for table in (counts, scipy.sparse.csr_array(counts)):
        result = fit_bradley_terry(table)
        np.testing.assert_allclose(-np.diff(result.reward), math.log(1e6), atol=1e-8)
        expected = 50 * (1e6 * math.log1p(-1 / (1e6 + 1)) + math.log(1 / (1e6 + 1)))
        np.testing.assert_allclose(result.log_likelihood, expected, rtol=1e-9)


def test_the_likelihood_keeps_its_digits_where_one_side_all_but_always_wins():
    result = fit_bradley_terry([[0, 1e12], [1, 0]])
    expected = 1e12 * math.log1p(-1 / (1e12 + 1)) - math.log(1e12 + 1)
    np.testing.assert_allclose(result.log_likelihood, expected, rtol=1e-9)


@given(count_matrices(max_items=5), st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(counts, factor):
    np.testing.assert_allclose(
        fit_bradley_terry(factor * counts).reward, fit_bradley_terry(counts).reward, atol=1e-9
    )


@given(count_matrices(max_items=5), st.integers(0, 2**31))
def test_relabelled_items_and_swapped_roles(counts, seed):
    result = fit_bradley_terry(counts)
    order = np.random.default_rng(seed).permutation(counts.shape[0])
    np.testing.assert_allclose(
        fit_bradley_terry(counts[np.ix_(order, order)]).reward, result.reward[order], atol=1e-9
    )
    np.testing.assert_allclose(fit_bradley_terry(counts.T).reward, -result.reward, atol=1e-9)


def test_the_input_is_not_changed_and_the_answer_is_repeatable():
    counts = np.random.default_rng(0).poisson(3.0, (20, 20)).astype(float)
    np.fill_diagonal(counts, 0.0)
    copy = counts.copy()
    first, second = fit_bradley_terry(counts), fit_bradley_terry(counts)
    np.testing.assert_array_equal(counts, copy)
    np.testing.assert_array_equal(first.reward, second.reward)


def test_torch_in_and_out():
    counts = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    with use_backend("torch"):
        reward = fit_bradley_terry(counts).reward
    assert isinstance(reward, torch.Tensor)
    torch.testing.assert_close(reward, torch.tensor([0.5, -0.5], dtype=torch.float64) * math.log(3))


def test_one_item_needs_no_comparison():
    result = fit_bradley_terry([[0]])
    assert result.converged
    assert result.reward.tolist() == [0.0]
    assert result.log_likelihood == 0


@given(separable_counts())
def test_separable_data_raise_and_a_ridge_helps(case):
    counts, _ = case
    for table in (counts, scipy.sparse.csr_array(counts)):
        with pytest.raises(ValueError, match=r"no maximum exists: .*pass ridge > 0"):
            fit_bradley_terry(table)
    assert fit_bradley_terry(counts, ridge=0.1).converged


def test_separable_data_name_the_items():
    counts = np.zeros((5, 5))
    counts[0, 1] = counts[1, 0] = counts[1, 2] = counts[2, 3] = counts[3, 4] = counts[4, 3] = 1
    with pytest.raises(
        ValueError, match=r"items \{0, 1\} never lose to the others and items \{3, 4\} never win"
    ):
        fit_bradley_terry(counts)
    stack = np.stack([np.ones((5, 5)) - np.eye(5), counts])
    with pytest.raises(ValueError, match=r"no maximum exists in member 1: .*never lose"):
        fit_bradley_terry(stack)


def test_a_disconnected_graph_names_its_components():
    counts = np.zeros((5, 5))
    counts[0, 2] = counts[2, 0] = counts[1, 3] = counts[3, 1] = 1
    with pytest.raises(
        ValueError, match=r"5 items fall into 3 components \{0, 2\}, \{1, 3\}, \{4\}"
    ):
        fit_bradley_terry(counts)
    reward = fit_bradley_terry(counts, ridge=1.0).reward
    np.testing.assert_allclose(reward, 0.0, atol=1e-12)
    with pytest.raises(
        ValueError, match=r"100 items fall into 100 components .*\{3\}, … \(100 in all\)"
    ):
        fit_bradley_terry(np.zeros((100, 100)))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[0, 1, 2], [1, 0, 1]], r"shape \(\.\.\., n, n\)"),
        (np.zeros((0, 0)), r"n >= 1"),
        ([[0, np.nan], [1, 0]], r"counts must be finite, got nan at index \(0, 1\)"),
        ([[0, np.inf], [1, 0]], r"counts must be finite"),
        ([[0, 2], [-1, 0]], r"counts must be >= 0, got -1\.0 at index \(1, 0\)"),
        ([[0, 2], [1, 3]], r"item 1 is compared with itself"),
        (
            [[[0, 2], [1, 0]], [[4, 2], [1, 0]]],
            r"item 0 is compared with itself at index \(1, 0, 0\)",
        ),
    ],
)
def test_bad_counts(counts, message):
    with pytest.raises(ValueError, match=message):
        fit_bradley_terry(counts)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (scipy.sparse.csr_array((2, 3)), r"shape \(n, n\)"),
        (scipy.sparse.csr_array([[0, np.nan], [1, 0]]), "finite"),
        (scipy.sparse.csr_array([[0, -2.0], [1, 0]]), ">= 0, got -2"),
        (scipy.sparse.csr_array([[0, 2.0], [1, 5]]), "item 1 is compared with itself"),
    ],
)
def test_bad_sparse_counts(counts, message):
    with pytest.raises(ValueError, match=message):
        fit_bradley_terry(counts)


@pytest.mark.parametrize(
    "option",
    [
        {"ridge": -1.0},
        {"ridge": np.nan},
        {"tolerance": 0.0},
        {"max_iterations": 0},
        {"max_iterations": 2.5},
    ],
)
def test_bad_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        fit_bradley_terry([[0, 1], [1, 0]], **option)


def test_stopping_early_warns_and_says_so():
    with pytest.warns(ConvergenceWarning, match="stopped after 1 steps"):
        result = fit_bradley_terry(chain(30, 1000, 1), max_iterations=1)
    assert not result.converged
    assert result.iterations == 1


def test_count_matrix_counts():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(0, 5, 200), rng.integers(5, 9, 200)
    weight = rng.random(200)
    plain, weighted = count_matrix(chosen, rejected, 9), count_matrix(chosen, rejected, 9, weight)
    expected, expected_weight = np.zeros((9, 9)), np.zeros((9, 9))
    for i, j, w in zip(chosen, rejected, weight, strict=True):
        expected[i, j] += 1
        expected_weight[i, j] += w
    np.testing.assert_array_equal(plain, expected)
    np.testing.assert_allclose(weighted, expected_weight, rtol=1e-12)
    np.testing.assert_allclose(
        count_matrix(chosen, rejected, 9, weight, sparse=True).toarray(),
        expected_weight,
        rtol=1e-12,
    )


def test_counts_may_be_less_than_one_and_weights_nothing():
    result = fit_bradley_terry(scipy.sparse.csr_array([[0, 0.5], [0.25, 0]]))
    np.testing.assert_allclose(result.reward, [math.log(2) / 2, -math.log(2) / 2], atol=1e-12)
    np.testing.assert_array_equal(count_matrix([0, 1], [1, 0], 2, [0.0, 2.0]), [[0, 0], [2, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 3], [1, 1], 3), r"chosen must be >= 0 and < 3, got 3 at index 1"),
        (([0, 1], [1, -1], 3), r"rejected must be >= 0"),
        (([0.5], [1], 3), "integers"),
        (([0, 1], [1], 3), "one shape"),
        (([0, 2], [1, 2], 3), "item 2 is compared with itself at index 1"),
        (([0], [1], 3, [-1.0]), "weight must be >= 0"),
        (([0], [1], 3, [np.nan]), "weight must be finite"),
        (([0], [1], 3, [1.0, 2.0]), "weight must have the shape"),
        (([0], [1], 0), "n_items"),
        (([0], [1], 2.5), "n_items"),
    ],
)
def test_bad_comparisons(arguments, message):
    with pytest.raises(ValueError, match=message):
        count_matrix(*arguments)

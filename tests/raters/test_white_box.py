"""The terms of a reward that anybody can read, on tokens."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.raters import proxy_reward
from prefsim.raters.white_box import distinct_ngrams, length_incentive, mean_pooled
from prefsim.testing import tables
from prefsim.worlds import TokenTree

SEQUENCES = st.lists(st.integers(0, 3), max_size=9)
EMBEDDINGS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])


def padded(rows, width=9):
    return np.array([row + [-1] * (width - len(row)) for row in rows]).reshape(len(rows), width)


def share_of_different_ones(row, n):
    grams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


@given(st.lists(SEQUENCES, max_size=5), st.integers(1, 4))
def test_terms_are_those_of_each_sequence_alone(rows, n):
    tokens = padded(rows)
    np.testing.assert_array_equal(
        distinct_ngrams(tokens, n=n), [share_of_different_ones(row, n) for row in rows]
    )
    np.testing.assert_allclose(length_incentive(tokens), [len(row) / 100 for row in rows])
    pooled = mean_pooled(np.eye(4), tokens)
    expected = [np.bincount(row, minlength=4) / max(len(row), 1) for row in rows]
    np.testing.assert_allclose(pooled, np.reshape(expected, (len(rows), 4)), atol=1e-15)


def test_words_and_leading_axes():
    words = np.array([["no", "no", "no", "no", "no"], ["a", "b", "c", "d", ""]])
    np.testing.assert_allclose(distinct_ngrams(words), [1 / 3, 1.0])
    np.testing.assert_allclose(length_incentive(words, scale=5), [1.0, 0.8])
    tokens = np.random.default_rng(0).integers(0, 2, (2, 3, 7))
    assert distinct_ngrams(tokens).shape == (2, 3)
    np.testing.assert_array_equal(
        distinct_ngrams(tokens), [distinct_ngrams(part) for part in tokens]
    )


def test_a_token_behind_padding_is_refused():
    for term in (length_incentive, distinct_ngrams, lambda x: mean_pooled(EMBEDDINGS, x)):
        with pytest.raises(ValueError, match="padded behind their end"):
            term([[0, -1, 1]])
    with pytest.raises(ValueError, match="tokens must hold integers or words"):
        distinct_ngrams([[0.5, 1.0]])
    with pytest.raises(ValueError, match="n must be an integer >= 1"):
        distinct_ngrams([[0, 1]], n=0)
    with pytest.raises(ValueError, match="tokens"):
        mean_pooled(EMBEDDINGS, [[0, 3]])


def test_relevance_times_length_times_distinctness_on_a_tree():
    tree = TokenTree(4, 6, end_token=3)
    tokens = np.where(tree.sequences == 3, -1, tree.sequences)
    relevance = mean_pooled(EMBEDDINGS, tokens) @ EMBEDDINGS[0]
    terms = length_incentive(tokens, scale=6), distinct_ngrams(tokens), relevance
    rewards = proxy_reward(*terms)
    best = tokens[rewards > rewards.max() - 1e-12]
    np.testing.assert_array_equal(best, [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]])
    assert rewards.max() == pytest.approx(0.9333333333, abs=1e-10)
    copied = proxy_reward(*terms, with_distinct=False)
    np.testing.assert_array_equal(tokens[copied.argmax()], [0] * 6)
    assert terms[1][copied.argmax()] == 0.25
    # The empty response, which is worth nothing.
    empty = tree.index_of([3])
    assert [float(term[empty]) for term in (*terms, rewards)] == [0.0, 1.0, 0.0, 0.0]


def test_values_of_both_kinds_of_queries():
    terms = np.array(0.5), np.array(0.8), np.array(1.2)
    assert proxy_reward(*terms) == pytest.approx(0.48)
    assert proxy_reward(*terms, constrained=True) == pytest.approx(1.4043428571428573)
    assert proxy_reward(0.5, 1.0, 3.5, constrained=True) == pytest.approx(5.12)
    both = proxy_reward(*terms, constrained=[False, True], longest=256, largest_relevance=1.0)
    np.testing.assert_allclose(both, [0.48, 0.8 * 1.2 * 2.56])


def test_switches():
    terms = {"length": 0.5, "distinct": 0.8, "relevance": 1.2}

    def reward(**options):
        return float(proxy_reward(**terms, **options))

    off = {f"with_{name}": False for name in terms}
    assert reward(with_length=False) == pytest.approx(0.8 * 1.2)
    assert reward(with_distinct=False) == pytest.approx(0.5 * 1.2)
    assert reward(with_relevance=False) == pytest.approx(0.5 * 0.8)
    assert reward(**off) == 1.0
    assert reward(constrained=True, with_branching=False) == reward()
    # Without relevance there is nothing to branch to.
    assert reward(constrained=True, with_relevance=False) == pytest.approx(0.5 * 0.8)
    scale = 5.12 / 3.5
    assert reward(constrained=True, with_distinct=False) == pytest.approx(scale * 1.2)
    assert reward(constrained=True, with_length=False) == reward(constrained=True)


@given(tables((3, 4), low=-2.0, high=2.0), st.booleans())
def test_every_array_library_and_the_gradient(terms, branching):
    kinds = np.array([True, False, False, True])
    expected = proxy_reward(*terms, constrained=kinds, with_branching=branching)
    for how in (torch.tensor, array_api_strict.asarray):
        found = proxy_reward(*map(how, terms), constrained=how(kinds), with_branching=branching)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-15)
    relevance = torch.tensor(terms[2], requires_grad=True)
    with_numpy = proxy_reward(torch.tensor(terms[0]), torch.tensor(terms[1]), relevance)
    (slope,) = torch.autograd.grad(with_numpy.sum(), relevance)
    np.testing.assert_allclose(slope.numpy(), terms[0] * terms[1], atol=1e-15)


def test_embeddings_of_torch_keep_their_graph():
    embeddings = torch.tensor(EMBEDDINGS, requires_grad=True)
    (slope,) = torch.autograd.grad(mean_pooled(embeddings, [0, 1, -1]).sum(), embeddings)
    np.testing.assert_allclose(slope.numpy(), [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]])

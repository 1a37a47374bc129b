"""Skew scores of embeddings: their form, their invariances and the models they contain."""

import functools

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.raters import (
    embedding_preference,
    learned_temperature,
    prompt_scales,
    reward_embedding,
    score_matrix,
    skew_score,
)
from prefsim.testing import tables

LIBRARIES = [
    np.asarray,
    functools.partial(torch.as_tensor, dtype=torch.float64),
    array_api_strict.asarray,
]
VECTORS = np.array([[1, 0.5, -0.3, 0.2], [0.4, -1, 0.6, 0.1], [-0.7, 0.3, 0.2, 0.9]])


@st.composite
def embeddings(draw):
    n, k = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    return draw(tables((2, n, 2 * k), low=-3.0, high=3.0)), draw(tables((2, k), low=0.0, high=2.0))


@given(embeddings())
def test_scores_are_the_skew_form_written_out(case):
    embedding, scales = case
    for vectors, scale in zip(embedding, scales, strict=True):
        form = np.kron(np.diag(scale), [[0.0, -1.0], [1.0, 0.0]])
        expected = [[(form @ v) @ w for w in vectors] for v in vectors]
        np.testing.assert_allclose(score_matrix(vectors, scales=scale), expected, atol=1e-13)
        pairs = skew_score(
            vectors[:, None] + 0 * vectors, vectors[None] + 0 * vectors[:, None], scales=scale
        )
        np.testing.assert_allclose(pairs, expected, atol=1e-13)
    together = score_matrix(embedding, scales=scales)
    np.testing.assert_array_equal(together[1], score_matrix(embedding[1], scales=scales[1]))
    np.testing.assert_array_equal(together, -np.swapaxes(together, -1, -2))
    longest = np.linalg.norm(embedding, axis=-1)
    bound = scales.max(axis=-1)[:, None, None] * longest[:, :, None] * longest[:, None, :]
    assert (np.abs(together) <= bound + 1e-12).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_array_libraries_agree(library):
    scales = np.array([1.5, 0.5])
    found = score_matrix(library(VECTORS), scales=library(scales))
    assert type(found) is type(library(VECTORS))
    np.testing.assert_allclose(np.asarray(found), score_matrix(VECTORS, scales=scales), atol=1e-15)
    np.testing.assert_allclose(
        np.asarray(skew_score(library(VECTORS[0]), library(VECTORS[1]))), -1.35, atol=1e-15
    )
    found = embedding_preference(library(VECTORS), temperature=0.1)
    np.testing.assert_allclose(
        np.asarray(found), embedding_preference(VECTORS, temperature=0.1), atol=1e-15
    )
    np.testing.assert_allclose(
        np.asarray(prompt_scales(library(scales), width=4)).sum(), 2.0, atol=1e-15
    )
    np.testing.assert_allclose(
        np.asarray(learned_temperature(library(np.array([-2.25, -50.0])))),
        [np.log1p(np.exp(-2.25)), 0.01],
    )
    np.testing.assert_allclose(
        np.asarray(reward_embedding(library(scales))), [[1.5, 1.0], [0.5, 1.0]]
    )


def test_gradients_flow_and_descend_the_loss():
    vectors = torch.tensor(VECTORS, requires_grad=True)
    score = skew_score(vectors[0], vectors[1]) / 0.1
    loss = losses.bradley_terry(losses.PairRewards(score, torch.zeros_like(score)))
    loss.backward()
    # d(-log sigmoid(s/τ))/dv₀ is the turned second vector times -(1 - P)/τ.
    expected = -10 / (1 + np.exp(-13.5)) * np.array([-1.0, -0.4, 0.1, -0.6])
    np.testing.assert_allclose(vectors.grad[0].numpy(), expected, rtol=1e-12)


def test_the_gate_weighs_blocks():
    np.testing.assert_allclose(prompt_scales(np.array([0.0, 2 * np.log(3.0)]), width=4), [0.5, 1.5])
    np.testing.assert_allclose(prompt_scales(np.zeros((3, 4)), width=7), np.ones((3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: skew_score(np.ones(3), np.ones(3)), "last axis of first must be even, got 3"),
        (lambda: skew_score(np.ones(2), np.ones((2, 2))), "one shape"),
        (lambda: score_matrix(np.ones((4, 5))), "last axis of embedding must be even, got 5"),
        (
            lambda: score_matrix(np.ones((4, 0))),
            r"last axis of embedding must be an integer >= 2, got 0",
        ),
        (
            lambda: score_matrix(np.ones((4, 4)), scales=np.ones(3)),
            r"scales must have trailing shape \(2\)",
        ),
        (
            lambda: embedding_preference(np.ones((2, 2)), temperature=0.0),
            "temperature must be a finite number > 0",
        ),
        (lambda: prompt_scales(np.ones(2), width=0), "width must be an integer >= 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""arXiv:2410.13828: the pair whose suffix drags, single tokens, and suffixes of drawn pairs."""

import numpy as np
import pytest
import torch

from paper_repros.theory.gradient_entanglement.shared_head import (
    Pair,
    Response,
    normalised,
    single_token,
    suffix_that_drags,
    train,
    train_normalised,
    with_suffix,
)
from paper_repros.theory.gradient_entanglement.slopes import TABLE
from prefsim.gradients import gradient

DRAGGED, START = suffix_that_drags()


def test_the_pair_whose_suffix_drags():
    chosen, rejected = DRAGGED.log_probs(START)
    assert (chosen, rejected) == pytest.approx((-1.1935352451, -2.8768146445), abs=1e-10)
    found = DRAGGED.entangled(START)
    assert found.inner == pytest.approx(0.0982651818, abs=1e-10)
    assert found.cosine == pytest.approx(0.70940702, abs=1e-8)
    squared = [float((g**2).sum()) for g in DRAGGED.gradients(START)]
    assert squared == pytest.approx([0.0189675224, 1.0115742195], abs=1e-10)
    gram = DRAGGED.token_gram(START)
    np.testing.assert_allclose(np.diag(gram), [-0.0033333333, 0.1015985151], atol=1e-10)
    swapped = Pair(DRAGGED.rejected, DRAGGED.chosen).entangled(START)
    assert swapped.chosen_rate == pytest.approx(0.91330904, abs=1e-8)
    assert swapped.rejected_rate == pytest.approx(0.07929766, abs=1e-8)


def test_paths_of_dpo():
    path = train(DRAGGED, START, TABLE["DPO"].loss, rate=0.1, steps=500)
    known = [[-1.1976063, -1.24472462, -1.67059373], [-2.92274401, -3.35451256, -5.15734157]]
    np.testing.assert_allclose(np.array(path)[:, [10, 100, 500]], known, atol=1e-8)
    path = train_normalised(DRAGGED, START, TABLE["DPO"].loss, rate=0.1, steps=500)
    known = [[-1.17392538, -1.10165543], [-3.0195625, -3.53779553]]
    np.testing.assert_allclose(np.array(path)[:, [100, 500]], known, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("SimPO", (-0.209, -1.362)),
        ("IPO", (-0.795, -3.122)),
        ("KTO", (-0.178, -1.223)),
        ("SPPO", (-0.393, -2.410)),
        ("DPOP", (-0.000, -1.065)),
        ("RRHF", (0.227, 0.881)),
        ("SLiC-HF", (0.227, 0.881)),
    ],
)
def test_where_losses_end(name, moved):
    row = TABLE[name]
    path = train(DRAGGED, START, row.loss, rate=row.rate, steps=500)
    assert path.moved == pytest.approx(moved, abs=6e-4)


def test_single_tokens_are_trained_themselves():
    pair, logits = single_token()
    chosen, rejected = pair.gradients(logits)
    probs = np.exp([0.5, 0.2, -0.3]) / np.exp([0.5, 0.2, -0.3]).sum()
    np.testing.assert_allclose(chosen[:, 0], np.eye(3)[0] - probs, atol=1e-15)
    np.testing.assert_allclose(rejected[:, 0], np.eye(3)[1] - probs, atol=1e-15)


def test_gradients_are_those_of_the_log_probability():
    rng = np.random.default_rng(4)
    response = Response(rng.integers(5, size=(2, 3)), rng.normal(size=(2, 3, 4)))
    weights = rng.normal(size=(2, 5, 4))

    def log_prob(w):
        logits = torch.einsum("nvd,ntd->ntv", w, torch.as_tensor(response.contexts))
        tokens = torch.as_tensor(response.tokens)[..., None]
        return torch.log_softmax(logits, dim=-1).gather(-1, tokens).sum()

    np.testing.assert_allclose(response.gradient(weights), gradient(log_prob, weights), atol=1e-14)


def test_drawn_pairs_differ_in_the_first_token_and_share_the_suffix():
    pair, weights = with_suffix(np.random.default_rng(0), 3, draws=50)
    first, second = pair.chosen.tokens, pair.rejected.tokens
    assert (first[:, 0] != second[:, 0]).all()
    np.testing.assert_array_equal(first[:, 1:], second[:, 1:])
    np.testing.assert_array_equal(pair.chosen.contexts[:, 0], pair.rejected.contexts[:, 0])
    both = [x[:, 1:].ravel() for x in (pair.chosen.contexts, pair.rejected.contexts)]
    assert np.corrcoef(*both)[0, 1] == pytest.approx(0.8, abs=0.05)
    assert weights.shape == (50, 8, 12)


def test_the_direction_of_gradients_of_length_one():
    first, second = np.array([[3.0, 0.0]]), np.array([[0.0, 0.5]])
    np.testing.assert_allclose(normalised(first, second), [[1.0, -1.0]])

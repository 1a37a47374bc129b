"""Contrastive losses in blocks: those of the whole matrix, with their gradients, and memory."""

import numpy as np
import pytest
import torch

from prefsim.containers import ClassLogits
from prefsim.losses.contrastive import infonce, rgcl
from prefsim.losses.contrastive_blocks import blockwise_infonce, blockwise_rgcl, negatives_kl_dro
from prefsim.losses.dro import kl_dro_dual

ROWS, CANDIDATES, WIDTH = 37, 50, 5
RNG = np.random.default_rng(0)


def given(dtype=torch.float64):
    """Return embeddings, places of positives, temperatures and weights of the anchors."""
    rng = np.random.default_rng(1)
    anchors, candidates = (
        torch.nn.functional.normalize(torch.tensor(rng.standard_normal((n, WIDTH))), dim=1)
        for n in (ROWS, CANDIDATES)
    )
    temperature, weight = torch.tensor(rng.uniform(0.05, 0.4, (2, ROWS)))
    leaves = [x.to(dtype).requires_grad_() for x in (anchors, candidates, temperature)]
    return leaves, torch.tensor(rng.integers(0, CANDIDATES, ROWS)), weight.to(dtype)


def value_and_gradients(value, weight, leaves):
    return value.detach(), *torch.autograd.grad((weight * value).sum(), leaves)


# A block of one row, some blocks, and one block that is larger than all.
BLOCKS = (1, 8 * CANDIDATES * 7, None)


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize(
    ("whole", "blockwise"), [(infonce, blockwise_infonce), (rgcl, blockwise_rgcl)]
)
def test_values_and_gradients_of_the_whole_matrix(whole, blockwise, block_bytes):
    leaves, label, weight = given()
    anchors, candidates, temperature = leaves
    classes = ClassLogits(anchors @ candidates.T, label)
    expected = value_and_gradients(whole(classes, temperature=temperature), weight, leaves)
    found = blockwise(anchors, candidates, label, temperature=temperature, block_bytes=block_bytes)
    for one, other in zip(value_and_gradients(found, weight, leaves), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_what_is_not_asked_for_is_not_computed():
    leaves, label, _ = given()
    anchors, candidates, temperature = leaves
    wanted = (
        (anchors, (anchors, candidates.detach(), 0.2)),
        (candidates, (anchors.detach(), candidates, 0.2)),
        (temperature, (anchors.detach(), candidates.detach(), temperature)),
    )
    for leaf, (a, c, tau) in wanted:
        found = blockwise_infonce(a, c, label, temperature=tau).sum()
        expected = infonce(ClassLogits(a @ c.T, label), temperature=tau).sum()
        one, other = (torch.autograd.grad(value, leaf)[0] for value in (found, expected))
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_gradcheck_with_excluded_places():
    leaves, _, _ = given()
    anchors, temperature = leaves[0][:6], leaves[2][:6]
    label, own = torch.tensor([1, 2, 3, 4, 5, 0]), torch.arange(6)[:, None]

    def value(points, tau):
        return negatives_kl_dro(points, points, label, temperature=tau, excluded=own).value

    assert torch.autograd.gradcheck(value, (anchors, temperature))
    others = torch.stack(
        [
            (anchors @ anchors.T)[i, [j for j in range(6) if j not in (i, label[i])]]
            for i in range(6)
        ]
    )
    positive = (anchors @ anchors.T)[torch.arange(6), label]
    expected = temperature * torch.logsumexp(
        (others - positive[:, None]) / temperature[:, None], dim=1
    ) - temperature * np.log(4)
    torch.testing.assert_close(value(anchors, temperature), expected, rtol=1e-12, atol=1e-14)


def test_the_divergence_is_that_of_the_dual():
    leaves, label, _ = given()
    anchors, candidates, temperature = (leaf.detach() for leaf in leaves)
    found = negatives_kl_dro(anchors, candidates, label, temperature=temperature)
    scores = anchors @ candidates.T
    others = torch.stack(
        [torch.cat([row[:k], row[k + 1 :]]) for row, k in zip(scores, label, strict=True)]
    )
    dual = kl_dro_dual(others, lambda_=temperature)
    torch.testing.assert_close(found.divergence, dual.divergence, rtol=1e-11, atol=1e-14)
    assert found.negatives == CANDIDATES - 1


def test_numpy_and_precision():
    leaves, label, _ = given()
    arrays = [leaf.detach().numpy() for leaf in leaves]
    exact = blockwise_infonce(arrays[0], arrays[1], label.numpy(), temperature=arrays[2])
    assert isinstance(exact, np.ndarray)
    leaves, label, _ = given(torch.float32)
    single = blockwise_infonce(leaves[0], leaves[1], label, temperature=leaves[2])
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), exact, rtol=1e-4)
    half = blockwise_infonce(leaves[0].bfloat16(), leaves[1].bfloat16(), label, temperature=0.3)
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()


def test_scores_far_apart_are_finite():
    anchors = torch.tensor([[1e4], [-1e4]], dtype=torch.float32, requires_grad=True)
    candidates = torch.tensor([[1.0], [-1.0], [0.0]])
    value = blockwise_infonce(anchors, candidates, torch.tensor([1, 1]), temperature=0.05)
    value.sum().backward()
    assert value.tolist() == [pytest.approx(4e5), 0.0]
    assert anchors.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"candidates": np.ones((4, 3))}, "candidates"),
        ({"anchors": np.ones(2)}, "anchors"),
        ({"label": [0, 4]}, "label"),
        ({"label": [0, 1, 2]}, "label"),
        ({"excluded": [[0], [9]]}, "excluded"),
        ({"excluded": [[1, 2, 3], [0, 2, 3]]}, "candidates must hold a negative"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": np.ones(3)}, "temperature"),
        ({"anchors": np.full((2, 2), np.nan)}, "anchors"),
    ],
)
def test_what_does_not_fit_is_named(change, match):
    arguments = {
        "anchors": np.ones((2, 2)),
        "candidates": np.ones((4, 2)),
        "label": [0, 1],
        "temperature": 0.1,
    }
    with pytest.raises(ValueError, match=match):
        blockwise_infonce(**arguments | change)

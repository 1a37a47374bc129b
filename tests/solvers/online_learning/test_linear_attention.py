"""Linear attention as a learner: its sum, what it cannot see, its outputs."""

import numpy as np
import pytest
import torch

from prefsim.solvers.online_learning.linear_attention import (
    OUTPUTS,
    LinearAttention,
    attention_decisions,
    cumulative_before,
)

LOSSES = np.random.default_rng(0).normal(size=(3, 5, 2))
LAYER = LinearAttention.random(2, seed=1)


def test_it_is_the_sum_of_its_definition():
    value, value_bias, key, key_bias, query = LAYER
    for sequence, found in zip(LOSSES, attention_decisions(LAYER, LOSSES), strict=True):
        for t in range(5):
            terms = [
                (value @ loss + value_bias) * ((key @ loss + key_bias) @ query)
                for loss in sequence[:t]
            ]
            np.testing.assert_allclose(found[t], np.sum(terms, axis=0) + np.zeros(2), atol=1e-14)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_decision_sees_only_the_losses_before(output):
    later = LOSSES.copy()
    later[:, 3:] = 99.0
    before, after = (attention_decisions(LAYER, x, output=output) for x in (LOSSES, later))
    assert (before[:, :4] == after[:, :4]).all()
    assert not np.allclose(before[:, 4], after[:, 4])


def test_outputs():
    plain, ball, soft = (attention_decisions(LAYER, LOSSES, output=o) for o in OUTPUTS)
    assert (plain[:, 0] == 0).all() and (soft[:, 0] == 0.5).all()
    length = np.linalg.norm(plain, axis=-1, keepdims=True)
    np.testing.assert_allclose(ball, plain / np.maximum(length, 1.0), atol=1e-15)
    np.testing.assert_allclose(soft, np.exp(plain) / np.exp(plain).sum(-1, keepdims=True))


def test_the_leader():
    matrix = np.array([[-1.0, 0.25], [0.5, -2.0]])
    found = attention_decisions(LinearAttention.of_leader(matrix), LOSSES)
    np.testing.assert_allclose(found, cumulative_before(LOSSES) @ matrix.T, atol=1e-14)


def test_gradients_and_many_layers():
    layers = LinearAttention(*(torch.stack([torch.tensor(p)] * 4)[:, None] for p in LAYER))
    data = torch.tensor(LOSSES)
    found = attention_decisions(layers, data)
    assert found.shape == (4, 3, 5, 2)
    np.testing.assert_allclose(found[2].numpy(), attention_decisions(LAYER, LOSSES), atol=1e-14)
    parts = [torch.tensor(p, requires_grad=True) for p in LAYER]
    assert torch.autograd.gradcheck(
        lambda *p: attention_decisions(LinearAttention(*p), data[0, :3], output="softmax"), parts
    )


def test_bad_input():
    with pytest.raises(ValueError, match="losses must have trailing shape"):
        attention_decisions(LAYER, LOSSES[..., :1])
    with pytest.raises(ValueError, match=r"layer\.key must have trailing shape"):
        attention_decisions(LAYER._replace(key=np.eye(3)), LOSSES)
    with pytest.raises(ValueError, match="output must be"):
        attention_decisions(LAYER, LOSSES, output="sphere")

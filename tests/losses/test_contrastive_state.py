"""What iSogCLR keeps of every example: its steps, where they are exact, resuming, libraries."""

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.backend import use_backend
from prefsim.containers import ClassLogits
from prefsim.losses.contrastive import rgcl, rgcl_temperature
from prefsim.losses.contrastive_blocks import negatives_kl_dro
from prefsim.losses.contrastive_state import (
    ContrastiveState,
    contrastive_state,
    isogclr_step,
    isogclr_update,
)

HARD = ClassLogits(np.asarray([[0.0, -0.3, -0.7, -1.1, -1.6]]), np.asarray([0]))


def test_three_steps_of_the_temperature():
    state = contrastive_state(1)
    found = []
    for _ in range(3):
        state, _ = isogclr_update(state, np.asarray([0]), HARD, mixing=1.0)
        found.append(float(state.temperature[0]))
    expected = [0.1089390560352502, 0.1185164781052477, 0.1278636144888459]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def by_hand(state, h, *, radius, mixing, momentum, rate, lowest, highest):
    """One anchor, as the algorithm is written."""
    u, v, tau = state
    weights = np.exp(h / tau)
    mean = weights.mean()
    u = mean if u is None else (1 - mixing) * u + mixing * mean
    slope = np.log(u) + radius - np.mean(weights / u * h / tau)
    v = (1 - momentum) * v + momentum * slope
    return (u, v, min(max(tau - rate * v, lowest), highest)), weights / u / h.size


def test_steps_by_hand():
    rng = np.random.default_rng(0)
    options = {
        "radius": 0.2,
        "mixing": 0.7,
        "momentum": 0.6,
        "rate": 0.05,
        "lowest": 0.05,
        "highest": 0.4,
    }
    state, mine = contrastive_state(3, temperature=0.3), [(None, 0.0, 0.3)] * 3
    for batch in ([0, 2], [2, 1], [2, 0]):
        similarities = torch.tensor(rng.uniform(-1, 1, (2, 6)), requires_grad=True)
        label = rng.integers(0, 6, 2)
        tau = [mine[i][2] for i in batch]
        state, loss = isogclr_update(
            state, np.asarray(batch), ClassLogits(similarities, torch.tensor(label)), **options
        )
        loss.sum().backward()
        for row, i in enumerate(batch):
            scores = similarities[row].detach().numpy()
            h = np.delete(scores, label[row]) - scores[label[row]]
            mine[i], weights = by_hand(mine[i], h, **options)
            assert float(loss[row].detach()) == pytest.approx(
                tau[row] * (np.log(mine[i][0]) + 0.2), rel=1e-12
            )
            expected = np.insert(weights, label[row], -weights.sum())
            np.testing.assert_allclose(similarities.grad[row].numpy(), expected, rtol=1e-11)
    for i, (u, v, temperature) in enumerate(mine):
        found = [float(part[i]) for part in state]
        np.testing.assert_allclose(found, [np.log(u), v, temperature], rtol=1e-12)


def test_a_full_batch_is_exact_and_ends_at_the_minimising_temperature():
    rng = np.random.default_rng(1)
    similarities = torch.tensor(rng.uniform(-1, 1, (4, 9)), requires_grad=True)
    classes = ClassLogits(similarities, torch.tensor([0, 1, 2, 3]))
    state = contrastive_state(4, temperature=0.2)
    _, loss = isogclr_update(state, np.arange(4), classes, mixing=1.0)
    exact = rgcl(classes, temperature=0.2, radius=0.3)
    torch.testing.assert_close(loss, exact, rtol=1e-13, atol=1e-15)
    found, expected = (torch.autograd.grad(x.sum(), similarities)[0] for x in (loss, exact))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    for _ in range(400):
        state, _ = isogclr_update(state, np.arange(4), classes, mixing=1.0, rate=0.05, highest=5.0)
    np.testing.assert_allclose(
        state.temperature, rgcl_temperature(classes).detach().numpy(), atol=1e-6
    )


def test_a_fixed_temperature_is_sogclr():
    state, _ = isogclr_update(contrastive_state(1), np.asarray([0]), HARD, rate=0.0)
    assert float(state.temperature[0]) == 0.1
    assert float(state.slope[0]) != 0


def test_resumed_from_a_file_it_goes_on_bit_for_bit(tmp_path):
    rng = np.random.default_rng(2)
    batches = [
        (rng.permutation(6)[:3], ClassLogits(rng.uniform(-1, 1, (3, 5)), rng.integers(0, 5, 3)))
        for _ in range(6)
    ]
    state = contrastive_state(6)
    for step, (ids, classes) in enumerate(batches):
        if step == 3:
            np.savez(tmp_path / "state.npz", **state._asdict())
        state, _ = isogclr_update(state, ids, classes)
    with np.load(tmp_path / "state.npz") as kept:
        resumed = ContrastiveState(**kept)
    for ids, classes in batches[3:]:
        resumed, _ = isogclr_update(resumed, ids, classes)
    for one, other in zip(resumed, state, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_batch_moves_and_the_old_state_stays():
    start = contrastive_state(3)
    state, _ = isogclr_update(start, np.asarray([1]), HARD)
    assert np.isneginf(start.log_normaliser).all()
    np.testing.assert_array_equal(np.isneginf(state.log_normaliser), [True, False, True])
    np.testing.assert_array_equal(state.temperature[[0, 2]], [0.1, 0.1])


def test_blocks_give_the_same_step():
    rng = np.random.default_rng(3)
    points = torch.nn.functional.normalize(torch.tensor(rng.standard_normal((8, 3))), dim=1)
    label, ids = torch.tensor([0, 1, 2]), np.asarray([4, 2, 0])
    state = contrastive_state(5, temperature=0.2)
    rows = isogclr_update(state, ids, ClassLogits(points[:3] @ points[3:].T, label))
    found = negatives_kl_dro(points[:3], points[3:], label, temperature=0.2)
    blocks = isogclr_step(state, ids, found.value, found.divergence)
    np.testing.assert_allclose(blocks[1], rows[1], rtol=1e-13)
    for one, other in zip(blocks[0], rows[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_libraries():
    batch = ClassLogits(torch.tensor(HARD.logits), torch.tensor(HARD.label))
    state, loss = isogclr_update(contrastive_state(2), np.asarray([1]), batch)
    assert isinstance(state.temperature, np.ndarray)
    assert isinstance(loss, torch.Tensor)
    with use_backend("torch"):
        there, value = isogclr_update(contrastive_state(2), torch.tensor([1]), HARD)
    assert isinstance(there.temperature, torch.Tensor)
    np.testing.assert_allclose(there.temperature.numpy(), state.temperature, rtol=1e-14)
    np.testing.assert_allclose(value, loss.numpy(), rtol=1e-14)
    strict = ClassLogits(*(array_api_strict.asarray(x) for x in HARD[:2]))
    third, _ = isogclr_update(contrastive_state(2), np.asarray([1]), strict)
    np.testing.assert_allclose(third.temperature, state.temperature, rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"radius": -1.0}, "radius"),
        ({"mixing": 0.0}, "mixing"),
        ({"momentum": 1.5}, "momentum"),
        ({"rate": -0.1}, "rate"),
        ({"lowest": 0.0}, "lowest"),
        ({"highest": 0.01}, "highest"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        isogclr_update(contrastive_state(1), np.asarray([0]), HARD, **options)


def test_ids_that_do_not_fit():
    with pytest.raises(ValueError, match="ids must be >= 0 and < 1"):
        isogclr_update(contrastive_state(1), np.asarray([1]), HARD)
    with pytest.raises(ValueError, match="ids must have the shape"):
        isogclr_update(contrastive_state(3), np.asarray([0, 1]), HARD)

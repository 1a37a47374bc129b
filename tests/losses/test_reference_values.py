"""Reference values of the losses of sequence and token log-probabilities, in float64."""

import numpy as np
import pytest
import torch
from loss_references import BATCH, EIGHT_DIGITS, REFERENCES, SCORED

from prefsim import losses
from prefsim.containers import map_fields
from prefsim.losses.catalogue import couples_batch


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: reference.label)
def test_values(reference):
    values = reference.loss(reference.batch)
    np.testing.assert_allclose(values, reference.values, atol=EIGHT_DIGITS, rtol=0)


@pytest.mark.parametrize(
    "reference",
    [reference for reference in REFERENCES if reference.gradient is not None],
    ids=lambda reference: reference.label,
)
def test_gradients_of_the_second_pair(reference):
    moved = map_fields(reference.batch, lambda x: torch.tensor(x, requires_grad=True))
    coupled = couples_batch(reference.loss)
    values = reference.loss(moved)
    (values.sum() if coupled else values[1]).backward()
    gradients = [
        torch.zeros(3, dtype=torch.float64) if log_prob.grad is None else log_prob.grad
        for log_prob in (moved.chosen, moved.rejected)
    ]
    # The gradient of a coupled loss is printed as a third of itself.
    tolerance = 3 * EIGHT_DIGITS if coupled else EIGHT_DIGITS
    np.testing.assert_allclose(
        [gradient[1] for gradient in gradients], reference.gradient, atol=tolerance, rtol=0
    )
    if not coupled:
        assert all(gradient[[0, 2]].abs().max() == 0 for gradient in gradients)


def test_kto_row():
    def half(logp, ref_logp, desirable):
        container = losses.UnpairedLogps(logp, ref_logp, np.full(3, desirable))
        return losses.kto(container, reference_point=0.3)

    chosen = half(BATCH.chosen, BATCH.ref_chosen, True)
    rejected = half(BATCH.rejected, BATCH.ref_rejected, False)
    # The sum of two values to eight digits.
    np.testing.assert_allclose(chosen + rejected, (0.97501083, 1.06863666, 0.90048972), atol=6e-9)


H = np.asarray([[0.3, -0.7, 1.2, 0.4]])


@pytest.mark.parametrize(
    ("name", "scores", "beta", "value"),
    [
        ("pl_dpo", [[4.0, 3.0, 2.0, 1.0]], 1.0, 4.33629212),
        ("pl_dpo", [[4.0, 3.0, 2.0, 1.0]], 0.1, 3.24413259),
        ("infonca", [[2.0, 0.0, 3.0, 1.0]], 1.0, 1.03969841),
        ("nca", [[2.0, 0.0, 3.0, 1.0]], 1.0, 1.28938126),
        ("exo_rw", [[2.0, 0.0, 3.0, 1.0]], 1.0, 0.11548658),
    ],
)
def test_lists(name, scores, beta, value):
    container = losses.ListLogps(H, np.zeros_like(H), np.asarray(scores))
    np.testing.assert_allclose(getattr(losses, name)(container, beta=beta), [value], atol=6e-9)


def log_softmax(rows):
    rows = np.asarray(rows, dtype=float)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def test_token_rows():
    """Two responses of two tokens over a vocabulary of three."""
    policy = {
        "chosen": log_softmax([[0.2, -0.1, 0.5], [1, 0, -1]]),
        "rejected": log_softmax([[0.2, -0.1, 0.5], [0, 0.3, 0.6]]),
    }
    reference = {
        "chosen": log_softmax([[0, 0.1, 0.2], [0.5, 0.5, -0.5]]),
        "rejected": log_softmax([[0, 0.1, 0.2], [0.4, -0.2, 0.1]]),
    }
    tokens = {"chosen": [2, 0], "rejected": [1, 2]}
    columns = {}
    for side, drawn in tokens.items():
        own, other = policy[side], reference[side]
        columns[side] = own[[0, 1], drawn]
        columns[f"ref_{side}"] = other[[0, 1], drawn]
        columns[f"{side}_mask"] = np.ones(2, dtype=bool)
        columns[f"{side}_kl"] = (np.exp(other) * (other - own)).sum(-1)
        columns[f"{side}_collision"] = np.log((np.exp(own) ** 2).sum(-1))
    pair = losses.TokenPairLogps(**{name: column[None] for name, column in columns.items()})
    np.testing.assert_allclose(
        [pair.chosen_kl.sum(), pair.rejected_kl.sum()], [0.1459131411, 0.1156974142], atol=1e-10
    )
    np.testing.assert_allclose(losses.tdpo1(pair), [0.6595026921], atol=1e-10)
    np.testing.assert_allclose(losses.tdpo2(pair), [0.6602325231], atol=1e-10)
    np.testing.assert_allclose(losses.wpo(pair, beta=0.1), [0.6609629240], atol=1e-10)
    np.testing.assert_allclose(losses.wpo(pair, beta=0.1, clamp=False), [0.7695738885], atol=1e-10)


@pytest.mark.parametrize(
    ("alpha", "value"), [(1.0, 0.6709002842), (0.5, 0.6782596763), (0.0, 0.6856753053)]
)
def test_length_desensitised_row(alpha, value):
    def padded(*row):
        return np.asarray([[*row, *[0.0] * (5 - len(row))]])

    container = losses.TokenPairLogps(
        chosen=padded(-0.5, -1.0, -0.25),
        rejected=padded(-0.7, -0.2, -1.1, -0.9, -0.4),
        ref_chosen=padded(-0.6, -0.9, -0.5),
        ref_rejected=padded(-0.8, -0.3, -1.0, -0.7, -0.3),
        chosen_mask=np.asarray([[True] * 3 + [False] * 2]),
        rejected_mask=np.ones((1, 5), bool),
    )
    np.testing.assert_allclose(losses.ld_dpo(container, alpha=alpha), [value], atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.simpo(BATCH._replace(chosen_length=None)), "chosen_length is needed"),
        (lambda: losses.odpo(BATCH), "chosen_score is needed"),
        (
            lambda: losses.odpo(SCORED._replace(chosen_score=SCORED.rejected_score)),
            "chosen_score must exceed rejected_score",
        ),
        (lambda: losses.exo_pair(BATCH, epsilon=0.0), r"epsilon must lie in \(0.0, 0.5\)"),
        (lambda: losses.chipo(BATCH, clip=-1.0), "clip must be"),
        (
            lambda: losses.pl_dpo(
                losses.ListLogps(np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0)))
            ),
            "at least one candidate",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

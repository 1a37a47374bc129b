"""The Nash-MD-PG loss.

Its gradient over all sequences is the policy gradient, with the bias of the token-wise penalty.
"""

import itertools

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.containers import map_fields
from prefsim.gradients import gradient
from prefsim.losses.nash import JudgedLogps, antisymmetrised, nash_md_pg

LENGTH, VOCABULARY = 2, 3


def sequence_tables(logits):
    """Return token log-probabilities ``(9, 2)`` of all sequences from prefix-wise logits.

    ``(3,)`` and ``(3, 3)``.
    """
    first, second = (
        torch.log_softmax(logits[0], -1),
        torch.log_softmax(logits[1:].reshape(3, 3), -1),
    )
    return torch.stack(
        [torch.stack([first[a], second[a, b]]) for a, b in itertools.product(range(3), repeat=2)]
    )


@pytest.fixture
def tree():
    generator = torch.Generator().manual_seed(0)
    own, reference = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    preference = torch.rand(9, 9, generator=generator, dtype=torch.float64).triu(1)
    preference = preference + (1 - preference.mT).tril(-1) + 0.5 * torch.eye(9, dtype=torch.float64)
    return own, sequence_tables(reference), preference


def expected_gradient(tree, kl, tau):
    """Return the mean gradient of the loss over sequences of the policy, by enumeration.

    The opponent is fixed.
    """
    logits, ref_logp, preference = tree
    opponent = torch.softmax(ref_logp.sum(-1), -1)
    mask = torch.ones(9, 2, dtype=torch.bool)
    weights = torch.exp(sequence_tables(logits).sum(-1))

    def weighted_loss(theta):
        batch = JudgedLogps(sequence_tables(theta), ref_logp, mask, preference @ opponent)
        return weights * nash_md_pg(batch, tau=tau, kl=kl)

    return gradient(weighted_loss, logits)


def true_gradient(tree, tau):
    logits, ref_logp, preference = tree
    opponent = torch.softmax(ref_logp.sum(-1), -1)

    def value(theta):
        logp = sequence_tables(theta).sum(-1)
        return torch.exp(logp) * (preference @ opponent - tau * (logp - ref_logp.sum(-1)))

    return gradient(value, logits)


def test_the_sequence_form_is_unbiased(tree):
    for tau in (0.0, 0.3):
        np.testing.assert_allclose(
            -expected_gradient(tree, "sequence", tau),
            true_gradient(tree, tau),
            atol=1e-14,
            rtol=1e-12,
        )


def test_the_token_form_is_biased_where_a_token_changes_what_follows(tree):
    sequence, token = (expected_gradient(tree, kl, 0.3) for kl in ("sequence", "token"))
    # The last token has nothing after it.
    np.testing.assert_allclose(token[1:], sequence[1:], atol=1e-14, rtol=1e-12)
    assert np.abs(token[0] - sequence[0]).max() > 1e-3
    np.testing.assert_allclose(
        expected_gradient(tree, "token", 0.0),
        expected_gradient(tree, "sequence", 0.0),
        atol=1e-14,
        rtol=1e-12,
    )


def batch(n=5, length=4, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < rng.integers(1, length + 1, (n, 1))
    logp, ref_logp = (np.where(mask, -rng.random((n, length)), 0.0) for _ in range(2))
    return JudgedLogps(logp, ref_logp, mask, rng.random(n))


@pytest.mark.parametrize("kl", ["sequence", "token"])
def test_the_formula(kl):
    logps = batch()
    ratio = logps.logp - logps.ref_logp
    if kl == "sequence":
        expected = -(logps.win_prob - 0.5 - 0.2 * ratio.sum(-1)) * logps.logp.sum(-1)
    else:
        expected = 0.2 * (ratio * logps.logp).sum(-1) - (logps.win_prob - 0.5) * logps.logp.sum(-1)
    np.testing.assert_allclose(nash_md_pg(logps, tau=0.2, kl=kl), expected, rtol=1e-12, atol=1e-15)
    with_torch = nash_md_pg(map_fields(logps, torch.tensor), tau=0.2, kl=kl)
    np.testing.assert_allclose(with_torch.numpy(), expected, rtol=1e-12, atol=1e-15)
    strict = nash_md_pg(map_fields(logps, array_api_strict.asarray), tau=0.2, kl=kl)
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kl", ["sequence", "token"])
def test_padding_never_matters(kl):
    logps = batch()
    garbage = JudgedLogps(
        np.where(logps.mask, logps.logp, np.nan),
        np.where(logps.mask, logps.ref_logp, -np.inf),
        logps.mask,
        logps.win_prob,
    )
    np.testing.assert_array_equal(nash_md_pg(garbage, kl=kl), nash_md_pg(logps, kl=kl))


@pytest.mark.parametrize("kl", ["sequence", "token"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_are_finite_at_extremes(kl, dtype):
    logp = torch.tensor([[-1e4, -1e-6], [-1e-6, -1e4]], dtype=dtype, requires_grad=True)
    mask = torch.ones(2, 2, dtype=torch.bool)
    value = nash_md_pg(
        JudgedLogps(
            logp, torch.full((2, 2), -1e4, dtype=dtype), mask, torch.tensor([0.0, 1.0], dtype=dtype)
        ),
        kl=kl,
    )
    value.sum().backward()
    assert value.dtype == dtype
    assert value.isfinite().all()
    assert logp.grad.isfinite().all()


def test_only_the_log_probability_carries_a_gradient():
    logps = batch()
    moved = map_fields(logps, lambda x: torch.tensor(x, requires_grad=x.dtype != bool))
    nash_md_pg(moved, tau=0.2).sum().backward()
    advantage = logps.win_prob - 0.5 - 0.2 * (logps.logp - logps.ref_logp).sum(-1)
    np.testing.assert_allclose(
        moved.logp.grad.numpy(), -advantage[:, None] * logps.mask, rtol=1e-12
    )
    assert moved.ref_logp.grad is None
    assert moved.win_prob.grad is None


def test_certain_answers_are_answers_and_what_lies_beyond_abstains():
    forward = np.array([0.0, 1.0, 1.0, 0.0, 1.1, -0.1, 0.5, 0.5])
    backward = np.array([1.0, 0.0, 1.0, 0.0, 0.5, 0.5, 1.1, -0.1])
    found = antisymmetrised(forward, backward)
    np.testing.assert_array_equal(found.win_prob, [0.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.kept, [True] * 4 + [False] * 4)


def test_a_judge_freed_from_order():
    found = antisymmetrised(
        np.array([0.9, 0.5, -1.0, 0.4, np.nan]), np.array([0.3, 0.5, 0.5, 1.5, 0.5])
    )
    np.testing.assert_allclose(found.win_prob[:2], [0.8, 0.5])
    assert found.kept.tolist() == [True, True, False, False, False]
    back = antisymmetrised(np.array([0.3]), np.array([0.9]))
    assert back.win_prob[0] + found.win_prob[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"tau": -1.0}, "tau must be a finite number >= 0"),
        ({}, {"kl": "word"}, "kl must be one of 'sequence', 'token', got 'word'"),
        ({"ref_logp": np.zeros((5, 3))}, {}, "arrays must have one shape"),
        ({"win_prob": np.zeros(4)}, {}, "arrays must have one shape"),
    ],
)
def test_bad_input(change, options, message):
    with pytest.raises(ValueError, match=message):
        nash_md_pg(batch()._replace(**change), **options)
    with pytest.raises(ValueError, match="arrays must have one shape"):
        antisymmetrised(np.zeros(2), np.zeros(3))

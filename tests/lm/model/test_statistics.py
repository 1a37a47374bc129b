"""What is computed beside the log-probabilities: collision, KL and the reference, by definition."""

import pytest
import torch
from head_problems import TINY, plain, plain_logits, problem

from prefsim.lm import Head, token_statistics
from prefsim.lm.model.tiled import tiled_statistics


def test_gradcheck_of_the_statistics():
    hidden, weight, bias, labels, mask = problem(batch=2, length=4, d=3, size=70)
    ref_hidden, ref_weight, *_ = problem(seed=1, batch=2, length=4, d=4, size=70)

    def call(h, w, b):
        reference = {"ref_hidden": ref_hidden, "ref_head": Head(ref_weight)}
        found = token_statistics(
            h, Head(w, b, 3.0), labels, mask, collision=True, tile_bytes=TINY, **reference
        )
        return found.logp, found.collision, found.kl

    assert torch.autograd.gradcheck(call, [x.requires_grad_() for x in (hidden, weight, bias)])


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_statistics_equal_their_definitions(softcap):
    hidden, weight, bias, labels, mask = problem(size=300)
    ref_hidden, ref_weight, ref_bias, *_ = problem(seed=1, d=4, size=300)
    reference = Head(ref_weight, ref_bias, 4.0)
    found = token_statistics(
        hidden,
        Head(weight, bias, softcap),
        labels,
        mask,
        collision=True,
        ref_hidden=ref_hidden,
        ref_head=reference,
        tile_bytes=TINY,
    )
    logs = torch.log_softmax(plain_logits(hidden[:, :-1], weight, bias, softcap), dim=-1)
    ref = torch.log_softmax(plain_logits(ref_hidden[:, :-1], ref_weight, ref_bias, 4.0), dim=-1)
    kl = torch.where(mask[:, 1:], (ref.exp() * (ref - logs)).sum(-1), 0)
    collision = torch.where(mask[:, 1:], torch.logsumexp(2 * logs, -1), 0)
    torch.testing.assert_close(found.kl[:, 1:], kl, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.collision[:, 1:], collision, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(
        found.ref_logp,
        plain(ref_hidden, ref_weight, labels, mask, ref_bias, 4.0),
        rtol=1e-12,
        atol=1e-12,
    )
    assert not found.ref_logp.requires_grad
    alone = token_statistics(hidden, Head(weight, bias, softcap), labels, mask)
    assert alone.kl is alone.collision is alone.ref_logp is None
    torch.testing.assert_close(alone.logp, found.logp)


def test_kl_of_a_policy_to_itself_is_zero_with_zero_gradient():
    hidden, weight, bias, labels, mask = problem()
    hidden.requires_grad_()
    found = token_statistics(
        hidden,
        Head(weight, bias),
        labels,
        mask,
        ref_hidden=hidden,
        ref_head=Head(weight, bias),
        tile_bytes=TINY,
    )
    assert found.kl.abs().max() < 1e-12
    assert torch.autograd.grad(found.kl.sum(), hidden)[0].abs().max() < 1e-12


def test_a_reference_must_be_whole_and_fit():
    hidden, weight, bias, labels, mask = problem()
    with pytest.raises(ValueError, match="given together"):
        token_statistics(hidden, Head(weight, bias), labels, mask, ref_hidden=hidden)
    with pytest.raises(ValueError, match="the vocabulary of the policy"):
        token_statistics(
            hidden, Head(weight, bias), labels, mask, ref_hidden=hidden, ref_head=Head(weight[:9])
        )


def test_the_statistics_take_flat_tokens_too():
    hidden, weight, bias, labels, _ = problem(batch=1)
    found = tiled_statistics(hidden[0], Head(weight, bias), labels[0])
    wanted = torch.log_softmax(plain_logits(hidden[0], weight, bias), -1).gather(
        1, labels[0][:, None]
    )[:, 0]
    torch.testing.assert_close(found.logp, wanted)
    assert found.collision is found.kl is found.ref_logp is None

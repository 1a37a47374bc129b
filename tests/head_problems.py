"""Random hidden states before a head, and their log-probabilities by a plain log-softmax."""

import torch

# Tiles of a few entries, so that small problems have many of them in both directions.
TINY = 8 * 64


def problem(seed=0, batch=3, length=7, d=5, size=150, dtype=torch.float64, bias=True, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn(batch, length, d, generator=generator, dtype=torch.float64)).to(
        dtype
    )
    weight = torch.randn(size, d, generator=generator, dtype=torch.float64).to(dtype)
    offset = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) if bias else None
    labels = torch.randint(0, size, (batch, length), generator=generator)
    mask = torch.rand(batch, length, generator=generator) < 0.6
    mask[:, 0] = False
    return hidden, weight, offset, labels, mask


def plain_logits(hidden, weight, bias=None, softcap=None):
    z = hidden @ weight.T
    z = z if bias is None else z + bias
    return z if softcap is None else softcap * torch.tanh(z / softcap)


def plain(hidden, weight, labels, mask, bias=None, softcap=None):
    """Shift by hand, log-softmax over everything, gather, zero what is not scored."""
    logp = torch.log_softmax(plain_logits(hidden[:, :-1], weight, bias, softcap), dim=-1)
    logp = logp.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return torch.nn.functional.pad(torch.where(mask[:, 1:], logp, 0), (1, 0))

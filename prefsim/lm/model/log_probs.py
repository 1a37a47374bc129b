"""Log-probabilities of tokens and sequences from hidden states.

The (tokens x vocabulary) matrix of logits never exists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prefsim.checks import check_boolean, check_choice, check_integer, check_positive, check_shape
from prefsim.lm.model.fused import faster_path, fused_log_probs, has_liger
from prefsim.lm.model.head import Head
from prefsim.lm.model.tiled import TokenStatistics, tiled_statistics

__all__ = [
    "as_wide",
    "sequence_log_probs",
    "sum_log_probs",
    "token_log_probs",
    "token_statistics",
]


def _check_head(hidden: Tensor, head: Head, name: str) -> None:
    if head.weight.ndim != 2:
        raise ValueError(f"{name} must have shape (V, d), got {tuple(head.weight.shape)}")
    v, d = head.weight.shape
    check_shape(hidden, "hidden states", (None, d))
    if head.bias is not None and tuple(head.bias.shape) != (v,):
        raise ValueError(f"the bias of {name} must have shape ({v},), got {tuple(head.bias.shape)}")
    if head.softcap is not None:
        check_positive(softcap=head.softcap)


def _scored_tokens(
    hidden: Tensor, labels: Tensor, mask: Tensor, size: int, positions: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the flat positions of the scored tokens and their labels, or raise."""
    if positions is not None:
        return positions, labels.reshape(-1).index_select(0, positions).long()
    if (
        tuple(labels.shape) != tuple(hidden.shape[:-1])
        or tuple(mask.shape) != tuple(labels.shape)
        or labels.ndim == 0
    ):
        raise ValueError(
            "labels and mask must have the shape of the hidden states without their last axis, got"
            f" labels {tuple(labels.shape)}, mask {tuple(mask.shape)}, hidden"
            f" {tuple(hidden.shape)}"
        )
    check_boolean(mask, "mask")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must hold integers, got dtype {labels.dtype}")
    positions = mask.reshape(-1).nonzero()[:, 0]
    scored = labels.reshape(-1)[positions].long()
    first = positions % max(labels.shape[-1], 1) == 0
    outside = (scored < 0) | (scored >= size)
    if bool((first | outside).any()):
        bad = int((first | outside).nonzero()[0, 0])
        where = tuple(int(i) for i in torch.unravel_index(positions[bad], labels.shape))
        if bool(first[bad]):
            raise ValueError(
                "mask must be False at the first token, which no hidden state predicts, got True"
                f" at index {where}"
            )
        raise ValueError(
            f"labels must lie in [0, {size}) where the mask is True, got {int(scored[bad])} at"
            f" index {where}"
        )
    return positions, scored


def _spread(values: Tensor | None, positions: Tensor, shape: torch.Size) -> Tensor | None:
    """Return values of the scored tokens at their places, 0 elsewhere."""
    if values is None:
        return None
    return values.new_zeros(shape.numel()).index_copy(0, positions, values).reshape(shape)


def token_log_probs(
    hidden: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    head_bias: Tensor | None = None,
    softcap: float | None = None,
    tile_bytes: int | None = None,
    path: str = "auto",
    positions: Tensor | None = None,
) -> Tensor:
    """Log-probability of every scored token given those before it.

    The token at position ``t`` is predicted by the hidden state at ``t - 1``: ``labels`` and
    ``mask`` are those of the input itself, and the shift is made here. Only scored tokens are
    multiplied with the head, in tiles; the backward computes each tile again. With a frozen head
    the forward keeps the gradient of the hidden states instead, a third less work.

    Parameters
    ----------
    hidden
        Last hidden states ``(..., T, d)``, behind the final normalisation.
    head_weight
        ``(V, d)``.
    labels
        The input tokens ``(..., T)``, integers; anything where the mask is False.
    mask
        Boolean ``(..., T)``: True at the tokens of the completion, False at prompt and padding, on
        whichever side.
    head_bias
        ``(V,)``.
    softcap
        Bound c of the logits ``c · tanh(z / c)``, > 0; ``None`` for none.
    tile_bytes
        Size of one tile of logits; by default 16 MiB on a CPU, 256 MiB on a GPU.
    path
        ``"tiled"`` (torch), ``"liger"`` (liger-kernel's Triton kernel on CUDA), or ``"auto"``: the
        faster one, measured once for each size.
    positions
        Where the mask is True, in the flattened batch, if that is known (:func:`collate` knows it):
        nothing is read off the device then, and nothing checked.

    Returns
    -------
    ``(..., T)`` in nats, 0 where nothing is scored; float32 for inputs of float32 or less (sums in
    float32 throughout), else float64.

    Raises
    ------
    ValueError
        If shapes do not fit, a scored label is no token, the first token of a sequence is scored,
        or ``path`` cannot run here.

    Examples
    --------
    >>> import torch
    >>> hidden, head = torch.zeros(1, 3, 2), torch.zeros(4, 2)
    >>> labels, mask = torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, True]])
    >>> token_log_probs(hidden, head, labels, mask)
    tensor([[ 0.0000, -1.3863, -1.3863]])
    """
    head = Head(head_weight, head_bias, softcap)
    _check_head(hidden, head, "head_weight")
    check_choice(("auto", "tiled", "liger"), path=path)
    if tile_bytes is not None:
        check_integer(low=1, tile_bytes=tile_bytes)
    positions, scored = _scored_tokens(hidden, labels, mask, len(head_weight), positions)
    # The state before a token predicts it.
    states = hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions - 1)
    if path == "auto":
        path = faster_path(states, head)
    elif path == "liger" and not (hidden.is_cuda and has_liger()):
        raise ValueError(
            "path 'liger' needs liger-kernel and a CUDA device, got hidden states on"
            f" {hidden.device}"
        )
    if path == "liger":
        values = fused_log_probs(states, head, scored, tile_bytes=tile_bytes)
    else:
        values = tiled_statistics(states, head, scored, tile_bytes=tile_bytes).logp
    logp = _spread(values, positions, labels.shape)
    assert logp is not None
    return logp


def sequence_log_probs(
    hidden: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    mask: Tensor,
    *,
    head_bias: Tensor | None = None,
    softcap: float | None = None,
    tile_bytes: int | None = None,
    path: str = "auto",
) -> Tensor:
    """Log-probability of every completion given its prompt, ``(...)`` in nats.

    :func:`token_log_probs` summed; 0 if nothing is scored.

    The sum is taken and returned in float64 (where the device has it): a completion of 500 tokens
    is at some -5000 nats, where float32 resolves 5e-4, and losses subtract such sums from each
    other.

    Examples
    --------
    >>> import torch
    >>> hidden, head = torch.zeros(1, 3, 2), torch.zeros(4, 2)
    >>> labels, mask = torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, True]])
    >>> sequence_log_probs(hidden, head, labels, mask)
    tensor([-2.7726], dtype=torch.float64)
    """
    tokens = token_log_probs(
        hidden,
        head_weight,
        labels,
        mask,
        head_bias=head_bias,
        softcap=softcap,
        tile_bytes=tile_bytes,
        path=path,
    )
    return sum_log_probs(tokens)


def as_wide(values: Tensor) -> Tensor:
    """Return numbers in float64, where the device has it.

    Losses subtract sums of thousands of nats.
    """
    return values if values.device.type == "mps" else values.double()


def sum_log_probs(tokens: Tensor) -> Tensor:
    """Return the sums of token log-probabilities along the last axis.

    In float64 where the device has it.
    """
    return tokens.sum(dim=-1, dtype=tokens.dtype if tokens.device.type == "mps" else torch.float64)


def token_statistics(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    mask: Tensor,
    *,
    collision: bool = False,
    ref_hidden: Tensor | None = None,
    ref_head: Head | None = None,
    tile_bytes: int | None = None,
    positions: Tensor | None = None,
) -> TokenStatistics:
    """Return log-probabilities with sums over the whole next-token distribution.

    Some losses need these sums; they are found in the same tiles.

    Parameters
    ----------
    hidden, labels, mask, tile_bytes, positions
        As in :func:`token_log_probs`.
    head
        Weight, bias and soft cap of the policy's last layer.
    collision
        Whether to return ``log Σ_v π(v)²``.
    ref_hidden, ref_head
        The reference's hidden states ``(..., T, d_ref)`` and last layer over the same vocabulary,
        constants of differentiation; with them ``KL(π_ref‖π)`` and the reference's
        log-probabilities are returned.

    Raises
    ------
    ValueError
        As :func:`token_log_probs`, or if one of ``ref_hidden`` and ``ref_head`` is missing or their
        sizes do not fit.
    """
    _check_head(hidden, head, "head")
    positions, scored = _scored_tokens(hidden, labels, mask, len(head.weight), positions)
    if (ref_hidden is None) != (ref_head is None):
        raise ValueError("ref_hidden and ref_head must be given together")
    ref_states = None
    if ref_hidden is not None and ref_head is not None:
        _check_head(ref_hidden, ref_head, "ref_head")
        if ref_hidden.shape[:-1] != hidden.shape[:-1] or len(ref_head.weight) != len(head.weight):
            raise ValueError(
                "the reference must have the tokens and the vocabulary of the policy, got"
                f" {tuple(ref_hidden.shape[:-1])}, {len(ref_head.weight)} against"
                f" {tuple(hidden.shape[:-1])}, {len(head.weight)}"
            )
        ref_states = ref_hidden.reshape(-1, ref_hidden.shape[-1]).index_select(0, positions - 1)
    states = hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions - 1)
    statistics = tiled_statistics(
        states,
        head,
        scored,
        collision=collision,
        ref_hidden=ref_states,
        reference=ref_head,
        tile_bytes=tile_bytes,
    )
    logp = _spread(statistics.logp, positions, labels.shape)
    assert logp is not None
    return TokenStatistics(
        logp=logp,
        collision=_spread(statistics.collision, positions, labels.shape),
        kl=_spread(statistics.kl, positions, labels.shape),
        ref_logp=_spread(statistics.ref_logp, positions, labels.shape),
    )

"""How much memory a training will take, from sizes alone: nothing is loaded."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim.lm.training.options import BF16_WEIGHTS

__all__ = ["MemoryEstimate", "activation_bytes", "cache_numbers", "estimate_memory"]


class MemoryEstimate(NamedTuple):
    """Bytes of each part of a training, on one device that holds all of it.

    Attributes
    ----------
    weights
        Parameters, those that are trained in float32 where products are in bfloat16.
    casts
        Copies of the trained parameters in bfloat16 for products, where there are such.
    gradients
        As large as the trained parameters are held.
    optimizer
        Two numbers for each trained parameter with AdamW, as wide as the parameter and at least
        float32 (in bfloat16 with ``"adamw_bf16"``, in eight bits with ``"adamw_8bit"``); none with
        SGD.
    reference
        Parameters of a second model in memory.
    activations
        What the backward pass of the largest micro-batch needs, as :func:`activation_bytes`
        counts it.
    offloaded
        What of the optimiser lies in main memory instead, beside the device.
    """

    weights: int
    casts: int
    gradients: int
    optimizer: int
    reference: int
    activations: int
    offloaded: int = 0

    @property
    def total(self) -> int:
        """All parts on the device together."""
        return sum(self) - self.offloaded


def activation_bytes(
    config: Any, *, precision: str = "float32", itemsize: int = 4, checkpointing: bool = False
) -> int:
    r"""Return how many bytes a decoder keeps for its backward pass, for each token.

    With ``L`` layers of width ``d``, keys and values of width ``k`` each and an inner width ``f``
    (times the experts that are active) it keeps

    .. math:: L\,(8d + 2k + 4f)

    numbers. Two norms keep their input, the input normalised and (with the products behind them)
    their output, 6d; attention keeps queries d, keys and values 2k, and its output d; a gated
    feed-forward keeps gate, activation, other branch and product, 4f. Attention matrices are never
    kept (fused attention). With gradient checkpointing only the input of each layer, and all of one
    layer: ``L d + 8d + 2k + 4f``. Other architectures than those of Llama's kind keep more or less,
    which an estimate leaves out; so does it the output layer, which works in tiles.

    In bfloat16 norms are taken in float32. Under autocast their input, which is the sum over the
    layers before, and the input normalised take four bytes, and the output is rounded for each of
    the five products behind it: 26d bytes for the 6d numbers. With ``"bf16_weights"`` it is 16d,
    for the input alone is widened.

    Parameters
    ----------
    config
        Of transformers.
    precision
        As in :class:`~prefsim.lm.TrainingOptions`.
    itemsize
        Bytes of a number where the precision is ``"float32"``.
    checkpointing
        Whether activations are computed again.
    """
    text = config.get_text_config()
    width, layers, heads = text.hidden_size, text.num_hidden_layers, text.num_attention_heads
    head, keys = _widths(text)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * width
    inner = getattr(text, "moe_intermediate_size", None) or inner
    inner *= getattr(text, "num_experts_per_tok", None) or 1
    # Of a product, of the norms for each of d, and of the sum over layers.
    number, norms, stream = {
        "bf16": (2, 26, 4),
        BF16_WEIGHTS: (2, 16, 2),
    }.get(precision, (itemsize, 6 * itemsize, itemsize))
    layer = norms * width + number * (2 * heads * head + 2 * keys + 4 * inner)
    return layers * width * stream + layer if checkpointing else layers * layer


def cache_numbers(config: Any) -> int:
    """Return how many numbers a decoder keeps of each token while it generates: 2k a layer."""
    text = config.get_text_config()
    return 2 * int(text.num_hidden_layers) * _widths(text)[1]


def _widths(text: Any) -> tuple[int, int]:
    """Return the width of one head, and that of all keys together."""
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(head), int(head * (getattr(text, "num_key_value_heads", None) or heads))


def estimate_memory(
    policy: Any,
    *,
    precision: str,
    optimizer: str,
    tokens: int,
    checkpointing: bool = False,
    reference: Any = None,
    offload: bool = False,
) -> MemoryEstimate:
    """Return the bytes that training takes.

    Parameters
    ----------
    policy
        The :class:`~prefsim.lm.CausalLM`; its parameters need no memory (device ``"meta"``).
    precision
        ``"float32"``, ``"bf16"`` or ``"bf16_weights"``, as in
        :class:`~prefsim.lm.TrainingOptions`.
    optimizer
        ``"adamw"``, ``"adamw_bf16"``, ``"adamw_8bit"`` or ``"sgd"``.
    tokens
        Of the largest micro-batch, padding included: sequences times the length of the longest.
    checkpointing
        Whether activations are computed again.
    reference
        A second model in memory, or None.
    offload
        Whether what the optimiser remembers lies in main memory.
    """
    from prefsim.lm.training.eight_bit import moment_bytes

    parameters = list(policy.module.parameters())
    mixed = precision == "bf16"
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    moments = {
        "adamw": sum(2 * p.numel() * max(p.itemsize, 4) for p in parameters if p.requires_grad),
        "adamw_bf16": 2 * 2 * trained,
        "adamw_8bit": sum(
            2 * moment_bytes(p.shape, max(p.itemsize, 4)) for p in parameters if p.requires_grad
        ),
        "sgd": 0,
    }
    held = sum(
        p.numel() * (max(p.itemsize, 4) if mixed and p.requires_grad else p.itemsize)
        for p in parameters
    )
    updated = sum(
        p.numel() * (max(p.itemsize, 4) if mixed else p.itemsize)
        for p in parameters
        if p.requires_grad
    )
    for_a_token = activation_bytes(
        policy.plain.config,
        precision=precision,
        itemsize=max(p.itemsize for p in parameters),
        checkpointing=checkpointing,
    )
    return MemoryEstimate(
        weights=held,
        casts=2 * trained if mixed else 0,
        gradients=updated,
        optimizer=0 if offload else moments[optimizer],
        offloaded=moments[optimizer] if offload else 0,
        reference=(
            0
            if reference is None
            else sum(p.numel() * p.itemsize for p in reference.log_prob_model.parameters())
        ),
        activations=tokens * for_a_token,
    )

"""The auxiliary loss of a mixture of experts, which keeps its experts in even use."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor

__all__ = ["check_router", "has_router_loss", "router_loss", "without_router_loss"]

# What transformers calls it, in the module of every model that has one, and what it takes.
_FUNCTION = "load_balancing_loss_func"
_TAKES = ("gate_logits", "num_experts", "top_k", "attention_mask")


def has_router_loss(plain: Any) -> bool:
    """Return whether a model was configured to be trained with its auxiliary loss."""
    config = plain.config.get_text_config()
    return bool(getattr(config, "output_router_logits", False)) and _coefficient(plain) != 0


def check_router(plain: Any) -> None:
    """Raise if a model was configured to be trained with an auxiliary loss that is not known."""
    if not has_router_loss(plain):
        return
    function = getattr(sys.modules[type(plain).__module__], _FUNCTION, None)
    known = function is not None and tuple(inspect.signature(function).parameters) == _TAKES
    if not known or not all(
        hasattr(plain, name) for name in ("num_experts", "num_experts_per_tok")
    ):
        raise ValueError(
            f"the auxiliary loss of the router of {type(plain).__name__} is not known: set"
            " output_router_logits of its configuration to False to train without"
        )


def router_loss(plain: Any, router_logits: Any, attention_mask: Tensor) -> Tensor:
    """Return the model's own auxiliary loss times its coefficient, of all tokens of a batch."""
    function = getattr(sys.modules[type(plain).__module__], _FUNCTION)
    loss: Tensor = function(
        router_logits, plain.num_experts, plain.num_experts_per_tok, attention_mask
    )
    return _coefficient(plain) * loss


@contextlib.contextmanager
def without_router_loss(plain: Any) -> Iterator[None]:
    """Leave the router's logits out: generation has no use for them, and fails on them."""
    config = plain.config.get_text_config()
    asked = getattr(config, "output_router_logits", None)
    if asked:
        config.output_router_logits = False
    try:
        yield
    finally:
        if asked:
            config.output_router_logits = asked


def _coefficient(plain: Any) -> float:
    config = plain.config.get_text_config()
    own = getattr(plain, "router_aux_loss_coef", None)
    return float(getattr(config, "router_aux_loss_coef", 0.0) if own is None else own)

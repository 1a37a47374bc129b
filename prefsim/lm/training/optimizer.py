"""The optimiser of a training, by name or by the caller's own function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from prefsim.lm.training.narrow_adamw import NarrowAdamW
from prefsim.lm.training.options import BF16_WEIGHTS, TrainingOptions

__all__ = ["can_fuse", "make_optimizer", "placement"]

# What the moments are kept in.
_NARROW = {"adamw_bf16": torch.bfloat16, "adamw_8bit": torch.uint8}


def make_optimizer(
    options: TrainingOptions,
    parameters: Iterable[torch.nn.Parameter],
    *,
    fused: bool = False,
    offload: bool = False,
) -> Any:
    """Return the optimiser of the parameters that are trained; decay is of matrices.

    ``fused`` makes a step of AdamW one kernel for all parameters, the same numbers to rounding, and
    ``offload`` keeps its state in main memory.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not isinstance(options.optimizer, str):
        return options.optimizer(groups)
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate)
    if options.optimizer in _NARROW or options.precision == BF16_WEIGHTS or offload:
        moments = _NARROW.get(options.optimizer, torch.float32)
        return NarrowAdamW(
            groups, lr=options.learning_rate, moments=moments, seed=options.seed, offload=offload
        )
    return torch.optim.AdamW(groups, lr=options.learning_rate, fused=fused)


def can_fuse(accelerator: Any) -> bool:
    """Return whether a step of AdamW is to be one kernel where an accelerator has the parameters.

    On a CPU that takes a seventh of the time; sharded parameters are fused on GPUs alone, where
    FSDP does not keep them in main memory.
    """
    kind, plugin = accelerator.device.type, getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.cpu_offload:
        return False
    return kind == "cuda" or (kind == "cpu" and accelerator.num_processes == 1)


def placement(options: TrainingOptions, accelerator: Any) -> dict[str, Any]:
    """Return how :func:`make_optimizer` is to do its steps where an accelerator does a training.

    On a CPU there is nowhere else to keep a state.
    """
    offload = options.offload_optimizer and accelerator.device.type != "cpu"
    return {"fused": can_fuse(accelerator), "offload": offload}

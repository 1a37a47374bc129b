"""What a training changes in its process, and puts back: accelerate, random states, modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from prefsim.lm.model.compiled import compiled_layers
from prefsim.lm.training.options import TrainingOptions

__all__ = ["accelerator_for", "own_random_states", "training_mode"]


@contextlib.contextmanager
def accelerator_for(precision: str) -> Iterator[Any]:
    """Give an accelerator for this process (of those that were launched together).

    Accelerate keeps its settings, the precision among them, for the life of the process; here they
    are put back as they were, whatever settings another has left.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    cpu, wanted = not torch.accelerator.is_available(), "bf16" if precision == "bf16" else "no"
    kind, settings = PartialState(cpu=cpu).distributed_type, AcceleratorState._shared_state
    before = dict(settings)
    # Sharding is set up with the first settings of a process alone.
    if kind.value != "FSDP" and before.get("_mixed_precision") != wanted:
        settings.clear()
    try:
        yield Accelerator(cpu=cpu, mixed_precision=wanted)
    finally:
        settings.clear()
        settings.update(before)
        PartialState._shared_state["distributed_type"] = kind


@contextlib.contextmanager
def own_random_states(seed: int) -> Iterator[None]:
    """Seed torch inside and leave the caller's random states alone."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def training_mode(module: Any, options: TrainingOptions, others: Iterable[Any]) -> Iterator[None]:
    """Put the model into training mode as the options say, and back.

    ``others`` are models that are evaluated meanwhile, and compiled along.
    """
    plain, gradient_checkpointing = module.plain, options.gradient_checkpointing
    module.train()
    # Transformers 5 has named it anew.
    name = "activation" if hasattr(plain, "activation_checkpointing_enable") else "gradient"
    if gradient_checkpointing:
        # Only without reentrance does a frozen embedding let gradients reach the adapters behind.
        how = {f"{name}_checkpointing_kwargs": {"use_reentrant": False}}
        getattr(plain, f"{name}_checkpointing_enable")(**how)
    compiled = [module, *others] if options.compile else []
    try:
        with compiled_layers(compiled):
            yield
    finally:
        if gradient_checkpointing:
            getattr(plain, f"{name}_checkpointing_disable")()
        module.eval()

"""The layers of a model compiled while it is trained, by ``torch.compile``.

Layer by layer: one of them is compiled, and all that are built alike run its code. What is around
them, such as masks and the head, is left alone.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["as_written", "check_compiles", "compiled_layers", "layers_of"]

VERSIONS = 64
"""Of the code of a layer, behind which torch would leave it uncompiled."""


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model of transformers: what it would compute again in a backward."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]


def check_compiles(model: nn.Module) -> None:
    """Raise unless the layers of a model can be compiled where it will be trained.

    A line is compiled to see that, since what is missing (a C++ compiler, the headers of Python, on
    a GPU Triton) shows nowhere else.

    Raises
    ------
    ValueError
        That says what is in the way.
    """
    if not layers_of(model):
        raise ValueError(
            "compile needs a model of layers that transformers knows as such"
            f" (GradientCheckpointingLayer), got none in {type(model).__name__}"
        )
    # Another line each time: one that was compiled before is read from the disk.
    factor = 1 + random.random()
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        torch.compile(lambda x: (factor * x).exp())(torch.ones(2, device=device))
    except Exception as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"compile needs what torch.compile builds code with for {device}, and that fails:"
            f" {type(error).__name__}: {said[0] if said else ''}"
        ) from error


def _call(layer: nn.Module) -> Any:
    """Return what torch calls instead of a layer, or None."""
    return getattr(layer, "_compiled_call_impl", None)


@contextlib.contextmanager
def compiled_layers(models: Iterable[nn.Module]) -> Iterator[None]:
    """Run the layers of models by compiled code inside, for rows and lengths of any number.

    No name of a parameter changes, and layers are afterwards as they were.
    """
    models = list(models)
    if not models:
        yield
        return
    from torch._dynamo import config
    from torch.fx.experimental import _config

    shapes: Any = _config

    layers = list(dict.fromkeys(layer for model in models for layer in layers_of(model)))
    before = [_call(layer) for layer in layers]
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        # As many rows as a head is wide are no reason to compile for that number alone. All layers
        # of transformers are called by one function, so that its versions are many: with gradients
        # and without, in training or not, of one row or more, of each model.
        with shapes.patch(use_duck_shape=False), config.patch(recompile_limit=VERSIONS):
            yield
    finally:
        for layer, call in zip(layers, before, strict=True):
            layer._compiled_call_impl = call


def as_written(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Make a context in which a model runs as it is written, whether it is compiled or not.

    For what would be compiled for each layer by itself (a cache that grows by a token), and what
    compiled code refuses (a graph that is gone through twice).
    """
    if any(_call(part) for part in model.modules()):
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()

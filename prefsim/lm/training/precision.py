"""Which copies of a model a training makes, and how precise their parameters are."""

from __future__ import annotations

import copy
from typing import Any

import torch

from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.training.stored_model import Trainable

__all__ = ["as_precise", "copy_of_trained", "copy_to_move", "widen"]


def copy_of_trained(policy: Trainable) -> Trainable:
    """Return a policy with trained parameters of its own that shares the frozen ones."""
    model = policy.module
    shared: dict[int, Any] = {id(p): p for p in model.parameters() if not p.requires_grad}
    shared[id(policy.tokenizer)] = policy.tokenizer
    copied: Any = copy.deepcopy(model, shared)
    return policy.with_module(copied)


def widen(module: torch.nn.Module) -> None:
    """Hold trained parameters in float32: in bfloat16 a small update is rounded away."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def as_precise(
    reference: LogProbModel, policy: LogProbModel, *, is_wide: bool = True
) -> LogProbModel:
    """Return the reference with embeddings and vectors as precise as the policy's.

    It shares the matrices of the one given. ``is_wide`` says whether what is trained has been
    widened already.

    Autocast rounds the matrices of both alike, but a residual stream in bfloat16 is another
    function than one in float32: without this a policy would differ from itself at the first step,
    by a quarter of a nat over sixty tokens.
    """
    wide = {
        name
        for name, parameter in policy.plain.named_parameters()
        if parameter.dtype == torch.float32 or (parameter.requires_grad and not is_wide)
    }
    halves = (torch.bfloat16, torch.float16)
    if not any(
        name in wide and parameter.dtype in halves
        for name, parameter in reference.plain.named_parameters()
    ):
        return reference
    shared: dict[int, Any] = {id(p): p for p in reference.parameters() if p.ndim > 1}
    copied = copy.deepcopy(reference, shared)
    for name, parameter in copied.plain.named_parameters():
        if name in wide and parameter.ndim <= 1:
            parameter.data = parameter.data.float()
    # Frozen embeddings are as narrow in the policy.
    words = policy.plain.get_input_embeddings().weight
    if any(p is words and name in wide for name, p in policy.plain.named_parameters()):
        copied.plain.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: output.float()
        )
    return copied


def copy_to_move(reference: LogProbModel, policy: LogProbModel) -> LogProbModel:
    """Return a copy of the reference, each parameter as precise as the policy's of the same name.

    A small step towards the policy would be rounded away in bfloat16.
    """
    copied = copy.deepcopy(reference)
    dtypes = {name: parameter.dtype for name, parameter in policy.named_parameters()}
    for name, parameter in copied.named_parameters():
        parameter.data = parameter.data.to(dtypes[name])
        parameter.requires_grad_(False)
    return copied

"""A model as a training leaves it on disk, and its parameters read back."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from prefsim.lm.model.log_prob_model import is_adapted
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.sequence_classifier import has_adapters
from prefsim.lm.model.token_masks import put_masks, save_masks

__all__ = ["Trainable", "load_weights", "save_model", "save_weights"]

#: What can be trained.
Trainable = CausalLM | ResponseScorer

# The trained parameters of a model whose adapters are not merged yet.
TRAINED = "trained.safetensors"


def save_model(policy: Trainable, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write the result: model or adapters, and tokenizer.

    ``state`` replaces the model's own tensors where those are sharded.
    """
    if isinstance(policy, ResponseScorer):
        policy.write(folder, state)
        return
    policy.model.save_pretrained(folder, **({} if state is None else {"state_dict": state}))
    save_masks(policy.log_prob_model.masks, folder)
    if policy.tokenizer is not None:
        policy.tokenizer.save_pretrained(folder)


def save_weights(policy: Trainable, folder: Path) -> None:
    """Write what :func:`load_weights` reads, for a checkpoint; as the result where that is one."""
    if not (isinstance(policy, ResponseScorer) and has_adapters(policy.classifier)):
        save_model(policy, folder)
        return
    from safetensors.torch import save_file

    # The result has its adapters merged, and training would go on without.
    trained = {
        name: value.detach().cpu().contiguous()
        for name, value in policy.named_parameters()
        if value.requires_grad
    }
    folder.mkdir()
    save_file(trained, folder / TRAINED)


def load_weights(policy: Trainable, folder: Path) -> None:
    """Put the weights of a saved model or of saved adapters into the policy's, in place.

    It must not be wrapped or sharded yet. One without memory stays so.
    """
    if any(parameter.is_meta for parameter in policy.module.parameters()):
        return
    if isinstance(policy, ResponseScorer):
        _load_scorer(policy, folder)
        return
    put_masks(policy.log_prob_model.masks, folder)
    if is_adapted(policy.model):
        import peft

        peft.set_peft_model_state_dict(
            policy.model, peft.load_peft_weights(str(folder), device="cpu")
        )
        return
    plain = policy.log_prob_model.plain
    stored = type(plain).from_pretrained(folder, dtype=_widest(plain))
    plain.load_state_dict(stored.state_dict())


def _load_scorer(policy: ResponseScorer, folder: Path) -> None:
    if (folder / TRAINED).is_file():
        from safetensors.torch import load_file

        for name, value in load_file(folder / TRAINED).items():
            policy.get_parameter(name).data.copy_(value)
        return
    dtype = str(_widest(policy.plain)).removeprefix("torch.")
    policy.load_state_dict(type(policy).load(folder, dtype=dtype).state_dict())


def _widest(model: torch.nn.Module) -> torch.dtype:
    """Return what holds every parameter of a model unrounded.

    Frozen ones may be narrower than those that are trained: what the first is says nothing.
    """
    dtypes = {parameter.dtype for parameter in model.parameters()}
    return functools.reduce(torch.promote_types, dtypes)

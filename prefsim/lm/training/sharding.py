"""What differs where accelerate shards parameters over processes (FSDP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from prefsim.lm.model.loading import one_process_loads
from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.sequence_classifier import has_adapters
from prefsim.lm.training.setup import TrainingSetup

__all__ = ["check_sharding", "placed", "prepared"]


def check_sharding(
    setup: TrainingSetup, accelerator: Any, model: LogProbModel | ResponseScorer
) -> None:
    """Raise if a training asks for what needs whole parameters, and these are to be sharded.

    Otherwise the model that it trains is told where to cut.
    """
    if accelerator.distributed_type.value != "FSDP":
        return
    if not accelerator.is_fsdp2:
        raise ValueError(
            "FSDP of version 2 is needed: set fsdp_version: 2 in accelerate's configuration"
        )
    options = setup.options
    if options.offload_optimizer:
        raise ValueError(
            "FSDP keeps parameters and optimiser in main memory by its own setting: leave"
            " offload_optimizer out and set fsdp_offload_params: true in accelerate's configuration"
        )
    if setup.needs.kl or options.measured.need_whole_parameters:
        raise ValueError(
            "KL at every token and diagnostics by gradients or samples need whole parameters,"
            " which FSDP shards"
        )
    if options.penalty is not None:
        raise ValueError("completions cannot be drawn from parameters that FSDP shards")
    if options.reference_update is not None:
        raise ValueError(
            "a reference that follows the policy needs whole parameters, which FSDP shards"
        )
    if isinstance(model, ResponseScorer) and has_adapters(model.classifier):
        raise ValueError(
            "adapters of a reward model are merged when it is saved, which needs whole parameters,"
            " and FSDP shards them"
        )
    if one_process_loads():
        _check_alike(model, accelerator)
    _make_ready(model)


def prepared(accelerator: Any, model: Any, make: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return a model and its optimiser as accelerate wraps, shards and places them.

    Parameters
    ----------
    accelerator, model
        The model as :func:`check_sharding` has left it.
    make
        What makes an optimiser of parameters.
    """
    wrapped, optimizer = accelerator.prepare(model, make(model.parameters()))
    if accelerator.is_fsdp2:
        _share_buffers(model)
        # By their addresses, which accelerate tells parameters by, those without memory are one.
        optimizer = accelerator.prepare_optimizer(make(model.parameters()))
    return wrapped, optimizer


def placed(model: LogProbModel, accelerator: Any) -> LogProbModel:
    """Return a reference's model where, and sharded as, the policy's is."""
    if accelerator.is_fsdp2:
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model

        _make_ready(model)
        sharded: LogProbModel = fsdp2_prepare_model(accelerator, model)
        _share_buffers(sharded)
        return sharded
    return model.to(accelerator.device)


def _make_ready(model: LogProbModel | ResponseScorer) -> None:
    """Tell accelerate, which asks the module itself, what it shards and what it must keep."""
    vars(model)["_no_split_modules"] = list(model.plain._no_split_modules or ())
    # Without memory, two names of one parameter become two parameters.
    vars(model)["tie_weights"] = model.plain.tie_weights
    for part in model.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_meta:
                part.register_buffer(name, torch.empty_like(buffer, device="cpu"), persistent=False)


def _share_buffers(model: torch.nn.Module) -> None:
    """Give every process the first one's tensors that are no parameters, such as frequencies."""
    if one_process_loads():
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _check_alike(model: LogProbModel | ResponseScorer, accelerator: Any) -> None:
    """Raise unless every process has the first one's parameters, with memory or without."""
    from accelerate.utils import gather_object

    named = dict(model.named_parameters(remove_duplicate=False))
    if stored := sorted(model.state_dict().keys() - named.keys()):
        raise ValueError(
            f"{stored[0]!r} is stored with the weights and is no parameter, which"
            " fsdp_cpu_ram_efficient_loading cannot share out: set it to false in accelerate's"
            " configuration"
        )
    own = {f"{name} of {tuple(p.shape)} in {p.dtype}" for name, p in named.items()}
    first = gather_object([own])[0]
    if different := sorted(own ^ first):
        raise ValueError(
            f"process {accelerator.process_index} must have the parameters of the first, got a"
            f" difference in {different[0]}; say the dtype instead of 'auto'"
        )

"""What differs where accelerate shards parameters over processes (FSDP)."""

from __future__ import annotations

from typing import Any

from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.response_scorer import ResponseScorer
from prefsim.lm.model.sequence_classifier import has_adapters
from prefsim.lm.training.setup import TrainingSetup

__all__ = ["check_sharding", "placed"]


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
    _say_where_to_cut(model)


def placed(model: LogProbModel, accelerator: Any) -> LogProbModel:
    """Return a reference's model where, and sharded as, the policy's is."""
    if accelerator.is_fsdp2:
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model

        _say_where_to_cut(model)
        sharded: LogProbModel = fsdp2_prepare_model(accelerator, model)
        return sharded
    return model.to(accelerator.device)


def _say_where_to_cut(model: LogProbModel | ResponseScorer) -> None:
    """Name the layers to shard: accelerate asks the module itself."""
    vars(model)["_no_split_modules"] = list(model.plain._no_split_modules or ())

"""What must be the same for a resumed training to end where it would have ended."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.log_prob_model import is_adapted
from prefsim.lm.model.reference_logps import model_hash, rows_hash
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.reference import Reference
from prefsim.lm.training.stored_model import Trainable
from prefsim.lm.training.token_rows import TokenRows
from prefsim.losses.mixtures import Mixture
from prefsim.losses.running import RunningLoss

__all__ = ["check_fingerprint", "fingerprint_of", "loss_name"]

# The options that decide where a training ends. How a step is split, what is reported and where
# things are written do not.
_DECISIVE_OPTIONS = (
    "batch_size",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "max_grad_norm",
    "order",
    "seed",
    "reference_weight",
    "reference_every",
)


def fingerprint_of(
    policy: Trainable,
    loss: Callable[..., Any],
    data: TextData,
    rows: TokenRows,
    reference: Reference,
    options: TrainingOptions,
    *,
    held_out_rows: TokenRows | None,
    precision: str,
    steps: int,
) -> dict[str, Any]:
    """Return what decides where a training ends, before its first step, as JSON takes it.

    Of a model without memory, of which only the sizes are known, nothing is said of its weights.
    """
    optimizer = options.optimizer
    known = not any(p.is_meta for p in policy.module.parameters())
    # Behind what a reader can make more of.
    weights = (
        {"model": model_hash(policy), "reference": reference.identity(policy)} if known else {}
    )
    masks = getattr(policy.module, "masks", None)
    if masks is not None:
        said = [masks.kind, masks.settings, *(p.tolist() for p in masks.parameters() if known)]
        weights["masks"] = hashlib.sha256(repr(said).encode()).hexdigest()
    settings = {name: getattr(options, name) for name in _DECISIVE_OPTIONS} | {
        "optimizer": optimizer if isinstance(optimizer, str) else loss_name(optimizer),
        "precision": precision,
        "penalty": repr(options.penalty),
        "evaluation": _evaluation(options, held_out_rows),
        "steps": steps,
        "loss": loss_name(loss),
        "data": _hash_of(data, rows),
        "dtype": _dtypes(policy),
        "adapters": _adapters(policy),
    }
    return settings | weights


def check_fingerprint(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first difference.

    Parameters
    ----------
    before
        Of the training that was interrupted.
    now
        Of the one that is to go on.
    """
    for name, value in now.items():
        if name not in before:
            raise ValueError(
                f"the checkpoint does not say its {name}: it was written by another version"
            )
        if name == "steps" and _only_goes_on(before, now):
            continue
        if before[name] != value:
            more = (
                "; more may be asked for with schedule='constant' and warmup=0"
                if name == "steps"
                else ""
            )
            raise ValueError(
                f"{name} must be what it was before the interruption, {before[name]!r}, got"
                f" {value!r}{more}"
            )


def _only_goes_on(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether more steps leave those that were done as they would have been."""
    is_more = now["steps"] >= before["steps"]
    return is_more and now["schedule"] == "constant" and now["warmup"] == 0


def _hash_of(data: TextData, rows: TokenRows) -> str:
    digest = hashlib.sha256(rows_hash(rows.tokens).encode())
    for name in sorted(vars(data)):
        value = getattr(data, name)
        if isinstance(value, np.ndarray):
            digest.update(name.encode() + value.tobytes())
    return digest.hexdigest()


def _evaluation(options: TrainingOptions, rows: TokenRows | None) -> str:
    """Return what decides when a training is evaluated, and when that ends it."""
    evaluation = options.evaluation
    if evaluation is None or rows is None:
        return "none"
    return (
        f"every {evaluation.every} steps, best by {evaluation.best_by}, patience"
        f" {evaluation.patience}, on {_hash_of(evaluation.data, rows)}"
    )


def _dtypes(policy: Trainable) -> str:
    found = {str(p.dtype).removeprefix("torch.") for p in policy.module.parameters()}
    return ", ".join(sorted(found))


def _adapters(policy: Trainable) -> str:
    """Return what a reader would want to know of the adapters; the hash of the model knows all."""
    if not (is_adapted(policy.model) or getattr(policy, "peft_config", None)):
        return "none"
    settings = {}
    for name, config in policy.model.peft_config.items():
        settings[name] = {
            key: getattr(config, key) for key in ("r", "lora_alpha") if hasattr(config, key)
        }
        settings[name]["type"] = str(getattr(config.peft_type, "value", config.peft_type))
    return json.dumps(settings, sort_keys=True, default=str)


def loss_name(function: Callable[..., Any]) -> str:
    """Return which function it is, with the options bound to it: the same in every process."""
    if isinstance(function, functools.partial):
        options = [
            f"{name}={loss_name(value) if callable(value) else repr(value)}"
            for name, value in sorted(function.keywords.items())
        ]
        return f"{loss_name(function.func)}({', '.join([*map(repr, function.args), *options])})"
    if isinstance(function, Mixture):
        return " + ".join(f"{weight!r}*{loss_name(loss)}" for weight, loss in function.terms)
    if isinstance(function, RunningLoss):
        return f"{loss_name(function.loss)} from {function.state!r}"
    module = getattr(function, "__module__", "")
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}{_as_written(function)}"


def _as_written(function: Callable[..., Any]) -> str:
    """Return a digest of a function of the caller's, who may change it; a release does not."""
    if getattr(function, "__module__", "").startswith("prefsim."):
        return ""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        # Typed in, or an object: its name is all there is.
        return ""
    return f" ({hashlib.sha256(source.encode()).hexdigest()[:16]})"

"""From settings to a training.

The model, its tokenizer, the reference and the data, all checked before anything is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefsim.checks import check_choice, check_integer
from prefsim.losses.registry import container_of

if TYPE_CHECKING:
    import numpy as np

    from prefsim.lm.command.read import TextSource
    from prefsim.lm.model.policy import CausalLM
    from prefsim.lm.model.reference import ReferenceLogps
    from prefsim.lm.training.engine import Engine
    from prefsim.lm.training.options import TrainingOptions

__all__ = ["Run", "computed", "engine_of", "prepared", "required"]

START, NONE = "start", "none"


class Run(NamedTuple):
    """Everything that training needs, checked."""

    loss: Callable[..., Any]
    source: TextSource
    policy: CausalLM
    reference: Any
    options: TrainingOptions


def required(found: Mapping[str, Any], *names: str) -> None:
    """Raise unless every named option is there."""
    for name in names:
        if found[name] is None:
            raise ValueError(
                f"--{name} must be given, on the command line or in the file of --config"
            )


def _options(found: Mapping[str, Any]) -> TrainingOptions:
    from prefsim.lm.training.options import TrainingOptions

    same = {
        field.name: found[field.name] for field in fields(TrainingOptions) if field.name in found
    }
    changed: dict[str, Any] = {
        "max_grad_norm": found["max_grad_norm"] or None,
        "diagnostics": tuple(found["diagnostics"] or ()),
        "save_every": None if found["out"] is None else found["save_every"] or None,
        "in_place": True,
    }
    return TrainingOptions(**(same | changed))


def prepared(found: Mapping[str, Any], *, load: bool) -> Run:
    """Read and check everything; ``load`` is False for models without memory, of the same sizes."""
    from prefsim.lm.command.read import read_text_data
    from prefsim.lm.command.settings import configured_loss

    required(found, "loss", "model", "data")
    check_integer(low=0, lora_rank=found["lora_rank"], save_every=found["save_every"])
    check_choice(("auto", "float32", "bfloat16", "float16", "float64"), dtype=found["dtype"])
    if found["max_tokens"] is not None:
        check_integer(low=1, max_tokens=found["max_tokens"])
    # In this order, so that a wrong name is told before a model is loaded.
    loss = configured_loss(found["loss"], found["settings"])
    options = _options(found)
    out = found["out"]
    if (
        out is not None
        and not found["resume"]
        and any((out / name).exists() for name in ("model", "checkpoints"))
    ):
        raise ValueError(f"--out {out} holds a training; give --resume or another folder")
    source = read_text_data(
        found["data"], split=found["split"], skip_unshared=found["skip_unshared"]
    )
    source.data.check(container_of(loss))
    policy = _policy(found, load=load)
    if found["max_tokens"] is not None:
        source = _short(source, policy, loss, found["max_tokens"])
    return Run(loss, source, policy, _reference(found, loss, policy, load=load), options)


def _short(
    source: TextSource, policy: CausalLM, loss: Callable[..., Any], limit: int
) -> TextSource:
    """Return the source without the rows that have a sequence of more tokens."""
    import numpy as np

    from prefsim.lm.training.objective import rows_of

    try:
        lengths = rows_of(policy, source.data, container_of(loss)).lengths
    except ValueError as error:
        raise _named(error, source) from error
    return source.without(
        {int(row): f"{lengths[row]} tokens" for row in np.flatnonzero(lengths > limit)}
    )


def _policy(found: Mapping[str, Any], *, load: bool) -> CausalLM:
    from prefsim.lm.model.policy import CausalLM

    name, dtype, adapter = found["model"], found["dtype"], _adapter(found)
    path = Path(name)
    fresh = path.is_file()
    tokenizer = None if found["tokenizer"] is None else _tokenizer(found["tokenizer"])
    if not load or fresh:
        config = _fresh_config(path, tokenizer) if fresh else _config(name)
        if tokenizer is None and not fresh:
            tokenizer = _tokenizer(name, needed=False)
        if load:
            kept = "float32" if dtype == "auto" else dtype
            return CausalLM.from_config(
                config, tokenizer, seed=found["seed"], dtype=kept, adapter=adapter
            )
        return _without_memory(
            config, tokenizer, "float32" if fresh and dtype == "auto" else dtype, adapter
        )
    policy = CausalLM.load(name, dtype=dtype, adapter=adapter)
    if tokenizer is not None:
        policy = replace(policy, tokenizer=tokenizer)
    return policy


def _adapter(found: Mapping[str, Any]) -> Any:
    rank, alpha = found["lora_rank"], found["lora_alpha"]
    if rank == 0:
        if alpha is not None:
            raise ValueError(f"--lora-alpha needs --lora-rank, got {alpha} without")
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _tokenizer(name: str, *, needed: bool = True) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        if needed:
            raise ValueError(
                f"tokenizer {name!r} is neither a folder with a tokenizer nor a reachable hub id"
            ) from error
        return None


def _config(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"model {name!r} is neither a folder with a causal language model nor a reachable"
            " hub id"
        ) from error


def _fresh_config(path: Path, tokenizer: Any) -> Any:
    """Return the configuration of a new model.

    What the file leaves open about tokens is the tokenizer's.
    """
    from transformers import AutoConfig

    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        kind = table.pop("model_type")
        if tokenizer is not None:
            ids = {
                name: getattr(tokenizer, name)
                for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            }
            table = {"vocab_size": len(tokenizer)} | ids | table
        config = AutoConfig.for_model(kind, **table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected the configuration of a transformers model in JSON, with its"
            f" model_type ({error})"
        ) from error
    size = config.get_text_config().vocab_size
    if tokenizer is not None and size < len(tokenizer):
        raise ValueError(
            f"{path}: vocab_size must be >= {len(tokenizer)}, the tokenizer's, got {size}"
        )
    return config


def _without_memory(config: Any, tokenizer: Any, dtype: str, adapter: Any) -> CausalLM:
    import torch
    from transformers import AutoModelForCausalLM

    from prefsim.lm.model.policy import CausalLM

    stored = getattr(config, "dtype", None) or torch.float32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=stored if dtype == "auto" else getattr(torch, dtype)
        )
        return CausalLM.from_model(model, tokenizer, adapter=adapter)


def _reference(
    found: Mapping[str, Any], loss: Callable[..., Any], policy: CausalLM, *, load: bool
) -> Any:
    from prefsim.lm.training.objective import needs_of

    what = found["reference"] or (NONE if _uses_no_reference(loss) else START)
    if what == NONE:
        if found["precompute"]:
            raise ValueError("--precompute needs a reference, and there is none")
        return None
    if found["precompute"] and needs_of(loss).kl:
        raise ValueError(
            "the loss needs the KL divergence at every token, which --precompute does not keep"
        )
    if what != START:
        from prefsim.lm.model.policy import CausalLM

        return (
            CausalLM.load(what, dtype=found["dtype"])
            if load
            else _without_memory(_config(what), policy.tokenizer, found["dtype"], None)
        )
    if found["lora_rank"]:
        return policy.without_adapters()
    # What is computed before training needs no copy.
    return policy if found["precompute"] else policy.frozen()


def _uses_no_reference(loss: Callable[..., Any]) -> bool:
    from prefsim.containers import JudgedLogps
    from prefsim.losses.catalogue import properties_of

    return container_of(loss) is not JudgedLogps and properties_of(loss, "").reference_free


def _named(error: ValueError, source: TextSource) -> ValueError:
    """Return the error with the line of the file in the place of the number of an example."""
    match = re.match(r"example (\d+): (?:row \d+:? )?(.*)", str(error), re.DOTALL)
    return error if match is None else ValueError(f"{source.place(int(match[1]))}: {match[2]}")


def _check_positions(run: Run, lengths: np.ndarray) -> None:
    limit = getattr(
        run.policy.scorer.plain.config.get_text_config(), "max_position_embeddings", None
    )
    row = int(lengths.argmax())
    if limit is not None and lengths[row] > limit:
        found = f"{lengths[row]} in {run.source.place(row)}"
        raise ValueError(
            f"a sequence may have {limit} tokens, as many as the model has positions, got {found};"
            " see --max-tokens"
        )


def engine_of(run: Run) -> Engine:
    """Return the engine, which has checked everything; an error names the line of the file."""
    from prefsim.lm.training.engine import Engine

    try:
        engine = Engine(run.policy, run.loss, run.source.data, run.reference, run.options)
    except ValueError as error:
        raise _named(error, run.source) from error
    _check_positions(run, engine.rows.lengths)
    return engine


def computed(run: Run, cache: Path) -> ReferenceLogps:
    """Return the reference's log-probabilities.

    Of several processes the first computes, and the others read what it kept.
    """
    import torch
    from accelerate import PartialState

    from prefsim.lm.model.reference import reference_logps
    from prefsim.lm.training.objective import rows_of

    state = PartialState(cpu=not torch.accelerator.is_available())
    scorer = run.reference.scorer.to(state.device)
    narrow = any(
        parameter.dtype in (torch.bfloat16, torch.float16) for parameter in scorer.parameters()
    )
    # As in training, so that it makes no difference whether the reference is computed before or
    # along with it.
    autocast = torch.autocast(
        state.device.type,
        torch.bfloat16,
        enabled=(run.options.precision or ("bf16" if narrow else "")) == "bf16",
    )
    try:
        rows = rows_of(run.reference, run.source.data, container_of(run.loss))
    except ValueError as error:
        raise _named(error, run.source) from error
    _check_positions(run, rows.lengths)
    with state.main_process_first(), autocast:
        return reference_logps(run.reference, rows.tokens, cache=cache)

"""From the options of the command to a training.

The model, its tokenizer, the reference and the data, all checked before anything is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from prefsim.checks import check_choice, check_integer, check_nonnegative
from prefsim.data.json_lines import parse_object
from prefsim.lm.command.models import attention_of, check_masks_asked, sizes_of
from prefsim.lm.command.read import TextSource, read_text_data
from prefsim.lm.command.scorers import check_head, trained_model
from prefsim.lm.command.settings import configured_loss
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.loading import one_process_loads
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import ReferenceLogps, shared_reference_logps
from prefsim.lm.training.evaluation import Evaluation
from prefsim.lm.training.loss_evaluator import needs_of
from prefsim.lm.training.options import OnlineKL, TrainingOptions
from prefsim.lm.training.precision import as_precise
from prefsim.lm.training.prompt_matching import match_prompts
from prefsim.lm.training.setup import HELD_OUT, TrainingSetup
from prefsim.lm.training.stored_model import Trainable
from prefsim.lm.training.token_rows import TokenRows, token_rows
from prefsim.lm.training.truncation import Truncation
from prefsim.losses.catalogue import reads_reference
from prefsim.losses.registry import container_of

__all__ = [
    "DTYPES",
    "NONE",
    "START",
    "TrainingJob",
    "check_folder",
    "check_given",
    "make_setup",
    "precompute_reference",
    "read_job",
    "reference_of",
    "template_options",
]

Given = Mapping[str, Any]

# What --reference may say besides the path of a model.
START, NONE = "start", "none"
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


class TrainingJob(NamedTuple):
    """Everything that a training of the command needs.

    Attributes
    ----------
    loss
        With its options.
    source
        The data, and where each row came from.
    policy
        What is trained.
    reference
        As ``fit`` takes it.
    options
        How it is trained.
    held_out
        The data of the evaluation as ``source`` is those of training; None without one.
    """

    loss: Callable[..., Any]
    source: TextSource
    policy: Trainable
    reference: CausalLM | ReferenceLogps | None
    options: TrainingOptions
    held_out: TextSource | None


def check_given(given: Given, *names: str) -> None:
    """Raise unless every named option is there."""
    for name in names:
        if given[name] is None:
            raise ValueError(
                f"--{name} must be given, on the command line or in the file of --config"
            )


def _options(given: Given) -> TrainingOptions:
    same = {
        field.name: given[field.name] for field in fields(TrainingOptions) if field.name in given
    }
    # Where the command has its own way to say it, with 0 for none. It trains what it has loaded.
    own: dict[str, Any] = {
        "max_grad_norm": given["max_grad_norm"] or None,
        "diagnostics": tuple(given["diagnostics"] or ()),
        "trackers": tuple(given["tracker"] or ()),
        "save_every": None if given["out"] is None else given["save_every"] or None,
        "in_place": True,
        "penalty": _penalty(given),
        "truncation": _truncation(given),
    }
    return TrainingOptions(**(same | own))


def _truncation(given: Given) -> Truncation | None:
    side = given["truncate"]
    if side is None:
        return None
    if given["max_tokens"] is None:
        raise ValueError(f"--truncate {side} needs --max-tokens, the longest sequence")
    return Truncation(max_tokens=given["max_tokens"], side=side)


def _penalty(given: Given) -> OnlineKL | None:
    check_nonnegative(online_kl=given["online_kl"])
    if given["online_kl"] == 0:
        return None
    if given["precompute"]:
        raise ValueError("--online-kl needs the reference model, which --precompute frees")
    return OnlineKL(
        weight=given["online_kl"],
        samples=given["online_samples"],
        max_new_tokens=given["online_tokens"],
    )


def read_job(given: Given, *, load: bool) -> TrainingJob:
    """Read and check everything.

    Parameters
    ----------
    given
        The options of the command by name.
    load
        False for models without memory, of the same sizes.

    Raises
    ------
    ValueError
        If anything is missing, cannot be read or does not fit the rest.
    """
    check_given(given, "loss", "model", "data")
    check_integer(low=0, lora_rank=given["lora_rank"], save_every=given["save_every"])
    check_choice(DTYPES, dtype=given["dtype"])
    if given["max_tokens"] is not None:
        check_integer(low=1, max_tokens=given["max_tokens"])
    # In this order, so that a wrong name is told before a model is loaded.
    loss = configured_loss(given["loss"], given["settings"])
    check_masks_asked(given, loss)
    options = _options(given)
    check_folder(given["out"], resume=given["resume"])
    source = read_text_data(
        given["data"], split=given["split"], skip_unshared=given["skip_unshared"]
    )
    source.data.check_loss(loss)
    held_out = _held_out_source(given)
    check_head(given, container_of(loss))
    policy = trained_model(
        given, container_of(loss), source.data, template_options(given), load=load
    )

    def fitted(read: TextSource) -> TextSource:
        if given["max_tokens"] is not None and options.truncation is None:
            rows = _token_rows(policy, read, loss, None, given["token_cache"])
            read = _without_long_rows(read, rows, given["max_tokens"])
        return _with_columns(read, policy, given, load=load)

    source = fitted(source)
    if held_out is not None:
        held_out = fitted(held_out)
        evaluation = Evaluation(
            data=held_out.data,
            every=given["eval_every"],
            best_by=given["best_by"],
            patience=given["patience"] or None,
            keep_best=given["keep_best"],
        )
        options = replace(options, evaluation=evaluation)
    reference = reference_of(given, loss, policy, load=load)
    return TrainingJob(loss, source, policy, reference, options, held_out)


def _held_out_source(given: Given) -> TextSource | None:
    """Return the data of the evaluation, those of --data with another split where no other are."""
    place = given["eval_data"]
    if place is None and given["eval_split"] is not None:
        place = given["data"]
    if place is None:
        asked = next((name for name in ("patience", "keep_best") if given[name]), None)
        if asked is not None:
            raise ValueError(f"--{asked.replace('_', '-')} needs an evaluation, see --eval-data")
        return None
    # A file is read whole; only what has splits has one for tests.
    split = given["eval_split"] or (None if Path(place).is_file() else "test")
    return read_text_data(place, split=split, skip_unshared=given["skip_unshared"])


def check_folder(out: Path | None, *, resume: bool) -> None:
    """Raise unless a training may write into a folder, before anything is loaded."""
    if out is None:
        return
    # Before a model is loaded: a folder that cannot be made is known now.
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"--out {out}: {nearest} is no folder that can be written to")
    if not resume and any((out / name).exists() for name in ("model", "checkpoints")):
        raise ValueError(f"--out {out} holds a training; give --resume or another folder")


def _token_rows(
    policy: Trainable,
    source: TextSource,
    loss: Callable[..., Any],
    truncation: Truncation | None,
    cache: str | Path | None,
) -> TokenRows:
    """Return the data as tokens; an error names the line of the file."""
    try:
        return token_rows(policy, source.data, container_of(loss), truncation, cache=cache)
    except ValueError as error:
        raise _with_line(error, source) from error


def _without_long_rows(source: TextSource, rows: TokenRows, limit: int) -> TextSource:
    """Return the source without the rows that have a sequence of more tokens."""
    lengths = rows.lengths
    return source.without(
        {int(row): f"{lengths[row]} tokens" for row in np.flatnonzero(lengths > limit)}
    )


def _with_columns(source: TextSource, policy: Trainable, given: Given, *, load: bool) -> TextSource:
    """Return single judgements with the columns that were asked for."""
    asked = [name for name in ("mismatched", "match_prompts") if given[name]]
    if not asked:
        return source
    data = source.data
    if not isinstance(data, TextFeedback):
        raise ValueError(
            f"--{asked[0].replace('_', '-')} is for single judgements (prompt, completion, label),"
            f" got {type(data).__name__}"
        )
    assert isinstance(policy, CausalLM)
    if given["mismatched"]:
        data = data.with_mismatched(seed=given["seed"])
    if given["match_prompts"] and load:
        _check_loaded_everywhere("--match-prompts")
        data = match_prompts(policy, data, batch_size=given["batch_size"])
    return replace(source, data=data)


def template_options(given: Given) -> dict[str, Any] | None:
    """Return the options of the chat template, or None where none are given."""
    text = given["chat_template_kwargs"]
    return None if text is None else parse_object(text, "--chat-template-kwargs")


def reference_of(
    given: Given, loss: Callable[..., Any], policy: Trainable, *, load: bool
) -> CausalLM | None:
    """Return the reference that --reference names, or None for none."""
    what = given["reference"] or (START if reads_reference(loss) else NONE)
    if what == NONE:
        if given["precompute"]:
            raise ValueError("--precompute needs a reference, and there is none")
        return None
    assert isinstance(policy, CausalLM)
    if given["precompute"] and needs_of(loss).kl:
        raise ValueError(
            "the loss needs the KL divergence at every token, which --precompute does not keep"
        )
    if what != START:
        if load:
            other = CausalLM.load(what, dtype=given["dtype"], **attention_of(given))
            return replace(other, chat_template_kwargs=policy.chat_template_kwargs)
        return sizes_of(what, policy.tokenizer, given["dtype"], None)
    if given["lora_rank"]:
        return policy.without_adapters()
    # What is computed before training needs no copy.
    return policy if given["precompute"] else policy.frozen()


def _with_line(error: ValueError, source: TextSource) -> ValueError:
    """Return the error with the line of the file in the place of the number of an example."""
    match = re.match(r"example (\d+): (?:row \d+:? )?(.*)", str(error), re.DOTALL)
    if match is None:
        return error
    way_out = "; see --max-tokens and --truncate" if "the model has positions" in match[2] else ""
    return ValueError(f"{source.place(int(match[1]))}: {match[2]}{way_out}")


def make_setup(job: TrainingJob) -> TrainingSetup:
    """Return the training, which has checked everything; an error names the line of the file."""
    try:
        return TrainingSetup(job.policy, job.loss, job.source.data, job.reference, job.options)
    except ValueError as error:
        of_evaluation = str(error).removeprefix(f"{HELD_OUT}: ")
        if job.held_out is not None and of_evaluation != str(error):
            raise _with_line(ValueError(of_evaluation), job.held_out) from error
        raise _with_line(error, job.source) from error


def _check_loaded_everywhere(what: str) -> None:
    if one_process_loads():
        raise ValueError(
            f"{what} needs the weights in every process: set fsdp_cpu_ram_efficient_loading: false"
            " in accelerate's configuration"
        )


def precompute_reference(job: TrainingJob, cache: Path) -> TrainingJob:
    """Return the job with log-probabilities for its reference.

    Of several processes each computes a part, and all read what they kept.
    """
    from accelerate import PartialState

    reference = job.reference
    assert isinstance(reference, CausalLM)
    _check_loaded_everywhere("--precompute")
    state = PartialState(cpu=not torch.accelerator.is_available())
    model = reference.log_prob_model.to(state.device)
    narrow = any(p.dtype in (torch.bfloat16, torch.float16) for p in model.parameters())
    # As in training, so that it makes no difference whether the reference is computed before or
    # along with it.
    precision = job.options.precision or ("bf16" if narrow else "float32")
    autocast = torch.autocast(state.device.type, torch.bfloat16, enabled=precision == "bf16")
    evaluated = reference
    if precision == "bf16":
        policy: Any = job.policy.module
        precise = as_precise(model, policy, is_wide=False)
        evaluated = replace(reference, log_prob_model=precise)

    def computed(source: TextSource) -> ReferenceLogps:
        options = job.options
        rows = _token_rows(reference, source, job.loss, options.truncation, options.token_cache)
        try:
            check_positions(reference.log_prob_model.plain, rows.lengths.tolist(), "example")
        except ValueError as error:
            raise _with_line(error, source) from error
        return shared_reference_logps(
            reference,
            rows.tokens,
            cache=cache,
            process=state.process_index,
            processes=state.num_processes,
            wait=state.wait_for_everyone,
            evaluated=evaluated,
        )

    with autocast:
        job = job._replace(reference=computed(job.source))
        if job.held_out is not None:
            assert job.options.evaluation is not None
            evaluation = replace(job.options.evaluation, reference=computed(job.held_out))
            job = job._replace(options=replace(job.options, evaluation=evaluation))
    return job

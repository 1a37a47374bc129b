"""``prefsim train``.

A language model, a loss and a file of text on one line, or in a file of settings.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from prefsim.lm.command.shared_options import (
    Accumulation,
    AsJson,
    Attention,
    Checkpointing,
    Compile,
    ConfigFile,
    DryRun,
    Dtype,
    Keep,
    LoraAlpha,
    LoraRank,
    LossSettings,
    MaxGradNorm,
    MicroBatchTokens,
    OffloadOptimizer,
    Optimizer,
    Out,
    Packing,
    Precision,
    Resume,
    Split,
    TemplateOptions,
    Tokenizer,
    TokenMasks,
    WeightDecay,
)

__all__ = ["told_in_one_line", "train"]


def train(
    context: typer.Context,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=(
                "A loss of prefsim.losses, such as dpo; a sum, dpo+0.1*sft; or one of your own,"
                " FILE.py:FUNCTION."
            ),
        ),
    ] = None,
    settings: LossSettings = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help=(
                "Folder or hub id of a model; or a file config.json, for a new model with random"
                " weights."
            ),
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    chat_template_kwargs: TemplateOptions = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File .jsonl, .ndjson, .json or .parquet; a folder or hub id for `datasets`.",
        ),
    ] = None,
    split: Split = None,
    skip_unshared: Annotated[
        bool,
        typer.Option(
            "--skip-unshared",
            help="Leave out pairs of dialogues that do not share the prompt (they are counted).",
        ),
    ] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Leave out rows with a longer sequence, prompt included (they are counted)."
        ),
    ] = None,
    truncate: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE",
            help=(
                "Do not leave them out but shorten them (they are counted): the beginning of the"
                " prompt, or the end of the completion."
            ),
        ),
    ] = None,
    token_cache: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder where the tokens of the data are kept, for the next training on them.",
        ),
    ] = None,
    mismatched: Annotated[
        bool,
        typer.Option(
            "--mismatched",
            help="Give every prompt a completion of another one, for the reference point of kto.",
        ),
    ] = False,
    match_prompts: Annotated[
        bool,
        typer.Option(
            "--match-prompts",
            help="Weigh undesirable completions by how likely their prompts are among desirable"
            " ones, for bco_unpaired.",
        ),
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="start (the model as it is before training), none, or the path of another model. "
            "Unless given: none for a loss that uses no reference, else start.",
        ),
    ] = None,
    preference_dim: Annotated[
        int | None,
        typer.Option(
            help="Numbers a response has in a model of rewards: 1, a reward, unless given; 2k for"
            " a general preference model."
        ),
    ] = None,
    precompute: Annotated[
        bool,
        typer.Option(
            "--precompute",
            help=(
                "Compute the reference's log-probabilities once, on all processes, kept in"
                " OUT/reference, and free its memory."
            ),
        ),
    ] = False,
    out: Out = None,
    config: ConfigFile = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, instead of steps; 1 unless given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples of one step, over all processes.")] = 8,
    gradient_accumulation: Accumulation = 1,
    micro_batch_tokens: MicroBatchTokens = None,
    packing: Packing = False,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-6,
    schedule: Annotated[str, typer.Option(help="linear, cosine or constant.")] = "linear",
    warmup: Annotated[
        float, typer.Option(help="Fraction of the steps over which the rate rises.")
    ] = 0.1,
    optimizer: Optimizer = "adamw",
    weight_decay: WeightDecay = 0.0,
    offload_optimizer: OffloadOptimizer = False,
    max_grad_norm: MaxGradNorm = 1.0,
    dtype: Dtype = "auto",
    attn_implementation: Attention = None,
    precision: Precision = None,
    gradient_checkpointing: Checkpointing = False,
    compile: Compile = False,
    reference_weight: Annotated[
        float | None,
        typer.Option(
            help="How far the reference moves to the policy, in (0, 1] (TR-DPO); it stays unless"
            " given."
        ),
    ] = None,
    reference_every: Annotated[int, typer.Option(help="Steps between moves of the reference.")] = 1,
    online_kl: Annotated[
        float,
        typer.Option(
            help="Weight of the divergence from the reference on completions that are drawn while"
            " training (HyPO); 0 for none."
        ),
    ] = 0.0,
    online_samples: Annotated[
        int, typer.Option(help="Completions drawn of each prompt for it, at least two.")
    ] = 2,
    online_tokens: Annotated[int, typer.Option(help="Tokens after which they are cut off.")] = 64,
    lora_rank: LoraRank = 0,
    lora_alpha: LoraAlpha = None,
    token_masks: TokenMasks = None,
    lora_target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Layers that get adapters, such as q_proj; may be repeated; all linear ones.",
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write the model with its adapters in it to OUT/merged.")
    ] = False,
    order: Annotated[str, typer.Option(help="by_length, shuffled or given.")] = "by_length",
    seed: Annotated[
        int,
        typer.Option(
            help="Of the order of the data, and of the weights of a new model or of adapters."
        ),
    ] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0 for none.")] = 500,
    keep: Keep = 2,
    resume: Resume = False,
    log_every: Annotated[int, typer.Option(help="Steps between lines of metrics.")] = 10,
    diagnostics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Measure this on some pairs while training; may be repeated."
        ),
    ] = None,
    eval_data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Data that is measured on while training, as --data."),
    ] = None,
    eval_split: Annotated[str | None, typer.Option(help="Split of it: test unless given.")] = None,
    eval_every: Annotated[
        int, typer.Option(help="Steps between evaluations; there is one before and at the end too.")
    ] = 100,
    best_by: Annotated[
        str,
        typer.Option(
            help=(
                "The best evaluation: of the lowest loss, or the highest ranking_accuracy or"
                " reward_accuracy."
            )
        ),
    ] = "loss",
    patience: Annotated[
        int,
        typer.Option(
            help="End when so many evaluations in a row were not better than the best; 0 for never."
        ),
    ] = 0,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Write the model of the best one to OUT/best.")
    ] = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Send the metrics to wandb, mlflow or another tracker of accelerate too.",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a language model with any loss of the library, or a reward model on it.

    The columns of the data say what they hold: prompt, chosen, rejected (or whole dialogues as
    chosen and rejected); prompt, completion (or dialogues as messages), with a label or without;
    prompt, completions, scores. Each is text, chat messages or token ids. On many GPUs: accelerate
    launch -m prefsim train ...
    """
    from prefsim.lm.command.settings import Settings

    given = Settings(context, config, get_type_hints(train))
    with told_in_one_line():
        report = _planned(given) if given["dry_run"] else _train(given)
    # One report of all processes that were launched together.
    if not _is_main_process():
        return
    if given["as_json"]:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from prefsim.lm.command.wording import report_lines

        typer.echo("\n".join(report_lines(report)))


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what is not installed into a ValueError that says so.

    Transformers' own bars are left out where nobody watches: stderr is for what went wrong.
    """
    try:
        if not sys.stderr.isatty():
            from transformers.utils import logging

            logging.disable_progress_bar()
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"training needs {error.name}, which `pip install 'prefsim[lm]'` brings"
        ) from error
    except ImportError as error:
        # So transformers says that a kind of attention is not there.
        raise ValueError(str(error).split("\n")[0]) from error


def _is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _train(given: Mapping[str, Any]) -> dict[str, Any]:
    from prefsim.lm.command.job import check_given, make_setup, precompute_reference, read_job
    from prefsim.lm.command.wording import cut_lines, fault_lines, remarks
    from prefsim.lm.training.checkpoint import saved
    from prefsim.lm.training.engine import run

    check_given(given, "out")
    job = read_job(given, load=True)
    if _is_main_process() and (job.source.skipped or job.source.unused):
        typer.echo("\n".join(remarks(job.source)), err=True)
    if given["precompute"]:
        job = precompute_reference(job, given["out"] / "reference")
    setup = make_setup(job)
    if _is_main_process() and (told := [*fault_lines(setup, job.source), *cut_lines(setup)]):
        typer.echo("\n".join(told), err=True)
    result = run(setup)
    if given["merge"] and _is_main_process():
        with saved(given["out"] / "merged") as folder:
            result.policy.merged().save(folder)
    report = {
        "loss": result.value,
        "grad_norm": result.grad_norm,
        "steps": result.steps,
        "model": str(given["out"] / "model"),
        "metrics": str(given["out"] / "metrics.jsonl"),
    }
    if result.best_step is not None:
        report["best_step"] = result.best_step
    if given["merge"]:
        report["merged"] = str(given["out"] / "merged")
    if given["keep_best"]:
        report["best"] = str(given["out"] / "best")
    return report


def _planned(given: Mapping[str, Any]) -> dict[str, Any]:
    from prefsim.lm.command.plan import dry_run

    return dry_run(given)

"""``prefsim train``.

A language model, a loss and a file of text on one line, or in a file of settings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from prefsim.lm.command.read import TextSource

__all__ = ["train"]


def train(
    context: typer.Context,
    loss: Annotated[
        str | None, typer.Option(metavar="NAME", help="A loss of prefsim.losses, such as dpo.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An option of the loss, such as beta=0.1; may be repeated.",
        ),
    ] = None,
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
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder or hub id of the tokenizer, if not the model's."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File .jsonl, .jsonl.gz or .parquet; or a folder or hub id for `datasets`.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a folder or hub id: train unless given.")
    ] = None,
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
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="start (the model as it is before training), none, or the path of another model. "
            "Unless given: none for a loss that uses no reference, else start.",
        ),
    ] = None,
    precompute: Annotated[
        bool,
        typer.Option(
            "--precompute",
            help=(
                "Compute the reference's log-probabilities once, kept in OUT/reference, and free"
                " its memory."
            ),
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", help="Folder for model, checkpoints and metrics.jsonl."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help=(
                "File in TOML with any of these options (`batch-size = 4`, a table [set]); the"
                " command line wins."
            )
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, instead of steps; 1 unless given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples of one step, over all processes.")] = 8,
    gradient_accumulation: Annotated[
        int, typer.Option(help="Micro-batches that a step is split into.")
    ] = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-6,
    schedule: Annotated[str, typer.Option(help="linear, cosine or constant.")] = "linear",
    warmup: Annotated[
        float, typer.Option(help="Fraction of the steps over which the rate rises.")
    ] = 0.1,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    weight_decay: Annotated[float, typer.Option(help="Of matrices.")] = 0.0,
    max_grad_norm: Annotated[
        float, typer.Option(help="Bound on the gradient's norm; 0 for none.")
    ] = 1.0,
    dtype: Annotated[
        str, typer.Option(help="Parameters as loaded: auto, float32, bfloat16, float16 or float64.")
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="float32 or bf16; what the parameters ask for unless given.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = False,
    lora_rank: Annotated[
        int,
        typer.Option(
            help="Train LoRA adapters of this rank in all layers, not the model; 0 for none."
        ),
    ] = 0,
    lora_alpha: Annotated[
        float | None, typer.Option(help="Scale of the adapters; twice the rank unless given.")
    ] = None,
    order: Annotated[str, typer.Option(help="by_length, shuffled or given.")] = "by_length",
    seed: Annotated[
        int, typer.Option(help="Of the order of the data and of a new model's weights.")
    ] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0 for none.")] = 500,
    keep: Annotated[int, typer.Option(help="Newest checkpoints to keep.")] = 2,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the newest checkpoint in OUT, if there is one."),
    ] = False,
    log_every: Annotated[int, typer.Option(help="Steps between lines of metrics.")] = 10,
    diagnostics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Measure this on some pairs while training; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print rows, tokens, steps and estimated memory; train and write nothing.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Train a language model with any loss of the library.

    The columns of the data say what they hold: prompt, chosen, rejected (or whole dialogues as
    chosen and rejected); prompt, completion, label; prompt, completions, scores. Each is text, chat
    messages or token ids. On many GPUs: accelerate launch -m prefsim train ...
    """
    from prefsim.lm.command.settings import Settings

    found = Settings(context, config, get_type_hints(train))
    try:
        _quiet_unless_watched()
        report = _dry_run(found) if found["dry_run"] else _train(found)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"training needs {error.name}, which `pip install 'prefsim[lm]'` brings"
        ) from error
    if not _is_main_process():
        return
    if found["as_json"]:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo("\n".join(_lines(report)))


def _quiet_unless_watched() -> None:
    """Leave transformers' own bars out where nobody watches: stderr is for what went wrong."""
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()


def _is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _train(found: Mapping[str, Any]) -> dict[str, Any]:
    from prefsim.lm.command.assemble import computed, engine_of, prepared, required

    required(found, "out")
    run = prepared(found, load=True)
    if _is_main_process() and (run.source.skipped or run.source.unused):
        typer.echo("\n".join(_remarks(run.source)), err=True)
    if found["precompute"]:
        run = run._replace(reference=computed(run, found["out"] / "reference"))
    result = engine_of(run).run()
    return {
        "loss": result.value,
        "grad_norm": result.grad_norm,
        "steps": result.steps,
        "model": str(found["out"] / "model"),
        "metrics": str(found["out"] / "metrics.jsonl"),
    }


def _dry_run(found: Mapping[str, Any]) -> dict[str, Any]:
    from prefsim.lm.command.assemble import engine_of, prepared
    from prefsim.lm.command.memory import estimate_memory

    run = prepared(found, load=False)
    options = run.options
    second = (
        None
        if run.reference is None or run.reference.scorer is run.policy.scorer
        else run.reference
    )
    engine = engine_of(run._replace(reference=None if found["precompute"] else run.reference))
    rows = engine.rows
    examples = -(-options.batch_size // options.gradient_accumulation)
    memory = estimate_memory(
        run.policy,
        precision=engine.precision,
        optimizer=str(options.optimizer),
        tokens=min(examples, len(run.source)) * rows.per_example * int(rows.lengths.max()),
        checkpointing=options.gradient_checkpointing,
        reference=None if found["precompute"] else second,
    )
    parameters = list(run.policy.scorer.parameters())
    prompt, completion = (sum(len(ids[part]) for ids in rows.tokens) for part in (0, 1))
    return {
        "data": {
            "rows": len(run.source),
            "skipped": len(run.source.skipped),
            "unused_columns": list(run.source.unused),
        },
        "tokens": {
            "prompt": prompt,
            "completion": completion,
            "longest_sequence": int(rows.lengths.max()),
        },
        "training": {
            "steps": engine.total,
            "epochs": engine.total / engine.plan.steps_per_epoch,
            "examples_per_step": options.batch_size,
        },
        "parameters": {
            "all": sum(p.numel() for p in parameters),
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "memory": {**memory._asdict(), "total": memory.total},
    }


def _remarks(source: TextSource) -> list[str]:
    remarks = (
        [f"{len(source.skipped)} rows skipped, the first: {source.skipped[0]}"]
        if source.skipped
        else []
    )
    return remarks + ([f"columns not used: {', '.join(source.unused)}"] if source.unused else [])


def _lines(report: Mapping[str, Any]) -> list[str]:
    """Return a report as lines of text."""
    if "memory" not in report:
        return [
            (
                f"{report['steps']} steps, loss {report['loss']:.6g} and gradient norm"
                f" {report['grad_norm']:.3g} at the last"
            ),
            f"Model: {report['model']}",
            f"Metrics: {report['metrics']}",
        ]
    data, tokens, training, parameters, memory = (
        report[name] for name in ("data", "tokens", "training", "parameters", "memory")
    )
    unused = (
        f"; columns not used: {', '.join(data['unused_columns'])}" if data["unused_columns"] else ""
    )
    lines = [
        f"Rows: {data['rows']:,}"
        + (f", {data['skipped']:,} skipped" if data["skipped"] else "")
        + unused,
        (
            f"Tokens: {tokens['prompt']:,} of prompts and {tokens['completion']:,} of completions; "
            f"the longest sequence has {tokens['longest_sequence']:,}"
        ),
        (
            f"Steps: {training['steps']:,} of {training['examples_per_step']:,} examples,"
            f" {training['epochs']:.3g} epochs"
        ),
        f"Parameters: {parameters['all']:,}, of which {parameters['trained']:,} are trained",
        f"Memory, estimated: {_size(memory['total'])}",
    ]
    return lines + [
        f"  {name}: {_size(memory[name])}" for name in memory if name != "total" and memory[name]
    ]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

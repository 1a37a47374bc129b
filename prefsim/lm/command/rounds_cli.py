"""``prefsim rounds``.

On-policy learning of a language model on one line: sample, score, learn, repeat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

__all__ = ["rounds"]


def rounds(
    context: typer.Context,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A loss of prefsim.losses, such as grpo, rloo, ppo, reinforce, copg, p3o, dpo or"
            " sft; or one of your own, FILE.py:FUNCTION.",
        ),
    ] = None,
    settings: LossSettings = None,
    model: Annotated[
        str | None, typer.Option(metavar="PATH", help="Folder or hub id of a model.")
    ] = None,
    tokenizer: Tokenizer = None,
    chat_template_kwargs: TemplateOptions = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File or data set with a column prompt; other columns are for the score.",
        ),
    ] = None,
    split: Split = None,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="The reward: a function of a prompt and a completion and, if it takes a third, of"
            " the row of the file.",
        ),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The reward instead of --score: folder or hub id of a sequence classifier with one"
            " label.",
        ),
    ] = None,
    unfinished: Annotated[
        float | None,
        typer.Option(
            help="Reward of a completion that was cut off, such as -10; its own unless given."
        ),
    ] = None,
    number: Annotated[
        int, typer.Option("--rounds", help="Rounds in all; more may be asked for with --resume.")
    ] = 1,
    samples: Annotated[int, typer.Option(help="Completions drawn of each prompt.")] = 4,
    per_round: Annotated[
        int | None, typer.Option(help="Prompts asked in a round; all of them unless given.")
    ] = None,
    kept: Annotated[
        int | None,
        typer.Option(help="How many of the completions are kept: the best, or by rejection."),
    ] = None,
    kept_temperature: Annotated[
        float, typer.Option(help="Temperature of the rejection sampling; 0 keeps the best.")
    ] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(help="Where completions are cut off.")] = 128,
    temperature: Annotated[
        float, typer.Option(help="Of the draws; what is learned and measured is at 1.")
    ] = 1.0,
    sample_batch: Annotated[int, typer.Option(help="Prompts that are answered at once.")] = 8,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="start (the model before the first round), last (the model before each round),"
            " none, or the path of another model. Unless given: none for a loss that uses no"
            " reference, else start.",
        ),
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="A value function that learns along, for ppo: fresh (a new head on a copy of the"
            " model), or the folder of a reward model or a saved critic.",
        ),
    ] = None,
    critic_learning_rate: Annotated[
        float | None, typer.Option(help="Its learning rate; that of the model unless given.")
    ] = None,
    critic_epochs: Annotated[
        float | None,
        typer.Option(help="Its passes over the data of a round; as the model's unless given."),
    ] = None,
    critic_clip: Annotated[
        float | None,
        typer.Option(
            help="How far a value may move in a round for its error to fall, 0.2 unless given; inf"
            " for any distance."
        ),
    ] = None,
    discount: Annotated[
        float | None, typer.Option(help="γ of the critic's advantages (GAE), 1 unless given.")
    ] = None,
    trace: Annotated[
        float | None, typer.Option(help="λ of the critic's advantages (GAE), 0.95 unless given.")
    ] = None,
    out: Out = None,
    config: ConfigFile = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of a round.")] = None,
    epochs: Annotated[
        float | None,
        typer.Option(help="Passes over the data of a round, instead of steps; 1 unless given."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts (or pairs) of one step.")] = 8,
    gradient_accumulation: Accumulation = 1,
    micro_batch_tokens: MicroBatchTokens = None,
    packing: Packing = False,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-6,
    optimizer: Optimizer = "adamw",
    weight_decay: WeightDecay = 0.0,
    offload_optimizer: OffloadOptimizer = False,
    max_grad_norm: MaxGradNorm = 1.0,
    dtype: Dtype = "auto",
    attn_implementation: Attention = None,
    precision: Precision = None,
    gradient_checkpointing: Checkpointing = False,
    compile: Compile = False,
    lora_rank: LoraRank = 0,
    lora_alpha: LoraAlpha = None,
    token_masks: TokenMasks = None,
    seed: Annotated[
        int, typer.Option(help="Of the draws, of the order of the data, and of new weights.")
    ] = 0,
    save_every: Annotated[int, typer.Option(help="Rounds between checkpoints; 0 for none.")] = 1,
    keep: Keep = 2,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a language model on its own completions, round after round.

    In each round the model answers the prompts, the answers are scored, and the model learns from
    them by the loss. A line of metrics.jsonl is a round: mean reward, KL to the reference, length.
    """
    from prefsim.lm.command.cli import told_in_one_line
    from prefsim.lm.command.settings import Settings

    given = Settings(context, config, get_type_hints(rounds))
    with told_in_one_line():
        report = _planned(given) if given["dry_run"] else _play(given)
    if given["as_json"]:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from prefsim.lm.command.wording import rounds_lines

        typer.echo("\n".join(rounds_lines(report)))


def _play(given: Mapping[str, Any]) -> dict[str, Any]:
    from prefsim.lm.command.rounds_job import read_rounds
    from prefsim.lm.command.rounds_loop import play
    from prefsim.lm.command.rounds_plan import planned_trainings

    job = read_rounds(given)
    # What cannot be learned from a round is told before one is drawn.
    planned_trainings(job)
    return play(job)


def _planned(given: Mapping[str, Any]) -> dict[str, Any]:
    from prefsim.lm.command.rounds_plan import planned_rounds

    return planned_rounds(given)

"""Options that ``prefsim train`` and ``prefsim rounds`` share: each one's type and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Accumulation",
    "AsJson",
    "Attention",
    "Checkpointing",
    "Compile",
    "ConfigFile",
    "DryRun",
    "Dtype",
    "Keep",
    "LoraAlpha",
    "LoraRank",
    "LossSettings",
    "MaxGradNorm",
    "MicroBatchTokens",
    "OffloadOptimizer",
    "Optimizer",
    "Out",
    "Packing",
    "Precision",
    "Resume",
    "Split",
    "TemplateOptions",
    "TokenMasks",
    "Tokenizer",
    "WeightDecay",
]

LossSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the loss, such as beta=0.1; may be repeated.",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Folder or hub id of the tokenizer, if not the model's."),
]
TemplateOptions = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='Options of the tokenizer\'s chat template, such as {"enable_thinking": false}.',
    ),
]
Split = Annotated[str | None, typer.Option(help="Split of a folder or hub id: train unless given.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "--output", help="Folder for model, checkpoints and metrics.jsonl."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        help=(
            "File in TOML with any of these options (`batch-size = 4`, a table [set]); the"
            " command line wins."
        )
    ),
]
Accumulation = Annotated[int, typer.Option(help="Micro-batches that a step is split into.")]
MicroBatchTokens = Annotated[
    int | None,
    typer.Option(
        help="Split a step into micro-batches of at most so many tokens instead, padding included."
    ),
]
Packing = Annotated[
    bool,
    typer.Option("--packing", help="Put several sequences into one row, so that less is padding."),
]
Optimizer = Annotated[
    str, typer.Option(help="adamw, adamw_bf16 or adamw_8bit (its moments in so many bits), or sgd.")
]
OffloadOptimizer = Annotated[
    bool,
    typer.Option(
        "--offload-optimizer", help="Keep what the optimiser remembers in main memory, not a GPU's."
    ),
]
WeightDecay = Annotated[float, typer.Option(help="Of matrices.")]
MaxGradNorm = Annotated[float, typer.Option(help="Bound on the gradient's norm; 0 for none.")]
Dtype = Annotated[
    str, typer.Option(help="Parameters as loaded: auto, float32, bfloat16, float16 or float64.")
]
Attention = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="How transformers computes attention: sdpa, eager, flash_attention_2, …",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="float32; bf16, with trained parameters in float32; or bf16_weights, with those too in"
        " bfloat16, stochastically rounded. What the parameters ask for unless given."
    ),
]
Checkpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Run the layers by compiled code, which takes a while to make."),
]
LoraRank = Annotated[
    int,
    typer.Option(help="Train LoRA adapters of this rank in all layers, not the model; 0 for none."),
]
LoraAlpha = Annotated[
    float | None, typer.Option(help="Scale of the adapters; twice the rank unless given.")
]
TokenMasks = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Weights of tokens for sparse_po: common or independent, which are learned along, or"
        " activations; those that lie beside the model unless given.",
    ),
]
Keep = Annotated[int, typer.Option(help="Newest checkpoints to keep.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the newest checkpoint in OUT, if there is one."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print rows, tokens, steps and estimated memory; train and write nothing.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]

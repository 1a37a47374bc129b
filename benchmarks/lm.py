"""Language models against peers.

The head (log-probabilities and their gradients), whole training steps, generation, and packing.

Every case runs in a process of its own on the same numbers. CPU seconds (the median after a
warm-up) are those of the whole process; memory is the peak of the resident set above what it was
after the imports, inputs included. The head's loss and gradients are compared with plain torch in
float64, the losses of training with TRL's. A peer that is not installed is left out and named; `pip
install liger-kernel` (which needs triton) brings Liger's head.

    python benchmarks/lm.py [--part head] [--part steps] [--part generation] [--part packing]
    [--threads 1 2] [--models small medium] [--gpu] [--json]

`--gpu` trains Llama shapes with random weights on a CUDA device, 1 billion parameters whole and
8 with adapters (`--models 3B 8B-full` for others), against TRL where that is installed: tokens a
second, peak memory, and the rate of useful operations over that of a large product measured in the
same process. It ends within `--minutes`, 9.5 unless given, and names what it had no time for.
`--rehearse` does the same with toys on a processor, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from _lm_generation import generation, show_generation
from _lm_heads import heads, run_head, show_heads
from _lm_packing import packing, show_packing
from _lm_settings import CPU, GPU, GPU_DEFAULT, REHEARSAL
from _lm_steps import run_steps, show_steps, steps_table


class Part(NamedTuple):
    """One comparison: what measures it, and what prints it."""

    measure: Callable[[argparse.Namespace], list[dict[str, Any]]]
    show: Callable[[list[dict[str, Any]]], None]


def steps_on_cpu(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return steps_table(
        arguments.models or ["small"], arguments.threads, arguments.steps, arguments.rounds, "cpu"
    )


PARTS = {
    "head": Part(
        lambda arguments: heads(arguments.threads, arguments.repeats, arguments.rounds), show_heads
    ),
    "steps": Part(steps_on_cpu, show_steps),
    "generation": Part(
        lambda arguments: generation(
            arguments.models or ["small"], arguments.threads, arguments.rounds
        ),
        show_generation,
    ),
    "packing": Part(lambda arguments: packing(arguments.steps, arguments.rounds), show_packing),
}


def on_gpu(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    import torch

    if arguments.rehearse:
        models, device = list(REHEARSAL), "cpu"
    elif torch.cuda.is_available():
        models, device = arguments.models or list(GPU_DEFAULT), "cuda"
    else:
        raise SystemExit(
            "--gpu needs a CUDA device, and torch finds none; with --rehearse it trains toys on a"
            " processor"
        )
    return steps_table(models, [1], arguments.steps, 1, device, minutes=arguments.minutes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--part",
        choices=sorted(PARTS),
        action="append",
        help="what to compare; everything if not given",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="how often the competitors are gone through in turn; the median is kept",
    )
    parser.add_argument(
        "--steps", type=int, default=5, help="training steps of a run, the first of them to warm up"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=[*CPU, *GPU],
        help=f"what is trained; the small one, or {' and '.join(GPU_DEFAULT)} with --gpu",
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="train on a CUDA device instead; refused where there is none",
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="with --gpu: toys on a processor instead"
    )
    parser.add_argument("--minutes", type=float, default=9.5, help="when --gpu ends at the latest")
    parser.add_argument("--json", action="store_true")
    for name in ("--case", "--step-case", "--setting", "--reference", "--device"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rehearse and not arguments.gpu:
        parser.error("--rehearse is of --gpu")
    if arguments.case:
        print(
            json.dumps(
                run_head(arguments.case, arguments.threads[0], arguments.repeats, arguments.folder)
            )
        )
        return
    if arguments.step_case:
        place = (
            arguments.setting,
            arguments.reference,
            arguments.steps,
            arguments.threads[0],
            arguments.device,
        )
        print(json.dumps(run_steps(arguments.step_case, *place)))
        return
    if not arguments.gpu and not set(arguments.models or ()) <= set(CPU):
        parser.error(f"--models without --gpu is out of {', '.join(CPU)}")
    parts = (
        {"gpu": Part(on_gpu, show_steps)}
        if arguments.gpu
        else {name: PARTS[name] for name in arguments.part or PARTS}
    )
    found = {name: part.measure(arguments) for name, part in parts.items()}
    if arguments.json:
        print(json.dumps(found))
        return
    for name, rows in found.items():
        if rows:
            parts[name].show(rows)


if __name__ == "__main__":
    main()

"""InfoNCE of 4,096 anchors against 4,096 candidates, value and gradient, in blocks.

The measure is the same loss from the whole matrix of similarities, by torch's cross-entropy, which
is ours on similarities too; the memory is what the loss and its gradient add to the embeddings.

Run: ``OMP_NUM_THREADS=1 python benchmarks/contrastive.py [--rows N] [--json]``. CPU seconds, median
of the repeats, one thread; each memory in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _processes import in_own_process, resident_mb, restart_peak
from _table import Row

from prefsim.losses.contrastive_blocks import blockwise_infonce, blockwise_rgcl

TEMPERATURE = 0.1


def whole_matrix(anchors: torch.Tensor, candidates: torch.Tensor, label: torch.Tensor):
    return torch.nn.functional.cross_entropy(
        (anchors / TEMPERATURE) @ candidates.T, label, reduction="none"
    )


def in_blocks(anchors: torch.Tensor, candidates: torch.Tensor, label: torch.Tensor):
    return blockwise_infonce(anchors, candidates, label, temperature=TEMPERATURE)


def robust_in_blocks(anchors: torch.Tensor, candidates: torch.Tensor, label: torch.Tensor):
    return blockwise_rgcl(anchors, candidates, label, temperature=TEMPERATURE)


METHODS: dict[str, Callable[..., torch.Tensor]] = {
    "whole matrix": whole_matrix,
    "infonce in blocks": in_blocks,
    "rgcl in blocks": robust_in_blocks,
}


def embeddings(rows: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return unit vectors with a graph, each anchor near its positive, and where that is."""
    generator = torch.Generator().manual_seed(0)
    first, noise = (torch.randn(rows, width, generator=generator, dtype=dtype) for _ in range(2))
    unit = torch.nn.functional.normalize
    anchors, candidates = unit(first, dim=1), unit(first + 0.5 * noise, dim=1)
    return anchors.requires_grad_(), candidates.requires_grad_(), torch.arange(rows)


def once(method: Callable[..., torch.Tensor], given: tuple[torch.Tensor, ...]) -> float:
    for each in given[:2]:
        each.grad = None
    start = time.process_time()
    method(*given).mean().backward()
    return time.process_time() - start


def peak_megabytes(name: str, rows: int, width: int, dtype: str) -> float:
    """Return how much this process holds at most beyond the embeddings."""
    kind = getattr(torch, dtype)
    once(METHODS[name], embeddings(64, width, kind))
    given = embeddings(rows, width, kind)
    base = restart_peak()
    once(METHODS[name], given)
    return resident_mb("VmHWM") - base


def compared(n: int, repeats: int, settings: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    """Return time and memory of every method at each dtype and width."""
    torch.set_num_threads(1)
    found = []
    for dtype, width in settings:
        given = embeddings(n, width, getattr(torch, dtype))
        times: dict[str, list[float]] = {name: [] for name in METHODS}
        # Side by side, so that a drift of the machine's speed cancels.
        for _ in range(repeats + 1):
            for name, method in METHODS.items():
                times[name].append(once(method, given))
        base = statistics.median(times["whole matrix"][1:])
        for name in METHODS:
            spent = statistics.median(times[name][1:])
            asked = ["--rows", str(n), "--memory-of", name, str(width), dtype]
            memory = in_own_process(__file__, asked)
            found.append(
                {
                    "dtype": dtype,
                    "width": width,
                    "method": name,
                    "seconds": spent,
                    "ratio": spent / base,
                    "megabytes": memory["megabytes"] if isinstance(memory, dict) else math.nan,
                }
            )
    return found


SETTINGS = (("float32", 128), ("float32", 512), ("float64", 128))


def rows(*, quick: bool) -> list[Row]:
    """Return InfoNCE in blocks beside that of the whole matrix."""
    n, settings = (1024, SETTINGS[:1]) if quick else (4096, SETTINGS)
    found = compared(n, 15 if quick else 5, settings)
    made = []
    for dtype, width in settings:
        same = [row for row in found if (row["dtype"], row["width"]) == (dtype, width)]
        here = {row["method"]: row for row in same}
        whole, blocks = here["whole matrix"], here["infonce in blocks"]
        made.append(
            Row(
                f"contrastive/{n}-{dtype}-{width}",
                f"InfoNCE, {n:,} × {n:,}, width {width}, {dtype}",
                "s",
                blocks["seconds"],
                "whole matrix",
                whole["seconds"],
                1 / 1.5,
                f"{blocks['megabytes']:.0f} MB, whole matrix {whole['megabytes']:.0f} MB",
            )
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", nargs=3, metavar=("METHOD", "WIDTH", "DTYPE"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        name, width, dtype = arguments.memory_of
        print(json.dumps({"megabytes": peak_megabytes(name, arguments.rows, int(width), dtype)}))
        return
    found = compared(arguments.rows, arguments.repeats, SETTINGS)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{arguments.rows} × {arguments.rows}, value and gradient, torch {torch.__version__}")
    for row in found:
        print(
            f"{row['dtype']:<9}{row['width']:>5}  {row['method']:<18}"
            f"{row['seconds'] * 1e3:8.0f} ms{row['ratio']:7.2f}x{row['megabytes']:8.0f} MB"
        )


if __name__ == "__main__":
    main()

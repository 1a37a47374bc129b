"""Language models against peers.

The head (log-probabilities and their gradients), and whole training steps.

Every case runs in a process of its own on the same numbers. CPU seconds (the median after a
warm-up) are those of the whole process; memory is the peak of the resident set above what it was
after the imports, inputs included. The head's loss and gradients are compared with plain torch in
float64, the losses of training with TRL's. A peer that is not installed is left out and named; `pip
install liger-kernel` (which needs triton) brings Liger's head.

    python benchmarks/lm.py [--part head] [--part steps] [--threads 1 2] [--models small medium]
    [--gpu] [--json]

`--gpu` trains Llama shapes with random weights on a CUDA device, 1 billion parameters whole and
8 with adapters (`--models 3B 8B-full` for others), against TRL where that is installed: tokens a
second, peak memory, and the rate of useful operations over that of a large product measured in the
same process. It ends within `--minutes`, 9.5 unless given, and names what it had no time for.
`--rehearse` does the same with toys on a processor, to see that it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from _lm_settings import CPU, GPU, GPU_DEFAULT, REHEARSAL
from _lm_steps import run_steps, show_steps, steps_table
from _processes import in_own_process, resident_mb, restart_peak

BETA = 0.1
SIZES = {"pairs": 4, "tokens": 512, "prompt": 64, "hidden": 512, "vocabulary": 32_000}


class Problem(NamedTuple):
    """Hidden states of policy and reference, both heads, tokens and what is scored.

    Chosen first, then rejected.
    """

    hidden: Any
    weight: Any
    ref_hidden: Any
    ref_weight: Any
    labels: Any
    mask: Any


def make_problem(dtype: Any) -> Problem:
    import torch

    generator = torch.Generator().manual_seed(0)
    rows, d = 2 * SIZES["pairs"], SIZES["hidden"]
    shape = (rows, SIZES["tokens"], d)
    hidden, ref_hidden = (torch.randn(shape, generator=generator) for _ in range(2))
    weight, ref_weight = (
        torch.randn(SIZES["vocabulary"], d, generator=generator).mul_(d**-0.5) for _ in range(2)
    )
    labels = torch.randint(0, SIZES["vocabulary"], shape[:2], generator=generator)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    mask[:, : SIZES["prompt"]] = False
    tensors = [tensor.to(dtype) for tensor in (hidden, weight, ref_hidden, ref_weight)]
    tensors[0].requires_grad_()
    tensors[1].requires_grad_()
    return Problem(*tensors, labels, mask)


def dpo_by_hand(logps: Any, ref_logps: Any) -> Any:
    import torch

    margin = logps - ref_logps
    chosen, rejected = margin.chunk(2)
    return -torch.nn.functional.logsigmoid(BETA * (chosen - rejected)).mean()


def both_heads(sequence_log_probs: Callable[[Any, Any], Any], problem: Problem) -> Any:
    """Return the DPO loss of hand-written log-probabilities; the reference without a graph."""
    import torch

    with torch.no_grad():
        ref_logps = sequence_log_probs(problem.ref_hidden, problem.ref_weight)
    return dpo_by_hand(sequence_log_probs(problem.hidden, problem.weight), ref_logps)


def by_prefsim() -> Callable[[Problem], Any]:
    import torch

    from prefsim import losses
    from prefsim.lm import sequence_log_probs

    def loss(problem: Problem) -> Any:
        with torch.no_grad():
            ref_chosen, ref_rejected = sequence_log_probs(
                problem.ref_hidden, problem.ref_weight, problem.labels, problem.mask
            ).chunk(2)
        chosen, rejected = sequence_log_probs(
            problem.hidden, problem.weight, problem.labels, problem.mask
        ).chunk(2)
        logps = losses.PairLogps(
            chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected
        )
        return losses.dpo(logps, beta=BETA).mean()

    return loss


def by_torch() -> Callable[[Problem], Any]:
    def loss(problem: Problem) -> Any:
        def logps(hidden: Any, weight: Any) -> Any:
            logs = (hidden[:, :-1] @ weight.T).log_softmax(-1)
            taken = logs.gather(-1, problem.labels[:, 1:, None])[..., 0]
            return (taken * problem.mask[:, 1:]).sum(-1)

        return both_heads(logps, problem)

    return loss


def by_liger() -> Callable[[Problem], Any]:
    import torch
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss

    fused = LigerFusedLinearDPOLoss(beta=BETA, compiled=False)

    def loss(problem: Problem) -> Any:
        target = torch.where(problem.mask[:, 1:], problem.labels[:, 1:], -100)
        hidden, ref_hidden = problem.hidden[:, :-1], problem.ref_hidden[:, :-1]
        return fused(
            problem.weight, hidden, target, ref_input=ref_hidden, ref_weight=problem.ref_weight
        )[0]

    return loss


def by_trl_unfused() -> Callable[[Problem], Any]:
    from trl.trainer.utils import selective_log_softmax

    def loss(problem: Problem) -> Any:
        def logps(hidden: Any, weight: Any) -> Any:
            logits = hidden @ weight.T
            return (
                selective_log_softmax(logits[:, :-1], problem.labels[:, 1:]) * problem.mask[:, 1:]
            ).sum(-1)

        return both_heads(logps, problem)

    return loss


def by_trl_chunked() -> Callable[[Problem], Any]:
    """TRL's chunked head as its DPO trainer calls it on a CPU.

    Every position, with the metrics that it logs of the policy.
    """
    from trl.trainer import utils

    kernel, tile = utils._ChunkedLogProbFunction, utils._CHUNKED_LOGPROB_CHUNK_SIZE

    def loss(problem: Problem) -> Any:
        labels = problem.labels[:, 1:].reshape(-1)

        def logps(hidden: Any, weight: Any) -> Any:
            outputs = (
                ("log_probs", "entropy", "mean_logits", "is_top1")
                if hidden.requires_grad
                else ("log_probs",)
            )
            flat = hidden[:, :-1].reshape(-1, hidden.shape[-1])
            found = kernel.apply(flat, weight, None, labels, 1.0, tile, None, 1.0, outputs)[0]
            return (
                found.view(problem.labels[:, 1:].shape).masked_fill(~problem.mask[:, 1:], 0).sum(-1)
            )

        return both_heads(logps, problem)

    return loss


class Case(NamedTuple):
    """How a competitor computes the loss, and the package that it needs."""

    make: Callable[[], Callable[[Problem], Any]]
    package: str = "torch"


HEADS = {
    "prefsim": Case(by_prefsim, "prefsim"),
    "plain torch": Case(by_torch),
    "Liger": Case(by_liger, "liger_kernel"),
    "TRL unfused": Case(by_trl_unfused, "trl"),
    "TRL chunked": Case(by_trl_chunked, "trl"),
}


def run_head(name: str, threads: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Run one case in this process; leave its loss and gradients in ``folder``."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    exact = name == "exact"
    loss = by_torch() if exact else HEADS[name].make()
    base = restart_peak()
    problem = make_problem(torch.float64 if exact else torch.float32)
    cpu, wall = [], []
    for _ in range(1 if exact else repeats + 1):
        problem.hidden.grad = problem.weight.grad = None
        start = time.process_time(), time.perf_counter()
        value = loss(problem)
        value.backward()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    peak = resident_mb("VmHWM") - base
    gradients = {
        "hidden": problem.hidden.grad,
        "weight": problem.weight.grad,
        "loss": value.detach().double().reshape(1),
    }
    save_file(gradients, folder / f"{name}-{threads}.safetensors")
    kept = slice(0, None) if exact else slice(1, None)
    return {
        "seconds": statistics.median(cpu[kept]),
        "wall": statistics.median(wall[kept]),
        "memory": peak,
    }


def errors(folder: Path, name: str, threads: int) -> dict[str, float]:
    """Return the errors of the loss and of the gradients against float64.

    The relative one of the loss, and the largest of a gradient over its largest entry.
    """
    from safetensors.torch import load_file

    found, exact = (
        load_file(folder / f"{case}-{t}.safetensors") for case, t in ((name, threads), ("exact", 1))
    )

    def relative(key: str) -> float:
        return float((found[key].double() - exact[key]).abs().max() / exact[key].abs().max())

    return {
        "loss error": relative("loss"),
        "gradient error": max(relative("hidden"), relative("weight")),
    }


def heads(threads: list[int], repeats: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row for each competitor and number of threads.

    Rounds go through all of them in turn, and the median is kept.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exact = in_own_process(__file__, ["--case", "exact", "--folder", name], 1)
        if isinstance(exact, str):
            raise SystemExit(f"float64 plain torch failed: {exact}")
        for count in threads:
            runs: dict[str, list[dict[str, Any]]] = {}
            for _ in range(rounds):
                for case, (_, package) in HEADS.items():
                    if importlib.util.find_spec(package) is None:
                        continue
                    options = [
                        "--case",
                        case,
                        "--folder",
                        name,
                        "--threads",
                        str(count),
                        "--repeats",
                        str(repeats),
                    ]
                    found = in_own_process(__file__, options, count)
                    if isinstance(found, str):
                        print(f"{case} failed: {found}", file=sys.stderr)
                        continue
                    runs.setdefault(case, []).append(found)
            for case, results in runs.items():
                middle = {
                    key: statistics.median(result[key] for result in results) for key in results[0]
                }
                rows.append(
                    {"head": case, "threads": count, **middle, **errors(folder, case, count)}
                )
    for case, (_, package) in HEADS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{case} left out: {package} is not installed", file=sys.stderr)
    return rows


def show_heads(rows: list[dict[str, Any]]) -> None:
    sizes = ", ".join(f"{name} {size:,}" for name, size in SIZES.items())
    print(f"DPO on given hidden states, forward and backward with both heads, float32: {sizes}")
    print(
        f"{'threads':>7} {'head':<14}{'CPU s':>8}{'wall s':>8}{'MB':>7}{'x torch':>9}"
        f"{'x Liger MB':>11}{'loss':>10}{'gradient':>10}"
    )
    for row in rows:
        beside = {other["head"]: other for other in rows if other["threads"] == row["threads"]}
        liger = f"{row['memory'] / beside['Liger']['memory']:.2f}" if "Liger" in beside else "-"
        ratio = (
            f"{row['seconds'] / beside['plain torch']['seconds']:.2f}"
            if "plain torch" in beside
            else "-"
        )
        numbers = (
            f"{row['seconds']:>8.2f}{row['wall']:>8.2f}{row['memory']:>7.0f}{ratio:>9}{liger:>11}"
        )
        print(
            f"{row['threads']:>7}"
            f" {row['head']:<14}{numbers}{row['loss error']:>10.1e}{row['gradient error']:>10.1e}"
        )


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

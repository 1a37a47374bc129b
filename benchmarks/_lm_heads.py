"""The log-probabilities of DPO from given hidden states, forward and backward, by each head.

The loss and its gradients are held against plain torch in float64.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from _processes import in_own_process, resident_mb, restart_peak

__all__ = ["SIZES", "heads", "run_head", "show_heads"]

SCRIPT = str(Path(__file__).with_name("lm.py"))
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
        exact = in_own_process(SCRIPT, ["--case", "exact", "--folder", name], 1)
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
                    found = in_own_process(SCRIPT, options, count)
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

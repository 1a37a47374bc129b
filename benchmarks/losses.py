"""Evaluate and differentiate every loss on 10⁶ pairs in float32, against DPO written by hand.

The measure is DPO with torch's fused log-sigmoid.

Run: ``OMP_NUM_THREADS=1 python benchmarks/losses.py [--pairs N] [--json]``. CPU seconds, median of
the repeats, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _table import Row

from prefsim import losses
from prefsim.losses.registry import container_of, loss_functions


def by_hand(batch: losses.PairLogps) -> torch.Tensor:
    margin = (batch.chosen - batch.ref_chosen) - (batch.rejected - batch.ref_rejected)
    return -torch.nn.functional.logsigmoid(0.1 * margin)


def seconds(loss: Callable[..., Any], batch: losses.PairLogps, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        batch.chosen.grad = batch.rejected.grad = None
        start = time.process_time()
        loss(batch).sum().backward()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def make_batch(n: int) -> losses.PairLogps:
    """Return pairs of up to 300 tokens, the policy some 5 nats from its reference.

    Each token costs 0.2 to 2 nats.
    """
    generator = torch.Generator().manual_seed(0)

    def length() -> torch.Tensor:
        return torch.randint(1, 300, (n,), generator=generator).float()

    def near(log_prob: torch.Tensor, nats: float) -> torch.Tensor:
        return (log_prob + nats * torch.randn(n, generator=generator)).clamp(max=-0.01)

    chosen_length, rejected_length = length(), length()
    ref_chosen = -chosen_length * (0.2 + 1.8 * torch.rand(n, generator=generator))
    ref_rejected = -rejected_length * (0.2 + 1.8 * torch.rand(n, generator=generator))
    chosen, rejected = near(ref_chosen, 5.0), near(ref_rejected, 5.0)
    return losses.PairLogps(
        chosen=chosen.clone().requires_grad_(),
        rejected=rejected.clone().requires_grad_(),
        ref_chosen=ref_chosen,
        ref_rejected=ref_rejected,
        chosen_length=chosen_length,
        rejected_length=rejected_length,
        chosen_score=0.6 + 0.3 * torch.rand(n, generator=generator),
        rejected_score=0.3 * torch.rand(n, generator=generator),
        old_chosen=near(chosen, 1.0),
        old_rejected=near(rejected, 1.0),
    )


def timed(pairs: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Return the seconds of every loss of pairs and those of the yardstick, by its name."""
    torch.set_num_threads(1)
    batch = make_batch(pairs)
    found = {}
    for name, loss in sorted(loss_functions().items()):
        if container_of(loss) is losses.PairLogps:
            # The yardstick is taken again beside each loss, so that a drift of the machine's speed
            # cancels.
            reference = seconds(by_hand, batch, repeats)
            found[name] = seconds(loss, batch, repeats), reference
    return found


def rows(*, quick: bool) -> list[Row]:
    """Return DPO, the middle one and the slowest of all losses beside DPO written by hand."""
    # Small ones are over before a clock is sure of them.
    pairs, repeats = (10**5, 25) if quick else (10**6, 5)
    found = timed(pairs, repeats)
    slow = sorted(found, key=lambda name: found[name][0] / found[name][1])
    above = [name for name in slow if found[name][0] > 3 * found[name][1]]
    said = f"{len(above)} above 3 times: {', '.join(above)}" if above else "none above 3 times"
    shown = (
        ("dpo", "dpo", "dpo", "value and gradient"),
        ("middle", f"the middle of {len(slow)} losses", slow[len(slow) // 2], "value and gradient"),
        ("slowest", "the slowest loss", slow[-1], said),
    )
    return [
        Row(
            f"losses/{key}-{pairs}",
            f"{what}{'' if key == name else f', {name}'}, {pairs:,} pairs",
            "s",
            found[name][0],
            "DPO by hand",
            found[name][1],
            1 / 3,
            certificate,
        )
        for key, what, name, certificate in shown
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = timed(arguments.pairs, arguments.repeats)
    shown = [
        {"loss": name, "seconds": spent, "ratio": spent / yardstick}
        for name, (spent, yardstick) in found.items()
    ]
    if arguments.json:
        print(json.dumps(shown, indent=2))
        return
    print(
        f"{arguments.pairs} pairs, float32, value and gradient, one thread, torch"
        f" {torch.__version__}"
    )
    for row in shown:
        print(
            f"{row['loss']:<16}{row['seconds'] * 1e3:9.1f}"
            f" ms{row['ratio']:8.2f}x{'' if row['ratio'] <= 3 else '  above 3x'}"
        )


if __name__ == "__main__":
    main()

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch = make_batch(arguments.pairs)
    base = seconds(by_hand, batch, arguments.repeats)
    rows = [{"loss": "dpo by hand", "seconds": base, "ratio": 1.0}]
    for name, loss in sorted(loss_functions().items()):
        if container_of(loss) is losses.PairLogps:
            # The yardstick is taken again beside each loss, so that a drift of the machine's speed
            # cancels.
            reference = seconds(by_hand, batch, arguments.repeats)
            spent = seconds(loss, batch, arguments.repeats)
            rows.append({"loss": name, "seconds": spent, "ratio": spent / reference})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"{arguments.pairs} pairs, float32, value and gradient, one thread, torch"
        f" {torch.__version__}"
    )
    for row in rows:
        print(
            f"{row['loss']:<16}{row['seconds'] * 1e3:9.1f}"
            f" ms{row['ratio']:8.2f}x{'' if row['ratio'] <= 3 else '  above 3x'}"
        )


if __name__ == "__main__":
    main()

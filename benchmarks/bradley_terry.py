"""Bradley–Terry maximum likelihood against choix.

1,000 items and a million comparisons, to one certificate.

Every method runs in this process on one BLAS thread. Its certificate, the sup-norm of the gradient
in comparisons, is recomputed from its rewards by one function that belongs to none of them; each
method gets the loosest tolerance with which it meets the target, and then its default. CPU seconds,
best of the repeats.

    python benchmarks/bradley_terry.py [--json]
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _table import Row, beside_best
from scipy.special import expit
from threadpoolctl import threadpool_limits

from prefsim.solvers.likelihood.bradley_terry import count_matrix, fit_bradley_terry

TOLERANCES = [10.0**-k for k in range(0, 15)]


def comparisons(n_items: int, n_comparisons: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw uniform pairs of different items with standard normal rewards, and their labels.

    What is returned are the chosen and the rejected items.
    """
    rng = np.random.default_rng(seed)
    reward = rng.standard_normal(n_items)
    first = rng.integers(n_items, size=n_comparisons)
    second = (first + rng.integers(1, n_items, size=n_comparisons)) % n_items
    wins = rng.random(n_comparisons) < expit(reward[first] - reward[second])
    return np.where(wins, first, second), np.where(wins, second, first)


def certificate(counts: np.ndarray, reward: np.ndarray) -> float:
    """Return the largest absolute entry of the gradient of the log-likelihood at ``reward``."""
    expected = (counts + counts.T) * expit(reward[:, None] - reward[None, :])
    return float(np.abs((counts - expected).sum(axis=1)).max())


def cpu_seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the best CPU time of ``call`` and its last result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def loosest(fit: Callable[[float], np.ndarray], counts: np.ndarray, target: float) -> float | None:
    """Return the loosest tolerance with which ``fit`` meets the target."""
    return next(
        (tolerance for tolerance in TOLERANCES if certificate(counts, fit(tolerance)) <= target),
        None,
    )


def run(
    n_items: int, n_comparisons: int, *, target: float, repeats: int, seed: int, slow: bool
) -> dict[str, Any]:
    """Time every method; the count matrix costs each that needs it the same."""
    import choix

    chosen, rejected = comparisons(n_items, n_comparisons, seed)
    counting, counts = cpu_seconds(lambda: count_matrix(chosen, rejected, n_items), repeats)
    listing, pairs = cpu_seconds(
        lambda: list(zip(chosen.tolist(), rejected.tolist(), strict=True)), 1
    )
    methods: list[tuple[str, float, Callable[[float], np.ndarray], float, int]] = [
        (
            "prefsim fit_bradley_terry",
            counting,
            lambda tolerance: fit_bradley_terry(counts, tolerance=tolerance).reward,
            1e-12,
            repeats,
        ),
        (
            "choix ilsr_pairwise_dense",
            counting,
            lambda tolerance: choix.ilsr_pairwise_dense(counts, tol=tolerance),
            1e-8,
            repeats,
        ),
    ]
    if slow:
        methods.append(
            (
                "choix ilsr_pairwise (list of pairs)",
                listing,
                lambda tolerance: choix.ilsr_pairwise(n_items, pairs, tol=tolerance),
                1e-8,
                1,
            )
        )
    rows: list[dict[str, Any]] = []
    for name, building, fit, default, times in methods:
        matched = loosest(fit, counts, target)
        for setting, tolerance in (("to the target", matched), ("default", default)):
            if tolerance is None:
                rows.append({"method": name, "setting": setting, "tolerance": None})
                continue
            seconds, reward = cpu_seconds(functools.partial(fit, tolerance), times)
            rows.append(
                {
                    "method": name,
                    "setting": setting,
                    "tolerance": tolerance,
                    "grad_norm": certificate(counts, reward),
                    "negative_log_likelihood": float(
                        -np.sum(counts * np.log(expit(reward[:, None] - reward[None, :])))
                    ),
                    "cpu_s": seconds,
                    "cpu_s_from_pairs": seconds + building,
                }
            )
    # Of two rows to the same target, or both as they come.
    ours = {row["setting"]: row for row in rows if row["method"].startswith("prefsim")}
    for row in rows:
        if row["tolerance"] is not None:
            yardstick = ours[row["setting"]]
            row["ratio"] = row["cpu_s"] / yardstick["cpu_s"]
            row["ratio_from_pairs"] = row["cpu_s_from_pairs"] / yardstick["cpu_s_from_pairs"]
    return {
        "items": n_items,
        "comparisons": n_comparisons,
        "seed": seed,
        "target": target,
        "repeats": repeats,
        "count_matrix_cpu_s": counting,
        "list_of_pairs_cpu_s": listing,
        "machine": platform.processor() or platform.machine(),
        "numpy": np.__version__,
        "choix": importlib.metadata.version("choix"),
        "rows": rows,
    }


def rows(*, quick: bool) -> list[Row]:
    """Return ours beside the best of choix, to one certificate, without and with building."""
    items, comparisons, target = (200, 10**5, 1e-6) if quick else (1000, 10**6, 1e-6)
    with threadpool_limits(limits=1):
        result = run(items, comparisons, target=target, repeats=7, seed=0, slow=False)
    matched = [
        row
        for row in result["rows"]
        if row["setting"] == "to the target" and row["tolerance"] is not None
    ]
    ours = next(row for row in matched if row["method"].startswith("prefsim"))
    made = []
    for column, note in (("cpu_s", ""), ("cpu_s_from_pairs", ", with building")):
        made.append(
            beside_best(
                f"bradley_terry/{items}{'-from-pairs' if note else ''}",
                f"Bradley–Terry, {items:,} items, {comparisons:,} comparisons{note}",
                ours[column],
                {row["method"]: row[column] for row in matched if row is not ours},
                limit=1.0,
                certificate=f"largest gradient {ours['grad_norm']:.1e}",
            )
        )
    return made


def table(result: dict[str, Any]) -> str:
    """Return the rows as text; ratios are CPU time over prefsim's."""
    head = (
        f"Bradley–Terry MLE, {result['items']:,} items, {result['comparisons']:,} comparisons (seed"
        f" {result['seed']}), one BLAS thread, best of {result['repeats']}\ncount matrix"
        f" {result['count_matrix_cpu_s'] * 1e3:.1f} ms; target: largest gradient <="
        f" {result['target']:g} comparisons\n\n{'method':36} {'setting':>14} {'CPU ms':>9}"
        f" {'+ building':>11} {'max |gradient|':>15} {'-log L':>14} {'ratio':>7}"
        f" {'+ building':>11}\n"
    )
    lines = []
    for row in result["rows"]:
        if row["tolerance"] is None:
            lines.append(f"{row['method']:36} {row['setting']:>14}  does not meet it")
            continue
        lines.append(
            f"{row['method']:36} {row['setting']:>14} {row['cpu_s'] * 1e3:9.1f}"
            f" {row['cpu_s_from_pairs'] * 1e3:11.1f} {row['grad_norm']:15.1e}"
            f" {row['negative_log_likelihood']:14.3f} {row['ratio']:7.1f}"
            f" {row['ratio_from_pairs']:11.1f}"
        )
    return head + "\n".join(lines)


def main() -> None:
    """Parse the options and print the table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--comparisons", type=int, default=10**6)
    parser.add_argument(
        "--target", type=float, default=1e-6, help="largest gradient allowed, in comparisons"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--skip-slow", action="store_true", help="leave out choix on lists of pairs (half a minute)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with threadpool_limits(limits=1):
        result = run(
            options.items,
            options.comparisons,
            target=options.target,
            repeats=options.repeats,
            seed=options.seed,
            slow=not options.skip_slow,
        )
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()

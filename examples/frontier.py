"""How much sentiment a nat of divergence buys.

A language model trained from scratch, then DPO, IPO and INPO on judged pairs.

A grammar writes reviews, a byte-pair tokenizer and a tiny Llama learn them, and the VADER lexicon
says how positive a review is. Each method then spends the same number of labelled pairs and of
gradient steps at several strengths of its penalty. Run ``make frontier``; the results are in
``results/frontier``, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from attainable import Bounds
from frontier_runs import Settings, everything, read, stored, target, write
from reviews import sentiment

from prefsim.data.formats import atomic_path

LABELS = {
    "dpo": "DPO, β = {}: one draw of pairs from the reference",
    "ipo": "IPO, τ = {}: the same pairs",
    "inpo": "INPO, τ = {}: {} rounds of pairs from itself",
}
PENALTIES = np.geomspace(4.0, 0.04, 60)
BEST_OF = (2, 4, 8, 16, 32)
COLOURS = {"dpo": "tab:blue", "ipo": "tab:orange", "inpo": "tab:green"}


def collected(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return everything that was measured, with the bounds, and write it as JSON and as CSV."""
    rewards = np.asarray(read(stored(folder, None))["rewards"])
    bounds = Bounds(rewards, settings.sharpness)
    optimal = bounds.optimal(PENALTIES)
    targets = {
        (run.method, run.strength): target(run, bounds, settings)
        for run in settings.runs()
        if run.seed == settings.seeds[0]
    }
    rows = []
    for run in sorted(settings.runs()):
        row = read(stored(folder, run))
        row["optimal_reward"] = float(np.interp(row["kl"], optimal[:, 0], optimal[:, 1]))
        row["target_kl"], row["target_reward"] = targets[run.method, run.strength]
        rows.append(row)
    results = {
        "reference_reward": float(bounds.reward.mean()),
        "optimal": optimal.tolist(),
        "best_of": {n: bounds.best_of(n) for n in BEST_OF},
        "at_kl": at_kl(rows, settings),
        "runs": rows,
        "settings": asdict(settings),
    }
    write(folder / "frontier.json", results)
    with (
        atomic_path(folder / "frontier.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return results


def at_kl(
    rows: Sequence[dict[str, Any]], settings: Settings, kl: Sequence[float] = (0.4, 0.65, 1.0, 1.5)
) -> list[dict[str, Any]]:
    """Return the sentiment of each method at the same divergence.

    It is interpolated along the frontier of each seed that reaches there.
    """
    table = []
    for method in LABELS:
        for where in kl:
            values = []
            for seed in settings.seeds:
                points = sorted(
                    (row["kl"], row["reward"])
                    for row in rows
                    if (row["method"], row["seed"]) == (method, seed)
                )
                divergence, reward = np.asarray(points).T
                if divergence[0] <= where <= divergence[-1]:
                    values.append(float(np.interp(where, divergence, reward)))
            if values:
                spread = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
                table.append({"method": method, "kl": where, "seeds": len(values), **spread})
    return table


def figure_of(results: dict[str, Any], settings: Settings) -> Any:
    """Return the figure: sentiment against divergence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    axis = figure.subplots()
    curve = np.asarray(results["optimal"])
    axis.plot(
        *curve.T,
        color="black",
        linewidth=1.6,
        label="the most that any policy can have: reference × exp(sentiment / β), normalised",
    )
    best = np.asarray(list(results["best_of"].values()))
    axis.plot(
        *best.T,
        color="0.45",
        linestyle=":",
        marker="x",
        linewidth=1.0,
        label="best of n samples of the reference",
    )
    for n, place in zip(results["best_of"], best, strict=True):
        axis.annotate(
            f"n = {n}", place, xytext=(7, -9), textcoords="offset points", color="0.35", fontsize=8
        )
    for method, label in LABELS.items():
        strengths = sorted(getattr(settings, method), reverse=True)
        cells = [
            [
                row
                for row in results["runs"]
                if (row["method"], row["strength"]) == (method, strength)
            ]
            for strength in strengths
        ]
        kl, reward = (
            np.asarray([[row[name] for row in cell] for cell in cells]) for name in ("kl", "reward")
        )
        named = label.format(", ".join(f"{strength:g}" for strength in strengths), settings.rounds)
        axis.scatter(kl, reward, s=10, color=COLOURS[method], alpha=0.45, linewidth=0)
        axis.errorbar(
            kl.mean(axis=1),
            reward.mean(axis=1),
            xerr=_range(kl),
            yerr=_range(reward),
            color=COLOURS[method],
            marker="o",
            markersize=5,
            capsize=2,
            linewidth=1.5,
            elinewidth=0.8,
            label=named,
        )
    axis.plot(
        0,
        results["reference_reward"],
        marker="*",
        markersize=14,
        color="black",
        linestyle="none",
        label="reference model",
    )
    furthest = max(row["kl"] for row in results["runs"])
    axis.set_xlim(-0.04 * furthest, max(1.08 * furthest, 1.0))
    axis.set_ylim(min(-0.05, results["reference_reward"] - 0.05), 1.0)
    axis.set_xlabel("KL(policy ‖ reference), nats a review")
    axis.set_ylabel("sentiment of fresh reviews (mean VADER compound, −1 to 1)")
    axis.grid(alpha=0.25)
    axis.legend(loc="lower right", frameon=False, fontsize=8.5)
    figure.suptitle(
        "What a nat of divergence buys: three methods, the same number of labels and of gradient"
        " steps"
    )
    note = (
        f"{settings.pairs:,} labelled pairs and {settings.steps} steps a run; dots:"
        f" {len(settings.seeds)} seeds, bars: their range"
    )
    axis.set_title(note, fontsize=9)
    return figure


def _range(values: np.ndarray) -> np.ndarray:
    mean = values.mean(axis=1)
    return np.stack([mean - values.min(axis=1), values.max(axis=1) - mean])


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace the frontier; the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/frontier"), help="folder of the results"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew instead of going on")
    given = parser.parse_args(arguments)
    settings, start = Settings(), time.perf_counter()
    if given.fresh:
        for name in ("runs", "reference"):
            shutil.rmtree(given.out / name, ignore_errors=True)
        (given.out / "settings.json").unlink(missing_ok=True)
    sentiment([""])  # says at once if the lexicon is missing
    try:
        everything(settings, given.out, jobs=given.jobs)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    results = collected(settings, given.out)
    with atomic_path(given.out / "frontier.png") as partial:
        figure_of(results, settings).savefig(partial, format="png", dpi=150)
    print("sentiment at the same divergence, mean over seeds (least to most):")
    for row in sorted(results["at_kl"], key=lambda row: row["kl"]):
        spread = f"({row['least']:.3f} to {row['most']:.3f}, {row['seeds']} seeds)"
        print(f"  {row['kl']:.2f} nats  {row['method']:5s} {row['mean']:.3f}  {spread}")
    print(f"{given.out / 'frontier.png'}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

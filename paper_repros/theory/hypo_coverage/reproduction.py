"""What offline pairs do not show, and who supplies it: a KL ball, a bounded reward, features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.hypo_coverage.extrapolation import KINDS, LINEAR
from paper_repros.theory.hypo_coverage.rare_response import LEVELS, Paths, Rare, hybrid_paths
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    falling,
    near,
    panels,
    rising,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DELTAS = np.logspace(-1, -8, 15)
STEP = 0.5  # of gradient descent in the full run, and the unit of time of the figure


def reproduce(run: Run) -> Reproduction:
    separation = Rare(1e-4)
    # The same time along the gradient flow, in twenty times longer steps, when it must be quick.
    longer = 20 if run.quick else 1
    paths = hybrid_paths(separation, step=longer * STEP, iterations=20_000 // longer)

    trained = {kind: LINEAR.trained(kind) for kind in KINDS}
    ladder = {
        kind: LINEAR.path(kind, iterations=300 if run.quick else 1000)
        for kind in run.progress(KINDS, "policies")
    }
    found = {kind: float(np.exp(table[0, LINEAR.best])) for kind, table in trained.items()}
    values = {kind: LINEAR.value(table) for kind, table in trained.items()}
    optimal = LINEAR.value(LINEAR.optimum())
    _, *changes = LINEAR.mean_log_probs(trained["log-linear"] - LINEAR.log_reference)

    # Half of the mass on the rare response, and a bounded reward as wrong on the data.
    half = [Rare(delta).measure(0.5) for delta in DELTAS]
    dpo = np.array([measures.gap for measures in half])
    rlhf = np.array(
        [
            Rare(delta).gap_of_bounded_reward(float(measures.error))
            for delta, measures in zip(DELTAS, half, strict=True)
        ]
    )

    criteria = (
        rising("value J over λ", separation.optimal_value() - paths.gap[-1], stated="chosen"),
        falling("divergence from the reference over λ", paths.divergence[-1], stated="chosen"),
        at_most(f"J* − J at λ = {LEVELS[-1]:g}", paths.gap[-1, -1], 1e-3, stated="chosen"),
        at_most(
            "log-linear: distance to π*",
            np.abs(np.exp(trained["log-linear"]) - np.exp(LINEAR.optimum())).max(),
            1e-9,
            stated="derived",
            paper="recovers π*",
        ),
        at_most(
            "log-linear: unseen best response, distance from 0.543490",
            abs(found["log-linear"] - 0.543490),
            1e-6,
            stated="derived",
        ),
        below(
            "log-linear: changes of mean log π of chosen and of rejected, and 0",
            changes,
            0.0,
            stated="paper",
            paper="both fall",
        ),
        near(
            "tabular: unseen best response (0.125 before)",
            found["tabular"],
            0.0031,
            within=5e-5,
            stated="derived",
        ),
        at_most(
            f"tabular: J, distance from 2.976298, where J* = {optimal:.6f}",
            abs(values["tabular"] - 2.976298),
            1e-6,
            stated="derived",
        ),
        at_most(f"gap of RLHF at δ = {DELTAS[-1]:g}", rlhf[-1], 1e-6, stated="chosen"),
        at_least("least gap of worst-case DPO over δ", dpo.min(), 0.5, stated="chosen"),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "experiment": "separation",
            "case": f"λ = {level:g}",
            "π(rare)": float(paths.mass[-1, k]),
            "J* − J": float(paths.gap[-1, k]),
            "KL": float(paths.divergence[-1, k]),
        }
        for k, level in enumerate(LEVELS)
    ]
    table += [
        {
            "experiment": "extrapolation",
            "case": kind,
            "π(unseen best)": found[kind],
            "J": values[kind],
        }
        for kind in KINDS
    ]
    table += [
        {
            "experiment": "worst case",
            "case": f"δ = {delta:.1e}",
            "gap DPO": float(dpo[k]),
            "gap RLHF": float(rlhf[k]),
        }
        for k, delta in enumerate(DELTAS)
    ]
    return Reproduction(draw(paths, longer, dpo, rlhf, ladder), table, criteria)


def draw(
    paths: Paths,
    longer: int,
    dpo: np.ndarray,
    rlhf: np.ndarray,
    ladder: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    figure, axes = panels(
        2,
        2,
        title="Coverage: what offline pairs do not show, a KL ball or a shared feature must supply",
        width=6.25,
        height=4,
    )
    (separated, worst_case), (unseen, changes) = axes
    for k, level in enumerate(LEVELS):
        name = "DPO (λ = 0)" if level == 0 else f"HyPO, λ = {level:g}"
        separated.plot(longer * paths.steps, paths.gap[:, k], lw=2, label=name)
    separated.set(
        yscale="log",
        xlabel=f"gradient steps of {STEP}",
        ylabel="J* − J, units of reward",
        title="An online KL term removes mass the pairs do not see",
    )
    separated.legend(frameon=False)

    curves = {
        "DPO, half the mass there: error on the data → 0": dpo,
        # Below rounding there is nothing to draw on a logarithmic axis.
        "RLHF, bounded reward as wrong on the data": np.maximum(rlhf, 1e-16),
    }
    for name, gaps in curves.items():
        worst_case.plot(DELTAS, gaps, lw=2, marker="o", ms=3, label=name)
    worst_case.set(
        xscale="log",
        yscale="log",
        xlabel="reference mass δ of the rare response",
        ylabel="J* − J, units of reward",
        title="A small error on the data says nothing about DPO's value",
    )
    worst_case.legend(frameon=False, loc="lower right")
    draw_unseen(unseen, ladder)
    draw_changes(changes, *ladder["log-linear"])
    return figure


def draw_unseen(axis: Any, ladder: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw the probability of the best response along training."""
    for color, (kind, (steps, record)) in zip(("C0", "C3"), ladder.items(), strict=True):
        axis.plot(steps, np.exp(record[:, 0]), lw=2, color=color, label=f"{kind} DPO")
    optimal = np.exp(LINEAR.optimum()[0, LINEAR.best])
    axis.axhline(optimal, color="0.5", ls="--", lw=1, label="optimal policy π*")
    axis.set(
        xlabel="gradient steps",
        ylabel="π(best response)",
        ylim=(0, None),
        title="The best response is in no pair: features find it, a table cannot",
    )
    axis.legend(frameon=False)


def draw_changes(axis: Any, steps: np.ndarray, record: np.ndarray) -> None:
    """Draw how the log-probabilities of seen and unseen responses change along training."""
    names = ("unseen best response", "chosen responses (mean)", "rejected responses (mean)")
    for name, change in zip(names, (record - record[0]).T, strict=True):
        axis.plot(steps, change, lw=2, label=name)
    axis.axhline(0.0, color="0.5", ls=":", lw=1)
    axis.set(
        xlabel="gradient steps",
        ylabel="change of log π, nats",
        title="Log-linear DPO: chosen and rejected both fall, the unseen rises",
    )
    axis.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.3))

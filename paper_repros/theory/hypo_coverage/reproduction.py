"""What offline pairs do not show, and who supplies it: a KL ball, a bounded reward, features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.theory.hypo_coverage.extrapolation import KINDS, Extrapolation, drawn
from paper_repros.theory.hypo_coverage.rare_response import (
    LEVELS,
    PROMPTS,
    WORLD,
    Measures,
    Paths,
    Rare,
    exact_divergence,
    gap_bound,
    hybrid_paths,
    pairwise_error,
    sampled_divergence,
)
from prefsim.analysis.coverage import global_coverage
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    falling,
    near,
    panels,
    rising,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DELTAS = np.logspace(-1, -8, 15)
STEP = 0.5  # of gradient descent in the full run, and the unit of time of the figure
Row = dict[str, str | float | int]


# --- HyPO: the divergence by enumeration, from its own samples, from the reference's ---

ONLINE, OFFLINE = "samples of the policy", "samples of the reference"


def hybrid(run: Run) -> dict[str, Paths]:
    """Return the descent for every λ, by how the divergence is known; means over runs."""
    case, runs = Rare(1e-4), 8
    # The same time along the gradient flow, in longer steps: 4,000 of them, or 400.
    longer = 50 if run.quick else 5
    penalties = {
        "enumeration": exact_divergence(case),
        ONLINE: sampled_divergence(case, runs=runs, seed=run.seed),
        OFFLINE: sampled_divergence(case, runs=runs, seed=run.seed, sampler=case.reference),
    }
    paths = {}
    for name in run.progress(penalties, "divergences"):
        found = hybrid_paths(case, penalties[name], step=longer * STEP, iterations=20_000 // longer)
        mean = found if name == "enumeration" else found.mean()
        paths[name] = mean._replace(steps=longer * mean.steps)
    return paths


# --- the worst that DPO may do, and RLHF with a reward as wrong ---


class WorstCase(NamedTuple):
    """For every δ, DPO with half of its mass on the rare response against a bounded reward.

    Attributes
    ----------
    dpo, rlhf
        Measures of the two, ``(δ,)`` each.
    bounds
        The most that the error on the data may cost them, ``(2, δ)``.
    by_pairs
        DPO's error, pair by pair, ``(δ,)``.
    every, ball
        Coverage of all policies, and of the KL ball on whose edge lies a policy with half of its
        mass on the rare response, ``(δ,)``.
    """

    dpo: Measures
    rlhf: Measures
    bounds: np.ndarray
    by_pairs: np.ndarray
    every: np.ndarray
    ball: np.ndarray


def worst_case() -> WorstCase:
    cases = [Rare(delta) for delta in DELTAS]
    dpo = joined([case.measure(0.5) for case in cases])
    pairs = zip(cases, dpo.error, strict=True)
    rlhf = joined([case.bounded(float(error)) for case, error in pairs])
    best = np.array([case.optimal_coverage() for case in cases])
    return WorstCase(
        dpo,
        rlhf,
        np.stack([gap_bound(found.coverage, best, found.error) for found in (dpo, rlhf)]),
        np.array([pairwise_error(c.implicit_reward(0.5), WORLD, c.reference) for c in cases]),
        np.array([global_coverage(case.log_reference) for case in cases]),
        np.array([case.ball_around(0.5) for case in cases]),
    )


def joined(measures: list[Measures]) -> Measures:
    return Measures(*(np.array(column, dtype=float) for column in zip(*measures, strict=True)))


# --- data without the best response ---


class Found(NamedTuple):
    """What DPO finds in one drawn world.

    Attributes
    ----------
    distance
        Largest difference from a probability of π*.
    best
        Probability of the best response, which is in no pair.
    gap
        J* − J.
    changes
        Of the mean log π of chosen and of rejected responses.
    """

    distance: float
    best: float
    gap: float
    changes: np.ndarray


def found_in(world: Extrapolation, kind: str) -> Found:
    trained, optimum = world.trained(kind), world.optimum()
    _, *changes = world.mean_log_probs(trained - world.log_reference)
    return Found(
        float(np.abs(np.exp(trained) - np.exp(optimum)).max()),
        float(np.exp(trained[0, world.best])),
        world.value(optimum) - world.value(trained),
        np.array(changes),
    )


def reproduce(run: Run) -> Reproduction:
    paths = hybrid(run)
    exact, online, offline = paths.values()
    worst = worst_case()
    count = 4 if run.quick else 20
    worlds = [drawn(1 + count * run.seed + i) for i in range(count)]
    found = {
        kind: [found_in(world, kind) for world in worlds]
        for kind in run.progress(KINDS, "policies")
    }
    ladder = {kind: worlds[0].path(kind, iterations=200 if run.quick else 1000) for kind in KINDS}

    criteria = (
        rising("value J over λ", -exact.gap[-1], stated="chosen"),
        falling("divergence from the reference over λ", exact.divergence[-1], stated="chosen"),
        at_most(f"J* − J at λ = {LEVELS[-1]:g}", exact.gap[-1, -1], 1e-3, stated="chosen"),
        near(
            f"{ONLINE}, two to each of {PROMPTS} prompts a step: J* − J over that by enumeration,"
            f" λ = {', '.join(f'{level:g}' for level in LEVELS[1:])}",
            online.gap[-1, 1:] / exact.gap[-1, 1:],
            1.0,
            within=0.2,
            stated="chosen",
            paper="the gradient of the KL is estimated from online samples",
        ),
        rising(
            f"{OFFLINE} in their place, which hardly ever show the rare response: J* − J over λ",
            offline.gap[-1],
            stated="chosen",
        ),
        near(
            "coverage times δ: half the mass on the rare response, the KL ball that it is the edge"
            " of, every policy",
            np.array([worst.dpo.coverage, worst.ball, worst.every]).T * DELTAS[:, None],
            np.tile([0.5, 0.5, 1.0], (len(DELTAS), 1)),
            within=1e-9,
            stated="derived",
        ),
        near(
            "error of DPO on the data over the mean over its pairs, for each δ",
            worst.dpo.error / worst.by_pairs,
            1.0,
            within=1e-9,
            stated="derived",
        ),
        between(
            "gap of worst-case DPO over what its error and coverage allow, for each δ",
            worst.dpo.gap / worst.bounds[0],
            0.1,
            1.0,
            stated="derived",
        ),
        at_most(
            "gap of RLHF over what its error and coverage allow, for each δ",
            worst.rlhf.gap / worst.bounds[1],
            1.0,
            stated="derived",
        ),
        at_most(f"gap of RLHF at δ = {DELTAS[-1]:g}", worst.rlhf.gap[-1], 1e-6, stated="chosen"),
        at_least("least gap of worst-case DPO over δ", worst.dpo.gap, 0.5, stated="chosen"),
        at_most(
            f"log-linear: distance to π* in {count} drawn worlds",
            [case.distance for case in found["log-linear"]],
            1e-9,
            stated="derived",
            paper="recovers π*",
        ),
        below(
            "log-linear: changes of mean log π of chosen and of rejected, and 0",
            [case.changes for case in found["log-linear"]],
            0.0,
            stated="paper",
            paper="both fall",
        ),
        below(
            "tabular: unseen best response, and where it began",
            [case.best for case in found["tabular"]],
            1 / 8,
            stated="derived",
        ),
        at_least(
            "tabular: J* − J",
            [case.gap for case in found["tabular"]],
            0.01,
            stated="chosen",
        ),
    )
    table = [*rows_of_hybrid(paths), *rows_of_worlds(worlds, found), *rows_of_worst_case(worst)]
    return Reproduction(draw(paths, worst, worlds, found, ladder), table, criteria)


def rows_of_hybrid(paths: dict[str, Paths]) -> list[Row]:
    return [
        {
            "experiment": f"separation, divergence by {name}",
            "case": f"λ = {level:g}",
            "π(rare)": float(path.mass[-1, k]),
            "J* − J": float(path.gap[-1, k]),
            "KL": float(path.divergence[-1, k]),
        }
        for name, path in paths.items()
        for k, level in enumerate(LEVELS)
    ]


def rows_of_worlds(worlds: list[Extrapolation], found: dict[str, list[Found]]) -> list[Row]:
    return [
        {
            "experiment": "extrapolation",
            "case": f"{kind}, world {i + 1}",
            "π(unseen best)": case.best,
            "π*(unseen best)": float(np.exp(worlds[i].optimum()[0, worlds[i].best])),
            "J* − J": case.gap,
        }
        for kind, cases in found.items()
        for i, case in enumerate(cases)
    ]


def rows_of_worst_case(worst: WorstCase) -> list[Row]:
    return [
        {
            "experiment": "worst case",
            "case": f"δ = {delta:.1e}",
            "error": float(worst.dpo.error[k]),
            "gap DPO": float(worst.dpo.gap[k]),
            "gap RLHF": float(worst.rlhf.gap[k]),
            "coverage DPO": float(worst.dpo.coverage[k]),
            "coverage RLHF": float(worst.rlhf.coverage[k]),
        }
        for k, delta in enumerate(DELTAS)
    ]


# --- the figure ---


def draw(
    paths: dict[str, Paths],
    worst: WorstCase,
    worlds: list[Extrapolation],
    found: dict[str, list[Found]],
    ladder: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title="Coverage: what offline pairs do not show, a KL ball or a shared feature must supply",
        width=5.6,
        height=4,
    )
    draw_hybrid(axes[0, 0], paths)
    draw_worst_case(axes[0, 1], worst)
    draw_coverage(axes[0, 2], worst)
    draw_unseen(axes[1, 0], worlds[0], ladder)
    draw_changes(axes[1, 1], *ladder["log-linear"])
    draw_worlds(axes[1, 2], worlds, found)
    return figure


def draw_hybrid(axis: Any, paths: dict[str, Paths]) -> None:
    """Draw the value that is lost along the descent."""
    exact, online, offline = paths.values()
    for k, level in enumerate(LEVELS):
        name = "DPO (λ = 0)" if level == 0 else f"HyPO, λ = {level:g}"
        axis.plot(exact.steps, exact.gap[:, k], lw=2, color=f"C{k}", label=name)
        if level > 0:
            sampled = online.steps[5::10], online.gap[5::10, k]
            axis.plot(*sampled, "o", ms=4, mfc="white", color=f"C{k}")
    axis.plot([], [], "o", ms=4, mfc="white", color="0.4", label=f"KL from {ONLINE}")
    label = f"λ = {LEVELS[-1]:g}, {OFFLINE}"
    axis.plot(offline.steps, offline.gap[:, -1], lw=1.5, ls=":", color="black", label=label)
    axis.set(
        yscale="log",
        xlabel=f"gradient steps of {STEP}",
        ylabel="J* − J, units of reward",
        title="An online KL term removes mass the pairs do not see",
    )
    axis.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.8))


def draw_worst_case(axis: Any, worst: WorstCase) -> None:
    """Draw the value that is lost, and what the error and the coverage allow."""
    curves = {
        "DPO, half the mass there": (worst.dpo.gap, worst.bounds[0]),
        "RLHF, bounded reward as wrong on the data": (worst.rlhf.gap, worst.bounds[1]),
    }
    for k, (name, (gaps, bound)) in enumerate(curves.items()):
        # Below rounding there is nothing to draw on a logarithmic axis.
        shown = np.maximum(gaps, 1e-16)
        axis.plot(DELTAS, shown, lw=2, marker="o", ms=3, color=f"C{k}", label=name)
        axis.plot(DELTAS, bound, lw=1, ls="--", color=f"C{k}")
    axis.plot([], [], lw=1, ls="--", color="0.4", label="bound by coverage and error")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="reference mass δ of the rare response",
        ylabel="J* − J, units of reward",
        title="A small error on the data says nothing about DPO's value",
    )
    axis.legend(frameon=False, loc="lower right", fontsize=8)


def draw_coverage(axis: Any, worst: WorstCase) -> None:
    """Draw the ratios to the reference."""
    curves = {
        "every policy": (worst.every, "0.5", ":"),
        "DPO, half the mass there": (worst.dpo.coverage, "C0", "-"),
        "RLHF, bounded reward": (worst.rlhf.coverage, "C1", "-"),
    }
    for name, (coverage, color, style) in curves.items():
        axis.plot(DELTAS, coverage, lw=2, ls=style, color=color, label=name)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="reference mass δ of the rare response",
        ylabel="coverage, largest π/π_ref",
        title="What differs is the coverage that each needs",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_unseen(
    axis: Any, world: Extrapolation, ladder: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Draw the probability of the best response along training."""
    for color, (kind, (steps, record)) in zip(("C0", "C3"), ladder.items(), strict=True):
        axis.plot(steps, np.exp(record[:, 0]), lw=2, color=color, label=f"{kind} DPO")
    optimal = np.exp(world.optimum()[0, world.best])
    axis.axhline(optimal, color="0.5", ls="--", lw=1, label="optimal policy π*")
    axis.set(
        xlabel="gradient steps",
        ylabel="π(best response)",
        ylim=(0, None),
        title="The best response is in no pair: features find it",
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
        title="Log-linear DPO: chosen and rejected both fall",
    )
    axis.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.57))


def draw_worlds(axis: Any, worlds: list[Extrapolation], found: dict[str, list[Found]]) -> None:
    """Draw what is found of the unseen best response in every world."""
    optimal = [float(np.exp(world.optimum()[0, world.best])) for world in worlds]
    axis.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1, label="π*")
    for color, (kind, cases) in zip(("C0", "C3"), found.items(), strict=True):
        axis.plot(optimal, [case.best for case in cases], "o", color=color, label=f"{kind} DPO")
    axis.axhline(1 / 8, color="0.5", ls=":", lw=1, label="before training")
    axis.set(
        xlabel="π*(best response)",
        ylabel="π(best response) after training",
        title=f"{len(worlds)} drawn worlds",
    )
    axis.legend(frameon=False, fontsize=8)

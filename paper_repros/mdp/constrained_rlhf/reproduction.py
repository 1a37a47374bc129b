"""Proxy points, constrained optima against fixed weights, learned multipliers, and searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.constrained_rlhf.experiments import (
    NAMES,
    SCALES,
    DrawnWorlds,
    Exact,
    Reach,
    Searches,
    Trained,
    beyond_the_squash,
    learn,
    search,
    solve,
    solve_drawn,
)
from paper_repros.mdp.constrained_rlhf.overoptimised import MIXINGS, STEPS, STRONGEST, World
from prefsim.papers import (
    Criterion,
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    falling,
    near,
    panels,
)
from prefsim.papers.figures import BLUE, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, VERMILION)
Rows = list[dict[str, str | float | int]]


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    world = World.of(np.array(MIXINGS))
    exact = solve(world)
    drawn = solve_drawn(12 if run.quick else 100, rng)
    trained = learn(exact.joint, 1 if run.quick else 5, 400 if run.quick else 1500, rng)
    reach = beyond_the_squash(700 if run.quick else 4000, rng)
    which = MIXINGS[1:2] if run.quick else MIXINGS
    searches = {
        mixing: search(mixing, exact.joint.achieved[MIXINGS.index(mixing)], rng, quick=run.quick)
        for mixing in run.progress(which, "searches")
    }
    criteria = (
        *criteria_of_optima(exact, drawn),
        *criteria_of_trainings(trained, reach),
        *criteria_of_searches(searches, exact),
    )
    table = rows_of(exact, world, drawn, trained, reach, searches)
    return Reproduction(draw(exact, drawn, trained, searches), table, criteria)


def criteria_of_optima(exact: Exact, drawn: DrawnWorlds) -> tuple[Criterion, ...]:
    """Return what is expected of exact optima, in the textbook worlds and in drawn ones."""
    gold, joint = exact.gold, exact.joint
    n = len(drawn.change["PPO-SAT"])
    return (
        falling(
            "step of the joint proxy point, as the rewards share more",
            joint.step,
            stated="chosen",
            paper="correlation between rewards moves the proxy points",
        ),
        near(
            "gold of ξ-PPO and μ-PPO at the joint proxy point less that of the path there",
            [gold["ξ-PPO"] - joint.gold, gold["μ-PPO"] - joint.gold],
            0.0,
            within=1e-6,
            stated="derived",
        ),
        at_most("dual less primal, and gradient of the dual", exact.gap, 1e-8, stated="derived"),
        at_most(
            "margin of thresholds out of reach less that of its direction",
            exact.margin_error,
            1e-9,
            stated="derived",
        ),
        below(
            "gold: the strongest fixed weights below ξ-PPO",
            gold["fixed weights"],
            gold["ξ-PPO"],
            by=0.02,
            stated="paper",
            paper="constrained methods beat PPO in the final evaluation score",
        ),
        at_most(
            "best saturated reward less its threshold", exact.ceiling_error, 0.0, stated="derived"
        ),
        at_most("All-PPO: reward beyond a threshold", exact.excess, 1e-8, stated="paper"),
        at_least(
            f"{n} drawn worlds: least gold that ξ-PPO has over fixed weights",
            -drawn.change["fixed weights"],
            0.01,
            stated="paper",
        ),
        at_least(
            f"{n} drawn worlds: least gold that PPO-SAT has over ξ-PPO",
            drawn.change["PPO-SAT"],
            0.1,
            stated="chosen",
            paper="constrained methods beat PPO-SAT",
        ),
        at_most(
            f"{n} drawn worlds: largest change of gold with thresholds × 0.9",
            drawn.change["ξ-PPO × 0.9"],
            -0.01,
            stated="paper",
        ),
        at_least(
            f"{n} drawn worlds: share in which thresholds × 1.1 gain gold",
            np.mean(drawn.change["ξ-PPO × 1.1"] > 0),
            0.6,
            stated="chosen",
            paper="changes by a tenth either way hurt",
        ),
    )


def criteria_of_trainings(trained: Trained, reach: Reach) -> tuple[Criterion, ...]:
    """Return what is expected of multipliers that are learned along."""
    point = trained.by_world(trained.gold)[:, 0]
    return (
        at_most(
            "trained with exact rewards: ratios of the weights less the dual's multipliers",
            trained.ratio_error,
            1e-3,
            stated="derived",
        ),
        at_most(
            "first step with fixed weights: log-probabilities less those of the natural gradient",
            trained.first_step_error,
            1e-12,
            stated="derived",
        ),
        *(
            near(
                f"{name}: gold less that of the proxy point, after a third of the training and all",
                [trained.late_gold(name, part) - point for part in (1 / 3, 1.0)],
                0.0,
                within=0.1,
                stated="chosen",
                paper="three times longer training stays stable",
            )
            for name in ("ξ-PPO", "μ-PPO")
        ),
        below(
            "gold after training: fixed weights below ξ-PPO, worlds of ρ = .5 and .9",
            trained.late_gold("fixed weights")[1:],
            trained.late_gold("ξ-PPO")[1:],
            by=0.5,
            stated="paper",
        ),
        at_most(
            "ξ-PPO: how far the first reward still moves in the last third",
            trained.swing("ξ-PPO"),
            0.3,
            stated="chosen",
        ),
        at_least(
            "ξ-PPO with normalised advantages: the same, ρ = .9",
            trained.swing("ξ-PPO, normalised")[-1],
            0.8,
            stated="chosen",
            paper="stable (with normalised advantages)",
        ),
        at_least(
            "thresholds whose multipliers differ by 2.5, tanh, β = 1: largest distance at the end",
            reach.squashed.max(),
            1.0,
            stated="derived",
        ),
        at_most(
            "the same without a squash, and with one at β = .2",
            [reach.free, reach.smaller_penalty],
            0.01,
            stated="derived",
        ),
    )


def criteria_of_searches(searches: dict[float, Searches], exact: Exact) -> tuple[Criterion, ...]:
    """Return what is expected of thresholds that were searched for."""
    point = [exact.joint.gold[MIXINGS.index(mixing)] for mixing in searches]
    return (
        at_most(
            "Nelder–Mead: score less the gold of the thresholds that it found",
            [each.error for each in searches.values()],
            1e-6,
            stated="derived",
        ),
        at_least(
            "Nelder–Mead, every trial solved exactly: gold",
            [each.exact.score for each in searches.values()],
            -0.02,
            stated="chosen",
        ),
        below(
            "gold of the joint proxy point below the best trial within one training",
            point,
            [each.single.found.score for each in searches.values()],
            by=0.02,
            stated="chosen",
            paper="thresholds can be found in one training",
        ),
    )


def rows_of(
    exact: Exact,
    world: World,
    drawn: DrawnWorlds,
    trained: Trained,
    reach: Reach,
    searches: dict[float, Searches],
) -> Rows:
    """Return the numbers behind the figure."""
    correlation = world.correlation()
    rows: Rows = []
    for k, mixing in enumerate(MIXINGS):
        for name, point in (
            ("joint proxy point", exact.joint),
            ("proxy point of the first alone", exact.first),
            ("proxy point of the second alone", exact.second),
        ):
            first, second = (float(x) for x in point.achieved[k])
            gold = float(point.gold[k])
            rows.append({"ρ": mixing, "what": name, "J1": first, "J2": second, "gold": gold})
        golds = {name: exact.gold[name][k] for name in NAMES}
        golds |= {"reference": exact.joint.along[k, 0]}
        golds |= {"ξ-PPO at each reward's own proxy point": exact.individually[k]}
        golds |= {f"{n}, trained": trained.late_gold(n)[k] for n in trained.runs}
        if mixing in searches:
            found = searches[mixing]
            golds |= {
                f"Nelder–Mead, {len(found.exact.scores)} exact trials": found.exact.score,
                f"Nelder–Mead in one training, {found.single.steps} steps, best trial": (
                    found.single.found.score
                ),
                "Nelder–Mead in one training, at its end": found.single.gold,
            }
        rows += [{"ρ": mixing, "what": name, "gold": float(g)} for name, g in golds.items()]
        facts = {"correlation of the rewards under the reference": correlation[k]}
        facts |= {"J1 still moves, ξ-PPO": trained.swing("ξ-PPO")[k]}
        facts |= {"J1 still moves, normalised": trained.swing("ξ-PPO, normalised")[k]}
        facts |= {"distance from far multipliers, tanh": reach.squashed[k]}
        rows += [{"ρ": mixing, "what": name, "value": float(x)} for name, x in facts.items()]
    for name, change in drawn.change.items():
        what = f"{len(change)} drawn worlds: gold of {name} over the joint proxy point"
        for part, value in (("mean", change.mean()), ("least", change.min())):
            rows.append({"ρ": "drawn", "what": f"{what}, {part}", "value": float(value)})
    return rows


# --- the figure ---


def draw(
    exact: Exact, drawn: DrawnWorlds, trained: Trained, searches: dict[float, Searches]
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title="Rewards held at their joint proxy points keep the gold that fixed weights lose",
        width=5.4,
    )
    draw_paths(axes[0, 0], exact)
    draw_methods(axes[0, 1], exact)
    draw_training(axes[0, 2], trained)
    draw_normalised(axes[1, 0], trained)
    draw_drawn(axes[1, 1], drawn)
    draw_searches(axes[1, 2], searches, exact)
    return figure


def draw_paths(axes: Axes, exact: Exact) -> None:
    strength = np.linspace(0.0, STRONGEST, STEPS)
    for k, (mixing, colour) in enumerate(zip(MIXINGS, COLOURS, strict=True)):
        axes.plot(strength, exact.joint.along[k], color=colour, lw=2)
        at = strength[exact.joint.step[k]]
        axes.plot(at, exact.joint.gold[k], "o", color=colour, ms=8)
        label = f"ρ = {mixing:g}"
        place = (STRONGEST, exact.joint.along[k, -1])
        axes.annotate(
            label, place, xytext=(4, 0), textcoords="offset points", color=colour, va="center"
        )
    axes.set(
        xlabel="weight of the two rewards together (β = 1)",
        ylabel="expected gold",
        xlim=(0, STRONGEST * 1.16),
        title="Gold falls beyond a joint proxy point (dots),\nearlier if rewards share more (ρ)",
    )


def draw_methods(axes: Axes, exact: Exact) -> None:
    place = np.arange(len(NAMES))[::-1]
    for k, (mixing, colour) in enumerate(zip(MIXINGS, COLOURS, strict=True)):
        axes.plot(
            [exact.gold[name][k] for name in NAMES],
            place,
            "osD"[k],
            color=colour,
            ms=7,
            label=f"ρ = {mixing:g}",
        )
    axes.set_yticks(place, NAMES)
    axes.set(
        xlabel="expected gold",
        title="Constraints beat fixed weights;\nrewards that saturate beat both here",
    )
    axes.legend(loc="center left")


def draw_training(axes: Axes, trained: Trained) -> None:
    styles = {"ξ-PPO": "-", "μ-PPO": ":", "fixed weights": "--"}
    for name, style in styles.items():
        run = trained.runs[name]
        gold = trained.by_world(run.gold).mean(axis=-1)
        for k, colour in enumerate(COLOURS):
            axes.plot(run.steps, gold[:, k], style, color=colour, lw=1.6)
        axes.plot([], [], style, color="0.3", label=name)
    axes.set(
        xlabel="steps of training (β = 0.2)",
        ylabel="expected gold, mean of seeds",
        title="Learned multipliers stay at the proxy point\n(colours as on the left)",
    )
    # Between the lines of the two worlds.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.12))


def draw_normalised(axes: Axes, trained: Trained) -> None:
    threshold = trained.thresholds[-1, 0]
    for name, colour in (("ξ-PPO, normalised", VERMILION), ("ξ-PPO", BLUE)):
        run = trained.runs[name]
        label = "each advantage normalised" if "normalised" in name else "advantages as they are"
        axes.plot(run.steps, run.achieved[:, -1, 0] - threshold, color=colour, lw=1.4, label=label)
    axes.axhline(0.0, color="0.4", lw=1)
    axes.set(
        xlabel="steps of training",
        ylabel="first reward less its threshold",
        ylim=(-1.2, 1.6),
        title="ρ = 0.9, one seed: normalised advantages\nforget the penalty, and do not settle",
    )
    axes.legend(loc="upper right")


def draw_drawn(axes: Axes, drawn: DrawnWorlds) -> None:
    names = ("fixed weights", *(f"ξ-PPO × {scale}" for scale in SCALES), "PPO-SAT")
    for y, name in enumerate(reversed(names)):
        change = drawn.change[name]
        axes.plot(change, np.full(len(change), y), "o", color=BLUE, alpha=0.35, ms=5)
        axes.plot(change.mean(), y, "k|", ms=22, mew=2)
    axes.axvline(0.0, color="0.4", lw=1)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set(
        xlabel="gold less that of the joint proxy point (bar: mean)",
        ylim=(-0.5, len(names) - 0.5),
        title=f"{len(change)} drawn worlds: lower thresholds hurt,\nhigher ones mostly help",
    )
    axes.set_xscale("symlog", linthresh=0.1)
    ticks = (-3.0, -1.0, -0.3, -0.1, 0.0, 0.1, 0.3)
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()


def draw_searches(axes: Axes, searches: dict[float, Searches], exact: Exact) -> None:
    for mixing, found in searches.items():
        colour = COLOURS[MIXINGS.index(mixing)]
        for scores, style in ((found.exact.scores, "-"), (found.single.found.scores, ":")):
            best = np.maximum.accumulate(scores)
            axes.plot(np.arange(1, len(best) + 1), best, style, color=colour, lw=1.8)
        axes.axhline(exact.joint.gold[MIXINGS.index(mixing)], color=colour, lw=0.8, ls="--")
    for label, style in (
        ("every trial solved exactly", "-"),
        ("trials within one training", ":"),
        ("joint proxy point", "--"),
    ):
        axes.plot([], [], style, color="0.3", label=label)
    axes.set(
        xlabel="trials of thresholds",
        ylabel="best expected gold so far",
        ylim=(-1.6, 0.05),
        title="Nelder–Mead finds thresholds that\nno weights on the path have (colours: ρ)",
    )
    axes.legend(loc="lower right")

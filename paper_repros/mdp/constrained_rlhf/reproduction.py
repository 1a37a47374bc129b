"""Proxy points, constrained optima against fixed weights, learned multipliers, and searches."""

from __future__ import annotations

import numpy as np

from paper_repros.mdp.constrained_rlhf.experiments import (
    NAMES,
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
from paper_repros.mdp.constrained_rlhf.figure import CAPTION, draw
from paper_repros.mdp.constrained_rlhf.overoptimised import MIXINGS, World
from prefsim.papers import (
    Criterion,
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    falling,
    near,
)

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
    cut = (
        "12 drawn worlds rather than 100, 1 seed of each training rather than 5 and less than a"
        " third of its steps (700 rather than 4,000 for thresholds beyond the squash), thresholds"
        " searched for one ρ rather than three, to 1e-2 rather than 1e-4 and in half of the trials"
    )
    return Reproduction(draw(exact, drawn, trained, searches), table, criteria, CAPTION, cut)


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

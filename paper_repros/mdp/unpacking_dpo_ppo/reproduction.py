"""Four factors in full, for three kinds of policies; labels that run out; PPO as it is trained."""

from __future__ import annotations

import numpy as np

from paper_repros.mdp.unpacking_dpo_ppo.figure import caption, draw
from paper_repros.mdp.unpacking_dpo_ppo.study import (
    CLASSES,
    FACTORS,
    NAMES,
    RICH,
    SHARED,
    TABLE,
    Curve,
    Replicates,
    curve_of,
    distance_of_dpo,
    effect,
    factorial_of,
)
from paper_repros.mdp.unpacking_dpo_ppo.training import Trained, as_trained
from prefsim.analysis.factorial import Contrast, Factorial, MainEffect, contrast, main_effects
from prefsim.analysis.intervals import mean_half_width
from prefsim.papers import Reproduction, Run, at_least, at_most, below, between, near
from prefsim.papers.criteria import Criterion

Row = dict[str, str | float]


def reproduce(run: Run) -> Reproduction:
    count, trees = (60, 1) if run.quick else (400, 6)
    rng = np.random.default_rng(run.seed)
    worlds = Replicates.draw(count, rng)
    # The effects that are small next to their intervals are those of the class between.
    some = worlds.first(30) if run.quick else worlds
    found = {
        name: factorial_of(worlds if name == SHARED else some, kind)
        for name, kind in run.progress(list(CLASSES.items()), "kinds of policies")
    }
    labels = (50, 400, 3200) if run.quick else (50, 200, 800, 3200)
    curves = [
        curve_of(rng, each, labels, 14 if run.quick else 60)
        for each in run.progress((0.3, 1.0), "labels")
    ]
    seeds = [1000 * run.seed + i for i in range(trees)]
    steps, rounds = (200, 50) if run.quick else (300, 80)
    trained = as_trained(worlds, run.progress(seeds, "token trees"), steps=steps, rounds=rounds)
    criteria = (
        *criteria_of_order(found),
        *criteria_of_kinds(found),
        *criteria_of_labels(curves, worlds),
        *criteria_of_training(trained, distance_of_dpo(worlds)),
    )
    table = [*rows_of(found), *rows_of_labels(curves), *rows_of_training(trained)]
    cut = (
        "60 worlds rather than 400 and 30 where policies are tables or rich, 14 worlds a number of"
        " labels rather than 60, one token tree rather than six and fewer steps on it"
    )
    return Reproduction(draw(found, curves, trained), table, criteria, caption(found, curves), cut)


# --- what is measured ---


def with_good_model(found: Factorial) -> Contrast:
    """Return PPO less DPO on clean labels with the good reward model, on all prompts."""
    return contrast(
        found.at(flips=0.05, reward_features=6, prompts="all"), {"algorithm": ("PPO", "DPO")}
    )


# --- criteria ---


def criteria_of_order(found: dict[str, Factorial]) -> tuple[Criterion, ...]:
    """Return the published order, where policies are as rich as the worse reward model."""
    data, algorithm, model, prompts = (effect(found[SHARED], name) for name in FACTORS)
    where = f"policies of {SHARED}"
    return (
        below(
            f"{where}: effects of prompts, of the algorithm and of the reward model, the last two"
            " below that of data",
            [prompts.size, algorithm.size, model.size],
            [algorithm.size, data.size, data.size],
            stated="paper",
            paper="data > algorithm > reward model > prompts",
        ),
        at_most(
            f"{where}: effect of the algorithm less that of the reward model, the same by counting",
            abs(algorithm.size - model.size),
            1e-9,
            stated="derived",
            paper="algorithm above reward model",
        ),
        at_least(
            f"{where}: effect of the algorithm less the half width of its interval",
            algorithm.size - algorithm.half_width,
            0.0,
            stated="paper",
            paper="PPO above DPO",
        ),
    )


def criteria_of_kinds(found: dict[str, Factorial]) -> tuple[Criterion, ...]:
    """Return what becomes of the order with other policies, which decide what PPO is worth."""
    table, rich = found[TABLE], found[RICH]
    sizes = {name: effect(table, name).size for name in FACTORS}
    algorithm, model = effect(rich, "algorithm"), effect(rich, "reward_features")
    return (
        below(
            "tables: effects of data, reward model and prompts, each below that of the algorithm",
            [sizes[name] for name in ("flips", "reward_features", "prompts")],
            sizes["algorithm"],
            stated="derived",
            paper="data first",
        ),
        below(
            "tables: effect of the reward model, below that of prompts",
            sizes["reward_features"],
            sizes["prompts"],
            stated="derived",
            paper="reward model above prompts",
        ),
        at_most(
            f"policies of {RICH}: effect of the algorithm and the half width of its interval",
            algorithm.size + algorithm.half_width,
            0.0,
            stated="derived",
            paper="PPO above DPO",
        ),
        at_most(
            f"policies of {RICH}: sum of the effects of algorithm and reward model; effect of"
            " prompts; PPO less DPO with the good reward model (by derivation 0)",
            np.abs(
                [
                    algorithm.size + model.size,
                    effect(rich, "prompts").size,
                    *with_good_model(rich).replicates,
                ]
            ),
            1e-6,
            stated="derived",
        ),
        at_least(
            "PPO less DPO with the good reward model on all prompts, mean for each kind",
            [with_good_model(each).size for each in found.values()],
            -0.01,
            stated="paper",
            paper="PPO above DPO",
        ),
        near(
            "main effects, and ranges of the levels' means, less the sizes of contrasts",
            [
                np.subtract([each.size, np.ptp(each.means)], abs(effect(kind, each.factor).size))
                for kind in found.values()
                for each in main_effects(kind)
            ],
            0.0,
            within=1e-9,
            stated="derived",
        ),
        between(
            "effect of data, for each kind",
            [effect(each, "flips").size for each in found.values()],
            0.08,
            0.4,
            stated="chosen",
        ),
    )


def criteria_of_labels(curves: list[Curve], worlds: Replicates) -> tuple[Criterion, ...]:
    few, many = ([curve.difference.mean(axis=1)[at] for curve in curves] for at in (0, -1))
    return (
        near(
            "share of labels that follow the reward, less what 5 % and 30 % flips leave of it,"
            " where the better response comes first and second",
            [each for flips in FACTORS["flips"] for each in worlds.excess_of_right(flips)],
            0.0,
            within=0.025,
            stated="derived",
        ),
        at_least(
            "tables, PPO on labelled prompts less DPO, 50 pairs, nearly linear reward: mean",
            few[0],
            0.08,
            stated="chosen",
            paper="PPO above DPO",
        ),
        at_most(
            "the same with 3200 pairs, for the reward that is not linear",
            many[1],
            -0.05,
            stated="chosen",
            paper="PPO above DPO",
        ),
        below(
            "the same for both rewards: with 3200 pairs below that with 50",
            many,
            few,
            by=0.05,
            stated="derived",
        ),
    )


def criteria_of_training(found: Trained, of_dpo: float) -> tuple[Criterion, ...]:
    exact, drawn = (np.array(each)[:, -1] for each in (found.exact, found.drawn))
    return (
        at_most(
            "tables: gain of PPO trained with clipped ratios less that of the optimum, worst world",
            found.worst_gain,
            0.01,
            stated="derived",
        ),
        at_most(
            "log-linear policies: gradient of PPO's loss at the optimum, over that at the start",
            found.slope / found.start_slope,
            1e-6,
            stated="derived",
        ),
        at_most(
            "log-linear policies and token trees: gradient of PPO's loss at the start, from that of"
            " the objective, relative",
            found.start_error,
            1e-9,
            stated="derived",
        ),
        near("token trees: scores without an end", found.cut_off, -10.0, within=0, stated="paper"),
        at_most(
            "DPO's loss, fitted, from the tables' DPO: largest difference of probabilities",
            of_dpo,
            1e-5,
            stated="derived",
        ),
        at_most(
            "token trees, all draws and true values: distance from the optimum after"
            f" {len(found.exact[0]) - 1} steps",
            exact,
            0.02,
            stated="chosen",
        ),
        at_most(
            f"token trees, {len(found.drawn[0]) - 1} rounds of 512 draws with a critic: distance"
            " from the optimum",
            drawn,
            0.1,
            stated="chosen",
        ),
    )


# --- the table ---


def row_of(what: str, measure: str, value: float, half_width: float | str = "") -> Row:
    return {"of": what, "measure": measure, "value": value, "± 95 %": half_width}


def rows_of(found: dict[str, Factorial]) -> list[Row]:
    rows = []
    for kind, each in found.items():
        what = kind if kind == TABLE else f"policies of {kind}"
        for name in FACTORS:
            size = effect(each, name)
            rows.append(row_of(what, NAMES[name], size.size, size.half_width))
        for name in ("reward_features", "prompts"):
            size = effect(each.at(algorithm="PPO"), name)
            rows.append(row_of(what, f"{NAMES[name]}, in PPO", size.size, size.half_width))
        good = with_good_model(each)
        rows.append(row_of(what, "PPO less DPO, good reward model", good.size, good.half_width))
        first = largest(each)
        rows.append(row_of(what, f"largest effect: {NAMES[first.factor]}", first.size))
    return rows


def largest(found: Factorial) -> MainEffect:
    """Return the largest main effect."""
    return max(main_effects(found), key=lambda each: each.size)


def rows_of_labels(curves: list[Curve]) -> list[Row]:
    return [
        row_of(
            f"{TABLE}, non-linear part {curve.non_linear:g}, {pairs} pairs",
            "PPO less DPO on labelled prompts",
            float(row.mean()),
            mean_half_width(row),
        )
        for curve in curves
        for pairs, row in zip(curve.labels, curve.difference, strict=True)
    ]


def rows_of_training(found: Trained) -> list[Row]:
    return [
        row_of(f"token tree {i}", f"distance from the optimum, {what}", path[-1])
        for what, paths in (("all draws", found.exact), ("drawn, with a critic", found.drawn))
        for i, path in enumerate(paths)
    ]

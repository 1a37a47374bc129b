"""Follow DPO, ORPO and ASFT on one pair, and compare how hard they pull and push.

With a feature that the responses share, and with a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.direct.asft.likelihoods import (
    ALIGNMENT,
    ASFT,
    DPO,
    METHODS,
    ORPO,
    SHARED_FEATURE,
    TABULAR,
    WEAK_ASFT,
    gradients_of_asft,
    gradients_of_orpo,
    one_token_pairs,
    prob_gradients,
    ratio_field,
    sharing_a_feature,
    trajectory,
)
from prefsim.papers import Reproduction, Run, at_least, at_most, below, holds, near, panels
from prefsim.papers.figures import GREEN, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prefsim.papers.criteria import Criterion

FEATURES = {"shared": SHARED_FEATURE, "table": TABULAR}
TITLES = {"shared": "shared feature", "table": "one logit per response"}
STYLES = {
    # Drawn in this order: the dashes of the rejected response show what is below them.
    "chosen": {"color": GREEN, "ls": "-", "lw": 2.0},
    "other": {"color": GREY, "ls": "-", "lw": 2.0},
    "rejected": {"color": VERMILION, "ls": (0, (4, 2)), "lw": 2.4},
}
PLACES = {"chosen": 0, "rejected": 1, "other": 2}  # in a trajectory
# Differences in a shared feature that are drawn, in a full run and in a quick one, and gradient
# steps with each; steps of DPO, and of the others.
GAPS, DRAWN_STEPS = (16, 4), 40
STEPS = ((2000, 500), (200, 200))
RATIOS = (0.1, 0.2, 0.5, 1, 2, 5, 10)

Paths = dict[tuple[str, str], np.ndarray]
Fields = dict[str, tuple[np.ndarray, np.ndarray]]


def reproduce(run: Run) -> Reproduction:
    # DPO has not come to rest when the others have.
    long, short = STEPS[run.quick]
    wanted = [(space, method) for space in FEATURES for method in METHODS]
    paths = {
        (space, method): trajectory(FEATURES[space], method, long if method == DPO else short)
        for space, method in run.progress(wanted, "trajectories")
    }
    gaps = np.random.default_rng(run.seed).uniform(0.2, 0.9, GAPS[run.quick])
    drawn = {
        method: np.array([trajectory(sharing_a_feature(gap), method, DRAWN_STEPS) for gap in gaps])
        for method in METHODS
    }
    fields = {"DPO": ratio_field(METHODS[DPO]), "ASFT alignment": ratio_field(ALIGNMENT)}
    criteria = (
        *judge_ends(paths),
        *judge_paths(paths),
        *judge_drawn(drawn),
        judge_gradients(np.random.default_rng(run.seed).uniform(0.02, 0.98, (2, 100))),
        *judge_fields(fields),
    )
    table = [
        {
            "policy": space,
            "method": method,
            "steps": len(path) - 1,
            "π(w)": round(float(path[-1, 0]), 6),
            "π(l)": round(float(path[-1, 1]), 6),
            "π(other)": round(float(path[-1, 2]), 6),
        }
        for (space, method), path in paths.items()
    ]
    caption = (
        "Six panels on the left: log-probabilities of three responses along gradient descent on"
        f" one pair, the first {short} steps from the uniform policy (dotted). The chosen response"
        " should rise and the rejected one fall. Above, the chosen and the rejected response share"
        " a feature, so that they rise or fall together; below, every response has its own logit."
        " On the right, how hard a loss pushes the rejected probability down, over how hard it"
        " pulls the chosen one up: red where it pushes harder, which DPO does below the diagonal"
        " and ASFT where the two probabilities sum to more than one."
    )
    (long_full, short_full), (long_quick, short_quick) = STEPS
    cut = (
        f"{long_quick} steps of DPO rather than {long_full} and {short_quick} of the others rather"
        f" than {short_full}, {GAPS[1]} drawn shared features rather than {GAPS[0]}"
    )
    figure = draw(paths, fields, short)
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def judge_ends(paths: Paths) -> list[Criterion]:
    """Return how near each method comes to where its trajectory leads."""
    dpo = paths["shared", DPO]
    ends = {
        f"{DPO}: π(w) after 100 steps": (dpo[100, 0], 0.2834),
        f"{ORPO}: π(w) at the end": (paths["shared", ORPO][-1, 0], 0.3765),
        f"{ASFT}: π(w) at the end": (paths["shared", ASFT][-1, 0], 0.3628),
        f"{WEAK_ASFT}: π(w) at the end": (paths["shared", WEAK_ASFT][-1, 0], 0.3769),
    }
    criteria = [
        near(f"shared feature, {name}", end, expected, within=1e-4, stated="derived")
        for name, (end, expected) in ends.items()
    ]
    if len(dpo) > 2000:
        shares = dpo[-1, :2] / [8.3e-5, 8e-6]
        name = "shared feature, DPO, 2000 steps: π(w) and π(l) over 8.3e-5 and 8e-6"
        criteria.append(near(name, shares, 1.0, within=0.02, stated="derived"))
    return criteria


def judge_paths(paths: Paths) -> list[Criterion]:
    """Return which methods raise the chosen response and which lower it."""
    chosen = {method: paths["shared", method][:, 0] for method in METHODS}
    in_table = paths["table", DPO][:, 0]
    kept = [
        at_least(
            f"shared feature, {method}: π(w) along the path, against its start",
            chosen[method],
            chosen[method][0],
            stated="derived",
        )
        for method in (ORPO, ASFT, WEAK_ASFT)
    ]
    return [
        below(
            f"shared feature, {DPO}: π(w) at the end, below its start",
            chosen[DPO][-1],
            chosen[DPO][0],
            stated="derived",
        ),
        *kept,
        below(
            "table, DPO: π(w) at the start, below its end",
            in_table[0],
            in_table[-1],
            stated="derived",
        ),
    ]


def judge_drawn(drawn: dict[str, np.ndarray]) -> list[Criterion]:
    """Return what trajectories ``(gaps, steps + 1, 3)`` of drawn shared features do."""
    chosen = {method: paths[..., 0] for method, paths in drawn.items()}
    lifted = [paths[:, -1, 1] - paths[:, -1, 0] for method, paths in drawn.items() if method != DPO]
    return [
        below(
            f"drawn shared features, {DPO}: π(w) after {DRAWN_STEPS} steps, below its start",
            chosen[DPO][:, -1],
            chosen[DPO][:, 0],
            stated="derived",
        ),
        at_least(
            "drawn shared features, ORPO and ASFT: π(w) along the path less its start",
            [(chosen[method] - 1 / 3).min() for method in (ORPO, ASFT, WEAK_ASFT)],
            -1e-12,
            stated="derived",
        ),
        at_least(
            f"drawn shared features, ORPO and ASFT: π(l) − π(w) after {DRAWN_STEPS} steps: the"
            " rejected response is lifted above",
            lifted,
            0.0,
            stated="derived",
        ),
    ]


def judge_gradients(probs: np.ndarray) -> Criterion:
    """Return how far the losses' gradients are from their closed forms at drawn probabilities."""
    p_w, p_l = probs
    stated = {
        ORPO: gradients_of_orpo(p_w, p_l, 0.1),
        ASFT: gradients_of_asft(p_w, p_l, 1.0),
        WEAK_ASFT: gradients_of_asft(p_w, p_l, 0.1),
    }
    found = {name: prob_gradients(METHODS[name], one_token_pairs(p_w, p_l)) for name in stated}
    return at_most(
        f"gradients in p_w and p_l, {', '.join(stated)}: relative differences from closed forms",
        [np.abs(np.divide(found[name], stated[name]) - 1).max() for name in stated],
        1e-10,
        stated="derived",
    )


def judge_fields(fields: Fields) -> list[Criterion]:
    """Return where each loss pushes the rejected response harder than it pulls the chosen one."""
    grid, _ = fields["DPO"]
    p_l, p_w = np.meshgrid(grid, grid, indexing="ij")
    criteria = []
    for name, excess, expected in (
        ("DPO", p_w - p_l, "exactly where p_w > p_l"),
        ("ASFT alignment", p_w + p_l - 1, "exactly where p_w + p_l > 1"),
    ):
        # On the line itself the ratio is one up to rounding.
        aside = np.abs(excess) > 1e-9
        right = (fields[name][1] > 1) == (excess > 0)
        criteria.append(
            holds(f"{name}: gradient ratio > 1", right[aside], expected, stated="paper")
        )
    return criteria


def draw(paths: Paths, fields: Fields, steps: int) -> Figure:
    """Draw the trajectories of three methods in both spaces, and the fields of gradient ratios."""
    figure, axes = panels(
        2,
        4,
        width=3.75,
        height=3.5,
        title=(
            "With a shared feature DPO loses both responses; ASFT and ORPO keep the chosen one and"
            " lift the rejected one with it"
        ),
    )
    shown = (DPO, ORPO, ASFT)
    lowest = {
        space: min(np.log(paths[space, method][: steps + 1].min()) for method in shown)
        for space in TITLES
    }
    for row, (space, title) in enumerate(TITLES.items()):
        for axis, method in zip(axes[row], shown, strict=False):
            path = paths[space, method][: steps + 1]
            for label, style in STYLES.items():
                axis.plot(np.log(path[:, PLACES[label]]), label=label, **style)
            axis.axhline(np.log(1 / 3), color="0.6", ls=":", lw=1)
            axis.set(
                title=f"{method}\n{title}",
                xlabel="gradient steps of 0.1",
                ylabel="log π, nats",
                ylim=(1.05 * lowest[space], 0.1),
            )
    # All lines begin at the top.
    axes[1, 0].legend(frameon=False, title="response", loc="lower left")
    for axis, (name, (grid, ratio)) in zip(axes[:, 3], fields.items(), strict=True):
        draw_field(figure, axis, name, grid, ratio)
    return figure


def draw_field(figure: Figure, axis: Axes, name: str, grid: np.ndarray, ratio: np.ndarray) -> None:
    """Draw the ratio of push and pull over both probabilities."""
    axis.grid(False)
    levels = np.log10(RATIOS).tolist()
    shown = axis.contourf(grid, grid, np.log10(ratio), levels=levels, cmap="RdBu_r", extend="both")
    axis.contour(grid, grid, np.log10(ratio), levels=[0.0], colors="k", linewidths=2)
    axis.set(
        title=f"{name}: push / pull\n(black: equal)",
        xlabel="p(chosen)",
        ylabel="p(rejected)",
        aspect="equal",
    )
    bar = figure.colorbar(shown, ax=axis, label="|∂L/∂p_l| / |∂L/∂p_w|")
    bar.set_ticks(levels, labels=[f"{size:g}" for size in RATIOS])

"""Train on three kinds of labels of one judge, and online with judges of three temperatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.selfimprove.osp.judged_labels import (
    LABELS,
    N_PAIRS,
    RESPONSES,
    STEPS,
    Paths,
    measured_decay,
    online,
    predicted_decay,
    train,
)
from prefsim.papers import Reproduction, Run, at_least, at_most, near, panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION, WINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMES = (10, 50, STEPS)
LEAST = 1e-6  # of the distances drawn
STYLES = {
    "soft": {"color": BLUE, "ls": "-"},
    "sampled": {"color": ORANGE, "ls": "--"},
    "argmax": {"color": VERMILION, "ls": "-."},
}
LABELLED = {
    "soft": "soft: p itself",
    "sampled": "one label drawn from p",
    "argmax": "the likelier side as label",
}
JUDGES = {
    0.5: {"color": GREEN, "marker": "o", "ls": "-"},
    1.0: {"color": PURPLE, "marker": "s", "ls": "--"},
    2.0: {"color": WINE, "marker": "^", "ls": "-."},
}
# Worlds of labels, worlds of the online loop, its draws and epochs: full run, and quick one.
SIZES = ((20, 5, 16, 30), (8, 1, 12, 12))


def reproduce(run: Run) -> Reproduction:
    count, online_worlds, draws, epochs = SIZES[run.quick]
    worlds = range(count * run.seed, count * (run.seed + 1))  # no two runs share one
    path = train(worlds)
    soft, sampled, argmax = path.kl.swapaxes(0, 1)
    starts = worlds[:online_worlds]
    rounds = {
        temperature: online(temperature, starts, draws=draws, epochs=epochs)
        for temperature in run.progress(tuple(JUDGES), "judges")
    }

    criteria = (
        at_most("soft labels: KL(π*‖π) from step 25 on", soft[25:], 1e-3, stated="chosen"),
        near(
            "soft labels: rate at which the distance from π* decays, over the predicted one",
            np.log(measured_decay(path.distance[:, 0])) / np.log(predicted_decay(worlds)),
            1,
            within=0.02,
            stated="derived",
        ),
        at_least(
            f"one sampled label: KL(π*‖π) at step {STEPS}, median of the worlds",
            np.median(sampled[-1]),
            0.1,
            stated="chosen",
        ),
        at_least(
            f"argmax labels: KL(π*‖π) at step {STEPS} over step 50",
            argmax[-1] / argmax[50],
            2,
            stated="chosen",
        ),
        at_most(
            "online: KL(π*_c‖π) to the judge's own optimum after 10 rounds over that before",
            [values[:, -1] / values[:, 0] for values in rounds.values()],
            0.2,
            stated="chosen",
        ),
    )
    caption = (
        f"Left and middle: training on {N_PAIRS} pairs of {RESPONSES} responses, each judged once,"
        f" with three kinds of labels; the median of {count} worlds, and a band over all of them."
        " Left the distance from the optimum π*, less is better; in the middle the expected"
        " reward, where above 0 more reward was bought than π* buys, at a distance that its β does"
        " not allow. Right: the loop in which a judge labels the policy's own samples, for judges"
        " of three temperatures, each against its own optimum, less is better; the mean of worlds:"
        f" {online_worlds}. Look at which lines on the left go down."
    )
    (_, many, long, slow), (few, single, short, fast) = SIZES
    cut = (
        f"{few} worlds rather than {SIZES[0][0]}; online {single} rather than {many}, {short} draws"
        f" a round rather than {long} and {fast} epochs rather than {slow}"
    )
    figure, table = draw(path, rounds), tabulate(path, rounds)
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def tabulate(path: Paths, rounds: dict[float, np.ndarray]) -> list[dict[str, str | float | int]]:
    """Return a row for each kind of labels, and for each judge of the online loop."""
    table: list[dict[str, str | float | int]] = []
    for k, name in enumerate(LABELS):
        row: dict[str, str | float | int] = {"labels": name, "worlds": path.kl.shape[-1]}
        for step in TIMES:
            # A divergence of zero may come out as −1e-17.
            values = np.abs(path.kl[step, k])
            row[f"KL at step {step}, median"] = round(float(np.median(values)), 4)
            row[f"least to largest at {step}"] = f"{values.min():.2g} to {values.max():.2g}"
        table.append(row)
    for temperature, distance in rounds.items():
        table.append(
            {
                "labels": f"online, c = {temperature:g}",
                "worlds": len(distance),
                "KL before": round(float(distance[:, 0].mean()), 4),
                "KL after 10 rounds": round(float(distance[:, -1].mean()), 5),
            }
        )
    return table


def draw(path: Paths, rounds: dict[float, np.ndarray]) -> Figure:
    """Draw the way of each kind of labels, and the rounds of each judge."""
    worlds = path.kl.shape[-1]
    figure, ((distance, reward, online_distance),) = panels(
        1,
        3,
        width=5,
        title=(
            "Judged strengths as soft labels lead to the optimum; one label for each pair, drawn"
            " or the likelier, does not"
        ),
    )
    steps = np.arange(1, len(path.kl))
    for k, (name, style) in enumerate(STYLES.items()):
        for axis, values in ((distance, np.maximum(path.kl, LEAST)), (reward, path.reward)):
            # Step 0 has no place on a logarithmic axis.
            found, colour = values[1:, k], style["color"]
            axis.fill_between(
                steps, found.min(axis=1), found.max(axis=1), color=colour, alpha=0.2, lw=0
            )
            axis.plot(steps, np.median(found, axis=1), lw=2.2, label=LABELLED[name], **style)
    distance.set(
        xscale="log",
        yscale="log",
        ylim=(LEAST / 2, 30),
        xlabel="gradient steps",
        ylabel=f"KL(π*‖π), nats (cut at {LEAST:g})",
        title=f"Distance from the optimum: {worlds} worlds",
    )
    # The soft labels are at the bottom when the others are at the top.
    distance.legend(frameon=False, loc="center right")
    reward.axhline(0.0, color="0.4", lw=0.8)
    reward.set(
        xscale="log",
        xlabel="gradient steps",
        ylabel="expected reward less that of π*",
        title="The likelier side as label goes past the optimum",
    )
    for temperature, values in rounds.items():
        online_distance.plot(
            np.arange(values.shape[1]),
            np.maximum(values.mean(axis=0), LEAST),
            ms=6,
            **JUDGES[temperature],
            label=f"judge's temperature c = {temperature:g}",
        )
    online_distance.set(
        yscale="log",
        xlabel="online rounds (N = 4 samples, all pairs)",
        ylabel=f"KL(π*_c‖π), nats (cut at {LEAST:g})",
        title="Online: nearer to each judge's own optimum π*_c",
    )
    online_distance.legend(frameon=False, fontsize=9)
    return figure

"""Train on three kinds of labels of one judge, and online with judges of three temperatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.selfimprove.osp.judged_labels import (
    LABELS,
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
DRAWN = 3  # worlds whose paths are drawn
STYLES = {
    "soft": {"color": BLUE, "label": "soft: p itself"},
    "sampled": {"color": ORANGE, "label": "one label drawn from p"},
    "argmax": {"color": VERMILION, "label": "the likelier side as label"},
}
COLOURS_OF_JUDGES = {0.5: GREEN, 1.0: PURPLE, 2.0: WINE}


def reproduce(run: Run) -> Reproduction:
    worlds = [run.seed + s for s in range(8 if run.quick else 20)]
    path = train(worlds)
    soft, sampled, argmax = path.kl.swapaxes(0, 1)
    # Shorter rounds in quick mode.
    draws, epochs = (12, 12) if run.quick else (16, 30)
    starts = worlds[: 1 if run.quick else 5]
    rounds = {
        temperature: online(temperature, starts, draws=draws, epochs=epochs)
        for temperature in run.progress(tuple(COLOURS_OF_JUDGES), "judges")
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
    return Reproduction(draw(path, rounds), tabulate(path, rounds), criteria)


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
    figure, ((distance, reward, online_distance),) = panels(
        1,
        3,
        width=5,
        title=(
            f"Learning from judged strengths: 8 responses, 28 pairs judged once, {DRAWN} worlds"
            " (left, middle); the online loop (right)"
        ),
    )
    steps = np.arange(1, len(path.kl))
    for k, style in enumerate(STYLES.values()):
        for axis, values in ((distance, np.maximum(path.kl, 1e-6)), (reward, path.reward)):
            labels = [style["label"], *[None] * (DRAWN - 1)]
            # Step 0 has no place on a logarithmic axis.
            axis.plot(steps, values[1:, k, :DRAWN], color=style["color"], lw=1.6, label=labels)
    distance.set(
        xscale="log",
        yscale="log",
        ylim=(5e-7, 30),
        xlabel="gradient steps",
        ylabel="KL(π*‖π), nats (cut at 1e-6)",
        title="Soft labels end at the optimum",
    )
    reward.set(
        xscale="log",
        xlabel="gradient steps",
        ylabel="expected reward less that of π*",
        title="Argmax labels chase reward past the optimum",
    )
    for temperature, values in rounds.items():
        online_distance.plot(
            np.arange(values.shape[1]),
            np.maximum(values.mean(axis=0), 1e-6),
            "o-",
            ms=4,
            color=COLOURS_OF_JUDGES[temperature],
            label=f"judge's temperature c = {temperature:g}",
        )
    online_distance.set(
        yscale="log",
        xlabel="online rounds (N = 4 samples, all pairs)",
        ylabel="KL(π*_c‖π), nats (cut at 1e-6)",
        title="Online: each judge has its own optimum π*_c",
    )
    for axis in (distance, reward, online_distance):
        axis.legend(frameon=False, fontsize=8)
    return figure

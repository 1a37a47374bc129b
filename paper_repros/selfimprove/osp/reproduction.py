"""Train on three kinds of labels of one judge, and online with judges of three temperatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.selfimprove.osp.judged_labels import LABELS, Paths, online, train
from prefsim.papers import Reproduction, Run, at_least, at_most, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 20_000
STYLES = {
    "soft": {"color": "tab:blue", "label": "soft: p itself"},
    "sampled": {"color": "tab:orange", "label": "one label drawn from p"},
    "argmax": {"color": "tab:red", "label": "the likelier side as label"},
}
COLOURS_OF_JUDGES = {0.5: "tab:green", 1.0: "tab:purple", 2.0: "tab:brown"}


def reproduce(run: Run) -> Reproduction:
    seeds = [run.seed + s for s in range(3)]
    path = train(seeds, STEPS)
    kl = {step: path.kl_at(step) for step in (100, 1000, STEPS)}
    soft, sampled, argmax = (
        {step: values[k] for step, values in kl.items()} for k in range(len(LABELS))
    )
    # Shorter rounds in quick mode.
    draws, epochs = (12, 12) if run.quick else (16, 30)
    worlds = seeds[:1] if run.quick else [run.seed + s for s in range(5)]
    rounds = {
        temperature: online(temperature, worlds, draws=draws, epochs=epochs)
        for temperature in run.progress(tuple(COLOURS_OF_JUDGES), "judges")
    }

    criteria = (
        at_most(
            "soft labels: KL(π*‖π) at step 100, first seed", soft[100][0], 1e-3, stated="chosen"
        ),
        at_most(
            "soft labels: KL(π*‖π) at steps 1000 and 20000, three seeds",
            [soft[1000], soft[STEPS]],
            1e-3,
            stated="chosen",
        ),
        at_least(
            "one sampled label: plateau of KL(π*‖π) at step 20000, three seeds",
            sampled[STEPS],
            0.1,
            stated="chosen",
        ),
        at_least(
            "argmax labels: KL(π*‖π) at step 20000 over step 1000, three seeds",
            argmax[STEPS] / argmax[1000],
            2,
            stated="chosen",
        ),
    )
    return Reproduction(draw(path, rounds), tabulate(seeds, kl, rounds), criteria)


def tabulate(
    seeds: list[int], kl: dict[int, np.ndarray], rounds: dict[float, np.ndarray]
) -> list[dict[str, str | float | int]]:
    """Return a row for each kind of labels and seed, and for each judge of the online loop."""
    table: list[dict[str, str | float | int]] = []
    for k, name in enumerate(LABELS):
        for s, seed in enumerate(seeds):
            # A divergence of zero may come out as −1e-17.
            ends = {f"KL at step {t}": round(abs(float(at[k, s])), 4) for t, at in kl.items()}
            table.append({"labels": name, "seed": str(seed), **ends})
    for temperature, distance in rounds.items():
        table.append(
            {
                "labels": f"online, c = {temperature:g}",
                "seed": f"mean of {len(distance)}",
                "KL before": round(float(distance[:, 0].mean()), 4),
                "KL after 10 rounds": round(float(distance[:, -1].mean()), 5),
            }
        )
    return table


def draw(path: Paths, rounds: dict[float, np.ndarray]) -> Figure:
    """Draw the way of each kind of labels, and the rounds of each judge."""
    n_seeds = path.kl.shape[-1]
    figure, ((distance, reward, online_distance),) = panels(
        1,
        3,
        width=5,
        title=(
            f"Learning from judged strengths: 8 responses, 28 pairs judged once, {n_seeds} seeds"
            " (left, middle); the online loop (right)"
        ),
    )
    for k, style in enumerate(STYLES.values()):
        for axis, values in ((distance, np.maximum(path.kl, 1e-6)), (reward, path.reward)):
            labels = [style["label"], *[None] * (n_seeds - 1)]
            axis.plot(path.steps, values[:, k], color=style["color"], lw=1.6, label=labels)
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

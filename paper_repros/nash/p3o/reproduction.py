"""Train five online methods, with and without constants added to the rewards of each prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.nash.p3o.training import METHODS, PLAIN, SCALES, Setting, Trained, train
from prefsim.papers import Reproduction, Run, at_least, at_most, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "P3O (V2, joint)": "C0-",
    "P3O (V1, separate)": "C2--",
    "PPO, value baseline": "C1-.",
    "PPO, no baseline": "C3-",
    "online DPO": "C4:",
}


def reproduce(run: Run) -> Reproduction:
    seeds, rollouts = (4, 100) if run.quick else (20, 300)
    setting = Setting.draw(seeds, run.seed)
    trained = {
        name: train(name, setting, seed=run.seed, rollouts=rollouts, progress=run.progress)
        for name in METHODS
    }
    moved = {
        name: np.abs([t.kl[:, 0] - t.kl[:, 1], t.reward[:, 0] - t.reward[:, 1]]).max()
        for name, t in trained.items()
    }
    # At a divergence of one nat, one number for each scale of the constants.
    earned = {name: np.nanmean(t.at(1.0), axis=-1) for name, t in trained.items()}

    curves = "largest change of a training curve by the constants"
    criteria = (
        *(
            at_most(f"{name}: {curves}", moved[name], 1e-9, stated="derived")
            for name in METHODS
            if name != PLAIN
        ),
        at_least(f"{PLAIN}: {curves}", moved[PLAIN], 0.05, stated="chosen"),
        *(
            at_least(
                f"{name}: reward at KL = 1 nat less that of {PLAIN}, with constants of size"
                f" {SCALES[1]:g}",
                earned[name][1] - earned[PLAIN][1],
                0.0,
                stated="chosen",
                paper="rewards in the order DPO > P3O > PPO > SFT",
            )
            for name in METHODS[:2]
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "constants": scale,
            "reward at KL = 1 nat": float(earned[name][k]),
            "seeds that reach it": int(np.isfinite(t.at(1.0)[k]).sum()),
            "final KL (nats)": float(t.kl[-1, k].mean()),
            "final reward": float(t.reward[-1, k].mean()),
        }
        for name, t in trained.items()
        for k, scale in enumerate(SCALES)
    ]
    return Reproduction(draw(trained), table, criteria)


def draw(trained: dict[str, Trained]) -> Figure:
    figure, axes = panels(
        1,
        2,
        title=(
            "Pairs make the policy gradient blind to what is added to a prompt's rewards; PPO needs"
            " a baseline for that"
        ),
        width=6.5,
        height=5.0,
        sharex=True,
        sharey=True,
    )
    divergences = np.linspace(0.02, 1.5, 60)
    titles = ("rewards as they are", "a constant N(0, 10²) added to all rewards of a prompt")
    for k, (axis, title) in enumerate(zip(axes[0], titles, strict=True)):
        for name, style in STYLES.items():
            # The mean is drawn as far as every seed reaches: one NaN makes it NaN.
            mean = [trained[name].at(kl)[k].mean() for kl in divergences]
            axis.plot(divergences, mean, style, lw=2, label=name)
        axis.axvline(1.0, color="0.8", zorder=0)
        axis.set(xlabel="KL(π‖π_ref) during training (nats)", title=title)
    seeds = trained[PLAIN].kl.shape[-1]
    axes[0, 0].set(ylabel=f"true expected reward, mean of {seeds} seeds")
    axes[0, 0].legend(frameon=False, loc="lower right")
    return figure

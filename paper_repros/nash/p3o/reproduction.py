"""Train online methods, with and without constants added to the rewards of each prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.nash.p3o.estimates import variance_of_pairs
from paper_repros.nash.p3o.training import (
    METHODS,
    PLAIN,
    SCALED,
    SCALES,
    Setting,
    Trained,
    train,
)
from prefsim.papers import Reproduction, Run, at_least, at_most, near, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "P3O (V2, joint)": "C0-",
    "P3O (V1, separate)": "C2--",
    "PPO, value baseline": "C1-.",
    "PPO, no baseline": "C3-",
    "online DPO": "C4:",
    SCALED: "C5-.",
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
    earned = {name: mean_of_those_that_arrive(t.at(1.0)) for name, t in trained.items()}

    pairs = variance_of_pairs(setting, 200, run.seed)

    curves = "largest change of a training curve by the constants"
    criteria = (
        *(
            at_most(f"{name}: {curves}", moved[name], 1e-9, stated="derived")
            for name in METHODS
            if name not in (PLAIN, SCALED)
        ),
        *(
            at_least(f"{name}: {curves}", moved[name], 0.05, stated="chosen")
            for name in (PLAIN, SCALED)
        ),
        near(
            f"{SCALED}: reward at KL = 1 nat over that of {METHODS[0]}, without constants",
            earned[SCALED][0] / earned[METHODS[0]][0],
            1,
            within=0.3,
            stated="chosen",
        ),
        near(
            f"{SCALED}: deviation of the rewards seen, constants of size 0 and {SCALES[1]:g}",
            trained[SCALED].spread,
            1,
            within=0.2,
            stated="derived",
        ),
        near(
            f"variance of P3O's gradient from a pair, over Var r − ‖∇‖², constants of size 0 and"
            f" {SCALES[1]:g}",
            pairs.sampled / pairs.exact,
            1,
            within=0.1,
            stated="derived",
        ),
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


def mean_of_those_that_arrive(table: np.ndarray) -> np.ndarray:
    """Return the means of rows over what is not NaN; NaN where nothing is."""
    arrived = np.isfinite(table).sum(axis=-1)
    return np.where(arrived, np.nansum(table, axis=-1) / np.maximum(arrived, 1), np.nan)


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

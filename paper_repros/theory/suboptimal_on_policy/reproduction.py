"""The didactic bandit, exactly; then from samples, in drawn geometries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.suboptimal_on_policy.didactic import (
    PUSH,
    SAMPLES,
    Bandit,
    Path,
    dpo,
    dpo_loss,
    first_gains,
    first_slopes,
    imitate_best,
    published,
    reinforce,
    train,
)
from paper_repros.theory.suboptimal_on_policy.methods import (
    ESCAPE,
    LEARNERS,
    REUSE,
    SETTINGS,
    SMALL,
    SMALL_NAME,
    Relocation,
    relocations,
)
from paper_repros.theory.suboptimal_on_policy.sampled import STEPS, drawn, learn, ranked
from prefsim.numerics import categorical_kl
from prefsim.papers import Reproduction, Run, at_least, at_most, below, falling, near, panels
from prefsim.papers.figures import BLUE, GREEN, SKY, VERMILION
from prefsim.solvers.closed_forms.self_training import best_of_n

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reproduce(run: Run) -> Reproduction:
    world = published()
    steps = 300 if run.quick else 5000
    paths = {}
    for name, setting in run.progress(list(SETTINGS.items()), "methods"):
        enough = max(steps, ESCAPE) if SMALL_NAME in name else steps
        paths[name] = train(
            world, setting.method, rate=setting.rate, steps=enough, on_policy=setting.on_policy
        )
    rewards = {name: path.rewards(world) for name, path in paths.items()}
    last = {name: values[-1] for name, values in rewards.items()}
    limit = (np.exp(best_of_n(world.reward, world.log_data, 10)) * world.reward).sum(axis=-1)
    far, aligned = 0, 1
    gaps = {
        name: last[f"{name}, own samples"] - last[name] for name in ("best of 10", "DPO, β = 1")
    }
    astray = paths[SMALL_NAME]
    early = int(np.searchsorted(astray.steps, 200))
    lost = dpo_loss(world, astray.log_policies[[0, early, -1]], SMALL)

    learned = by_samples(run)
    begun, best_sampled = beginnings(world), sampled_best(run)
    relocated = relocations(np.random.default_rng((run.seed, 1)), 400)
    criteria = (
        near(
            "growth of the reward in the first step, over that of the objective in closed form",
            begun,
            1.0,
            within=1e-4,
            stated="derived",
        ),
        near(
            "reward of the best of 10 sampled responses, over that of their law",
            best_sampled,
            1.0,
            within=0.05,
            stated="derived",
        ),
        near(
            "how much more the reverse divergence separates two responses, over"
            " η log(q₁/q₂)(p − logarithmic mean)",
            relocated.measured / relocated.predicted,
            1.0,
            within=1e-6,
            stated="derived",
            paper="it moves mass faster where p is large",
        ),
        at_most(
            "reward of imitating the best of 10 of the data, over that of their law",
            last["best of 10"] - limit,
            1e-9,
            stated="derived",
        ),
        at_least(
            "far peak: reward of best-of-10 on own samples, of the policy gradient",
            [last["best of 10, own samples"][far], last["policy gradient"][far]],
            0.9,
            stated="chosen",
        ),
        at_least(
            "far peak: what own samples gain, best of 10 and DPO at β = 1",
            [gap[far] for gap in gaps.values()],
            0.15,
            stated="chosen",
            paper="on-policy sampling is needed where the peak is far from the data",
        ),
        below(
            "what own samples gain where the peak is near the data, and where it is far",
            [gap[aligned] for gap in gaps.values()],
            [gap[far] for gap in gaps.values()],
            stated="paper",
        ),
        below(
            "reward without and with the worst of 10 pushed down: far, near",
            last["best of 10"],
            last["best of 10, worst pushed"],
            stated="paper",
            paper="a negative gradient helps",
        ),
        falling(
            f"far peak, DPO on the data at β = {SMALL}: reward at the start and after 200 steps",
            rewards[SMALL_NAME][[0, early], far],
            stated="derived",
        ),
        falling(
            "the same: its loss at the start, after 200 steps and at the end",
            lost[:, far],
            stated="derived",
        ),
        at_least(
            "the same on own samples: reward at the end",
            last[f"{SMALL_NAME}, own samples"][far],
            0.9,
            stated="derived",
        ),
        *(
            below(
                f"{learned[name].shape[-1]} drawn worlds, {name}: reward from the data and from"
                " own samples",
                learned[name][0],
                learned[name][1],
                by=0.3,
                stated="chosen",
            )
            for name in ("best of 10", "DPO")
        ),
        below(
            f"the same, best of 10: mean reward where a batch serves {REUSE[-1]} steps, and 1",
            learned["best of 10"][-1].mean(),
            learned["best of 10"][1].mean(),
            stated="paper",
            paper="reusing samples costs reward",
        ),
    )
    table: list[dict[str, Any]] = [
        {
            "method": name,
            "samples": "its own" if SETTINGS[name].on_policy else "the data's",
            **{
                f"{place} peak, step {int(path.steps[k])}": round(float(values[k, index]), 4)
                for place, index in (("far", far), ("near", aligned))
                for k in (0, int(np.searchsorted(path.steps, 50)), -1)
            },
        }
        for (name, path), values in zip(paths.items(), rewards.values(), strict=True)
    ]
    table += [
        {
            "method": f"{name}, sampled",
            "samples": "the data's" if use is None else f"its own, {use} steps each",
            "mean reward": round(float(values.mean()), 4),
            "worst world": round(float(values.min()), 4),
        }
        for name, by_use in learned.items()
        for use, values in zip((None, *REUSE), by_use, strict=True)
    ]
    cut = (
        "300 steps rather than 5,000, 20 drawn worlds rather than 60, no learner that is pushed"
        " without bound"
    )
    return Reproduction(
        draw(world, paths, learned, relocated), table, criteria, caption=CAPTION, cut=cut
    )


def beginnings(world: Bandit) -> np.ndarray:
    """Return how fast rewards grow in a tiny first step, over what the closed forms say."""
    small = 1e-5
    closed = first_slopes(world, beta=1.0)
    methods = (imitate_best(), imitate_best(PUSH), reinforce, dpo(1.0))
    ratios = []
    for method, slope in zip(methods, closed.values(), strict=True):
        path = train(world, method, rate=small, steps=1, on_policy=False)
        ratios.append(np.diff(path.rewards(world), axis=0)[0] / small / first_gains(world, slope))
    return np.stack(ratios)


def sampled_best(run: Run) -> np.ndarray:
    """Return the mean reward of the best of sampled responses, over that of their law."""
    world, rng = published(), np.random.default_rng((run.seed, 2))
    best = ranked(world, world.log_data, rng, prompts=20_000)[..., 0]
    sampled = np.take_along_axis(world.reward, best, axis=-1).mean(axis=-1)
    law = np.exp(best_of_n(world.reward, world.log_data, SAMPLES))
    return np.asarray(sampled / (law * world.reward).sum(axis=-1))


def by_samples(run: Run) -> dict[str, np.ndarray]:
    """Return rewards of learners ``(1 + reuses, worlds)``; the first row samples from the data."""
    rng = np.random.default_rng(run.seed)
    world = drawn(rng, 20 if run.quick else 60)
    # The last is a finding of the full run: pushed without bound, some worlds are lost for ever.
    chosen = list(LEARNERS.items())[: 2 if run.quick else 3]
    return {
        name: np.stack(
            [learn(world, learner, rng, reuse=use, steps=STEPS) for use in (None, *REUSE)]
        )
        for name, learner in run.progress(chosen, "learners")
    }


CAPTION = (
    "Expected reward, at most 1. Top left and middle: along training, where the best response is"
    " hardly or well covered by the data; full lines sample anew, dashed ones learn from the data"
    " alone. Top right: the same paths by how far the policy has gone from the data. Bottom left:"
    " weakly regularised DPO on the data, whose loss falls with its reward. Bottom middle: reward"
    " at the end by how many steps a batch of samples serves (bars: 2 standard errors; dashed: data"
    " alone). Bottom right: which divergence's step pulls two responses further apart, and by how"
    " much, by their probability over the logarithmic mean of their targets."
)


def draw(
    world: Bandit,
    paths: dict[str, Path],
    learned: dict[str, np.ndarray],
    relocated: Relocation,
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title=(
            "A peak that the data hardly cover is found by sampling anew and by pushing responses"
            " down; maximum likelihood on fixed data stops at the best of what it saw"
        ),
        width=5.0,
        height=3.9,
    )
    for index, title in enumerate(("The peak is far from the data", "The peak is near the data")):
        axis = axes[0, index]
        for name, path in paths.items():
            setting = SETTINGS[name]
            if SMALL_NAME not in name:
                axis.plot(
                    np.maximum(path.steps, 5),
                    path.rewards(world)[:, index],
                    setting.style,
                    color=setting.colour,
                    label=name,
                )
        axis.set(
            xscale="log", xlabel="steps", ylabel="expected reward", title=title, ylim=(0, 1.03)
        )
    axes[0, 1].legend(frameon=False, fontsize=8, loc="lower right")
    _draw_astray(axes[1, 0], world, paths)
    _draw_reuse(axes[1, 1], learned)
    _draw_divergence(axes[0, 2], world, paths)
    _draw_relocation(axes[1, 2], relocated)
    return figure


def _draw_divergence(axis: Any, world: Bandit, paths: dict[str, Path]) -> None:
    """Draw the reward over the divergence from the data, far peak."""
    for name, path in paths.items():
        if SMALL_NAME not in name:
            setting = SETTINGS[name]
            moved = categorical_kl(path.log_policies[:, 0], world.log_data[0])
            line = {"color": setting.colour, "ls": setting.style}
            axis.plot(moved, path.rewards(world)[:, 0], **line)
    axis.set(
        xlabel="KL(π‖data), nats",
        ylabel="expected reward",
        ylim=(0, 1.03),
        title="Far peak: what a nat of divergence buys",
    )


def _draw_relocation(axis: Any, relocated: Relocation) -> None:
    """Draw which direction separates two responses more, over p."""
    faster = relocated.measured * np.sign(relocated.predicted / (relocated.share - 1)) > 0
    for chosen, colour, label in (
        (faster, GREEN, "reverse KL separates them more"),
        (~faster, VERMILION, "forward KL separates them more"),
    ):
        size = np.abs(relocated.measured[chosen])
        axis.scatter(relocated.share[chosen], size, s=8, color=colour, label=label)
    axis.axvline(1.0, color="0.3", lw=1)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="p over the logarithmic mean of both targets",
        ylabel="difference of the separations, nats",
        title="Reverse KL is faster above the logarithmic mean",
    )
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_astray(axis: Any, world: Bandit, paths: dict[str, Path]) -> None:
    """Draw the reward of DPO at a small β, and its loss on the data."""
    for name in (SMALL_NAME, f"{SMALL_NAME}, own samples"):
        path, setting = paths[name], SETTINGS[name]
        axis.plot(
            np.maximum(path.steps, 5),
            path.rewards(world)[:, 0],
            setting.style,
            color=setting.colour,
            label=f"reward, {'own samples' if setting.on_policy else 'the data'}",
        )
    path = paths[SMALL_NAME]
    loss = dpo_loss(world, path.log_policies, SMALL)
    axis.plot(np.maximum(path.steps, 5), loss[:, 0], ":", color="0.3", label="loss, the data")
    axis.set(
        xscale="log",
        xlabel="steps",
        ylim=(0, 1.03),
        title=f"{SMALL_NAME}, far peak: loss and reward fall",
    )
    axis.legend(frameon=False, fontsize=8)


def _draw_reuse(axis: Any, learned: dict[str, np.ndarray]) -> None:
    """Draw the reward over how many steps a batch serves, and what fixed data give."""
    colours = {"best of 10": BLUE, "best and worst of 10": SKY, "DPO": VERMILION}
    for name, by_use in learned.items():
        mean, error = by_use.mean(axis=-1), by_use.std(axis=-1) / np.sqrt(by_use.shape[-1])
        axis.errorbar(
            REUSE, mean[1:], 2 * error[1:], marker="o", capsize=3, color=colours[name], label=name
        )
        axis.axhline(mean[0], color=colours[name], ls="--", lw=1)
    axis.annotate("on the data (dashed)", (REUSE[0], 0.42), fontsize=8, color="0.3")
    axis.set(
        xscale="log",
        xlabel="steps that a sampled batch serves",
        ylabel="reward at the end, mean ± 2 s.e.",
        title=f"{by_use.shape[-1]} drawn worlds: fresh samples are worth most",
        ylim=(0, 1.03),
    )
    axis.set_xticks(REUSE, [str(use) for use in REUSE])
    axis.legend(frameon=False, fontsize=8, loc="center right")

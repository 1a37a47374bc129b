"""The didactic bandit, exactly; then from samples, in drawn geometries."""

from __future__ import annotations

from typing import Any

import numpy as np

from paper_repros.theory.suboptimal_on_policy.didactic import (
    PUSH,
    SAMPLES,
    Bandit,
    dpo,
    dpo_loss,
    first_gains,
    first_slopes,
    imitate_best,
    published,
    reinforce,
    train,
)
from paper_repros.theory.suboptimal_on_policy.drawing import draw
from paper_repros.theory.suboptimal_on_policy.methods import (
    ESCAPE,
    LEARNERS,
    REUSE,
    SETTINGS,
    SMALL,
    SMALL_NAME,
)
from paper_repros.theory.suboptimal_on_policy.relocation import relocations
from paper_repros.theory.suboptimal_on_policy.sampled import STEPS, drawn, learn, ranked
from prefsim.papers import Reproduction, Run, at_least, at_most, below, falling, near
from prefsim.solvers.closed_forms.self_training import best_of_n


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
    return Reproduction(draw(world, paths, learned, relocated), table, criteria)


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

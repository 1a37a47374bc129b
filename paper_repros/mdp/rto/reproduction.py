"""Who is credited for what, with a reward of the response and with one of tokens."""

from __future__ import annotations

import numpy as np

from paper_repros.mdp.rto.caution import CAUTIONS, SHARED, SINGLE, Cautious
from paper_repros.mdp.rto.credit import BOUND, RESPONSE, REWARDS, TOKEN, Credit, measure
from paper_repros.mdp.rto.figure import caption, draw
from prefsim.papers import Reproduction, Run, at_least, at_most, below, between, near
from prefsim.papers.criteria import Criterion

Row = dict[str, str | float | int]

# Mean cosines of 120 worlds, and four deviations of the cosine of one.
KNOWN = {
    (RESPONSE, 0.0): (0.15, 1.5),
    (TOKEN, 0.0): (0.825, 0.55),
    (RESPONSE, 0.5): (0.665, 1.0),
    (TOKEN, 0.5): (0.935, 0.2),
}
ASCENTS = ((RESPONSE, 0.0), (TOKEN, 0.0), (RESPONSE, 0.5), (TOKEN, 0.5), (TOKEN, 1.0))
# Shares of the least safe radius.
SETTINGS = {
    "few features, responses of the reference": SHARED,
    "a weight of every token, best responses": SINGLE,
}
SAID = "RTO 27.0, PPO 19.5, DPO 17.4 % won (AlpacaEval 2, an 8B model)"


def reproduce(run: Run) -> Reproduction:
    worlds, steps = (10, 60) if run.quick else (40, 400)
    seeds = range(run.seed * worlds, (run.seed + 1) * worlds)
    found = measure(
        seeds,
        (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0),
        (0.0, 0.25, 0.5, 0.75, 1.0) if run.quick else tuple(np.linspace(0, 1, 13)),
        ASCENTS,
        steps,
        run.progress,
    )
    # Their mean is of few large losses.
    many = range(run.seed * 10 * worlds, (run.seed + 1) * 10 * worlds)
    fits = {name: Cautious.draw(many, setting) for name, setting in SETTINGS.items()}
    lost = {
        name: np.stack([np.stack(fit.lost(caution)) for caution in CAUTIONS])
        for name, fit in fits.items()
    }
    criteria = (*criteria_of(found), *criteria_of_caution(lost), *criteria_of_rewards(fits))
    cut = (
        "10 worlds rather than 40, 60 steps rather than 400, 5 policies on the way rather than 13,"
        " 100 fitted rewards rather than 400"
    )
    return Reproduction(
        draw(found, lost), [*rows_of(found), *rows_of_caution(lost)], criteria, caption(found), cut
    )


def cosine_at(found: Credit, reward: str, trace: float) -> np.ndarray:
    """Return the cosines with the true gradient at one λ, ``(worlds,)``."""
    return found.cosines[reward][found.traces.index(trace)]


def end_of(found: Credit, reward: str, trace: float) -> np.ndarray:
    """Return the distances to the optimum at the end of an ascent, ``(worlds,)``."""
    return found.paths[reward, trace][-1]


# --- criteria ---


def criteria_of(found: Credit) -> tuple[Criterion, ...]:
    n, steps = found.apart.size, len(found.paths[TOKEN, 0.0]) - 1
    start, end = (
        {name: found.noise[name, False][place].mean() for name in REWARDS} for place in (0, -1)
    )
    return (
        *(
            near(
                f"mean cosine with the true gradient, λ = {trace:g}, {reward}",
                cosine_at(found, reward, trace).mean(),
                known,
                within=spread / np.sqrt(n),
                stated="derived",
            )
            for (reward, trace), (known, spread) in KNOWN.items()
        ),
        below(
            "the mean of the reward of the response below that of tokens, λ = 0 and 0.5",
            [cosine_at(found, RESPONSE, trace).mean() for trace in (0.0, 0.5)],
            [cosine_at(found, TOKEN, trace).mean() for trace in (0.0, 0.5)],
            by=0.05,
            stated="derived",
            paper=SAID,
        ),
        at_least(
            "mean cosines at the release's λ = 0.95, of either reward",
            [cosine_at(found, name, 0.95).mean() for name in REWARDS],
            0.99,
            stated="chosen",
        ),
        at_most(
            "difference of the two gradients at λ = 1, relative",
            found.apart,
            1e-10,
            stated="derived",
        ),
        between(
            "slope of the objective along that gradient, over its length, less one",
            found.slope,
            -1e-6,
            1e-6,
            stated="derived",
        ),
        at_most(
            f"mean total variation to the optimum after {steps} steps at λ = 0, reward of tokens",
            end_of(found, TOKEN, 0.0).mean(),
            0.15,
            stated="chosen",
        ),
        at_least(
            "the same with the reward of the response",
            end_of(found, RESPONSE, 0.0).mean(),
            0.7,
            stated="chosen",
        ),
        below(
            "mean total variation at the end, λ = 0.5: reward of tokens below that of the response",
            end_of(found, TOKEN, 0.5).mean(),
            end_of(found, RESPONSE, 0.5).mean(),
            by=0.3,
            stated="chosen",
        ),
        below(
            "mean total variation at the end, reward of tokens: λ = 0 below the true gradient's",
            end_of(found, TOKEN, 0.0).mean(),
            end_of(found, TOKEN, 1.0).mean(),
            stated="chosen",
        ),
        below(
            "noise of one response's gradient near the reference, λ = 1: reward of the response"
            " below that of tokens",
            start[RESPONSE],
            start[TOKEN],
            stated="chosen",
            paper="denser rewards make learning easier",
        ),
        at_most("the same at the optimum, reward of tokens", end[TOKEN], 1e-6, stated="derived"),
        at_least("and reward of the response", end[RESPONSE], 0.5, stated="chosen"),
        at_most(
            "difference of the two noises with exact critics",
            np.abs(found.noise[RESPONSE, True] - found.noise[TOKEN, True]),
            1e-6,
            stated="derived",
        ),
        below(
            f"mean total variation that the release's bound of {BOUND:g} nat moves the optimum by,"
            " below that from the first policy",
            found.bounded[1].mean(),
            found.paths[TOKEN, 0.0][0].mean(),
            by=0.3,
            stated="chosen",
        ),
    )


def criteria_of_caution(lost: dict[str, np.ndarray]) -> tuple[Criterion, ...]:
    few, every = lost
    shared, single = (each[:, 0].mean(axis=-1) for each in lost.values())
    return (
        at_most(
            "pessimism at the safe radius: loss less its bound, every world",
            [(each[-1, 0] - each[-1, 1]).max() for each in lost.values()],
            1e-9,
            stated="derived",
        ),
        below(
            f"pessimism at a quarter of it: mean loss below that of the fit, {every}",
            single[CAUTIONS.index(0.25)],
            single[0],
            by=0.02,
            stated="chosen",
            paper="near-optimal from data that cover the best policy",
        ),
        below(
            f"the fit: mean loss below that of pessimism at the safe radius, {few}",
            shared[0],
            shared[-1],
            by=0.2,
            stated="chosen",
        ),
    )


def criteria_of_rewards(fits: dict[str, Cautious]) -> tuple[Criterion, ...]:
    plain = [
        fit.pessimistic(0.0)[0].ravel() - (fit.features @ fit.weights[..., None]).ravel()
        for fit in fits.values()
    ]
    above = [fit.pessimistic(1.0)[0] - fit.world.rewards for fit in fits.values()]
    return (
        at_most(
            "pessimistic rewards less the true ones, at the safe radius",
            [each.max() for each in above],
            1e-9,
            stated="derived",
        ),
        at_most(
            "difference of rewards without pessimism from those of the fit",
            [np.abs(each).max() for each in plain],
            1e-9,
            stated="derived",
        ),
    )


# --- the table ---


def rows_of(found: Credit) -> list[Row]:
    worlds = f"{found.apart.size} worlds"
    steps = len(found.paths[TOKEN, 0.0]) - 1
    rows: list[Row] = []

    def add(what: str, reward: str, trace: float | str, values: np.ndarray) -> None:
        rows.append(
            {
                "measure": what,
                "reward": reward,
                "λ": trace,
                "mean": float(values.mean()),
                "least": float(values.min()),
                "largest": float(values.max()),
            }
        )

    for name in REWARDS:
        for trace, values in zip(found.traces, found.cosines[name], strict=True):
            add(f"cosine with the true gradient, {worlds}", name, trace, values)
    for (name, trace), path in found.paths.items():
        add(f"total variation to the optimum, {steps} steps", name, trace, path[-1])
        add(f"objective below the optimum's, {steps} steps", name, trace, found.lost[name, trace])
    for (name, exact), noise in found.noise.items():
        critic = "exact critic" if exact else "no critic"
        for place, where in ((0, "first policy"), (-1, "optimum")):
            add(f"noise of a response's gradient, {where}, {critic}", name, 1.0, noise[place])
    for what, values in zip(
        (f"share of tokens bounded at {BOUND:g} nat", "total variation to the optimum, bounded"),
        found.bounded,
        strict=True,
    ):
        add(what, TOKEN, "", values)
    return rows


def rows_of_caution(lost: dict[str, np.ndarray]) -> list[Row]:
    return [
        {
            "measure": f"objective below the optimum's, {share:g} of the safe radius,"
            f" {each.shape[-1]} worlds",
            "reward": f"fitted: {name}",
            "λ": "",
            "mean": float(values.mean()),
            "least": float(values.min()),
            "largest": float(values.max()),
        }
        for name, each in lost.items()
        for share, values in zip(CAUTIONS, each[:, 0], strict=True)
    ]

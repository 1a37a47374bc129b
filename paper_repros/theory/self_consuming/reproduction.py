"""Curation without and with real data on eight Gaussians, from samples, and among classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.self_consuming.curated_mixtures import (
    CANDIDATES,
    Classes,
    from_samples,
    on_a_grid,
    ranked_classes,
)
from prefsim.numerics import categorical_kl
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    falling,
    holds,
    near,
    panels,
    rising,
)
from prefsim.papers.figures import BLUE, GREEN, VERMILION
from prefsim.solvers.closed_forms.curation import curated_law, curation_factor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIOS = {"no real data": math.inf, "λ = 1": 1.0, "λ = 0.3": 0.3}
"""Curated samples on one real sample."""
ALONE, EQUAL, STABLE = RATIOS
COLOURS = {ALONE: VERMILION, EQUAL: BLUE, STABLE: GREEN}
FAR = slice(2, 7)
"""Centres that the liked one does not border on."""
SAMPLED_ROUNDS = 4


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    mixture = on_a_grid(35 if run.quick else 71)
    rounds = 10 if run.quick else 40
    paths = {
        name: mixture.loop(rounds, ratio)
        for name, ratio in run.progress(list(RATIOS.items()), "loops")
    }
    liked = {name: mixture.liked(path) for name, path in paths.items()}
    shares = {name: mixture.shares(path) for name, path in paths.items()}
    away = {name: np.asarray(categorical_kl(path, mixture.log_law)) for name, path in paths.items()}
    spread = np.exp(paths[ALONE]) @ np.exp(2 * mixture.reward) - liked[ALONE] ** 2
    room = RATIOS[STABLE] * (CANDIDATES - 1)
    first = curated_law(mixture.reward, mixture.log_law, candidates=CANDIDATES)
    factor = curation_factor(mixture.reward, mixture.log_law, candidates=CANDIDATES)

    sizes = (10, 2000) if run.quick else (40, 5000)
    sampled = np.stack([from_samples(sizes[1], SAMPLED_ROUNDS, rng) for _ in range(sizes[0])])
    classes = ranked_classes(rng, 20 if run.quick else 200)
    entropy = classes.entropy()
    order = np.argsort(classes.reward, axis=-1)
    ranked = np.take_along_axis(classes.path[1:], order[None], axis=-1)

    criteria = (
        rising(f"E e^r, {ALONE}", liked[ALONE], stated="paper"),
        at_least(
            f"gain of a round over (K − 1)/K times the variance of e^r, {ALONE}",
            np.diff(liked[ALONE])[:6] / ((CANDIDATES - 1) / CANDIDATES * spread[:-1])[:6],
            1.0,
            stated="paper",
        ),
        falling(f"variance of e^r, {ALONE}, from the second round on", spread[2:], stated="paper"),
        at_most(
            f"mass at the five far centres, {ALONE}",
            shares[ALONE][-1, FAR],
            1e-3,
            stated="derived",
            paper="collapse to the maximisers of the reward",
        ),
        at_least(
            f"mass at the five far centres, {STABLE}",
            shares[STABLE][-1, FAR],
            0.08,
            stated="derived",
            paper="stable with enough real data",
        ),
        at_most(
            f"KL from the real data over its bound −log(1 − λ(K − 1)), {STABLE}",
            away[STABLE] / -math.log1p(-room),
            1.0,
            stated="paper",
        ),
        below(
            "KL from the real data in the end: λ = 0.3, λ = 1",
            [away[STABLE][-1], away[EQUAL][-1]],
            [away[EQUAL][-1], away[ALONE][-1]],
            stated="derived",
        ),
        at_least(
            "E e^r in the end over that of the real data: λ = 0.3, λ = 1",
            [liked[STABLE][-1] / liked[STABLE][0], liked[EQUAL][-1] / liked[EQUAL][0]],
            1.5,
            stated="chosen",
            paper="above that of the real data",
        ),
        near(
            "the curation factor: mean under p, and times p over the next law at the liked centre",
            [np.exp(mixture.log_law) @ factor, *(np.exp(mixture.log_law) * factor / np.exp(first))],
            1.0,
            within=1e-9,
            stated="derived",
        ),
        near(
            f"E e^r of samples, mean of {sizes[0]} runs of {sizes[1]}, against the exact loop",
            sampled.mean(axis=0),
            liked[ALONE][1 : SAMPLED_ROUNDS + 1],
            within=0.03,
            stated="chosen",
        ),
        holds(
            "classes: shares after every round ordered as the rewards",
            np.asarray((np.diff(ranked, axis=-1) > 0).all(axis=(0, -1))),
            "rare classes of low reward become rarer",
            stated="paper",
            paper="bias of the reward is amplified (CIFAR-10)",
        ),
        falling("classes: mean entropy of the shares", entropy.mean(axis=-1), stated="paper"),
        at_most(
            "classes: entropy in the end over the first, mean",
            entropy[-1].mean() / entropy[0].mean(),
            0.65,
            stated="chosen",
        ),
    )
    table: list[dict[str, Any]] = [
        {
            "loop": name,
            "round": t,
            "mass at the liked centre": round(float(shares[name][t, 0]), 4),
            "least mass at a far centre": round(float(shares[name][t, FAR].min()), 4),
            "E e^r": round(float(liked[name][t]), 4),
            "KL from the real data": round(float(away[name][t]), 4),
        }
        for name in RATIOS
        for t in (0, 1, 5, 10, rounds)
        if t <= rounds
    ]
    cut = (
        "a coarser grid, 10 rounds rather than 40, 10 runs of 2,000 samples rather than 40 of"
        " 5,000, 20 draws of classes rather than 200"
    )
    return Reproduction(
        draw(liked, shares, sampled, classes), table, criteria, caption=CAPTION, cut=cut
    )


CAPTION = (
    "Left: how much users like what the model makes, round by round of retraining on what they"
    " kept; λ is how many kept samples come on a real one, so that a smaller λ holds the model"
    " nearer to the real data; crosses are models of samples rather than of laws. Middle: mass of"
    " the centre that is liked best (full lines) and of one far from it"
    " (dashed); a line at 0 is a kind of sample that is lost. Right: shares of ten classes that"
    " began alike, the least liked at the bottom."
)


def draw(
    liked: dict[str, np.ndarray],
    shares: dict[str, np.ndarray],
    sampled: np.ndarray,
    classes: Classes,
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Retrained on what users keep, a model ends on what they like best; real data among it"
            " keep the rest, and still leave a gain"
        ),
        width=5.0,
    )
    for name, values in liked.items():
        axes[0, 0].plot(values, marker="o", ms=3, color=COLOURS[name], label=f"exact, {name}")
        far = shares[name][:, FAR].mean(axis=-1)
        axes[0, 1].plot(shares[name][:, 0], color=COLOURS[name], label=f"liked centre, {name}")
        axes[0, 1].plot(far, "--", color=COLOURS[name], label=f"a far centre, {name}")
    rounds = np.arange(1, SAMPLED_ROUNDS + 1)
    axes[0, 0].errorbar(
        rounds,
        sampled.mean(axis=0),
        2 * sampled.std(axis=0),
        fmt="x",
        color="k",
        label="from samples (± 2 s.d. of runs)",
    )
    axes[0, 0].set(
        xlabel="rounds",
        ylabel="E e^r (the best: 1)",
        ylim=(0, 1.05),
        title=f"Eight Gaussians, one of {CANDIDATES} samples kept",
    )
    aside = {"frameon": False, "fontsize": 8, "loc": "center right", "bbox_to_anchor": (1, 0.72)}
    axes[0, 0].legend(**aside)
    axes[0, 1].set(xlabel="rounds", ylabel="mass", title="Who is left", ylim=(-0.02, 1.05))
    axes[0, 1].legend(**aside)
    order = np.argsort(classes.reward[0])
    shares_of = np.exp(classes.path[:, 0][:, order])
    axes[0, 2].stackplot(
        np.arange(len(shares_of)),
        shares_of.T,
        colors=[(0.1 + 0.085 * k, 0.25 + 0.06 * k, 0.55) for k in range(10)],
        edgecolor="w",
        lw=0.4,
    )
    axes[0, 2].set(
        xlabel="rounds",
        ylabel="share of the class, least liked first",
        xlim=(0, len(shares_of) - 1),
        ylim=(0, 1),
        title="Ten classes, equal at first: small differences\nof the reward are amplified",
    )
    return figure

"""Bounds and their gaps, every classification loss, adversaries, flipped labels of real data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paper_repros.robust.comp_sum import linear_scorers, noisy_sets, one_input
from paper_repros.robust.comp_sum.figure import CAPTION, draw
from paper_repros.robust.comp_sum.linear_scorers import (
    CROSS_ENTROPY,
    Robustness,
    rows_of_adversaries,
    smooth,
)
from paper_repros.robust.comp_sum.noisy_sets import ADAM, PLAIN, Study, rows_of_study
from prefsim.analysis import (
    h_consistency_bound,
    h_consistency_transformation,
    simple_h_consistency_bound,
)
from prefsim.analysis.class_calibration import (
    ClassLossProfile,
    class_loss_profile,
)
from prefsim.papers import Reproduction, Run, at_least, at_most, near
from prefsim.papers.criteria import Criterion

ATTAINED = (
    "sum-exponential (τ = 0)",
    "τ = 0.5",
    "cross-entropy (τ = 1)",
    "mean absolute error (τ = 2)",
    "ramps (ρ = 1, τ = 1)",
    "LDR-KL, λ = 0.5",
    "LDR-KL, λ = 2",
    "linear_symmetric",
)
NOT_CALIBRATED = ("crammer_singer", "Crammer–Singer, margin 1", "ldr_top_k")
SYMMETRIC = ("mean absolute error (τ = 2)", "linear_symmetric")


HALF = 5  # the place of an excess error of one half among those of a profile


class Compared(NamedTuple):
    """What each classification loss is like, and what errors cost at least where that is known."""

    profiles: dict[str, ClassLossProfile]
    bounds: dict[str, np.ndarray]

    def least(self, names: Any, place: int) -> list[float]:
        """Return the least excess risk of some losses at one excess error."""
        return [float(self.profiles[name].least_excess[place]) for name in names]


class Found(NamedTuple):
    """What the parts of the reproduction measured."""

    losses: Compared
    fragile: Robustness
    isotropic: Robustness | None
    studies: list[Study]
    plain: Study | None


def reproduce(run: Run) -> Reproduction:
    losses = compared(24 if run.quick else 60)
    # Seeds of one run are not those of the next.
    seeds = range(10 * run.seed, 10 * run.seed + (4 if run.quick else 10))
    radii, taus = ((0.4,), (1.0,)) if run.quick else ((0.1, 0.2, 0.4, 0.8), (1.0, 1.5, 2.0))
    fragile = linear_scorers.measure(radii, taus, seeds, fragile=True, run=run)
    isotropic = None
    if not run.quick:
        isotropic = linear_scorers.measure((0.1, 0.3), (1.0,), seeds, fragile=False, run=run)
    studies, plain = real_data(run, seeds)
    found = Found(losses, fragile, isotropic, studies, plain)
    criteria = (
        *criteria_of_bounds(run.seed),
        *criteria_of_losses(losses),
        *criteria_of_adversaries(fragile, isotropic, quick=run.quick),
        *criteria_of_real_data(studies, plain),
    )
    points = one_input.drawn_points(1.0, 3, 400, np.random.default_rng(run.seed))
    cut = (
        "4 seeds rather than 10, one radius and one smooth loss, digits alone and half of them, two"
        " kinds of noise, half of the steps"
    )
    return Reproduction(
        draw(points, *losses, fragile, studies), table_of(found), criteria, caption=CAPTION, cut=cut
    )


def compared(steps: int) -> Compared:
    """Return what every classification loss is like."""
    settings = one_input.every_setting()
    profiles = {
        name: class_loss_profile(setting.loss, margin=setting.margin, steps=steps)
        for name, setting in settings.items()
    }
    bounds = {
        name: setting.cost(profiles[name].gaps)
        for name, setting in settings.items()
        if setting.cost is not None
    }
    return Compared(profiles, bounds)


def real_data(run: Run, seeds: range) -> tuple[list[Study], Study | None]:
    """Return what is learned from each data set by Adam, and from clean digits step by step."""
    names = ("digits",) if run.quick else tuple(noisy_sets.N_TRAIN)
    noises = ("none", "uniform") if run.quick else noisy_sets.NOISES
    taus = (1.0, 1.7, 2.0) if run.quick else (0.0, 0.5, 1.0, 1.5, 1.7, 2.0)
    size: dict[str, Any] = {"share": 0.5 if run.quick else 1.0, "run": run}
    steps = 100 if run.quick else 200
    each = [noisy_sets.study(name, taus, noises, seeds, steps=steps, **size) for name in names]
    plain = noisy_sets.study(
        "digits", (1.0, 1.7, 2.0), ("none",), seeds, steps=30, optimiser=PLAIN, **size
    )
    return [study for study in each if study is not None], plain


def criteria_of_bounds(seed: int) -> tuple[Criterion, ...]:
    rng = np.random.default_rng(seed)
    crossed = []
    for tau in one_input.FAMILY:
        for n_classes in (2, 3, 10):
            points = one_input.drawn_points(tau, n_classes, 2000, rng)
            cost = h_consistency_transformation(points.gap, tau=tau, n_classes=n_classes)
            # Exponentials carry rounding in proportion to themselves.
            crossed.append(np.max((cost - points.excess) / (1 + points.excess)))
    gaps = np.linspace(0.05, 1.0, 20)
    attained = [one_input.attained(tau, 10, gaps) for tau in (0.0, 0.5, 1.0)]
    attained += [one_input.attained(tau, 2, gaps) for tau in (1.5, 1.9)]
    cost = h_consistency_transformation(gaps, tau=1.5, n_classes=10)
    return (
        at_most(
            "cost of an error above the excess risk, 30,000 inputs",
            crossed,
            1e-10,
            stated="paper",
            paper="no scorer crosses the bound (theorem)",
        ),
        near(
            "excess risk of two labels that scores cannot tell apart",
            np.concatenate([found for found, _ in attained]),
            np.concatenate([bound for _, bound in attained]),
            within=1e-12,
            stated="paper",
            paper="the bounds are tight (theorem)",
        ),
        near(
            "error that an excess risk allows, of what errors cost",
            h_consistency_bound(cost, tau=1.5, n_classes=10),
            gaps,
            within=1e-10,
            stated="derived",
        ),
        near(
            "closed-form bounds of an excess risk of .02 with 3 classes, τ = ½, 1, 2",
            [simple_h_consistency_bound(0.02, tau=t, n_classes=3) for t in (0.5, 1.0, 2.0)],
            [0.02**0.5 * (1.5 * 2**0.5) ** 0.5, 0.2, 0.06],
            within=1e-12,
            stated="paper",
        ),
        near(
            "minimisability gaps of constant scores on two inputs, five τ",
            one_input.gaps(one_input.FAMILY),
            one_input.KNOWN_GAPS,
            within=1e-9,
            stated="derived",
        ),
        near(
            "bound of the gap at τ = 0, where it is the gap",
            one_input.gap_bounds(np.zeros(1)),
            one_input.KNOWN_GAPS[0],
            within=1e-9,
            stated="derived",
        ),
        near(
            "smooth losses, least lead and local variation of one linear scorer",
            linear_scorers.by_hand_values(),
            linear_scorers.KNOWN_VALUES,
            within=1e-6,
            stated="derived",
        ),
    )


def criteria_of_losses(losses: Compared) -> tuple[Criterion, ...]:
    profiles, bounds = losses
    shares = [bound / profiles[name].least_excess for name, bound in bounds.items()]
    at_half = [bounds[name][HALF] for name in ATTAINED]
    noisy = [profiles[name].noise for name in bounds if name not in SYMMETRIC]
    return (
        at_most(
            "bound over the least excess risk found on grids, losses with a formula",
            np.concatenate(shares),
            1.001,
            stated="derived",
        ),
        near(
            "the same at an excess error of one half, where it is attained",
            np.divide(at_half, losses.least(ATTAINED, HALF)),
            1.0,
            within=0.001,
            stated="derived",
        ),
        at_least(
            "least excess risk of an error, losses with a formula",
            losses.least(bounds, 0),
            1e-3,
            stated="derived",
        ),
        at_most(
            "least excess risk of an error: " + ", ".join(NOT_CALIBRATED),
            losses.least(NOT_CALIBRATED, 0),
            1e-9,
            stated="derived",
        ),
        at_most(
            "what uniform noise adds: mean absolute error, symmetric loss",
            [profiles[name].noise for name in SYMMETRIC],
            1e-9,
            stated="derived",
        ),
        at_least(
            "what uniform noise adds: every other loss with a formula", noisy, 0.05, stated="chosen"
        ),
    )


def criteria_of_adversaries(
    fragile: Robustness, isotropic: Robustness | None, *, quick: bool
) -> tuple[Criterion, ...]:
    ours, plain = smooth(1.0), CROSS_ENTROPY
    small = [place for place, radius in enumerate(fragile.radii) if radius <= 0.4]
    ratio = fragile.robust[plain].mean(axis=-1) / fragile.robust[ours].mean(axis=-1)
    lost = fragile.clean[ours].mean(axis=-1) - fragile.clean[plain].mean(axis=-1)
    criteria = [
        at_most(
            "robust error of the smooth loss, τ = 1, γ <= .4, every seed",
            fragile.robust[ours][small],
            0.05,
            stated="chosen",
        ),
        at_most(
            "clean error it adds to cross-entropy, γ <= .4, means",
            lost[small],
            0.01,
            stated="chosen",
            paper="better clean accuracy than other defences (table)",
        ),
        at_least(
            "mean robust error of cross-entropy over it, γ = .4",
            ratio[small[-1]],
            1.5 if quick else 3.0,
            stated="chosen",
            paper="more robust (table)",
        ),
    ]
    if isotropic is None:
        return tuple(criteria)
    fallen: list[np.ndarray] = []
    standing: list[np.ndarray] = []
    for tau in (1.5, 2.0):
        for place, radius in enumerate(fragile.radii):
            beyond = radius >= linear_scorers.collapse_radius(tau)
            (fallen if beyond else standing).append(fragile.robust[smooth(tau)][place])
    gain = isotropic.robust[plain] - isotropic.robust[ours]
    return (
        *criteria,
        at_least(
            "robust error for γ >= R 3^(−τ), τ = 1.5 and 2, every seed",
            fallen,
            0.6,
            stated="derived",
        ),
        at_most(
            "robust error for γ < R 3^(−τ), τ = 1.5 and 2, every seed",
            standing,
            0.1,
            stated="derived",
        ),
        at_most(
            "robust error gained without fragile features, means, γ = .1 and .3",
            gain.mean(axis=-1),
            0.005,
            stated="chosen",
        ),
    )


def criteria_of_real_data(studies: list[Study], plain: Study | None) -> tuple[Criterion, ...]:
    if plain is None:
        return ()
    digits = studies[0]
    return (
        at_most(
            "digits, clean, Adam: mean accuracy of cross-entropy less MAE, either way",
            abs(digits.lead(2.0, "none").mean()),
            0.03,
            stated="chosen",
            paper="cross-entropy ahead (table)",
        ),
        at_least(
            "digits, clean, 30 plain steps: mean accuracy of cross-entropy less MAE",
            -plain.lead(2.0, "none").mean(),
            0.05,
            stated="chosen",
            paper="cross-entropy ahead (table)",
        ),
        at_least(
            "digits, 40 % uniform flips, Adam: mean accuracy of MAE less cross-entropy",
            digits.lead(2.0, "uniform").mean(),
            0.03,
            stated="chosen",
        ),
    )


def table_of(found: Found) -> list[dict[str, str | float | int]]:
    rows: list[dict[str, str | float | int]] = []
    for name, loss in found.losses.profiles.items():
        row: dict[str, str | float | int] = {
            "part": "losses, three classes",
            "loss": name,
            "scores": "positive, mean one" if loss.normalised else "free",
            "calibrated": "yes" if loss.calibrated else "no",
            "least excess of an error of ½": round(float(loss.least_excess[HALF]), 5),
            "noise adds": round(loss.noise, 4),
        }
        if name in found.losses.bounds:
            row["its bound"] = round(float(found.losses.bounds[name][HALF]), 5)
        rows.append(row)
    rows += rows_of_adversaries("fragile feature", found.fragile)
    if found.isotropic is not None:
        rows += rows_of_adversaries("isotropic", found.isotropic)
    for study in found.studies:
        rows += rows_of_study(study, ADAM)
    if found.plain is None:
        rows.append({"part": "real data", "loss": "skipped: scikit-learn is not installed"})
    else:
        rows += rows_of_study(found.plain, PLAIN)
    return rows

"""What losses say, the order of the sixteen, what training does, and who is ahead of whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.logic_dpa.figure import CAPTION, draw
from paper_repros.theory.logic_dpa.log_linear import FORGOTTEN, STEPS, Trained, Worlds, leads, train
from paper_repros.theory.logic_dpa.statements import (
    DPOP,
    OF_PAIRS,
    OF_REFERENCES,
    core_is_as_written,
    distinct_structures,
    name_of,
    read_off,
    two_response_optima,
)
from prefsim import losses
from prefsim.logic import (
    NAMED_STRUCTURES,
    PreferenceStructure,
    covering_pairs,
    log_count_ratio,
    log_count_ratios,
)
from prefsim.numerics import sigmoid
from prefsim.papers import Reproduction, Run, at_least, at_most, holds, near

if TYPE_CHECKING:
    from prefsim.papers import Criterion

FLIP_RATE = 0.3
WEIGHTS = np.array([0.6, 0.3, 0.5, 0.4])
"""Of the model and of the reference, at which the lattices are drawn."""


def reproduce(run: Run) -> Reproduction:
    plain = NAMED_STRUCTURES
    lifted = {name: each.with_reference() for name, each in plain.items()}
    arrows = covering_pairs(plain)
    scores = {
        name: (
            float(log_count_ratio(each, np.log(WEIGHTS[:2]))),
            float(log_count_ratio(lifted[name], np.log(WEIGHTS))),
        )
        for name, each in plain.items()
    }
    rises = np.array([np.subtract(scores[high], scores[low]) for low, high in arrows])

    # In full every function of two predictions is trained with, quickly the sixteen alone.
    structures = list(plain.values()) if run.quick else list(distinct_structures())
    count, noisy_steps = (4, 100) if run.quick else (20, STEPS)
    worlds = Worlds.draw(range(20 * run.seed, 20 * run.seed + count))
    clean, noisy = (
        train(worlds, structures, flip_rate=rate, steps=steps)
        for rate, steps in run.progress(((0.0, STEPS), (FLIP_RATE, noisy_steps)), "trainings")
    )
    preference = float(np.random.default_rng(run.seed).uniform(0.6, 0.9))
    optima = two_response_optima(structures, preference)
    found = leads(structures, clean, noisy)
    criteria = (
        *_statements(lifted, arrows, rises),
        *_trained(clean, list(plain), structures),
        *_optima(optima, list(plain), preference),
    )
    table: list[dict[str, Any]] = [
        {
            "task": lead.task,
            "best new": lead.new,
            "best in use": lead.old,
            "mean of the new": round(lead.new_value, 4),
            "mean of the old": round(lead.old_value, 4),
            "lead": f"{lead.mean:.4f} [{lead.low:.4f}, {lead.high:.4f}]",
            "says": lead.verdict,
        }
        for lead in found
    ]
    table += _rows(structures, clean, noisy, optima, preference)
    cut = (
        "the sixteen named losses rather than every function of two predictions, 4 worlds rather"
        " than 20, and fewer steps under flipped labels"
    )
    return Reproduction(
        draw(plain, lifted, arrows, scores, clean, found), table, criteria, caption=CAPTION, cut=cut
    )


def _statements(
    lifted: dict[str, PreferenceStructure],
    arrows: tuple[tuple[str, str], ...],
    rises: np.ndarray,
) -> tuple[Criterion, ...]:
    says = [row.says for row in (*OF_PAIRS.values(), *OF_REFERENCES.values(), DPOP)]
    with_reference = covering_pairs(lifted)
    return (
        holds(
            f"decompiled from their polynomials: {', '.join(OF_PAIRS)}, DPO, its variant, DPOP",
            [each == said for each, said in zip(read_off(), says, strict=True)],
            "the structures that the paper reads in them",
            stated="paper",
        ),
        near(
            "arrows between the sixteen losses, without and with a reference",
            [len(arrows), len(with_reference)],
            32,
            within=0.0,
            stated="paper",
        ),
        holds(
            "each arrow",
            [arrow in with_reference for arrow in arrows],
            "is there with a reference too",
            stated="paper",
        ),
        at_least(
            "rise of the score along the arrows, without and with a reference",
            rises,
            1e-3,
            stated="derived",
            paper="the stronger has the larger loss",
        ),
        holds(
            "formulas of the sixteen relative to a reference",
            [core_is_as_written(name, "log_ratio") for name in NAMED_STRUCTURES],
            "as the paper writes them, on the worlds that decide",
            stated="paper",
        ),
    )


def _trained(
    clean: Trained, names: list[str], structures: list[PreferenceStructure]
) -> tuple[Criterion, ...]:
    """Return what the world "neither is valid" decides; the sixteen structures come first."""
    last = {name: NAMED_STRUCTURES[name].labels[-1] for name in names}
    falling = [place for place, name in enumerate(names) if last[name] == "-"]
    ranking = [place for place, name in enumerate(names) if last[name] == "n"]
    others = [place for place, name in enumerate(names) if last[name] in "+b"]
    same = []
    for place in range(len(names)):
        pair = clean.logps(place)
        score = log_count_ratios([structures[place]], clean.pairs[place][..., None, :])[..., 0]
        value = losses.semantic(pair, structure=names[place])
        same.append(np.logaddexp(0.0, -score).mean() / value.mean())
    return (
        near(
            "loss at the end of training, from all scores at once over each loss by itself",
            same,
            1.0,
            within=1e-9,
            stated="derived",
        ),
        at_least(
            "four that count “neither is valid” against: change of log π(chosen), all worlds",
            clean.chosen[falling],
            0.0,
            stated="derived",
        ),
        at_least(
            "four that leave it out: share of pairs ranked as labelled, all worlds",
            clean.accuracy[ranking],
            1.0,
            stated="derived",
        ),
        at_most(
            "eight that count it for, or both ways: mean change of log π(chosen)",
            clean.chosen[others].mean(axis=1),
            -3.0,
            stated="chosen",
        ),
    )


def _optima(optima: np.ndarray, names: list[str], preference: float) -> tuple[Criterion, ...]:
    at = dict(zip(names, optima[: len(names)], strict=True))
    return (
        near(
            f"exact optimum of two responses at votes of {preference:.3f}: CE, CEUnl, fUNL, CPO,"
            " qfUNL",
            [at[name] for name in ("CE", "CEUnl", "fUNL", "CPO", "qfUNL")],
            preference,
            within=1e-6,
            stated="derived",
        ),
        near(
            "the same of ORPO, at half the log-odds",
            at["ORPO"],
            float(sigmoid(np.log(preference / (1 - preference)) / 2)),
            within=1e-6,
            stated="derived",
        ),
    )


def _rows(
    structures: list[PreferenceStructure],
    clean: Trained,
    noisy: Trained,
    optima: np.ndarray,
    preference: float,
) -> list[dict[str, Any]]:
    return [
        {
            "loss": name_of(each),
            "labels": each.labels,
            "says": str(each.core),
            f"optimum of two responses at {preference:.3f}": _optimum(optima[place]),
            "Δ log π(chosen)": round(float(clean.chosen[place].mean()), 3),
            "Δ log π(rejected)": round(float(clean.rejected[place].mean()), 3),
            "ranked": round(float(clean.accuracy[place].mean()), 3),
            f"ranked, {FLIP_RATE:.0%} flipped": round(float(noisy.accuracy[place].mean()), 3),
            f"Δ chosen when the rejected have lost {FORGOTTEN:g}": _shown(clean.chosen_then[place]),
            "held-out KL then": _shown(clean.disturbed[place]),
        }
        for place, each in enumerate(structures)
    ]


def _optimum(value: float) -> float | str:
    return round(float(value), 4) if np.isfinite(value) else "either end"


def _shown(values: np.ndarray) -> float | str:
    reached = np.isfinite(values)
    if not reached.all():
        return f"reached in {int(reached.sum())} of {values.size}"
    return round(float(values.mean()), 3)

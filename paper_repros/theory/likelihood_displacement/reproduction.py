"""Five words of which "Yes" gains from "No", and drawn pairs that CHES orders."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from paper_repros.theory.likelihood_displacement.drawn_pairs import (
    DPO,
    GROUPS,
    SHORTEST,
    Ordered,
    ches_over_rate,
    correlations,
    groups,
    over_the_gram,
)
from paper_repros.theory.likelihood_displacement.figure import caption, draw
from paper_repros.theory.likelihood_displacement.unconstrained import (
    BETA,
    NEVER,
    NO,
    WORDS,
    YES,
    five_words,
    over,
    probabilities,
    step,
    trained,
)
from prefsim import losses
from prefsim.analysis import token_rates
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    falling,
    holds,
    near,
    rising,
)

IPO = functools.partial(losses.ipo, tau=BETA)


class Setting(NamedTuple):
    """What is preferred to what, by which loss, and how fast hidden states move."""

    preferred: tuple[int, int]
    loss: Any
    rate: float
    states: float = 1.0


SETTINGS = {
    "DPO, No over Never": Setting((NO, NEVER), DPO, 0.1),
    "IPO, No over Never": Setting((NO, NEVER), IPO, 0.005),
    "DPO, hidden state frozen": Setting((NO, NEVER), DPO, 0.1, 0.0),
    "likelihood of No": Setting((NO, NEVER), losses.sft, 0.1),
    "DPO, No over Yes": Setting((NO, YES), DPO, 0.1),
}
STEPS = 400


def reproduce(run: Run) -> Reproduction:
    seeds = range(3 if run.quick else 10)
    paths = {name: path_of(setting) for name, setting in SETTINGS.items()}
    ordered = {
        "any length": correlations(run.seed, seeds, shortest=SHORTEST),
        "equal lengths": correlations(run.seed, seeds),
        "equal lengths, no common mean": correlations(run.seed, seeds, shared_mean=0.0),
    }
    trainings = range(2 if run.quick else 10)
    steps = 100 if run.quick else 300
    found = [groups((run.seed, seed), steps) for seed in run.progress(trainings, "seeds")]
    drifts = {name: np.stack([each[name].chosen for each in found]) for name in found[0]}
    displaced = {name: np.stack([each[name].displaced for each in found]) for name in found[0]}
    criteria = (
        *judge_words(paths),
        *judge_order(run, ordered),
        *judge_groups(drifts, displaced),
    )
    table: list[dict[str, Any]] = [
        {"training": name} | {f"π({w}) at the end": round(float(p), 4) for w, p in _ends(path)}
        for name, path in paths.items()
    ]
    table += [
        {
            "drawn pairs": name,
            "rank correlation of CHES": _range(rows.ches),
            "of CHES per token": _range(rows.per_token),
            "of the edit distance": _range(rows.edits),
            "share of pairs displaced by a step on them alone": _range(rows.displaced),
        }
        for name, rows in ordered.items()
    ]
    table += [
        {"24 pairs by": name}
        | {f"Δ log π(chosen), {group}": _range(drift[:, k]) for k, group in enumerate(GROUPS)}
        | {f"displaced, {group}": _range(displaced[name][:, k]) for k, group in enumerate(GROUPS)}
        for name, drift in drifts.items()
    ]
    cut = "3 draws of the pairs rather than 10, 2 trainings of 100 steps rather than 10 of 300"
    return Reproduction(draw(run, paths, drifts), table, criteria, caption(drifts), cut)


def _range(values: np.ndarray) -> str:
    return f"{values.mean():.3g} [{values.min():.3g}, {values.max():.3g}]"


def _ends(path: np.ndarray) -> Any:
    return zip(WORDS, path[-1], strict=True)


# --- five words ---


def path_of(setting: Setting) -> np.ndarray:
    """Return the probabilities of all words along a training, ``(STEPS + 1, 5)``."""
    models = trained(
        five_words(),
        over(*setting.preferred),
        setting.loss,
        rate=setting.rate,
        steps=STEPS,
        states=setting.states,
    )
    return np.array([probabilities(model) for model in models])


def first_steps() -> np.ndarray:
    """Return small changes of all log-probabilities over the rates in closed form, ``(3, 5)``."""
    model, pair = five_words(), over(NO, NEVER)
    start, ratios = pair.log_probs(model), []
    for loss, up, down in (
        (DPO, BETA / 2, BETA / 2),
        (IPO, 1 / BETA, 1 / BETA),
        (losses.sft, 1, 0),
    ):
        ahead, back = (
            np.log(probabilities(step(model, pair, start, loss, rate=rate)))
            for rate in (1e-6, -1e-6)
        )
        state = model.chosen_states[0, 0]
        rates = token_rates(
            model.unembedding, state, NO, NEVER, chosen_slope=up, rejected_slope=down
        )
        ratios.append((ahead - back) / 2e-6 / (rates.unembedding + rates.state))
    return np.array(ratios)


def judge_words(paths: dict[str, np.ndarray]) -> Any:
    """Yield what is expected of the five words."""
    dpo, ipo, frozen, likelihood, other = paths.values()
    margin = np.log(ipo[:, NO] / ipo[:, NEVER])
    rows = five_words().unembedding
    aligned = rows @ (rows[NO] - rows[NEVER])
    beside = np.array([z not in (NO, NEVER) for z in range(len(WORDS))])
    yield near(
        "five words, DPO, IPO and likelihood: small steps of all log-probabilities, over the rates"
        " in closed form",
        first_steps(),
        1.0,
        within=1e-4,
        stated="derived",
    )
    yield holds(
        "DPO and IPO on No over Never, 200 steps",
        [path[200, NO] < path[0, NO] for path in (dpo, ipo)],
        "No is less likely than at the start",
        stated="paper",
    )
    yield at_least(
        "the same: π(Yes), which was .223 at the start",
        [path[200, YES] for path in (dpo, ipo)],
        0.7,
        stated="derived",
        paper="Yes increases sharply",
    )
    yield holds(
        "the same: the word beside the pair that gains most",
        [(path[200] - path[0])[beside].argmax() == aligned[beside].argmax() for path in (dpo, ipo)],
        "has the embedding that is most aligned with W(No) − W(Never)",
        stated="paper",
    )
    yield at_least(
        "DPO, 400 steps: π(No) over its least, which it has on the way: the dip is transient",
        dpo[-1, NO] / dpo[:, NO].min(),
        2.0,
        stated="derived",
    )
    yield near(
        "IPO: growth of the margin, which ends at 1/(2τ)",
        margin[-1] - margin[0],
        1 / (2 * BETA),
        within=1e-3,
        stated="derived",
    )
    yield rising("DPO, hidden state frozen: π(No)", frozen[:, NO], stated="derived")
    yield rising("likelihood of No alone: π(No)", likelihood[:, NO], stated="derived")
    yield at_most("DPO, No over Yes: π(Yes)", other[-1, YES], 1e-6, stated="derived")


# --- drawn pairs ---


def judge_order(run: Run, ordered: dict[str, Ordered]) -> Any:
    """Yield what is expected of the scores."""
    varied, equal, without = ordered.values()
    yield near(
        "drawn pairs: small steps of log π(chosen), over the inner products of gradients",
        over_the_gram((run.seed, 98)),
        1.0,
        within=1e-3,
        stated="paper",
    )
    yield near(
        "where all predictions are one: α CHES over the fall of the chosen response by W",
        ches_over_rate((run.seed, 97)),
        1.0,
        within=1e-9,
        stated="paper",
    )
    yield at_most(
        "drawn pairs: rank correlation of CHES with the rate of log π(chosen)",
        varied.ches,
        -0.6,
        stated="chosen",
        paper="CHES identifies the samples that displace",
    )
    yield at_most("the same, equal lengths", equal.ches, -0.4, stated="chosen")
    yield below(
        "the same beside that of pairs whose hidden states have no mean in common",
        equal.ches,
        without.ches,
        stated="derived",
    )
    yield below(
        "the same beside that of the edit distance, both without sign",
        np.abs(equal.edits),
        np.abs(equal.ches),
        stated="paper",
    )
    yield below(
        "any length, where the length orders as well: CHES beside CHES per token",
        varied.ches,
        varied.per_token,
        stated="derived",
    )
    yield near(
        "no mean in common: share of pairs that a step on them alone displaces",
        without.displaced,
        0.0,
        within=0.01,
        stated="derived",
    )


def judge_groups(drifts: dict[str, np.ndarray], displaced: dict[str, np.ndarray]) -> Any:
    """Yield what is expected of trainings on what a score selects."""
    ches, per_token_, edits, alone = drifts.values()
    yield at_least(
        "24 pairs of lowest CHES: change of mean log π(chosen)", ches[:, 0], 0.0, stated="derived"
    )
    yield at_most(
        "24 pairs of highest CHES: change of mean log π(chosen)", ches[:, 2], 0.0, stated="derived"
    )
    yield falling(
        "change of mean log π(chosen) from the lowest to the highest CHES, all seeds",
        ches.mean(axis=0),
        stated="derived",
    )
    yield below(
        "the same, highest beside median in each seed", ches[:, 2], ches[:, 1], stated="derived"
    )
    yield between(
        "share of pairs displaced, highest CHES", displaced["CHES"][:, 2], 0.6, 1.0, stated="chosen"
    )
    yield below(
        "highest beside lowest, by CHES per token",
        per_token_[:, 2],
        per_token_[:, 0],
        stated="paper",
        paper="filtering by it prevents unalignment",
    )
    yield below(
        "spread from lowest to highest, mean of seeds: by edit distance beside by CHES",
        np.abs(edits[:, 0] - edits[:, 2]).mean(),
        (ches[:, 0] - ches[:, 2]).mean(),
        stated="paper",
    )
    yield below(
        "highest CHES: change of mean log π(chosen) together beside each pair alone",
        ches[:, 2],
        alone[:, 2],
        stated="derived",
        by=1.0,
    )

"""What the optimum of each reward writes, how it tracks gold, and what a learned reward prefers.

Pairs judged by people come from a folder with real data; without them that part is not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paper_repros.robust.r3.picture import CAPTION, draw
from paper_repros.robust.r3.preferences import Agreement, Confounded, angles, judge_harmless
from paper_repros.robust.r3.token_world import (
    BETAS,
    EMBEDDINGS,
    HARD,
    LONGEST,
    MIDDLE,
    QUERY,
    REWARDS,
    VOCABULARY,
    Terms,
    all_responses,
    ascended,
    checkpoints,
    gold_along,
    means,
    optimum,
    terms_of,
    terms_of_relevances,
    tracking,
    values_by_length,
)
from prefsim.numerics import categorical_kl
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    falling,
    near,
)
from prefsim.papers.criteria import Criterion
from prefsim.raters import relevance_reward
from prefsim.raters.white_box import LENGTH_SCALE, mean_pooled

Row = dict[str, str | float | int]

CONFOUNDED = (
    *((0.0, 1.0), (0.8, 0.0), (0.5, 1.0), (0.8, 0.5)),
    *((0.7, 1.0), (0.8, 1.0), (0.8, 1.5)),
)
HARMLESS = "people, harmless answers (hh-rlhf)"


class Tracked(NamedTuple):
    """Spearman's correlations of proxy and gold in drawn worlds, by reward: each ``(worlds,)``.

    Attributes
    ----------
    middle, hard
        Of trainings to the two ends, where the tokens have relevances in [0, 1].
    negative
        To the first end, where they have relevances in [−1, 0].
    """

    middle: dict[str, np.ndarray]
    hard: dict[str, np.ndarray]
    negative: dict[str, np.ndarray]


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    terms = terms_of()
    values = ascents(terms, rng, plain=1000 if run.quick else 20_000)
    tracked = track(rng, 20 if run.quick else 500)
    learned = learn(rng, run, sets=1 if run.quick else 10)
    people = None
    if run.data is not None:
        people = judge_harmless(run.data, pairs=1000 if run.quick else None)
    criteria = (
        *criteria_of_optima(terms),
        *criteria_of_training(terms, values, tracked),
        *criteria_of_learned(learned),
        *(criteria_of_people(people) if people else ()),
    )
    table = [
        *rows_of_optima(terms),
        *rows_of_tracking(terms, tracked),
        *rows_of_learned(learned),
        *rows_of_people(people),
    ]
    cut = (
        "1,000 plain steps rather than 20,000, 20 drawn worlds rather than 500, one data set a"
        " reward rather than 10, 1,000 pairs of people"
    )
    return Reproduction(draw(terms, values, learned), table, criteria, caption=CAPTION, cut=cut)


# --- what is measured ---


def optimal(terms: Terms, name: str, beta: float) -> tuple[np.ndarray, float]:
    """Return the log-probabilities of the optimum of a reward, and its value."""
    log_policy, log_z = optimum(terms.reward(name), 1 / beta)
    return log_policy, float(beta * log_z)


def ascents(terms: Terms, rng: np.random.Generator, *, plain: int) -> dict[str, np.ndarray]:
    """Return what is left to the optimal values along policy gradients, ``(steps + 1, rewards)``.

    From a start near the reference, as it is and with Adam's steps.
    """
    log_reference = all_responses().log_reference
    start = log_reference + 0.5 * rng.standard_normal(log_reference.shape)
    rewards = np.stack([terms.reward(name) for name in REWARDS])
    best = MIDDLE * optimum(rewards, 1 / MIDDLE)[1]
    how = {"plain": ("sgd", 20.0, plain), "Adam": ("adam", 0.1, 1500)}
    return {
        name: best
        - ascended(rewards, beta=MIDDLE, optimiser=optimiser, step=step, steps=steps, start=start)
        for name, (optimiser, step, steps) in how.items()
    }


def track(rng: np.random.Generator, worlds: int) -> Tracked:
    """Return how proxies track gold in worlds whose tokens have drawn relevances."""

    def tracked(relevances: np.ndarray, end: float) -> dict[str, np.ndarray]:
        # A few at a time, which bounds the memory.
        drawn = [terms_of_relevances(part) for part in np.split(relevances, 5)]
        return {
            name: np.concatenate(
                [tracking(terms.reward(name), terms.gold(), checkpoints(end)) for terms in drawn]
            )
            for name in REWARDS
        }

    relevances = rng.random((worlds, VOCABULARY))
    return Tracked(
        middle=tracked(relevances, MIDDLE),
        hard=tracked(relevances, HARD),
        negative=tracked(-relevances, MIDDLE),
    )


def learn(rng: np.random.Generator, run: Run, *, sets: int) -> dict[Confounded, np.ndarray]:
    """Return the weights learned from so many sets of comparisons each, ``(sets, 2)``."""
    cases = [Confounded(*case) for case in CONFOUNDED]
    return {
        case: np.stack([case.weights(4000, rng) for _ in range(sets)])
        for case in run.progress(cases, "learned rewards")
    }


def rewards_of_texts() -> np.ndarray:
    """Return R³ of all responses as texts, as the length incentive counts texts."""
    place = {"aa": 0, "bb": 1, "cc": 2}
    words = tuple(place)
    tokens = all_responses().tokens
    lines = [" ".join(words[k] for k in row if k >= 0) for row in tokens]

    def embed(texts: Sequence[str]) -> np.ndarray:
        rows = np.full((len(texts), LONGEST), -1)
        for row, text in zip(rows, texts, strict=True):
            found = [place[word] for word in text.split()]
            row[: len(found)] = found
        return mean_pooled(EMBEDDINGS, rows)

    return relevance_reward([words[0]] * len(lines), lines, embed=embed)


# --- criteria ---


def criteria_of_optima(terms: Terms) -> tuple[Criterion, ...]:
    enumerated = [optimal(terms, name, b)[1] for name in list(REWARDS)[:3] for b in BETAS]
    by_length = [values_by_length(name, b) for name in list(REWARDS)[:3] for b in BETAS]
    rewards = {name: terms.reward(name) for name in REWARDS}
    best = {name: reward >= reward.max() - 1e-12 for name, reward in rewards.items()}
    relevance = np.sort(EMBEDDINGS @ QUERY)[::-1]
    policies = {name: [optimal(terms, name, b)[0] for b in BETAS] for name in REWARDS}
    distinct, length, related = (
        {name: means(np.stack(policies[name]), term) for name in ("LI·QR", "R³")}
        for term in (terms.distinct, terms.length, terms.relevance)
    )
    return (
        near(
            "optimal values of QR, LI and LI·QR at four β, less sums over lengths",
            np.subtract(enumerated, by_length),
            0.0,
            within=1e-12,
            stated="derived",
        ),
        near(
            f"maximisers of {', '.join(REWARDS)}",
            [which.sum() for which in best.values()],
            # Copies of six lengths, all longest responses, the longest copy, one change in it.
            [LONGEST, VOCABULARY**LONGEST, 1, 2],
            within=0,
            stated="derived",
        ),
        near(
            "distinct trigrams of the maximisers of LI·QR and of R³, and the largest R³",
            [*(terms.distinct[best[name]].mean() for name in ("LI·QR", "R³")), rewards["R³"].max()],
            [1 / (LONGEST - 2), 1.0, (5 * relevance[0] + relevance[1]) / 6],
            within=1e-12,
            stated="derived",
        ),
        below(
            f"E RP at β = {', '.join(map(str, BETAS))}: LI·QR below R³",
            distinct["LI·QR"],
            distinct["R³"],
            stated="paper",
            paper="repetition is penalised",
        ),
        at_most(
            f"E RP of LI·QR at β = {BETAS[-1]}: most is repeated",
            distinct["LI·QR"][-1],
            0.5,
            stated="chosen",
            paper="relevance is hacked by shortcuts",
        ),
        between(
            "what R³ costs of E QR and of E LI at the four β",
            [*(related["LI·QR"] - related["R³"]), *(length["LI·QR"] - length["R³"])],
            0.0,
            0.1,
            stated="chosen",
        ),
        at_most(
            "R³ of all responses as texts, less that of their tokens",
            np.abs(rewards_of_texts() - rewards["R³"] * LONGEST / LENGTH_SCALE),
            1e-12,
            stated="derived",
        ),
    )


def criteria_of_training(
    terms: Terms, left: dict[str, np.ndarray], tracked: Tracked
) -> tuple[Criterion, ...]:
    hacked = gold_along(terms, "LI·QR")
    return (
        between(
            f"what 1,500 steps of Adam on exact gradients leave to β log Z, β = {MIDDLE}",
            left["Adam"][-1],
            0.0,
            1e-4,
            stated="chosen",
        ),
        falling(
            "what plain gradients leave, largest of four rewards, before and after",
            left["plain"][[0, -1]].max(axis=-1),
            stated="derived",
        ),
        at_least(
            f"Spearman of R³ with gold less that of LI in every drawn world, to β = {MIDDLE} and"
            f" to {HARD}",
            [(found["R³"] - found["LI"]).min() for found in (tracked.middle, tracked.hard)],
            0.0,
            stated="chosen",
            paper="R³ .9545",
        ),
        at_least(
            f"mean Spearman of R³ less that of LI·QR, to β = {HARD}",
            tracked.hard["R³"].mean() - tracked.hard["LI·QR"].mean(),
            0.3,
            stated="chosen",
        ),
        at_most(
            "mean Spearman of R³ where every relevance is negative, which turns its factors round,"
            f" to β = {MIDDLE}",
            tracked.negative["R³"].mean(),
            0.95,
            stated="chosen",
        ),
        at_least(
            f"gold that LI·QR loses again from its peak on, to β = {HARD}",
            hacked.max() - hacked[-1],
            0.05,
            stated="chosen",
        ),
    )


def criteria_of_learned(learned: dict[Confounded, np.ndarray]) -> tuple[Criterion, ...]:
    stated = [np.arctan(case.ratio()) for case in learned]
    on_topic = np.array([weights.mean(axis=0) @ [1.0, -1.0] for weights in learned.values()])
    ahead = np.array([case.ratio() > 1.5 for case in learned])
    apart = np.array([case.ratio() < 0.5 for case in learned])
    return (
        near(
            "angle of the learned weights of relevance and length, and arctan σ²ρ/(1 − ρ²)",
            angles(learned),
            stated,
            # Five deviations of the noisiest case, of one set of 4,000 comparisons.
            within=0.35,
            stated="derived",
        ),
        at_most(
            "learned reward of short on-topic less long off-topic, where σ²ρ/(1 − ρ²) > 1.5",
            on_topic[ahead],
            0.0,
            stated="paper",
            paper="long off-topic above short on-topic",
        ),
        at_least(
            "the same where length and relevance do not go together, or relevance is read exactly",
            on_topic[apart],
            0.0,
            stated="derived",
        ),
    )


def criteria_of_people(people: dict[str, Agreement]) -> tuple[Criterion, ...]:
    found = people["R³"]
    return (
        at_most(
            f"{HARMLESS}: upper end of the 95 % interval of pairs in which R³ is higher for the"
            " answer that was chosen",
            found.share + found.half_width,
            0.5,
            stated="chosen",
            paper="improves preference where people ask for help",
        ),
    )


# --- the table ---


def row_of(what: str, measure: str, value: float | str) -> Row:
    return {"of": what, "measure": measure, "value": value}


def rows_of_optima(terms: Terms) -> list[Row]:
    rows = []
    for name in REWARDS:
        for beta in BETAS:
            log_policy, value = optimal(terms, name, beta)
            measured = {
                "J*": value,
                "KL": float(categorical_kl(log_policy, all_responses().log_reference)),
                "E QR": float(means(log_policy, terms.relevance)),
                "E LI": float(means(log_policy, terms.length)),
                "E RP": float(means(log_policy, terms.distinct)),
                "E gold": float(means(log_policy, terms.gold())),
            }
            rows += [row_of(f"{name}, β = {beta}", *each) for each in measured.items()]
    return rows


def rows_of_tracking(terms: Terms, tracked: Tracked) -> list[Row]:
    rows = []
    ends = {f"to β = {end}": end for end in (MIDDLE, HARD)}
    for name in REWARDS:
        for until, end in ends.items():
            here = tracking(terms.reward(name)[None], terms.gold()[None], checkpoints(end))
            rows.append(row_of(f"{name}, {until}", "Spearman with gold", float(here[0])))
        drawn = (*ends, f"to β = {MIDDLE}, relevances below 0")
        for until, found in zip(drawn, tracked, strict=True):
            values, what = found[name], f"{name}, {until}"
            rows.append(row_of(what, f"mean over {values.size} worlds", float(values.mean())))
            rows.append(row_of(what, f"least of {values.size} worlds", float(values.min())))
    return rows


def rows_of_learned(learned: dict[Confounded, np.ndarray]) -> list[Row]:
    rows = []
    for case, weights in learned.items():
        what = f"learned reward, ρ = {case.correlation}, σ = {case.error}"
        relevance, length = (float(x) for x in weights.mean(axis=0))
        rows.append(row_of(what, "weight of relevance", relevance))
        rows.append(row_of(what, "weight of length", length))
        rows.append(row_of(what, "their ratio, expected", case.ratio()))
    return rows


def rows_of_people(people: dict[str, Agreement] | None) -> list[Row]:
    if people is None:
        return [row_of(HARMLESS, "not run", "no such pairs, or no scikit-learn")]
    rows = []
    for name, found in people.items():
        what = f"{name}: higher for the chosen answer"
        rows.append(row_of(HARMLESS, what, found.share))
        rows.append(row_of(HARMLESS, f"{name}: half of its 95 % interval", found.half_width))
        rows.append(row_of(HARMLESS, f"{name}: pairs with equal rewards", found.tied))
    return rows

"""Pairs turned at a loss, the gap to the optimum of a table, and what the reference costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit, ndtr

from paper_repros.theory.ranking_accuracy.pairs import (
    BETA,
    DEVIATION,
    MEAN,
    Features,
    Table,
    Trained,
    mid_quantiles,
    pair_logps,
    train_alone,
    train_ipo,
)
from prefsim import losses
from prefsim.analysis import (
    idealised_log_ratio,
    idealised_ranking_accuracy,
    largest_ranking_beta,
    ranking_accuracy,
    ranking_loss,
    reward_accuracy,
)
from prefsim.numerics import sigmoid
from prefsim.papers import Reproduction, Run, at_least, at_most, falling, holds, near, panels
from prefsim.papers.figures import BLUE, GREEN, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.5, 0.4, 0.3, 0.1, 0.01)
PULLS = (0.0, 0.5, 1.0, 1.5, 2.0)
TAU, VOTES = 0.02, 0.9


def reproduce(run: Run) -> Reproduction:
    against = mid_quantiles(1000)
    trained = train_alone(against, LEVELS)
    reach = logit(np.exp(-np.array(LEVELS))) / BETA
    expected = ndtr((reach - MEAN) / DEVIATION)
    unturned = ndtr(-MEAN / DEVIATION)
    limit = ranking_loss(-against, 0 * against, beta=BETA)
    told = [(each.losses <= limit) == (each.margins >= 0) for each in trained]
    by_ipo = train_ipo(against, TAU)

    steps = (0, 100, 300, 1000) if run.quick else (0, 100, 300, 1000, 3000, 20_000)
    count = 5 if run.quick else 20
    table = Table.draw(range(count * run.seed, count * (run.seed + 1)))
    policies = table.descend(steps)
    accuracy = np.stack([table.accuracy(policy) for policy in policies])
    loss = np.stack([table.losses(policy).mean(axis=-1) for policy in policies])
    least = table.losses(table.optimum).mean(axis=-1)
    ideal = idealised(table, BETA)
    thousand = steps.index(1000)

    pulled = pulls(run)
    criteria = (
        near(
            f"share ranked as labelled when the loss has fallen to {', '.join(map(str, LEVELS))}",
            [each.accuracy for each in trained],
            expected,
            within=0.002,
            stated="derived",
        ),
        near(
            "share turned of the pairs that the reference ranks wrongly, at the same losses",
            [each.turned(against) for each in trained],
            (expected - unturned) / (1 - unturned),
            within=0.002,
            stated="derived",
            paper="less than 10 % at the lowest validation loss of a 2.8B model",
        ),
        holds(
            "pairs at each of these losses",
            np.concatenate(told),
            "ranked as labelled exactly if their loss is at most −log σ(βc)",
            stated="paper",
        ),
        at_most(
            "share turned when the loss has fallen by 28 %, to .5",
            trained[0].turned(against),
            0.12,
            stated="chosen",
        ),
        near(
            "reward accuracy there",
            reward_accuracy(trained[0].margins, 0 * against, -against, 0 * against),
            1.0,
            within=0.0,
            stated="derived",
        ),
        near(
            f"idealised accuracy of the same pairs at votes of {VOTES}",
            idealised_ranking_accuracy(-against, 0 * against, VOTES, beta=BETA),
            ndtr((logit(VOTES) / BETA - MEAN) / DEVIATION),
            within=0.002,
            stated="derived",
        ),
        near(
            "the same, as the share of pairs whose largest β is above this one",
            np.mean(largest_ranking_beta(-against, 0 * against, VOTES) > BETA),
            ndtr((logit(VOTES) / BETA - MEAN) / DEVIATION),
            within=0.002,
            stated="derived",
        ),
        near(
            "log-ratios that IPO ends at, over −c + 1/(2τ)",
            by_ipo / (1 / (2 * TAU) - against),
            1.0,
            within=1e-6,
            stated="paper",
        ),
        near(
            "IPO's loss of a tie, over (1/(2τ) − c)²",
            losses.ipo(pair_logps(0 * against, against), tau=TAU) / (1 / (2 * TAU) - against) ** 2,
            1.0,
            within=1e-9,
            stated="paper",
        ),
        near(
            "tables: log-ratios of the optimum over those of the theorem",
            optimum_over_theorem(table),
            1.0,
            within=1e-8,
            stated="paper",
        ),
        at_least(
            f"tables: idealised accuracy less that after {', '.join(map(str, steps))} steps",
            ideal - accuracy,
            0.0,
            stated="chosen",
        ),
        at_least(
            "tables: the same after 1000 steps, mean over worlds",
            (ideal - accuracy)[thousand].mean(),
            0.05,
            stated="chosen",
            paper="the alignment gap",
        ),
        at_most(
            "tables: loss after 1000 steps over the least there is",
            loss[thousand] / least,
            1.02,
            stated="chosen",
        ),
        falling(
            "shared parameters: accuracy where the reference counts 0, 1 and 2 times (mean)",
            pulled.mean(axis=0)[[PULLS.index(pull) for pull in (0.0, 1.0, 2.0)]],
            stated="paper",
            paper="the reference's log-ratio is what keeps pairs from turning",
        ),
    )
    rows: list[dict[str, Any]] = [
        {
            "loss": level,
            "ranked as labelled": round(each.accuracy, 4),
            "turned": round(each.turned(against), 4),
        }
        for level, each in zip(LEVELS, trained, strict=True)
    ]
    rows += [
        {
            "step": step,
            "ranked as labelled": round(float(accuracy[k].mean()), 4),
            "idealised": round(float(ideal.mean()), 4),
            "loss over the least": round(float((loss[k] / least).mean()), 4),
        }
        for k, step in enumerate(steps)
    ]
    figure = draw(against, trained, limit, np.array(steps), accuracy, ideal, loss / least, pulled)
    cut = "5 tables rather than 20 and 1,000 steps rather than 20,000, 6 worlds rather than 40"
    return Reproduction(figure, rows, criteria, caption=CAPTION, cut=cut)


def idealised(table: Table, beta: float) -> np.ndarray:
    """Return the idealised accuracy of each world of a table, with its rater's votes."""
    chosen, rejected = table.ordered(table.log_reference)
    better, worse = table.ordered(table.reward)
    votes = sigmoid(better - worse)
    return np.asarray(idealised_ranking_accuracy(chosen, rejected, votes, beta=beta))


def optimum_over_theorem(table: Table) -> np.ndarray:
    """Return log-ratios of the optimum over those of the theorem, for pairs with clear ones."""
    chosen, rejected = table.ordered(table.log_reference)
    better, worse = table.ordered(table.reward)
    first, second = table.ordered(table.optimum)
    ratio = idealised_log_ratio(chosen, rejected, sigmoid(better - worse), beta=BETA)
    clear = np.abs(ratio) > 0.1
    return np.asarray((first - second)[clear] / ratio[clear])


def pulls(run: Run) -> np.ndarray:
    """Return accuracies ``(worlds, pulls)`` where the reference counts less or more."""
    worlds = 6 if run.quick else 40
    found = []
    for seed in run.progress(range(worlds * run.seed, worlds * (run.seed + 1)), "worlds"):
        pairs = Features.draw(np.random.default_rng((seed, 1)))
        margins = [pairs.descend(pull=pull, rate=20.0, steps=400) for pull in PULLS]
        found.append([float(ranking_accuracy(margin, 0 * margin)) for margin in margins])
    return np.array(found)


CAPTION = (
    "Left: one pair a dot, by how much the reference ranks it against its label and by its loss at"
    " four stages of training; filled ones are ranked as labelled, and the curve is the loss below"
    " which a pair turns. Middle: in tables, the share of pairs ranked as labelled, the share that"
    " the optimum ranks so (dashed), and how near the loss is to its least value (dotted, 1 at the"
    " optimum). Right: the same share after training, by how much the reference's log-ratio counts;"
    " a grey line a world."
)


def draw(
    against: np.ndarray,
    trained: list[Trained],
    limit: np.ndarray,
    steps: np.ndarray,
    accuracy: np.ndarray,
    ideal: np.ndarray,
    excess: np.ndarray,
    pulled: np.ndarray,
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Preference learning turns few of the pairs that its reference ranks wrongly, long"
            " after its loss has settled"
        ),
        width=4.8,
    )
    left, middle, right = axes[0]
    shown = against[::7]
    # One colour a level, the dots of pairs that are ranked as labelled filled.
    for each, colour in zip(trained[:4], (BLUE, SKY, PURPLE, VERMILION), strict=True):
        ranked = each.margins[::7] >= 0
        for kind, face in ((ranked, colour), (~ranked, "white")):
            left.scatter(
                shown[kind], each.losses[::7][kind], s=14, facecolor=face, edgecolor=colour, lw=0.8
            )
        left.annotate(f"{each.turned(against):.0%} turned", (62, each.losses[0] + 0.01), fontsize=8)
    left.plot(against, limit, color="0.3", lw=1, label="−log σ(βc)")
    left.set(
        xlabel="c, log-ratio of the reference against the label",
        ylabel="DPO loss",
        title="Filled: ranked as labelled",
        ylim=(0, 0.75),
        xlim=(-60, 95),
    )
    left.legend(frameon=False, loc="upper left")

    mean = accuracy.mean(axis=1)
    middle.plot(np.maximum(steps, 30), mean, "o-", color=BLUE, label="ranked as labelled")
    middle.axhline(ideal.mean(), color=GREEN, ls="--", label="idealised")
    middle.plot(
        np.maximum(steps, 30), 1 / excess.mean(axis=1), "s:", color="0.4", label="least loss / loss"
    )
    middle.set(
        xscale="log",
        xlabel="steps (the start at the left)",
        ylim=(0.4, 1.03),
        title="Tables: the loss settles, the ranking does not",
    )
    middle.legend(frameon=False, loc="lower right")

    for row in pulled:
        right.plot(PULLS, row, color="0.75", lw=0.8)
    right.plot(PULLS, pulled.mean(axis=0), "o-", color=VERMILION, label="mean")
    right.set(
        xlabel="how often the reference's log-ratio counts",
        ylabel="share ranked as labelled",
        title=f"{len(pulled)} worlds: the reference holds pairs back",
    )
    right.legend(frameon=False)
    return figure

"""Degrade sentences, tell their degrees, and train small policies with and without the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.direct.spo_degree.graded_texts import (
    CLASSES,
    STOPS,
    Scores,
    graded,
    length_alone,
    ordered_word_counts,
    random_embedding,
    sentences,
    word_counts,
)
from paper_repros.direct.spo_degree.trained_policies import study
from prefsim.papers import Reproduction, Run, at_least, at_most, below, holds, panels
from prefsim.papers.figures import BLUE, GREEN, GREY, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAMMAS = (0.0, 0.1, 1.0)
# Of a full run, and of a quick one.
EMBEDDINGS, STUDIES, PAIRS, STEPS = (16, 4), (4, 1), (300, 60), (120, 50)


class Numbers(NamedTuple):
    """What is measured.

    Attributes
    ----------
    rewards
        Of each version of each sentence, ``(n, K + 1)``.
    length, words
        Heads on the number of words and on word counts.
    ordered
        A head on word counts that knows the order of the degrees.
    ordered_error
        How far its P(k ≥ j) is from σ(s − c_j).
    embedded
        A head on each of several random embeddings.
    loss, by_parts
        The loss that the policies were trained on, and what it is by its definition,
        ``(seeds, weights)``.
    degree, pair, rank
        Degree accuracy, pair accuracy and rank correlation of the trained policies,
        ``(seeds, weights)``.
    """

    rewards: np.ndarray
    length: Scores
    words: Scores
    ordered: Scores
    ordered_error: float
    embedded: list[Scores]
    loss: np.ndarray
    by_parts: np.ndarray
    degree: np.ndarray
    pair: np.ndarray
    rank: np.ndarray


def measure(run: Run) -> Numbers:
    """Return everything that criteria, table and figure show."""
    rng = np.random.default_rng(run.seed)
    data = graded(sentences(600, seed=rng))
    worth = np.concatenate([np.zeros(STOPS), rng.uniform(0.1, 1.0, 20)])
    embedded = [
        random_embedding(data, 8, seed=[run.seed, k])
        for k in run.progress(range(EMBEDDINGS[run.quick]), "random embeddings")
    ]
    size = {"pairs": PAIRS[run.quick], "steps": STEPS[run.quick]}
    # No two runs share a study.
    count = STUDIES[run.quick]
    seeds = range(count * run.seed, count * (run.seed + 1))
    studies = [study(seed, GAMMAS, **size) for seed in run.progress(seeds, "trained policies")]
    ordered, ordered_error = ordered_word_counts(data)
    return Numbers(
        rewards=data.rewards(worth),
        length=length_alone(data),
        words=word_counts(data),
        ordered=ordered,
        ordered_error=ordered_error,
        embedded=embedded,
        loss=np.stack([made.loss for made in studies]),
        by_parts=np.stack([made.by_parts for made in studies]),
        degree=np.stack([made.degree_accuracy for made in studies]),
        pair=np.stack([made.pair_accuracy for made in studies]),
        rank=np.stack([made.rank_correlation for made in studies]),
    )


def reproduce(run: Run) -> Reproduction:
    numbers = measure(run)
    typical = float(np.median([scores.accuracy for scores in numbers.embedded]))
    heads = (numbers.length, numbers.words, numbers.ordered, numbers.embedded[0])
    criteria = (
        holds(
            "reward falls with every degree",
            [(steps < 0).all() for steps in np.diff(numbers.rewards, axis=1)],
            "for each sentence",
            stated="derived",
        ),
        at_least("word counts: accuracy", numbers.words.accuracy, 0.75, stated="chosen"),
        at_least(
            "word counts: share at most one degree off",
            numbers.words.within_one,
            0.95,
            stated="chosen",
        ),
        below(
            "word counts: accuracy of a head of free columns, and of cumulative logits",
            numbers.words.accuracy,
            numbers.ordered.accuracy,
            stated="chosen",
        ),
        at_most(
            "cumulative logits of word counts: P(k ≥ j) off σ(s − c_j)",
            numbers.ordered_error,
            1e-12,
            stated="derived",
        ),
        at_most(
            "preference degree loss of four heads off −log softmax(o)_k",
            [abs(scores.cross_entropy - scores.by_definition) for scores in heads],
            1e-12,
            stated="derived",
        ),
        at_least(
            f"8-dim embedding: accuracy, median of {len(numbers.embedded)}",
            typical,
            0.35,
            stated="chosen",
        ),
        at_least(
            "trained trunk: degree accuracy gained by γ = .1",
            numbers.degree[:, 1] - numbers.degree[:, 0],
            0.1,
            stated="chosen",
        ),
        at_most(
            "loss of the trained policies off DPO's plus γ times both degree losses",
            np.abs(numbers.loss - numbers.by_parts),
            1e-12,
            stated="derived",
        ),
    )
    caption = (
        f"Upper left: the true reward of {len(numbers.rewards)} sentences at each degree of removal"
        " (violins, with their mean). Upper right: true against predicted degrees of a linear head"
        " on word counts, as shares; the diagonal is right. Lower left: how often a head tells the"
        " degree from each representation, from the number of words to the states of small"
        " policies trained with weight γ on the degree loss; higher is better, and look at what"
        " the number of words alone does. Lower right: how well the implicit rewards of these"
        " policies order unseen sentences, and versions of one sentence; higher is better, and"
        f" nothing is claimed of it. Dots are single draws: {len(numbers.embedded)} embeddings, and"
        f" of trained policies {len(numbers.degree)}."
    )
    cut = (
        f"{EMBEDDINGS[1]} random embeddings rather than {EMBEDDINGS[0]}, {STUDIES[1]} draw of"
        f" trained policies rather than {STUDIES[0]}, each on {PAIRS[1]} pairs rather than"
        f" {PAIRS[0]} for {STEPS[1]} steps rather than {STEPS[0]}"
    )
    figure = draw(numbers, typical)
    return Reproduction(figure, tabulate(numbers), criteria, caption=caption, cut=cut)


def tabulate(numbers: Numbers) -> list[dict[str, str | float | int]]:
    """Return a row for each representation."""
    empty: dict[str, Any] = {
        "representation": "",
        "γ": "",
        "degree accuracy": "",
        "cross-entropy": "",
        "within one": "",
        "pair accuracy": "",
        "rank correlation": "",
    }
    heads = {
        "number of words": [numbers.length],
        "word counts": [numbers.words],
        "word counts, ordered head": [numbers.ordered],
        "random embedding, 8": numbers.embedded,
    }
    rows = [
        empty
        | {
            "representation": name,
            "degree accuracy": round(float(np.median([s.accuracy for s in scores])), 3),
            "cross-entropy": round(float(np.median([s.cross_entropy for s in scores])), 3),
            "within one": round(float(np.median([s.within_one for s in scores])), 3),
        }
        for name, scores in heads.items()
    ]
    rows += [
        empty
        | {
            "representation": "policy trained by DPO + γ·degree",
            "γ": gamma,
            "degree accuracy": round(float(numbers.degree[:, i].mean()), 3),
            "pair accuracy": round(float(numbers.pair[:, i].mean()), 3),
            "rank correlation": round(float(numbers.rank[:, i].mean()), 3),
        }
        for i, gamma in enumerate(GAMMAS)
    ]
    return rows


def draw(numbers: Numbers, typical: float) -> Figure:
    """Draw rewards by degree, one head's confusion, all accuracies, and the implicit rewards."""
    figure, ((rewards, confusion), (accuracies, implicit)) = panels(
        2,
        2,
        width=6.5,
        height=4,
        title=(
            "Self-made degrees of removal are learned, and the number of words alone tells"
            f" {numbers.length.accuracy:.0%} of them"
        ),
    )
    draw_rewards(rewards, numbers)
    shown = draw_confusion(confusion, numbers.words)
    figure.colorbar(shown, ax=confusion, label="share of the true degree")
    draw_accuracies(accuracies, numbers, typical)
    draw_implicit_rewards(implicit, numbers)
    return figure


def draw_rewards(axis: Axes, numbers: Numbers) -> None:
    """Draw the distribution of the reward at each degree."""
    parts: Any = axis.violinplot(
        list(numbers.rewards.T), positions=range(CLASSES), showmeans=True, widths=0.8
    )
    for body in parts["bodies"]:
        body.set_facecolor(BLUE)
    axis.set(
        title="Removing key phrases lowers the true reward",
        xlabel="degree (quarters of the phrases removed)",
        ylabel="reward",
    )


def draw_confusion(axis: Axes, scores: Scores) -> Any:
    """Draw true against predicted degrees, with the shares; return the image."""
    axis.grid(False)
    shown = axis.imshow(scores.confusion, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(scores.confusion):
        colour = "white" if share > 0.5 else "black"
        axis.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour)
    axis.set(
        title=f"A head on word counts tells {scores.accuracy:.0%} of the degrees",
        xlabel="predicted degree",
        ylabel="true degree",
    )
    return shown


def draw_accuracies(axis: Axes, numbers: Numbers, typical: float) -> None:
    """Draw how often each representation tells the degree."""
    bars = {
        "number\nof words": (numbers.length.accuracy, GREY),
        "word\ncounts": (numbers.words.accuracy, GREY),
        "counts,\nordered": (numbers.ordered.accuracy, GREY),
        "random\nembedding": (typical, GREY),
    }
    for gamma, mean in zip(GAMMAS, numbers.degree.mean(axis=0), strict=True):
        bars[f"policy\nγ = {gamma:g}"] = (mean, BLUE if gamma else ORANGE)
    heights, colours = zip(*bars.values(), strict=True)
    axis.bar(range(len(bars)), heights, color=colours)
    for place, height in enumerate(heights):
        axis.text(place, 1.02, f"{height:.2f}", ha="center")
    for scores in numbers.embedded:
        axis.plot(3, scores.accuracy, "k.", alpha=0.5)
    for row in numbers.degree:
        axis.plot([4, 5, 6], row, "k.", alpha=0.5)
    axis.axhline(1 / CLASSES, color="k", ls=":")
    axis.text(len(bars) - 0.5, 1 / CLASSES + 0.01, "chance")
    axis.set_xticks(range(len(bars)), list(bars), fontsize=9)
    axis.grid(False, axis="x")
    axis.set_axisbelow(True)
    axis.set(
        title="Trained with the degree loss the policy's states tell it too",
        ylabel="accuracy of the degree (dots: draws)",
        xlim=(-0.6, len(bars) + 0.1),
        ylim=(0, 1.1),
    )


def draw_implicit_rewards(axis: Axes, numbers: Numbers) -> None:
    """Draw how well the implicit reward of each policy orders what is unseen."""
    shown = (
        # On the scale of correlations: all pairs right is 1, half of them 0.
        ("two sentences: pairs right − pairs wrong", 2 * numbers.pair - 1, GREEN, -0.15),
        ("two versions of one sentence: rank correlation", numbers.rank, VERMILION, 0.15),
    )
    for name, values, colour, offset in shown:
        place = np.arange(len(GAMMAS)) + offset
        hatch = "//" if offset > 0 else ""
        mean = values.mean(axis=0)
        axis.bar(place, mean, width=0.3, color=colour, hatch=hatch, ec="white", label=name)
        for row in values:
            axis.plot(place, row, "k.", alpha=0.5)
    axis.axhline(0.0, color="k", lw=0.8)
    axis.set_xticks(range(len(GAMMAS)), [f"policy\nγ = {gamma:g}" for gamma in GAMMAS])
    axis.grid(False, axis="x")
    axis.set_axisbelow(True)
    axis.set(
        title="Its implicit reward on unseen sentences (no claim)",
        ylabel="agreement with the true reward\n(1: full, 0: chance, −1: reversed)",
        ylim=(-1.0, 1.45),
        yticks=(-1, -0.5, 0, 0.5, 1),
    )
    axis.legend(frameon=False, loc="upper center")

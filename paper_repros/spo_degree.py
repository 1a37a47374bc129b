"""SPO: Self-supervised Preference Optimization with preference degree awareness (arXiv:2409.17791).

Responses are degraded step by step by removing their key phrases, and a head on the policy's
representation must tell the degree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros._spo_degree_checks import (
    CLASSES,
    PAGE_ACCURACY,
    bayes_bound,
    blind_to_order,
    examples,
    extraction,
    falling_reward,
    graded,
    gradients,
    limits,
    sampled_degree,
    signal,
    worths,
)
from paper_repros._spo_degree_text import (
    LEVELS,
    STOPS,
    bag_of_words,
    embedded,
    length_alone,
    sentences,
)
from paper_repros._spo_degree_training import study
from prefsim.data.degradation import degrade
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run

PAPER = Paper(
    slug="spo_degree",
    title=(
        "Self-supervised Preference Optimization: Enhance Your Language Model with Preference"
        " Degree Awareness"
    ),
    arxiv="2409.17791",
    year=2024,
    family="direct",
    summary=(
        "Remove key phrases step by step and let the policy's representation tell how much is gone,"
        " beside any loss on pairs."
    ),
    implements=(
        "prefsim.losses.spo_degree",
        "prefsim.losses.preference_degree",
        "prefsim.losses.ordinal_logits",
        "prefsim.data.degradation.degrade",
    ),
)

PAGE_EMBEDDED = 0.412

_tokens = st.lists(st.integers(0, 6), min_size=1, max_size=25)

CLAIMS = (
    Claim(
        "G1", "identity", "Scores and order are RAKE's definition; each version keeps a subset of the one before, from the whole text to "
        "the stop tokens alone.", "extraction and removal, (1)–(4)", _tokens, extraction, 1e-12,
    ),
    Claim(
        "G2", "monotone", "With an additive reward, positive on content and 0 on stop tokens, every step of removal lowers the reward of "
        "every sequence with at least K phrases.", "the premise of the degrees", worths(0.05), falling_reward, 0.0,
        breaks=st.one_of(worths(-1.0), worths(0.05, enough=False)), examples=20,
    ),
    Claim(
        "G3", "identity", "With weight 0 the alignment loss is left exactly; a zero head costs log(K + 1) and sends no gradient into the "
        "trunk.", "(6)–(7)", examples(), limits, 1e-15, breaks=examples(ordinal=True),
    ),
    Claim(
        "G4", "invariance", "Renaming the degrees together with the head's columns changes nothing: the loss does not know that degrees "
        "are ordered. A cumulative-logit head does.", "(6), (8)", examples(), blind_to_order, 1e-12, breaks=examples(ordinal=True),
    ),
    Claim(
        "G5", "identity", "The gradient in the logits is γ(softmax(o) − e_k)/(K + 1); value and gradient are the sums of the two parts.",
        "(6)–(7)", examples(), gradients, 1e-12,
    ),
    Claim(
        "G6", "statistical", "A head on word counts tells the degree of unseen sentences in .855 ± .03 of cases (chance .2).",
        "small analogue", st.just(False), signal, 0.03, breaks=st.just(True), examples=1,
    ),
    Claim(
        "G8", "inequality", "Over all sequences of a tree no head on the degraded text has a loss below H(degree | text), which the "
        "posterior attains.", "derivation", graded(), bayes_bound, 1e-12, breaks=graded(broken=True), examples=25,
    ),
    Claim(
        "G9", "consistency", "The loss of one version, drawn uniformly among the distinct ones, is the loss of all on average.",
        "algorithm, sampled degree", graded(), sampled_degree, 1e-12, breaks=graded(broken=True), examples=25,
    ),
)  # fmt: skip


def reproduce(run: Run) -> Reproduction:
    """Degrade sentences, tell their degrees from counts and random embeddings, and train small policies with and without the loss."""
    from matplotlib.figure import Figure

    criteria = []
    text = sentences(600, seed=run.seed)
    worth = np.concatenate([np.zeros(STOPS), np.random.default_rng(run.seed).uniform(0.1, 1.0, 20)])
    keep = degrade(text, stop=range(STOPS), levels=LEVELS).keep
    reward = (keep * worth[np.maximum(text, 0)][:, None]).sum(axis=-1)
    share = float((np.diff(reward, axis=1) < 0).all(axis=1).mean())
    criteria.append(
        Criterion(
            "reward falls with every degree",
            "600 of 600 sentences",
            f"{round(600 * share)} of 600",
            share == 1,
        )
    )

    words = bag_of_words(run.seed)
    draws = [
        embedded(run.seed, 8, s)
        for s in run.progress(range(4 if run.quick else 16), "random embeddings")
    ]
    accuracies, near = (
        np.asarray([getattr(d, name) for d in draws]) for name in ("accuracy", "within_one")
    )
    typical, close = float(np.median(accuracies)), float(np.median(near))
    criteria += [
        Criterion(
            "word counts: accuracy",
            f"{PAGE_ACCURACY}; ≥ .80",
            round(words.accuracy, 3),
            words.accuracy >= 0.8,
        ),
        Criterion(
            "word counts: at most one degree off",
            "≥ 95 %",
            round(words.within_one, 3),
            words.within_one >= 0.95,
        ),
        Criterion(
            f"8-dim embedding: accuracy, median of {len(draws)}",
            f"{PAGE_EMBEDDED} (one draw); ≥ .35",
            round(typical, 3),
            typical >= 0.35,
        ),
    ]
    gammas = (0.0, 0.1, 1.0)
    size = {"pairs": 60, "steps": 50} if run.quick else {"pairs": 300, "steps": 120}
    studies = [
        study(s, gammas, **size)
        for s in run.progress(range(1 if run.quick else 4), "trained policies")
    ]
    degree, pair, rank = (
        np.stack([getattr(s, f) for s in studies])
        for f in ("degree_accuracy", "pair_accuracy", "rank_correlation")
    )
    gain = float((degree[:, 1] - degree[:, 0]).min())
    criteria.append(
        Criterion(
            "trained trunk: degree accuracy gained by γ = .1",
            "the loss has signal for the trunk",
            round(gain, 3),
            gain > 0.1,
        )
    )
    length = length_alone(run.seed)
    table: list[dict[str, str | float | int]] = [
        {
            "representation": "number of words", "γ": "", "degree accuracy": round(length.accuracy, 3),
            "cross-entropy": round(length.cross_entropy, 3), "within one": round(length.within_one, 3),
            "pair accuracy": "", "rank correlation": "",
        },
        {
            "representation": "word counts", "γ": "", "degree accuracy": round(words.accuracy, 3),
            "cross-entropy": round(words.cross_entropy, 3), "within one": round(words.within_one, 3),
            "pair accuracy": "", "rank correlation": "",
        },
        {
            "representation": "random embedding, 8", "γ": "", "degree accuracy": round(typical, 3),
            "cross-entropy": round(float(np.median([d.cross_entropy for d in draws])), 3), "within one": round(close, 3),
            "pair accuracy": "", "rank correlation": "",
        },
    ]  # fmt: skip
    for i, gamma in enumerate(gammas):
        means = (round(float(x[:, i].mean()), 3) for x in (degree, pair, rank))
        row: dict[str, Any] = {
            "representation": "policy trained by DPO + γ·degree",
            "γ": gamma,
            "cross-entropy": "",
            "within one": "",
        }
        table.append(
            {
                **row,
                **dict(
                    zip(
                        ("degree accuracy", "pair accuracy", "rank correlation"), means, strict=True
                    )
                ),
            }
        )

    figure = Figure(figsize=(13, 8), layout="constrained")
    (left, right), (low_left, low_right) = figure.subplots(2, 2)
    parts = left.violinplot(list(reward.T), positions=range(CLASSES), showmeans=True, widths=0.8)
    for body in parts["bodies"]:
        body.set_facecolor("tab:blue")
    left.set(
        title="Removing key phrases lowers the true reward",
        xlabel="degree (quarters of the phrases removed)",
        ylabel="reward",
    )
    shown = right.imshow(words.confusion, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(words.confusion):
        right.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            color="white" if value > 0.5 else "black",
        )
    right.set(
        title=f"A head on word counts tells the degree ({words.accuracy:.0%})",
        xlabel="predicted degree",
        ylabel="true degree",
    )
    figure.colorbar(shown, ax=right, label="share of the true degree")
    labels = [
        "number\nof words",
        "word\ncounts",
        "random\nembedding",
        *(f"policy\nγ = {g:g}" for g in gammas),
    ]
    bars = [length.accuracy, words.accuracy, typical, *degree.mean(axis=0)]
    low_left.bar(range(6), bars, color=["0.5", "0.5", "0.7", "tab:orange", "tab:blue", "tab:blue"])
    low_left.plot(np.full(len(accuracies), 2), accuracies, "k.", alpha=0.5)
    low_left.plot(np.tile([3, 4, 5], (len(studies), 1)).ravel(), degree.ravel(), "k.", alpha=0.5)
    low_left.axhline(1 / CLASSES, color="k", ls=":", label="chance")
    low_left.set_xticks(range(6), labels)
    low_left.set(
        title="Trained with the degree loss the policy's states tell it too",
        ylabel="accuracy of the degree (dots: draws)",
        ylim=(0, 1),
    )
    low_left.legend(frameon=False, loc="upper center")
    for offset, (name, values, colour) in enumerate(
        (
            ("whole pairs ranked right", pair, "tab:green"),
            ("rank correlation on versions", rank, "tab:red"),
        )
    ):
        place = np.arange(3) + 0.3 * offset - 0.15
        low_right.bar(place, values.mean(axis=0), width=0.3, color=colour, label=name)
        low_right.plot(np.tile(place, (len(studies), 1)).ravel(), values.ravel(), "k.", alpha=0.5)
    low_right.axhline(0.0, color="k", lw=0.8)
    low_right.set_xticks(range(3), [f"γ = {g:g}" for g in gammas])
    low_right.set(
        title="Its implicit reward on unseen sentences (no claim)",
        ylabel="share, or Spearman correlation",
    )
    low_right.set_ylim(-1.0, 1.25)
    low_right.legend(frameon=False, loc="upper center", ncols=2)
    figure.suptitle(
        "Self-made degrees are learned, but the number of words gives them away, and the implicit"
        " reward gains little"
    )
    return Reproduction(figure, table, tuple(criteria))

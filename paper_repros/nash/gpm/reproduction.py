"""Models of cyclic labels, learnt heads, play against scores, and the log-odds of elections.

A language model with either head needs transformers and more time than a quick run has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.gpm.cycles import (
    DIMS,
    MODELS,
    Fits,
    cycle,
    fit_models,
    mixture,
    regressions_on_a_cycle,
)
from paper_repros.nash.gpm.heads import (
    PLANES,
    TEMPERATURE,
    OnTexts,
    criteria_of_texts,
    draw_texts,
    drawn_prompts,
    learn,
    learn_from_texts,
    reward_scores,
    rows_of_texts,
)
from paper_repros.nash.gpm.self_play import CyclePlay, play_cycle
from prefsim.backend import to_numpy
from prefsim.numerics import sigmoid
from prefsim.papers import Reproduction, Run, at_least, at_most, near, panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from prefsim.solvers import decompose_skew, preference_scores
from prefsim.worlds import PreferenceGame, synthetic_ballots

# Mixtures of cycles, starts of the models fitted to labels, and of the head learnt by prompt.
FULL, QUICK = (12, 6, 5), (2, 2, 2)
HUES = dict(zip(MODELS, (BLUE, ORANGE, GREEN, VERMILION), strict=True))
MARKERS = dict(zip(MODELS, "os^D", strict=True))


class Majorities(NamedTuple):
    """What the log-odds of an election's majorities are made of."""

    title: str
    strengths: np.ndarray
    singular_values: np.ndarray
    rank: int
    residual: float
    reward_share: float
    plane_share: float

    def row(self) -> dict[str, str | float | int]:
        """Return what the table says of the election."""
        return {
            "ballots": self.title,
            "strengths λ": ", ".join(f"{x:.4g}" for x in self.strengths),
            "numbers needed (rank)": self.rank,
            "residual": self.residual,
            "share of squared log-odds in rewards": self.reward_share,
            "in the best 2 numbers": self.plane_share,
        }


def decompose_majorities(path: Path) -> Majorities:
    """Decompose the log-odds of a ballot file."""
    game = PreferenceGame.from_preflib(path)
    scores = to_numpy(preference_scores(game.preference))
    decomposed = decompose_skew(scores)
    strengths = to_numpy(decomposed.strengths)
    # Row means are the rewards nearest to skew scores in least squares.
    mean = scores.mean(axis=1)
    missed = np.sum((scores - np.subtract.outer(mean, mean)) ** 2) / np.sum(scores**2)
    assert game.ballots is not None
    return Majorities(
        game.ballots.title,
        strengths,
        np.linalg.svd(scores, compute_uv=False)[1::2],
        int(decomposed.rank),
        float(decomposed.residual),
        float(1 - missed),
        float(strengths[0] ** 2 / np.sum(strengths**2)),
    )


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    groups = {f"cycle of {n}": cycle(n)[None] for n in (3, 4, 5)}
    pure = tuple(groups)
    n_mixtures, fit_starts, learn_starts = QUICK if run.quick else FULL
    groups["mixtures, 20 items"] = np.stack([mixture(rng) for _ in range(n_mixtures)])
    fits = {
        name: fit_models(groups[name], fit_starts)
        for name in run.progress(groups, "groups of labels")
    }
    prompts = drawn_prompts(rng)
    head = learn(prompts, starts=learn_starts, rng=rng)
    learnt = head.score_table(prompts.hidden)
    missed = prompts.preference - sigmoid(learnt / np.logaddexp(0, head.raw))
    right = {
        "vectors": prompts.accuracy(learnt),
        "rewards": prompts.accuracy(reward_scores(prompts)),
    }
    texts = learn_from_texts(run)
    play = play_cycle(2000, 0.1, run.seed)
    real = sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else []
    elections = [decompose_majorities(path) for path in (synthetic_ballots(), *real)]

    enough = DIMS.index(4)
    criteria = (
        at_least(
            "accuracy of GPM with 4 numbers or more, least by group of labels",
            [f.accuracy[1 + enough :].min() for f in fits.values()],
            0.99,
            stated="chosen",
        ),
        at_most(
            "accuracy of Bradley–Terry less that of the best strict order, largest by group",
            [np.max(f.accuracy[0] - f.order) for f in fits.values()],
            1e-12,
            stated="derived",
        ),
        near(
            "accuracy of the best strict order on a cycle of 3",
            fits["cycle of 3"].order,
            2 / 3,
            within=1e-12,
            stated="derived",
        ),
        near(
            "probability of a label by Bradley–Terry on pure cycles",
            [fits[name].probability[0] for name in pure],
            0.5,
            within=1e-6,
            stated="derived",
            paper="no better than a random guess",
        ),
        near(
            "regression on scores of 10 on a cycle of 3: loss of rewards, m²/2, and of vectors",
            regressions_on_a_cycle(np.ones(3), 10.0),
            [50, 0],
            within=1e-9,
            stated="derived",
        ),
        at_most(
            "objectives and gaps that the fits report, against their own: errors, nats a label",
            [f.certificate_error for f in fits.values()],
            1e-9,
            stated="derived",
        ),
        at_most(
            "learnt head: probabilities of all pairs, shown or not, from the true ones, largest",
            np.abs(missed).max(),
            1e-4,
            stated="derived",
        ),
        near(
            "learnt head: mean loss of a label that was shown over the entropy of the labels",
            float(prompts.mean_loss(head)) / prompts.entropy,
            1,
            within=1e-9,
            stated="derived",
        ),
        near(
            "learnt head: log(1 + e^x) of the parameter of the temperature",
            np.logaddexp(0, head.raw),
            TEMPERATURE,
            within=1e-4,
            stated="derived",
        ),
        near(
            "learnt head: sum of the scales of each prompt",
            np.sum(head.scales(prompts.hidden), axis=-1),
            PLANES,
            within=1e-12,
            stated="derived",
        ),
        at_least(
            "learnt head: accuracy on the pairs held out",
            right["vectors"],
            0.99,
            stated="chosen",
        ),
        at_most(
            "rewards fitted to each prompt: accuracy on the pairs held out",
            right["rewards"],
            0.6,
            stated="chosen",
        ),
        at_most(
            "GPO's last policy on the cycle, from log π_0 + T s(y ≻ π̄)/β, nats",
            play.path_error,
            1e-9,
            stated="derived",
        ),
        at_most(
            "GPO's first step on the cycle as the minimum of its regression: largest difference",
            play.regression_error,
            1e-9,
            stated="derived",
        ),
        near(
            "GPO's regression before that step: loss over the mean of (s(y ≻ π_0)/β)²",
            play.loss_ratio,
            1,
            within=1e-12,
            stated="derived",
        ),
        at_most(
            "exploitability of GPO's average policy on the cycle after 2000 steps of 0.1",
            play.average[-1],
            0.02,
            stated="chosen",
        ),
        near(
            "exploitability of a reward's best arm on the cycle: σ(2) − ½",
            play.best_arm,
            0.3807971,
            within=1e-7,
            stated="derived",
        ),
        at_least(
            # One arm has .38; on the way from one to another two arms have a third of that.
            "exploitability of the policy trained on the reward over that of GPO's average",
            play.rewarded[-1] / play.average[-1],
            5,
            stated="chosen",
        ),
        at_most(
            "ballots: distance of the log-odds from their embedding",
            [election.residual for election in elections],
            1e-12,
            stated="derived",
        ),
        at_most(
            "ballots: strengths of the planes from the singular values, relative",
            [
                np.max(np.abs(election.strengths / election.singular_values - 1))
                for election in elections
            ],
            1e-9,
            stated="derived",
        ),
        *(criteria_of_texts(texts) if texts else ()),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "labels": name,
            "instances": f.order.size,
            "best strict order": float(f.order.mean()),
            "model": model,
            "accuracy, least": float(f.accuracy[m].min()),
            "accuracy, mean": float(f.accuracy[m].mean()),
            "loss of a label, nats": float(f.loss[m].mean()),
        }
        for name, f in fits.items()
        for m, model in enumerate(MODELS)
    ]
    table += [
        {
            "labels": name,
            "model": MODELS[-1],
            "distance from the global minimum, nats a label, at most": f.gap,
        }
        for name, f in fits.items()
    ]
    table += [
        {
            "labels": "two cycles, 8 prompts",
            "model": f"{name}, by prompt",
            "accuracy, held out": share,
        }
        for name, share in right.items()
    ]
    table += rows_of_texts(texts)
    table += [election.row() for election in elections]
    least, small = fits["cycle of 3"], DIMS.index(2)
    caption = (
        "Left: share of cyclic labels that each model ranks right, higher is better, mean of the"
        " instances (dots); the dashes are the best strict order. On a cycle of 3 two numbers a"
        f" response reach {least.accuracy[1 + small].mean():.2f}, a reward"
        f" {least.accuracy[0].mean():.2f}. Second: the loss that each model leaves, lower is"
        " better; on pure cycles a reward is no better than a coin (dotted). Third: exploitability"
        " in rock, paper, scissors, lower is better; the policy trained on a reward ends at"
        f" {play.rewarded[-1]:.2f}, the average policy of GPO at {play.average[-1]:.3f}."
    )
    if texts:
        caption += (
            " Fourth: pairs of unseen texts that heads of a small language model rank right, a mark"
            " a seed: by a cyclic criterion, and by a transitive one."
        )
    cut = (
        f"{QUICK[0]} mixtures of cycles rather than {FULL[0]}, {QUICK[1]} and {QUICK[2]} starts of"
        f" the fits rather than {FULL[1]} and {FULL[2]}, no language model"
    )
    figure = draw(fits, play, texts)
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def draw(fits: dict[str, Fits], play: CyclePlay, texts: OnTexts) -> Any:
    figure, axes = panels(
        1,
        4 if texts else 3,
        title=(
            "Two numbers for each response hold a cycle that no reward can; against such scores"
            " self-play finds the mixed equilibrium"
        ),
        height=4.6,
    )
    right, misfit, games = axes[0][:3]
    draw_fits(right, misfit, fits)
    if texts:
        draw_texts(axes[0][3], texts)
    label = "trained on the Bradley–Terry reward"
    games.plot(play.steps, play.rewarded, "--", color=BLUE, lw=2, label=label)
    games.plot(play.steps, play.last, color="0.5", lw=0.8, label="GPO on the scores, last policy")
    label = "GPO on the scores, average policy"
    games.plot(play.steps[1:], play.average[1:], color=PURPLE, lw=2, label=label)
    games.set(
        yscale="log",
        ylim=(4e-4, 0.7),
        xlabel="step",
        ylabel="exploitability (probability)",
        title="rock, paper, scissors with scores ±2",
    )
    games.legend(fontsize=8, loc="lower right")
    return figure


def draw_fits(right: Any, misfit: Any, fits: dict[str, Fits]) -> None:
    """Draw how many labels the models rank right, and what loss they leave."""
    place = np.arange(len(fits))
    for m, (name, colour) in enumerate(HUES.items()):
        shifted = place + 0.2 * (m - 1.5)
        means = [f.accuracy[m].mean() for f in fits.values()]
        right.bar(shifted, means, 0.18, color=colour, label=name)
        style = {"marker": MARKERS[name], "color": colour, "ls": "", "alpha": 0.7}
        misfit.plot([], [], **style, label=name)
        for x, f in zip(shifted, fits.values(), strict=True):
            where = np.full(f.order.size, x)
            misfit.plot(where, f.loss[m], **style)
            if f.order.size > 1:
                right.plot(where, f.accuracy[m], "k.", ms=3)
    for x, f in zip(place, fits.values(), strict=True):
        label = None if x else "best strict order (mean)"
        right.plot([x - 0.4, x + 0.4], [f.order.mean()] * 2, "k--", lw=1, label=label)
    right.set(
        ylim=(0, 1.38),
        yticks=np.linspace(0, 1, 6),
        ylabel="labels ranked right (share)",
        title="accuracy on cyclic labels",
    )
    right.legend(fontsize=8, ncols=2, loc="upper center")
    misfit.axhline(np.log(2), color="k", ls=":", lw=1, label="a coin: log 2")
    misfit.set(
        yscale="log",
        xlim=right.get_xlim(),
        ylabel="mean loss of a label (nats)",
        title="negative log-likelihood",
    )
    misfit.legend(fontsize=8, loc="center left")
    for axis in (right, misfit):
        axis.set_xticks(place, [name.replace(", ", ",\n") for name in fits])

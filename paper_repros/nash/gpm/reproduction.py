"""Models of cyclic labels, play against their scores, and the log-odds of elections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.gpm.cycles import (
    accuracy,
    best_order,
    best_order_by_enumeration,
    cycle,
    mixture,
)
from prefsim.backend import to_numpy
from prefsim.numerics import sigmoid, softplus
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    near,
    panels,
)
from prefsim.raters import reward_embedding, score_matrix
from prefsim.solvers import (
    decompose_skew,
    exploitability,
    fit_bradley_terry,
    fit_preference_embedding,
    nash_path,
    preference_scores,
)
from prefsim.worlds import PreferenceGame, synthetic_ballots

DIMS = (2, 4, 6)
MODELS = ("Bradley–Terry", *(f"GPM, {dim} numbers" for dim in DIMS))
# Labels of a cycle are certain: without a prior no model's maximum exists.
RIDGE = 1e-3


class Fits(NamedTuple):
    """Every model on a group of instances.

    Attributes
    ----------
    accuracy, loss, probability
        ``(models, instances)``: share of labels ranked right, loss of a label in nats and
        probability of a label.
    order
        ``(instances,)``: the best accuracy of any strict order.
    gap
        Bound on how far the fits with the most numbers are from the global minimum, nats a label.
    """

    accuracy: np.ndarray
    loss: np.ndarray
    probability: np.ndarray
    order: np.ndarray
    gap: float


def fit_models(wins: np.ndarray, starts: int) -> Fits:
    """Fit all models to wins ``(instances, n, n)``."""
    labels = wins.sum(axis=(-2, -1))
    rewards = to_numpy(fit_bradley_terry(wins, ridge=RIDGE).reward)
    results = [fit_preference_embedding(wins, dim=dim, ridge=RIDGE, starts=starts) for dim in DIMS]
    embeddings = [reward_embedding(rewards), *(to_numpy(result.embedding) for result in results)]
    scores = np.stack([score_matrix(embedding) for embedding in embeddings])
    # Enumeration is the plainer way where it is affordable.
    best = best_order if wins.shape[-1] > 5 else best_order_by_enumeration
    return Fits(
        accuracy(scores, wins),
        np.where(wins > 0, softplus(-scores), 0.0).sum(axis=(-2, -1)) / labels,
        (wins * sigmoid(scores)).sum(axis=(-2, -1)) / labels,
        np.array([best(table) for table in wins]),
        float(np.max(to_numpy(results[-1].gap) / labels)),
    )


class CyclePlay(NamedTuple):
    """Exploitabilities by step, and that of a reward's best arm.

    Attributes
    ----------
    steps
        ``(K,)``.
    average, last
        Of GPO's average and last policy.
    rewarded
        Of the policy trained on a reward.
    """

    steps: np.ndarray
    average: np.ndarray
    last: np.ndarray
    rewarded: np.ndarray
    best_arm: float


def play_cycle(steps: int, step: float, seed: int) -> CyclePlay:
    """Play rock, paper, scissors with scores of 2, from a policy that prefers rock.

    The step is 1/β; the reward is fitted to 300 labels.
    """
    scores = 2.0 * (cycle(3) - cycle(3).T)
    chance = sigmoid(scores)
    draws = np.asarray(np.random.default_rng(seed).binomial(100, chance))
    counts = np.triu(draws, 1) + np.tril(100 - draws.T, -1)
    reward = to_numpy(fit_bradley_terry(counts).reward)

    def follow(table: np.ndarray) -> Any:
        # Multiplicative weights on S with step η are those on ½ + S/2M with step 2Mη.
        bound = np.abs(table).max()
        return nash_path(
            0.5 + table / (2 * bound),
            method="mwu",
            step=2 * bound * step,
            initial=[0.7, 0.2, 0.1],
            iterations=steps,
            record=max(1, steps // 400),
        )

    on_scores, on_reward = follow(scores), follow(np.subtract.outer(reward, reward))
    return CyclePlay(
        on_scores.iteration,
        exploitability(chance, on_scores.average_policy),
        exploitability(chance, on_scores.policy),
        exploitability(chance, on_reward.policy),
        float(exploitability(chance, np.eye(3)[reward.argmax()])),
    )


class Majorities(NamedTuple):
    """What the log-odds of an election's majorities are made of."""

    title: str
    strengths: np.ndarray
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
        int(decomposed.rank),
        float(decomposed.residual),
        float(1 - missed),
        float(strengths[0] ** 2 / np.sum(strengths**2)),
    )


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    groups = {f"cycle of {n}": cycle(n)[None] for n in (3, 4, 5)}
    pure = tuple(groups)
    groups["mixtures, 20 items"] = np.stack([mixture(rng) for _ in range(2 if run.quick else 12)])
    fits = {
        name: fit_models(groups[name], 2 if run.quick else 6)
        for name in run.progress(groups, "groups of labels")
    }
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
            "exploitability of the policy trained on the reward, by the last step",
            play.rewarded[-1],
            0.2,
            stated="chosen",
        ),
        at_most(
            "ballots: distance of the log-odds from their embedding",
            [election.residual for election in elections],
            1e-12,
            stated="derived",
        ),
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
    table += [election.row() for election in elections]
    return Reproduction(draw(fits, play), table, criteria)


def draw(fits: dict[str, Fits], play: CyclePlay) -> Any:
    figure, axes = panels(
        1,
        3,
        title=(
            "Two numbers for each response hold a cycle that no reward can; against such scores"
            " self-play finds the mixed equilibrium"
        ),
        height=4.6,
    )
    right, misfit, games = axes[0]
    draw_fits(right, misfit, fits)
    games.plot(play.steps, play.rewarded, "C0", label="trained on the Bradley–Terry reward")
    games.plot(play.steps, play.last, color="0.5", lw=0.8, label="GPO on the scores, last policy")
    label = "GPO on the scores, average policy"
    games.plot(play.steps[1:], play.average[1:], "C4", lw=2, label=label)
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
    place = np.arange(len(fits))
    for m, name in enumerate(MODELS):
        shifted = place + 0.2 * (m - 1.5)
        means = [f.accuracy[m].mean() for f in fits.values()]
        right.bar(shifted, means, 0.18, color=f"C{m}", label=name)
        for x, f in zip(shifted, fits.values(), strict=True):
            where = np.full(f.order.size, x)
            misfit.plot(where, f.loss[m], "o", color=f"C{m}", ms=7, alpha=0.7)
            if f.order.size > 1:
                right.plot(where, f.accuracy[m], "k.", ms=3)
    for x, f in zip(place, fits.values(), strict=True):
        label = None if x else "best strict order (mean)"
        right.plot([x - 0.4, x + 0.4], [f.order.mean()] * 2, "k--", lw=1, label=label)
    right.set(
        ylim=(0, 1.38),
        yticks=np.linspace(0, 1, 6),
        ylabel="labels ranked right (share)",
        title="accuracy on cyclic labels; dots: instances",
    )
    right.legend(fontsize=8, ncols=2, loc="upper center")
    misfit.axhline(np.log(2), color="k", ls=":", lw=1, label="a coin: log 2")
    misfit.set(
        yscale="log",
        xlim=right.get_xlim(),
        ylabel="mean loss of a label (nats)",
        title="negative log-likelihood, colours as on the left",
    )
    misfit.legend(fontsize=8, loc="center left")
    for axis in (right, misfit):
        axis.set_xticks(place, [name.replace(", ", ",\n") for name in fits])

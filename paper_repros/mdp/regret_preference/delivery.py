"""What labels on the delivery task teach: labels by people, or by simulated raters on its boards.

Every result is by the model of preference that was fitted, one of :data:`MODELS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.returns import scaled_return
from prefsim.data import Segments, data_folder
from prefsim.data.delivery import HumanComparisons, has_delivery, read_delivery
from prefsim.solvers.likelihood.rationality import cross_validated_loss
from prefsim.solvers.likelihood.reward_learning import fit_partial_return_reward, fit_regret_reward
from prefsim.solvers.planning import policy_iteration, value_iteration
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import delivery_task, random_delivery_task

MODELS = ("partial return", "regret")
EARLY = "partial return, stopped early"

# Of Adam: the authors' rate; the loss has settled long before their 30,000 steps.
CONVERGED: dict[str, Any] = {"learning_rate": 2.0, "iterations": 1000}

# Inverse temperature of the regret model on the human labels: a simulated rater is then as
# consistent as people are.
HUMAN_BETA = 0.242024

# Of a scaled return: a policy that goes in circles has a hugely negative one.
FLOOR = -1.0


def share_near_optimal(returns: np.ndarray) -> float:
    """Return the share of scaled returns above 0.9."""
    return float((returns > 0.9).mean())


def human(folder: Path | None, condition: str = "Privileged-Control") -> HumanComparisons | None:
    """Return the labels of people, or None where they are not at hand."""
    if folder is None or not has_delivery(folder / "delivery", condition):
        return None
    return read_delivery(folder / "delivery", condition)


def stand_in(model: str, n: int = 1793) -> Segments:
    """Return labels of a simulated rater of the delivery task, as many as there are of people."""
    task = delivery_task()
    table = policy_iteration(task.mdp).advantage if model == "regret" else task.mdp.reward
    return Segments.sample(task.mdp, n, 3, seed=0, scores=HUMAN_BETA * np.asarray(table))


def margins(segments: Segments) -> dict[str, np.ndarray]:
    """Return the scores of first less second segment by each model, ``(n,)``.

    By the true reward of the delivery task, without discount.
    """
    mdp = delivery_task().mdp
    total = segments.returns(mdp.reward)
    value = np.asarray(value_iteration(mdp).value)
    gained = total + value[segments.states[..., -1]] - value[segments.states[..., 0]]
    scores = {"partial return": total, "regret": gained}
    return {model: score[:, 0] - score[:, 1] for model, score in scores.items()}


def held_out(segments: Segments) -> dict[str, float]:
    """Return the cross-entropy of held-out labels, one scale fitted, in nats."""
    return {
        model: cross_validated_loss(margin, segments.prob)
        for model, margin in margins(segments).items()
    }


def learn_from_parts(
    segments: Segments, parts: int, *, restarts: int, iterations: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the scaled returns ``(parts,)`` of what disjoint parts of the labels teach."""
    # Without discount, weights that pay for going in circles have no optimum.
    task = delivery_task(discount=0.999)
    size = len(segments) // parts
    order = np.random.default_rng(seed).permutation(len(segments))
    data = segments.take(order[: parts * size].reshape(parts, size))
    process = FeatureProcess(task.mdp, task.features)
    fits = {
        "partial return": fit_partial_return_reward(data, task.features, **CONVERGED),
        EARLY: fit_partial_return_reward(data, task.features, learning_rate=0.1, iterations=1500),
        "regret": fit_regret_reward(
            data, task.mdp, task.features, restarts=restarts, iterations=iterations, seed=seed
        ),
    }
    return {
        model: scaled_return(task.mdp, process.greedy_policy(fit.weights), floor=FLOOR)
        for model, fit in fits.items()
    }


class Boards(NamedTuple):
    """What was learned on random boards.

    Attributes
    ----------
    returns
        Scaled returns ``(boards,)``.
    losses
        Mean cross-entropy of the fits, in nats.
    """

    returns: dict[str, np.ndarray]
    losses: dict[str, float]


def learn_on_boards(seeds: Iterable[int], source: str, n: int, *, restarts: int = 2) -> Boards:
    """Learn on random 5 x 5 boards from ``n`` labels each of a simulated rater.

    ``source`` is the model of preference that makes the labels.
    """
    boards = [random_delivery_task(5, 5, seed=seed) for seed in seeds]
    batch = TabularMDP(
        np.stack([task.mdp.transitions for task in boards]),
        np.stack([task.mdp.reward for task in boards]),
        discount=boards[0].mdp.discount,
        terminal=np.stack([task.mdp.terminal for task in boards]),
        start_probs=np.stack([task.mdp.start_probs for task in boards]),
    )
    scores = policy_iteration(batch).advantage if source == "regret" else batch.reward
    features = np.stack([task.features for task in boards])
    samples = [
        Segments.sample(task.mdp, n, 3, seed=10_000 + i, scores=scores[i])
        for i, task in enumerate(boards)
    ]
    data = Segments.stack(samples)
    fits = {
        "partial return": fit_partial_return_reward(data, features, **CONVERGED),
        "regret": fit_regret_reward(data, batch, features, restarts=restarts),
    }
    process = FeatureProcess(batch, features)

    def returns_of(weights: np.ndarray) -> np.ndarray:
        policies = zip(boards, process.greedy_policy(weights), strict=True)
        return np.array([float(scaled_return(t.mdp, p, floor=FLOOR)) for t, p in policies])

    return Boards(
        {model: returns_of(fit.weights) for model, fit in fits.items()},
        {model: float(fit.value.mean()) for model, fit in fits.items()},
    )


# --- what the claims compare: people where they are at hand, or a rater like them ---


def labels_of_people() -> tuple[Segments, str]:
    """Return the human labels where they are at hand, else a simulated rater's; and whose."""
    people = human(data_folder())
    if people is not None:
        return people.segments, "people"
    return stand_in("regret"), "a simulated rater by regret"


def labels_by_partial_return() -> tuple[Segments, str]:
    """Return labels of a simulated rater who looks at rewards alone; and whose."""
    return stand_in("partial return"), "a simulated rater by partial return"


def taught_by_people() -> tuple[dict[str, np.ndarray], str]:
    """Return what twentieths of the human labels teach, and who taught with how many."""
    segments, who = labels_of_people()
    returns = learn_from_parts(segments, 20, restarts=0, iterations=120, seed=100)
    return returns, f"{who}, {len(segments) // 20} labels"


def taught_by_partial_return(board: int) -> tuple[dict[str, np.ndarray], str]:
    """Return what 300 labels by partial return teach on eight boards, and who taught."""
    boards = learn_on_boards(range(board, board + 8), "partial return", 300, restarts=0)
    return boards.returns, f"boards {board} to {board + 7}, 300 labels by partial return"

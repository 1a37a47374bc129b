"""What labels on the delivery task teach: labels by people, or by simulated raters on its boards.

Every result is by the model of preference that was fitted, one of :data:`MODELS`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.regret_preference.instances import LIBRARY, cross_entropy, step_worth
from prefsim.analysis.returns import scaled_return
from prefsim.data import Segments, data_folder
from prefsim.data.delivery import HumanComparisons, has_delivery, read_delivery
from prefsim.papers import RealData, Run
from prefsim.raters import regret as raters
from prefsim.solvers.likelihood.rationality import cross_validated_loss
from prefsim.solvers.likelihood.reward_learning import (
    fit_partial_return_reward,
    fit_regret_reward,
    fit_regret_reward_library,
    policy_library,
)
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

# Cross-entropy of held-out human labels by partial return and by regret, computed from the same
# files by other code.
HUMAN_LOSSES = {
    "Privileged-Control": (0.6202, 0.5732),
    "Trained-Control": (0.5268, 0.4368),
    "Question-Control": (0.5307, 0.4839),
}

Curve = dict[int, dict[str, np.ndarray]]

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


def simulated_labels(
    model: str, n: int = 1793, *, seed: int = 0, consistency: float = HUMAN_BETA
) -> Segments:
    """Return labels of a simulated rater of the delivery task, as many as there are of people.

    The preferred segment comes first.
    """
    task = delivery_task()
    table = policy_iteration(task.mdp).advantage if model == "regret" else task.mdp.reward
    return Segments.sample(task.mdp, n, 3, seed=seed, scores=consistency * np.asarray(table))


def surprise(segments: Segments, model: str) -> float:
    """Return −log P of labels by the model that drew them, at its own consistency, in nats."""
    mdp = delivery_task().mdp
    if model == "regret":
        steps = segments.step_values(policy_iteration(mdp).advantage)
        first, second = raters.segment_regret(steps).T
        drawn = raters.regret_preference(first, second, beta=HUMAN_BETA)
    else:
        first, second = segments.returns(mdp.reward).T
        drawn = raters.partial_return_preference(first, second, beta=HUMAN_BETA)
    return float(-np.log(drawn).mean())


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


PARTITIONS = 4
"""Partitions of the labels into the smallest parts, whose shares scatter: the lead of regret over
twenty parts was .17 on average over twelve partitions, and −.05 in one."""


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


class People(NamedTuple):
    """What is learned from labels by people.

    Attributes
    ----------
    gap
        Largest difference between recorded and replayed returns and values.
    losses
        Cross-entropy of held-out labels of both models, and the number of labels, by condition.
    curve
        Scaled returns of what disjoint parts of the labels teach, by their size.
    """

    gap: float
    losses: dict[str, tuple[dict[str, float], int]]
    curve: Curve


def replay_gap(people: HumanComparisons) -> float:
    """Return the largest difference between what was recorded of the segments and their replay."""
    total, start, end = people.statistics.T  # second minus first
    replayed = margins(people.segments)
    gaps = replayed["partial return"] + total, replayed["regret"] + total + end - start
    return float(np.abs(gaps).max())


def learn_from_people(run: Run) -> People | None:
    """Return what human labels teach, or None where there are none."""
    people = human(run.data)
    if people is None:
        return None
    segments, losses = people.segments, {}
    for condition in HUMAN_LOSSES:
        found = human(run.data, condition)
        if found is not None:
            losses[condition] = held_out(found.segments), len(found.segments)
    restarts, counts = (1, (20, 1)) if run.quick else (5, (20, 10, 5, 2, 1))
    learn = functools.partial(learn_from_parts, segments, restarts=restarts, iterations=300)
    curve = {
        len(segments) // parts: pooled(
            learn(parts, seed=100 + PARTITIONS * run.seed + k)
            for k in range(PARTITIONS if parts == max(counts) else 1)
        )
        for parts in run.progress(counts, "parts of the human labels")
    }
    return People(replay_gap(people), losses, curve)


def pooled(partitions: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the scaled returns of all parts of several partitions."""
    drawn = list(partitions)
    return {model: np.concatenate([each[model] for each in drawn]) for model in drawn[0]}


class Simulated(NamedTuple):
    """Labels of a simulated rater on the board of the study, as many and as consistent as people's.

    Attributes
    ----------
    losses
        Cross-entropy of held-out labels of both models.
    surprise
        −log P of the labels by the rater itself.
    """

    losses: dict[str, float]
    surprise: float


def simulate_study(model: str, seed: int) -> Simulated:
    labels = simulated_labels(model, seed=seed)
    return Simulated(held_out(labels), surprise(labels, model))


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


class Taught(NamedTuple):
    """What one fit on one board reports of itself, and what is true of it.

    Attributes
    ----------
    reported
        Its value, in nats.
    found
        The mean of the loss at its weights.
    scaled
        Scaled return of the policy that it teaches.
    """

    reported: float
    found: float
    scaled: float


def learn_by_each(seed: int, n: int, *, iterations: int, restarts: int) -> dict[str, Taught]:
    """Return what ``n`` labels by regret teach on one board, by model and algorithm.

    The steps are those of algorithm 1; values are solved anew from several starts.
    """
    task = random_delivery_task(5, 5, seed=seed)
    mdp, features = task.mdp, task.features
    scores = policy_iteration(mdp).advantage
    data = Segments.sample(mdp, n, 3, seed=10_000 + seed, scores=scores)
    library = policy_library(mdp, features, 150, seed=seed)
    fits = {
        "partial return": fit_partial_return_reward(data, features, **CONVERGED),
        "regret": fit_regret_reward(data, mdp, features, restarts=restarts, seed=seed),
        LIBRARY: fit_regret_reward_library(data, features, library, iterations=iterations),
    }
    process = FeatureProcess(mdp, features)
    taught = {}
    for model, fit in fits.items():
        worth = step_worth(model, task, fit.weights, library=library)
        policy = process.greedy_policy(fit.weights)
        taught[model] = Taught(
            float(fit.value),
            cross_entropy(data, worth),
            float(scaled_return(mdp, policy, floor=FLOOR)),
        )
    return taught


# --- what claims say of people ---

PEOPLE = RealData(
    "labels by people, delivery task",
    lambda: (folder := data_folder()) is not None and has_delivery(folder / "delivery"),
)


def labels_of_people() -> Segments:
    """Return the labels of people, who were told how the task works."""
    people = human(data_folder())
    if people is None:
        raise ValueError("labels by people are needed, and there are none")
    return people.segments


def labels_by_partial_return() -> Segments:
    """Return labels of a simulated rater who looks at rewards alone."""
    return simulated_labels("partial return")


def taught_by_people() -> dict[str, np.ndarray]:
    """Return what twentieths of the labels of people teach, of 89 labels each."""
    return learn_from_parts(labels_of_people(), 20, restarts=0, iterations=120, seed=100)


def taught_by_partial_return(board: int) -> dict[str, np.ndarray]:
    """Return what 300 labels by partial return teach on eight boards."""
    boards = learn_on_boards(range(board, board + 8), "partial return", 300, restarts=0)
    return boards.returns

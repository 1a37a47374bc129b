"""The whole algorithm on two tabular tasks: labels of one, segments, reward, planner and return.

Places lie in space, and each is left for one of its nearest neighbours. The second task is the
first one turned and renamed, and its places are moved at random, so that the two are the less alike
the further they are moved; how places are connected and what they pay stays the same. Segments of
a task are what a walk along random neighbours records.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.pearl.clouds import MISMATCHES, rotation
from paper_repros.mdp.pearl.spreads import PLAIN, RIDGE, ROBUST, START
from prefsim.analysis import scaled_return
from prefsim.data.cross_task import transferred_preference
from prefsim.papers import Run
from prefsim.raters import noiseless_preference
from prefsim.solvers.coupled_distances import distance_matrix
from prefsim.solvers.gromov_wasserstein import gromov_wasserstein
from prefsim.solvers.likelihood.reward_heads import fit_reward_heads, head_rewards_of
from prefsim.solvers.planning import policy_iteration
from prefsim.worlds import TabularMDP

PLACES, WAYS, STEPS, SPACE = 12, 3, 4, 3
DISCOUNT = 0.9
# Pairs of the target that are compared where nothing else is said, and few of them.
COMPARED, FEW = 80, (5, 10, 20)
MANY, SOME, SAME = "100 walks each", "20 walks each", "20 walks, the same"
WALKS = {SAME: (20, True), MANY: (100, False), SOME: (20, False)}


class Task(NamedTuple):
    """A task, in the names of its places.

    Attributes
    ----------
    position
        Where the places are, ``(S, 3)``.
    next_place
        Where each way leads, integers ``(S, A)``.
    pay
        Reward of entering a place, ``(S,)``.
    visits
        Places that the segments enter, integers ``(K, T)``.
    """

    position: np.ndarray
    next_place: np.ndarray
    pay: np.ndarray
    visits: np.ndarray

    def renamed(self, order: np.ndarray) -> Task:
        """Return the same task whose place ``s`` is called ``order[s]``."""
        back = np.argsort(order)
        return Task(
            self.position[back], order[self.next_place[back]], self.pay[back], order[self.visits]
        )

    def features(self) -> np.ndarray:
        """Return what distances are taken of: the positions along each segment, ``(K, 3 T)``."""
        return self.position[self.visits].reshape(len(self.visits), -1)

    def preference(self) -> np.ndarray:
        """Return which of two segments pays more, ``(K, K)``; equal ones tie."""
        paid = self.pay[self.visits].sum(axis=-1)
        # Equal walks in another order differ by rounding.
        return noiseless_preference(paid[:, None], paid[None, :], tie=1e-9)


def walks(next_place: np.ndarray, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Return segments of walks along random ways from random places, ``(K, T)``."""
    at, seen = rng.integers(0, PLACES, segments), []
    for _ in range(STEPS):
        at = next_place[at, rng.integers(0, WAYS, segments)]
        seen.append(at)
    return np.stack(seen, axis=-1)


def two_tasks(seed: int, moved: float, segments: int, *, same_walks: bool) -> tuple[Task, Task]:
    """Return a source and a target whose places were moved by ``moved`` in each direction.

    Parameters
    ----------
    seed
        Of all that is drawn.
    moved
        Standard deviation ν.
    segments
        Number K of segments of each task.
    same_walks
        Whether the segments of the target are those of the source; else they are walks of its own.
    """
    rng = np.random.default_rng(seed)
    position = rng.standard_normal((PLACES, SPACE))
    apart = distance_matrix(position) + np.where(np.eye(PLACES) > 0, np.inf, 0.0)
    nearest = np.argsort(apart, axis=-1)[:, :WAYS]
    pay = position @ rng.standard_normal(SPACE)
    turn, order = rotation(rng, SPACE), rng.permutation(PLACES)
    shift = moved * rng.standard_normal((PLACES, SPACE))
    source = Task(position, nearest, pay, walks(nearest, segments, rng))
    visits = source.visits if same_walks else walks(nearest, segments, rng)
    target = source._replace(position=position @ turn + shift, visits=visits).renamed(order)
    # Segments come in an order of their own.
    return source, target._replace(visits=target.visits[rng.permutation(segments)])


def transferred(pairs: list[tuple[Task, Task]], *, restarts: int, seed: int) -> np.ndarray:
    """Return preferences among the target's segments out of the source's, ``(B, K, K)``."""
    source, target = (
        distance_matrix(np.stack([pair[side].features() for pair in pairs])) for side in (0, 1)
    )
    found = gromov_wasserstein(source, target, restarts=restarts, seed=seed)
    labels = np.stack([source.preference() for source, _ in pairs])
    return transferred_preference(found.coupling, labels)


def accuracies(targets: list[Task], labels: np.ndarray) -> np.ndarray:
    """Return the share of pairs that do not tie whose labels are on the right side, ``(B,)``."""
    truth = np.stack([task.preference() for task in targets])
    first, second = np.triu_indices(labels.shape[-1], 1)
    truth, labels = truth[:, first, second], labels[:, first, second]
    counted = truth != 0.5
    return np.sum(((labels > 0.5) == (truth > 0.5)) & counted, axis=-1) / counted.sum(axis=-1)


def learned_pay(
    targets: list[Task], labels: np.ndarray, loss: Any, *, seed: int, compared: int = COMPARED
) -> np.ndarray:
    """Return the mean reward of each place that labels teach, ``(B, S)``.

    Parameters
    ----------
    targets
        Whose segments are compared.
    labels
        P(first ≻ second) of all pairs, ``(B, K, K)``.
    loss
        Of :class:`prefsim.losses.GaussianRewards`.
    seed
        Of the order of the pairs.
    compared
        How many of them are used, from the start of the order.
    """
    rng, size = np.random.default_rng(seed), labels.shape[-1]
    every = np.stack(np.triu_indices(size, 1), axis=-1)
    pairs = rng.permutation(every)[:compared]
    prob = labels[:, pairs[:, 0], pairs[:, 1]]
    steps = np.eye(PLACES)[np.stack([task.visits for task in targets])]
    networks = len(targets)
    start = [np.zeros((networks, PLACES, 2)), np.tile([0.0, START], (networks, 1, 1))]
    found = fit_reward_heads(start, steps, pairs, prob, loss=loss, ridge=RIDGE, max_iterations=30)
    mean, _ = head_rewards_of(found.layers, np.eye(PLACES))
    return mean


def scaled_returns(task: Task, pay: np.ndarray) -> np.ndarray:
    """Return what planning with some rewards earns: 0 as at random, 1 the optimum, ``(m,)``.

    Parameters
    ----------
    task
        Whose moves and true rewards are used.
    pay
        Rewards of entering each place that a planner is told, ``(m, S)``.
    """
    moves = np.eye(PLACES)[task.next_place]
    true = TabularMDP(moves, task.pay[task.next_place], discount=DISCOUNT)
    told = true.with_reward(pay[:, task.next_place])
    return scaled_return(true, policy_iteration(told).policy)


class Tasks(NamedTuple):
    """What is earned in the target, 0 as at random and 1 the optimum.

    Attributes
    ----------
    moved
        Mismatches ν.
    accuracy, robust, plain
        By the segments that the tasks have: share of labels that arrive, and what is earned with
        them by robust reward learning and by Bradley–Terry, ``(mismatches, seeds)``.
    few
        By how many labels of its own the target has, ``(seeds,)``.
    oracle
        With all its own labels, ``(seeds,)``.
    """

    moved: tuple[float, ...]
    accuracy: dict[str, np.ndarray]
    robust: dict[str, np.ndarray]
    plain: dict[str, np.ndarray]
    few: dict[int, np.ndarray]
    oracle: np.ndarray


def compare_tasks(run: Run) -> Tasks:
    """Return what the whole algorithm earns, and what labels of the target's own would."""
    seeds, moved = (8, (0.0, 1.0)) if run.quick else (20, MISMATCHES)
    accuracy, pays = {}, {}
    first = seeds * run.seed
    for name, (segments, same) in run.progress(list(WALKS.items()), "kinds of walks"):
        pairs = [
            two_tasks(first + s, nu, segments, same_walks=same)
            for nu in moved
            for s in range(seeds)
        ]
        labels = transferred(pairs, restarts=2 if run.quick else 5, seed=run.seed)
        targets = [target for _, target in pairs]
        accuracy[name] = accuracies(targets, labels).reshape(len(moved), seeds)
        for kind, loss in (("robust", ROBUST), ("plain", PLAIN)):
            pays[name, kind] = learned_pay(targets, labels, loss, seed=run.seed).reshape(
                len(moved), seeds, -1
            )
        if name == SAME:
            # Moves and rewards of a target are the same for all mismatches.
            own = targets[:seeds]
    truth = np.stack([target.preference() for target in own])
    oracle = learned_pay(own, truth, ROBUST, seed=run.seed)
    few = {n: learned_pay(own, truth, PLAIN, seed=run.seed, compared=n) for n in FEW}
    told = [*pays.values(), oracle[None], *(pay[None] for pay in few.values())]
    earned = np.stack(
        [
            scaled_returns(target, np.concatenate([pay[:, s] for pay in told]))
            for s, target in enumerate(own)
        ],
        axis=-1,
    )
    parts = iter(np.split(earned, np.cumsum([len(pay) for pay in told])[:-1]))
    by_labels = {key: next(parts) for key in pays}
    return Tasks(
        moved,
        accuracy,
        robust={name: by_labels[name, "robust"] for name in WALKS},
        plain={name: by_labels[name, "plain"] for name in WALKS},
        oracle=next(parts)[0],
        few={n: next(parts)[0] for n in FEW},
    )

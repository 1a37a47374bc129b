"""What claims draw: processes, labels to learn from on a small board, a written study."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Segments
from prefsim.data.trajectories import Trajectories, enumerate_trajectories
from prefsim.numerics import softmax
from prefsim.papers import Verdict, apart
from prefsim.raters import regret as raters
from prefsim.solvers.likelihood.reward_learning import (
    RewardFit,
    fit_partial_return_reward,
    fit_regret_reward,
    fit_regret_reward_library,
    policy_library,
)
from prefsim.solvers.planning import policy_iteration, value_iteration
from prefsim.testing.bandits import tables
from prefsim.testing.segments import SegmentProcess, potentials, segment_processes
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import (
    CELLS,
    DELIVERY_FEATURES,
    DELIVERY_WEIGHTS,
    DeliveryTask,
    delivery_task,
    random_delivery_task,
)
from prefsim.worlds.grid import GRID_MOVES

# --- processes and their segments ---


def along(ways: Trajectories, table: Any) -> np.ndarray:
    """Return the entries of a table ``(S, A)`` at every step, ``(m, T)``."""
    return np.asarray(table)[ways.states[:, :-1], ways.actions]


class Regrets(NamedTuple):
    """Regret of every segment of a process.

    Attributes
    ----------
    general, by_ends
        By the advantages of its steps, and by its first and last value, each ``(m,)``.
    prob
        Probability of each segment, ``(m,)``.
    scale
        One more than the largest value.
    """

    general: np.ndarray
    by_ends: np.ndarray
    prob: np.ndarray
    scale: float


def regrets_of(process: SegmentProcess) -> Regrets:
    """Return the regret of all segments, computed both ways."""
    mdp, ways, plan = process.mdp, enumerate_trajectories(*process), policy_iteration(process.mdp)
    value, discount = np.asarray(plan.value), mdp.discount
    return Regrets(
        raters.segment_regret(along(ways, plan.advantage), ways.mask, discount=discount),
        raters.deterministic_regret(
            along(ways, mdp.reward),
            value[ways.states[:, 0]],
            value[ways.states[:, -1]],
            ways.mask,
            discount=discount,
        ),
        ways.prob,
        1 + float(np.abs(value).max()),
    )


def preferences(mdp: TabularMDP, ways: Trajectories) -> dict[str, np.ndarray]:
    """Return P(first ≻ second) of all pairs under both models, ``(m, m)``.

    Both are discounted as the values are.
    """
    advantage = policy_iteration(mdp).advantage
    regret = raters.segment_regret(along(ways, advantage), ways.mask, discount=mdp.discount)
    total = raters.segment_return(along(ways, mdp.reward), ways.mask, discount=mdp.discount)
    return {
        "regret": raters.regret_preference(regret[:, None], regret),
        "partial return": raters.partial_return_preference(total[:, None], total),
    }


class Shaped(NamedTuple):
    """A process and a potential ``(S,)`` that shapes its reward."""

    process: SegmentProcess
    potential: np.ndarray

    def reshaped(self) -> TabularMDP:
        """Return the process with the shaped reward, whatever the potential is at the end."""
        mdp = self.process.mdp
        change = mdp.discount * mdp.transitions @ self.potential - self.potential[:, None]
        return mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + change))


def shaped(*, at_the_end: float = 0.0, **options: Any) -> st.SearchStrategy[Shaped]:
    """Return processes with potentials of one value in all states that end the episode."""

    def with_potential(process: SegmentProcess) -> st.SearchStrategy[Shaped]:
        ended = np.asarray(process.mdp.terminal)
        return potentials(process.mdp).map(
            lambda potential: Shaped(process, np.where(ended, at_the_end, potential))
        )

    return segment_processes(max_actions=2, **options).flatmap(with_potential)


@st.composite
def random_processes(draw: st.DrawFn) -> TabularMDP:
    """Four processes of four states and three actions as one batch."""
    seed, discount = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0.1, 0.95))
    mdp = TabularMDP.random(4, 3, discount=discount, seed=seed, batch_shape=(4,))
    # Whole numbers make ties, hence sets of several optimal actions.
    return mdp.with_reward(np.round(mdp.reward)) if draw(st.booleans()) else mdp


def all_but(state: int) -> np.ndarray:
    """Return a mask of the four states that leaves one out."""
    return np.arange(4) != state


def way_out(added: float) -> TabularMDP:
    """Return a process with a short costly way to its end and a longer cheap one.

    One step of −1, or two steps of −0.3 each; ``added`` to every reward.
    """
    ended = np.arange(3) == 2
    reward = np.array([[-1.0, -0.3], [-0.3, -0.3], [0.0, 0.0]])
    paid = np.where(ended[:, None], 0.0, reward + added)
    return TabularMDP(np.eye(3)[[[2, 1], [2, 2], [2, 2]]], paid, discount=1.0, terminal=ended)


def gamble(lost: float) -> tuple[TabularMDP, np.ndarray]:
    """Return a process, and what its transitions pay, ``(S, A, S)``.

    The first action is safe, the second wins 1 or loses with even odds.
    """
    moves, reward = np.zeros((4, 2, 4)), np.zeros((4, 2, 4))
    moves[0, 0, 1], moves[0, 1, 2:], moves[1:, :, 1:] = 1.0, 0.5, np.eye(3)[:, None]
    reward[0, 1, 2:] = 1.0, lost
    return TabularMDP(moves, reward, discount=0.9, terminal=np.arange(4) > 0), reward


class Labelled(NamedTuple):
    """Worths of the steps of compared segments ``(n, 2, T)``, which count, and labels ``(n,)``."""

    worth: np.ndarray
    mask: np.ndarray
    prob: np.ndarray


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    """Two to five steps, of which the first one or more count."""
    n, length = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    worth = draw(tables((n, 2, length), low=-3.0, high=0.0))
    steps = draw(tables((n, 2, 1), low=1.0, high=float(length)))
    prob = draw(tables((n,), low=0.0, high=1.0))
    return Labelled(worth, np.arange(length) < steps, prob)


# --- learning on a board ---

LIBRARY = "regret, library of policies"
"""The paper's algorithm 1: values are those of fixed policies."""

TEMPERATURE = 0.001  # of the library's values, the paper's


def step_worth(
    model: str, task: DeliveryTask, weights: np.ndarray, *, library: np.ndarray
) -> np.ndarray:
    """Return what each step is worth to a rater with these weights, ``(S, A)``.

    Its reward by partial return, its optimal advantage by regret, and by the library what it and
    the next state are worth beyond this one: the regret of moves that are certain.
    """
    reward = task.features @ weights
    if model == "partial return":
        return reward
    if model == "regret":
        return np.asarray(policy_iteration(task.mdp.with_reward(reward)).advantage)
    values = library @ weights
    value = np.sum(softmax(values / TEMPERATURE, axis=0) * values, axis=0)
    return reward + np.asarray(task.mdp.transitions) @ value - value[:, None]


def cross_entropy(data: Segments, worth: Any) -> float:
    """Return the mean of the paper's loss where every step is worth so much, in nats."""
    value = losses.segments.regret(data.step_values(worth), data.mask, prob=data.prob)
    return float(data.weight @ value)


class Lesson(NamedTuple):
    """A random board of 16 cells, labels of a rater by regret, and where learning starts."""

    task: DeliveryTask
    data: Segments
    start: np.ndarray

    def library(self) -> np.ndarray:
        """Return successor features of policies, as algorithm 1 wants them."""
        return policy_library(self.task.mdp, self.task.features, 20, seed=0)

    def loss(self, model: str, weights: np.ndarray) -> float:
        """Return the mean of the paper's loss at some weights."""
        worth = step_worth(model, self.task, weights, library=self.library())
        return cross_entropy(self.data, worth)

    def fitted(self, model: str, *, iterations: int) -> RewardFit:
        """Return what a model learns in so many steps."""
        data, (mdp, features, *_) = self.data, self.task
        if model == "partial return":
            return fit_partial_return_reward(data, features, iterations=iterations)
        if model == "regret":
            start = self.start[None]
            return fit_regret_reward(data, mdp, features, start=start, iterations=iterations)
        return fit_regret_reward_library(
            data, features, self.library(), start=self.start, iterations=iterations
        )


@st.composite
def lessons(draw: st.DrawFn) -> Lesson:
    """Boards, thirty labels, and weights near the true ones or anywhere."""
    task = random_delivery_task(4, 4, seed=draw(st.integers(0, 2**32 - 1)))
    seed, scale = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0.05, 1.0))
    rng = np.random.default_rng(seed)
    scores = scale * np.asarray(policy_iteration(task.mdp).advantage)
    data = Segments.sample(task.mdp, 30, 3, seed=rng, scores=scores)
    start = scale * task.weights + rng.standard_normal(6)
    # Labels that say neither, the one or the other, as those of people do.
    return Lesson(task, data.relabelled(rng.choice([0.0, 0.5, 1.0], 30)), start)


# --- the files of a study ---

IN_CELL = np.array([[name in cell for name in DELIVERY_FEATURES] for cell in CELLS.values()])
ON_ENTRY = IN_CELL @ np.array(DELIVERY_WEIGHTS)
"""What entering a cell pays, by its letter; staying on it pays for gas or mud alone."""
ON_GROUND = (IN_CELL * np.isin(DELIVERY_FEATURES, ["gas", "mud"])) @ np.array(DELIVERY_WEIGHTS)


class Study(NamedTuple):
    """Comparisons on the board of the study of people, with labels."""

    segments: Segments

    @classmethod
    def draw(cls, n: int, seed: int) -> Study:
        """Draw segments of random moves, and labels that mean nothing."""
        rng, mdp = np.random.default_rng(seed), delivery_task().mdp
        segments = Segments.sample(mdp, n, 3, seed=rng, scores=mdp.reward)
        return cls(segments.relabelled(rng.choice([0.0, 0.5, 1.0], n)))

    def statistics(self) -> np.ndarray:
        """Return second minus first of partial return and value of start and end, ``(n, 3)``.

        Returns are read off the board, letter by letter, and not off the process.
        """
        task, segments = delivery_task(), self.segments
        value = np.asarray(value_iteration(task.mdp).value)
        letter = task.cells.reshape(-1)[segments.states]
        stays = segments.states[..., 1:] == segments.states[..., :-1]
        paid = np.where(stays, ON_GROUND[letter[..., :-1]], ON_ENTRY[letter[..., 1:]])
        last = np.take_along_axis(
            segments.states, segments.mask.sum(axis=-1, keepdims=True), axis=-1
        )[..., 0]
        total = np.where(segments.mask, paid, 0.0).sum(axis=-1)
        columns = (total, value[segments.states[..., 0]], value[last])
        return np.stack([column[:, 1] - column[:, 0] for column in columns], axis=-1)

    def write(self, folder: Path, *, second_preferred: bool = True) -> None:
        """Write the three files as the authors do: a label of 1 is for the second segment."""
        segments, width = self.segments, delivery_task().cells.shape[1]
        start = np.stack(np.divmod(segments.states[..., 0], width), axis=-1)
        moves = np.where(segments.mask[..., None], np.array(GRID_MOVES)[segments.actions], 0)
        arrays = {
            "segment_pairs": np.concatenate([start[..., None, :], moves], axis=-2),
            "Y": 1 - segments.prob if second_preferred else segments.prob,
            "X": self.statistics(),
        }
        for kind, array in arrays.items():
            np.save(folder / f"Privileged-Control_full_filtered_{kind}.npy", array)

    def differences(self, read: Segments) -> tuple[Verdict, ...]:
        """Return how far segments that were read are from those that were written."""
        moves = np.where(read.mask, read.actions - self.segments.actions, 0)
        labels = apart(read.prob, self.segments.prob)
        return labels, apart(read.mask, self.segments.mask), apart(moves, 0.0)

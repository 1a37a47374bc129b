"""What the paper says about regret, and what preferences by regret identify and teach."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.regret_preference.delivery import (
    held_out,
    labels_by_partial_return,
    labels_of_people,
    share_near_optimal,
    taught_by_partial_return,
    taught_by_people,
)
from prefsim.data import Segments
from prefsim.data.trajectories import Trajectories, enumerate_trajectories
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.raters import regret as raters
from prefsim.solvers.planning import policy_iteration, value_iteration
from prefsim.testing.segments import SegmentProcess, potentials, segment_processes
from prefsim.worlds import TabularMDP

# --- two ways to sum up a regret ---


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


@claim(
    "telescoping",
    "identity",
    source="section 3, deterministic and general regret",
    stated="paper",
    given={"process": segment_processes(deterministic=True)},
    breaks={"process": segment_processes(deterministic=False, min_states=2, min_actions=2)},
)
def regret_telescopes(process: SegmentProcess) -> Verdict:
    """The discounted sum of V* − Q* along a segment is V*(start) − discounted rewards − γ^T
    V*(end).
    """
    found = regrets_of(process)
    detail = f"{found.general.size} segments of {process.length} steps"
    return apart(found.general, found.by_ends, scale=found.scale, detail=detail)


@claim(
    "telescoping_in_the_mean",
    "identity",
    source="section 3",
    stated="derived",
    given={"process": segment_processes()},
)
def regret_telescopes_in_the_mean(process: SegmentProcess) -> Verdict:
    """Where moves are random the regret by start and end is a random number whose mean is that of
    the general regret.
    """
    found = regrets_of(process)
    return apart(found.prob @ found.general, found.prob @ found.by_ends, scale=found.scale)


@claim(
    "nonnegative",
    "inequality",
    source="section 3",
    stated="paper",
    given={"process": segment_processes(), "against_the_mean": st.just(0.0)},
    breaks={"against_the_mean": st.just(1.0)},
)
def regret_is_nonnegative(process: SegmentProcess, against_the_mean: float) -> Verdict:
    """Regret is >= 0, and 0 exactly if every action of the segment is optimal."""
    ways, plan = enumerate_trajectories(*process), policy_iteration(process.mdp)
    optimal = np.asarray(plan.advantage)
    advantage = optimal - against_the_mean * optimal.mean(axis=-1, keepdims=True)
    regret = raters.segment_regret(along(ways, advantage), ways.mask)
    scale = 1 + float(np.abs(plan.value).max())
    shortfall = np.where(ways.mask, -along(ways, optimal), 0.0).max(axis=-1)
    # Rewards a hair apart are neither equal nor different in floating point: only clear
    # contradictions count.
    none, clear = 1e-12 * scale, 1e-6 * scale
    contradictions = ((regret < none) & (shortfall > clear)) | (
        (regret > clear) & (shortfall < none)
    )
    return worst(above(0.0, regret, scale=scale), float(contradictions.sum()))


# --- what changes of the reward change ---


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
    """Processes with potentials that have one value in all states that end the episode."""

    def with_potential(process: SegmentProcess) -> st.SearchStrategy[Shaped]:
        ended = np.asarray(process.mdp.terminal)
        return potentials(process.mdp).map(
            lambda potential: Shaped(process, np.where(ended, at_the_end, potential))
        )

    return segment_processes(max_actions=2, **options).flatmap(with_potential)


@claim(
    "shaping",
    "invariance",
    source="section 3; Ng, Harada and Russell 1999",
    stated="paper",
    tolerance=1e-10,
    given={"shaped": shaped()},
    breaks={"shaped": shaped(at_the_end=1.5, terminal=True)},
)
def shaping_moves_no_regret(shaped: Shaped) -> Verdict:
    """Potential-based shaping leaves optimal advantages and regret preferences as they are."""
    ways, mdps = enumerate_trajectories(*shaped.process), (shaped.process.mdp, shaped.reshaped())
    return worst(
        apart(*(policy_iteration(mdp).advantage for mdp in mdps)),
        apart(*(preferences(mdp, ways)["regret"] for mdp in mdps)),
    )


@claim(
    "shaping_changes_returns",
    "identity",
    source="section 3",
    stated="paper",
    given={"shaped": shaped(deterministic=True)},
    breaks={"shaped": shaped(deterministic=False, min_states=2)},
)
def shaping_moves_partial_returns(shaped: Shaped) -> Verdict:
    """Shaping changes a partial return by γ^T Φ(end) − Φ(start), hence the preferences of the
    partial-return model.
    """
    mdp, ways = shaped.process.mdp, enumerate_trajectories(*shaped.process)
    before, after = (
        raters.segment_return(along(ways, reward), ways.mask, discount=mdp.discount)
        for reward in (mdp.reward, shaped.reshaped().reward)
    )
    steps = ways.mask.sum(axis=-1)
    start, end = shaped.potential[ways.states[:, 0]], shaped.potential[ways.states[:, -1]]
    return apart(after - before, mdp.discount**steps * end - start)


@claim(
    "shift",
    "invariance",
    source="section 3",
    stated="paper",
    tolerance=1e-10,
    given={
        "process": segment_processes(terminal=False, max_actions=2),
        "constant": st.floats(-3, 3),
    },
    breaks={"process": segment_processes(terminal=True, min_actions=2, max_actions=2)},
)
def a_constant_moves_no_preference(process: SegmentProcess, constant: float) -> Verdict:
    """A constant added to every reward changes no preference of either model, if nothing ends and
    segments have one length.
    """
    mdp = process.mdp
    moved = mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + constant))
    ways = enumerate_trajectories(*process)
    full = ways.mask.all(axis=-1)
    equally_long = Trajectories(*(part[full] for part in ways))
    # In a process that ends soon no segment may be long enough.
    if not full.any():
        return Verdict(0.0, "no segment of full length")
    before, after = preferences(mdp, equally_long), preferences(moved, equally_long)
    parts = {model: apart(after[model], before[model]) for model in before}
    return worst(
        *parts.values(),
        detail=", ".join(f"{model} {part.error:.3g}" for model, part in parts.items()),
    )


@claim(
    "shift_flips_the_optimum",
    "counterexample",
    source="section 3.2, after theorem 3.2",
    stated="paper",
    examples=1,
    given={"constant": st.just(-1.0)},
    breaks={"constant": st.just(-0.1)},
)
def a_constant_flips_the_optimum(constant: float) -> Verdict:
    """With terminal states a constant can flip the optimal policy while every partial-return label
    stays: a short costly way out against two cheaper steps.
    """
    # One step of −1 to the end, or two steps of −0.3 each.
    moves = np.eye(3)[[[2, 1], [2, 2], [2, 2]]]
    reward = np.array([[-1.0, -0.3], [-0.3, -0.3], [0.0, 0.0]])
    ended = np.arange(3) == 2
    chosen, labels = [], []
    for added in (0.0, constant):
        paid = np.where(ended[:, None], 0.0, reward + added)
        mdp = TabularMDP(moves, paid, discount=1.0, terminal=ended)
        chosen.append(int(np.argmax(value_iteration(mdp).q_value[0])))
        total = raters.segment_return(along(enumerate_trajectories(mdp, 1), mdp.reward))
        labels.append(raters.partial_return_preference(total[:, None], total))
    return worst(
        apart(*labels),
        float(chosen[0] == chosen[1]),
        detail=f"optimal actions {chosen}, labels change by {np.ptp(labels, axis=0).max():.3g}",
    )


# --- what preferences identify ---


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


@claim(
    "identifiable",
    "consistency",
    source="theorem 3.1 (label from memory)",
    stated="paper",
    tolerance=0.0,
    given={"mdp": random_processes(), "compared": st.just(np.ones(4, dtype=bool))},
    breaks={"compared": st.integers(0, 3).map(all_but)},
)
def regret_identifies_all_optimal_actions(mdp: TabularMDP, compared: np.ndarray) -> Verdict:
    """An action is optimal exactly if no single step is preferred to it by regret, with or without
    noise: the preferences determine all optimal policies.
    """
    advantage = np.asarray(policy_iteration(mdp).advantage)
    regret = raters.segment_regret(advantage[..., None]).reshape(len(advantage), -1)
    first, second = regret[:, :, None], regret[:, None, :]
    seen = np.repeat(compared, advantage.shape[-1])
    mistakes = 0
    for preference in (
        raters.regret_preference(first, second),
        raters.noiseless_preference(-first, -second, tie=1e-9),
    ):
        # Of what was never compared the labels say nothing: every action may be optimal.
        never_worse = ((preference >= 0.5 - 1e-9) | ~seen).all(axis=-1) | ~seen
        mistakes += int((never_worse.reshape(advantage.shape) != (advantage > -1e-9)).sum())
    return Verdict(float(mistakes), f"{mistakes} mistakes in {len(advantage)} processes")


@claim(
    "partial_return_blind_to_risk",
    "counterexample",
    source="theorem 3.2 (label from memory)",
    stated="paper",
    tolerance=0.0,
    examples=1,
    given={"preference": st.just(raters.noiseless_preference)},
    breaks={"preference": st.just(raters.partial_return_preference)},
)
def partial_return_is_blind_to_risk(preference: Callable[..., np.ndarray]) -> Verdict:
    """Noiseless partial-return labels are the same for a gamble that pays on average and one that
    does not.
    """
    labels, optimal = [], []
    for lost in (-10.0, -0.5):
        # The first action is safe, the second wins 1 or loses with even odds.
        moves, reward = np.zeros((4, 2, 4)), np.zeros((4, 2, 4))
        moves[0, 0, 1], moves[0, 1, 2:], moves[1:, :, 1:] = 1.0, 0.5, np.eye(3)[:, None]
        reward[0, 1, 2:] = 1.0, lost
        mdp = TabularMDP(moves, reward, discount=0.9, terminal=np.arange(4) > 0)
        ways = enumerate_trajectories(mdp, 1)
        seen = raters.segment_return(reward[ways.states[:, :1], ways.actions, ways.states[:, 1:]])
        labels.append(preference(seen[:, None], seen))
        optimal.append(int(np.argmax(policy_iteration(mdp).q_value[0])))
    return worst(
        apart(*labels),
        float(optimal[0] == optimal[1]),
        detail=f"optimal actions {optimal}, labels change by {np.ptp(labels, axis=0).max():.3g}",
    )


# --- people, or a rater like them ---


@claim(
    "better_fit",
    "statistical",
    source="section 5, descriptive results",
    stated="paper",
    tolerance=0.0,
    examples=1,
    given={"labels": st.just(labels_of_people)},
    breaks={"labels": st.just(labels_by_partial_return)},
)
def regret_fits_people_better(labels: Callable[[], tuple[Segments, str]]) -> Verdict:
    """Held-out labels are predicted better by regret than by partial return, and by both better
    than by chance.
    """
    segments, who = labels()
    loss, chance = held_out(segments), math.log(2)
    return worst(
        above(loss["regret"], loss["partial return"]),
        above(loss["partial return"], chance),
        detail=f"{who}: regret {loss['regret']:.4f}, partial return {loss['partial return']:.4f},"
        f" uninformed {chance:.4f} nats",
    )


@claim(
    "better_policy",
    "statistical",
    source="section 6, rewards learned from human preferences",
    stated="paper",
    tolerance=0.0,
    examples=1,
    given={"taught": st.just(taught_by_people)},
    breaks={
        "taught": st.sampled_from(
            [functools.partial(taught_by_partial_return, board) for board in (8, 40, 0)]
        )
    },
)
def regret_teaches_better_policies(
    taught: Callable[[], tuple[dict[str, np.ndarray], str]],
) -> Verdict:
    """From 89 labels, reward learned by regret is more often near-optimal (scaled return above 0.9)
    than by partial return.
    """
    returns, who = taught()
    share = {model: share_near_optimal(found) for model, found in returns.items()}
    return worst(
        above(share["partial return"], share["regret"]),
        detail=f"{who}: regret {share['regret']:.0%}, partial return"
        f" {share['partial return']:.0%} near-optimal",
    )

"""What the claims of the paper on regret preferences are checked on, and how."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _regret_experiments as experiments
from prefsim.data import data_folder
from prefsim.data.trajectories import Trajectories, enumerate_trajectories
from prefsim.papers import Verdict
from prefsim.raters import regret as raters
from prefsim.solvers.likelihood.rationality import cross_validated_loss
from prefsim.solvers.planning import policy_iteration, value_iteration
from prefsim.testing.segments import SegmentProcess, potentials, segment_processes
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import delivery_task

# --- identities
# ------------------------------------------------------------------------------------------------------------------------


def _along(found: Trajectories, table: Any) -> np.ndarray:
    return np.asarray(table)[found.states[:, :-1], found.actions]


def _both_regrets(process: SegmentProcess) -> tuple[Trajectories, np.ndarray, np.ndarray, float]:
    """Return all segments with their regret by advantages and by start and end value, and the scale of the values."""
    mdp, found = process.mdp, enumerate_trajectories(*process)
    plan = policy_iteration(mdp)
    general = raters.segment_regret(
        _along(found, plan.advantage), found.mask, discount=mdp.discount
    )
    ends = plan.value[found.states[:, 0]], plan.value[found.states[:, -1]]
    return (
        found,
        general,
        raters.deterministic_regret(
            _along(found, mdp.reward), *ends, found.mask, discount=mdp.discount
        ),
        1 + float(np.abs(plan.value).max()),
    )


def check_telescoping(process: SegmentProcess) -> Verdict:
    _, general, by_ends, scale = _both_regrets(process)
    return Verdict(
        float(np.abs(general - by_ends).max()) / scale,
        f"{general.size} segments of {process.length} steps",
    )


def check_telescoping_in_the_mean(process: SegmentProcess) -> Verdict:
    found, general, by_ends, scale = _both_regrets(process)
    return Verdict(abs(float(found.prob @ general - found.prob @ by_ends)) / scale)


class Shaped(NamedTuple):
    """A process and a potential."""

    process: SegmentProcess
    potential: np.ndarray


@st.composite
def shaped(draw: st.DrawFn, ended_at: float | None = None) -> Shaped:
    process = draw(
        segment_processes(terminal=True if ended_at is not None else None, max_actions=2)
    )
    potential = draw(potentials(process.mdp))
    return Shaped(process, np.where(process.mdp.terminal, ended_at or 0.0, potential))


def _preferences(mdp: TabularMDP, found: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Return P(first ≻ second) of all pairs under the regret and the partial-return model, both discounted as the values are."""
    regret = raters.segment_regret(
        _along(found, policy_iteration(mdp).advantage), found.mask, discount=mdp.discount
    )
    total = raters.segment_return(_along(found, mdp.reward), found.mask, discount=mdp.discount)
    return raters.regret_preference(regret[:, None], regret), raters.partial_return_preference(
        total[:, None], total
    )


def _reshaped(case: Shaped) -> TabularMDP:
    (mdp, _), potential = case
    change = mdp.discount * mdp.transitions @ potential - potential[:, None]
    return mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + change))


def check_shaping(case: Shaped) -> Verdict:
    mdp, after = case.process.mdp, _reshaped(case)
    found = enumerate_trajectories(*case.process)
    advantage = np.abs(policy_iteration(after).advantage - policy_iteration(mdp).advantage).max()
    preference = np.abs(_preferences(after, found)[0] - _preferences(mdp, found)[0]).max()
    return Verdict(float(max(advantage, preference)))


class Telescoped(NamedTuple):
    """A shaped process and whether its moves are certain, so that the change of the partial return telescopes."""

    case: Shaped
    by_ends: bool


def check_shaping_changes_returns(instance: Telescoped) -> Verdict:
    (process, potential), by_ends = instance
    mdp, found = process.mdp, enumerate_trajectories(*process)
    before, after = (
        raters.segment_return(_along(found, m.reward), found.mask, discount=mdp.discount)
        for m in (mdp, _reshaped(instance.case))
    )
    steps = found.mask.sum(axis=-1)
    told = (
        mdp.discount**steps * potential[found.states[:, -1]] - potential[found.states[:, 0]]
        if by_ends
        else 0.0
    )
    return Verdict(float(np.abs(after - before - told).max()))


def certain_shaped() -> st.SearchStrategy[Shaped]:
    processes = segment_processes(deterministic=True, max_actions=2)
    return processes.flatmap(
        lambda process: st.builds(Shaped, st.just(process), potentials(process.mdp))
    )


class Shifted(NamedTuple):
    """A process and a constant added to every reward."""

    process: SegmentProcess
    constant: float


def check_shift(case: Shifted) -> Verdict:
    mdp = case.process.mdp
    after = mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + case.constant))
    found = enumerate_trajectories(*case.process)
    full = found.mask.all(axis=-1)
    equal_length = Trajectories(*(part[full] for part in found))
    errors = [
        np.max(np.abs(new - old), initial=0.0)
        for new, old in zip(
            _preferences(after, equal_length), _preferences(mdp, equal_length), strict=True
        )
    ]
    return Verdict(
        float(max(errors)), f"regret model {errors[0]:.3g}, partial return {errors[1]:.3g}"
    )


def check_flip(constants: tuple[float, float]) -> Verdict:
    """One step of −1 to the end, or two steps of −0.3 each: which is better changes with the constant, no label does."""
    chosen, labels = [], []
    for constant in constants:
        moves = np.eye(3)[[[2, 1], [2, 2], [2, 2]]]
        reward = np.array([[-1.0, -0.3], [-0.3, -0.3], [0.0, 0.0]]) + constant
        mdp = TabularMDP(
            moves,
            np.where(np.arange(3)[:, None] == 2, 0.0, reward),
            discount=1.0,
            terminal=np.arange(3) == 2,
        )
        chosen.append(int(np.argmax(value_iteration(mdp).q_value[0])))
        total = raters.segment_return(_along(enumerate_trajectories(mdp, 1), mdp.reward))
        labels.append(raters.partial_return_preference(total[:, None], total))
    change = float(np.abs(labels[1] - labels[0]).max())
    return Verdict(
        change + (chosen[0] == chosen[1]),
        f"optimal actions {chosen}, labels change by {change:.3g}",
    )


# --- what preferences identify
# -----------------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Decision processes ``(B,)`` and the states whose actions are compared."""

    mdp: TabularMDP
    states: np.ndarray


@st.composite
def compared(draw: st.DrawFn, dropped: bool = False) -> Compared:
    mdp = TabularMDP.random(
        4,
        3,
        discount=draw(st.floats(0.1, 0.95)),
        seed=draw(st.integers(0, 2**32 - 1)),
        batch_shape=(4,),
    )
    # Whole numbers make ties, hence sets of several optimal actions.
    mdp = mdp.with_reward(np.round(mdp.reward)) if draw(st.booleans()) else mdp
    return Compared(
        mdp, np.arange(4) != draw(st.integers(0, 3)) if dropped else np.ones(4, dtype=bool)
    )


def check_identifiable(case: Compared) -> Verdict:
    advantage = policy_iteration(case.mdp).advantage
    regret = raters.segment_regret(advantage[..., None]).reshape(advantage.shape[0], -1)
    compared = np.repeat(case.states, advantage.shape[-1])
    mistakes = 0
    for preference in (
        raters.regret_preference(regret[:, :, None], regret[:, None, :]),
        raters.noiseless_preference(-regret[:, :, None], -regret[:, None, :], tie=1e-9),
    ):
        # Of what was never compared the labels say nothing: every action may be optimal.
        never_worse = ((preference >= 0.5 - 1e-9) | ~compared).all(axis=-1) | ~compared
        mistakes += int((never_worse.reshape(advantage.shape) != (advantage > -1e-9)).sum())
    return Verdict(float(mistakes), f"{mistakes} mistakes in {advantage.shape[0]} processes")


class Gamble(NamedTuple):
    """Two ways to lose an even gamble, and whether labels are drawn from the logistic model or noiseless."""

    losses: tuple[float, float]
    noise: bool


def check_gamble(case: Gamble) -> Verdict:
    labels, optimal = [], []
    for lost in case.losses:
        moves, reward = np.zeros((4, 2, 4)), np.zeros((4, 2, 4))
        moves[0, 0, 1], moves[0, 1, 2:], moves[1:, :, 1:] = 1.0, 0.5, np.eye(3)[:, None]
        reward[0, 1, 2:] = 1.0, lost
        mdp = TabularMDP(moves, reward, discount=0.9, terminal=np.arange(4) > 0)
        found = enumerate_trajectories(mdp, 1)
        seen = raters.segment_return(
            reward[found.states[:, :1], found.actions, found.states[:, 1:]]
        )
        model = raters.partial_return_preference if case.noise else raters.noiseless_preference
        labels.append(model(seen[:, None], seen))
        optimal.append(int(np.argmax(policy_iteration(mdp).q_value[0])))
    change = float(np.abs(labels[1] - labels[0]).max())
    return Verdict(
        change + (optimal[0] == optimal[1]),
        f"optimal actions {optimal}, labels change by {change:.3g}",
    )


class Judged(NamedTuple):
    """A process and the advantages that stand for the optimal ones: those of the optimal policy, or of the uniform one."""

    process: SegmentProcess
    optimal: bool


def check_nonnegative(case: Judged) -> Verdict:
    mdp, found = case.process.mdp, enumerate_trajectories(*case.process)
    plan = policy_iteration(mdp)
    advantage = (
        plan.advantage
        if case.optimal
        else plan.advantage - plan.advantage.mean(axis=-1, keepdims=True)
    )
    regret = raters.segment_regret(_along(found, advantage), found.mask)
    scale = 1 + float(np.abs(plan.value).max())
    shortfall = np.where(found.mask, -_along(found, plan.advantage), 0.0).max(axis=-1)
    # Rewards a hair apart are neither equal nor different in floating point: only clear
    # contradictions count.
    unlike = ((regret < 1e-12 * scale) & (shortfall > 1e-6 * scale)) | (
        (regret > 1e-6 * scale) & (shortfall < 1e-12 * scale)
    )
    return Verdict(max(0.0, -float(regret.min()) / scale) + float(unlike.sum()))


# --- people, or a rater like them
# --------------------------------------------------------------------------------------------------------


def _labels(model: str) -> tuple[Any, str]:
    """Return the human labels where they are at hand, else those of a simulated rater; of another model on request."""
    human = experiments.human(data_folder()) if model == "people" else None
    if human is not None:
        return human.segments, "people"
    return (
        experiments.stand_in("regret" if model == "people" else model),
        f"a simulated rater by {'regret' if model == 'people' else model}",
    )


def check_better_fit(model: str) -> Verdict:
    segments, who = _labels(model)
    margins = experiments.margins(delivery_task(), segments)
    by_return, by_regret = (cross_validated_loss(margin, segments.prob) for margin in margins)
    error = max(0.0, by_regret - by_return, by_return - math.log(2))
    return Verdict(
        error,
        f"{who}: regret {by_regret:.4f}, partial return {by_return:.4f}, uninformed"
        f" {math.log(2):.4f} nats",
    )


class Learned(NamedTuple):
    """Labels of people (or a stand-in) on the delivery task, or of a partial-return rater on eight random boards from a seed."""

    boards: int | None


def check_better_policy(case: Learned) -> Verdict:
    if case.boards is None:
        segments, who = _labels("people")
        found, size = (
            experiments.learn_from_parts(segments, 20, restarts=0, iterations=120, seed=100),
            len(segments) // 20,
        )
    else:
        size, who = 300, f"boards {case.boards} to {case.boards + 7}, labels by partial return"
        found = experiments.learn_on_boards(
            range(case.boards, case.boards + 8), "partial return", size, restarts=0
        ).returns
    by_return, by_regret = (
        experiments.share_near_optimal(found[name]) for name in ("partial return", "regret")
    )
    detail = (
        f"{who}, {size} labels: regret {by_regret:.0%}, partial return {by_return:.0%} near-optimal"
    )
    return Verdict(max(0.0, by_return - by_regret), detail)

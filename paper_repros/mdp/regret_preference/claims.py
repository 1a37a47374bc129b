"""What the paper says about regret, and what preferences by regret identify and teach."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.regret_preference.delivery import (
    PEOPLE,
    held_out,
    labels_by_partial_return,
    labels_of_people,
    share_near_optimal,
    taught_by_partial_return,
    taught_by_people,
)
from paper_repros.mdp.regret_preference.instances import (
    LIBRARY,
    Labelled,
    Lesson,
    Shaped,
    Study,
    all_but,
    along,
    gamble,
    labelled,
    lessons,
    preferences,
    random_processes,
    regrets_of,
    shaped,
    way_out,
)
from prefsim import losses
from prefsim.data import Segments
from prefsim.data.delivery import read_delivery
from prefsim.data.trajectories import Trajectories, enumerate_trajectories
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.raters import regret as raters
from prefsim.solvers.planning import policy_iteration, value_iteration
from prefsim.testing.segments import SegmentProcess, segment_processes
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import delivery_task

UNSEEN = {
    ("prefsim.data.delivery.read_delivery", ""): "the reproduction reads a study of people, whose"
    " files are no part of the library; with them it notices"
}

# --- two ways to sum up a regret ---


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
    return apart(found.general, found.by_ends, scale=found.scale)


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
    # Rewards a hair apart are neither equal nor different: only clear contradictions count.
    none, clear = 1e-12 * scale, 1e-6 * scale
    contradictions = ((regret < none) & (shortfall > clear)) | (
        (regret > clear) & (shortfall < none)
    )
    return worst(outside(regret / scale, 0.0, math.inf), float(contradictions.sum()))


# --- what changes of the reward change ---


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
    mdp, ways = process.mdp, enumerate_trajectories(*process)
    full = ways.mask.all(axis=-1)
    equally_long = Trajectories(*(part[full] for part in ways))
    # In a process that ends soon no segment may be long enough.
    if not full.any():
        return Verdict(0.0, "no segment of full length")
    moved = mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + constant))
    before, after = preferences(mdp, equally_long), preferences(moved, equally_long)
    return worst(*(apart(after[model], before[model], detail=model) for model in before))


@claim(
    "shift_flips_the_optimum",
    "counterexample",
    source="section 3.2, after theorem 3.2",
    stated="paper",
    given={"constant": st.floats(-3.0, -0.45)},
    breaks={"constant": st.floats(-0.35, 0.0)},
)
def a_constant_flips_the_optimum(constant: float) -> Verdict:
    """With terminal states a constant can flip the optimal policy while every partial-return label
    stays: a short costly way out against two cheaper steps.
    """
    chosen, labels = [], []
    for added in (0.0, constant):
        mdp = way_out(added)
        chosen.append(int(np.argmax(value_iteration(mdp).q_value[0])))
        total = raters.segment_return(along(enumerate_trajectories(mdp, 1), mdp.reward))
        labels.append(raters.partial_return_preference(total[:, None], total))
    return worst(
        apart(*labels),
        float(chosen[0] == chosen[1]),
        detail=f"optimal actions {chosen}, labels change by {np.ptp(labels, axis=0).max():.3g}",
    )


# --- what preferences identify ---


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
    given={
        "much": st.floats(-10.0, -1.1),
        "little": st.floats(-0.9, -0.1),
        "preference": st.just(raters.noiseless_preference),
    },
    breaks={"preference": st.just(raters.partial_return_preference)},
)
def partial_return_is_blind_to_risk(
    much: float, little: float, preference: Callable[..., np.ndarray]
) -> Verdict:
    """Noiseless partial-return labels are the same for a gamble that pays on average and one that
    does not.
    """
    labels, optimal = [], []
    for lost in (much, little):
        mdp, paid = gamble(lost)
        ways = enumerate_trajectories(mdp, 1)
        seen = raters.segment_return(paid[ways.states[:, :1], ways.actions, ways.states[:, 1:]])
        labels.append(preference(seen[:, None], seen))
        optimal.append(int(np.argmax(policy_iteration(mdp).q_value[0])))
    return worst(
        apart(*labels),
        float(optimal[0] == optimal[1]),
        detail=f"optimal actions {optimal}, labels change by {np.ptp(labels, axis=0).max():.3g}",
    )


# --- the loss, and what minimises it ---


@claim(
    "loss",
    "identity",
    source="section 4, the loss",
    stated="paper",
    given={
        "labelled": labelled(),
        "discount": st.floats(0.1, 1.0),
        "preferred": st.just(raters.regret_preference),
    },
    # By their regret as if it were a return.
    breaks={"preferred": st.just(raters.partial_return_preference)},
)
def loss_is_the_cross_entropy(
    labelled: Labelled, discount: float, preferred: Callable[..., np.ndarray]
) -> Verdict:
    """The loss is −μ log P − (1 − μ) log(1 − P) for the probability P that the regret model gives
    the first segment.
    """
    worth, mask, prob = labelled
    regret = raters.segment_regret(worth, mask, discount=discount)
    first = preferred(regret[:, 0], regret[:, 1])
    expected = -prob * np.log(first) - (1 - prob) * np.log1p(-first)
    return apart(losses.segments.regret(worth, mask, prob=prob, discount=discount), expected)


FITTED: dict[str, Any] = {"kind": "consistency", "tolerance": 1e-8, "examples": 10}


@claim(
    "fits_by_partial_return",
    source="section 4",
    stated="derived",
    given={"lesson": lessons(), "model": st.just("partial return")},
    **FITTED,
)
@claim(
    "fits_by_regret",
    source="section 4, values solved anew at each step",
    stated="derived",
    given={"lesson": lessons(), "model": st.just("regret")},
    **FITTED,
)
@claim(
    "fits_by_library",
    source="section 4, algorithm 1",
    stated="paper",
    given={"lesson": lessons(), "model": st.just(LIBRARY)},
    **FITTED,
)
def fits_descend_the_loss(lesson: Lesson, model: str) -> Verdict:
    """What a fit reports is the loss at its weights, which is not above the loss where it began."""
    fit = lesson.fitted(model, iterations=25)
    start = np.zeros(6) if model == "partial return" else lesson.start
    found, before = (lesson.loss(model, weights) for weights in (fit.weights, start))
    return worst(
        apart(fit.value, found, relative=True),
        above(found, before),
        detail=f"{model}: reported {float(fit.value):.9g}, found {found:.9g}, began {before:.9g}",
    )


# --- labels on the board of the study ---


@claim(
    "study_is_read",
    "identity",
    source="files of the authors' study",
    stated="derived",
    tolerance=1e-9,
    examples=10,
    given={"seed": st.integers(0, 2**32 - 1), "second_preferred": st.just(True)},
    breaks={"second_preferred": st.just(False)},
)
def a_study_is_read_as_it_was_written(seed: int, second_preferred: bool) -> Verdict:
    """Segments, labels and statistics written as the authors do, 1 for the second segment, are
    read as they were.
    """
    study = Study.draw(20, seed)
    with tempfile.TemporaryDirectory() as folder:
        study.write(Path(folder), second_preferred=second_preferred)
        read, statistics = read_delivery(folder)
    first, second = read.returns(delivery_task().mdp.reward).T
    return worst(
        *study.differences(read),
        apart(second - first, statistics[:, 0]),
        apart(statistics, study.statistics()),
    )


# --- people ---


@claim(
    "better_fit",
    "statistical",
    source="section 5, descriptive results",
    stated="paper",
    tolerance=0.0,
    examples=1,
    data=PEOPLE,
    given={"labels": st.just(labels_of_people)},
    breaks={"labels": st.just(labels_by_partial_return)},
)
def regret_fits_people_better(labels: Callable[[], Segments]) -> Verdict:
    """Held-out labels are predicted better by regret than by partial return, and by both better
    than by chance.
    """
    loss, chance = held_out(labels()), math.log(2)
    return worst(
        above(loss["regret"], loss["partial return"]),
        above(loss["partial return"], chance),
        detail=f"regret {loss['regret']:.4f}, partial return {loss['partial return']:.4f},"
        f" uninformed {chance:.4f} nats",
    )


@claim(
    "better_policy",
    "statistical",
    source="section 6, rewards learned from human preferences",
    stated="paper",
    tolerance=0.0,
    examples=1,
    data=PEOPLE,
    given={"taught": st.just(taught_by_people)},
    breaks={
        "taught": st.sampled_from(
            [functools.partial(taught_by_partial_return, board) for board in (8, 40, 0)]
        )
    },
)
def regret_teaches_better_policies(taught: Callable[[], dict[str, np.ndarray]]) -> Verdict:
    """From 89 labels, reward learned by regret is more often near-optimal (scaled return above 0.9)
    than by partial return.
    """
    share = {model: share_near_optimal(found) for model, found in taught().items()}
    return worst(
        above(share["partial return"], share["regret"]),
        detail=f"regret {share['regret']:.0%}, partial return"
        f" {share['partial return']:.0%} near-optimal",
    )

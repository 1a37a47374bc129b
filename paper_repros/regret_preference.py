"""People compare pieces of behaviour by regret rather than by the reward they saw: what follows for learning rewards."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _regret_experiments as experiments
from prefsim.data import data_folder
from prefsim.data.trajectories import Trajectories, enumerate_trajectories
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.raters import regret as raters
from prefsim.solvers.planning import policy_iteration, value_iteration
from prefsim.solvers.rationality import cross_validated_loss
from prefsim.testing.segments import SegmentProcess, potentials, segment_processes
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import delivery_task

PAPER = Paper(
    slug="regret_preference",
    title="Models of human preference for learning reward functions",
    arxiv="2206.02231",
    year=2022,
    family="mdp",
    summary="People who compare two trajectory segments judge how far each falls short of optimal behaviour, not only the reward it collects. "
    "Modelled so, their preferences identify the reward up to its optimal policies and teach better policies from few labels.",
    implements=(
        "prefsim.raters.regret.segment_regret",
        "prefsim.raters.regret.regret_preference",
        "prefsim.losses.segments.regret_preference_loss",
        "prefsim.solvers.reward_learning.fit_regret_reward",
        "prefsim.solvers.reward_learning.fit_regret_reward_library",
        "prefsim.solvers.reward_learning.fit_partial_return_reward",
        "prefsim.worlds.delivery.delivery_task",
        "prefsim.data.delivery.read_delivery",
    ),
)


# --- identities ------------------------------------------------------------------------------------------------------------------------


def _along(found: Trajectories, table: Any) -> np.ndarray:
    return np.asarray(table)[found.states[:, :-1], found.actions]


def _both_regrets(process: SegmentProcess) -> tuple[Trajectories, np.ndarray, np.ndarray, float]:
    """Return all segments with their regret by advantages and by start and end value, and the scale of the values."""
    mdp, found = process.mdp, enumerate_trajectories(*process)
    plan = policy_iteration(mdp)
    general = raters.segment_regret(_along(found, plan.advantage), found.mask, discount=mdp.discount)
    ends = plan.value[found.states[:, 0]], plan.value[found.states[:, -1]]
    return (
        found,
        general,
        raters.deterministic_regret(_along(found, mdp.reward), *ends, found.mask, discount=mdp.discount),
        1 + float(np.abs(plan.value).max()),
    )


def _check_telescoping(process: SegmentProcess) -> Verdict:
    _, general, by_ends, scale = _both_regrets(process)
    return Verdict(float(np.abs(general - by_ends).max()) / scale, f"{general.size} segments of {process.length} steps")


def _check_telescoping_in_the_mean(process: SegmentProcess) -> Verdict:
    found, general, by_ends, scale = _both_regrets(process)
    return Verdict(abs(float(found.prob @ general - found.prob @ by_ends)) / scale)


class Shaped(NamedTuple):
    """A process and a potential."""

    process: SegmentProcess
    potential: np.ndarray


@st.composite
def _shaped(draw: st.DrawFn, ended_at: float | None = None) -> Shaped:
    process = draw(segment_processes(terminal=True if ended_at is not None else None, max_actions=2))
    potential = draw(potentials(process.mdp))
    return Shaped(process, np.where(process.mdp.terminal, ended_at or 0.0, potential))


def _preferences(mdp: TabularMDP, found: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Return P(first ≻ second) of all pairs under the regret and the partial-return model, both discounted as the values are."""
    regret = raters.segment_regret(_along(found, policy_iteration(mdp).advantage), found.mask, discount=mdp.discount)
    total = raters.segment_return(_along(found, mdp.reward), found.mask, discount=mdp.discount)
    return raters.regret_preference(regret[:, None], regret), raters.partial_return_preference(total[:, None], total)


def _reshaped(case: Shaped) -> TabularMDP:
    (mdp, _), potential = case
    change = mdp.discount * mdp.transitions @ potential - potential[:, None]
    return mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + change))


def _check_shaping(case: Shaped) -> Verdict:
    mdp, after = case.process.mdp, _reshaped(case)
    found = enumerate_trajectories(*case.process)
    advantage = np.abs(policy_iteration(after).advantage - policy_iteration(mdp).advantage).max()
    preference = np.abs(_preferences(after, found)[0] - _preferences(mdp, found)[0]).max()
    return Verdict(float(max(advantage, preference)))


class Telescoped(NamedTuple):
    """A shaped process and whether its moves are certain, so that the change of the partial return telescopes."""

    case: Shaped
    by_ends: bool


def _check_shaping_changes_returns(instance: Telescoped) -> Verdict:
    (process, potential), by_ends = instance
    mdp, found = process.mdp, enumerate_trajectories(*process)
    before, after = (
        raters.segment_return(_along(found, m.reward), found.mask, discount=mdp.discount) for m in (mdp, _reshaped(instance.case))
    )
    steps = found.mask.sum(axis=-1)
    told = mdp.discount**steps * potential[found.states[:, -1]] - potential[found.states[:, 0]] if by_ends else 0.0
    return Verdict(float(np.abs(after - before - told).max()))


def _certain_shaped() -> st.SearchStrategy[Shaped]:
    processes = segment_processes(deterministic=True, max_actions=2)
    return processes.flatmap(lambda process: st.builds(Shaped, st.just(process), potentials(process.mdp)))


class Shifted(NamedTuple):
    """A process and a constant added to every reward."""

    process: SegmentProcess
    constant: float


def _check_shift(case: Shifted) -> Verdict:
    mdp = case.process.mdp
    after = mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, mdp.reward + case.constant))
    found = enumerate_trajectories(*case.process)
    full = found.mask.all(axis=-1)
    equal_length = Trajectories(*(part[full] for part in found))
    errors = [
        np.max(np.abs(new - old), initial=0.0)
        for new, old in zip(_preferences(after, equal_length), _preferences(mdp, equal_length), strict=True)
    ]
    return Verdict(float(max(errors)), f"regret model {errors[0]:.3g}, partial return {errors[1]:.3g}")


def _check_flip(constants: tuple[float, float]) -> Verdict:
    """One step of −1 to the end, or two steps of −0.3 each: which is better changes with the constant, no label does."""
    chosen, labels = [], []
    for constant in constants:
        moves = np.eye(3)[[[2, 1], [2, 2], [2, 2]]]
        reward = np.array([[-1.0, -0.3], [-0.3, -0.3], [0.0, 0.0]]) + constant
        mdp = TabularMDP(moves, np.where(np.arange(3)[:, None] == 2, 0.0, reward), discount=1.0, terminal=np.arange(3) == 2)
        chosen.append(int(np.argmax(value_iteration(mdp).q_value[0])))
        total = raters.segment_return(_along(enumerate_trajectories(mdp, 1), mdp.reward))
        labels.append(raters.partial_return_preference(total[:, None], total))
    change = float(np.abs(labels[1] - labels[0]).max())
    return Verdict(change + (chosen[0] == chosen[1]), f"optimal actions {chosen}, labels change by {change:.3g}")


# --- what preferences identify -----------------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Decision processes ``(B,)`` and the states whose actions are compared."""

    mdp: TabularMDP
    states: np.ndarray


@st.composite
def _compared(draw: st.DrawFn, dropped: bool = False) -> Compared:
    mdp = TabularMDP.random(4, 3, discount=draw(st.floats(0.1, 0.95)), seed=draw(st.integers(0, 2**32 - 1)), batch_shape=(4,))
    # Whole numbers make ties, hence sets of several optimal actions.
    mdp = mdp.with_reward(np.round(mdp.reward)) if draw(st.booleans()) else mdp
    return Compared(mdp, np.arange(4) != draw(st.integers(0, 3)) if dropped else np.ones(4, dtype=bool))


def _check_identifiable(case: Compared) -> Verdict:
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


def _check_gamble(case: Gamble) -> Verdict:
    labels, optimal = [], []
    for lost in case.losses:
        moves, reward = np.zeros((4, 2, 4)), np.zeros((4, 2, 4))
        moves[0, 0, 1], moves[0, 1, 2:], moves[1:, :, 1:] = 1.0, 0.5, np.eye(3)[:, None]
        reward[0, 1, 2:] = 1.0, lost
        mdp = TabularMDP(moves, reward, discount=0.9, terminal=np.arange(4) > 0)
        found = enumerate_trajectories(mdp, 1)
        seen = raters.segment_return(reward[found.states[:, :1], found.actions, found.states[:, 1:]])
        model = raters.partial_return_preference if case.noise else raters.noiseless_preference
        labels.append(model(seen[:, None], seen))
        optimal.append(int(np.argmax(policy_iteration(mdp).q_value[0])))
    change = float(np.abs(labels[1] - labels[0]).max())
    return Verdict(change + (optimal[0] == optimal[1]), f"optimal actions {optimal}, labels change by {change:.3g}")


class Judged(NamedTuple):
    """A process and the advantages that stand for the optimal ones: those of the optimal policy, or of the uniform one."""

    process: SegmentProcess
    optimal: bool


def _check_nonnegative(case: Judged) -> Verdict:
    mdp, found = case.process.mdp, enumerate_trajectories(*case.process)
    plan = policy_iteration(mdp)
    advantage = plan.advantage if case.optimal else plan.advantage - plan.advantage.mean(axis=-1, keepdims=True)
    regret = raters.segment_regret(_along(found, advantage), found.mask, discount=mdp.discount)
    scale = 1 + float(np.abs(plan.value).max())
    shortfall = np.where(found.mask, -_along(found, plan.advantage), 0.0).max(axis=-1)
    # Rewards a hair apart are neither equal nor different in floating point: only clear contradictions count.
    unlike = ((regret < 1e-12 * scale) & (shortfall > 1e-6 * scale)) | ((regret > 1e-6 * scale) & (shortfall < 1e-12 * scale))
    return Verdict(max(0.0, -float(regret.min()) / scale) + float(unlike.sum()))


# --- people, or a rater like them --------------------------------------------------------------------------------------------------------


def _labels(model: str) -> tuple[Any, str]:
    """Return the human labels where they are at hand, else those of a simulated rater; of another model on request."""
    human = experiments.human(data_folder()) if model == "people" else None
    if human is not None:
        return human.segments, "people"
    return experiments.stand_in(
        "regret" if model == "people" else model
    ), f"a simulated rater by {'regret' if model == 'people' else model}"


def _check_better_fit(model: str) -> Verdict:
    segments, who = _labels(model)
    margins = experiments.margins(delivery_task(), segments)
    by_return, by_regret = (cross_validated_loss(margin, segments.prob) for margin in margins)
    error = max(0.0, by_regret - by_return, by_return - math.log(2))
    return Verdict(error, f"{who}: regret {by_regret:.4f}, partial return {by_return:.4f}, uninformed {math.log(2):.4f} nats")


class Learned(NamedTuple):
    """Labels of people (or a stand-in) on the delivery task, or of a partial-return rater on eight random boards from a seed."""

    boards: int | None


def _check_better_policy(case: Learned) -> Verdict:
    if case.boards is None:
        segments, who = _labels("people")
        found, size = experiments.learn_from_parts(segments, 20, restarts=0, iterations=120, seed=100), len(segments) // 20
    else:
        size, who = 300, f"boards {case.boards} to {case.boards + 7}, labels by partial return"
        found = experiments.learn_on_boards(range(case.boards, case.boards + 8), "partial return", size, restarts=0)
    by_return, by_regret = (_share(found[name]) for name in ("partial return", "regret"))
    detail = f"{who}, {size} labels: regret {by_regret:.0%}, partial return {by_return:.0%} near-optimal"
    return Verdict(max(0.0, by_return - by_regret), detail)


NEAR_OPTIMAL = 0.9


def _share(returns: np.ndarray) -> float:
    return float((returns > NEAR_OPTIMAL).mean())


CLAIMS = (
    Claim(
        "telescoping",
        "identity",
        "The discounted sum of V* − Q* along a segment is V*(start) − discounted rewards − γ^T V*(end).",
        "section 3, deterministic and general regret",
        segment_processes(deterministic=True),
        _check_telescoping,
        1e-12,
        breaks=segment_processes(deterministic=False, min_states=2, min_actions=2),
    ),
    Claim(
        "telescoping_in_the_mean",
        "identity",
        "Where moves are random the regret by start and end is a random number whose mean is that of the general regret.",
        "section 3",
        segment_processes(),
        _check_telescoping_in_the_mean,
        1e-12,
    ),
    Claim(
        "shaping",
        "invariance",
        "Potential-based shaping leaves optimal advantages and regret preferences as they are.",
        "section 3; Ng, Harada and Russell 1999",
        _shaped(),
        _check_shaping,
        1e-10,
        breaks=_shaped(ended_at=1.5),
    ),
    Claim(
        "shaping_changes_returns",
        "identity",
        "Shaping changes a partial return by γ^T Φ(end) − Φ(start), hence the preferences of the partial-return model.",
        "section 3",
        st.builds(Telescoped, _certain_shaped(), st.just(True)),
        _check_shaping_changes_returns,
        1e-12,
        breaks=st.builds(Telescoped, _certain_shaped(), st.just(False)),
    ),
    Claim(
        "shift",
        "invariance",
        "A constant added to every reward changes no preference of either model, if nothing ends and segments have one length.",
        "section 3",
        st.builds(Shifted, segment_processes(terminal=False, max_actions=2), st.floats(-3, 3)),
        _check_shift,
        1e-10,
        breaks=st.builds(Shifted, segment_processes(terminal=True, min_actions=2, max_actions=2), st.floats(-3, 3)),
    ),
    Claim(
        "shift_flips_the_optimum",
        "counterexample",
        "With terminal states a constant can flip the optimal policy while every partial-return label stays: a short costly way out "
        "against two cheaper steps.",
        "section 3.2, after theorem 3.2",
        st.just((0.0, -1.0)),
        _check_flip,
        1e-12,
        breaks=st.just((0.0, -0.1)),
        examples=1,
    ),
    Claim(
        "identifiable",
        "consistency",
        "An action is optimal exactly if no single step is preferred to it by regret, with or without noise: the preferences determine all "
        "optimal policies.",
        "theorem 3.1 (label from memory)",
        _compared(),
        _check_identifiable,
        0.0,
        breaks=_compared(dropped=True),
    ),
    Claim(
        "partial_return_blind_to_risk",
        "counterexample",
        "Noiseless partial-return labels are the same for a gamble that pays on average and one that does not.",
        "theorem 3.2 (label from memory)",
        st.just(Gamble((-10.0, -0.5), noise=False)),
        _check_gamble,
        0.0,
        breaks=st.just(Gamble((-10.0, -0.5), noise=True)),
        examples=1,
    ),
    Claim(
        "nonnegative",
        "inequality",
        "Regret is >= 0, and 0 exactly if every action of the segment is optimal.",
        "section 3",
        st.builds(Judged, segment_processes(), st.just(True)),
        _check_nonnegative,
        1e-12,
        breaks=st.builds(Judged, segment_processes(min_actions=2), st.just(False)),
    ),
    Claim(
        "better_fit",
        "statistical",
        "Held-out labels are predicted better by regret than by partial return, and by both better than by chance.",
        "section 5, descriptive results",
        st.just("people"),
        _check_better_fit,
        0.0,
        breaks=st.just("partial return"),
        examples=1,
    ),
    Claim(
        "better_policy",
        "statistical",
        "From 89 labels, reward learned by regret is more often near-optimal (scaled return above 0.9) than by partial return.",
        "section 6, rewards learned from human preferences",
        st.just(Learned(None)),
        _check_better_policy,
        0.0,
        breaks=st.builds(Learned, st.sampled_from((8, 40, 0))),
        examples=1,
    ),
)


# --- reproduction ------------------------------------------------------------------------------------------------------------------------

PAPER_LOSSES = {"Privileged-Control": (0.6202, 0.5732), "Trained-Control": (0.5268, 0.4368), "Question-Control": (0.5307, 0.4839)}


def _people(run: Run, table: list[dict[str, Any]], criteria: list[Criterion]) -> dict[str, Any]:
    """Reproduce the parts on human labels; empty where there are none."""
    human = experiments.human(run.data)
    if human is None:
        return {}
    margins = experiments.margins(delivery_task(), human.segments)
    total, start, end = human.statistics.T
    gap = float(max(np.abs(margins[0] + total).max(), np.abs(margins[1] + total + end - start).max()))
    n = len(human.segments)
    criteria.append(Criterion(f"{n:,} human comparisons replayed on the board", "recorded returns and values", f"gap {gap:g}", gap < 1e-9))
    losses = {}
    for condition, told in PAPER_LOSSES.items():
        if (found := experiments.human(run.data, condition)) is None:
            continue
        measured = tuple(cross_validated_loss(m, found.segments.prob) for m in experiments.margins(delivery_task(), found.segments))
        losses[condition] = measured
        close = max(abs(a - b) for a, b in zip(measured, told, strict=True)) <= 0.002 and measured[1] < measured[0] < math.log(2)
        text = "partial return {:.4f}, regret {:.4f}"
        criteria.append(Criterion(f"held-out cross-entropy, {condition} (± 0.002)", text.format(*told), text.format(*measured), close))
        table += [
            {
                "part": f"people, {condition}",
                "model": model,
                "labels": len(found.segments),
                "measure": "held-out cross-entropy",
                "value": value,
            }
            for model, value in zip(("partial return", "regret"), measured, strict=True)
        ]
    curve = experiments.human_curve(run, human.segments)
    best = {model: float(returns[0]) for model, returns in curve[n].items()}
    text = ", ".join(f"{model} {value:.3f}" for model, value in best.items())
    passed = best["regret"] > 0.98 and best["regret"] > best["partial return"]
    told = "regret 0.997 (> 0.98), partial return 0.929"
    criteria.append(Criterion(f"scaled return of what all {n:,} human labels teach", told, text, passed))
    share = {model: _share(returns) for model, returns in curve[n // 20].items()}
    text = ", ".join(f"{model} {value:.0%}" for model, value in share.items())
    passed = share["regret"] > max(share["partial return"], share[experiments.EARLY])
    criteria.append(Criterion(f"near-optimal policies from {n // 20} human labels", "regret 80 %, partial return 50 %", text, passed))
    for size, returns in curve.items():
        for model, values in returns.items():
            table.append({"part": "people", "model": model, "labels": size, "measure": "share near-optimal", "value": _share(values)})
    return {"losses": losses, "curve": curve}


def reproduce(run: Run) -> Reproduction:
    table: list[dict[str, str | float | int]] = []
    criteria: list[Criterion] = []
    people = _people(run, table, criteria)
    simulated = experiments.simulated(run)
    leads = {}
    for source, curve in simulated.items():
        shares = {size: (_share(found["partial return"]), _share(found["regret"])) for size, found in curve.items()}
        leads[source] = float(np.mean([found["regret"].mean() - found["partial return"].mean() for found in curve.values()]))
        for size, pair in shares.items():
            for model, value in zip(("partial return", "regret"), pair, strict=True):
                row = {
                    "part": f"simulated rater by {source}",
                    "model": model,
                    "labels": size,
                    "measure": "share near-optimal",
                    "value": value,
                }
                table.append(row)
        if source == "regret":
            text = ", ".join(f"{size}: {b:.0%} against {a:.0%}" for size, (a, b) in shares.items())
            passed = all(b >= a for a, b in shares.values())
            criteria.append(Criterion("labels by regret: the regret model leads at every size", "regret curve dominates", text, passed))
    text = f"mean lead in scaled return {leads['regret']:+.2f} for labels by regret, {leads['partial return']:+.2f} for labels by partial return"
    passed = leads["partial return"] < 0.5 * leads["regret"]
    criteria.append(Criterion("labels by partial return: less than half of that lead is left", "shown beside it", text, passed))
    toys = experiments.gymnasium_curves(run)
    for name, sizes in toys.items():
        for size, values in sizes.items():
            for model in ("partial return", "regret"):
                table.append({"part": name, "model": model, "labels": size, "measure": "return", "value": values[model]})
        last = sizes[max(sizes)]
        reached = abs(last["regret"] - last["optimum"]) <= 1e-6 * abs(last["optimum"])
        text = f"regret {last['regret']:.6f}, partial return {last['partial return']:.6f}"
        criteria.append(
            Criterion(f"{name}: return after {max(sizes)} recorded comparisons", f"exact optimum {last['optimum']:.6f}", text, reached)
        )
    return Reproduction(experiments.draw(people, simulated, toys, PAPER_LOSSES), table, tuple(criteria))

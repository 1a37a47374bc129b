"""The experiments and the figure of the paper on regret preferences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefsim.analysis.returns import mean_return, scaled_return
from prefsim.data import Segments
from prefsim.data.delivery import HumanComparisons, has_delivery, read_delivery
from prefsim.papers import Run
from prefsim.solvers.likelihood.reward_learning import fit_partial_return_reward, fit_regret_reward
from prefsim.solvers.planning import occupancy, policy_iteration, value_iteration
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import DeliveryTask, delivery_task, random_delivery_task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODELS = ("partial return", "regret")
EARLY = "partial return, stopped early"
CONVERGED: dict[str, Any] = {"learning_rate": 2.0, "iterations": 1000}
"""Of Adam: the authors' rate; the loss has settled long before their 30,000 steps."""
HUMAN_BETA = 0.242024
"""Inverse temperature of the regret model on the human labels, for a simulated rater as consistent as people are."""

Curve = dict[int, dict[str, np.ndarray]]


def share_near_optimal(returns: np.ndarray) -> float:
    """Return the share of scaled returns above 0.9."""
    return float((returns > 0.9).mean())


# --- the delivery task
# -------------------------------------------------------------------------------------------------------------------


def human(folder: Path | None, condition: str = "Privileged-Control") -> HumanComparisons | None:
    """Return the labels of people, or None where they are not at hand."""
    if folder is None or not has_delivery(folder / "delivery", condition):
        return None
    return read_delivery(folder / "delivery", condition)


def stand_in(model: str, n: int = 1793) -> Segments:
    """Return labels of a simulated rater of the delivery task, by regret or by partial return."""
    task = delivery_task()
    table = policy_iteration(task.mdp).advantage if model == "regret" else task.mdp.reward
    return Segments.sample(task.mdp, n, 3, seed=0, scores=HUMAN_BETA * np.asarray(table))


def margins(task: DeliveryTask, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Return the margins of partial return and of regret, first minus second segment, by the true reward and without discount."""
    total = segments.returns(task.mdp.reward)
    value = np.asarray(value_iteration(task.mdp).value)
    gained = total + value[segments.states[..., -1]] - value[segments.states[..., 0]]
    return total[:, 0] - total[:, 1], gained[:, 0] - gained[:, 1]


def learn_from_parts(
    segments: Segments, parts: int, *, restarts: int, iterations: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the scaled returns ``(parts,)`` of what each model learns from disjoint parts of the labels."""
    task = delivery_task(discount=0.999)
    size = len(segments) // parts
    data = segments.take(
        np.random.default_rng(seed).permutation(len(segments))[: parts * size].reshape(parts, size)
    )
    process = FeatureProcess(task.mdp, task.features)
    fits = {
        "partial return": fit_partial_return_reward(data, task.features, **CONVERGED),
        EARLY: fit_partial_return_reward(data, task.features, learning_rate=0.1, iterations=1500),
        "regret": fit_regret_reward(
            data, task.mdp, task.features, restarts=restarts, iterations=iterations, seed=seed
        ),
    }
    return {
        model: scaled_return(task.mdp, process.greedy_policy(fit.weights), floor=-1.0)
        for model, fit in fits.items()
    }


def human_curve(run: Run, segments: Segments) -> Curve:
    """Return scaled returns by the number of human labels that each part holds."""
    options: dict[str, Any] = {
        "restarts": 3 if run.quick else 5,
        "iterations": 300,
        "seed": 100 + run.seed,
    }
    counts = run.progress(
        (20, 5, 1) if run.quick else (20, 10, 5, 2, 1), "parts of the human labels"
    )
    return {
        len(segments) // parts: learn_from_parts(segments, parts, **options) for parts in counts
    }


class Boards(NamedTuple):
    """Scaled returns ``(boards,)`` of what each model learned, and the mean cross-entropy of its fits."""

    returns: dict[str, np.ndarray]
    losses: dict[str, float]


def learn_on_boards(seeds: Iterable[int], source: str, n: int, *, restarts: int = 2) -> Boards:
    """Learn on random 5 x 5 boards from ``n`` labels of a simulated rater, by regret or by partial return."""
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
    data = Segments.stack(
        [
            Segments.sample(task.mdp, n, 3, seed=10_000 + i, scores=scores[i])
            for i, task in enumerate(boards)
        ]
    )
    fits = {
        "partial return": fit_partial_return_reward(data, features, **CONVERGED),
        "regret": fit_regret_reward(data, batch, features, restarts=restarts),
    }
    policies = {
        model: FeatureProcess(batch, features).greedy_policy(fit.weights)
        for model, fit in fits.items()
    }
    returns = {
        model: np.array(
            [
                float(scaled_return(task.mdp, policy, floor=-1.0))
                for task, policy in zip(boards, table, strict=True)
            ]
        )
        for model, table in policies.items()
    }
    return Boards(returns, {model: float(fit.value.mean()) for model, fit in fits.items()})


def simulated(run: Run) -> dict[str, dict[int, Boards]]:
    """Return what is learned on random boards, by the model behind the labels and the number of labels."""
    found: dict[str, dict[int, Boards]] = {source: {} for source in ("regret", "partial return")}
    sizes = (3, 30, 300) if run.quick else (3, 10, 30, 100, 300, 1000, 3000)
    seeds = range(1000 * run.seed, 1000 * run.seed + (12 if run.quick else 30))
    for source, n in run.progress(
        [(source, n) for source in found for n in sizes], "simulated raters"
    ):
        found[source][n] = learn_on_boards(seeds, source, n, restarts=1 if run.quick else 2)
    return found


# --- gymnasium
# ---------------------------------------------------------------------------------------------------------------------------


class Toy(NamedTuple):
    """A gymnasium environment with features of its steps, expected and as seen, and the rater's log-odds per unit of reward."""

    mdp: TabularMDP
    features: np.ndarray
    seen: np.ndarray
    beta: float


def _frozen_lake() -> Toy:
    """Features of the tile that is entered: goal, hole, neither; the ice makes them random."""
    import gymnasium

    mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.97, is_slippery=True)
    tile = gymnasium.make("FrozenLake-v1").unwrapped.desc.astype(str).reshape(-1)  # type: ignore[attr-defined]
    entered = np.stack([tile == "G", tile == "H", (tile == "F") | (tile == "S")], axis=-1).astype(
        float
    )
    return Toy(
        mdp, mdp.transitions @ entered, np.broadcast_to(entered, (*mdp.transitions.shape, 3)), 50.0
    )


def _cliff_walking() -> Toy:
    """Features of a step: one each, one for stepping off the cliff, one for arriving."""
    mdp = TabularMDP.from_gymnasium("CliffWalking-v1", discount=0.97)
    row, column = np.divmod(np.arange(48)[:, None], 12)
    below = np.clip(row + np.array([-1, 0, 1, 0]), 0, 3)  # up, right, down, left
    beside = np.clip(column + np.array([0, 1, 0, -1]), 0, 11)
    fell, arrived = (below == 3) & (beside > 0) & (beside < 11), mdp.transitions[..., 47]
    features = np.stack([np.ones_like(arrived), fell, arrived], axis=-1)
    return Toy(mdp, features, features, 1.0)


def visited_states(mdp: TabularMDP) -> np.ndarray:
    """Return the uniform distribution over the states that can be met and that do not end the episode."""
    met = (
        occupancy(mdp, np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)).sum(axis=-1)
        > 1e-9
    )
    return met / met.sum()


def gymnasium_curves(run: Run) -> dict[str, dict[int, dict[str, float]]]:
    """Return the true return of what both models learn from segments recorded in the environments, and the exact optimum."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name, toy in {"FrozenLake-v1": _frozen_lake(), "CliffWalking-v1": _cliff_walking()}.items():
        plan, process, start = (
            policy_iteration(toy.mdp),
            FeatureProcess(toy.mdp, toy.features),
            visited_states(toy.mdp),
        )
        found[name] = {}
        for n in run.progress((30, 300) if run.quick else (30, 100, 300, 1000, 3000), name):
            data = Segments.from_gymnasium(
                name, n, 3, seed=run.seed, scores=toy.beta * plan.advantage, start=start
            )
            weights = {
                "partial return": fit_partial_return_reward(data, toy.seen, **CONVERGED).weights,
                "regret": (
                    fit_regret_reward(
                        data, toy.mdp, toy.features, iterations=150, seed=run.seed
                    ).weights
                ),
            }
            found[name][n] = {
                model: float(mean_return(toy.mdp, process.greedy_policy(w)))
                for model, w in weights.items()
            }
            found[name][n]["optimum"] = float(plan.value @ toy.mdp.start_probs)
    return found


# --- figure
# ------------------------------------------------------------------------------------------------------------------------------

COLOURS = {"partial return": "tab:orange", EARLY: "tab:red", "regret": "tab:blue"}


def draw(
    people: dict[str, Any],
    raters: dict[str, Curve],
    toys: dict[str, dict[int, dict[str, float]]],
    told: dict[str, tuple[float, float]],
) -> Figure:
    """Return the figure: people first where there are any, then simulated raters and the two environments."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9 if people else 4.8), layout="constrained")
    axes = list(np.atleast_2d(figure.subplots(2 if people else 1, 2)).reshape(-1))
    if people:
        _draw_losses(axes[0], people["losses"], told)
        _draw_shares(axes[1], {"regret": people["curve"]}, "Labels by people, delivery task")
        axes = axes[2:]
    _draw_shares(axes[0], raters, "Labels by simulated raters, random 5 x 5 boards")
    _draw_toys(axes[1], toys)
    figure.suptitle("Rewards learned from compared segments, by regret or by partial return")
    return figure


def _sizes_axis(axes: Axes, sizes: list[int], label: str) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel(label)


def _draw_losses(
    axes: Axes, losses: dict[str, tuple[float, float]], told: dict[str, tuple[float, float]]
) -> None:
    places = np.arange(len(losses))
    for i, model in enumerate(MODELS):
        bars = axes.bar(
            places + 0.4 * i - 0.2,
            [pair[i] for pair in losses.values()],
            0.36,
            color=COLOURS[model],
            label=f"{model} model",
        )
        axes.bar_label(bars, fmt="%.4f", label_type="center", color="white")
        axes.scatter(
            places + 0.4 * i - 0.2,
            [told[c][i] for c in losses],
            marker="D",
            color="black",
            zorder=3,
            label="paper" if i else None,
        )
    axes.axhline(math.log(2), color="grey", linestyle="--", label="uninformed (log 2)")
    axes.set_xticks(places, list(losses))
    axes.set(
        xlim=(-0.6, len(losses) - 0.4), ylim=(0.4, 0.8), ylabel="held-out cross-entropy (nats)"
    )
    axes.set_title("Labels by people: prediction, one scale fitted")
    axes.legend(fontsize=8, loc="upper right", ncols=2)


def _draw_shares(axes: Axes, raters: dict[str, Curve], title: str) -> None:
    for source, curve in raters.items():
        sizes = sorted(curve)
        main = source == "regret"
        for model in COLOURS:
            if model not in curve[sizes[0]]:
                continue
            by = f", labels by {source}" if len(raters) > 1 else ""
            shares = [100 * share_near_optimal(curve[n][model]) for n in sizes]
            name = f"{model}{by}" if model == EARLY else f"{model} model{by}"
            axes.plot(
                sizes,
                shares,
                "-o" if main else "--s",
                color=COLOURS[model],
                label=name,
                alpha=1.0 if main else 0.6,
                clip_on=False,
            )
    _sizes_axis(axes, sorted(next(iter(raters.values()))), "comparisons to learn from")
    axes.set(ylabel="policies with scaled return > 0.9 (%)", ylim=(0, 105))
    axes.set_title(title)
    axes.legend(fontsize=8, loc="lower right" if len(raters) > 1 else "lower left")


def _draw_toys(axes: Axes, toys: dict[str, dict[int, dict[str, float]]]) -> None:
    for style, (name, sizes) in zip(("-o", "--s"), toys.items(), strict=True):
        for model in MODELS:
            gap = [
                100 * max(values["optimum"] - values[model], 0.0) / abs(values["optimum"])
                for values in sizes.values()
            ]
            axes.plot(
                list(sizes),
                gap,
                style,
                color=COLOURS[model],
                label=f"{model} model, {name.split('-')[0]}",
                clip_on=False,
            )
    _sizes_axis(axes, sorted(next(iter(toys.values()))), "comparisons recorded in the environment")
    axes.set(ylabel="return lost against the optimum (%)", ylim=(0, None))
    axes.set_title("gymnasium, simulated rater by regret: distance to the optimum")
    axes.legend(fontsize=8, loc="upper right")

"""The experiments and the figure of the paper on contrastive preference learning."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np


from prefsim.analysis.returns import mean_return, scaled_return
from prefsim.backend import to_numpy
from prefsim.data import Segments
from prefsim.losses.segments import cpl
from prefsim.numerics import array_namespace
from prefsim.papers import Run
from prefsim.policies import InMemoryPolicy, TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.planning import policy_iteration, soft_value_iteration, uniform_over_reachable
from prefsim.worlds import TabularMDP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = Any
ALPHA, DISCOUNT, LENGTH = 0.5, 0.95, 3


@dataclass(frozen=True, eq=False)
class RewardTable(InMemoryPolicy):
    """Rewards in the place of log-probabilities: the loss then is the logistic regression of the partial-return model."""

    table: Array

    @property
    def parameters(self) -> Array:
        """The table, flattened."""
        return array_namespace(self.table).reshape(self.table, (*self.table.shape[:-2], -1))

    def with_parameters(self, parameters: Array) -> RewardTable:
        """Return another table."""
        shape = (*parameters.shape[:-1], *self.table.shape[-2:])
        return RewardTable(array_namespace(parameters).reshape(parameters, shape))

    @property
    def log_probs(self) -> Array:
        """The table as it is."""
        return self.table


def ridge(policy: InMemoryPolicy, weight: float = 1e-2) -> Array:
    """Return the penalty of the page, ``weight`` times the mean square of the parameters."""
    return weight * array_namespace(policy.parameters).mean(policy.parameters**2, axis=-1)


def corner_grid(seed: int, side: int = 4) -> TabularMDP:
    """Return a square grid with random costs of entering a cell and a reward of 5 in the corner that ends the episode."""
    reward = -np.random.default_rng(seed).uniform(0.1, 1.0, (side, side))
    reward[-1, -1] = 5.0
    corner = np.zeros((side, side), dtype=bool)
    corner[-1, -1] = True
    return TabularMDP.grid_world(reward, terminal=corner, discount=DISCOUNT)


def cpl_policies(
    data: Segments,
    states: int,
    actions: int,
    *,
    lambda_: float = 1.0,
    alpha: float = ALPHA,
    **options: Any,
) -> np.ndarray:
    """Return the policies ``(*batch, S, A)`` that the loss teaches, from the uniform one."""
    loss = functools.partial(
        cpl, alpha=alpha, lambda_=lambda_, discount=options.pop("discount", DISCOUNT)
    )
    return to_numpy(fit(TabularPolicy.uniform(states, actions), loss, data, **options).policy.probs)


def learning_curves(run: Run) -> dict[int, dict[str, np.ndarray]]:
    """Return scaled soft returns ``(seeds,)`` of both methods by the number of comparisons."""
    grids = [corner_grid(seed) for seed in range(run.seed, run.seed + (2 if run.quick else 5))]
    experts = [soft_value_iteration(mdp, temperature=ALPHA) for mdp in grids]
    found = {}
    for n in run.progress((50, 800, 3200) if run.quick else (50, 200, 800, 3200), "comparisons"):
        data = Segments.stack(
            [
                Segments.sample(
                    mdp,
                    n,
                    LENGTH,
                    seed=1000 + run.seed + i,
                    scores=expert.advantage,
                    discount=DISCOUNT,
                )
                for i, (mdp, expert) in enumerate(zip(grids, experts, strict=True))
            ]
        )
        contrastive = cpl_policies(data, 16, 4, penalty=ridge)
        logistic = functools.partial(cpl, alpha=1.0, lambda_=1.0, discount=DISCOUNT)
        rewards = fit(RewardTable(np.zeros((16, 4))), logistic, data, penalty=ridge).policy.table
        planned = [
            soft_value_iteration(
                mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, table)), temperature=ALPHA
            ).policy
            for mdp, table in zip(grids, rewards, strict=True)
        ]
        found[n] = {
            name: np.array(
                [
                    float(scaled_return(mdp, p, temperature=ALPHA))
                    for mdp, p in zip(grids, policies, strict=True)
                ]
            )
            for name, policies in (("CPL", contrastive), ("partial return", planned))
        }
    return found


LAMBDAS = (0.25, 0.5, 0.75, 0.9, 1.0)


def error_by_lambda(seed: int) -> dict[float, float]:
    """Return the largest error of the policy that the exact population teaches, by λ."""
    mdp = TabularMDP.random(4, 3, discount=0.9, seed=seed, deterministic=True)
    expert = soft_value_iteration(mdp, temperature=ALPHA)
    data = Segments.population(mdp, 2, scores=expert.advantage, discount=0.9)
    return {
        x: float(np.abs(cpl_policies(data, 4, 3, lambda_=x, discount=0.9) - expert.policy).max())
        for x in LAMBDAS
    }


def mass_by_lambda(run: Run) -> dict[float, float]:
    """Return the mean probability of actions that the data never show, where they show two actions of four in every state, by λ."""
    mdp = corner_grid(run.seed, side=3)
    expert, states = soft_value_iteration(mdp, temperature=ALPHA), mdp.n_states
    order = np.random.default_rng(run.seed).permuted(np.tile(np.arange(4), (states, 1)), axis=1)
    shown = np.zeros((states, 4), dtype=bool)
    np.put_along_axis(shown, order[:, :2], True, axis=1)
    behaviour, size = TabularPolicy.from_probs(shown / 2.0), 400 if run.quick else 4000
    data = Segments.sample(
        mdp,
        size,
        LENGTH,
        seed=run.seed,
        scores=expert.advantage,
        discount=DISCOUNT,
        policy=behaviour,
    )
    found = {}
    for bias in run.progress(LAMBDAS[::2] if run.quick else LAMBDAS, "biases"):
        policy = cpl_policies(data, states, 4, lambda_=bias, penalty=ridge)
        found[bias] = float(np.where(shown, 0.0, policy)[:-1].sum(axis=-1).mean())
    return found


ENVIRONMENTS = {"FrozenLake-v1": (100.0, (1000, 3000)), "CliffWalking-v1": (5.0, (1000, 3000))}
"""Units of reward that make one nat of the rater, and comparisons recorded."""


def gymnasium_curves(run: Run) -> dict[str, dict[int, dict[str, float]]]:
    """Return, of what recorded segments teach, the scaled soft return and the true return of the most probable actions."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name, (unit, sizes) in ENVIRONMENTS.items():
        mdp = TabularMDP.from_gymnasium(name, discount=0.97)
        mdp = mdp.with_reward(unit * mdp.reward)
        expert, plan, start = (
            soft_value_iteration(mdp, temperature=1.0),
            policy_iteration(mdp),
            uniform_over_reachable(mdp),
        )
        found[name] = {}
        for n in run.progress(sizes[-1:] if run.quick else sizes, name):
            data = Segments.from_gymnasium(
                name, n, LENGTH, seed=run.seed, scores=expert.advantage, discount=0.97, start=start
            )
            light = functools.partial(ridge, weight=1e-3)
            policy = cpl_policies(data, mdp.n_states, 4, alpha=1.0, discount=0.97, penalty=light)
            found[name][n] = {
                "soft": float(scaled_return(mdp, policy, temperature=1.0)),
                "mode": float(mean_return(mdp, np.eye(4)[policy.argmax(axis=-1)])) / unit,
                "optimum": float(plan.value @ mdp.start_probs) / unit,
            }
    return found


# --- figure
# ------------------------------------------------------------------------------------------------------------------------------


def draw(
    curves: dict[int, dict[str, np.ndarray]],
    errors: dict[float, float],
    masses: dict[float, float],
    toys: dict[str, dict[int, dict[str, float]]],
) -> Figure:
    """Return the figure of four panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = list(figure.subplots(2, 2).reshape(-1))
    _draw_curves(axes[0], curves)
    axes[1].plot(list(errors), list(errors.values()), "-o", color="tab:blue", clip_on=False)
    axes[1].set(
        xlabel="bias λ", ylabel="largest error of a probability", ylim=(0, None), xticks=LAMBDAS
    )
    axes[1].set_title("Exact population: only λ = 1 recovers the expert")
    axes[2].plot(list(masses), list(masses.values()), "-o", color="tab:blue", clip_on=False)
    axes[2].set(
        xlabel="bias λ", ylabel="mean probability of unseen actions", ylim=(0, None), xticks=LAMBDAS
    )
    axes[2].set_title("Data show half of the actions: λ < 1 stays with them")
    _draw_toys(axes[3], toys)
    figure.suptitle("Contrastive preference learning: a policy straight from compared segments")
    return figure


def _draw_curves(axes: Axes, curves: dict[int, dict[str, np.ndarray]]) -> None:
    for name, colour in (("CPL", "tab:blue"), ("partial return", "tab:orange")):
        means = [values[name].mean() for values in curves.values()]
        for i in range(len(next(iter(curves.values()))[name])):
            axes.plot(
                list(curves),
                [values[name][i] for values in curves.values()],
                color=colour,
                alpha=0.25,
                linewidth=1,
            )
        axes.plot(
            list(curves),
            means,
            "-o",
            color=colour,
            label=name if name == "CPL" else f"{name} + soft planning",
        )
    axes.axhline(1.0, color="grey", linestyle="--", linewidth=1)
    axes.axhline(0.0, color="grey", linestyle=":", linewidth=1)
    axes.annotate(
        "expert", (min(curves), 1.0), textcoords="offset points", xytext=(0, 4), fontsize=8
    )
    axes.annotate(
        "uniform", (min(curves), 0.0), textcoords="offset points", xytext=(0, 4), fontsize=8
    )
    axes.set(xscale="log", yscale="symlog", xlabel="comparisons", ylabel="scaled soft return")
    axes.set_yticks([-10, -5, -2, -1, 0, 1], ["−10", "−5", "−2", "−1", "0", "1"])
    axes.set_xticks(list(curves), [f"{n:,}" for n in curves])
    axes.minorticks_off()
    axes.set_title("4 x 4 grids, random-action segments (thin lines: seeds)")
    axes.legend(loc="lower right")


def _draw_toys(axes: Axes, toys: dict[str, dict[int, dict[str, float]]]) -> None:
    bars = [
        (f"{name.split('-')[0]}\n{n:,}", values)
        for name, sizes in toys.items()
        for n, values in sizes.items()
    ]
    places = np.arange(len(bars))
    reached = [
        1 - (values["optimum"] - values["mode"]) / abs(values["optimum"]) for _, values in bars
    ]
    for shift, heights, label in (
        (-0.2, [v["soft"] for _, v in bars], "learned policy, soft return\n(uniform 0, expert 1)"),
        (0.2, reached, "its most probable actions,\n1 − share of the optimal return lost"),
    ):
        drawn = axes.bar(places + shift, heights, 0.36, label=label)
        axes.bar_label(drawn, fmt="%.3f", fontsize=8, padding=2)
    axes.axhline(1.0, color="grey", linestyle="--", linewidth=1)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xticks(places, [name for name, _ in bars])
    axes.set(
        ylim=(min(0.0, *reached) - 0.1, 1.45),
        xlabel="environment and comparisons recorded in it",
        ylabel="1 is optimal",
    )
    axes.set_title("gymnasium: segments recorded in the environments")
    axes.legend(loc="upper center", ncols=2, fontsize=8)

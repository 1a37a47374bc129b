"""Four scenarios on a network, four losses: who drops, who stalls, and where the mass goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.theory.three_d_properties.toy import (
    BETA,
    CHOSEN,
    METHODS,
    PROMPTS,
    REJECTED,
    SCENARIOS,
    SFT,
    Path,
    ascent,
    descend_table,
    fitted,
    logps_of,
    rates,
    targets,
    trained,
)
from prefsim import losses
from prefsim.analysis import pair_derivatives
from prefsim.gradients import loss_gradient
from prefsim.losses import PairRewards
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    near,
    panels,
)
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = 10
OFF, ON = slice(2, 4), slice(0, 2)
"""Scenarios whose chosen response is off policy, and on policy."""
EARLY = 100
COLOURS = {"chosen": BLUE, "rejected": VERMILION, "unseen": "0.45"}
METHOD_COLOURS = (VERMILION, ORANGE, PURPLE, GREEN)


class RewardPath(NamedTuple):
    """A reward model along training: its two gradients, and its margin."""

    chosen: np.ndarray
    rejected: np.ndarray
    margin: np.ndarray


def reproduce(run: Run) -> Reproduction:
    seeds = range(SEEDS * run.seed, SEEDS * run.seed + (2 if run.quick else SEEDS))
    steps = 500 if run.quick else 1000
    networks = fitted(seeds)
    paths = {
        name: trained(networks, loss, steps)
        for name, loss in run.progress(list(METHODS.items()), "losses")
    }
    table = table_path()
    reward = reward_path(steps)
    criteria = (*judge_gradients(paths, reward), *judge_mass(paths, table))
    rows: list[dict[str, Any]] = [
        {
            "chosen, rejected": scenario,
            "loss": name,
            "π⁺": _range(path.chosen[-1, index]),
            "unseen": _range(path.unseen[-1, index]),
            "π⁻ at step 100": _range(path.rejected[EARLY, index]),
            "log π⁻ at the end": _range(np.log(path.rejected[-1, index])),
            "fall of π⁺ after its peak": _range(
                path.chosen[:, index].max(axis=0) - path.chosen[-1, index]
            ),
        }
        for index, scenario in enumerate(SCENARIOS)
        for name, path in paths.items()
    ]
    cut = "2 networks rather than 10, and 500 steps rather than 1,000"
    return Reproduction(
        draw(paths, table, reward), rows, criteria, caption=caption(len(seeds)), cut=cut
    )


def _range(values: np.ndarray) -> str:
    return f"{values.mean():.3g} [{values.min():.3g}, {values.max():.3g}]"


# --- gradients ---


def first_steps() -> np.ndarray:
    """Return small steps of log π⁺ and log π⁻ on tables over their rates by hand."""
    log_probs, ratios = np.log(targets()), []
    # At its reference every loss is as unsure as can be, for any strengths.
    for loss, up, down in zip(
        METHODS.values(),
        (BETA / 2, BETA / 2, BETA / 2, BETA / 2 + SFT),
        (BETA / 2, 0.04, 0.01, BETA / 2),
        strict=True,
    ):
        slopes = pair_derivatives(loss, logps_of(log_probs, log_probs))
        found = rates(log_probs, ascent(log_probs, slopes))
        eye, probs = np.eye(log_probs.shape[-1]), np.exp(log_probs)
        pulled = up * eye[CHOSEN] - down * eye[REJECTED] - (up - down) * probs
        by_hand = pulled - (probs * pulled).sum(axis=-1, keepdims=True)
        places = np.arange(PROMPTS)
        ratios += [
            found[:, places, which] / by_hand[:, places, which] for which in (CHOSEN, REJECTED)
        ]
    return np.array(ratios)


def reward_path(steps: int) -> RewardPath:
    """Return the gradients of a reward model of one pair along plain steps."""
    rewards, rows = np.zeros(2), []
    for _ in range(steps + 1):
        pair = PairRewards(rewards[:1], rewards[1:])
        gradient = loss_gradient(losses.bradley_terry, pair)
        slopes = np.concatenate([gradient.chosen, gradient.rejected])
        rows.append([-slopes[0], slopes[1], rewards[0] - rewards[1]])
        rewards = rewards - 0.5 * slopes
    return RewardPath(*np.array(rows).T)


def judge_gradients(paths: dict[str, Path], reward: RewardPath) -> Any:
    """Yield what is expected of gradients."""
    dpo = paths["DPO"]
    laws = targets()[:, 0]
    start = np.log(laws[:, CHOSEN[0]] / laws[:, REJECTED[0]])
    yield near(
        "tables, four losses: rates of log π⁺ and log π⁻ over those by hand",
        first_steps(),
        1.0,
        within=1e-9,
        stated="derived",
    )
    yield near(
        "network, DPO: logarithm of the rejected gradient over the chosen one, at the start, less"
        " log π⁺/π⁻",
        dpo.log_gradient_ratio[0] - start[:, None],
        0.0,
        within=0.2,
        stated="paper",
    )
    yield at_least(
        "the same at the end",
        dpo.log_gradient_ratio[-1],
        np.log(1e3),
        stated="chosen",
        paper="diverges as π⁻ falls to 0",
    )
    yield near(
        "reward model: the rejected gradient over the chosen one, all steps",
        reward.rejected / reward.chosen,
        1.0,
        within=1e-12,
        stated="paper",
    )
    yield near(
        "the same: the chosen gradient at the start",
        reward.chosen[0],
        0.5,
        within=1e-12,
        stated="derived",
    )
    yield at_most("the same: the larger gradient, all steps", reward.rejected, 1.0, stated="paper")


# --- where mass goes ---


def table_path() -> np.ndarray:
    """Return the probabilities of a table in the scenario off, on, by DPO, ``(steps + 1, Y)``."""
    law = targets()[2, 0]
    order = [CHOSEN[0], REJECTED[0], *np.setdiff1d(np.arange(law.size), [CHOSEN[0], REJECTED[0]])]
    path = descend_table(np.log(law[order])[None], METHODS["DPO"], rate=0.5, steps=1000)
    return np.exp(np.array(list(path))[:, 0])


def judge_mass(paths: dict[str, Path], table: np.ndarray) -> Any:
    """Yield what is expected of probabilities."""
    dpo, _, flex, regularised = paths.values()
    unseen = table[:, 2:].sum(axis=-1)
    yield at_most(
        "DPO, mean π⁻ after 100 steps, but where the rejected response alone is on policy",
        dpo.rejected[EARLY][[0, 1, 3]],
        1e-3,
        stated="chosen",
        paper="drops drastically",
    )
    yield at_least(
        "DPO, chosen off policy: mass of unseen responses at the end, each seed",
        dpo.unseen[-1, OFF],
        0.25,
        stated="chosen",
        paper="approaches 1",
    )
    yield at_most(
        "the same, chosen on policy",
        dpo.unseen[-1, ON],
        0.01,
        stated="chosen",
        paper="on-policy pairs suffer less",
    )
    yield at_most(
        "DPO, chosen off policy: π⁺ at the end, where its gradient has vanished",
        dpo.chosen[-1, OFF],
        0.75,
        stated="chosen",
        paper="rises, then falls",
    )
    yield below(
        "chosen off policy: mass of unseen responses by Flex-DPO with β⁻ = .02 beside DPO",
        flex.unseen[-1, OFF].mean(axis=-1),
        dpo.unseen[-1, OFF].mean(axis=-1),
        stated="paper",
        by=0.2,
    )
    yield at_most(
        "chosen off policy: mass of unseen responses by DPO + SFT",
        regularised.unseen[-1, OFF],
        0.05,
        stated="chosen",
    )
    yield below(
        "mean π⁻ after 100 steps, on, on and off, on: DPO beside Flex-DPO with β⁻ = .02",
        dpo.rejected[EARLY][[0, 2]].mean(axis=-1),
        flex.rejected[EARLY][[0, 2]].mean(axis=-1),
        stated="derived",
    )
    yield below(
        "log π⁻ at the end, all scenarios: Flex-DPO with β⁻ = .02 beside DPO: it protects at first"
        " only",
        np.log(flex.rejected[-1]).mean(axis=-1),
        np.log(dpo.rejected[-1]).mean(axis=-1),
        stated="derived",
    )
    yield at_least(
        "table, off, on: largest mass of unseen responses on the way, less that at the start",
        unseen.max() - unseen[0],
        0.2,
        stated="derived",
    )
    yield at_most(
        "table, off, on: mass of unseen responses after 1000 steps",
        unseen[-1],
        1e-3,
        stated="derived",
    )


# --- the figure ---


def caption(seeds: int) -> str:
    return (
        "Top: probability of chosen, rejected and all other responses along DPO, where each of the"
        f" two was likely (on policy) or not before; mean of {seeds} networks, bands from the least"
        " to the largest. Bottom, from left: mass that ends on responses outside the data, by loss;"
        " how small the rejected probability becomes; ratio of the two partial derivatives of the"
        " loss, 0 being equal; and the same mass where responses share no weights. Less on unseen"
        " responses is better."
    )


def draw(paths: dict[str, Path], table: np.ndarray, reward: RewardPath) -> Figure:
    figure, axes = panels(
        2,
        4,
        title=(
            "Where the chosen response is off policy DPO drops the rejected one, the chosen one"
            " stalls, and most mass ends on responses that nobody has seen; a likelihood term or a"
            " weaker push keeps it"
        ),
        width=4.0,
        height=3.6,
    )
    for index, scenario in enumerate(SCENARIOS):
        axis = axes[0, index]
        _draw_path(axis, paths["DPO"], index)
        axis.set(title=f"DPO; chosen, rejected: {scenario} policy", xlabel="steps")
    axes[0, 0].set_ylabel("mean probability")
    _draw_ends(axes[1, 0], paths)
    _draw_rejected(axes[1, 1], paths)
    _draw_ratio(axes[1, 2], paths["DPO"], reward)
    _draw_table(axes[1, 3], table, paths["DPO"])
    return figure


def _draw_path(axis: Any, path: Path, index: int) -> None:
    steps = np.arange(len(path.chosen))
    for name, colour in COLOURS.items():
        values = getattr(path, name)[:, index]
        axis.fill_between(
            steps, values.min(axis=-1), values.max(axis=-1), color=colour, alpha=0.2, lw=0
        )
        axis.plot(steps, values.mean(axis=-1), color=colour, lw=2)
        # What ends at 0 beside another is told apart by height.
        lifted = 0.1 if name == "unseen" and values[-1].mean() < 0.1 else 0.03
        place = steps[-1] * 0.98, values[-1].mean() + lifted
        axis.text(*place, name, color=colour, ha="right", fontsize=9)
    axis.set_ylim(-0.02, 1.1)


def _draw_ends(axis: Any, paths: dict[str, Path]) -> None:
    for shift, (name, path), colour in zip(
        np.linspace(-0.3, 0.3, len(paths)), paths.items(), METHOD_COLOURS, strict=True
    ):
        values = path.unseen[-1]
        axis.bar(
            np.arange(len(SCENARIOS)) + shift, values.mean(axis=-1), 0.2, color=colour, label=name
        )
    axis.set_xticks(range(len(SCENARIOS)), list(SCENARIOS))
    axis.set(ylabel="mass of unseen responses", title="The end, by loss", ylim=(0, 0.8))
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_rejected(axis: Any, paths: dict[str, Path]) -> None:
    for (name, path), colour in zip(paths.items(), METHOD_COLOURS, strict=True):
        values = np.log10(path.rejected[:, 0]).mean(axis=-1)
        axis.plot(np.arange(len(values)) + 1, values, color=colour, lw=2, label=name)
    axis.set(
        xscale="log",
        xlabel="steps",
        ylabel="log₁₀ of mean π⁻; on, on",
        title="A weaker push is gentler at first only",
    )
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _draw_ratio(axis: Any, path: Path, reward: RewardPath) -> None:
    for index, (scenario, style) in enumerate(zip(SCENARIOS, ("-", "--", "-.", ":"), strict=True)):
        values = path.log_gradient_ratio[:, index].mean(axis=-1) / np.log(10)
        axis.plot(values, color=VERMILION, ls=style, label=f"DPO, {scenario}")
    axis.plot(np.log10(reward.rejected / reward.chosen), color=BLUE, lw=2, label="reward model")
    axis.set(
        xlabel="steps",
        ylabel="log₁₀ |∂L/∂π⁻| / |∂L/∂π⁺|",
        title="The rejected gradient outgrows the chosen one",
    )
    axis.legend(frameon=False, fontsize=8, loc="center right")


def _draw_table(axis: Any, table: np.ndarray, path: Path) -> None:
    steps = np.arange(len(table))
    axis.plot(steps, table[:, 2:].sum(axis=-1), color=BLUE, lw=2)
    axis.plot(path.unseen[:, 2].mean(axis=-1), color="0.45", lw=2)
    axis.text(420, 0.07, "table", color=BLUE)
    axis.text(420, 0.78, "network", color="0.35")
    axis.set(
        xlabel="steps",
        ylabel="mass of unseen responses; off, on",
        title="Without shared weights it passes",
        ylim=(-0.02, 1.1),
    )

"""Place every loss on one reward–KL plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from paper_repros.direct.dpo_survey.plane import RESPONSES, Setting, Stop, best_rewards
from prefsim.losses.catalogue import properties_of
from prefsim.losses.registry import loss_functions
from prefsim.losses.taxonomy import PARTS, by_part
from prefsim.papers import Reproduction, Run, at_least, at_most, holds, panels, rising
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prefsim.papers.criteria import Criterion

WORLDS = 2
ITERATIONS = (400, 100)  # at most, of the solver in a full run and in a quick one
AT_THE_OPTIMUM = ("dpo", "rdpo", "infonca")
SHORT_OF_IT = ("dpo(flipped)", "ipo", "nca_pair", "sppo_hard")
BY_KL = ("ipo", "sppo_hard", "nca_pair", "dpo")
OF_THE_MARGIN = ("dpo", "f_dpo", "ipo", "probit", "exo_pair")
MANY_WORLDS = 10  # in which bco_pair, which stops beyond dpo in a few, is held against it


def part_of(label: str) -> str:
    """Return the part of DPO that a loss changes."""
    name = label.split("(")[0]
    (part,) = (part for part in PARTS if any(name in names for names in by_part(part).values()))
    return part


def reproduce(run: Run) -> Reproduction:
    first = MANY_WORLDS * run.seed
    setting = Setting.draw(range(first, first + WORLDS))
    configured = setting.losses()
    stops = {}
    for label in run.progress(list(configured), "losses"):
        loss, sources = configured[label]
        stops[label] = setting.stop(loss, sources, max_iterations=ITERATIONS[run.quick])
    criteria = [criterion for world in range(WORLDS) for criterion in judge(setting, stops, world)]
    criteria += judge_all(stops, setting.optimum(), Setting.draw(range(first, first + MANY_WORLDS)))
    table = [
        {
            "world": world,
            "loss": label,
            "part": part_of(label),
            "KL": float(stop.kl[world]),
            "reward": float(stop.reward[world]),
            "smooth minimum": str(stop.smooth[world]),
        }
        for world in range(WORLDS)
        for label, stop in stops.items()
    ]
    caption = (
        "Each mark is where a loss stops on the population of all comparisons in the first of"
        f" {WORLDS} worlds, a bandit of {RESPONSES} responses with a uniform reference: to the"
        " right how far from the reference, upwards the expected reward; nothing lies above the"
        " grey curve of the best trade-offs. What is on the curve is the optimum of some strength"
        " of the penalty, what is below wastes distance. The star is the optimum of reward less β"
        " times KL: look at which losses with this β end on it, short of it or beyond it. Shape"
        " and colour say which part of DPO a loss changes."
    )
    cut = f"at most {ITERATIONS[1]} steps of the solver for each loss rather than {ITERATIONS[0]}"
    figure = draw(setting, stops)
    return Reproduction(figure, table, tuple(criteria), caption=caption, cut=cut)


def judge(setting: Setting, stops: dict[str, Stop], world: int) -> Iterator[Criterion]:
    """Yield what is expected of the stops in one world."""
    best = setting.optimum()
    yield at_most(
        f"world {world}: dpo, rdpo (on flipped labels) and infonca: distance from π*",
        [np.abs(stops[name].probs - best.probs)[world].max() for name in AT_THE_OPTIMUM],
        1e-6,
        stated="derived",
    )
    yield holds(
        f"world {world}: flipped dpo, ipo, nca, sppo",
        [
            stops[name].kl[world] < best.kl[world]
            and stops[name].reward[world] < best.reward[world]
            for name in SHORT_OF_IT
        ],
        "each ends with less KL and less reward than π*",
        stated="chosen",
    )
    bang_bang = stops["apo_zero"].probs[world]
    losing = np.asarray(setting.worlds.preference)[world, 0].mean(axis=1) < 0.5
    yield at_most(
        f"world {world}: apo_zero: largest probability of what wins less than half",
        bang_bang[losing].max(),
        1e-10,
        stated="derived",
    )
    yield at_most(
        f"world {world}: apo_zero: largest probability, which is no collapse",
        bang_bang.max(),
        0.9,
        stated="chosen",
    )
    yield rising(
        f"world {world}: KL of " + ", ".join(BY_KL),
        [stops[name].kl[world] for name in BY_KL],
        stated="chosen",
    )


def judge_all(stops: dict[str, Stop], best: Stop, many: Setting) -> Iterator[Criterion]:
    """Yield what is expected in all worlds of the plane, and in ``many`` worlds."""
    soft, flipped = stops["soft"], stops["dpo(flipped)"]
    yield at_most(
        "soft (target 1 − ε) on clean labels and dpo on those flipped at rate ε: differences of"
        " probabilities and of values",
        [np.abs(soft.probs - flipped.probs).max(), np.abs(soft.value - flipped.value).max()],
        1e-9,
        stated="derived",
    )
    found = {
        name: properties_of(loss_functions()[name], name).minimiser == "logit(p) / beta"
        for name in OF_THE_MARGIN
    }
    distances = {name: np.abs(stops[name].probs - best.probs).max() for name in OF_THE_MARGIN}
    yield holds(
        ", ".join(OF_THE_MARGIN) + ": those that the catalogue finds least at the margin"
        " logit(p)/β, and the others",
        [(distances[name] < 1e-6) == found[name] for name in OF_THE_MARGIN],
        "the former stop at π* and the latter do not",
        stated="derived",
    )
    configured = many.losses()
    bco, dpo = (many.stop(*configured[name], max_iterations=100) for name in ("bco_pair", "dpo"))
    yield at_least(
        f"share of {MANY_WORLDS} worlds in which bco_pair ends with less KL and less reward than"
        " dpo",
        np.mean((bco.kl < dpo.kl) & (bco.reward < dpo.reward)),
        0.7,
        stated="chosen",
    )


# --- the figure: world 0 ---

LINE = 0.027  # height of a line of a label, as a share of the axis
LETTER = 0.0059  # and width of a letter
ASIDE = 0.025  # from the curve to the labels
MARKS = dict(zip(PARTS, ((BLUE, "o"), (PURPLE, "s"), (GREEN, "D"), (ORANGE, "^")), strict=True))


class Marker(NamedTuple):
    """A point of the plane with the labels of all losses that stop there."""

    kl: float
    reward: float
    part: str
    labels: list[str]

    def text(self) -> str:
        """Return the labels, three in a line."""
        lines = [self.labels[k : k + 3] for k in range(0, len(self.labels), 3)]
        return ",\n".join(", ".join(line) for line in lines)


def markers(stops: dict[str, Stop]) -> list[Marker]:
    """Return the points of world 0, from left to right, one for losses that fall together."""
    found: list[Marker] = []
    # At equal distances by name, so that the figure does not depend on rounding.
    for label, stop in sorted(stops.items(), key=lambda item: (round(item[1].kl[0], 3), item[0])):
        kl, reward = float(np.maximum(stop.kl[0], 0.0)), float(stop.reward[0])
        shown = label if stop.smooth[0] else f"{label}*"
        for marker in found:
            aside, up = np.sqrt(marker.kl) - np.sqrt(kl), marker.reward - reward
            if abs(aside) < 0.006 and abs(up) < 0.006:
                marker.labels.append(shown)
                break
        else:
            found.append(Marker(kl, reward, part_of(label), [shown]))
    return found


def draw(setting: Setting, stops: dict[str, Stop]) -> Figure:
    """Draw the stops of world 0 below the best reward at each distance."""
    figure, axes = panels(
        1,
        1,
        width=12,
        height=7.5,
        title=(
            "Same comparisons, same β: each loss stops at its own place, none above the best reward"
            " at its distance from the reference"
        ),
    )
    axis, best = axes[0, 0], setting.optimum()
    curve = best_rewards(setting.rewards[0], np.geomspace(0.02, 100, 400))
    axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    axis.plot(*curve, color="0.6", lw=1.5, label="best reward at each KL: π_ref exp(r/β), all β")
    found = markers(stops)
    for marker in found:
        colour, shape = MARKS[marker.part]
        axis.plot(marker.kl, marker.reward, shape, color=colour, ms=7, zorder=3)
    star = {"color": VERMILION, "ms": 18, "zorder": 2.5, "label": "RLHF optimum π* at β = 0.5"}
    axis.plot(best.kl[0], best.reward[0], "*", **star)
    for part, (colour, shape) in MARKS.items():
        axis.plot([], [], shape, color=colour, label=f"changes the {part}")
    axis.plot([], [], " ", label="*: kinked or unbounded, where the solver stopped")
    axis.set(
        xlabel="KL(π‖π_ref) in nats (square-root axis)", ylabel="expected reward", xlim=(0, 2.3)
    )
    axis.margins(y=0.12)
    axis.set_ylim(axis.get_ylim())
    axis.legend(loc="lower right", fontsize=9)
    write_labels(axis, found, curve)
    return figure


def write_labels(axis: Axes, found: list[Marker], curve: tuple[np.ndarray, np.ndarray]) -> None:
    """Write the labels of markers aside the curve, on its left and its right in turn.

    The curve rises, so that labels that begin at so much from it, one below the other, cover
    neither it nor each other. Those of markers below the curve are on their right.
    """
    to_axis = axis.transData + axis.transAxes.inverted()
    # From the lowest up, as interpolation asks.
    along, up = to_axis.transform(np.stack(curve, axis=-1)[::-1]).T
    places = to_axis.transform([(marker.kl, marker.reward) for marker in found])
    left: list[int] = []
    right: list[int] = []
    other_side = True
    for k, (start, height) in enumerate(places):
        room = 2 * ASIDE + LETTER * max(map(len, found[k].text().split("\n")))
        fits_left = start > room and start - np.interp(height, up, along) < ASIDE / 2
        if start > 1 - room:
            left.append(k)
        elif fits_left and other_side:
            left.append(k)
            other_side = False
        else:
            right.append(k)
            other_side = True
    for group, sign in ((left, -1), (right, 1)):
        wished = places[group, 1] - 0.03 * sign
        order = np.argsort(wished, kind="stable")
        heights = LINE * np.asarray([found[k].text().count("\n") + 1.3 for k in group])[order]
        middle = np.cumsum(heights) - heights / 2
        # As near to where they are wished as labels in this order can be.
        placed = isotonic_regression(wished[order] - middle).x
        placed = np.clip(placed, 0.005, 0.995 - heights.sum()) + middle
        for k, height in zip(np.asarray(group)[order], placed, strict=True):
            edge = np.interp(height, up, along)
            if sign > 0:
                near = np.abs(places - (edge, height)) < (5 * ASIDE, LINE)
                edge = max(edge, places[near.all(axis=1), 0].max(initial=0))
            axis.annotate(
                found[k].text(),
                (found[k].kl, found[k].reward),
                xytext=(edge + sign * ASIDE, height),
                textcoords="axes fraction",
                ha="left" if sign > 0 else "right",
                va="center",
                fontsize=8,
                arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.6, "shrinkB": 3},
            )

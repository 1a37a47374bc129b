"""Place every loss on one reward–KL plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.direct.dpo_survey.plane import Setting, Stop, best_rewards
from prefsim.losses.catalogue import properties_of
from prefsim.losses.registry import loss_functions
from prefsim.losses.taxonomy import PARTS, by_part
from prefsim.papers import Reproduction, Run, at_least, at_most, holds, panels, rising
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prefsim.papers.criteria import Criterion

WORLDS = 2
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
        stops[label] = setting.stop(loss, sources, max_iterations=100 if run.quick else 400)
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
    return Reproduction(draw(setting, stops), table, tuple(criteria))


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

# Where a label goes, in points from its marker; the others alternate between above left and below
# right.
LABEL_SHIFTS = {
    "dpo": (60, -45),
    "apo_down": (-4, -120),
    "f_dpo(forward_kl)": (30, -16),
    "rpo": (-40, 8),
    "hinge*": (-30, 26),
    "dpop*": (14, -8),
    "sppo_hard": (-30, 34),
}


class Marker(NamedTuple):
    """A point of the plane with the labels of all losses that stop there."""

    kl: float
    reward: float
    part: str
    labels: list[str]


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
            "Same comparisons, same β: where each loss stops (exact minimisers on one 8-action"
            " bandit; * = kinked or unbounded, shown where the solver stopped)"
        ),
    )
    axis, best = axes[0, 0], setting.optimum()
    axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    axis.plot(
        *best_rewards(setting.rewards[0], np.geomspace(0.02, 100, 200)),
        color="0.6",
        lw=1.5,
        label="best reward at each KL: π_ref exp(r/β), all β",
    )
    colours = dict(zip(PARTS, (BLUE, PURPLE, GREEN, ORANGE), strict=True))
    for i, marker in enumerate(markers(stops)):
        axis.plot(marker.kl, marker.reward, "o", color=colours[marker.part], ms=7, zorder=3)
        usual = (-14, 12) if i % 2 == 0 else (14, -14)
        annotate(axis, marker, LABEL_SHIFTS.get(marker.labels[0], usual))
    star = {"color": "crimson", "ms": 16, "zorder": 4, "label": "RLHF optimum π* at β = 0.5"}
    axis.plot(best.kl[0], best.reward[0], "*", **star)
    for part, colour in colours.items():
        axis.plot([], [], "o", color=colour, label=f"changes the {part}")
    axis.set(
        xlabel="KL(π‖π_ref) in nats (square-root axis)", ylabel="expected reward", xlim=(0, 2.3)
    )
    axis.margins(y=0.1)
    axis.legend(loc="lower right", fontsize=9)
    return figure


def annotate(axis: Axes, marker: Marker, shift: tuple[int, int]) -> None:
    """Write the labels of a marker so many points aside, four in a line."""
    labels = marker.labels
    lines: list[Any] = [labels[k : k + 4] for k in range(0, len(labels), 4)]
    axis.annotate(
        "\n".join(", ".join(line) for line in lines),
        (marker.kl, marker.reward),
        xytext=shift,
        textcoords="offset points",
        ha="right" if shift[0] < 0 else "left",
        va="bottom" if shift[1] > 0 else "top",
        fontsize=8,
        arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.6, "shrinkB": 3},
    )

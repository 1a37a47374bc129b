"""Both lattices, what training under each loss does, and the leads of new losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.logic_dpa.log_linear import Lead, Trained
from prefsim.logic import NAMED_STRUCTURES, PreferenceStructure
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, PURPLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"-": BLUE, "n": GREEN, "b": VERMILION, "+": PURPLE}
WORDS = {"-": "against", "n": "left out", "b": "both ways", "+": "for"}
"""What the world in which neither response is valid counts, by its label."""

# From the left, so that few arrows cross.
_ORDER = {"-": 0, "n": 1, "b": 2, "+": 3}
_HEIGHT = {"-": 0, "n": 1, "b": 1, "+": 2}


CAPTION = (
    "Top: losses as what they say of W (the chosen is valid) and L (the rejected is), without and"
    " with a reference; a loss that another implies stands above it, and the number is its score at"
    " the given probabilities, larger where less is said. Bottom left: where training ends, a dot a"
    " loss, small ones in single worlds; right and low is what preference learning wants. Colours"
    " say what a loss makes of “neither response is valid”. Bottom right: by how much the best new"
    " loss leads the best known one; an interval across the line shows no difference."
)


def draw(
    plain: dict[str, PreferenceStructure],
    lifted: dict[str, PreferenceStructure],
    arrows: tuple[tuple[str, str], ...],
    scores: dict[str, tuple[float, float]],
    clean: Trained,
    found: tuple[Lead, ...],
) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "Sixteen losses are ordered by what they say; what they say when neither response is"
            " valid decides what training does"
        ),
        width=8.2,
        height=6.2,
        height_ratios=(1.25, 1.0),
    )
    texts = {name: f"{name}\n{scores[name][0]:.2f}" for name in plain}
    _lattice(axes[0, 0], texts, arrows)
    axes[0, 0].set_title("Score at p = .6 and .3; weaker statements above, colours as below")
    cores = {
        name: f"{name}  {scores[name][1]:.2f}\n{_broken(str(each.core))}"
        for name, each in lifted.items()
    }
    _lattice(axes[0, 1], cores, arrows, size=6.5)
    axes[0, 1].set_title("Relative to a reference (q = .5 and .4), and what is said then")
    _moves(axes[1, 0], list(plain), clean)
    _leads(axes[1, 1], found)
    return figure


def _broken(text: str) -> str:
    """Return an implication on two lines, where it is long."""
    return text.replace(" → ", "\n→ ").replace(") ∨ (", ")\n∨ (") if len(text) > 16 else text


def _places() -> dict[str, tuple[float, float]]:
    """Return where each of the sixteen stands: higher if it says less."""
    rows: dict[int, list[str]] = {}
    for name, each in NAMED_STRUCTURES.items():
        both = each.labels[0], each.labels[-1]
        rows.setdefault(sum(_HEIGHT[label] for label in both), []).append(name)
    places = {}
    for height, names in rows.items():
        ordered = sorted(names, key=lambda n: (_ORDER[NAMED_STRUCTURES[n].labels[-1]], n))
        for place, name in enumerate(ordered):
            places[name] = (place - (len(ordered) - 1) / 2, float(height))
    return places


def _lattice(
    axis: Any, texts: dict[str, str], arrows: tuple[tuple[str, str], ...], *, size: float = 9
) -> None:
    places = _places()
    for low, high in arrows:
        (x, y), (x_high, y_high) = places[low], places[high]
        axis.plot([x, x_high], [y, y_high], color="0.75", lw=1, zorder=1)
    for name, text in texts.items():
        x, y = places[name]
        colour = COLOURS[NAMED_STRUCTURES[name].labels[-1]]
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": colour, "lw": 2}
        axis.text(x, y, text, ha="center", va="center", fontsize=size, bbox=box, zorder=2)
    axis.set(xlim=(-3.2, 3.2), ylim=(-0.5, 4.5), xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)


def _moves(axis: Any, names: list[str], clean: Trained) -> None:
    """Draw how far both log-probabilities come, the mean over worlds, and each world faintly."""
    for place, name in enumerate(names):
        label = NAMED_STRUCTURES[name].labels[-1]
        chosen, rejected = clean.chosen[place], clean.rejected[place]
        axis.scatter(chosen, rejected, s=6, alpha=0.2, color=COLOURS[label], lw=0)
        axis.scatter(chosen.mean(), rejected.mean(), s=40, color=COLOURS[label], zorder=3)
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(NAMED_STRUCTURES[name].labels[-1], []).append(place)
    for label, members in groups.items():
        ranked = clean.accuracy[members].mean()
        x, y = (each[members].mean() for each in (clean.chosen, clean.rejected))
        axis.text(
            x,
            y + (-1.8 if label == "b" else 1.0),
            f"{WORDS[label]}: {ranked:.0%} ranked",
            color=COLOURS[label],
            ha="center",
            fontsize=10,
            weight="bold",
        )
    axis.axvline(0.0, color="0.3", lw=1)
    axis.set(
        xlabel="change of log π(chosen), nats",
        ylabel="change of log π(rejected), nats",
    )
    axis.set_title("Training: what “neither response is valid” counts decides")


def _leads(axis: Any, found: tuple[Lead, ...]) -> None:
    for place, lead in enumerate(reversed(found)):
        clear = lead.verdict == "the new one leads"
        colour = GREEN if clear else "0.4"
        axis.plot([lead.low, lead.high], [place, place], color=colour, lw=3)
        axis.plot(lead.mean, place, "o", color=colour)
        axis.text(
            0.02,
            place + 0.18,
            f"{lead.task}: {lead.new} against {lead.old}, {lead.verdict}",
            transform=axis.get_yaxis_transform(),
            fontsize=9,
        )
    # A lead that was not measured has its line of text, and no interval.
    edges = [edge for lead in found for edge in (lead.low, lead.high) if np.isfinite(edge)]
    widest = max(map(abs, edges), default=0.0)
    axis.set_xlim(*(1.15 * max(widest, 0.01) * np.array([-1, 1])))
    axis.axvline(0.0, color="0.3", lw=1)
    axis.set(ylim=(-0.5, len(found)), yticks=[], xlabel="lead of the best new loss, 95 % interval")
    axis.set_title("Is a new loss better than CE, CEUnl, CPO, ORPO and fUNL?")

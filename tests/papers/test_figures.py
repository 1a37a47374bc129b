"""Figures of papers: their colours, their titles, and the same bytes in every run."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

import prefsim
from prefsim.papers import all_slugs, find, panels
from prefsim.papers.figures import COLOURS, GREY, pictures


def drawn():
    figure, axes = panels(1, 2, title="What it shows " * 20)
    for k in range(len(COLOURS)):
        axes[0, 0].plot([0, 1], [k, k + 1])
    return figure, axes


def lightness_and_hue(colour):
    """Return OKLab coordinates, in which distances are about those that are seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return to_lab @ np.cbrt(cones @ linear)


def test_lines_take_the_colours_in_turn_and_grids_are_light():
    figure, axes = drawn()
    assert [line.get_color() for line in axes[0, 0].lines] == list(COLOURS)
    assert axes.shape == (1, 2)
    assert "\n" in figure.get_suptitle()
    assert not axes[0, 1].spines["top"].get_visible()


def test_colours_are_apart():
    assert len(set(COLOURS)) == len(COLOURS)
    for a, b in combinations(COLOURS, 2):
        assert np.linalg.norm(lightness_and_hue(a) - lightness_and_hue(b)) > 0.08, (a, b)
    assert to_hex(GREY) == GREY


def test_the_first_colours_are_apart_for_people_who_see_no_red_or_no_green():
    # Machado, Oliveira and Fernandes (2009), severity 1: protanopia and deuteranopia.
    no_red = (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    )
    no_green = (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    )
    for seen in (no_red, no_green):
        shown = []
        for colour in COLOURS[:6]:
            rgb = np.array(to_rgb(colour))
            linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
            moved = np.clip(np.array(seen) @ linear, 0, 1)
            srgb = np.where(moved <= 0.0031308, 12.92 * moved, 1.055 * moved ** (1 / 2.4) - 0.055)
            shown.append(lightness_and_hue(tuple(np.clip(srgb, 0, 1))))
        for a, b in combinations(range(6), 2):
            assert np.linalg.norm(shown[a] - shown[b]) > 0.05, (COLOURS[a], COLOURS[b])


def test_pictures_are_the_same_in_every_run_and_the_drawing_has_no_background():
    png, svg = pictures(drawn()[0])
    assert png.startswith(b"\x89PNG")
    assert (png, svg) == pictures(drawn()[0])
    text = svg.decode()
    assert "<svg" in text
    assert not re.search(r"<dc:date>|matplotlib v", text.lower())
    # The patch of the figure: filled with nothing.
    assert re.search(r'id="patch_1".*?fill: none', text, re.DOTALL)


OTHER_COLOURS = r'"#[0-9a-fA-F]{6}"|"tab[:12]\w+"|colou?r ?= ?[^,)\n]*"C[\d{]|f"C\{'


@pytest.mark.parametrize("slug", all_slugs())
def test_papers_draw_in_the_colours_of_the_house(slug):
    for file in find(slug).files():
        found = re.findall(OTHER_COLOURS, file.read_text(encoding="utf-8"))
        assert not found, f"{file}: {found}; take them from prefsim.papers.figures"


def test_the_library_draws_in_the_colours_of_the_house():
    found = {}
    for file in Path(prefsim.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "matplotlib" in text:
            found[file.name] = re.findall(OTHER_COLOURS, text)
    assert {"class_calibration.py", "nash_figure.py", "figures.py"} <= found.keys()
    assert not any(found.values()), found

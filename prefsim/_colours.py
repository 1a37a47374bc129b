"""The colours of all figures."""

# Hues that people with any colour vision tell apart: six of Okabe and Ito, then three of Tol.
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILION, PURPLE, SKY = "#d55e00", "#cc79a7", "#56b4e9"
WINE, INDIGO, OLIVE = "#882255", "#332288", "#999933"
GREY = "#7f7f7f"

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, WINE, INDIGO, OLIVE, GREY)
"""In the order in which lines take them."""

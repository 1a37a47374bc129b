"""
Preferences that go in circles
==============================

Rock beats scissors beats paper beats rock, with unequal odds. Multiplicative weights circles
around the equilibrium, for ever farther out; Nash-MD, drawn to its reference, spirals in.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.solvers import solve_nash
from prefsim.solvers.games.updates import mwu_update, nash_md_update
from prefsim.worlds import textbook_game

game = textbook_game()
corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
start = np.log([0.7, 0.2, 0.1])
reference = np.log(np.full(3, 1 / 3))

for name, update, tau in (
    ("multiplicative weights", mwu_update, 0.0),
    ("Nash-MD, τ = 0.1", nash_md_update, 0.1),
):
    state, path = (start,), [start]
    for _ in range(300):
        state = update(state, game.preference, reference, step=0.2, tau=tau)
        path.append(state[0])
    plt.plot(*(np.exp(path) @ corners).T, label=name)
plt.plot(*(solve_nash(game, method="lp").policy @ corners), "k*", label="equilibrium")
plt.fill(*corners.T, fill=False, edgecolor="0.6")
plt.axis("equal")
plt.axis("off")
plt.legend(loc="upper right")
plt.show()

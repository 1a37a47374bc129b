"""
Strengths from comparisons
==========================

Ten players, each pair compared twenty times: the Bradley–Terry fit, with the interval that the
curvature of the likelihood gives.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.solvers import fit_bradley_terry
from prefsim.worlds import bradley_terry_matrix

rng = np.random.default_rng(3)
strength = np.sort(rng.normal(size=10))
strength -= strength.mean()
chance = bradley_terry_matrix(strength)

upper = np.triu_indices(10, 1)
wins = np.zeros((10, 10))
wins[upper] = rng.binomial(20, chance[upper])
wins.T[upper] = 20 - wins[upper]
found = fit_bradley_terry(wins).reward

# The information of the likelihood; a constant shift of all strengths is not seen.
weight = 20 * bradley_terry_matrix(found) * bradley_terry_matrix(found).T
np.fill_diagonal(weight, 0.0)
information = np.diag(weight.sum(axis=1)) - weight
error = np.sqrt(np.diag(np.linalg.pinv(information)))
plt.errorbar(np.arange(10), found, 1.96 * error, fmt="o", capsize=3, label="fitted, 95 %")
plt.plot(np.arange(10), strength, "k_", markersize=16, label="true")
plt.xlabel("player")
plt.ylabel("strength (log-odds)")
plt.legend()
plt.show()

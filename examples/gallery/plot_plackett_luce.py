"""
What the lower places of a ranking add
======================================

Error of the strengths that are fitted to whole rankings of five, and to their first two places
alone.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.raters import sample_rankings
from prefsim.solvers import fit_plackett_luce

strength = np.linspace(-1.0, 1.0, 5)
sizes = (20, 60, 200, 600, 2000)
for k, name in ((5, "rankings of all five"), (2, "their first two places")):
    errors = []
    for n in sizes:
        runs = []
        for seed in range(10):
            rankings = sample_rankings(strength, n, seed=seed, k=k)
            fitted = fit_plackett_luce(rankings, 5, unranked="below").reward
            runs.append(np.sqrt(((fitted - fitted.mean() - strength) ** 2).mean()))
        errors.append(np.mean(runs))
    plt.loglog(sizes, errors, "o-", label=name)
plt.xlabel("rankings")
plt.ylabel("root mean square error")
plt.legend()
plt.show()

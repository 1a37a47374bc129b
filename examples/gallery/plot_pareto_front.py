"""
A Pareto front by linear programs
=================================

All that policies of a process with two rewards can earn. Weighted sums find the corners; a policy
that chooses at random, found by one linear program under a constraint, lies between them.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.analysis import hypervolume
from prefsim.solvers import convex_front, planning
from prefsim.worlds import TabularMDP

rng = np.random.default_rng(3)
moves = rng.dirichlet(np.full(6, 0.3), size=(6, 4))
process = TabularMDP(moves, 0.1 * rng.random((2, 6, 4)), discount=0.9)

corners = convex_front(process).returns
levels = np.linspace(*corners[[0, -1], 1], 22)[1:-1]
asked = np.stack([np.full(20, -np.inf), levels], axis=-1)
between = planning.constrained_program(process, np.tile([1.0, 0.0], (20, 1)), asked)
random = rng.dirichlet(np.ones(4), size=(300, 6))
found = [planning.policy_evaluation(process, policy).value for policy in random]
drawn = np.array(found) @ process.start_probs

plt.plot(*drawn.T, ".", color="0.8", label="random policies")
plt.plot(*between.returns.T, "x", color="tab:orange", label="the first, the second held at a level")
plt.plot(*corners.T, "o", color="tab:blue", label="corners, by weighted sums")
plt.xlabel("first return")
plt.ylabel("second return")
plt.title(f"The corners dominate a volume of {hypervolume(corners, [0.0, 0.0]):.3f}")
plt.ylim(0.35, 1.05)
plt.legend(loc="upper left")
plt.show()

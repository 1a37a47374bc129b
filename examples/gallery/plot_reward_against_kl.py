"""
What reward can be had at what KL
=================================

The frontier is exact, and no policy is above it. The best of n draws of the reference needs no
training, and stays somewhat below.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.analysis import expected_reward, kl_to_reference, optimal_frontier
from prefsim.solvers.closed_forms.self_training import best_of_n
from prefsim.worlds import ContextualBandit

rng = np.random.default_rng(1)
world = ContextualBandit(reward=rng.standard_normal((1, 50)))
log_reference = np.log(rng.dirichlet(np.ones(50), size=1))

frontier = optimal_frontier(world, log_reference, np.geomspace(0.03, 30, 60))
plt.plot(frontier.reverse_kl, frontier.reward, label="optimum of reward − β KL, all β")
for n in (2, 4, 8, 16, 64):
    chosen = best_of_n(world.reward, log_reference, n)
    kl = kl_to_reference(chosen, log_reference, world)
    value = expected_reward(chosen, world)
    plt.plot(kl, value, "o", color="tab:orange", label="best of n" if n == 2 else None)
    plt.annotate(str(n), (kl, value), xytext=(5, -12), textcoords="offset points")
plt.xlabel("KL from the reference (nats)")
plt.ylabel("expected reward")
plt.legend()
plt.show()

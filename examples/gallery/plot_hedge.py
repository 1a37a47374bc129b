"""
The leader, and who hesitates to follow
=======================================

On alternating losses the best action so far is the one that loses next. Whoever follows it regrets
half a loss in every round; Hedge stays below its bound on these losses and on any others.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.loops.online_play import play_online
from prefsim.losses.online import regret_path
from prefsim.solvers.online_learning.ftpl import ftpl
from prefsim.solvers.online_learning.hedge import hedge, hedge_bound, hedge_step
from prefsim.worlds.loss_sequences import alternating

ROUNDS = 200
learners = {
    "nearly the leader": lambda past: hedge(past.sum(axis=-2), step=100.0),
    "noise of a fixed scale": lambda past: ftpl(past.sum(axis=-2), scale=0.5, noise="gaussian"),
    "Hedge": lambda past: hedge(past.sum(axis=-2), step=hedge_step(ROUNDS, 2)),
}
time = np.arange(1, ROUNDS + 1)
for name, learner in learners.items():
    plt.loglog(time, regret_path(*play_online(learner, alternating(ROUNDS))), label=name)
bounds = [hedge_bound(t, 2) for t in time]
plt.loglog(time, bounds, "k--", label="bound of Hedge, tuned for that round")
plt.xlabel("round")
plt.ylabel("regret")
plt.legend()
plt.show()

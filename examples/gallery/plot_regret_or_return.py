"""
Do people judge by return or by regret?
=======================================

Two walks of three steps in a grid with a goal far away: neither earns anything yet. By partial
return they are equal; by regret the one that comes nearer is better.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.raters import partial_return_preference, regret_preference
from prefsim.raters.regret import segment_return
from prefsim.solvers import planning
from prefsim.worlds import TabularMDP

reward = np.zeros((1, 9))
reward[0, 8] = 1.0
corridor = TabularMDP.grid_world(reward, discount=0.9, terminal=reward > 0)
plan = planning.value_iteration(corridor)
UP, DOWN, LEFT, RIGHT = range(4)

betas = np.linspace(0.5, 30.0, 60)
towards, away = np.array([[3, 4, 5], [5, 4, 3]])
actions = np.array([[RIGHT] * 3, [LEFT] * 3])
rewards = corridor.reward[np.stack([towards, away]), actions]
lost = -plan.advantage[np.stack([towards, away]), actions].sum(axis=-1)
returns = segment_return(rewards)
plt.plot(betas, regret_preference(*(betas * lost[:, None])), label="by regret")
plt.plot(betas, partial_return_preference(*(betas * returns[:, None])), label="by partial return")
plt.xlabel("β, how sharply people judge")
plt.ylabel("P(walk towards the goal is preferred)")
plt.legend()
plt.show()

"""
Planning on a frozen lake
=========================

Exact tables of gymnasium's environment: the value of every field, greedy and with an entropy
bonus.
"""

import matplotlib.pyplot as plt

from prefsim.solvers import planning
from prefsim.worlds import TabularMDP

lake = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.97, map_name="8x8")
hard = planning.value_iteration(lake)
soft = planning.soft_value_iteration(lake, temperature=0.01)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for axis, plan, name in zip(axes, (hard, soft), ("greedy", "soft, α = 0.01"), strict=True):
    shown = axis.imshow(plan.value.reshape(8, 8), cmap="viridis")
    axis.set(title=f"{name}, residual {plan.residual:.0e}", xticks=[], yticks=[])
    figure.colorbar(shown, ax=axis, label="value")
plt.show()

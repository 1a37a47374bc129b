"""
A threshold and its multiplier
==============================

Two rewards that pull apart, and a policy that stays near its reference. Raise what the first has to
reach: its multiplier begins to grow where the threshold binds, and has no end where it cannot be
reached.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.numerics import log_softmax
from prefsim.solvers import constrained_optimum

place = np.linspace(-2, 2, 81)
rewards = np.stack([place, -((place + 0.5) ** 2)])[:, None]
log_reference = log_softmax(-(place**2))[None]
thresholds = np.linspace(-0.6, 1.8, 61)
found = constrained_optimum(
    np.broadcast_to(rewards, (61, *rewards.shape)),
    np.broadcast_to(log_reference, (61, *log_reference.shape)),
    np.stack([thresholds, np.full(61, -10.0)], axis=-1),
    beta=0.5,
    weights=[0.0, 1.0],
)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for reward, name in enumerate(("first reward", "second reward")):
    axes[0].plot(thresholds, found.achieved[:, reward], label=name)
axes[0].plot(thresholds, thresholds, "k:", label="threshold of the first")
axes[0].set(xlabel="threshold", ylabel="expected reward")
axes[0].legend()
axes[1].plot(thresholds, found.multipliers[:, 0], color="tab:green")
axes[1].set(xlabel="threshold", ylabel="multiplier of the first")
plt.show()

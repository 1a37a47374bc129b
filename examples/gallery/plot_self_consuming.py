"""
Models trained on what users keep of their own samples
======================================================

Round after round a model is trained on the better of two of its samples. Reward rises and variety
dies; a share of real data stops it.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.loops import self_consuming

places = np.linspace(-3, 3, 121)
real = -0.5 * places**2
real = real - np.log(np.exp(real).sum())
reward = places

for synthetic, name in ((np.inf, "own samples alone"), (0.5, "half as many as real data")):
    laws = np.exp(self_consuming(reward, real, candidates=2, rounds=12, synthetic=synthetic))
    mean = laws @ reward
    spread = np.sqrt(laws @ reward**2 - mean**2)
    plt.plot(mean, label=f"{name}: mean reward")
    plt.plot(spread, "--", color=plt.gca().lines[-1].get_color(), label=f"{name}: spread")
plt.xlabel("round of retraining")
plt.legend()
plt.show()

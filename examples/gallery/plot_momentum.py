"""
Momentum in iterated preference optimisation
============================================

Extrapolating the log-policy over rounds multiplies what they do by 1/(1 − α), where a reward
decides.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.loops import accelerate
from prefsim.policies import TabularPolicy
from prefsim.solvers import optimal_policy

rng = np.random.default_rng(0)
reward = rng.uniform(size=(1, 20))
start = TabularPolicy.from_probs(np.full((1, 20), 0.05))


def improve(policy, round_):
    """Return the exact optimum of one round, with the last policy as reference."""
    return TabularPolicy.from_probs(optimal_policy(reward, policy.probs, beta=0.5))


for momentum in (0.0, 0.3, 0.6):
    rounds = accelerate(improve, start, momentum=momentum, rounds=15)
    gaps = [reward.max() - float((r.fitted.probs * reward).sum()) for r in rounds]
    plt.semilogy(range(1, len(gaps) + 1), gaps, "o-", label=f"α = {momentum}")
plt.xlabel("round")
plt.ylabel("best reward − expected reward")
plt.legend()
plt.show()

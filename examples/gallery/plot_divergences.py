"""
The same reward under four divergences
======================================

What is penalised decides what is kept: forward KL keeps bad responses likeliest, Jensen–Shannon
lets go of them first.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.solvers import optimal_policy

reward = np.linspace(-2.0, 2.0, 41)
reference = np.full(41, 1 / 41)
for name in ("reverse_kl", "jensen_shannon", "alpha", "forward_kl"):
    policy = optimal_policy(reward, reference, beta=0.5, divergence=name)
    plt.semilogy(reward, policy, label=name.replace("_", " "))
plt.axhline(1 / 41, color="0.6", linestyle=":", label="reference")
plt.xlabel("reward of the response")
plt.ylabel("probability")
plt.legend()
plt.show()

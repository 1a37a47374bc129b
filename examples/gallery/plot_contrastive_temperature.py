"""
Temperature decides which negatives are pushed
==============================================

The gradient of a contrastive loss on its negatives: at a small temperature only the nearest is
pushed, at a large one all alike.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.numerics import log_softmax

similarity = np.linspace(-1.0, 0.95, 60)
for temperature in (0.05, 0.1, 0.3, 1.0):
    share = np.exp(log_softmax(similarity / temperature))
    plt.semilogy(similarity, share, label=f"τ = {temperature}")
plt.ylim(1e-6, 1)
plt.xlabel("similarity of the negative to the anchor")
plt.ylabel("share of the push")
plt.legend()
plt.show()

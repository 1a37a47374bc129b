"""
Which scores a worst case looks at
==================================

KL-regularised worst cases weigh scores by exp(v/λ). A small λ sees the largest alone: right for
hard examples, wrong for an outlier.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.losses.dro import kl_dro_dual

scores = np.sort(np.random.default_rng(0).normal(size=20))
scores[-1] = 5.0  # an outlier
for temperature in (0.3, 1.0, 3.0, 30.0):
    weights = kl_dro_dual(scores, lambda_=temperature).weights
    plt.semilogy(scores, weights, "o-", label=f"λ = {temperature}")
plt.xlabel("score")
plt.ylabel("weight in the worst case")
plt.legend()
plt.show()

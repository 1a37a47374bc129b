"""
DPO finds the optimum of RLHF
=============================

With every pair of responses in the data, weighted by how often it comes up, DPO ends exactly at
the policy that maximises reward minus a KL penalty.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, optimal_policy
from prefsim.worlds import ContextualBandit

rng = np.random.default_rng(0)
reward = rng.standard_normal((1, 8))
reference = TabularPolicy.from_probs(rng.dirichlet(np.ones(8), size=1))
data = Comparisons.population(ContextualBandit(reward=reward), reference)

beta = 0.5
loss = functools.partial(losses.dpo, beta=beta)
learned = fit(reference, loss, data, reference=reference).policy.probs[0]
best = optimal_policy(reward, reference.probs, beta=beta)[0]
print("largest difference:", f"{abs(learned - best).max():.0e}")

place = np.arange(8)
plt.bar(place - 0.27, reference.probs[0], 0.27, color="0.75", label="reference")
plt.bar(place, learned, 0.27, label="learned by DPO")
plt.bar(place + 0.27, best, 0.27, label="π_ref exp(r/β), normalised")
plt.xticks(place, [f"{r:+.1f}" for r in reward[0]])
plt.xlabel("response, by its reward")
plt.ylabel("probability")
plt.legend()
plt.show()

"""
Sampling the optimum instead of training
========================================

Accept a draw of the reference with chance exp((r − max r)/β): what is accepted follows the
optimal policy exactly, and the smaller β, the more draws it takes.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.solvers import optimal_policy
from prefsim.solvers.closed_forms.rejection import accepted_law

rng = np.random.default_rng(0)
reward = np.sort(rng.normal(size=12))
reference = rng.dirichlet(np.ones(12))

figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
for beta in (2.0, 0.5, 0.2):
    law = accepted_law(reward, np.log(reference), beta=beta)
    axes[0].plot(reward, np.exp(law.log_probs), "o", label=f"accepted, β = {beta}")
    axes[0].plot(reward, optimal_policy(reward, reference, beta=beta), "k-", linewidth=0.8)
axes[0].set(xlabel="reward", ylabel="probability", title="lines: the optimal policies")
axes[0].legend()
betas = np.geomspace(0.05, 5, 40)
rates = [np.exp(accepted_law(reward, np.log(reference), beta=b).log_rate) for b in betas]
axes[1].loglog(betas, rates)
axes[1].set(xlabel="β", ylabel="share of draws accepted")
plt.show()

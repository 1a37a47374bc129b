"""
Flipped labels, and the loss that knows
=======================================

One label in five is wrong. DPO and label smoothing end nearer to the reference; robust DPO, told
the rate, does not move.
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
reward = rng.standard_normal((4, 6))
reference = TabularPolicy.from_probs(np.full((4, 6), 1 / 6))
clean = Comparisons.population(ContextualBandit(reward=reward), reference)
best = optimal_policy(reward, reference.probs, beta=0.5)

rates = np.linspace(0.0, 0.4, 9)
families = {
    "DPO": lambda rate: functools.partial(losses.dpo, beta=0.5),
    "DPO with label smoothing": lambda rate: functools.partial(
        losses.dpo, beta=0.5, label_smoothing=rate
    ),
    "robust DPO": lambda rate: functools.partial(losses.rdpo, beta=0.5, flip_rate=rate),
}
for name, loss_at in families.items():
    gaps = []
    for rate in rates:
        noisy = clean.relabelled(rate + (1 - 2 * rate) * clean.prob)
        found = fit(reference, loss_at(rate), noisy, reference=reference).policy.probs
        gaps.append(0.5 * np.abs(found - best).sum(axis=-1).mean())
    plt.plot(rates, gaps, "o-", label=name)
plt.xlabel("share of flipped labels")
plt.ylabel("total variation from the optimum")
plt.legend()
plt.show()

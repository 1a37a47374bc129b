"""
The chosen response becomes less likely
=======================================

DPO widens a margin. Where what lifts the chosen response lifts an unseen one even more, both
responses of the pair fall, and the mass goes where nobody has looked.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import gradient_descent

# What the chosen response has over the rejected one, a third has more of: it is in no comparison.
features = np.array([[[1.0, 0.0], [1.0, -0.6], [0.0, 1.0]]])
policy = LogLinearPolicy.from_features(features)
data = Comparisons(prompt=[0], chosen=[0], rejected=[1])

_, path = gradient_descent(
    policy,
    functools.partial(losses.dpo, beta=1.0),
    data,
    reference=policy,
    step=0.2,
    iterations=400,
    record=lambda p: p.probs[0].copy(),
)
for probability, name in zip(np.transpose(path), ("chosen", "rejected", "unseen"), strict=True):
    plt.plot(probability, label=name)
plt.xlabel("gradient steps")
plt.ylabel("probability")
plt.legend()
plt.show()

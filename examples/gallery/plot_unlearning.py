"""
Forgetting without collapse
===========================

Gradient ascent pushes a response down for ever, and faster the longer it lasts. NPO's push fades
once the response is rare.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.gradients import loss_gradient

log_ratio = np.linspace(0.0, -12.0, 121)  # how far the response has fallen
zero = np.zeros_like(log_ratio)
seen = losses.PairLogps(zero - 3, log_ratio - 3, zero - 3, zero - 3)
for name, loss in {
    "gradient ascent": losses.gradient_ascent,
    "NPO, β = 0.1": functools.partial(losses.npo, beta=0.1),
    "NPO, β = 0.5": functools.partial(losses.npo, beta=0.5),
    "NPO, β = 2": functools.partial(losses.npo, beta=2.0),
}.items():
    plt.plot(-log_ratio, loss_gradient(loss, seen).rejected, label=name)
plt.xlabel("nats that the response has lost")
plt.ylabel("how hard it is still pushed")
plt.legend()
plt.show()

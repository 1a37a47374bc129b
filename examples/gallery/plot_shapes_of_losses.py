"""
The shapes of pairwise losses
=============================

All of these see one number, the margin of the log-ratios. Where a loss turns up again the margin
has a goal; where it flattens, a wrong label costs little.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses

margin = np.linspace(-6, 6, 241)
zero = np.zeros_like(margin)
pairs = losses.PairLogps(margin - 8, zero - 8, zero - 8, zero - 8)
shapes = {
    "DPO": functools.partial(losses.dpo, beta=1.0),
    "DPO, smoothing .2": functools.partial(losses.dpo, beta=1.0, label_smoothing=0.2),
    "robust DPO, .2": functools.partial(losses.rdpo, beta=1.0, flip_rate=0.2),
    "IPO": functools.partial(losses.ipo, tau=0.5),
    "hinge": functools.partial(losses.hinge, beta=1.0),
    "NCA": functools.partial(losses.nca_pair, beta=1.0),
}
for name, loss in shapes.items():
    plt.plot(margin, loss(pairs), label=name)
plt.ylim(-1, 6)
plt.xlabel("margin h (nats)")
plt.ylabel("loss")
plt.legend()
plt.show()

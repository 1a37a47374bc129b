"""
The smallest set that holds ninety percent
==========================================

Of a mixture of two Gaussians: the highest density region is two intervals; the central one wastes
its length on what is unlikely.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.analysis import mixture_density_region, mixture_quantile

mean, deviation, weight = np.array([-2.0, 2.0]), np.array([0.5, 0.9]), np.array([0.4, 0.6])
region = mixture_density_region(mean, deviation, weight, level=0.9)
central = mixture_quantile(mean, deviation, weight, np.array([0.05, 0.95]))

x = np.linspace(-5, 6, 600)
normal = np.exp(-0.5 * ((x[:, None] - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
plt.plot(x, normal @ weight, color="black", label="density")
for low, high in region.intervals:
    plt.axvspan(low, high, alpha=0.3, color="tab:blue")
plt.hlines(0.01, *central, color="tab:orange", linewidth=4, label="from the 5 % to the 95 % point")
plt.xlabel("parameter")
plt.legend()
plt.show()

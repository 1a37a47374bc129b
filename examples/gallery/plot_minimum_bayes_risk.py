"""
Deciding by agreement
=====================

The likeliest answer may be alone with its opinion. Minimum Bayes risk takes the one that agrees
most with all others, each weighed by its probability.
"""

import matplotlib.pyplot as plt
import numpy as np

from prefsim.analysis import map_decision, mbr_decision

rng = np.random.default_rng(0)
crowd = rng.normal((1.0, 1.0), 0.25, size=(12, 2))
answers = np.vstack([[-1.5, -1.0], crowd])
probs = np.concatenate([[0.15], np.full(12, 0.85 / 12)])
similarity = np.exp(-((answers[:, None] - answers) ** 2).sum(axis=-1))

likeliest = int(map_decision(np.log(probs)).choice)
agreed = int(mbr_decision(probs, similarity).choice)
plt.scatter(*answers.T, s=4000 * probs, alpha=0.5, label="answers, by probability")
plt.plot(*answers[likeliest], "x", color="tab:red", markersize=14, label="most probable")
plt.plot(*answers[agreed], "*", color="tab:green", markersize=16, label="minimum Bayes risk")
plt.xlabel("embedding, first coordinate")
plt.ylabel("second coordinate")
plt.legend(loc="upper left")
plt.show()

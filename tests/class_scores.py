"""Class scores for the tests of losses on them."""

import numpy as np

from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import with_margin

SCORES = np.asarray([2.0, 1.0, 0.5, -1.0])


def one(label, margin=0.0, scores=SCORES):
    return with_margin(ClassLogits(scores, np.asarray(label)), margin)

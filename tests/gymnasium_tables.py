"""What the tests of decision processes share: gymnasium's environments and small tables."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")


SWAP = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
REWARD = np.array([[1.0, 2.0], [3.0, 4.0]])


def worth(outcomes, discount, value):
    p, after, reward, ended = outcomes.T
    return (p * (reward + discount * value[after.astype(int)] * (1 - ended))).sum()

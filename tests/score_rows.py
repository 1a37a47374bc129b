"""Rows of scores, and gradients taken another way, for the tests of robust means."""

import numpy as np
import torch

FOUR_SCORES = np.asarray([1.5, 0.5, 0.0, -1.5])
TWO_PEAKS = np.asarray([0.0] + [-1.88448992] * 9)


def numeric_gradient(f, x, step=1e-6):
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[place] = step
        found[place] = (np.sum(f(x + shift)) - np.sum(f(x - shift))) / (2 * step)
    return found


def torch_gradient(f, x):
    moved = torch.tensor(x, requires_grad=True)
    f(moved).sum().backward()
    return moved.grad.numpy()

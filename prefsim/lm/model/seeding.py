"""Torch's own generator, which draws the weights of layers, under a seed of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from prefsim.backend import Seed, random_generator

__all__ = ["seeded"]


@contextlib.contextmanager
def seeded(seed: Seed) -> Iterator[None]:
    """Draw from torch's generator of this processor by ``seed`` inside; put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(int(random_generator(seed).integers(2**63)))
        yield

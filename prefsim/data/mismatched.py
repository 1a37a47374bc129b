"""Completions of other prompts, which estimate how far a policy has moved on any completion."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from prefsim.backend import Seed, random_generator

__all__ = ["rows_of_other_prompts"]


def rows_of_other_prompts(prompts: Sequence[Hashable], *, seed: Seed) -> np.ndarray:
    """Return for every row a row with another prompt, each of those with the same chance.

    Parameters
    ----------
    prompts
        What tells prompts apart: integers, text, or anything that can be a key of a dictionary.
    seed
        Of the draw.

    Returns
    -------
    Integers ``(n,)``.

    Raises
    ------
    ValueError
        If there are rows, and all of them have one prompt.

    Examples
    --------
    >>> rows_of_other_prompts(["a", "a", "b"], seed=0)
    array([2, 2, 1])
    """
    rng = random_generator(seed)
    numbers: dict[Hashable, int] = {}
    group = np.asarray([numbers.setdefault(prompt, len(numbers)) for prompt in prompts], dtype=int)
    n = group.size
    if len(numbers) == 1:
        raise ValueError(f"prompt must hold at least two different prompts, got one in {n} rows")
    # Rows side by side by prompt: the others of a row are all places outside of its block.
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    drawn = rng.integers(n - sizes[group])
    return order[np.where(drawn >= first[group], drawn + sizes[group], drawn)]

"""How the learning rate rises and falls."""

from __future__ import annotations

import math

__all__ = ["SCHEDULES", "learning_rate_factor"]

SCHEDULES = ("linear", "cosine", "constant")


def learning_rate_factor(step: int, total: int, *, schedule: str, warmup: float) -> float:
    """Return what the peak learning rate is multiplied by at ``step`` (from 0) of ``total``.

    Examples
    --------
    >>> rates = [
    ...     learning_rate_factor(step, 6, schedule="linear", warmup=0.34) for step in range(6)
    ... ]
    >>> [round(rate, 2) for rate in rates]
    [0.33, 0.67, 1.0, 1.0, 0.67, 0.33]
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / (total - rising)
    falling = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
    }
    return falling[schedule]

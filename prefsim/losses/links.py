"""What prices a margin between two responses: the links of pairwise losses."""

from __future__ import annotations

from prefsim.numerics import array_namespace, log_sigmoid
from prefsim.typing import Array, ArrayT, Number

__all__ = ["LINKS", "linked", "positive_part", "soft_logistic", "squared"]

LINKS = ("logistic", "squared", "hinge", "perceptron")


def soft_logistic(margin: ArrayT, target: Number | Array) -> ArrayT:
    r"""Return :math:`t\,\ell(z) + (1-t)\,\ell(-z)` with :math:`\ell(z) = -\log\sigma(z)`.

    One function for plain (t = 1), conservative (1 − ε) and soft-label (t = p) logistic losses; the
    robust one has the target (1 − ε)/(1 − 2ε).
    """
    if isinstance(target, int | float) and target == 1:
        return -log_sigmoid(margin)
    return -target * log_sigmoid(margin) - (1 - target) * log_sigmoid(-margin)


def squared(margin: ArrayT, tau: Number) -> ArrayT:
    r"""Return the squared distance of a margin from :math:`\frac{1}{2\tau}`, IPO's."""
    return (margin - 1 / (2 * tau)) ** 2


def positive_part(x: ArrayT) -> ArrayT:
    """Return ``max(0, x)``, entry by entry."""
    xp = array_namespace(x)
    return xp.where(x < 0, xp.zeros_like(x), x)


def linked(margin: ArrayT, link: str, beta: Number) -> ArrayT:
    r"""Return what a margin m costs under one of :data:`LINKS`.

    Logistic :math:`-\log\sigma(\beta m)` (DPO), squared :math:`(m - \frac{1}{2\beta})^2` (IPO),
    hinge :math:`\max(0, 1 - \beta m)` (SLiC), perceptron :math:`\max(0, -\beta m)` (RRHF).
    """
    if link == "logistic":
        return soft_logistic(beta * margin, 1)
    if link == "squared":
        return squared(margin, beta)
    return positive_part((1 if link == "hinge" else 0) - beta * margin)

"""Which prompts come with desirable completions: a logistic regression on balanced classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_float_array, as_mask, check_positive
from prefsim.numerics import sigmoid

__all__ = ["PromptClassifier", "fit_prompt_classifier"]


class PromptClassifier(NamedTuple):
    """Probability that a prompt comes from the desirable completions, on its features.

    Attributes
    ----------
    weights, bias
        ``(d,)`` and a number, of standardised features.
    centre, scale
        Mean and deviation of the features that it was trained on, each ``(d,)``.
    """

    weights: np.ndarray
    bias: float
    centre: np.ndarray
    scale: np.ndarray

    def prob(self, features: Any) -> np.ndarray:
        """Return the probabilities of prompts with features ``(..., d)``, ``(...)``."""
        x = (as_float_array(features, "features", min_ndim=1) - self.centre) / self.scale
        return np.asarray(sigmoid(x @ self.weights + self.bias))


def fit_prompt_classifier(
    features: Any, desirable: Any, *, ridge: float = 1e-2
) -> PromptClassifier:
    r"""Tell prompts of desirable completions from those of others.

    Logistic regression in which both classes weigh ½ whatever their numbers, so that the odds of
    its probabilities are the ratio of the two densities of prompts:

    .. math:: \tfrac12\,\mathrm{mean}_{+}\,\ell(f) + \tfrac12\,\mathrm{mean}_{-}\,\ell(-f)
        + \tfrac{\lambda}{2}\|w\|^2,\qquad f = w\cdot z + b

    with standardised features z. By Newton's method, to rounding.

    Parameters
    ----------
    features
        Of the prompts, one row for each completion, ``(n, d)``.
    desirable
        Booleans ``(n,)``, both of them there.
    ridge
        λ > 0, which keeps the weights finite where the classes can be separated.

    Returns
    -------
    PromptClassifier

    Raises
    ------
    ValueError
        If shapes differ, a feature is not finite, one class is empty, or ``ridge`` is out of range.

    References
    ----------
    Jung et al. 2024, section on underlying distribution matching, arXiv:2404.04656 (there with
    embeddings of a text encoder).

    Examples
    --------
    Of two kinds of prompts one is three times as frequent with a thumb up, the other with a thumb
    down:

    >>> kind = np.asarray([0.0] * 3 + [1.0] + [0.0] * 2 + [1.0] * 6)
    >>> up = np.asarray([True] * 4 + [False] * 8)
    >>> classifier = fit_prompt_classifier(kind[:, None], up, ridge=1e-9)
    >>> classifier.prob([[0.0], [1.0]]).round(4)
    array([0.75, 0.25])
    """
    check_positive(ridge=ridge)
    x = as_float_array(features, "features", ndim=2)
    up = as_mask(desirable, "desirable", length=len(x))
    if up.all() or not up.any():
        raise ValueError(f"desirable must hold both classes, got {int(up.sum())} true of {up.size}")
    centre, scale = x.mean(axis=0), x.std(axis=0)
    # A feature that never changes says nothing, whatever it is divided by.
    scale = np.where(scale > 0, scale, 1.0)
    z = np.concatenate([(x - centre) / scale, np.ones((len(x), 1))], axis=1)
    weight = np.where(up, 0.5 / up.sum(), 0.5 / (~up).sum())
    penalty = np.append(np.full(x.shape[1], ridge), 0.0)
    theta = np.zeros(z.shape[1])

    def objective(theta: np.ndarray) -> float:
        margin = np.where(up, 1.0, -1.0) * (z @ theta)
        return float(weight @ np.logaddexp(0.0, -margin) + 0.5 * penalty @ theta**2)

    # Newton steps halved until they descend: the objective is convex, and twenty are plenty.
    for _ in range(100):
        p = np.asarray(sigmoid(z @ theta))
        gradient = z.T @ (weight * (p - up)) + penalty * theta
        curvature = (z.T * (weight * p * (1 - p))) @ z + np.diag(penalty)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        # Near the minimum the objective cannot tell a step from its rounding.
        size, highest = 1.0, objective(theta) * (1 + 1e-12)
        while objective(theta - size * step) > highest and size > 1e-9:
            size /= 2
        theta = theta - size * step
        if np.abs(gradient).max() <= 1e-13:
            break
    return PromptClassifier(theta[:-1], float(theta[-1]), centre, scale)

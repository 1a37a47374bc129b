"""What claims draw: pairs of responses with the next-token tables of policy and reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.gradients import gradient
from prefsim.losses import PairLogps, TokenPairLogps, relu_weights, sparse_po
from prefsim.losses.tokenwise import masked_sum, token_score
from prefsim.numerics import array_namespace, categorical_kl, like, log_softmax
from prefsim.typing import Array

SIDES = ("chosen", "rejected")


class Texts(NamedTuple):
    """Pairs of responses, each token in a state of its own; the first axis is chosen, rejected.

    Attributes
    ----------
    logits, ref_logits
        Of the next token, ``(2, n, T, V)``.
    tokens
        Which token follows, one-hot ``(2, n, T, V)``.
    mask
        Which belong to the responses, ``(2, n, T)``.
    reward_weight, kl_weight
        ``(2, n, T)``, >= 0.
    """

    logits: Array
    ref_logits: Array
    tokens: np.ndarray
    mask: np.ndarray
    reward_weight: Array
    kl_weight: Array

    def pairs(self) -> TokenPairLogps:
        """Return them as the losses take them, in the library of the logits."""
        logp = log_softmax(self.logits)
        ref = like(log_softmax(self.ref_logits), logp)
        xp, one_hot = array_namespace(logp), like(self.tokens, logp)
        kl = categorical_kl(ref, logp)
        fields = {}
        for k, side in enumerate(SIDES):
            fields[side] = xp.sum(logp[k] * one_hot[k], axis=-1)
            fields[f"ref_{side}"] = xp.sum(ref[k] * one_hot[k], axis=-1)
            fields[f"{side}_mask"] = like(self.mask[k], logp, integer=True) > 0
            fields[f"{side}_kl"] = kl[k]
            fields[f"{side}_reward_weight"] = like(self.reward_weight, logp)[k]
            fields[f"{side}_kl_weight"] = like(self.kl_weight, logp)[k]
        return TokenPairLogps(**fields)

    def scaled(self, factor: float) -> Texts:
        """Return the same with all weights multiplied."""
        return self._replace(
            reward_weight=factor * self.reward_weight, kl_weight=factor * self.kl_weight
        )

    def swapped(self) -> Texts:
        """Return the same with the responses exchanged."""
        return Texts(*(field[::-1] for field in self))

    def moved(self, share: float) -> Texts:
        """Return the same with a policy between the reference, at 0, and its own, at 1."""
        return self._replace(logits=(1 - share) * self.ref_logits + share * np.asarray(self.logits))


@st.composite
def texts(
    draw: st.DrawFn, *, pairs: int = 2, common: bool = False, least: float = 0.0, low: int = 1
) -> Texts:
    """Return pairs of responses of ``low`` to four tokens out of two to four.

    Parameters
    ----------
    pairs
        How many.
    common
        Whether log-ratios and divergences have the same weights.
    least
        The smallest weight.
    low
        The fewest tokens.
    """
    length, size = draw(st.integers(low, 4)), draw(st.integers(2, 4))
    # By a seed: a draw for each of so many numbers would take most of the time.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (2, pairs, length)
    logits, ref_logits = rng.uniform(-2.0, 2.0, (2, *shape, size))
    reward_weight, kl_weight = rng.uniform(least, 2.0, (2, *shape))
    tokens = np.eye(size)[rng.integers(0, size, shape)]
    mask = np.arange(length) < rng.integers(low, length + 1, (2, pairs, 1))
    kl_weight = reward_weight if common else kl_weight
    return Texts(logits, ref_logits, tokens, mask, reward_weight, kl_weight)


def sequences(pairs: TokenPairLogps) -> PairLogps:
    """Return the log-probabilities of whole responses."""
    return PairLogps(
        *(
            masked_sum(getattr(pairs, f"{kind}{side}"), getattr(pairs, f"{side}_mask"))
            for kind in ("", "ref_")
            for side in SIDES
        )
    )


def scores(given: Texts) -> np.ndarray:
    """Return the implied rewards of both responses in units of β, ``(2, n)``."""
    pairs = given.pairs()
    return np.stack(
        [
            token_score(
                pairs.chosen - pairs.ref_chosen,
                pairs.chosen_kl,
                pairs.chosen_mask,
                reward_weight=pairs.chosen_reward_weight,
                kl_weight=pairs.chosen_kl_weight,
            ),
            token_score(
                pairs.rejected - pairs.ref_rejected,
                pairs.rejected_kl,
                pairs.rejected_mask,
                reward_weight=pairs.rejected_reward_weight,
                kl_weight=pairs.rejected_kl_weight,
            ),
        ]
    )


def logit_slopes(given: Texts, beta: float) -> np.ndarray:
    """Return the derivatives of the loss in the logits, ``(2, n, T, V)``."""

    def loss(logits: Any) -> Any:
        return sparse_po(given._replace(logits=logits).pairs(), beta=beta)

    return gradient(loss, given.logits)


def scaled_twice(activations: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return MaPO's weights ``(T,)`` as they are written: standardised first, then rescaled.

    Activations ``(L, T)`` under a mask ``(T,)``; NaN where a layer is constant.
    """
    x = activations[:, mask]
    found = np.zeros(activations.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, ddof=1, keepdims=True)
        low, high = z.min(axis=1, keepdims=True), z.max(axis=1, keepdims=True)
        found[:, mask] = (z - low) / (high - low)
    return found.mean(axis=0)


class Trained(NamedTuple):
    """Weights ``(2, n, T)`` after training, and the largest derivative in weights and logits."""

    weight: np.ndarray
    slope: float


def train_with_penalty(
    given: Texts, *, beta: float, l1: float, start: float, steps: int, step: Any
) -> Trained:
    """Train logits and common ReLU weights, one for each token, by gradient descent.

    Parameters
    ----------
    given
        With the policy to start from.
    beta, l1
        Of the loss; the penalty is on both kinds of weights.
    start
        What the weights start from.
    steps, step
        How many, and their size.
    """
    import torch

    logits = torch.tensor(given.logits, requires_grad=True)
    raw = torch.full((given.mask.size,), start, dtype=torch.float64, requires_grad=True)
    one_hot = torch.eye(given.mask.size, dtype=torch.float64)
    for _ in range(steps + 1):
        weight = relu_weights(one_hot, raw).reshape(given.mask.shape)
        here = given._replace(logits=logits, reward_weight=weight, kl_weight=weight)
        loss = sparse_po(here.pairs(), beta=beta, reward_l1=l1, kl_l1=l1).sum()
        slopes = torch.autograd.grad(loss, (logits, raw))
        with torch.no_grad():
            logits -= step * slopes[0]
            raw -= step * slopes[1]
    largest = max(float(each.abs().max()) for each in slopes)
    return Trained(weight.detach().numpy() * given.mask, largest)

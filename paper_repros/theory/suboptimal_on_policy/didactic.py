"""A bandit of a hundred bins: data from a squashed Cauchy law, a bump of reward, and the methods.

Every expectation is summed over all bins or all pairs of bins; the methods differ in where samples
come from (the data, or the policy as it is) and in whether they push responses down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.gradients import gradient, logit_gradient, loss_gradient
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax
from prefsim.solvers.closed_forms.self_training import best_of_n
from prefsim.solvers.optimisers.policy_gradient import score_gradient

BINS = 100
LOCATION, SCALE = -0.7, 0.4
"""Of the Cauchy law whose hyperbolic tangent the data follow."""
FAR, ALIGNED = 70.0, 20.0
"""Bins of the peak of the reward: where the data are thin, and near where they are."""
WIDTH = 10.0
SAMPLES = 10
"""Responses to a prompt, the best of which is imitated."""
PUSH = 0.5
"""Weight of the worst response where it is pushed down."""


class Bandit(NamedTuple):
    """Worlds of one prompt; leading axes are several of them.

    Attributes
    ----------
    log_data
        The law of the data and of the first policy, ``(..., Y)`` in nats.
    reward
        ``(..., Y)``.
    """

    log_data: np.ndarray
    reward: np.ndarray


def squashed_cauchy(location: Any = LOCATION, scale: Any = SCALE) -> np.ndarray:
    """Return the law of tanh of a Cauchy number in equal bins of [−1, 1], ``(..., BINS)`` in nats.

    The parameters are numbers or arrays ``(...)``.
    """
    edges = np.linspace(-1.0, 1.0, BINS + 1)
    with np.errstate(divide="ignore"):  # the outermost edges lie at infinity
        places = np.arctanh(edges)
    location, scale = np.asarray(location)[..., None], np.asarray(scale)[..., None]
    angles = np.arctan((places - location) / scale)
    return np.log(np.diff(angles, axis=-1) / np.pi)


def bump(peak: Any, width: Any = WIDTH) -> np.ndarray:
    """Return a reward with one smooth peak of height 1, ``(..., BINS)``."""
    peak, width = np.asarray(peak)[..., None], np.asarray(width)[..., None]
    return np.exp(-(((np.arange(BINS) - peak) / width) ** 2))


def published(peaks: Sequence[float] = (FAR, ALIGNED)) -> Bandit:
    """Return the paper's worlds, ``(len(peaks), BINS)``."""
    reward = bump(np.asarray(peaks))
    return Bandit(np.broadcast_to(squashed_cauchy(), reward.shape), reward)


# --- the methods: what is descended, in the logits ---

Slope = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Gradient in the logits, given log π and the law that samples come from."""
Method = Callable[[Bandit], Slope]
"""What a method descends in a world."""


def imitate_best(push: float = 0.0, n: int = SAMPLES) -> Method:
    """Imitate the best of n samples, and push the worst down with weight ``push``."""

    def method(world: Bandit) -> Slope:
        # The data's laws are asked for at every step of a method that does not sample anew.
        offline = _extremes(world, world.log_data, n)

        def slope(log_policy: np.ndarray, log_samples: np.ndarray) -> np.ndarray:
            from_data = log_samples is world.log_data
            best, worst = offline if from_data else _extremes(world, log_samples, n)

            def loss(logits: Any) -> Any:
                at = log_softmax(logits)
                held = at.detach()
                # Each loss reads one of the two responses, and any may be drawn as that one.
                up, down = PairLogps(at, held, held, held), PairLogps(held, at, held, held)
                pulled = at.new_tensor(best) * losses.sft(up)
                return pulled + push * at.new_tensor(worst) * losses.gradient_ascent(down)

            return gradient(loss, log_policy)

        return slope

    return method


def _extremes(world: Bandit, log_samples: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the best and of the worst of n samples, each ``(..., Y)``."""
    best, worst = (best_of_n(sign * world.reward, log_samples, n) for sign in (1, -1))
    return np.exp(best), np.exp(worst)


def reinforce(world: Bandit) -> Slope:
    """Follow the policy gradient of the expected reward."""

    def slope(log_policy: np.ndarray, log_samples: np.ndarray) -> np.ndarray:
        return np.asarray(-score_gradient(world.reward, log_policy, log_samples))

    return slope


def dpo(beta: float) -> Method:
    """Run DPO on all pairs of samples, labelled by which has the higher reward."""

    def method(world: Bandit) -> Slope:
        pairs = Pairs.of(world)

        def slope(log_policy: np.ndarray, log_samples: np.ndarray) -> np.ndarray:
            weight = pairs.probability(log_samples)

            def loss(pair: PairLogps[Any]) -> Any:
                return pair.chosen.new_tensor(weight) * losses.dpo(pair, beta=beta)

            slopes = loss_gradient(loss, pairs.logps(log_policy))
            return logit_gradient(pairs.sums(slopes.chosen, slopes.rejected), log_policy)

        return slope

    return method


class Pairs(NamedTuple):
    """All pairs of two different responses, the better one first; each field ``(..., P)``.

    ``differ`` says whether their rewards do: a pair of equal ones carries no label.
    """

    world: Bandit
    chosen: np.ndarray
    rejected: np.ndarray
    reference: tuple[np.ndarray, np.ndarray]
    differ: np.ndarray

    @classmethod
    def of(cls, world: Bandit) -> Pairs:
        """Return the pairs of a world."""
        order = np.argsort(-world.reward, axis=-1, kind="stable")
        better, worse = np.triu_indices(order.shape[-1], 1)
        places = order[..., better], order[..., worse]
        high, low = _both(world.reward, *places)
        return cls(world, *places, _both(world.log_data, *places), high > low)

    def probability(self, log_samples: np.ndarray) -> np.ndarray:
        """Return the probability that two samples are this pair, in either order, ``(..., P)``.

        It is 0 for a pair without a label.
        """
        first, second = _both(log_samples, self.chosen, self.rejected)
        return np.asarray(2 * np.exp(first + second) * self.differ)

    def logps(self, log_policy: np.ndarray) -> PairLogps[np.ndarray]:
        """Return the container that losses take."""
        return PairLogps(*_both(log_policy, self.chosen, self.rejected), *self.reference)

    def sums(self, of_chosen: np.ndarray, of_rejected: np.ndarray) -> np.ndarray:
        """Return what belongs to each response, summed over its pairs, ``(..., Y)``."""
        return sums_at(self.chosen, of_chosen) + sums_at(self.rejected, of_rejected)


def _both(
    table: np.ndarray, chosen: np.ndarray, rejected: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries of a table at both responses of each pair."""
    first, second = (np.take_along_axis(table, place, axis=-1) for place in (chosen, rejected))
    return first, second


def sums_at(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sums of ``values`` at each of the bins, ``(..., BINS)``; both ``(..., P)``."""
    rows = places.reshape(-1, places.shape[-1])
    # One count for all rows, each in a range of its own.
    apart = rows + BINS * np.arange(rows.shape[0])[:, None]
    total = np.bincount(apart.ravel(), values.ravel(), minlength=BINS * rows.shape[0])
    return total.reshape(*places.shape[:-1], BINS)


def dpo_loss(world: Bandit, log_policies: np.ndarray, beta: float) -> np.ndarray:
    """Return DPO's mean loss over pairs from the data, ``(...)``."""
    pairs = Pairs.of(Bandit(*(np.broadcast_to(x, log_policies.shape) for x in world)))
    weight = pairs.probability(pairs.world.log_data)
    return np.asarray((weight * losses.dpo(pairs.logps(log_policies), beta=beta)).sum(axis=-1))


# --- training ---


class Path(NamedTuple):
    """What a method reaches: policies at the recorded steps.

    Attributes
    ----------
    steps
        ``(T,)``.
    log_policies
        ``(T, ..., Y)`` in nats.
    """

    steps: np.ndarray
    log_policies: np.ndarray

    def rewards(self, world: Bandit) -> np.ndarray:
        """Return the expected reward at each recorded step, ``(T, ...)``."""
        return np.asarray((np.exp(self.log_policies) * world.reward).sum(axis=-1))


def train(
    world: Bandit, method: Method, *, rate: float, steps: int, on_policy: bool, record: int = 10
) -> Path:
    """Descend from the data's law in plain steps of size ``rate``.

    Samples come from the policy of that step, or always from the data.
    """
    slope, logits = method(world), log_softmax(np.array(world.log_data))
    kept = {0: logits}
    for step in range(1, steps + 1):
        samples = logits if on_policy else world.log_data
        logits = log_softmax(logits - rate * slope(logits, samples))
        if step % record == 0 or step == steps:
            kept[step] = logits
    return Path(np.array(list(kept)), np.stack(list(kept.values())))


# --- what is known of the first step ---


def first_slopes(world: Bandit, beta: float) -> dict[str, np.ndarray]:
    """Return the gradients of the methods at the data's law in closed form, each ``(..., Y)``.

    With B and W the laws of the best and of the worst, and S(y) the probability that a sample is
    worse than y, less that it is better: π − B, that plus the push times W − π, −π (r − E r), and
    −β π S.
    """
    policy = np.exp(world.log_data)
    best, worst = _extremes(world, world.log_data, SAMPLES)
    mean = (policy * world.reward).sum(axis=-1, keepdims=True)
    wins = np.sign(world.reward[..., :, None] - world.reward[..., None, :])
    ahead = (wins @ policy[..., None])[..., 0]
    return {
        "best of n": policy - best,
        "worst pushed": policy - best + PUSH * (worst - policy),
        "policy gradient": -policy * (world.reward - mean),
        "DPO": -beta * policy * ahead,
    }


def first_gains(world: Bandit, slopes: np.ndarray) -> np.ndarray:
    """Return how fast the expected reward grows down gradients at the data's law, ``(...)``."""
    policy = np.exp(world.log_data)
    mean = (policy * world.reward).sum(axis=-1, keepdims=True)
    return np.asarray(-(slopes * policy * (world.reward - mean)).sum(axis=-1))

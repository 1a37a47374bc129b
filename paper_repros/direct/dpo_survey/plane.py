"""Where each direct-alignment loss stops on one bandit, by reward and distance from the reference.

Every loss has the same comparisons and the same β, and is minimised exactly.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.data import Comparisons, Rankings
from prefsim.losses.registry import container_of, loss_functions
from prefsim.policies import TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import ConvergenceWarning, fit, gibbs_log_policy
from prefsim.worlds import ContextualBandit

Loss = Callable[[Any], Any]

RESPONSES = 8
BETA = 0.5
FLIP_RATE = 0.2
LIST_LOSSES = ("infonca", "nca", "exo_rw", "pl_dpo")
# They couple a batch, and need its rows to weigh alike.
BATCH_LOSSES = ("drdpo", "aot", "aot_unpaired", "bco", "beta_dpo")
DIVERGENCES = ("forward_kl", "jensen_shannon", "alpha")


class Stop(NamedTuple):
    """Where a policy ends in each world.

    Attributes
    ----------
    kl
        KL(π‖π_ref) in nats, ``(worlds,)``.
    reward
        Expected reward, ``(worlds,)``.
    probs
        π, ``(worlds, Y)``.
    smooth
        Whether the gradient vanishes there, ``(worlds,)``.
    value
        Of the loss, nats, ``(worlds,)``.
    """

    kl: np.ndarray
    reward: np.ndarray
    probs: np.ndarray
    smooth: np.ndarray
    value: np.ndarray


class Setting(NamedTuple):
    """Worlds of one context, a uniform reference, and what there is to learn from.

    Attributes
    ----------
    worlds, reference
        As a batch, and one for all.
    comparisons, flipped
        All ordered pairs with their Bradley–Terry probabilities; and with labels flipped.
    rankings
        Of each world.
    """

    worlds: ContextualBandit
    reference: TabularPolicy
    comparisons: Comparisons
    flipped: Comparisons
    rankings: list[Rankings]

    @classmethod
    def draw(cls, seeds: Sequence[int]) -> Setting:
        """Draw a world of normal rewards from each seed."""
        rewards = np.stack(
            [np.random.default_rng(seed).standard_normal((1, RESPONSES)) for seed in seeds]
        )
        worlds, reference = ContextualBandit(reward=rewards), TabularPolicy.uniform(1, RESPONSES)
        comparisons = Comparisons.population(worlds, reference, distinct=True)
        return cls(
            worlds,
            reference,
            comparisons,
            comparisons.relabelled(flip_labels(comparisons.prob, FLIP_RATE)),
            [Rankings.population(ContextualBandit(reward=reward)) for reward in rewards],
        )

    @property
    def rewards(self) -> np.ndarray:
        """Rewards ``(worlds, Y)``."""
        return np.asarray(self.worlds.reward)[:, 0]

    def losses(self) -> dict[str, tuple[Loss, list[Any]]]:
        """Return by label each configured loss, and its data: for all worlds, or one for each."""
        pairwise = [name for name, loss in loss_functions().items() if _takes_bare_pairs(loss)]
        configured: dict[str, tuple[Loss, list[Any]]] = {
            name: (_with_strength(getattr(losses, name)), [self.comparisons])
            for name in pairwise
            if name not in BATCH_LOSSES
        }
        for name in LIST_LOSSES:
            configured[name] = (_with_strength(getattr(losses, name)), list(self.rankings))
        robust = functools.partial(losses.rdpo, beta=BETA, flip_rate=FLIP_RATE)
        # Labels that are taken for this likely to be right, in place of labels that are.
        soft = functools.partial(losses.soft, beta=BETA, target=1 - FLIP_RATE)
        configured["soft"] = (soft, [self.comparisons])
        configured["rdpo"] = (robust, [self.flipped])
        configured["dpo(flipped)"] = (functools.partial(losses.dpo, beta=BETA), [self.flipped])
        for divergence in DIVERGENCES:
            loss = functools.partial(losses.f_dpo, beta=BETA, divergence=divergence)
            configured[f"f_dpo({divergence})"] = (loss, [self.comparisons])
        return configured

    def stop(self, loss: Loss, sources: list[Any], *, max_iterations: int) -> Stop:
        """Return where a loss is least, or where the solver gave up."""
        with warnings.catch_warnings():
            # A kinked or bang-bang loss has no smooth minimum: the figure marks it, and the table
            # says so.
            warnings.simplefilter("ignore", ConvergenceWarning)
            results = [
                fit(
                    self.reference,
                    loss,
                    source,
                    reference=self.reference,
                    max_iterations=max_iterations,
                )
                for source in sources
            ]
        log_probs = np.stack([np.asarray(result.policy.log_probs) for result in results])
        grad_norm = np.stack([np.asarray(result.grad_norm) for result in results])
        value = np.stack([np.asarray(result.value) for result in results])
        n_worlds = len(self.rewards)
        return self.place(
            log_probs.reshape(n_worlds, 1, RESPONSES),
            grad_norm.reshape(n_worlds) <= 1e-10,
            value.reshape(n_worlds),
        )

    def optimum(self) -> Stop:
        """Return where π* ∝ π_ref e^{r/β} is."""
        log_probs, _ = gibbs_log_policy(
            np.asarray(self.worlds.reward), self.reference.log_probs, beta=BETA
        )
        worlds = len(self.rewards)
        # Of no loss: there is no value.
        return self.place(np.asarray(log_probs), np.ones(worlds, bool), np.full(worlds, np.nan))

    def place(self, log_probs: np.ndarray, smooth: np.ndarray, value: np.ndarray) -> Stop:
        """Return where policies ``(worlds, 1, Y)`` are."""
        return Stop(
            np.asarray(kl_to_reference(log_probs, self.reference.log_probs, self.worlds)),
            np.asarray(expected_reward(log_probs, self.worlds)),
            np.exp(log_probs)[:, 0],
            smooth,
            value,
        )


def _with_strength(loss: Callable[..., Any]) -> Loss:
    """Set the strength β or τ of a loss, where it has one."""
    parameters = inspect.signature(loss).parameters
    return functools.partial(loss, **{name: BETA for name in ("beta", "tau") if name in parameters})


def _takes_bare_pairs(loss: Callable[..., Any]) -> bool:
    """Return whether a loss needs nothing but log-probabilities and lengths of pairs.

    No scores, no log-probabilities of a sampler.
    """
    if container_of(loss) is not losses.PairLogps:
        return False
    zero, one = np.zeros(1), np.ones(1)
    try:
        loss(losses.PairLogps(zero, zero, zero, zero, one, one))
    except ValueError:
        return False
    return True


def best_rewards(reward: np.ndarray, strengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return KL and reward of the optimum at each strength of the penalty, the best trade-off."""
    log_uniform = np.full(reward.size, -np.log(reward.size))
    log_probs = np.stack([gibbs_log_policy(reward, log_uniform, beta=b)[0] for b in strengths])
    world = ContextualBandit(reward=np.broadcast_to(reward, (len(strengths), 1, reward.size)))
    return (
        np.asarray(kl_to_reference(log_probs[:, None], log_uniform[None], world)),
        np.asarray(expected_reward(log_probs[:, None], world)),
    )

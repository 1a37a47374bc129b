"""Policies trained online on sampled pairs, with and without constants added to the rewards.

Every prompt has a constant of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.backend import to_numpy
from prefsim.numerics import array_namespace
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers.optimisers.policy_gradient import regularised_reward
from prefsim.worlds import ContextualBandit

PLAIN, SCALED = "PPO, no baseline", "P3O (V2, joint), scaled rewards"
METHODS = (
    "P3O (V2, joint)",
    "P3O (V1, separate)",
    "PPO, value baseline",
    PLAIN,
    "online DPO",
    SCALED,
)
BETA = 0.05
SCALES = (0.0, 10.0)  # of the constants


def ppo_clip(logp: Any, old: Any, advantage: Any, *, epsilon: float = 0.2) -> Any:
    """Return PPO's clipped surrogate with its sign reversed, one value a sample."""
    import torch

    ratio = torch.exp(logp - old)
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + epsilon)
    return -torch.minimum(ratio * advantage, clipped * advantage)


class Rollout(NamedTuple):
    """What a step of training sees of the responses to each prompt, two by two.

    Attributes
    ----------
    old, reference
        Log-probabilities in nats, ``(batch, X, 2)``.
    reward, advantage
        ``(batch, X, 2)``.
    first_wins
        Whether a Bradley–Terry rater prefers the first, ``(batch, X)``.
    """

    old: Any
    reference: Any
    reward: Any
    advantage: Any
    first_wins: Any

    def pairs(self, logp: Any) -> losses.PairLogps:
        """Return the pairs as they were drawn, with their log-probabilities ``(batch, X, 2)``."""
        return losses.PairLogps(
            chosen=logp[..., 0],
            rejected=logp[..., 1],
            ref_chosen=self.reference[..., 0],
            ref_rejected=self.reference[..., 1],
            chosen_score=self.reward[..., 0],
            rejected_score=self.reward[..., 1],
            old_chosen=self.old[..., 0],
            old_rejected=self.old[..., 1],
        )

    def labelled(self, logp: Any) -> losses.PairLogps:
        """Return the pairs with the response that the rater prefers as the chosen one."""
        import torch

        first, second = self.pairs(logp), self.pairs(logp).swapped()
        return losses.PairLogps(
            *(
                None if one is None else torch.where(self.first_wins, one, other)
                for one, other in zip(first, second, strict=True)
            )
        )

    def loss(self, method: str, logp: Any) -> Any:
        """Return the loss of one method, summed over prompts, ``(batch,)``."""
        if method.startswith("P3O"):
            clip = "joint" if "joint" in method else "separate"
            return losses.p3o(self.pairs(logp), beta=BETA, clip=clip).sum(-1)
        if method == "online DPO":
            return losses.dpo(self.labelled(logp), beta=0.3).sum(-1)
        return 0.5 * ppo_clip(logp, self.old, self.advantage).sum((-2, -1))


class Trained(NamedTuple):
    """What training passes, before it and after each rollout.

    Attributes
    ----------
    kl
        KL to the reference in nats, ``(rollouts + 1, scales, seeds)``.
    reward
        True expected reward, of the same shape.
    spread
        Standard deviation of all rewards that the loss saw, ``(scales, seeds)``.
    """

    kl: np.ndarray
    reward: np.ndarray
    spread: np.ndarray

    def at(self, kl: float) -> np.ndarray:
        """Return the reward when the divergence first reaches ``kl``, ``(scales, seeds)``.

        NaN where it never does.
        """
        reached = self.kl >= kl
        after = np.maximum(reached.argmax(axis=0), 1)[None]

        def at_rows(table: np.ndarray, row: np.ndarray) -> np.ndarray:
            return np.take_along_axis(table, row, axis=0)[0]

        kl_before, kl_after = (at_rows(self.kl, row) for row in (after - 1, after))
        before, now = (at_rows(self.reward, row) for row in (after - 1, after))
        share = (kl - kl_before) / (kl_after - kl_before)
        return np.where(reached.any(axis=0), before + share * (now - before), np.nan)


class Setting(NamedTuple):
    """Bandits of shared features, one for every seed, each with both scales of its constants.

    Attributes
    ----------
    start
        A softmax of the features that is the reference where its weights are zero.
    log_reference
        ``(scales, seeds, X, Y)``, nats.
    world
        The bandits with their true rewards.
    seen
        The rewards with the constants of each prompt, ``(scales, seeds, X, Y)``.
    """

    start: LogLinearPolicy
    log_reference: Any
    world: ContextualBandit
    seen: Any

    @classmethod
    def draw(
        cls, seeds: int, seed: int, *, prompts: int = 40, responses: int = 20, d: int = 8
    ) -> Setting:
        """Draw rewards that are linear in the features up to a noise of half their size."""
        import torch

        rng = np.random.default_rng((seed, 0))
        features = rng.standard_normal((prompts, responses, d))
        base = TabularPolicy.from_logits(rng.standard_normal((prompts, responses)))
        reward = np.einsum("xyd,sd->sxy", features, rng.standard_normal((seeds, d))) / np.sqrt(d)
        reward = reward + 0.5 * rng.standard_normal(reward.shape)
        constant = rng.standard_normal((seeds, prompts, 1))
        batch = (len(SCALES), seeds)
        return cls(
            LogLinearPolicy.from_features(features, weights=np.zeros((*batch, d)), base=base),
            torch.tensor(to_numpy(base.log_probs)).expand(*batch, prompts, responses),
            ContextualBandit(reward=np.broadcast_to(reward, (*batch, prompts, responses)).copy()),
            torch.tensor(np.stack([reward + scale * constant for scale in SCALES])),
        )

    def log_probs(self, theta: Any) -> Any:
        """Return the policy with weights ``(scales, seeds, d)``."""
        return self.start.with_parameters(theta).log_probs

    def roll_out(self, method: str, table: Any, uniform: Any) -> tuple[Any, Rollout]:
        """Draw two responses to every prompt by uniform numbers ``(seeds, X, 3)``.

        The third decides what the rater says. Returns the responses ``(scales, seeds, X, 2)``, and
        what a step sees of them.
        """
        import torch

        edges = torch.exp(table).cumsum(dim=-1)[..., None, :-1]
        drawn = (uniform[..., :2, None] >= edges).sum(dim=-1)
        advantage: Any = regularised_reward(self.seen, table, self.log_reference, beta=BETA)
        if method == "PPO, value baseline":
            advantage = advantage - (torch.exp(table) * advantage).sum(dim=-1, keepdim=True)
        true = torch.gather(torch.tensor(to_numpy(self.world.reward)), -1, drawn)
        return drawn, Rollout(
            old=torch.gather(table, -1, drawn),
            reference=torch.gather(self.log_reference, -1, drawn),
            reward=torch.gather(self.seen, -1, drawn),
            advantage=torch.gather(advantage, -1, drawn),
            first_wins=uniform[..., 2] < torch.sigmoid(true[..., 0] - true[..., 1]),
        )


class Preprocessing:
    """The running scales of rewards ``(scales, seeds, ...)``: every policy has its own."""

    def __init__(self) -> None:
        self.scales: dict[tuple[int, ...], losses.RewardScale] = {}

    def __call__(self, rewards: Any) -> Any:
        """Let the scales see the rewards, and return these scaled."""
        scaled = []
        for place in np.ndindex(tuple(rewards.shape[:2])):
            scale = self.scales.get(place, losses.RewardScale()).updated(to_numpy(rewards[place]))
            self.scales[place] = scale
            scaled.append(scale.scaled(rewards[place]))
        return array_namespace(rewards).stack(scaled).reshape(rewards.shape)


def train(
    method: str,
    setting: Setting,
    *,
    seed: int,
    rollouts: int,
    progress: Callable[[Iterable[Any], str], Iterable[Any]],
    epochs: int = 2,
    lr: float = 0.03,
) -> Trained:
    """Train one policy for every seed and both scales of the constants, as one batch.

    The uniform numbers of a rollout depend on the seed alone, so that every method sees the same.
    """
    import torch

    scales, seeds, prompts, _ = setting.seen.shape
    theta = torch.zeros(
        (scales, seeds, setting.start.weights.shape[-1]), dtype=torch.float64, requires_grad=True
    )
    # The decay of the authors' trainer.
    optimiser = torch.optim.Adam([theta], lr=lr, betas=(0.9, 0.95))
    draws = np.random.default_rng((seed, 1))
    preprocessing = Preprocessing()
    kls, rewards, judged = [], [], []
    for rollout in progress(range(rollouts + 1), method):
        with torch.no_grad():
            table = setting.log_probs(theta)
            kls.append(to_numpy(kl_to_reference(table, setting.log_reference, setting.world)))
            rewards.append(to_numpy(expected_reward(table, setting.world)))
            if rollout == rollouts:
                break
            uniform = torch.tensor(draws.random((seeds, prompts, 3)))
            drawn, seen = setting.roll_out(method, table, uniform)
            if method == SCALED:
                seen = seen._replace(reward=preprocessing(seen.reward))
            judged.append(to_numpy(seen.reward))
        for _ in range(epochs):
            optimiser.zero_grad()
            logp = torch.gather(setting.log_probs(theta), -1, drawn)
            (seen.loss(method, logp).sum() / prompts).backward()
            optimiser.step()
    return Trained(np.stack(kls), np.stack(rewards), np.stack(judged).std(axis=(0, 3, 4)))

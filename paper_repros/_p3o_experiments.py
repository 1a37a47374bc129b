"""The p3o paper's frontier: policies trained online on sampled pairs, with and without a constant added to the rewards of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.backend import to_numpy
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers.optimisers.policy_gradient import regularised_reward
from prefsim.worlds import ContextualBandit

METHODS = (
    "P3O (V2, joint)",
    "P3O (V1, separate)",
    "PPO, value baseline",
    "PPO, no baseline",
    "online DPO",
)
BETA = 0.05
SCALES = (0.0, 10.0)


class Rollout(NamedTuple):
    """What a step of training sees of the responses ``(batch, X, 2)`` to each prompt: log-probabilities in nats, rewards, advantages.

    ``first_wins`` ``(batch, X)``: whether a Bradley–Terry rater prefers the first.
    """

    old: Any
    reference: Any
    reward: Any
    advantage: Any
    first_wins: Any


def ppo_clip(logp: Any, old: Any, advantage: Any, *, epsilon: float = 0.2) -> Any:
    """Return PPO's clipped surrogate with its sign reversed, one value a sample."""
    import torch

    ratio = torch.exp(logp - old)
    return -torch.minimum(
        ratio * advantage, torch.clamp(ratio, 1 - epsilon, 1 + epsilon) * advantage
    )


def method_loss(method: str, logp: Any, seen: Rollout) -> Any:
    """Return the loss of one method on a rollout, summed over prompts, ``(batch,)``."""
    import torch

    def pairs(order: Any = None) -> losses.PairLogps:
        columns: list[Any] = [logp, seen.reference, seen.reward, seen.old]
        if order is not None:
            columns = [torch.take_along_dim(column, order, dim=-1) for column in columns]
        own, reference, score, old = ((column[..., 0], column[..., 1]) for column in columns)
        return losses.PairLogps(*own, *reference, None, None, *score, *old)

    if method.startswith("P3O"):
        return losses.p3o(
            pairs(), beta=BETA, clip="joint" if "joint" in method else "separate"
        ).sum(dim=-1)
    if method == "online DPO":
        first = seen.first_wins[..., None]
        return losses.dpo(pairs(torch.cat([~first, first], dim=-1).long()), beta=0.3).sum(dim=-1)
    return 0.5 * ppo_clip(logp, seen.old, seen.advantage).sum(dim=(-2, -1))


class Trained(NamedTuple):
    """KL to the reference (nats) and true expected reward after each rollout, each ``(rollouts + 1, scales, seeds)``."""

    kl: np.ndarray
    reward: np.ndarray

    def at(self, kl: float) -> np.ndarray:
        """Return the reward when the divergence first reaches ``kl``, ``(scales, seeds)``; NaN where it never does."""
        reached = self.kl >= kl
        after = np.maximum(reached.argmax(axis=0), 1)[None]
        before = [np.take_along_axis(x, after - 1, axis=0)[0] for x in self]
        now = [np.take_along_axis(x, after, axis=0)[0] for x in self]
        share = (kl - before[0]) / (now[0] - before[0])
        return np.where(reached.any(axis=0), before[1] + share * (now[1] - before[1]), np.nan)


def train(
    method: str, *, seeds: int, seed: int, rollouts: int, epochs: int = 2, lr: float = 0.03,
    prompts: int = 40, responses: int = 20, d: int = 8,
    progress: Callable[[Iterable[Any], str], Iterable[Any]],
) -> Trained:  # fmt: skip
    """Train one softmax of shared features for every seed and both scales of the prompts' constants, as one batch.

    Each rollout draws two responses to every prompt with uniform numbers that depend on the seed
    alone; Adam with decay (0.9, 0.95).
    """
    import torch

    rng = np.random.default_rng((seed, 0))
    features = rng.standard_normal((prompts, responses, d))
    base = TabularPolicy.from_logits(rng.standard_normal((prompts, responses)))
    reward = np.einsum("xyd,sd->sxy", features, rng.standard_normal((seeds, d))) / np.sqrt(d)
    reward = reward + 0.5 * rng.standard_normal(reward.shape)
    offset = rng.standard_normal((seeds, prompts, 1))
    world = ContextualBandit(reward=np.broadcast_to(reward, (len(SCALES), *reward.shape)).copy())
    seen_reward = torch.tensor(np.stack([reward + scale * offset for scale in SCALES]))
    batch = (len(SCALES), seeds)
    start = LogLinearPolicy.from_features(features, weights=np.zeros((*batch, d)), base=base)
    theta = torch.zeros((*batch, d), dtype=torch.float64, requires_grad=True)
    log_ref = torch.tensor(to_numpy(base.log_probs)).expand(*batch, prompts, responses)
    true = torch.tensor(to_numpy(world.reward))
    optimiser = torch.optim.Adam([theta], lr=lr, betas=(0.9, 0.95))
    draws = np.random.default_rng((seed, 1))
    path = []

    def record() -> torch.Tensor:
        with torch.no_grad():
            table = start.with_parameters(theta).log_probs
            path.append(
                (
                    to_numpy(kl_to_reference(table, log_ref, world)),
                    to_numpy(expected_reward(table, world)),
                )
            )
        return table

    table = record()
    for _ in progress(range(rollouts), method):
        uniform = torch.tensor(draws.random((seeds, prompts, 3)))
        with torch.no_grad():
            edges = torch.exp(table).cumsum(dim=-1)[..., None, :-1]
            drawn = (uniform[..., :2, None] >= edges).sum(dim=-1)
            regularised = regularised_reward(seen_reward, table, log_ref, beta=BETA)
            if method == "PPO, value baseline":
                regularised = regularised - (torch.exp(table) * regularised).sum(
                    dim=-1, keepdim=True
                )
            old, reference, score, advantage = (
                torch.gather(x, -1, drawn) for x in (table, log_ref, seen_reward, regularised)
            )
            gap = torch.gather(true, -1, drawn) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
            seen = Rollout(old, reference, score, advantage, uniform[..., 2] < torch.sigmoid(gap))
        for _ in range(epochs):
            optimiser.zero_grad()
            logp = torch.gather(start.with_parameters(theta).log_probs, -1, drawn)
            (method_loss(method, logp, seen).sum() / prompts).backward()
            optimiser.step()
        table = record()
    kl, value = (np.stack(column) for column in zip(*path, strict=True))
    return Trained(kl, value)


def draw(trained: dict[str, Trained]) -> Any:
    """Plot reward against divergence along training, with and without the constants."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    grid = np.linspace(0.02, 1.5, 60)
    styles = ("C0-", "C2--", "C1-.", "C3-", "C4:")
    for axis, k, title in zip(
        axes,
        (0, 1),
        ("rewards as they are", "a constant N(0, 10²) added to all rewards of a prompt"),
        strict=True,
    ):
        for (name, found), style in zip(trained.items(), styles, strict=True):
            curve = np.asarray([found.at(kl)[k] for kl in grid])
            # The mean is drawn as far as every seed reaches.
            axis.plot(
                grid,
                np.where(np.isnan(curve).any(axis=1), np.nan, np.nan_to_num(curve).mean(axis=1)),
                style,
                lw=2,
                label=name,
            )
        axis.axvline(1.0, color="0.8", zorder=0)
        axis.set(xlabel="KL(π‖π_ref) during training (nats)", title=title)
    axes[0].set(ylabel=f"true expected reward, mean of {trained[METHODS[0]].kl.shape[-1]} seeds")
    axes[0].legend(frameon=False, loc="lower right")
    figure.suptitle(
        "Pairs make the policy gradient blind to what is added to a prompt's rewards; PPO needs a"
        " baseline for that"
    )
    return figure

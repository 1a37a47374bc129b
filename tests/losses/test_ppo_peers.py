"""Advantages and losses of PPO against stable-baselines3: the same numbers in its buffer.

Its whitening divides by deviation + 1e-8 where ours has √(variance + 1e-6); its critic pays the
squared error of the clipped value, ours half the larger of that and of the plain one.
"""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.gradients import loss_gradient
from prefsim.losses import TokenListLogps, TokenValues

pytest.importorskip("stable_baselines3", reason="the oracle: pip install stable-baselines3")

STEPS, LENGTHS = 12, (3, 4, 1, 4)
CLIP, VALUE_CLIP, WEIGHT = 0.2, 0.3, 0.1
RNG = np.random.default_rng(0)


def padded(flat):
    """Return one row an episode, ``(episodes, T)``, of a row of all steps."""
    table = np.zeros((len(LENGTHS), max(LENGTHS)))
    table[MASK] = flat
    return table


MASK = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
REWARDS, VALUES, OLD, NEW, NEW_VALUES = RNG.normal(size=(5, STEPS))
OLD, NEW, NEW_VALUES = -np.abs(OLD), -np.abs(NEW), VALUES + 0.4 * NEW_VALUES


def filled(trace, discount):
    """Return their buffer with our episodes, one after the other."""
    import gymnasium
    from stable_baselines3.common.buffers import RolloutBuffer

    spaces = gymnasium.spaces.Discrete(STEPS), gymnasium.spaces.Discrete(2)
    buffer = RolloutBuffer(STEPS, *spaces, gae_lambda=trace, gamma=discount)
    starts = np.cumsum([0, *LENGTHS[:-1]])
    for t in range(STEPS):
        buffer.add(
            np.array([t]),
            np.array([0]),
            np.array([REWARDS[t]]),
            np.array([t in starts]),
            torch.tensor([VALUES[t]]),
            torch.tensor([OLD[t]]),
        )
    # The last episode ends with the buffer: what comes after it is worth nothing.
    buffer.compute_returns_and_advantage(torch.tensor([99.0]), dones=np.array([True]))
    return buffer


@pytest.mark.parametrize(("trace", "discount"), [(0.95, 1.0), (0.0, 0.9), (1.0, 1.0), (0.5, 0.7)])
def test_advantages_of_episodes(trace, discount):
    theirs = filled(trace, discount)
    ours = losses.gae(padded(REWARDS), padded(VALUES), MASK, trace=trace, discount=discount)
    for mine, other in zip(ours, (theirs.advantages, theirs.returns), strict=True):
        np.testing.assert_allclose(mine[MASK], other[:, 0], rtol=2e-5, atol=2e-6)
        assert not mine[~MASK].any()


def trained(whiten):
    """Return the losses that their algorithm records for one step, and its gradients."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger

    logs, values = (torch.nn.Parameter(torch.tensor(x)) for x in (NEW, NEW_VALUES))
    environment = gymnasium.make("FrozenLake-v1")
    model = PPO(
        "MlpPolicy",
        environment,
        n_steps=STEPS,
        batch_size=STEPS,
        n_epochs=1,
        clip_range=CLIP,
        clip_range_vf=VALUE_CLIP,
        ent_coef=0.0,
        vf_coef=WEIGHT,
        normalize_advantage=whiten,
        max_grad_norm=1e9,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    model.rollout_buffer = filled(0.95, 1.0)
    # Steps are shuffled; their observation says which they are.
    order = []

    def evaluate(observations, actions):
        rows = observations.flatten().long()
        order.append(rows)
        return values[rows][:, None], logs[rows], None

    model.policy.evaluate_actions = evaluate
    model.policy.optimizer = torch.optim.SGD([logs, values], lr=0.0)
    model.train()
    assert sorted(torch.cat(order).tolist()) == list(range(STEPS))
    return model.logger.name_to_value, logs.grad.numpy(), values.grad.numpy()


@pytest.mark.parametrize("whiten", [False, True])
def test_the_loss_of_the_policy_and_its_gradient(whiten):
    recorded, slope, _ = trained(whiten)
    advantage, _ = losses.gae(padded(REWARDS), padded(VALUES), MASK)
    drawn = TokenListLogps(
        *(x[:, None] for x in (padded(NEW), 0 * MASK, MASK)),
        np.zeros((len(LENGTHS), 1)),
        padded(OLD)[:, None],
        advantage[:, None],
    )
    loss = functools.partial(
        losses.ppo, beta=0.0, clip_low=CLIP, clip_high=CLIP, reduction="batch", whiten=whiten
    )
    assert loss(drawn).mean() == pytest.approx(recorded["train/policy_gradient_loss"], abs=3e-6)
    ours = loss_gradient(loss, drawn).logp[:, 0][MASK] / len(LENGTHS)
    np.testing.assert_allclose(ours, slope, atol=3e-6)
    assert recorded["train/clip_fraction"] > 0.3 and (slope == 0).any() and (slope != 0).any()


def test_the_loss_of_the_critic_where_both_are_one():
    """Where no value moved beyond its clip, theirs is twice ours; elsewhere ours is no less."""
    recorded, _, slope = trained(False)
    _, returns = losses.gae(padded(REWARDS), padded(VALUES), MASK)
    said = TokenValues(*(x[:, None] for x in (padded(NEW_VALUES), returns, MASK, padded(VALUES))))
    ours = losses.value_loss(said, clip=VALUE_CLIP).mean()
    assert 2 * ours >= recorded["train/value_loss"] - 1e-6
    near = np.abs(NEW_VALUES - VALUES) <= VALUE_CLIP
    loss = functools.partial(losses.value_loss, clip=VALUE_CLIP)
    found = loss_gradient(loss, said).values[:, 0][MASK] / len(LENGTHS)
    np.testing.assert_allclose(2 * WEIGHT * found[near], slope[near], atol=3e-6)
    assert near.any()
    # Theirs sees the clipped value alone.
    clipped = padded(VALUES + np.clip(NEW_VALUES - VALUES, -VALUE_CLIP, VALUE_CLIP))
    squared = ((clipped - returns)[MASK] ** 2).mean()
    assert squared == pytest.approx(recorded["train/value_loss"], abs=3e-5)

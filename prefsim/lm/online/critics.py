"""Rounds of a policy and its critic: PPO with a value function.

The critic says before each token what the whole response is expected to be worth; what came is
compared with that, token by token, and trains both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator
from prefsim.checks import check_callable, check_integer, check_nonnegative
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.fitting import CausalLM
from prefsim.lm.model.token_critic import TokenCritic
from prefsim.lm.online.token_rewards import (
    TokenRewards,
    drawn_token_log_probs,
    paid_to_tokens,
)
from prefsim.loops.rounds import Draw, Trainer
from prefsim.losses.advantages import gae, kl_shaped_rewards
from prefsim.losses.value_function import value_loss
from prefsim.typing import Loss

__all__ = ["ActorCriticRound", "play_actor_critic", "with_values"]


def with_values(
    drawn: TextRollouts,
    critic: TokenCritic,
    *,
    reference: CausalLM | None = None,
    beta: float = 0.0,
    discount: float = 1.0,
    trace: float = 0.95,
    token_rewards: TokenRewards | None = None,
    batch_size: int = 8,
) -> TextRollouts:
    r"""Return drawn responses with advantages and returns, as a critic sees them.

    Parameters
    ----------
    drawn
        Token ids that a policy drew, with their rewards and, for a penalty, its log-probabilities.
    critic
        Says what to expect.
    reference, beta
        Every token is paid :math:`-\beta\log(\pi_{old}/\pi_{ref})`, and the last one the reward
        besides; nothing but the reward for ``beta=0``, the default. What is paid is in the
        advantages then, so that :func:`prefsim.losses.ppo` is to be given ``beta=0``.
    discount, trace
        γ and λ of :func:`prefsim.losses.gae`.
    token_rewards
        A function of what was drawn that returns what every token is paid besides, ``(n, K, T)``,
        such as :func:`prefsim.lm.log_ratio_token_rewards` makes.
    batch_size
        Sequences at once.

    Returns
    -------
    TextRollouts
        With ``advantage``, ``returns`` and ``old_values``, ``(n, K, T)``.

    Raises
    ------
    ValueError
        If a completion is not token ids, an option is out of range, a penalty is asked for without
        a reference or log-probabilities of the sampler, or ``token_rewards`` returns anything but a
        finite number for every token.

    References
    ----------
    Schulman et al. 2016, arXiv:1506.02438; for language models Ziegler et al. 2019,
    arXiv:1909.08593; with rewards of tokens Zhong et al. 2024 (RTO), arXiv:2404.18922.
    """
    check_nonnegative(beta=beta)
    check_integer(low=1, batch_size=batch_size)
    if token_rewards is not None:
        check_callable(token_rewards=token_rewards)
    mask = drawn.mask()
    n, k, _ = mask.shape
    prompts = [prompt for prompt in drawn.prompt for _ in range(k)]
    completions = [each for row in drawn.completions for each in row]

    old, ref = np.zeros(mask.shape), np.zeros(mask.shape)
    if beta > 0:
        if reference is None or drawn.old_logp is None:
            missing = "a reference" if reference is None else "old_logp of what was drawn"
            raise ValueError(f"beta = {beta:g} asks for a penalty, which needs {missing}")
        old = drawn.old_logp[..., : mask.shape[-1]]
        ref = drawn_token_log_probs(reference, drawn, batch_size=batch_size)
    expected = critic.numbers(prompts, completions, batch_size=batch_size)
    values = expected.double().cpu().numpy().reshape(n, k, -1)
    rewards = kl_shaped_rewards(drawn.scores, old, ref, mask, beta=beta)
    if token_rewards is not None:
        rewards = rewards + paid_to_tokens(token_rewards, drawn)
    advantage, returns = gae(rewards, values, mask, discount=discount, trace=trace)
    return TextRollouts(
        drawn.prompt,
        drawn.completions,
        drawn.scores,
        old_logp=drawn.old_logp,
        advantage=advantage,
        returns=returns,
        old_values=values,
        weight=drawn.weight,
    )


@readable
class ActorCriticRound(NamedTuple):
    """One round: what was drawn, with its advantages, and both models after training on it."""

    drawn: TextRollouts
    policy: CausalLM
    critic: TokenCritic


def play_actor_critic(
    policy: CausalLM,
    critic: TokenCritic,
    draw: Draw,
    loss: Loss,
    *,
    rounds: int,
    seed: Seed,
    train: Trainer,
    train_critic: Trainer | None = None,
    reference: CausalLM | None = None,
    beta: float = 0.0,
    discount: float = 1.0,
    trace: float = 0.95,
    token_rewards: TokenRewards | None = None,
    critic_loss: Loss = value_loss,
    batch_size: int = 8,
) -> Iterator[ActorCriticRound]:
    r"""Yield the rounds of a policy and a critic that learn from the policy's own responses.

    Parameters
    ----------
    policy, critic
        Where to start.
    draw
        Draws scored responses, such as :func:`~prefsim.lm.draw_scored` with ``form="lists"``.
    loss
        Of the policy, that reads advantages: :func:`prefsim.losses.ppo` with ``beta=0``, the
        penalty being in the advantages.
    rounds
        Number of rounds, >= 1.
    seed
        Of all draws.
    train, train_critic
        Functions of a model, a loss, data and a reference that return the next model, such as
        :func:`~prefsim.lm.trainer` makes; the critic is trained as the policy is unless given.
    reference, beta, discount, trace, token_rewards, batch_size
        As for :func:`with_values`.
    critic_loss
        :func:`prefsim.losses.value_loss` with its options.

    Yields
    ------
    ActorCriticRound

    Raises
    ------
    ValueError
        If ``rounds`` is out of range or something to call is none.

    References
    ----------
    Schulman et al. 2017, arXiv:1707.06347; Ivison et al. 2024, arXiv:2406.09279.

    Examples
    --------
    A language model learns to be short, with a critic that begins as a second copy of it::

        draw = draw_scored(prompts, lambda prompt, answer: -len(answer), n_samples=1)
        critic = TokenCritic(CausalLM.load(name), seed=0)
        loss = functools.partial(losses.ppo, beta=0.0, whiten=True)
        options = {"reference": policy, "beta": 0.05, "rounds": 10, "seed": 0}
        options |= {"train": trainer(learning_rate=1e-5), "train_critic": trainer(epochs=4)}
        for round in play_actor_critic(policy, critic, draw, loss, **options):
            print(round.drawn.scores.mean())
    """
    check_integer(low=1, rounds=rounds)
    learn = train if train_critic is None else train_critic
    check_callable(draw=draw, loss=loss, critic_loss=critic_loss, train=train, train_critic=learn)
    if token_rewards is not None:
        check_callable(token_rewards=token_rewards)
    seen: dict[str, Any] = {
        "reference": reference,
        "beta": beta,
        "discount": discount,
        "trace": trace,
        "token_rewards": token_rewards,
        "batch_size": batch_size,
    }

    def played(policy: CausalLM, critic: TokenCritic) -> Iterator[ActorCriticRound]:
        rng = random_generator(seed)
        for _ in range(rounds):
            drawn = with_values(draw(policy, policy, rng), critic, **seen)
            policy = train(policy, loss, drawn, reference)
            critic = learn(critic, critic_loss, drawn, None)
            yield ActorCriticRound(drawn, policy, critic)

    return played(policy, critic)

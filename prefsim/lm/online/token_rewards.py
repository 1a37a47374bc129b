"""Rewards of the tokens that a language model draws: the log-ratio of a trained model, and a table.

A response is a path of prefixes, and what is paid with each token says which of them it owes its
reward to. The log-ratio of a model trained by DPO to its reference is such a reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import as_float_array, check_integer, check_kind, check_shape
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.fitting import CausalLM
from prefsim.lm.model.tokens import Text
from prefsim.losses.token_rewards import log_ratio_rewards

__all__ = [
    "RewardedTokens",
    "TokenRewards",
    "drawn_token_log_probs",
    "log_ratio_token_rewards",
    "paid_to_tokens",
    "rewarded_tokens",
]

TokenRewards = Callable[[TextRollouts], Any]
"""Takes drawn responses and returns what every token is paid, ``(n, K, T)``, 0 behind the end."""


def drawn_token_log_probs(policy: CausalLM, drawn: TextRollouts, *, batch_size: int) -> np.ndarray:
    """Return the log-probability of every drawn token, ``(n, K, T)`` in nats, 0 behind the end."""
    n, k = drawn.scores.shape
    prompts = [prompt for prompt in drawn.prompt for _ in range(k)]
    completions = [each for row in drawn.completions for each in row]
    found, _ = policy.token_log_probs(prompts, completions, batch_size=batch_size)
    table: np.ndarray = found.double().cpu().numpy().reshape(n, k, found.shape[-1])
    return table


def log_ratio_token_rewards(
    trained: CausalLM,
    reference: CausalLM,
    *,
    scale: float = 0.05,
    clip: float = 0.05,
    batch_size: int = 8,
) -> TokenRewards:
    r"""Return what pays every token the log-ratio of two models, for rounds of a critic.

    .. math:: r_t = \mathrm{clip}\Big(\beta_1\log\frac{\pi(y_t)}{\pi_{ref}(y_t)}, \pm c\Big)

    Parameters
    ----------
    trained, reference
        A model trained by DPO, say, and the one that it was trained from. Neither is trained on.
    scale, clip
        β₁ and c of :func:`prefsim.losses.log_ratio_rewards`; those of the authors' release unless
        given.
    batch_size
        Sequences at once.

    Returns
    -------
    Function for ``token_rewards`` of :func:`prefsim.lm.play_actor_critic` and
    :func:`prefsim.lm.with_values`.

    References
    ----------
    Zhong et al. 2024 (RTO), arXiv:2404.18922.

    Examples
    --------
    Reinforced token optimisation, after DPO has made ``trained`` of ``policy``::

        options = {"reference": policy, "beta": 0.01, "rounds": 10, "seed": 0, "train": train}
        pays = log_ratio_token_rewards(trained, policy)
        play_actor_critic(policy, critic, draw, loss, token_rewards=pays, **options)
    """
    check_kind(CausalLM, trained=trained, reference=reference)
    check_integer(low=1, batch_size=batch_size)
    # Options are refused before anything is drawn.
    log_ratio_rewards(np.zeros(1), np.zeros(1), np.ones(1, dtype=bool), scale=scale, clip=clip)

    def pays(drawn: TextRollouts) -> np.ndarray:
        logp, ref = (
            drawn_token_log_probs(each, drawn, batch_size=batch_size)
            for each in (trained, reference)
        )
        return log_ratio_rewards(logp, ref, drawn.mask(), scale=scale, clip=clip)

    return pays


def paid_to_tokens(token_rewards: TokenRewards, drawn: TextRollouts) -> np.ndarray:
    """Return what a function pays drawn tokens, ``(n, K, T)``, 0 behind the end, or raise."""
    mask = drawn.mask()
    paid = as_float_array(token_rewards(drawn), "what token_rewards returns", ndim=3)
    check_shape(paid, "what token_rewards returns", mask.shape)
    return np.where(mask, paid, 0.0)


@readable
class RewardedTokens(NamedTuple):
    """The tokens of a completion with their rewards.

    Attributes
    ----------
    tokens
        As they read, in order.
    rewards
        What each is paid, ``(T,)``.
    """

    tokens: tuple[str, ...]
    rewards: np.ndarray

    def table(self, *, width: int = 20) -> str:
        """Return a line for each token: its reward, a bar of at most ``width``, and its text.

        Bars grow to the left for a fine and to the right for a gain.

        Examples
        --------
        >>> print(RewardedTokens((" good", " dull"), np.array([1.0, -0.5])).table(width=4))
          +1.000      |++++  ' good'
          -0.500    --|      ' dull'
        """
        check_integer(low=1, width=width)
        largest = max(float(np.abs(self.rewards).max(initial=0.0)), 1e-300)
        lines = []
        for token, reward in zip(self.tokens, self.rewards.tolist(), strict=True):
            bar = round(width * abs(reward) / largest)
            left, right = ("", "+" * bar) if reward >= 0 else ("-" * bar, "")
            lines.append(f"{reward:+8.3f}  {left:>{width}}|{right:<{width}}  {token!r}")
        return "\n".join(lines)


def rewarded_tokens(
    trained: CausalLM,
    reference: CausalLM,
    prompt: Text,
    completion: Text,
    *,
    scale: float = 1.0,
    clip: float = math.inf,
) -> RewardedTokens:
    """Return the tokens of a completion with the log-ratios of two models as rewards.

    Parameters
    ----------
    trained, reference
        Of one tokenizer: a model trained by DPO, say, and the one that it was trained from.
    prompt, completion
        Text, chat messages or token ids. A completion in text gets its end token.
    scale, clip
        Of :func:`prefsim.losses.log_ratio_rewards`: rewards in nats unless given.

    Raises
    ------
    ValueError
        If the two models read the text as different tokens.
    """
    check_kind(CausalLM, trained=trained, reference=reference)
    (row,), (other,) = (each.encode([prompt], [completion]) for each in (trained, reference))
    if row != other:
        raise ValueError("trained and reference must read the text as the same tokens")
    ids = row.completion_ids
    logp, ref = (
        each.token_log_probs([row.prompt_ids], [ids])[0].double().cpu().numpy()[0]
        for each in (trained, reference)
    )
    rewards = log_ratio_rewards(logp, ref, np.ones(len(ids), bool), scale=scale, clip=clip)
    if trained.tokenizer is None:
        return RewardedTokens(tuple(str(token) for token in ids), rewards)
    return RewardedTokens(tuple(trained.tokenizer.decode([token]) for token in ids), rewards)

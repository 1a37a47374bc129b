"""Rounds of a policy with several rewards, each held at a threshold by a multiplier learned along.

Every reward has a critic of its own, and so has the penalty. What they say of the drawn tokens is
mixed by the multipliers, and the mixture trains the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator
from prefsim.checks import as_float_array, check_callable, check_choice, check_flag, check_integer
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.fitting import CausalLM
from prefsim.lm.model.token_critic import TokenCritic
from prefsim.lm.online.critics import with_values
from prefsim.lm.online.scores import Score, completion_scores
from prefsim.loops.rounds import Draw, Trainer
from prefsim.losses.multipliers import KINDS, Multipliers, mixed_advantage, multiplier_step
from prefsim.losses.value_function import value_loss
from prefsim.typing import Loss

__all__ = ["ConstrainedRound", "mean_score", "mixed_rollouts", "play_constrained", "rescored"]


def rescored(
    policy: CausalLM, drawn: TextRollouts, score: Score, *, batched: bool = False
) -> TextRollouts:
    """Return drawn responses with what another reward says of them.

    Parameters
    ----------
    policy
        Drew them; reads token ids where it has a tokenizer and the reward reads text.
    drawn
        Responses, with their log-probabilities and weights, which stay.
    score, batched
        As for :func:`~prefsim.lm.completion_scores`; every response has to have a score.

    Raises
    ------
    ValueError
        If a response has no finite score.
    """
    check_callable(score=score)
    check_flag(batched=batched)
    read: Any = drawn.completions
    if policy.tokenizer is not None:
        read = [[policy.decode(each) for each in row] for row in read]
    scores = completion_scores(score, drawn.prompt, read, batched=batched)
    if np.isnan(scores).any():
        row, k = np.argwhere(np.isnan(scores))[0]
        raise ValueError(
            f"score must be a number for every response, got none for completion {k} of prompt"
            f" {row}"
        )
    return TextRollouts(
        drawn.prompt, drawn.completions, scores, old_logp=drawn.old_logp, weight=drawn.weight
    )


def mean_score(drawn: TextRollouts) -> float:
    """Return the mean reward of drawn responses, by the weights of their prompts.

    Examples
    --------
    >>> mean_score(TextRollouts([[1], [2]], [[[3]], [[4]]], [[0.0], [1.0]], weight=[1.0, 3.0]))
    0.75
    """
    return float(drawn.scores.mean(axis=-1) @ drawn.weight / drawn.weight.sum())


def mixed_rollouts(
    penalty: TextRollouts,
    rewards: Sequence[TextRollouts],
    raw: Any,
    *,
    kind: str = "sigmoid",
    normalise: bool = True,
) -> TextRollouts:
    """Return drawn responses with the advantages of the Lagrangian.

    Parameters
    ----------
    penalty, rewards
        The same responses with the advantages of the penalty alone, and of each reward alone, as
        :func:`~prefsim.lm.with_values` gives them.
    raw, kind, normalise
        As for :func:`prefsim.losses.mixed_advantage`, over all tokens of the batch.

    Returns
    -------
    TextRollouts
        With the scores of the first reward, and the mixed ``advantage``.

    Raises
    ------
    ValueError
        If one of them has no advantages, or shapes do not fit.
    """
    advantages = [each.advantage for each in (penalty, *rewards)]
    if any(each is None for each in advantages):
        raise ValueError("responses must have advantages to be mixed: see with_values")
    lengths = penalty.lengths()
    mask = np.arange(int(lengths.max(initial=0))) < lengths[..., None]
    first, *others = (each[..., : mask.shape[-1]] for each in advantages if each is not None)
    mixed = mixed_advantage(first, np.stack(others), raw, kind=kind, normalise=normalise, mask=mask)
    return TextRollouts(
        penalty.prompt,
        penalty.completions,
        rewards[0].scores,
        old_logp=penalty.old_logp,
        advantage=mixed,
        weight=penalty.weight,
    )


@readable
class ConstrainedRound(NamedTuple):
    """One round.

    Attributes
    ----------
    drawn
        What the policy of the round before drew, with the mixed advantages.
    achieved
        Mean rewards of that, ``(m,)``.
    policy, critics, multipliers
        After training on it; the critics are those of the rewards and, last, of the penalty.
    """

    drawn: TextRollouts
    achieved: np.ndarray
    policy: CausalLM
    critics: tuple[TokenCritic, ...]
    multipliers: Multipliers


def play_constrained(
    policy: CausalLM,
    critics: Sequence[TokenCritic],
    draw: Draw,
    scores: Sequence[Score],
    loss: Loss,
    *,
    thresholds: Any,
    rounds: int,
    seed: Seed,
    train: Trainer,
    train_critics: Sequence[Trainer],
    reference: CausalLM,
    beta: float = 0.2,
    kind: str = "sigmoid",
    normalise: bool = True,
    multipliers: Multipliers | None = None,
    step: Callable[..., Multipliers] = multiplier_step,
    discount: float = 1.0,
    trace: float = 0.95,
    critic_loss: Loss = value_loss,
    batched: bool = False,
    batch_size: int = 8,
) -> Iterator[ConstrainedRound]:
    r"""Yield the rounds of a policy that holds m rewards at thresholds: constrained PPO.

    Parameters
    ----------
    policy, critics
        Where to start; one critic for each reward and, last, one for the penalty.
    draw
        Draws responses with any scores, such as :func:`~prefsim.lm.draw_scored` with
        ``form="lists"`` and the first reward.
    scores
        The m rewards, which score what was drawn: functions, or reward models.
    loss
        Of the policy, that reads advantages: :func:`prefsim.losses.ppo` with ``beta=0``.
    thresholds
        θ, ``(m,)``, of mean rewards.
    rounds
        Number of rounds, >= 1.
    seed
        Of all draws.
    train
        Function of a model, a loss, data and a reference that returns the next model, such as
        :func:`~prefsim.lm.trainer` makes.
    train_critics
        One for each critic: a trainer goes on with the optimiser of its own model.
    reference, beta
        Every token is paid :math:`-\beta\log(\pi_{old}/\pi_{ref})`, which the last critic values.
        It is in no reward, so that it counts once.
    kind, normalise
        As for :func:`prefsim.losses.mixed_advantage`: ``"sigmoid"`` holds rewards at or above their
        thresholds (μ-PPO), ``"tanh"`` at them (ξ-PPO). With advantages normalised, as in the
        release, ``beta`` is without effect.
    multipliers
        Where to start; at rest at zero unless given.
    step
        :func:`prefsim.losses.multiplier_step` with its options, called once a round.
    discount, trace, batch_size
        As for :func:`~prefsim.lm.with_values`.
    critic_loss
        :func:`prefsim.losses.value_loss` with its options.
    batched
        Whether the rewards take lists of prompts and of responses.

    Yields
    ------
    ConstrainedRound

    Raises
    ------
    ValueError
        If the numbers of rewards, thresholds, critics and trainers do not fit, an option is out of
        range or something to call is none.

    References
    ----------
    Moskovitz et al. 2023, arXiv:2310.04373.

    Examples
    --------
    A language model whose answers are about forty characters long and end with a full stop nine
    times in ten::

        scores = [lambda prompt, answer: len(answer) / 100, lambda p, a: float(a.endswith("."))]
        critics = [TokenCritic(CausalLM.load(name), seed=i) for i in range(3)]
        options = {"thresholds": [0.4, 0.9], "kind": "tanh", "reference": CausalLM.load(name)}
        options |= {"train": trainer(learning_rate=1e-6), "rounds": 100, "seed": 0}
        options |= {"train_critics": [trainer(learning_rate=1e-5) for _ in critics]}
        draw = draw_scored(prompts, scores[0], n_samples=1, max_new_tokens=20)
        loss = functools.partial(losses.ppo, beta=0.0)
        for played in play_constrained(policy, critics, draw, scores, loss, **options):
            print(played.achieved, played.multipliers.raw)
    """
    check_integer(low=1, rounds=rounds)
    check_choice(KINDS, kind=kind)
    check_callable(draw=draw, loss=loss, critic_loss=critic_loss, train=train, step=step)
    for each in train_critics:
        check_callable(train_critics=each)
    held = as_float_array(thresholds, "thresholds", ndim=1)
    m = len(scores)
    if m == 0 or not held.size == len(critics) - 1 == len(train_critics) - 1 == m:
        raise ValueError(
            "there must be a threshold for each reward, and a critic and its trainer for each and"
            f" for the penalty, got {m} scores, {held.size} thresholds, {len(critics)} critics and"
            f" {len(train_critics)} train_critics"
        )
    state = Multipliers.starting(np.zeros(m)) if multipliers is None else multipliers
    seen: dict[str, Any] = {"discount": discount, "trace": trace, "batch_size": batch_size}
    paid: dict[str, Any] = seen | {"reference": reference, "beta": beta}

    def played(
        policy: CausalLM, critics: tuple[TokenCritic, ...], state: Multipliers
    ) -> Iterator[ConstrainedRound]:
        rng = random_generator(seed)
        for _ in range(rounds):
            drawn = draw(policy, policy, rng)
            each = [rescored(policy, drawn, score, batched=batched) for score in scores]
            valued = [with_values(*pair, **seen) for pair in zip(each, critics[:-1], strict=True)]
            unrewarded = rescored(policy, drawn, lambda prompts, answers: 0.0)
            penalty = with_values(unrewarded, critics[-1], **paid)
            mixed = mixed_rollouts(penalty, valued, state.raw, kind=kind, normalise=normalise)
            achieved = np.asarray([mean_score(part) for part in each])
            state = step(state, achieved, held, kind=kind)
            policy = train(policy, loss, mixed, reference)
            critics = tuple(
                learn(critic, critic_loss, data, None)
                for learn, critic, data in zip(
                    train_critics, critics, [*valued, penalty], strict=True
                )
            )
            yield ConstrainedRound(mixed, achieved, policy, critics, state)

    return played(policy, tuple(critics), state)

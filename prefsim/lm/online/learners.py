r"""Language models as online learners: they read what every action has cost, and name one.

What a model plays in a round is its distribution over the tokens that name the actions, at the end
of a text that tells the rounds before; nothing is sampled, so that the expected loss
:math:`\langle\ell_t,\pi_t\rangle` has a gradient, and the regret-loss trains the model through all
of its rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefsim.backend import Seed, random_generator
from prefsim.checks import as_float_array, check_callable, check_integer, check_kind, check_positive
from prefsim.lm.model.encoding import encode
from prefsim.lm.model.head import accumulator
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Text, collate
from prefsim.loops.online_play import Learner
from prefsim.losses.online import regret_loss

__all__ = [
    "RegretTraining",
    "TextGame",
    "action_ids",
    "action_log_probs",
    "told_losses",
    "train_on_regret",
    "text_decisions",
    "text_learner",
]


def told_losses(history: np.ndarray, names: Sequence[str] = ("A", "B")) -> str:
    """Return the rounds before as a text that ends where an action is to be named.

    Parameters
    ----------
    history
        Losses ``(t, d)``; none in the first round.
    names
        Of the d actions.

    Examples
    --------
    >>> import numpy as np
    >>> print(told_losses(np.array([[0.5, 0.0]])))
    In every round choose one action, A or B. You then see what each would have cost. Pay as little
    as you can in total.
    Round 1: A cost 0.50, B cost 0.00.
    Round 2: I choose action
    """
    start = (
        f"In every round choose one action, {' or '.join(names)}. You then see what each would have"
        " cost. Pay as little\nas you can in total.\n"
    )
    rounds = [
        f"Round {t}: " + ", ".join(f"{n} cost {x:.2f}" for n, x in zip(names, row, strict=True))
        for t, row in enumerate(history, start=1)
    ]
    told = "".join(f"{each}.\n" for each in rounds)
    return f"{start}{told}Round {len(history) + 1}: I choose action"


class TextGame(NamedTuple):
    """How rounds are told, and how actions are named.

    Attributes
    ----------
    describe
        From the losses before, ``(t, d)``, to a prompt: text, chat messages or token ids.
    actions
        For each action what names it behind a prompt, one token: text such as ``" A"``, or an id.
    """

    describe: Callable[[np.ndarray], Text] = told_losses
    actions: Sequence[str | int] = (" A", " B")


def action_ids(policy: CausalLM, game: TextGame) -> list[int]:
    """Return the token of every action, or raise unless each is one and all are different."""
    check_kind(CausalLM, policy=policy)
    check_callable(describe=game.describe)
    first = game.describe(np.empty((0, len(game.actions))))
    ids = []
    for action in game.actions:
        if not isinstance(action, str):
            check_integer(low=0, high=policy.vocabulary_size - 1, actions=action)
            ids.append(int(action))
            continue
        found = encode(
            policy.tokenizer,
            first,
            action,
            append_eos=False,
            chat_template_kwargs=policy.chat_template_kwargs,
        )
        tokens = [t for t in found.completion_ids if t not in policy.end_ids]
        if len(tokens) != 1:
            raise ValueError(
                f"actions must be one token each, got {len(tokens)} tokens for {action!r}"
            )
        ids += tokens
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise ValueError(f"actions must be two or more different tokens, got {ids}")
    return ids


def action_log_probs(
    policy: CausalLM, prompts: Sequence[Text], action_ids: Sequence[int]
) -> Tensor:
    r"""Return log-probabilities of actions as the next token of prompts, ``(n, d)``, normalised.

    One forward; differentiable in the parameters of the model outside :func:`torch.no_grad`.

    Parameters
    ----------
    policy
        The model.
    prompts
        Text, chat messages or token ids.
    action_ids
        The tokens of d actions; the probabilities of all others are left out.

    Raises
    ------
    ValueError
        If a prompt is empty or too long for the model.
    """
    ids = list(action_ids)
    # With a completion of one token, `encode` says what generation is to see before it.
    rows = policy.encode(prompts, [[ids[0]]] * len(prompts))
    module = policy.log_prob_model
    check_positions(module.plain, [len(row.prompt_ids) for row in rows])
    batch = collate(rows, pad_id=policy.pad_id, device=policy.device)
    hidden, head = module.states(batch, adapters=policy.adapters)
    assert batch.scored is not None
    # The state before a completion is that which predicts it.
    last = hidden.reshape(-1, hidden.shape[-1])[batch.scored.positions - 1]
    wide = accumulator(last.dtype)
    logits = last.to(wide) @ head.weight[ids].to(wide).T
    if head.bias is not None:
        logits = logits + head.bias[ids].to(wide)
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return torch.log_softmax(logits, dim=-1)


def text_learner(policy: CausalLM, game: TextGame | None = None) -> Learner:
    """Return the learner that plays what a model says at the end of the rounds that it is told.

    All histories of a batch are one forward.

    Parameters
    ----------
    policy
        The model.
    game
        How rounds are told, and how actions are named; two actions, told by :func:`told_losses`,
        unless given.

    Returns
    -------
    Learner, see :mod:`prefsim.loops.online_play`.

    Raises
    ------
    ValueError
        If an action is not one token, or two are the same.
    """
    game = TextGame() if game is None else game
    ids = action_ids(policy, game)

    def learner(history: np.ndarray) -> np.ndarray:
        lead, (rounds, actions) = history.shape[:-2], history.shape[-2:]
        if actions != len(ids):
            raise ValueError(f"losses must be of {len(ids)} actions, got {actions}")
        each = history.reshape(math.prod(lead), rounds, actions)
        prompts = [game.describe(one) for one in each]
        with evaluating(policy.log_prob_model):
            log_probs = action_log_probs(policy, prompts, ids)
        probs = torch.exp(log_probs.double()).cpu().numpy()
        return np.asarray(probs / probs.sum(axis=-1, keepdims=True)).reshape(*lead, actions)

    return learner


def text_decisions(policy: CausalLM, losses: Any, game: TextGame | None = None) -> Tensor:
    """Return what a model plays at every round of sequences, ``(n, T, d)``, differentiable.

    One forward a round; the decision of a round is told the losses before it alone.

    Parameters
    ----------
    policy
        The model.
    losses
        ``(n, T, d)``.
    game
        As for :func:`text_learner`.
    """
    game = TextGame() if game is None else game
    ids = action_ids(policy, game)
    given = as_float_array(losses, "losses", ndim=3)
    decided = [
        torch.exp(action_log_probs(policy, [game.describe(each[:t]) for each in given], ids))
        for t in range(given.shape[1])
    ]
    return torch.stack(decided, dim=1)


class RegretTraining(NamedTuple):
    """A model trained by the regret-loss.

    Attributes
    ----------
    policy
        The trained model, a copy.
    loss
        The regret-loss before each step, ``(steps,)``.
    """

    policy: CausalLM
    loss: np.ndarray


def train_on_regret(
    policy: CausalLM,
    draw: Callable[[np.random.Generator], Any],
    *,
    game: TextGame | None = None,
    steps: int,
    learning_rate: float = 1e-4,
    seed: Seed = 0,
    **options: Any,
) -> RegretTraining:
    """Train a model by the regret-loss of what it plays, through all of its rounds, without labels.

    Parameters
    ----------
    policy
        Where training starts; it stays as it is.
    draw
        Gives the losses ``(N, T, d)`` of one step from a generator.
    game
        As for :func:`text_learner`.
    steps
        Of Adam, >= 1.
    learning_rate
        > 0.
    seed
        Of the draws.
    **options
        Of :func:`prefsim.losses.regret_loss`, such as ``k``.

    Returns
    -------
    RegretTraining

    Raises
    ------
    ValueError
        If an option is out of range, or as :func:`text_learner`.

    References
    ----------
    Park et al. 2024, arXiv:2403.16843.
    """
    check_integer(low=1, steps=steps)
    check_positive(learning_rate=learning_rate)
    check_callable(draw=draw)
    trained = policy.frozen()
    parameters = [
        new
        for new, old in zip(trained.module.parameters(), policy.module.parameters(), strict=True)
        if old.requires_grad
    ]
    for parameter in parameters:
        parameter.requires_grad_(True)
    rng = random_generator(seed)
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    path = []
    for _ in range(steps):
        losses = as_float_array(draw(rng), "losses", ndim=3)
        decisions = text_decisions(trained, losses, game)
        value = regret_loss(decisions, decisions.new_tensor(losses), **options)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        path.append(float(value.detach()))
    return RegretTraining(trained, np.array(path))

"""The critic of ``prefsim rounds``.

What it starts from, how it learns, and what the policy then learns from it.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import check_interval, check_positive
from prefsim.containers import TokenListLogps
from prefsim.lm.command.scorers import holds_scorer, stored_scorer
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.token_critic import TokenCritic
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.precision import copy_of_trained
from prefsim.losses.registry import container_of
from prefsim.losses.value_function import value_loss
from prefsim.numerics import to_numpy
from prefsim.typing import Loss

__all__ = ["CriticPlan", "critic_of", "critic_plan", "explained_variance"]

# What --critic may say besides the path of a model.
FRESH = "fresh"
# What each option is unless given; None is as the policy has it.
_UNLESS_GIVEN: dict[str, float | None] = {
    "critic_learning_rate": None,
    "critic_epochs": None,
    "critic_clip": 0.2,
    "discount": 1.0,
    "trace": 0.95,
}


class CriticPlan(NamedTuple):
    """How a value function learns along.

    Attributes
    ----------
    loss
        Of the policy, which reads the advantages that the critic gives, without the penalty that
        is in them.
    beta
        What every token is fined for each nat above the reference, in units of the reward.
    discount, trace
        γ and λ of :func:`prefsim.losses.gae`.
    critic_loss
        :func:`prefsim.losses.value_loss` with its options.
    learning_rate, epochs
        Of the critic; None as for the policy.
    """

    loss: Loss
    beta: float
    discount: float
    trace: float
    critic_loss: Loss
    learning_rate: float | None
    epochs: float | None

    def training_options(self, of_policy: TrainingOptions) -> TrainingOptions:
        """Return how the critic is trained in a round in which the policy is trained so."""
        # Packed rows are for log-probabilities.
        changed: dict[str, Any] = {"in_place": True, "packing": False}
        if self.learning_rate is not None:
            changed["learning_rate"] = self.learning_rate
        if self.epochs is not None:
            changed |= {"epochs": self.epochs, "steps": None}
        return replace(of_policy, **changed)

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides where the rounds end, for their fingerprint."""
        return {
            "critic_learning_rate": self.learning_rate,
            "critic_epochs": self.epochs,
            "critic_clip": _options_of(self.critic_loss)["clip"],
            "discount": self.discount,
            "trace": self.trace,
        }


def critic_plan(given: Mapping[str, Any], loss: Loss) -> CriticPlan | None:
    """Return how the critic that was asked for learns along; None without one.

    Raises
    ------
    ValueError
        If an option is out of range or has no critic, or the loss does not read advantages.
    """
    if given["critic"] is None:
        asked = next((name for name in _UNLESS_GIVEN if given[name] is not None), None)
        if asked is not None:
            spelling = asked.replace("_", "-")
            raise ValueError(f"--{spelling} needs --critic, got {given[asked]} without")
        return None
    told: dict[str, Any] = {
        name: value if given[name] is None else given[name] for name, value in _UNLESS_GIVEN.items()
    }
    steady: dict[str, Any] = {name: told[name] for name in ("discount", "trace")}
    check_interval(low=0.0, high=1.0, closed="both", **steady)
    check_interval(low=0.0, high=math.inf, closed="right", critic_clip=told["critic_clip"])
    for name in ("critic_learning_rate", "critic_epochs"):
        if told[name] is not None:
            check_positive(**{name: told[name]})
    if not _reads_advantages(loss):
        raise ValueError(
            f"--critic gives advantages of tokens, which ppo reads, got --loss {given['loss']}"
        )
    beta = _paid_penalty(loss)
    if beta > 0 and given["reference"] in ("last", "none"):
        raise ValueError(
            f"beta = {beta:g} fines every token by its log-ratio to a reference that stays, got"
            f" --reference {given['reference']}; --set beta=0 fines none"
        )
    return CriticPlan(
        loss=functools.partial(loss, beta=0.0) if beta > 0 else loss,
        beta=beta,
        discount=told["discount"],
        trace=told["trace"],
        # As tokens and responses are weighed for the policy.
        critic_loss=functools.partial(
            value_loss,
            clip=told["critic_clip"],
            reduction=_options_of(loss).get("reduction", "batch"),
        ),
        learning_rate=told["critic_learning_rate"],
        epochs=told["critic_epochs"],
    )


def _options_of(loss: Any) -> dict[str, Any]:
    """Return the options of a loss by name, as they were given or as they are declared."""
    declared = {
        parameter.name: parameter.default
        for parameter in inspect.signature(loss).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return declared | getattr(loss, "keywords", {})


def _reads_advantages(loss: Loss) -> bool:
    """Return whether the value of a loss depends on the advantages of tokens, by trying."""
    if container_of(loss) is not TokenListLogps:
        return False
    tokens = TokenListLogps.example()
    assert tokens.advantage is not None
    turned = tokens._replace(advantage=-tokens.advantage)
    return not np.array_equal(to_numpy(loss(tokens)), to_numpy(loss(turned)))


def _paid_penalty(loss: Loss) -> float:
    """Return the β of a loss whose KL penalty is in the reward, where a critic is to see it."""
    options = _options_of(loss)
    return float(options.get("beta", 0.0)) if options.get("kl") == "reward" else 0.0


def critic_of(given: Mapping[str, Any], policy: CausalLM, *, load: bool) -> TokenCritic:
    """Return what the critic starts from: a fresh head on a copy of the policy, or a saved model.

    The frozen parameters of a policy with adapters are shared, and the critic gets adapters like
    its own.

    Raises
    ------
    ValueError
        If the saved model is none that gives one number, or reads other tokens than the policy.
    """
    what = given["critic"]
    if what == FRESH:
        copied = copy_of_trained(policy)
        assert isinstance(copied, CausalLM)
        return TokenCritic(copied, seed=given["seed"])
    if not holds_scorer(what):
        raise ValueError(
            f"--critic must be {FRESH} or the folder of a reward model or a critic, got {what!r}"
        )
    template = policy.chat_template_kwargs
    # It must read what the policy writes; its own tokenizer says whether it does.
    critic: Any = stored_scorer(
        TokenCritic, what, {**given, "tokenizer": None}, template, load=load
    )
    if critic.dim != 1:
        raise ValueError(f"--critic {what} must give one number, got one that gives {critic.dim}")
    _check_tokens(critic, policy, what)
    critic.tokenizer = policy.tokenizer
    return critic


def _check_tokens(critic: TokenCritic, policy: CausalLM, name: str) -> None:
    if critic.vocabulary_size != policy.vocabulary_size:
        raise ValueError(
            f"--critic {name} must have the vocabulary of the policy, {policy.vocabulary_size}"
            f" tokens, got {critic.vocabulary_size}"
        )
    if critic.tokenizer is None or policy.tokenizer is None:
        return
    own, theirs = (model.tokenizer.get_vocab() for model in (critic, policy))
    differing = sorted(theirs.items() - own.items(), key=lambda item: item[1])
    if differing:
        word, token = differing[0]
        raise ValueError(
            f"--critic {name} must have the tokenizer of the policy, where token {token} is"
            f" {word!r}, got one where {word!r} is {own.get(word, 'none')}"
        )


def explained_variance(drawn: TextRollouts) -> float | None:
    """Return the share of the variance of the returns that the values had foreseen.

    1 for a value function that knows them, 0 for one that is constant, less for worse; None where
    the returns do not vary.
    """
    assert drawn.returns is not None
    assert drawn.old_values is not None
    mask = drawn.mask()
    width = mask.shape[-1]
    returns, values = drawn.returns[..., :width][mask], drawn.old_values[..., :width][mask]
    spread = float(np.var(returns))
    return None if spread == 0 else 1 - float(np.var(returns - values)) / spread

"""From the options of ``prefsim rounds`` to what its loop needs, all checked first."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from prefsim.checks import check_choice, check_integer, check_positive
from prefsim.lm.command.job import (
    DTYPES,
    check_folder,
    check_given,
    reference_of,
    template_options,
)
from prefsim.lm.command.messages import Row, as_written
from prefsim.lm.command.models import check_masks_asked, policy_of
from prefsim.lm.command.rounds_critic import CriticPlan, critic_of, critic_plan
from prefsim.lm.command.scorers import stored_scorer
from prefsim.lm.command.settings import configured_loss, own_function
from prefsim.lm.command.sources import open_source
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.preference_model import PreferenceModel
from prefsim.lm.model.reference_logps import model_hash, rows_hash
from prefsim.lm.model.token_critic import TokenCritic
from prefsim.lm.model.tokens import Text
from prefsim.lm.online.scored_data import check_form, form_for
from prefsim.lm.online.scores import Score
from prefsim.lm.training.fingerprint import loss_name
from prefsim.lm.training.options import TrainingOptions
from prefsim.losses.catalogue import reads_reference
from prefsim.typing import Loss

__all__ = ["LAST", "RoundsJob", "key_of", "read_rounds", "round_options"]

LAST = "last"
# What `prefsim train` can be asked for besides.
_AS_LOADED = {
    "merge": False,
    "lora_target": None,
    "precompute": False,
}


class RoundsJob(NamedTuple):
    """Everything that the rounds of the command need.

    Attributes
    ----------
    given
        The options of the command by name.
    loss, form
        The loss with its options, and the form of the data that it takes.
    policy, reference
        What learns, and what it is held to; ``"last"`` for itself before each round.
    prompts, score
        What is asked, and the reward.
    scored_by
        Tells the reward from every other: a digest of a model or of a function as it is written.
    batched
        Whether the score takes all completions at once.
    lengths, asked
        Tokens of each prompt, and a digest of all as the model reads them.
    plan, critic
        How a value function learns along, and the one that it starts from; None without.
    reward_model
        Whose rewards the score is, or None for a function.
    """

    given: Mapping[str, Any]
    loss: Loss
    form: str
    policy: CausalLM
    reference: CausalLM | str | None
    prompts: list[Text]
    score: Score
    scored_by: str
    batched: bool
    lengths: list[int]
    asked: str
    plan: CriticPlan | None
    critic: TokenCritic | None
    reward_model: PreferenceModel | None

    @property
    def holds_policy(self) -> bool:
        """Whether the loss of the policy is to see the reference."""
        # What a critic's penalty is relative to is in the advantages.
        return self.reference is not None and (self.plan is None or reads_reference(self.plan.loss))


def read_rounds(options: Mapping[str, Any], *, load: bool = True) -> RoundsJob:
    """Read and check everything, before a model is loaded where that is possible.

    Parameters
    ----------
    options
        Of the command by name.
    load
        False for models without memory, of the same sizes.

    Raises
    ------
    ValueError
        If anything is missing, cannot be read or does not fit the rest.
    """
    given = {**_AS_LOADED, **options}
    check_given(given, "loss", "model", "prompts", *(["out"] if load else []))
    if (given["score"] is None) == (given["reward_model"] is None):
        raise ValueError("one of --score and --reward-model must be given, which is the reward")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "rounds run in one process, which draws the completions and learns from them; got"
            f" {os.environ['WORLD_SIZE']} launched together"
        )
    for name in ("number", "samples", "max_new_tokens", "sample_batch", "keep"):
        check_integer(low=1, **{"rounds" if name == "number" else name: given[name]})
    check_integer(low=0, lora_rank=given["lora_rank"], save_every=given["save_every"])
    check_positive(temperature=given["temperature"])
    check_choice(DTYPES, dtype=given["dtype"])
    loss = configured_loss(given["loss"], given["settings"])
    check_masks_asked(given, loss)
    form = form_for(loss)
    check_form(form, given["samples"], given["kept"], given["kept_temperature"])
    plan = critic_plan(given, loss)
    of_policy = round_options(given, 0)
    if plan is not None:
        plan.training_options(of_policy)
    check_folder(given["out"], resume=given["resume"])
    prompts, rows = _read_prompts(given["prompts"], given["split"])
    if given["per_round"] is not None:
        check_integer(low=1, high=len(prompts), per_round=given["per_round"])
    reward_model = None
    if given["score"] is None:
        reward_model = _reward_model(given, load=load)
        score: Score = reward_model.rewards
        scored_by = model_hash(reward_model) if load else ""
    else:
        score, scored_by = _function(given["score"], prompts, rows)
    policy = policy_of(given, load=load)
    policy = replace(policy, chat_template_kwargs=template_options(given))
    # With a completion of one token, `encode` says what generation is to see before it.
    asked = policy.encode(prompts, [[0]] * len(prompts))
    lengths = [len(row.prompt_ids) for row in asked]
    _check_room(policy, lengths, given["max_new_tokens"])
    _check_budget(given, form, max(lengths) + given["max_new_tokens"])
    reference = _reference(given, loss, policy, load=load)
    critic = None if plan is None else critic_of(given, policy, load=load)
    if load:
        for model in (policy, critic):
            if model is not None:
                model.module.to(_device())
    return RoundsJob(
        given=given,
        loss=loss,
        form=form,
        policy=policy,
        reference=reference,
        prompts=prompts,
        score=score,
        scored_by=scored_by,
        batched=reward_model is not None,
        lengths=lengths,
        asked=rows_hash(asked),
        plan=plan,
        critic=critic,
        reward_model=reward_model,
    )


def _check_room(policy: CausalLM, lengths: list[int], new: int) -> None:
    """Raise unless the model has positions for ``new`` tokens behind each prompt."""
    try:
        check_positions(policy.plain, [length + new for length in lengths], "prompt")
    except ValueError as error:
        raise ValueError(f"{error} with --max-new-tokens {new}") from error


def _check_budget(given: Mapping[str, Any], form: str, longest: int) -> None:
    """Raise unless a micro-batch holds the longest example that a round may have."""
    budget = given["micro_batch_tokens"]
    if budget is None:
        return
    drawn = given["kept"] or given["samples"]
    sequences = {"lists": drawn, "pairs": 2, "preferences": 2, "demonstrations": 1}[form]
    if sequences * longest > budget:
        raise ValueError(
            f"--micro-batch-tokens must be >= {sequences * longest}, {sequences} sequences of the"
            f" longest prompt and --max-new-tokens {given['max_new_tokens']}, got {budget}"
        )


def _device() -> Any:
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available()).device


def _reference(
    given: Mapping[str, Any], loss: Loss, policy: CausalLM, *, load: bool
) -> CausalLM | str | None:
    if given["reference"] == LAST:
        return LAST
    reference = reference_of(given, loss, policy, load=load)
    if reference is not None and load:
        reference.log_prob_model.to(_device())
    return reference


def round_options(given: Mapping[str, Any], number: int) -> TrainingOptions:
    """Return how the model is trained in a round."""
    same = (
        "steps",
        "epochs",
        "batch_size",
        "gradient_accumulation",
        "micro_batch_tokens",
        "learning_rate",
        "optimizer",
        "weight_decay",
        "offload_optimizer",
        "precision",
        "gradient_checkpointing",
        "compile",
        "packing",
    )
    return TrainingOptions(
        **{name: given[name] for name in same},
        max_grad_norm=given["max_grad_norm"] or None,
        schedule="constant",
        warmup=0.0,
        seed=given["seed"] + number,
        in_place=True,
        progress=False,
    )


def _read_prompts(source: str, split: str | None) -> tuple[list[Text], list[Row]]:
    name, unit, numbered = open_source(source, split)
    prompts: list[Text] = []
    rows: list[Row] = []
    for number, row in numbered:
        try:
            if "prompt" not in row:
                raise ValueError(f"a row needs a prompt, got the columns {', '.join(row)}")
            prompts.append(as_written(row["prompt"], "prompt"))
        except ValueError as error:
            raise ValueError(f"{name}, {unit} {number}: {error}") from error
        rows.append(row)
    if not prompts:
        raise ValueError(f"{name}: expected at least one {unit}, got 0")
    return prompts, rows


def _function(place: str, prompts: list[Text], rows: list[Row]) -> tuple[Score, str]:
    """Return the function that --score names, and what tells it from every other."""
    function = own_function(place, "--score")
    if not _takes_a_row(function):
        return function, loss_name(function)
    row_of: dict[str, Row] = {}
    for prompt, row in zip(prompts, rows, strict=True):
        if row_of.setdefault(key_of(prompt), row) != row:
            raise ValueError(
                "--score takes the row of a prompt, and two rows have the same prompt:"
                f" {key_of(prompt)[:60]}"
            )
    decisive = json.dumps(rows, sort_keys=True, default=str).encode()
    return (
        lambda prompt, completion: function(prompt, completion, row_of[key_of(prompt)]),
        f"{loss_name(function)} of rows {hashlib.sha256(decisive).hexdigest()[:16]}",
    )


def _reward_model(given: Mapping[str, Any], *, load: bool) -> PreferenceModel:
    """Return the model whose rewards are the score, or its sizes alone."""
    path = given["reward_model"]
    as_stored = {**given, "dtype": "auto", "tokenizer": None, "attn_implementation": None}
    model: Any = stored_scorer(PreferenceModel, path, as_stored, None, load=load)
    if model.dim > 1:
        raise ValueError(
            f"--reward-model {path} compares responses and gives none a reward: its judge is for"
            " draw_pairs"
        )
    return model.to(_device()) if load else model


def _takes_a_row(function: Callable[..., Any]) -> bool:
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 3


def key_of(prompt: Text) -> str:
    """Return what tells prompts of any form apart."""
    return json.dumps(prompt, sort_keys=True, default=int)

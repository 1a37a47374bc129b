"""What rounds would take, told without loading weights, drawing or writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prefsim.lm.command.memory import MemoryEstimate, cache_numbers, estimate_memory
from prefsim.lm.command.rounds_job import LAST, RoundsJob, read_rounds, round_options
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.online.judges import as_rows
from prefsim.lm.online.scored_data import ScoredCompletions, scored_data
from prefsim.lm.training.setup import TrainingSetup

__all__ = ["planned_rounds", "planned_trainings"]


def planned_rounds(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return prompts, steps, parameters and memory of rounds, whose weights stay away.

    Raises
    ------
    ValueError
        Where the rounds would.
    """
    job = read_rounds(given, load=False)
    setups = planned_trainings(job)
    parameters = [parameter for setup in setups for parameter in setup.policy.module.parameters()]
    # Those that a critic shares with the policy are there once.
    different = {id(parameter): parameter for parameter in parameters}.values()
    return {
        "prompts": {"rows": len(job.prompts), "longest": max(job.lengths)},
        "rounds": given["number"],
        "round": {
            "completions": _asked(job) * given["samples"],
            "new_tokens": given["max_new_tokens"],
            "steps": sum(setup.total for setup in setups),
        },
        "parameters": {
            "all": sum(p.numel() for p in different),
            "trained": sum(p.numel() for p in different if p.requires_grad),
        },
        "memory": _memory(job, setups),
    }


def planned_trainings(job: RoundsJob) -> list[TrainingSetup]:
    """Return the trainings of a round, of the policy and of its critic, on data that stand in.

    Raises
    ------
    ValueError
        Where the first round would, once it has drawn.
    """
    data = _stand_in(job)
    options = round_options(job.given, 0)
    reference = job.reference if isinstance(job.reference, CausalLM) else job.policy
    held_to = reference if job.holds_policy else None
    loss = job.loss if job.plan is None else job.plan.loss
    # Where the policy stands in for the copy of itself that it will be held to.
    how = replace(options, in_place=held_to is not job.policy)
    setups = [TrainingSetup(job.policy, loss, data, held_to, how)]
    if job.plan is not None and job.critic is not None:
        how = job.plan.training_options(options)
        setups.append(TrainingSetup(job.critic, job.plan.critic_loss, data, None, how))
    return setups


def _asked(job: RoundsJob) -> int:
    """Return the prompts of a round."""
    return job.given["per_round"] or len(job.prompts)


def _stand_in(job: RoundsJob) -> TextData:
    """Return data of a round's form, one token a completion, with rewards that differ."""
    given, asked = job.given, job.prompts[: _asked(job)]
    shape = (len(asked), given["samples"])
    samples = ScoredCompletions(
        prompt=as_rows(asked),
        completions=as_rows([[[0]] * shape[1] for _ in asked], depth=2),
        scores=np.tile(np.linspace(0.0, 1.0, shape[1]), (shape[0], 1)),
        logp=np.zeros((*shape, 1)),
        ended=np.ones(shape, dtype=bool),
    )
    data = scored_data(
        samples,
        form=job.form,
        kept=given["kept"],
        kept_temperature=given["kept_temperature"],
        seed=given["seed"],
    )
    if job.plan is None:
        return data
    assert isinstance(data, TextRollouts)
    nothing = np.zeros((*data.scores.shape, 1))
    return TextRollouts(
        data.prompt,
        data.completions,
        data.scores,
        old_logp=data.old_logp,
        advantage=nothing,
        returns=nothing,
        old_values=nothing,
    )


def _memory(job: RoundsJob, setups: list[TrainingSetup]) -> dict[str, int]:
    """Return the bytes of each part: weights and optimisers stay, one model trains at a time."""
    given = job.given
    longest = max(job.lengths) + given["max_new_tokens"]
    micro = -(-given["batch_size"] // given["gradient_accumulation"])
    parts = []
    for setup in setups:
        whole = min(micro, len(setup.data)) * setup.rows.per_example * longest
        part = estimate_memory(
            setup.policy,
            precision=setup.precision,
            optimizer=given["optimizer"],
            tokens=min(given["micro_batch_tokens"] or whole, whole),
            checkpointing=given["gradient_checkpointing"],
            offload=given["offload_optimizer"],
        )
        parts.append(part)
    rounded = [_rounded_bytes(setup) for setup in setups]
    drawn_at_once = min(given["sample_batch"], _asked(job)) * given["samples"]
    own = next(job.policy.plain.parameters())
    found = {
        "weights": sum(part.weights for part in parts) - _shared_bytes(setups),
        "optimizer": sum(part.optimizer for part in parts),
        "offloaded": sum(part.offloaded for part in parts),
        "reference": _reference_bytes(job),
        "reward_model": _bytes_beside(job.reward_model, job),
        "rounded": sum(rounded),
        "cache": drawn_at_once * longest * cache_numbers(job.policy.plain.config) * own.itemsize,
    }
    # While one of two models trains, the other waits as it is drawn from.
    training, of_it = max(
        zip(parts, rounded, strict=True), key=lambda one: _while_training(one[0]) - one[1]
    )
    found |= {
        "casts": training.casts,
        "gradients": training.gradients,
        "activations": training.activations,
    }
    stay = ("weights", "optimizer", "reference", "reward_model", "rounded")
    held = sum(found[name] for name in stay)
    # Drawing and learning take turns.
    return found | {"total": held + max(found["cache"], _while_training(training) - of_it)}


def _while_training(part: MemoryEstimate) -> int:
    return part.casts + part.gradients + part.activations


def _rounded_bytes(setup: TrainingSetup) -> int:
    """Return the bytes of what is drawn from, beside parameters that are trained in float32."""
    if setup.precision != "bf16":
        return 0
    narrow = (p for p in setup.policy.module.parameters() if p.requires_grad and p.itemsize < 4)
    return sum(p.numel() * p.itemsize for p in narrow)


def _reference_bytes(job: RoundsJob) -> int:
    if job.reference == LAST and job.holds_policy:
        # A copy of what is trained, made anew in every round.
        trained = (p for p in job.policy.module.parameters() if p.requires_grad)
        return sum(p.numel() * p.itemsize for p in trained)
    return _bytes_beside(job.reference, job)


def _shared_bytes(setups: list[TrainingSetup]) -> int:
    """Return the bytes of parameters that two models share, counted once."""
    seen: set[int] = set()
    shared = 0
    for setup in setups:
        for parameter in setup.policy.module.parameters():
            shared += parameter.numel() * parameter.itemsize * (id(parameter) in seen)
        seen |= {id(parameter) for parameter in setup.policy.module.parameters()}
    return shared


def _bytes_beside(model: Any, job: RoundsJob) -> int:
    """Return the bytes of a model that is not the policy with its adapters switched off."""
    if model is None or isinstance(model, str) or model.module is job.policy.module:
        return 0
    return sum(p.numel() * p.itemsize for p in model.module.parameters())

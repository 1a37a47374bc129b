"""The loop of ``prefsim rounds``: draw, score, learn, and keep what the next round goes on from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from prefsim.lm.command.job import NONE, START
from prefsim.lm.command.rounds_critic import explained_variance
from prefsim.lm.command.rounds_job import LAST, RoundsJob, key_of, round_options
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.digests import write_digests
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import model_hash
from prefsim.lm.online.critics import play_actor_critic
from prefsim.lm.online.samples import rows_of_round
from prefsim.lm.online.scored import scored_completions
from prefsim.lm.online.scored_data import NothingToLearn, ScoredCompletions, scored_data
from prefsim.lm.training import checkpoint as disk
from prefsim.lm.training.carried import Carried
from prefsim.lm.training.engine import run_on
from prefsim.lm.training.fingerprint import check_fingerprint, loss_name
from prefsim.lm.training.lock import only_training_in
from prefsim.lm.training.metrics import Reporter
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.precision import copy_of_trained
from prefsim.lm.training.result import TrainResult
from prefsim.lm.training.setup import TrainingSetup
from prefsim.lm.training.stored_model import Trainable, load_weights, save_model
from prefsim.loops.rounds import play_rounds
from prefsim.losses.catalogue import reads_reference
from prefsim.solvers.results import warn_caller
from prefsim.typing import Loss

__all__ = ["play"]

# The entry under which a parameter's wide weights lie beside those of its optimiser.
_WEIGHT = "weight"
# The options that decide where the rounds end, but for how many there are.
_DECISIVE = (
    "settings",
    "unfinished",
    "samples",
    "per_round",
    "kept",
    "kept_temperature",
    "max_new_tokens",
    "temperature",
    "sample_batch",
    "reference",
    "steps",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "micro_batch_tokens",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "max_grad_norm",
    "precision",
    "seed",
)


class _Learner(NamedTuple):
    """A model that learns from round to round, and what its last training handed on."""

    model: Any
    carried: Carried | None = None

    def taught(
        self, loss: Loss, data: TextData, reference: Any, options: TrainingOptions
    ) -> tuple[_Learner, TrainResult]:
        """Return it after a training that goes on from the last, and the result of that.

        What the last handed on moves over: nothing else is to go on from it.
        """
        setup = TrainingSetup(self.model, loss, data, reference, options)
        result, carried = run_on(setup, self.carried, moves=True)
        return _Learner(result.policy, carried), result


class _Played(NamedTuple):
    """Who has learned what after so many rounds, and the line of metrics of the last."""

    number: int
    policy: _Learner
    critic: _Learner | None
    line: dict[str, float]


def play(job: RoundsJob) -> dict[str, Any]:
    """Play the rounds that are left, and return what is to be said of them."""
    given, out = job.given, job.given["out"]
    with only_training_in(out):
        fingerprint = _fingerprint(job)
        checkpoint = disk.latest(out / "checkpoints")
        critic = None if job.critic is None else _Learner(job.critic)
        start = _Played(0, _Learner(job.policy), critic, {})
        if checkpoint is not None:
            checkpoint.check()
            check_fingerprint(checkpoint.state["fingerprint"], fingerprint)
            start = _restored(job, checkpoint)
        total = given["number"]
        if start.number > total:
            raise ValueError(
                f"--rounds must be >= {start.number}, which have been played, got {total}"
            )
        last = start
        with Reporter(out, start.number, total, progress=True) as reporter:
            for last in _rounds(job, start):
                reporter.write(last.line)
                reporter.step(last.number)
                every = given["save_every"]
                if every and (last.number % every == 0 or last.number == total):
                    _save(out / "checkpoints", last, fingerprint, given["keep"])
            _save_model(last.policy.model, out / disk.MODEL)
            if last.critic is not None:
                _save_model(last.critic.model, out / disk.CRITIC)
            lines = reporter.lines
    report = {
        "rounds": total,
        "first_reward": lines[0]["reward"] if lines else float("nan"),
        "last_reward": lines[-1]["reward"] if lines else float("nan"),
        "model": str(out / disk.MODEL),
        "metrics": str(out / "metrics.jsonl"),
    }
    return report if job.critic is None else report | {"critic": str(out / disk.CRITIC)}


def _rounds(job: RoundsJob, start: _Played) -> Iterator[_Played]:
    """Yield the rounds that are left."""
    last = start
    while last.number < job.given["number"]:
        last = _played(job, last)
        yield last


def _played(job: RoundsJob, last: _Played) -> _Played:
    """Play one round, from a seed of its own, so that any can be the first after a resumption."""
    given, since, number = job.given, time.perf_counter(), last.number
    options = round_options(given, number)
    seen: list[ScoredCompletions] = []
    learned: dict[str, tuple[_Learner, TrainResult]] = {}

    def draw(policy: CausalLM, opponent: CausalLM, rng: np.random.Generator) -> TextData:
        seen.append(_drawn(job, policy, rng))
        return scored_data(
            seen[-1],
            form=job.form,
            kept=given["kept"],
            kept_temperature=given["kept_temperature"],
            seed=rng,
        )

    def train(policy: CausalLM, loss: Loss, data: TextData, reference: Any) -> CausalLM:
        held_to = None
        if job.holds_policy:
            # It is trained in place: as it was before the round there is a copy.
            held_to = copy_of_trained(policy) if job.reference == LAST else reference
        learned["policy"] = last.policy.taught(loss, data, held_to, options)
        model: CausalLM = learned["policy"][0].model
        return model

    def train_critic(critic: Any, loss: Loss, data: TextData, reference: Any) -> Any:
        assert job.plan is not None
        assert last.critic is not None
        learned["critic"] = last.critic.taught(loss, data, None, job.plan.training_options(options))
        return learned["critic"][0].model

    fixed = job.reference if isinstance(job.reference, CausalLM) else None
    playing: dict[str, Any] = {
        "rounds": 1,
        "seed": np.random.default_rng([given["seed"], number]),
        "reference": fixed,
        "train": train,
    }
    if job.plan is None or last.critic is None:
        try:
            list(play_rounds(last.policy.model, draw, job.loss, **playing))
        except NothingToLearn as error:
            # The next round draws others.
            warn_caller(f"round {number + 1} changes nothing: {error}", UserWarning)
    else:
        (round_of_two,) = play_actor_critic(
            last.policy.model,
            last.critic.model,
            draw,
            job.plan.loss,
            **playing,
            train_critic=train_critic,
            beta=job.plan.beta,
            discount=job.plan.discount,
            trace=job.plan.trace,
            critic_loss=job.plan.critic_loss,
            batch_size=given["sample_batch"],
        )
    policy, critic = last.policy, last.critic
    line = {"step": number + 1, **_measured(seen[-1], fixed, given["sample_batch"])}
    if "policy" in learned:
        policy, result = learned["policy"]
        line |= {"loss": result.value, "grad_norm": result.grad_norm}
    if "critic" in learned:
        critic, of_critic = learned["critic"]
        line |= _measured_of_critic(round_of_two.drawn, of_critic)
    line["seconds"] = time.perf_counter() - since
    return _Played(number + 1, policy, critic, line)


def _measured_of_critic(drawn: TextRollouts, result: TrainResult) -> dict[str, float]:
    line = {"value_loss": result.value, "value_grad_norm": result.grad_norm}
    foreseen = explained_variance(drawn)
    return line if foreseen is None else line | {"explained_variance": foreseen}


def _drawn(job: RoundsJob, policy: CausalLM, rng: np.random.Generator) -> ScoredCompletions:
    given = job.given
    rows = rows_of_round(len(job.prompts), given["per_round"], rng)
    return scored_completions(
        policy,
        job.score,
        [job.prompts[int(i)] for i in rows],
        n_samples=given["samples"],
        seed=rng,
        unfinished=given["unfinished"],
        batched=job.batched,
        batch_size=given["sample_batch"],
        max_new_tokens=given["max_new_tokens"],
        temperature=given["temperature"],
    )


def _measured(
    samples: ScoredCompletions, reference: CausalLM | None, batch_size: int
) -> dict[str, float]:
    """Return the means over what was drawn; the KL at temperature 1 is estimated on it."""
    lengths = [len(completion) for completion in samples.completions.ravel()]
    line = {
        "reward": float(samples.scores.mean()),
        "reward_deviation": float(samples.scores.std()),
        "length": float(np.mean(lengths)),
        "ended": float(samples.ended.mean()),
    }
    if reference is not None:
        asked = list(np.repeat(samples.prompt, samples.completions.shape[1]))
        theirs = reference.log_prob(asked, list(samples.completions.ravel()), batch_size=batch_size)
        own = samples.logp.sum(axis=-1).ravel()
        line["kl"] = float((own - theirs.cpu().numpy()).mean())
    return line


# --- what lies on disk between rounds


def _fingerprint(job: RoundsJob) -> dict[str, Any]:
    prompts = hashlib.sha256("\n".join(map(key_of, job.prompts)).encode()).hexdigest()
    decisive = {name: job.given[name] for name in _DECISIVE}
    # More steps in all are allowed; here they are those of a round.
    decisive["steps_of_a_round"] = decisive.pop("steps")
    if decisive["reference"] is None:
        decisive["reference"] = START if reads_reference(job.loss) else NONE
    elif isinstance(job.reference, CausalLM) and decisive["reference"] != START:
        # The folder may hold another model by now.
        decisive["reference_model"] = model_hash(job.reference)
    if job.plan is not None:
        decisive |= job.plan.decisive
    return decisive | {
        "critic": NONE if job.critic is None else model_hash(job.critic),
        # As they are written, for a file of one name may have changed.
        "loss": loss_name(job.loss),
        "score": job.scored_by,
        "prompts": prompts,
        # Tokenizer and template say what is read of them.
        "tokens of the prompts": job.asked,
        "model": model_hash(job.policy),
    }


def _save_model(model: Trainable, target: Path) -> None:
    with disk.saved(target) as partial:
        save_model(model, partial)
        write_digests(partial)


def _save(folder: Path, played: _Played, fingerprint: Mapping[str, Any], keep: int) -> None:
    critic = played.critic
    disk.write_checkpoint(
        folder,
        {"step": played.number, "fingerprint": dict(fingerprint)},
        policy=played.policy.model,
        optimizer=_tensors(played.policy.carried),
        # Every round has a seed of its own.
        random_states=[],
        critic=None if critic is None else (critic.model, _tensors(critic.carried)),
    )
    disk.remove_older(folder, keep)


def _tensors(carried: Carried | None) -> dict[str, torch.Tensor]:
    """Return what a training handed on as tensors on the CPU, by name."""
    if carried is None:  # no round has changed anything yet
        return {}
    entries = carried.optimizer | {
        f"{name}|{_WEIGHT}": value for name, value in carried.weights.items()
    }
    return {
        name: torch.as_tensor(value).detach().cpu().contiguous().clone()
        for name, value in entries.items()
    }


def _restored(job: RoundsJob, checkpoint: disk.Checkpoint) -> _Played:
    """Put the weights of a checkpoint into the models of the job, and return where it was."""
    load_weights(job.policy, checkpoint.model)
    policy = _Learner(job.policy, _carried(checkpoint.folder / disk.OPTIMIZER))
    critic = None
    if job.critic is not None:
        load_weights(job.critic, checkpoint.folder / disk.CRITIC)
        critic = _Learner(job.critic, _carried(checkpoint.folder / disk.CRITIC_OPTIMIZER))
    return _Played(checkpoint.step, policy, critic, {})


def _carried(file: Path) -> Carried:
    """Return what the rounds before a checkpoint handed on."""
    weights: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    for key, value in disk.load_tensors(file).items():
        name, _, entry = key.rpartition("|")
        if entry == _WEIGHT:
            weights[name] = value
        else:
            optimizer[key] = value
    return Carried(weights, optimizer)

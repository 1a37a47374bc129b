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
from prefsim.lm.command.rounds_job import RoundsJob, key_of, round_options
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.digests import write_digests
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import model_hash
from prefsim.lm.online.samples import rows_of_round
from prefsim.lm.online.scored import scored_completions
from prefsim.lm.online.scored_data import ScoredCompletions, scored_data
from prefsim.lm.training import checkpoint as disk
from prefsim.lm.training.engine import Carried, run_on
from prefsim.lm.training.fingerprint import check_fingerprint, loss_name
from prefsim.lm.training.lock import only_training_in
from prefsim.lm.training.metrics import Reporter
from prefsim.lm.training.options import TrainResult
from prefsim.lm.training.setup import TrainingSetup
from prefsim.lm.training.stored_model import load_weights, save_model
from prefsim.loops.rounds import play_rounds
from prefsim.losses.catalogue import reads_reference
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
    "learning_rate",
    "optimizer",
    "weight_decay",
    "max_grad_norm",
    "precision",
    "seed",
)


def play(job: RoundsJob) -> dict[str, Any]:
    """Play the rounds that are left, and return what is to be said of them."""
    given, out = job.given, job.given["out"]
    with only_training_in(out):
        fingerprint = _fingerprint(job)
        checkpoint = disk.latest(out / "checkpoints")
        done, carried = 0, None
        if checkpoint is not None:
            checkpoint.check()
            check_fingerprint(checkpoint.state["fingerprint"], fingerprint)
            load_weights(job.policy, checkpoint.model)
            done, carried = checkpoint.step, _carried(checkpoint)
        total = given["number"]
        if done > total:
            raise ValueError(f"--rounds must be >= {done}, which have been played, got {total}")
        policy = job.policy
        with Reporter(out, done, total, progress=True) as reporter:
            for played in _rounds(job, done, carried):
                policy = played.policy
                reporter.write(played.line)
                reporter.step(played.number)
                every = given["save_every"]
                if every and (played.number % every == 0 or played.number == total):
                    _save(out / "checkpoints", played, fingerprint, given["keep"])
            with disk.saved(out / disk.MODEL) as partial:
                save_model(policy, partial)
                write_digests(partial)
            lines = reporter.lines
    return {
        "rounds": total,
        "first_reward": lines[0]["reward"] if lines else float("nan"),
        "last_reward": lines[-1]["reward"] if lines else float("nan"),
        "model": str(out / disk.MODEL),
        "metrics": str(out / "metrics.jsonl"),
    }


class _Played(NamedTuple):
    number: int
    policy: CausalLM
    carried: Carried
    line: dict[str, float]


def _rounds(job: RoundsJob, done: int, carried: Carried | None) -> Iterator[_Played]:
    """Yield the rounds that are left."""
    policy = job.policy
    for number in range(done, job.given["number"]):
        played = _played(job, number, policy, carried)
        policy, carried = played.policy, played.carried
        yield played


def _played(job: RoundsJob, number: int, policy: CausalLM, carried: Carried | None) -> _Played:
    """Play one round, from a seed of its own, so that any can be the first after a resumption."""
    given, since = job.given, time.perf_counter()
    seen: list[ScoredCompletions] = []
    results: list[tuple[TrainResult, Carried]] = []

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
        held_to = None if job.reference is None else reference
        setup = TrainingSetup(policy, loss, data, held_to, round_options(given, number))
        results.append(run_on(setup, carried))
        return results[-1][0].policy

    fixed = job.reference if isinstance(job.reference, CausalLM) else None
    rng = np.random.default_rng([given["seed"], number])
    (played,) = play_rounds(
        policy, draw, job.loss, rounds=1, seed=rng, reference=fixed, train=train
    )
    result, carried = results[-1]
    line = {"step": number + 1, **_measured(seen[-1], fixed, given["sample_batch"])}
    line |= {"loss": result.value, "grad_norm": result.grad_norm}
    line["seconds"] = time.perf_counter() - since
    return _Played(number + 1, played.policy, carried, line)


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
    """Return the means over what was drawn; the KL is that of the sampler, estimated on it."""
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
    return decisive | {
        # As they are written, for a file of one name may have changed.
        "loss": loss_name(job.loss),
        "score": job.scored_by,
        "prompts": prompts,
        "model": model_hash(job.policy),
    }


def _save(folder: Path, played: _Played, fingerprint: Mapping[str, Any], keep: int) -> None:
    entries = played.carried.optimizer | {
        f"{name}|{_WEIGHT}": value for name, value in played.carried.weights.items()
    }
    tensors = {
        name: torch.as_tensor(value).detach().cpu().contiguous().clone()
        for name, value in entries.items()
    }
    disk.write_checkpoint(
        folder,
        {"step": played.number, "fingerprint": dict(fingerprint)},
        policy=played.policy,
        model=None,
        optimizer=tensors,
        # Every round has a seed of its own.
        random_states=[],
    )
    disk.remove_older(folder, keep)


def _carried(checkpoint: disk.Checkpoint) -> Carried:
    """Return what the rounds before a checkpoint handed on."""
    weights: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    for key, value in disk.load_tensors(checkpoint.folder / disk.OPTIMIZER).items():
        name, _, entry = key.rpartition("|")
        if entry == _WEIGHT:
            weights[name] = value
        else:
            optimizer[key] = value
    return Carried(weights, optimizer)

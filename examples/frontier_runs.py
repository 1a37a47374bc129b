"""The trainings of :mod:`frontier`: judged pairs, three methods, and what came of each."""

from __future__ import annotations

import functools
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from attainable import Bounds
from reviews import language_model, prompts, sentiment

from prefsim import losses
from prefsim.data.formats import atomic_path
from prefsim.parallel import Report, unordered
from prefsim.progress import Bars

METHODS = ("dpo", "ipo", "inpo")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained, how long and how often; everything that the results depend on."""

    #: Size of the language model and of its training, see :func:`reviews.language_model`.
    count: int = 12_000
    hidden: int = 64
    pretraining_steps: int = 375
    #: Completions of each prompt that stand for the reference's whole distribution where the upper
    #: curves are computed.
    atoms: int = 400
    #: Judged pairs of a run, and gradient steps; a method that plays against itself spends them in
    #: so many rounds.
    pairs: int = 2304
    steps: int = 72
    rounds: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 32
    #: The judge prefers y to y' with probability σ(sharpness · (compound(y) − compound(y'))).
    sharpness: float = 8.0
    #: Fresh completions of each prompt that a trained policy is measured on.
    evaluation: int = 96
    max_new_tokens: int = 40
    #: Completions that are sampled or scored together.
    rows: int = 256
    seeds: tuple[int, ...] = (0, 1, 2)
    dpo: tuple[float, ...] = (4.0, 2.0, 1.0, 0.25)
    ipo: tuple[float, ...] = (0.5, 0.25, 0.12, 0.06)
    inpo: tuple[float, ...] = (0.5, 0.25, 0.12, 0.06)

    def runs(self) -> list[Run]:
        """Return every training, those that take longest first."""
        return [
            Run(method, strength, seed)
            for method in ("inpo", "ipo", "dpo")
            for strength in reversed(getattr(self, method))
            for seed in self.seeds
        ]


class Run(NamedTuple):
    """One training.

    A method, the strength of its penalty and the seed of its pairs, its batches and its evaluation.
    """

    method: str
    strength: float
    seed: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.method}-{self.strength:g}-{self.seed}"


# --- pairs, training and measurement


def judge(settings: Settings) -> Any:
    """Return the judge: Bradley and Terry's model on sentiment."""
    from prefsim.lm import reward_judge

    return reward_judge(
        lambda prompts, texts: sentiment(texts), scale=settings.sharpness, batched=True
    )


def loss_of(run: Run, settings: Settings) -> tuple[functools.partial[Any], int]:
    """Return the loss of a run and its number of rounds.

    INPO keeps a third of the last iterate in the exponent of the next, so that three rounds forget
    the start but for 4 %.
    """
    if run.method == "inpo":
        step = 1 / (1.5 * run.strength)
        return functools.partial(losses.inpo, tau=run.strength, step=step), settings.rounds
    if run.method == "ipo":
        return functools.partial(losses.ipo, tau=run.strength), 1
    return functools.partial(losses.dpo, beta=run.strength), 1


def target(run: Run, bounds: Bounds, settings: Settings) -> tuple[float, float]:
    """Return KL and sentiment of the minimiser of the run's loss on all pairs.

    Without noise, and without a network in the way.
    """
    loss, rounds = loss_of(run, settings)
    if run.method == "dpo":
        return bounds.regularised(run.strength / settings.sharpness)
    return bounds.self_play(
        tau=run.strength, step=loss.keywords.get("step", 1 / run.strength), rounds=rounds
    )


def pairs_of(count: int, settings: Settings) -> Any:
    """Return what draws ``count`` judged pairs of a policy, as many for each prompt."""
    from prefsim.lm import draw_pairs

    asked = prompts() * (count // len(prompts()))
    options = {"batch_size": settings.rows, "max_new_tokens": settings.max_new_tokens}
    return draw_pairs(asked, judge(settings), n_samples=2, labels="sampled", **options)


# A worker meets the seeds in turn, one method after the other.
@functools.lru_cache(maxsize=4)
def first_pairs(reference: Any, seed: int, settings: Settings) -> Any:
    """Return the judged pairs of the reference that every run of a seed begins with."""
    return pairs_of(settings.pairs, settings)(
        reference, reference, np.random.default_rng([seed, 1])
    )


def trained(run: Run, reference: Any, settings: Settings) -> Any:
    """Return the policy that a run ends with.

    All methods draw their pairs from the policy at hand; the offline ones have one round.
    """
    from prefsim.lm import trainer
    from prefsim.loops.rounds import play_rounds

    loss, rounds = loss_of(run, settings)
    count = settings.pairs // rounds
    later = pairs_of(count, settings)

    def pairs_of_round(policy: Any, opponent: Any, rng: np.random.Generator) -> Any:
        # What the reference answers is the same for all methods of a seed.
        if policy is reference:
            return first_pairs(reference, run.seed, settings).take(range(count))
        return later(policy, opponent, rng)

    train = trainer(
        steps=settings.steps // rounds,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="cosine",
        seed=run.seed,
    )
    *_, last = play_rounds(
        reference,
        pairs_of_round,
        loss,
        rounds=rounds,
        seed=run.seed,
        reference=reference,
        train=train,
    )
    return last.policy


def sampled(
    policy: Any, count: int, seed: Any, settings: Settings
) -> tuple[list[list[list[int]]], np.ndarray]:
    """Return ``count`` completions of every prompt as token ids, and their sentiment.

    Sentiment has shape ``(prompts, count)``.
    """
    each = max(1, settings.rows // count)
    drawn = policy.sample(
        prompts(), count, seed, max_new_tokens=settings.max_new_tokens, batch_size=each
    )
    return drawn, np.asarray([sentiment([policy.decode(ids) for ids in row]) for row in drawn])


def measured(policy: Any, reference: Any, seed: Any, settings: Settings) -> dict[str, float]:
    """Return sentiment and divergence of a policy on fresh completions.

    With their standard errors.
    """
    drawn, reward = sampled(policy, settings.evaluation, seed, settings)
    asked = [prompt for prompt, row in zip(prompts(), drawn, strict=True) for _ in row]
    flat = [ids for row in drawn for ids in row]
    ours, theirs = (
        each.log_prob(asked, flat, batch_size=settings.rows).cpu().numpy()
        for each in (policy, reference)
    )
    ratio = ours - theirs
    root = math.sqrt(len(flat))
    return {
        "reward": float(reward.mean()),
        "reward_error": float(reward.std(axis=1, ddof=1).mean() / root),
        "kl": float(ratio.mean()),
        "kl_error": float(ratio.std(ddof=1) / root),
        "tokens": float(np.mean([len(ids) for ids in flat])),
        "distinct": len({tuple(ids) for ids in flat}) / len(flat),
    }


# --- running, on all cores and again where it stopped


def stored(folder: Path, run: Run | None) -> Path:
    """Return the file of a run's results, or of the reference's samples."""
    return folder / "runs" / f"{'reference' if run is None else run.name}.json"


def read(path: Path) -> Any:
    """Return what a file of results holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    """Write a file of results, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@functools.cache
def _loaded(folder: Path, settings: Settings) -> Any:
    """Return the reference model: made by the first process, and read once by each other."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    return language_model(
        folder / "reference",
        count=settings.count,
        hidden=settings.hidden,
        steps=settings.pretraining_steps,
    )


def do(run: Run | None, settings: Settings, folder: Path, *, report: Report | None = None) -> str:
    """Do one run, or sample the reference for the bounds; write what was measured, and say it."""
    reference = _loaded(folder, settings)
    if run is None:
        _, reward = sampled(reference, settings.atoms, 10_000, settings)
        write(stored(folder, None), {"rewards": reward.tolist()})
        return "reference sampled"
    start = time.perf_counter()
    row = measured(trained(run, reference, settings), reference, 20_000 + run.seed, settings)
    seconds = time.perf_counter() - start
    write(stored(folder, run), {**run._asdict(), **row, "seconds": seconds})
    where = f"sentiment {row['reward']:.3f} at {row['kl']:.2f} nats"
    return f"{run.method} {run.strength:g}, seed {run.seed}: {where}, {seconds:.0f} s"


def everything(settings: Settings, folder: Path, *, jobs: int = 1) -> None:
    """Do what is not yet in ``folder``.

    Raises
    ------
    ValueError
        If the folder holds results of other settings.
    """
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    # Every run stands for itself: seeds and strengths may be added to a folder, all else must be
    # the same.
    varied = ("seeds", *METHODS)
    said = {name: value for name, value in asdict(settings).items() if name not in varied}
    file = folder / "settings.json"
    if file.exists() and read(file) != said:
        raise ValueError(
            f"{folder} holds results of other settings: give another folder, or --fresh"
        )
    write(file, said)
    work = [run for run in (None, *settings.runs()) if not stored(folder, run).exists()]
    with Bars("frontier", len(work) + 1) as bars:
        start = time.perf_counter()
        _loaded(folder, settings)
        bars.finished("", f"reference model: {time.perf_counter() - start:.0f} s")
        for line in unordered(do, [(run, settings, folder) for run in work], jobs=jobs):
            bars.finished("", line)

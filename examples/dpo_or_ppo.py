"""DPO or PPO: what labels, algorithm and reward model are worth to a language model.

A tiny Llama that learned to write reviews is trained to please: by DPO on judged pairs, or by PPO
on a reward model that was fitted to them, with a critic that starts as the reward model. The judge
is the model of Bradley and Terry on the sentiment of the VADER lexicon, and some of its labels are
flipped. All combinations are trained with the same seeds, and what each factor changes is printed
with its interval. Run ``make factors``; the results are in ``results/dpo_or_ppo``, and a run that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from attainable import Bounds
from frontier_runs import measured, read, write
from reviews import language_model, prompts, sentiment

from prefsim import losses
from prefsim.analysis import Factorial, contrast, full_factorial
from prefsim.data.strength import LabelTreatment
from prefsim.parallel import Report, unordered
from prefsim.solvers import fit

FACTORS: dict[str, tuple[Any, ...]] = {
    "flips": (0.0, 0.3),
    "algorithm": ("DPO", "PPO"),
    "labels": ("as many", "more"),
}
BETTER = {"flips": (0.0, 0.3), "algorithm": ("PPO", "DPO"), "labels": ("more", "as many")}
NAMES = {
    "flips": "labels right, less 30 % of them flipped",
    "algorithm": "PPO, less DPO",
    "labels": "reward model of more pairs, less of as many as DPO",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained, how long and how often; everything that the results depend on."""

    #: Size of the language model and of its training, see :func:`reviews.language_model`.
    count: int = 6_000
    hidden: int = 48
    pretraining_steps: int = 240
    #: The judge prefers y to y' with probability σ(sharpness · (compound(y) − compound(y'))).
    sharpness: float = 8.0
    #: DPO's β and PPO's κ, in log-odds of the judge.
    beta: float = 1.0
    #: Judged pairs of DPO, and of the reward model that has more.
    pairs: int = 576
    more_pairs: int = 2304
    #: Gradient steps of DPO, and of the reward model of as many pairs.
    steps: int = 54
    #: Rounds of PPO, its prompts and gradient steps in each.
    rounds: int = 24
    drawn: int = 96
    round_steps: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 32
    #: PPO's draws, whose log-probabilities are taken at temperature 1, and what is not finished.
    temperature: float = 0.7
    unfinished: float = -10.0
    #: Fresh completions of each prompt that a trained policy is measured on.
    evaluation: int = 96
    max_new_tokens: int = 40
    #: Completions that are sampled or scored together.
    rows: int = 256
    seeds: tuple[int, ...] = (0, 1, 2)


def drawn_pairs(reference: Any, seed: int, settings: Settings) -> Any:
    """Return pairs of the reference, labelled without flips, as many for each prompt."""
    from prefsim.lm import draw_pairs, reward_judge

    judge = reward_judge(
        lambda prompts, texts: sentiment(texts), scale=settings.sharpness, batched=True
    )
    draw = draw_pairs(
        prompts() * (settings.more_pairs // len(prompts())),
        judge,
        n_samples=2,
        labels="sampled",
        batch_size=settings.rows,
        max_new_tokens=settings.max_new_tokens,
    )
    return draw(reference, reference, np.random.default_rng([seed, 1]))


def readable(data: Any, completions: Sequence[Sequence[Any]], pad: int) -> Any:
    """Return the rows none of whose completions ends with the token for padding.

    Behind it no reward is read. A model draws it hardly ever, and only where it is cut off.
    """
    return data.take([i for i, row in enumerate(completions) if all(ids[-1] != pad for ids in row)])


def flipped(pairs: Any, rate: float, seed: int) -> Any:
    """Return the pairs with some labels flipped."""
    wrong = np.random.default_rng([seed, 2]).random(len(pairs)) < rate
    return pairs.treated(LabelTreatment(wrong, np.zeros(len(pairs)), np.zeros(len(pairs))))


def training(settings: Settings, steps: int, seed: int) -> dict[str, Any]:
    """Return the options of a training."""
    return {
        "steps": steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "schedule": "cosine",
        "seed": seed,
        "progress": False,
    }


def dpo(reference: Any, pairs: Any, seed: int, settings: Settings) -> Any:
    """Return the policy that DPO makes of pairs."""
    loss = functools.partial(losses.dpo, beta=settings.beta)
    how = training(settings, settings.steps, seed)
    return fit(reference, loss, pairs, reference=reference, **how).policy


def fit_reward(base: Path, pairs: Any, folder: Path, seed: int, settings: Settings) -> None:
    """Fit a reward model to pairs, from the language model on, and keep it in a folder."""
    from prefsim.lm import CausalLM, PreferenceModel

    start = PreferenceModel(CausalLM.load(base, dtype="float32"), dim=1, seed=seed)
    # As often as DPO sees each of its pairs.
    how = training(settings, settings.steps * len(pairs) // settings.pairs, seed)
    fit(start, losses.bradley_terry, pairs, **how).policy.save(folder)


def ppo(reference: Any, reward_folder: Path, seed: int, settings: Settings) -> Any:
    """Return the policy that PPO makes of a reward model; its critic starts as that model."""
    from prefsim.lm import (
        PreferenceModel,
        TokenCritic,
        draw_scored,
        play_actor_critic,
        trainer,
    )

    reward = PreferenceModel.load(reward_folder)
    scored = draw_scored(
        prompts() * (settings.drawn // len(prompts())),
        functools.partial(reward.rewards, batch_size=settings.rows),
        n_samples=1,
        batched=True,
        unfinished=settings.unfinished,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.rows,
    )

    def draw(policy: Any, opponent: Any, rng: np.random.Generator) -> Any:
        data = scored(policy, opponent, rng)
        return readable(data, data.completions, policy.pad_id)

    how = training(settings, settings.round_steps, seed) | {"schedule": "constant", "warmup": 0.0}
    *_, last = play_actor_critic(
        reference,
        TokenCritic.load(reward_folder),
        draw,
        functools.partial(losses.ppo, beta=0.0, whiten=True),
        rounds=settings.rounds,
        seed=seed,
        train=trainer(**how),
        reference=reference,
        beta=settings.beta,
        batch_size=settings.rows,
    )
    return last.policy


# --- all cells of a seed, on all cores and again where it stopped


def stored(folder: Path, seed: int) -> Path:
    """Return the file of a seed's results."""
    return folder / f"seed-{seed}.json"


def name_of(flips: float, algorithm: str, labels: str) -> str:
    """Return what a training is called; DPO has no reward model."""
    return f"{algorithm}, flips {flips:g}" + (f", {labels} labels" if algorithm == "PPO" else "")


def do(seed: int, settings: Settings, folder: Path, *, report: Report | None = None) -> str:
    """Train and measure all combinations of a seed, write what was measured, and say it."""
    start = time.perf_counter()
    reference = _reference(folder, settings)
    drawn = drawn_pairs(reference, seed, settings)
    both = list(zip(drawn.chosen, drawn.rejected, strict=True))
    clean = readable(drawn, both, reference.pad_id)
    found, few = {}, range(settings.pairs)
    for flips in FACTORS["flips"]:
        pairs = flipped(clean, flips, seed)
        trained = {("DPO", "as many"): dpo(reference, pairs.take(few), seed, settings)}
        for labels in FACTORS["labels"]:
            kept = folder / "rewards" / f"{seed}-{flips:g}-{labels.replace(' ', '-')}"
            judged = pairs if labels == "more" else pairs.take(few)
            fit_reward(folder / "reference" / "model", judged, kept, seed, settings)
            trained["PPO", labels] = ppo(reference, kept, seed, settings)
        for (algorithm, labels), policy in trained.items():
            found[name_of(flips, algorithm, labels)] = measured(
                policy, reference, 20_000 + seed, settings
            )
    # What the reference drew stands for all that it writes.
    rewards: dict[str, list[float]] = {asked: [] for asked in prompts()}
    for asked, pair in zip(drawn.prompt, both, strict=True):
        rewards[asked] += sentiment([reference.decode(ids) for ids in pair]).tolist()
    bounds = Bounds(np.asarray(list(rewards.values())), settings.sharpness)
    kl, reward = bounds.regularised(settings.beta / settings.sharpness)
    found["the optimum"] = {"reward": reward, "kl": kl}
    found["the reference"] = {"reward": float(bounds.reward.mean()), "kl": 0.0}
    seconds = time.perf_counter() - start
    write(stored(folder, seed), {"cells": found, "seconds": seconds})
    return f"seed {seed}: {seconds:.0f} s"


@functools.cache
def _reference(folder: Path, settings: Settings) -> Any:
    """Return the reference model: made by the first process, and read once by each other."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    return language_model(
        folder / "reference",
        count=settings.count,
        hidden=settings.hidden,
        steps=settings.pretraining_steps,
    )


def everything(settings: Settings, folder: Path, *, jobs: int = 1) -> None:
    """Do what is not yet in ``folder``.

    Raises
    ------
    ValueError
        If the folder holds results of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = {name: value for name, value in asdict(settings).items() if name != "seeds"}
    file = folder / "settings.json"
    if file.exists() and read(file) != said:
        raise ValueError(f"{folder} holds results of other settings: give another folder")
    write(file, said)
    _reference(folder, settings)
    work = [
        (seed, settings, folder) for seed in settings.seeds if not stored(folder, seed).exists()
    ]
    for line in unordered(do, work, jobs=jobs):
        print(line, flush=True)


def factorial_of(settings: Settings, folder: Path, measure: str = "reward") -> Factorial:
    """Return a measure of all cells, one replicate for each seed."""
    cells = [read(stored(folder, seed))["cells"] for seed in settings.seeds]
    return full_factorial(
        lambda **cell: [found[name_of(**cell)][measure] for found in cells], FACTORS
    )


def lines_of(settings: Settings, folder: Path) -> list[str]:
    """Return what was measured, in lines: every training, and what each factor changes."""
    cells = [read(stored(folder, seed))["cells"] for seed in settings.seeds]
    lines = [f"mean of {len(cells)} seeds; sentiment and KL(policy ‖ reference) of fresh reviews:"]
    for name in cells[0]:
        reward, kl = (np.mean([found[name][of] for found in cells]) for of in ("reward", "kl"))
        lines.append(f"  {name:32s} {reward:6.3f}  {kl:5.2f} nats")
    found = factorial_of(settings, folder)
    # One seed has no interval.
    if len(cells) > 1:
        lines.append("what each factor changes in sentiment, ± 95 % over seeds:")
        for factor, levels in BETTER.items():
            effect = contrast(found, {factor: levels})
            lines.append(f"  {NAMES[factor]:52s} {effect.size:6.3f} ± {effect.half_width:.3f}")
        within = contrast(found.at(algorithm="PPO"), {"labels": BETTER["labels"]})
        lines.append(
            f"  {'the last in PPO alone':52s} {within.size:6.3f} ± {within.half_width:.3f}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and print; the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/dpo_or_ppo"), help="folder of the results"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each"
    )
    given = parser.parse_args(arguments)
    settings = Settings(seeds=tuple(range(given.seeds)))
    sentiment([""])  # says at once if the lexicon is missing
    try:
        everything(settings, given.out, jobs=given.jobs)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print("\n".join(lines_of(settings, given.out)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How much sentiment a nat of divergence buys.

A language model trained from scratch, then DPO, IPO and INPO on judged pairs.

A grammar writes reviews, a byte-pair tokenizer and a tiny Llama learn them, and the VADER lexicon
says how positive a review is. Each method then spends the same number of labelled pairs and of
gradient steps at several strengths of its penalty. Run ``make frontier``; the results are in
``results/frontier``, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import functools
import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from attainable import Bounds
from reviews import language_model, prompts, sentiment

from prefsim import losses
from prefsim.data.formats import atomic_path
from prefsim.progress import Bars

LABELS = {
    "dpo": "DPO, β = {}: one draw of pairs from the reference",
    "ipo": "IPO, τ = {}: the same pairs",
    "inpo": "INPO, τ = {}: {} rounds of pairs from itself",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained, how long and how often; everything that the results depend on."""

    #: Size of the language model and of its training, see :func:`reviews.language_model`.
    count: int = 12_000
    hidden: int = 64
    pretraining_steps: int = 375
    #: TextFeedback of each prompt that stand for the reference's whole distribution where the upper
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
    #: TextFeedback that are sampled or scored together.
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
# --------------------------------------------------------------------------------------------------


def judge(settings: Settings) -> Any:
    """Return the judge: Bradley and Terry's model on sentiment."""
    from prefsim.lm.online.judges import reward_judge

    return reward_judge(
        lambda prompts, texts: sentiment(texts), scale=settings.sharpness, batched=True
    )


def loss_of(run: Run, settings: Settings) -> tuple[functools.partial[Any], int]:
    """Return the loss of a run and its number of rounds.

    INPO keeps a third of the last iterate in the exponent of the next, so that three rounds forget
    the start but for 4 %.
    """
    if run.method == "inpo":
        return (
            functools.partial(losses.inpo, tau=run.strength, step=1 / (1.5 * run.strength)),
            settings.rounds,
        )
    if run.method == "ipo":
        return functools.partial(losses.ipo, tau=run.strength), 1
    return functools.partial(losses.dpo, beta=run.strength), 1


def target(run: Run, bounds: Bounds, settings: Settings) -> tuple[float, float]:
    """Return KL and sentiment of what the run's loss is minimised by on all pairs, without noise and without a network in the way."""
    loss, rounds = loss_of(run, settings)
    if run.method == "dpo":
        return bounds.regularised(run.strength / settings.sharpness)
    return bounds.self_play(
        tau=run.strength, step=loss.keywords.get("step", 1 / run.strength), rounds=rounds
    )


def pairs_of(count: int, settings: Settings) -> Any:
    """Return what draws ``count`` judged pairs of a policy, as many for each prompt."""
    from prefsim.lm.online.rounds import draw_pairs

    asked = prompts() * (count // len(prompts()))
    options = {"batch_size": settings.rows, "max_new_tokens": settings.max_new_tokens}
    return draw_pairs(asked, judge(settings), n_samples=2, labels="sampled", **options)


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
    from prefsim.lm.online.rounds import trainer
    from prefsim.loops.rounds import play_rounds

    loss, rounds = loss_of(run, settings)
    count = settings.pairs // rounds
    later = pairs_of(count, settings)

    def draw(policy: Any, opponent: Any, rng: np.random.Generator) -> Any:
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
        reference, draw, loss, rounds=rounds, seed=run.seed, reference=reference, train=train
    )
    return last.policy


def sampled(
    policy: Any, count: int, seed: Any, settings: Settings
) -> tuple[list[list[list[int]]], np.ndarray]:
    """Return ``count`` completions of every prompt as token ids, and their sentiment ``(prompts, count)``."""
    each = max(1, settings.rows // count)
    drawn = policy.sample(
        prompts(), count, seed, max_new_tokens=settings.max_new_tokens, batch_size=each
    )
    return drawn, np.asarray([sentiment([policy.decode(ids) for ids in row]) for row in drawn])


def measured(policy: Any, reference: Any, seed: Any, settings: Settings) -> dict[str, float]:
    """Return sentiment and divergence of a policy on fresh completions, with their standard errors."""
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


# --- running, on two cores and again where it stopped
# ---------------------------------------------------------------------------------


def _write(path: Path, value: Any) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _prepare() -> None:
    """Set a worker up: one thread each, and quiet."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()


@functools.cache
def _loaded(folder: Path, settings: Settings) -> Any:
    return language_model(
        folder / "reference",
        count=settings.count,
        hidden=settings.hidden,
        steps=settings.pretraining_steps,
    )


def do(run: Run | None, settings: Settings, folder: Path) -> None:
    """Do one run, or sample the reference for the bounds, and write what was measured."""
    reference = _loaded(folder, settings)
    if run is None:
        reward = sampled(reference, settings.atoms, 10_000, settings)[1]
        _write(folder / "runs" / "reference.json", {"rewards": reward.tolist()})
        return
    start = time.perf_counter()
    found = measured(trained(run, reference, settings), reference, 20_000 + run.seed, settings)
    _write(
        folder / "runs" / f"{run.name}.json",
        {**run._asdict(), **found, "seconds": time.perf_counter() - start},
    )


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
    said = {
        name: value for name, value in asdict(settings).items() if name not in ("seeds", *LABELS)
    }
    stored = folder / "settings.json"
    if stored.exists() and json.loads(stored.read_text(encoding="utf-8")) != said:
        raise ValueError(
            f"{folder} holds results of other settings: give another folder, or --fresh"
        )
    _write(stored, said)
    work: list[Run | None] = [
        run for run in settings.runs() if not (folder / "runs" / f"{run.name}.json").exists()
    ]
    if not (folder / "runs" / "reference.json").exists():
        work.insert(0, None)
    with Bars("frontier", len(work) + 1) as bars:
        start = time.perf_counter()
        _loaded(folder, settings)
        bars.finished("", f"reference model: {time.perf_counter() - start:.0f} s")
        if jobs == 1:
            for each in work:
                do(each, settings, folder)
                bars.finished("", _line(each, folder))
            return
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(
            jobs, mp_context=context, initializer=_prepare
        ) as pool:
            futures = {pool.submit(do, each, settings, folder): each for each in work}
            try:
                for done in concurrent.futures.as_completed(futures):
                    done.result()
                    bars.finished("", _line(futures[done], folder))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _line(run: Run | None, folder: Path) -> str:
    if run is None:
        return "reference sampled"
    found = json.loads((folder / "runs" / f"{run.name}.json").read_text(encoding="utf-8"))
    where = f"sentiment {found['reward']:.3f} at {found['kl']:.2f} nats"
    return f"{run.method} {run.strength:g}, seed {run.seed}: {where}, {found['seconds']:.0f} s"


# --- what came out
# --------------------------------------------------------------------------------------------------------------------

PENALTIES = np.geomspace(4.0, 0.04, 60)
BEST_OF = (2, 4, 8, 16, 32)
COLOURS = {"dpo": "tab:blue", "ipo": "tab:orange", "inpo": "tab:green"}


def collected(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return everything that was measured, with the bounds, and write it as JSON and as CSV."""
    bounds = Bounds(
        np.asarray(
            json.loads((folder / "runs" / "reference.json").read_text(encoding="utf-8"))["rewards"]
        ),
        settings.sharpness,
    )
    optimal = bounds.optimal(PENALTIES)
    targets = {
        (run.method, run.strength): target(run, bounds, settings)
        for run in settings.runs()
        if run.seed == settings.seeds[0]
    }
    rows = []
    for run in sorted(settings.runs()):
        row = json.loads((folder / "runs" / f"{run.name}.json").read_text(encoding="utf-8"))
        row["optimal_reward"] = float(np.interp(row["kl"], optimal[:, 0], optimal[:, 1]))
        row["target_kl"], row["target_reward"] = targets[run.method, run.strength]
        rows.append(row)
    found = {
        "reference_reward": float(bounds.reward.mean()),
        "optimal": optimal.tolist(),
        "best_of": {n: bounds.best_of(n) for n in BEST_OF},
        "at_kl": at_kl(rows, settings),
        "runs": rows,
        "settings": asdict(settings),
    }
    _write(folder / "frontier.json", found)
    with (
        atomic_path(folder / "frontier.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return found


def at_kl(
    rows: Sequence[dict[str, Any]], settings: Settings, kl: Sequence[float] = (0.4, 0.65, 1.0, 1.5)
) -> list[dict[str, Any]]:
    """Return the sentiment of each method at the same divergence, interpolated along the frontier of each seed that reaches there."""
    table = []
    for method in LABELS:
        for where in kl:
            values = []
            for seed in settings.seeds:
                points = sorted(
                    (row["kl"], row["reward"])
                    for row in rows
                    if (row["method"], row["seed"]) == (method, seed)
                )
                divergence, reward = np.asarray(points).T
                if divergence[0] <= where <= divergence[-1]:
                    values.append(float(np.interp(where, divergence, reward)))
            if values:
                spread = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
                table.append({"method": method, "kl": where, "seeds": len(values), **spread})
    return table


def draw(found: dict[str, Any], settings: Settings) -> Any:
    """Return the figure: sentiment against divergence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    axis = figure.subplots()
    curve = np.asarray(found["optimal"])
    axis.plot(
        *curve.T,
        color="black",
        linewidth=1.6,
        label="the most that any policy can have: reference × exp(sentiment / β), normalised",
    )
    best = np.asarray(list(found["best_of"].values()))
    axis.plot(
        *best.T,
        color="0.45",
        linestyle=":",
        marker="x",
        linewidth=1.0,
        label="best of n samples of the reference",
    )
    for n, place in zip(found["best_of"], best, strict=True):
        axis.annotate(
            f"n = {n}", place, xytext=(7, -9), textcoords="offset points", color="0.35", fontsize=8
        )
    for method, label in LABELS.items():
        strengths = sorted(getattr(settings, method), reverse=True)
        cells = [
            [row for row in found["runs"] if (row["method"], row["strength"]) == (method, strength)]
            for strength in strengths
        ]
        kl, reward = (
            np.asarray([[row[name] for row in cell] for cell in cells]) for name in ("kl", "reward")
        )
        named = label.format(", ".join(f"{strength:g}" for strength in strengths), settings.rounds)
        axis.scatter(kl, reward, s=10, color=COLOURS[method], alpha=0.45, linewidth=0)
        axis.errorbar(
            kl.mean(axis=1),
            reward.mean(axis=1),
            xerr=_range(kl),
            yerr=_range(reward),
            color=COLOURS[method],
            marker="o",
            markersize=5,
            capsize=2,
            linewidth=1.5,
            elinewidth=0.8,
            label=named,
        )
    axis.plot(
        0,
        found["reference_reward"],
        marker="*",
        markersize=14,
        color="black",
        linestyle="none",
        label="reference model",
    )
    furthest = max(row["kl"] for row in found["runs"])
    axis.set_xlim(-0.04 * furthest, max(1.08 * furthest, 1.0))
    axis.set_ylim(min(-0.05, found["reference_reward"] - 0.05), 1.0)
    axis.set_xlabel("KL(policy ‖ reference), nats a review")
    axis.set_ylabel("sentiment of fresh reviews (mean VADER compound, −1 to 1)")
    axis.grid(alpha=0.25)
    axis.legend(loc="lower right", frameon=False, fontsize=8.5)
    figure.suptitle(
        "What a nat of divergence buys: three methods, the same number of labels and of gradient"
        " steps"
    )
    note = (
        f"{settings.pairs:,} labelled pairs and {settings.steps} steps a run; dots:"
        f" {len(settings.seeds)} seeds, bars: their range"
    )
    axis.set_title(note, fontsize=9)
    return figure


def _range(values: np.ndarray) -> np.ndarray:
    mean = values.mean(axis=1)
    return np.stack([mean - values.min(axis=1), values.max(axis=1) - mean])


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace the frontier; the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/frontier"), help="folder of the results"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew instead of going on")
    given = parser.parse_args(arguments)
    settings, start = Settings(), time.perf_counter()
    if given.fresh:
        for name in ("runs", "reference"):
            shutil.rmtree(given.out / name, ignore_errors=True)
        (given.out / "settings.json").unlink(missing_ok=True)
    _prepare()
    sentiment([""])  # says at once if the lexicon is missing
    try:
        everything(settings, given.out, jobs=given.jobs)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    found = collected(settings, given.out)
    with atomic_path(given.out / "frontier.png") as partial:
        draw(found, settings).savefig(partial, format="png", dpi=150)
    print("sentiment at the same divergence, mean over seeds (least to most):")
    for row in sorted(found["at_kl"], key=lambda row: row["kl"]):
        spread = f"({row['least']:.3f} to {row['most']:.3f}, {row['seeds']} seeds)"
        print(f"  {row['kl']:.2f} nats  {row['method']:5s} {row['mean']:.3f}  {spread}")
    print(f"{given.out / 'frontier.png'}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

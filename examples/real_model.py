"""What preference learning does to a real language model: the analyses on pairs that people judged.

SmolLM2-135M-Instruct and human comparisons of dialogues. How many pairs does it rank as people do,
and how many could the optimum; what do fifty steps of DPO do to the likelihoods of pairs that were
not trained on, and do hidden states and gradients foretell it? Run ``make real``; the results are
in ``results/real``.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_clock import Clock
from real_figure import figure
from real_inputs import Absent, human_pairs, pairs_file, real_model
from real_reading import Reading, read
from real_reward import reward_lines, reward_model, share
from real_walk import Settings as WalkSettings
from real_walk import walk, walk_lines, write_page
from scipy.stats import bootstrap, pearsonr, rankdata

from prefsim import losses
from prefsim.analysis import (
    entanglement,
    idealised_ranking_accuracy,
    ranking_accuracy,
    ranking_loss,
    reward_accuracy,
)
from prefsim.data.formats import atomic_path
from prefsim.lm import CausalLM, TextComparisons, TrainResult, collate
from prefsim.lm.model.pair_measures import gradient_products
from prefsim.solvers import fit

# Shares of votes for the label, of which nothing is known but that it won.
VOTE_SHARES = (0.6, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Settings:
    """Sizes of the study.

    Attributes
    ----------
    train, held_out
        Pairs that are trained on, and others that are measured, beside as many of the first.
    steps, batch_size, learning_rate, lora_rank
        Of DPO.
    beta
        Strength of its KL penalty.
    longest
        Longest sequence, prompt included, in tokens.
    gradient_pairs
        Pairs whose whole gradients are compared.
    seed
        Of the choice of pairs, the adapters and the order.
    """

    train: int = 200
    held_out: int = 100
    steps: int = 50
    batch_size: int = 4
    learning_rate: float = 1e-3
    lora_rank: int = 8
    beta: float = 0.1
    longest: int = 96
    gradient_pairs: int = 12
    seed: int = 0


def rankings(tables: Sequence[np.ndarray], beta: float) -> dict[str, Any]:
    """Return how many pairs a model ranks as people did, and how many its optimum could."""
    n = len(tables[0])
    chosen, rejected = (np.nansum(table, axis=1) for table in tables)
    means = (np.nanmean(table, axis=1) for table in tables)
    return {
        "summed": share(ranking_accuracy(chosen, rejected), n),
        "averaged": share(ranking_accuracy(*means), n),
        "idealised": {
            str(votes): float(idealised_ranking_accuracy(chosen, rejected, votes, beta=beta))
            for votes in VOTE_SHARES
        },
        "ranking_loss": float(np.median(ranking_loss(chosen, rejected, beta=beta))),
    }


def rank_correlation(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return Spearman's rank correlation, of many resamples at once where there are some."""
    ranks = (rankdata(values, axis=axis) for values in (first, second))
    return pearsonr(*ranks, axis=axis).statistic


def correlation(first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, Any]:
    """Return Spearman's rank correlation with its 95 % bootstrap interval over pairs."""
    interval = bootstrap(
        (first, second),
        rank_correlation,
        paired=True,
        n_resamples=2000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        "value": float(rank_correlation(first, second)),
        "interval": [float(interval.low), float(interval.high)],
    }


def gradients(policy: CausalLM, pairs: TextComparisons) -> dict[str, Any]:
    """Return what the gradients of chosen and rejected say of the first step of DPO on a pair."""
    parameters = list(policy.model.parameters())
    table = []
    for prompt, *answers in zip(pairs.prompt, pairs.chosen, pairs.rejected, strict=True):
        rows = policy.encode([prompt] * 2, answers)
        # Each by itself: the gradient of one row of a batch is computed as long as that of all.
        batches = [collate([row], pad_id=policy.pad_id, device=policy.device) for row in rows]
        log_probs = [policy.log_prob_model(batch).logp.sum() for batch in batches]
        table.append(gradient_products(log_probs, parameters))
    found = entanglement(*np.asarray(table).T)
    return {
        "pairs": len(pairs),
        "cosine": found.cosine.tolist(),
        "chosen_rises": float(np.mean(found.chosen_rate > 0)),
        "rejected_falls": float(np.mean(found.rejected_rate < 0)),
        "both": float(found.wanted.mean()),
    }


def study(model: Path, path: Path, settings: Settings, clock: Clock) -> dict[str, Any]:
    """Return everything that is measured, and tell the clock what each stage took."""
    torch.manual_seed(settings.seed)
    with clock.stage("pairs"):
        base = CausalLM.load(model, dtype="float32")
        pairs = human_pairs(
            path,
            base,
            settings.train + settings.held_out,
            longest=settings.longest,
            seed=settings.seed,
        )
    # Of the pairs that are trained on as many as of the others, to compare.
    places = {
        "held_out": range(settings.train, len(pairs)),
        "trained_on": range(settings.held_out),
    }
    with clock.stage("the model reads"):
        before = read(base, pairs)
    with clock.stage("gradients"):
        measured = pairs.take(places["held_out"][: settings.gradient_pairs])
        entangled = gradients(base, measured)
    with clock.stage("dpo"):
        train = range(settings.train)
        trained = trained_by_dpo(model, pairs.take(train), before.take(train), settings)
    with clock.stage("the trained model reads"):
        # Adapters that are part of the weights are not multiplied beside them.
        policy = trained.policy.merged()
        after = {name: read(policy, pairs.take(each)) for name, each in places.items()}
    with clock.stage("reward model"):
        rewards = reward_model(
            before.take(train).embeddings,
            before.take(places["held_out"]).embeddings,
            seed=settings.seed,
        )
    with clock.stage("what foretold"):
        moved = {
            name: movement(before.take(each), after[name], settings.seed)
            for name, each in places.items()
        }
    return {
        "settings": asdict(settings),
        "reward_model": rewards,
        "rankings_before": rankings(before.take(places["held_out"]).tables, settings.beta),
        "rankings_after": rankings(after["held_out"].tables, settings.beta),
        "entanglement": entangled,
        "loss": trained.history[:, 0].tolist(),
        **moved,
    }


def trained_by_dpo(
    model: Path, pairs: TextComparisons, before: Reading, settings: Settings
) -> TrainResult:
    """Return the training of adapters on pairs, held against what was read before it."""
    return fit(
        adapted(model, settings),
        functools.partial(losses.dpo, beta=settings.beta),
        pairs,
        reference=before.reference(),
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=False,
        log_every=1,
    )


def predictors(before: Reading) -> dict[str, np.ndarray]:
    """Return what might foretell how far the chosen log-probability of each pair falls."""
    return {
        "ches": before.ches(),
        "ches_normalised": before.ches(normalised=True),
        # A long completion moves further whatever its states: what a score must beat.
        "length": np.asarray([len(each.logps) for each in before.chosen], dtype=float),
    }


def movement(
    before: Reading,
    after: Reading,
    seed: int,
) -> dict[str, Any]:
    """Return how log-probabilities moved, by pair and by token, and what foretold it."""
    then, now = before.tables, after.tables
    moved = {
        name: later - earlier
        for name, earlier, later in zip(("chosen", "rejected"), then, now, strict=True)
    }
    drift = {name: np.nansum(change, axis=1) for name, change in moved.items()}
    n = len(before.chosen)
    sums = [np.nansum(table, axis=1) for table in (*now, *then)]
    displaced = (drift["chosen"] < 0) & (drift["chosen"] > drift["rejected"])
    return {
        "reward_accuracy": share(reward_accuracy(*sums), n),
        "displaced": share(displaced.mean(), n),
        "drift": {
            name: {
                "mean": float(change.mean()),
                "standard_error": float(change.std(ddof=1) / np.sqrt(n)),
                "falls": float((change < 0).mean()),
                "values": change.tolist(),
            }
            for name, change in drift.items()
        },
        "prediction": {
            name: correlation(scores, -drift["chosen"], seed) | {"values": scores.tolist()}
            for name, scores in predictors(before).items()
        },
        "by_position": {name: by_position(change) for name, change in moved.items()},
    }


def adapted(model: Path, settings: Settings) -> CausalLM:
    """Return the model with new adapters on all linear layers of its blocks."""
    from peft import LoraConfig

    return CausalLM.load(
        model,
        dtype="float32",
        seed=settings.seed,
        adapter=LoraConfig(
            task_type="CAUSAL_LM", r=settings.lora_rank, target_modules="all-linear"
        ),
    )


def by_position(change: np.ndarray, fewest: int = 10) -> dict[str, list[float]]:
    """Return the mean change of each token of a completion, where enough of them are so long."""
    counts = (~np.isnan(change)).sum(axis=0)
    long = counts >= min(fewest, len(change))
    kept = change[:, long]
    return {
        "mean": np.nanmean(kept, axis=0).tolist(),
        "standard_error": (np.nanstd(kept, axis=0) / np.sqrt(counts[long])).tolist(),
    }


def summary(found: dict[str, Any]) -> str:
    """Return what was found, in lines a person can read."""
    before, after = found["rankings_before"], found["rankings_after"]
    entangled = found["entanglement"]
    lines = [
        f"ranking accuracy before, tokens summed {_share(before['summed'])}, averaged"
        f" {_share(before['averaged'])}",
        "the optimum's at shares of votes "
        + ", ".join(f"{votes}: {value:.3f}" for votes, value in before["idealised"].items()),
        f"ranking accuracy after, summed {_share(after['summed'])}, averaged"
        f" {_share(after['averaged'])}",
        f"one step on one pair: chosen rises on {entangled['chosen_rises']:.0%}, rejected falls on"
        f" {entangled['rejected_falls']:.0%}, both on {entangled['both']:.0%} of"
        f" {entangled['pairs']} pairs",
    ]
    for group in ("held_out", "trained_on"):
        rows = found[group]
        lines.append(
            f"pairs {group.replace('_', ' ')}: reward accuracy {_share(rows['reward_accuracy'])},"
            f" displaced {_share(rows['displaced'])}"
        )
        for name, row in rows["drift"].items():
            lines.append(
                f"    {name} moved by {row['mean']:+.2f} ± {row['standard_error']:.2f} nats,"
                f" falls on {row['falls']:.0%}"
            )
        for name, row in rows["prediction"].items():
            low, high = row["interval"]
            lines.append(
                f"    rank correlation of {name} with the fall of the chosen {row['value']:+.2f}"
                f" [{low:+.2f}, {high:+.2f}]"
            )
    rewards = reward_lines(found["reward_model"])
    return "\n".join([*lines, *rewards, *walk_lines(found["walk"])])


def _share(row: dict[str, float]) -> str:
    return f"{row['value']:.3f} ± {row['standard_error']:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and the walk, and write ``real.json``, ``real.png`` and ``walk.html``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    parser.add_argument("--data", help="folder with hh-rlhf/; PREFSIM_DATA unless given")
    parser.add_argument("--model", type=Path, help="a model's folder, in place of SmolLM2")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    try:
        with clock.stage("the model is there"):
            model = given.model or real_model(given.out / "SmolLM2-135M-Instruct")
        found = study(model, pairs_file(given.data), Settings(seed=given.seed), clock)
        found["walk"] = walk(model, WalkSettings(seed=given.seed), clock)
    except Absent as reason:
        print(f"not run: {reason}")
        return
    found["stages"] = clock.stages
    with atomic_path(given.out / "real.json") as partial:
        partial.write_text(json.dumps(found, indent=1), encoding="utf-8")
    with atomic_path(given.out / "real.png") as partial:
        figure(found).savefig(partial, format="png", dpi=150)
    write_page(found["walk"], given.out / "walk.html")
    print(summary(found))
    print(clock.total())


if __name__ == "__main__":
    main()

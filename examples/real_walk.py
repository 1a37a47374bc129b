"""Every stage on a real language model: imitation, preferences, rewards of its own completions.

SmolLM2-135M-Instruct writes reviews: it imitates some that a grammar wrote, learns by DPO from
pairs of its own that the VADER lexicon judged, and by RLOO from the lexicon's score of every
completion. What each stage does to the reward, to the divergence from where it began, and to the
texts is measured on films and products that were not trained on.
"""

from __future__ import annotations

import functools
import html
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from real_clock import Clock
from reviews import FILMS, PRODUCTS, review, sentiment

from prefsim import losses
from prefsim.data.formats import atomic_path
from prefsim.lm import (
    CausalLM,
    ScoredCompletions,
    TextDemonstrations,
    draw_scored,
    scored_completions,
    scored_data,
    trainer,
)
from prefsim.loops import play_rounds
from prefsim.solvers import fit

STAGES = {
    "start": "SmolLM2-135M-Instruct as it is",
    "sft": "after imitating reviews (SFT)",
    "dpo": "then pairs of its own, judged (DPO)",
    "rloo": "then rewards of its own (RLOO)",
}


@dataclass(frozen=True)
class Settings:
    """Sizes of the walk.

    Attributes
    ----------
    held_out
        Prompts that are measured and not trained on, of each kind (films, products).
    demonstrations, sft_steps
        Reviews to imitate, and gradient steps of eight.
    pairs_per_prompt, dpo_steps, dpo_beta
        Judged pairs of each prompt, gradient steps of eight pairs, and the penalty.
    rounds, samples, rloo_beta
        Rounds of RLOO, completions of each prompt in one, and the penalty.
    evaluated
        Completions of each held-out prompt that a stage is measured on.
    new_tokens
        At most, of a completion.
    learning_rate
        Of all stages.
    seed
        Of everything that is drawn.
    """

    held_out: int = 2
    demonstrations: int = 48
    sft_steps: int = 6
    pairs_per_prompt: int = 4
    dpo_steps: int = 4
    dpo_beta: float = 0.1
    rounds: int = 4
    samples: int = 4
    rloo_beta: float = 0.02
    evaluated: int = 6
    new_tokens: int = 24
    learning_rate: float = 2e-5
    seed: int = 0


class Asked(NamedTuple):
    """A review that is asked for, of a film or a product."""

    kind: str
    name: str

    @property
    def prompt(self) -> list[dict[str, str]]:
        """The request as chat messages."""
        what = f"the film {self.name}" if self.kind == "Film" else self.name
        return [
            {"role": "system", "content": "You write short reviews."},
            {"role": "user", "content": f"Review {what}."},
        ]


def reward(asked: list[Any], texts: list[str]) -> np.ndarray:
    """Return how positive each completion is, by the lexicon, in [-1, 1]."""
    return sentiment(texts)


def split_prompts(settings: Settings) -> tuple[list[Asked], list[Asked]]:
    """Return what is trained on and what is not: the last names of each kind."""
    train, held_out = [], []
    for kind, names in (("Film", FILMS), ("Product", PRODUCTS)):
        asked = [Asked(kind, name) for name in names]
        train += asked[: -settings.held_out]
        held_out += asked[-settings.held_out :]
    return train, held_out


def imitated(policy: CausalLM, asked: list[Asked], settings: Settings) -> CausalLM:
    """Return the policy after imitating reviews of the grammar."""
    rng = np.random.default_rng(settings.seed)
    taken = [asked[i % len(asked)] for i in range(settings.demonstrations)]
    data = TextDemonstrations(
        [each.prompt for each in taken], [review(each.kind, rng).strip() for each in taken]
    )
    return fit(
        policy,
        losses.sft,
        data,
        steps=settings.sft_steps,
        batch_size=8,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=False,
    ).policy


def drawn(
    policy: CausalLM, asked: list[Asked], n_samples: int, seed: int, settings: Settings
) -> ScoredCompletions:
    """Return so many completions of each request, with their rewards."""
    return scored_completions(
        policy,
        reward,
        [each.prompt for each in asked],
        n_samples=n_samples,
        seed=seed,
        batched=True,
        batch_size=32,
        max_new_tokens=settings.new_tokens,
    )


def compared(policy: CausalLM, asked: list[Asked], settings: Settings) -> CausalLM:
    """Return the policy after DPO on pairs of its own completions, the more positive one chosen."""
    samples = drawn(policy, asked, 2 * settings.pairs_per_prompt, settings.seed + 1, settings)
    return fit(
        policy,
        functools.partial(losses.dpo, beta=settings.dpo_beta),
        scored_data(samples, form="preferences"),
        reference=policy,
        steps=settings.dpo_steps,
        batch_size=8,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        progress=False,
    ).policy


def rewarded(
    policy: CausalLM, asked: list[Asked], settings: Settings
) -> tuple[CausalLM, list[float]]:
    """Return the policy after RLOO, and the mean reward of what each round drew."""
    draw = draw_scored(
        [each.prompt for each in asked],
        reward,
        n_samples=settings.samples,
        batched=True,
        batch_size=32,
        max_new_tokens=settings.new_tokens,
    )
    train = trainer(
        steps=1,
        batch_size=len(asked),
        learning_rate=settings.learning_rate,
        schedule="constant",
        warmup=0.0,
    )
    loss = functools.partial(losses.rloo, beta=settings.rloo_beta)
    options = {"rounds": settings.rounds, "seed": settings.seed, "reference": policy}
    earned = []
    for played in play_rounds(policy, draw, loss, train=train, **options):
        earned.append(float(np.mean(played.pairs.scores)))
        last = played.policy
    return last, earned


def measured(
    policy: CausalLM, start: CausalLM, asked: list[Asked], settings: Settings
) -> dict[str, Any]:
    """Return reward, divergence from the start and texts of fresh completions of prompts."""
    samples = drawn(policy, asked, settings.evaluated, settings.seed + 2, settings)
    divergence = np.zeros(samples.scores.size)
    if policy is not start:
        rows = [each.prompt for each in asked for _ in range(settings.evaluated)]
        before = start.log_prob(rows, list(samples.completions.ravel()), batch_size=32)
        divergence = samples.logp.sum(axis=-1).ravel() - before.double().cpu().numpy()
    lengths = np.asarray([len(ids) for ids in samples.completions.ravel()])
    return {
        "reward": _mean(samples.scores.ravel()),
        "kl": _mean(divergence),
        "length": float(lengths.mean()),
        "ended": float(samples.ended.mean()),
        "texts": [
            {
                "name": each.name,
                "completions": [policy.decode(ids) for ids in row],
                "rewards": scores.tolist(),
            }
            for each, row, scores in zip(asked, samples.completions, samples.scores, strict=True)
        ],
    }


def _mean(values: np.ndarray) -> dict[str, float]:
    error = values.std(ddof=1) / np.sqrt(values.size)
    return {"value": float(values.mean()), "standard_error": float(error)}


def walk(model: Path, settings: Settings, clock: Clock) -> dict[str, Any]:
    """Return what every stage did, and tell the clock what each took."""
    earned: list[float] = []

    def by_reward(policy: CausalLM, asked: list[Asked], settings: Settings) -> CausalLM:
        policy, rounds = rewarded(policy, asked, settings)
        earned.extend(rounds)
        return policy

    with clock.stage("walk: start"):
        start = CausalLM.load(model, dtype="float32")
        train, held_out = split_prompts(settings)
        found = {"start": measured(start, start, held_out, settings)}
    policy = start
    for name, trained in (("sft", imitated), ("dpo", compared), ("rloo", by_reward)):
        with clock.stage(f"walk: {name}"):
            policy = trained(policy, train, settings)
        with clock.stage(f"walk: {name} measured"):
            found[name] = measured(policy, start, held_out, settings)
    found["rloo"]["rounds"] = earned
    return {"settings": asdict(settings), "stages": found}


# --- what a person reads


def walk_lines(found: dict[str, Any]) -> list[str]:
    """Return a line for each stage."""
    return [
        f"{STAGES[name]}: reward {_number(row['reward'])}, KL to the start {_number(row['kl'])}"
        f" nats, {row['length']:.0f} tokens, {row['ended']:.0%} ended"
        for name, row in found["stages"].items()
    ]


def _number(row: dict[str, float]) -> str:
    return f"{row['value']:+.2f} ± {row['standard_error']:.2f}"


_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
.samples { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
.samples h4 { margin: 0; }
.samples li { margin-bottom: .4rem; }
.reward { font-variant-numeric: tabular-nums; opacity: .7; }
"""


def page(found: dict[str, Any], shown: int = 3) -> str:
    """Return the walk as an HTML page: a table of the stages, and texts of each side by side."""
    heads = "".join(
        f"<th>{name}</th>"
        for name in ("stage", "reward", "KL to the start, nats", "tokens", "ended")
    )
    rows = "".join(
        f"<tr><td>{STAGES[name]}</td><td class=number>{_number(row['reward'])}</td>"
        f"<td class=number>{_number(row['kl'])}</td><td class=number>{row['length']:.0f}</td>"
        f"<td class=number>{row['ended']:.0%}</td></tr>"
        for name, row in found["stages"].items()
    )
    sections = "".join(
        f"<h3>{html.escape(text['name'])}</h3><div class=samples>"
        + "".join(
            _sample(STAGES[name], row["texts"][i], shown) for name, row in found["stages"].items()
        )
        + "</div>"
        for i, text in enumerate(found["stages"]["start"]["texts"])
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>A walk through every stage</title><style>{_STYLE}</style>"
        "<h1>SmolLM2 learns to write reviews, and to write kind ones</h1>"
        "<p>The reward is how positive the VADER lexicon finds a text, from −1 to 1. Means over"
        " fresh completions of prompts that were not trained on, with standard errors over"
        f" completions; seed {found['settings']['seed']}.</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"<h2>What it writes</h2><p>The first {shown} completions of each, unchosen.</p>{sections}"
        "</html>\n"
    )


def _sample(stage: str, text: dict[str, Any], shown: int) -> str:
    items = "".join(
        f"<li>{html.escape(completion)} <span class=reward>({reward:+.2f})</span></li>"
        for completion, reward in zip(
            text["completions"][:shown], text["rewards"][:shown], strict=True
        )
    )
    return f"<div><h4>{stage}</h4><ul>{items}</ul></div>"


def write_page(found: dict[str, Any], file: Path) -> None:
    """Write the page, whole or not at all."""
    with atomic_path(file) as partial:
        partial.write_text(page(found), encoding="utf-8")

"""What a real language model, trained by DPO on whole reviews, says of every token of others.

Reviews of a grammar, of which one of two is the more positive; nobody says why. Afterwards the
log-ratio to the model of before is a reward of tokens: printed over held-out reviews, and in the
mean for words that praise, describe and blame.

    python examples/token_rewards.py --model FOLDER [--steps 12] [--show 2]

A minute of CPU time for SmolLM2-135M-Instruct (``make real`` makes its folder). There, after twelve
steps on 48 pairs, with β = 0.1, a word of blame is fined .386 ± .029 and one of praise paid
.096 ± .028 (24 reviews, standard errors); a description and all other tokens get about nothing
(-.013 ± .023, -.009 ± .003).
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from reviews import CLOSINGS, PARTS, QUALITIES, prompts

from prefsim import losses
from prefsim.lm import CausalLM, RewardedTokens, TextComparisons, rewarded_tokens
from prefsim.solvers import fit

BETA = 0.1
TONES = {1: "praise", 0: "description", -1: "blame"}


class Review(NamedTuple):
    """A review and the words in it that have a tone, with their places."""

    prompt: str
    text: str
    words: tuple[tuple[int, int, int], ...]


def written(prompt: str, tones: Sequence[int], rng: np.random.Generator) -> Review:
    """Return a review of one sentence for each tone."""
    text, words = "", []
    for tone in tones:
        part = rng.choice(PARTS[prompt.partition(":")[0]])
        word = str(rng.choice(QUALITIES[tone]))
        text += f" The {part} was {word}."
        words.append((len(text) - 1 - len(word), len(text) - 1, tone))
    return Review(prompt, text, tuple(words))


def pairs(count: int, rng: np.random.Generator) -> TextComparisons:
    """Return pairs of reviews: one praises and describes, the other describes and blames."""
    rows = []
    for prompt in rng.choice(prompts(), count):
        sides = []
        for tone in (1, -1):
            order = [int(each) for each in rng.permutation([tone, 0])]
            sides.append(f"{written(prompt, order, rng).text} {rng.choice(CLOSINGS[tone])}")
        rows.append((str(prompt), *sides))
    asked, chosen, rejected = (list(column) for column in zip(*rows, strict=True))
    return TextComparisons(asked, chosen, rejected)


def reward_of_words(review: Review, rewarded: RewardedTokens) -> tuple[dict[int, float], float]:
    """Return what the words of each tone are paid in all, and the mean of all other tokens."""
    starts = np.cumsum([0, *map(len, rewarded.tokens)])
    other = np.ones(len(rewarded.tokens), dtype=bool)
    found = {}
    for start, stop, tone in review.words:
        # A token with the space before a word is the word's.
        inside = (starts[1:] > start) & (starts[:-1] < stop)
        found[tone] = float(rewarded.rewards[inside].sum())
        other &= ~inside
    return found, float(rewarded.rewards[other].mean())


def main() -> None:
    """Train, print and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of a causal language model"
    )
    parser.add_argument("--steps", type=int, default=12, help="of DPO, four pairs each")
    parser.add_argument("--held-out", type=int, default=24, help="reviews to measure")
    parser.add_argument("--show", type=int, default=2, help="of them to print")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    from peft import LoraConfig

    rng = np.random.default_rng(given.seed)
    adapter = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear")
    policy = CausalLM.load(given.model, dtype="float32", adapter=adapter, seed=given.seed)
    trained = fit(
        policy,
        functools.partial(losses.dpo, beta=BETA),
        pairs(4 * given.steps, rng),
        reference=policy.without_adapters(),
        steps=given.steps,
        batch_size=4,
        learning_rate=1e-3,
        seed=given.seed,
        progress=False,
    ).policy
    held_out = [
        written(str(prompt), [int(tone) for tone in rng.permutation([1, 0, -1])], rng)
        for prompt in rng.choice(prompts(), given.held_out)
    ]
    words: dict[int, list[float]] = {tone: [] for tone in TONES}
    others = []
    for i, review in enumerate(held_out):
        rewarded = rewarded_tokens(
            trained, trained.without_adapters(), review.prompt, review.text, scale=BETA
        )
        if i < given.show:
            print(f"{review.prompt}{review.text}\n\n{rewarded.table()}\n")
        paid, other = reward_of_words(review, rewarded)
        others.append(other)
        for tone, reward in paid.items():
            words[tone].append(reward)
    print(f"mean reward over {given.held_out} reviews, ± standard error")
    rows = {f"a word of {name}": words[tone] for tone, name in TONES.items()}
    for name, values in (rows | {"any other token": others}).items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"  {name:<22} {np.mean(values):+.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()

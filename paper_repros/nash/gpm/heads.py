"""Vectors, a gate of prompts and a temperature, learnt by gradients from some of the labels.

First as plain numbers, then as heads of a small language model that reads the texts it compares.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from paper_repros.nash.gpm.cycles import on_circle
from prefsim.backend import like, to_numpy
from prefsim.containers import PairRewards
from prefsim.gradients import gradient
from prefsim.losses import bradley_terry, score_regression
from prefsim.numerics import array_namespace, sigmoid, softmax
from prefsim.papers import Criterion, Run, at_least, at_most, near
from prefsim.papers.figures import BLUE, GREEN, SKY
from prefsim.raters import (
    embedding_preference,
    learned_temperature,
    prompt_scales,
    score_matrix,
    skew_score,
)
from prefsim.solvers import fit_bradley_terry

if TYPE_CHECKING:
    from prefsim.lm import PreferenceModel

N_PROMPTS, WIDTH, RESPONSES, PLANES = 8, 4, 6, 2
TEMPERATURE = 0.3
SHOWN = 0.7  # share of a prompt's pairs whose labels are learnt from
# A softplus of this is one tenth: where the authors start.
RAW_START = -2.25


class Prompts(NamedTuple):
    """Prompts of which each weighs two cycles of the same responses in its own way.

    Attributes
    ----------
    hidden
        What a gate sees of a prompt, ``(X, d)``.
    preference
        ``(X, n, n)``.
    shown
        Which pairs of different responses are learnt from, in both orders, ``(X, n, n)``.
    """

    hidden: np.ndarray
    preference: np.ndarray
    shown: np.ndarray

    @property
    def held_out(self) -> np.ndarray:
        """The other pairs, ``(X, n, n)``."""
        return ~self.shown & ~np.eye(RESPONSES, dtype=bool)

    def mean_loss(self, head: Head) -> Any:
        """Return the mean loss of a label that is shown, in nats."""
        prompt, first, second = np.nonzero(self.shown)
        scores = skew_score(
            head.vectors[first], head.vectors[second], scales=head.scales(self.hidden)[prompt]
        )
        logits = scores / learned_temperature(head.raw)
        chance = like(self.preference[self.shown], logits)
        loss = bradley_terry(PairRewards(logits, 0 * logits))
        return (chance * loss).sum() / (0.5 * len(prompt))

    @property
    def entropy(self) -> float:
        """The least mean loss that any model of the shown labels can have, in nats."""
        chance = self.preference[self.shown]
        return float(-np.sum(chance * np.log(chance)) / (0.5 * chance.size))

    def accuracy(self, scores: np.ndarray) -> float:
        """Return the share of pairs held out whose likelier winner has the better score."""
        certain = self.held_out & (np.abs(self.preference - 0.5) > 0.01)
        right = (scores > 0) == (self.preference > 0.5)
        return float(right[certain].mean())


class Head(NamedTuple):
    """Unit vectors ``(n, 2k)``, a gate ``(d, k)`` and what the temperature is made of."""

    vectors: Any
    gate: Any
    raw: Any

    @classmethod
    def of(cls, parameters: Any) -> Head:
        """Return what these numbers hold."""
        xp = array_namespace(parameters)
        vectors = xp.reshape(parameters[: RESPONSES * 2 * PLANES], (RESPONSES, 2 * PLANES))
        length = xp.sqrt(xp.sum(vectors**2, axis=-1, keepdims=True))
        gate = xp.reshape(parameters[RESPONSES * 2 * PLANES : -1], (WIDTH, PLANES))
        return cls(vectors / length, gate, parameters[-1])

    def scales(self, hidden: np.ndarray) -> Any:
        """Return how much the prompts weigh the planes, ``(X, k)``."""
        return prompt_scales(like(hidden, self.gate) @ self.gate, width=WIDTH)

    def score_table(self, hidden: np.ndarray) -> np.ndarray:
        """Return the scores of all pairs for the prompts, ``(X, n, n)``."""
        return to_numpy(score_matrix(self.vectors, scales=self.scales(hidden)))


def drawn_prompts(rng: np.random.Generator) -> Prompts:
    """Return prompts whose labels unit vectors and a gate make, two cycles in different orders."""
    turn = 2 * np.pi * np.arange(RESPONSES) / RESPONSES
    orders = [turn, turn[rng.permutation(RESPONSES)]]
    circles = [on_circle(order + 0.3 * rng.standard_normal(RESPONSES)) for order in orders]
    vectors = np.concatenate(circles, axis=-1) / np.sqrt(PLANES)
    hidden = rng.standard_normal((N_PROMPTS, WIDTH))
    scales = PLANES * softmax(hidden @ rng.standard_normal((WIDTH, PLANES)))
    drawn = np.triu(rng.random((N_PROMPTS, RESPONSES, RESPONSES)) < SHOWN, 1)
    return Prompts(
        hidden,
        embedding_preference(vectors, scales=scales, temperature=TEMPERATURE),
        drawn | np.swapaxes(drawn, -1, -2),
    )


def learn(prompts: Prompts, *, starts: int, rng: np.random.Generator) -> Head:
    """Return the best head of several descents on the mean loss."""

    def lost(parameters: Any) -> Any:
        return prompts.mean_loss(Head.of(parameters))

    def start() -> np.ndarray:
        drawn = rng.standard_normal(2 * PLANES * RESPONSES + WIDTH * PLANES + 1)
        drawn[-1] = RAW_START
        return drawn

    found = [
        minimize(
            lambda parameters: float(lost(parameters)),
            start(),
            jac=lambda parameters: gradient(lost, parameters),
            method="L-BFGS-B",
            options={"maxiter": 400, "ftol": 1e-15, "gtol": 1e-9},
        )
        for _ in range(starts)
    ]
    return Head.of(min(found, key=lambda result: result.fun).x)


def reward_scores(prompts: Prompts) -> np.ndarray:
    """Return the scores ``(X, n, n)`` of rewards fitted to each prompt's labels."""
    reward = to_numpy(fit_bradley_terry(prompts.preference * prompts.shown, ridge=1e-6).reward)
    return reward[:, :, None] - reward[:, None, :]


# --- heads of a language model ---

# A text is a hand of cards, a token each; the tokens behind them are the two prompts.
SUITS, RANKS, CARDS = 3, 3, 5
BY_SUIT, BY_RANK = SUITS * RANKS, SUITS * RANKS + 1
CRITERIA = {"cyclic": BY_SUIT, "transitive": BY_RANK}
# Log-odds of a winner: one label in eight is wrong.
STRENGTH = 2.0
# Few enough to tell apart what is learnt from what is remembered: a hand in six is seen.
HANDS, HELD_OUT = 768, 90
BATCH, STEPS, LEARNING_RATE = 64, 300, 3e-3
LANGUAGE_MODEL: dict[str, Any] = {
    "vocab_size": SUITS * RANKS + len(CRITERIA),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}


class Hands(NamedTuple):
    """Hands of cards ``(n, CARDS)`` of which one suit has most, each suit equally often."""

    cards: np.ndarray

    def log_odds(self, prompt: int) -> np.ndarray:
        """Return the log-odds ``(n, n)`` of each hand against each.

        By suit each beats the next in the circle; by rank the larger sum wins.
        """
        if prompt == BY_RANK:
            total = (self.cards % RANKS).sum(axis=-1)
            return np.asarray(STRENGTH * np.sign(np.subtract.outer(total, total)))
        suit = most_frequent_suit(self.cards)
        ahead = (suit[None, :] - suit[:, None]) % SUITS
        return np.asarray(STRENGTH * ((ahead == 1) * 1.0 - (ahead == 2)))

    def accuracy(self, prompt: int, scores: np.ndarray) -> float:
        """Return the share of pairs with a likelier winner that has the better score."""
        truth = self.log_odds(prompt)
        right = np.where(np.abs(scores) < 1e-9, 0.5, (scores > 0) == (truth > 0))
        return float(right[truth != 0].mean())


def most_frequent_suit(cards: np.ndarray) -> np.ndarray:
    """Return the suit ``(n,)`` of which hands have most, -1 where two have as many."""
    counts = (cards[..., None] // RANKS == np.arange(SUITS)).sum(axis=-2)
    alone = (counts == counts.max(axis=-1, keepdims=True)).sum(axis=-1) == 1
    return np.where(alone, counts.argmax(axis=-1), -1)


def drawn_hands(n: int, rng: np.random.Generator) -> tuple[Hands, Hands]:
    """Return n different hands to learn from and ``HELD_OUT`` others."""
    every = np.stack(np.unravel_index(np.arange((SUITS * RANKS) ** CARDS), [BY_SUIT] * CARDS), -1)
    suit = most_frequent_suit(every)
    shuffled = [rng.permutation(np.flatnonzero(suit == s)) for s in range(SUITS)]
    shown = np.concatenate([rows[: n // SUITS] for rows in shuffled])
    held_out = np.concatenate([rows[-HELD_OUT // SUITS :] for rows in shuffled])
    return Hands(every[shown]), Hands(every[held_out])


class TextHead(NamedTuple):
    """A head of the language model, and the loss that it is trained with."""

    options: dict[str, Any]
    loss: Callable[..., Any]


TEXT_HEADS = {
    "Bradley–Terry": TextHead({"dim": 1}, bradley_terry),
    "GPM": TextHead({"dim": 2 * PLANES, "gated": True, "temperature": True}, bradley_terry),
    "GPM, regression": TextHead(
        {"dim": 2 * PLANES, "gated": True},
        functools.partial(score_regression, target=STRENGTH),
    ),
}


def learn_on_texts(head: TextHead, seed: int) -> dict[str, float]:
    """Return the accuracy by criterion of a head, trunk and all, on hands that it has not seen.

    For the same seed the trunk starts from the same weights, and the labels are the same.
    """
    import torch
    from transformers import LlamaConfig

    from prefsim.lm import CausalLM, PreferenceModel

    rng = np.random.default_rng(seed)
    shown, held_out = drawn_hands(HANDS, rng)
    wins = {prompt: drawn_labels(shown.log_odds(prompt), rng) for prompt in CRITERIA.values()}
    trunk = CausalLM.from_config(LlamaConfig(**LANGUAGE_MODEL), seed=seed)
    model = PreferenceModel(trunk, **head.options, seed=seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)
    for _ in range(STEPS):
        loss = torch.zeros(())
        for prompt, won in wins.items():
            batch = rng.permutation(HANDS)[:BATCH]
            score = table_of(model, prompt, shown.cards[batch])
            of_winners = score[torch.as_tensor(won[np.ix_(batch, batch)])]
            loss = loss + head.loss(PairRewards(of_winners, 0 * of_winners)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    with torch.no_grad():
        return {
            name: held_out.accuracy(prompt, table_of(model, prompt, held_out.cards).numpy())
            for name, prompt in CRITERIA.items()
        }


def drawn_labels(log_odds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which hand won ``(n, n)``, one label for each pair."""
    first = np.triu(rng.random(log_odds.shape) < sigmoid(log_odds), 1)
    return np.asarray(first | np.tril(~first.T, -1))


def table_of(model: PreferenceModel, prompt: int, cards: np.ndarray) -> Any:
    """Return the log-odds of all pairs of hands by a criterion."""
    return model.score_table([prompt], cards.tolist())


# Accuracies on texts held out, by seed, of each head by criterion.
OnTexts = dict[str, dict[str, list[float]]]


def learn_from_texts(run: Run) -> OnTexts:
    """Return what heads of a language model learn, nothing where that part is left out."""
    if run.quick or importlib.util.find_spec("transformers") is None:
        return {}
    # No two runs share one.
    seeds = range(3 * run.seed, 3 * (run.seed + 1))
    found = {
        name: [learn_on_texts(head, seed) for seed in seeds]
        for name, head in run.progress(TEXT_HEADS.items(), "heads of a language model")
    }
    return {
        name: {criterion: [each[criterion] for each in by_seed] for criterion in by_seed[0]}
        for name, by_seed in found.items()
    }


def criteria_of_texts(texts: OnTexts) -> tuple[Criterion, ...]:
    """Return what is expected of heads that share trunk, data and steps."""
    reward, *others = texts.values()
    # Of three hands of different suits a reward ranks two pairs right at most; each suit is there
    # equally often.
    best_reward = (SUITS - 1) / SUITS
    return (
        at_most(
            "language model, reward head: accuracy on cyclic pairs held out, by seed",
            reward["cyclic"],
            best_reward,
            stated="derived",
            paper="no better than a random guess",
        ),
        at_least(
            "language model, vector heads: accuracy on cyclic pairs held out, by head and seed",
            [other["cyclic"] for other in others],
            0.9,
            stated="chosen",
        ),
        near(
            "language model, vector heads: accuracy on transitive pairs held out, less a reward's",
            [np.subtract(other["transitive"], reward["transitive"]) for other in others],
            np.zeros((len(others), len(reward["transitive"]))),
            within=0.03,
            stated="chosen",
        ),
    )


def rows_of_texts(texts: OnTexts) -> list[dict[str, str | float | int]]:
    """Return what the table says of heads of a language model."""
    if not texts:
        return [{"labels": "hands of cards", "model": "language model: left out (full runs only)"}]
    return [
        {
            "labels": f"hands of cards, {criterion}",
            "model": f"language model, {name}",
            "accuracy, held out": float(np.mean(shares)),
        }
        for name, by_criterion in texts.items()
        for criterion, shares in by_criterion.items()
    ]


def draw_texts(axis: Any, texts: OnTexts) -> None:
    """Draw the share of unseen pairs that each head ranks right, a mark a seed."""
    styles = zip("os^", (BLUE, GREEN, SKY), strict=True)
    for m, ((name, by_criterion), (marker, colour)) in enumerate(
        zip(texts.items(), styles, strict=True)
    ):
        for x, shares in enumerate(by_criterion.values()):
            where, label = np.full(len(shares), x + 0.2 * (m - 1)), None if x else name
            axis.plot(where, shares, marker, color=colour, alpha=0.7, label=label)
    axis.axhline((SUITS - 1) / SUITS, color="k", ls="--", lw=1, label="best reward, cyclic pairs")
    axis.axhline(0.5, color="k", ls=":", lw=1, label="a coin")
    axis.set(
        ylim=(0.4, 1.25),
        yticks=np.linspace(0.4, 1, 7),
        ylabel="pairs of unseen texts ranked right (share)",
        title="heads of a small language model",
    )
    axis.set_xticks([0, 1], [f"{criterion} pairs" for criterion in next(iter(texts.values()))])
    axis.set_xlim(-0.5, 1.5)
    axis.legend(fontsize=8, ncols=2, loc="upper center")

"""Preferences: what a reward learned from them takes for relevance, and what people's are for.

The reward without preferences is held against people who chose the more harmless of two answers.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paper_repros.robust.r3.token_world import REWARDS, Terms
from prefsim import losses
from prefsim.analysis.intervals import mean_half_width
from prefsim.data import Comparisons
from prefsim.lm.command.dialogues import ASSISTANT, HUMAN, read_compared
from prefsim.numerics import sigmoid
from prefsim.policies import LogLinearPolicy
from prefsim.raters import relevance_reward, tfidf_embedding
from prefsim.raters.text_reward import CUTS
from prefsim.solvers import fit

BATCH = 256  # pairs whose embeddings are in memory together


class Confounded(NamedTuple):
    """Comparisons by people who look at relevance alone, for a model that reads it with an error.

    Attributes
    ----------
    correlation
        ρ of length and relevance in the answers that are compared.
    error
        σ, the deviation of the error with which the model reads relevance, whose own is 1.
    """

    correlation: float
    error: float

    def ratio(self) -> float:
        """Return the weight of length over that of relevance that many comparisons lead to.

        The index of a logistic fit on normal features is the best linear guess at what people
        looked at.
        """
        return self.error**2 * self.correlation / (1 - self.correlation**2)

    def weights(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return the weights of relevance as it is read and of length, from n comparisons."""
        relevance = rng.standard_normal((n, 2))
        other = np.sqrt(1 - self.correlation**2) * rng.standard_normal((n, 2))
        length = self.correlation * relevance + other
        read = relevance + self.error * rng.standard_normal((n, 2))
        first = rng.random(n) < sigmoid(relevance[:, 0] - relevance[:, 1])
        # Of a log-linear policy whose reference is uniform the log-ratio is the reward, up to what
        # cancels in a pair: at β = 1 this is the Bradley–Terry likelihood of a linear reward.
        model = LogLinearPolicy.from_features(np.stack([read, length], axis=-1))
        data = Comparisons(np.arange(n), np.where(first, 0, 1), np.where(first, 1, 0))
        loss = functools.partial(losses.dpo, beta=1.0)
        return np.asarray(fit(model, loss, data, reference=model).policy.weights)


def angles(learned: dict[Confounded, np.ndarray]) -> np.ndarray:
    """Return the angles of the mean weights from relevance towards length, in radians."""
    mean = np.stack([weights.mean(axis=0) for weights in learned.values()])
    return np.arctan2(mean[:, 1], mean[:, 0])


class Agreement(NamedTuple):
    """How often a reward is higher for the answer that people chose.

    Attributes
    ----------
    share
        Of pairs; one in which the rewards are the same counts as half.
    half_width
        Of the 95 % interval of the share.
    tied
        Share of pairs in which the rewards are the same.
    """

    share: float
    half_width: float
    tied: float


def agreement(chosen: np.ndarray, rejected: np.ndarray) -> Agreement:
    right = 0.5 * (1 + np.sign(chosen - rejected))
    return Agreement(float(right.mean()), mean_half_width(right), float(np.mean(right == 0.5)))


def judge_harmless(folder: Path, *, pairs: int | None) -> dict[str, Agreement] | None:
    """Return the agreement of each term and reward with people on the first pairs.

    None without the pairs, or without scikit-learn, whose TF–IDF embeds the texts.
    """
    path = folder / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.is_file() or importlib.util.find_spec("sklearn") is None:
        return None
    answers = read_compared(path, pairs=pairs)
    # The last turn is what is asked.
    queries = [text.rsplit(HUMAN, 1)[-1].removesuffix(ASSISTANT) for text in answers.prompt]
    corpus = [*queries, *answers.chosen, *answers.rejected]
    embed = tfidf_embedding(corpus)

    def alone(texts: list[str], term: str) -> np.ndarray:
        """Return one factor of the reward: the others are switched off."""
        parts = [
            relevance_reward(
                queries[start : start + BATCH],
                texts[start : start + BATCH],
                embed=embed,
                cuts=(*CUTS, HUMAN.strip(), ASSISTANT.strip()),
                with_length=term == "length",
                with_distinct=term == "distinct",
                with_relevance=term == "relevance",
            )
            for start in range(0, len(texts), BATCH)
        ]
        return np.concatenate(parts)

    chosen, rejected = (
        Terms(*(alone(texts, term) for term in Terms._fields))
        for texts in (answers.chosen, answers.rejected)
    )
    found = {name: agreement(chosen.reward(name), rejected.reward(name)) for name in REWARDS}
    return found | {"RP": agreement(chosen.distinct, rejected.distinct)}

"""Small networks trained by DNO-Prct, on their own samples and a teacher's answer."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.filtered_pairs import filtered_pairs
from prefsim.loops import descent
from prefsim.loops.rounds import play_rounds
from prefsim.numerics import gather, sigmoid
from prefsim.policies import NetworkPolicy
from prefsim.solvers.games.certificates import expected_preference

ROUNDS = 3
PROMPTS, CHOICES, FEATURES = 24, 50, 6
SAMPLES = 5  # of each prompt in a draw
DRAWS = 4  # of each prompt in a round
TOP_SCORE = 6.0


class Taught(NamedTuple):
    """Wins ``(ROUNDS + 1, B)`` against the teacher and against the last policy, ½ at first."""

    against_teacher: np.ndarray
    against_last: np.ndarray

    @property
    def monotone(self) -> np.ndarray:
        """Whether each round beat the last policy and won more against the teacher, ``(B,)``."""
        beat, won = self.against_last[1:] > 0.5, np.diff(self.against_teacher, axis=0) > 0
        return np.all(beat & won, axis=0)


def teach(
    networks: int, *, seed: int, step: float, with_teacher: bool = True, eta: float = 0.1
) -> Taught:
    """Train networks on five own samples and the teacher's answer, scored from 0 to 6.

    A pair needs a winner of 5 or more, ahead by 1 or more. That the winner is better counts as
    certain: DNO-Prct trains by the loss of DPO, with the last policy for a reference. Rewards are
    linear in the prompts' features, preferences Bradley–Terry on them, scores ``6 σ(reward)``. The
    teacher answers with what a reward with normal noise of half its scale calls the best.
    """
    import torch

    rng = np.random.default_rng(seed)
    features = rng.standard_normal((PROMPTS, FEATURES))
    weights = rng.standard_normal((networks, FEATURES, CHOICES)) / np.sqrt(FEATURES)
    reward = 1.5 * features @ weights
    preference = sigmoid(reward[..., :, None] - reward[..., None, :])
    best = np.argmax(reward + 0.75 * rng.standard_normal(reward.shape), axis=-1)
    teacher = (np.arange(CHOICES) == best[..., None]).astype(float)
    scores = TOP_SCORE * sigmoid(reward)
    starts = [NetworkPolicy.mlp(features, CHOICES, hidden=(32,), seed=rng) for _ in range(networks)]
    parameters: list[Any] = [start.parameters for start in starts]
    policy = starts[0].with_parameters(torch.stack(parameters))
    prompt = np.repeat(np.arange(PROMPTS), DRAWS)
    answers = np.repeat(best, DRAWS, axis=-1)[..., None]

    def collected(current: Any, _: Any, generator: np.random.Generator) -> Comparisons:
        own = to_numpy(current.sample(prompt, SAMPLES, generator))
        responses = np.concatenate([own, answers], axis=-1) if with_teacher else own
        prompts = np.broadcast_to(prompt[:, None], responses.shape)
        return filtered_pairs(prompt, responses, gather(scores, prompts, responses))

    rounds = play_rounds(
        policy,
        collected,
        functools.partial(losses.dpo, beta=eta),
        rounds=ROUNDS,
        seed=rng,
        train=descent(step=step, iterations=40),
    )
    probs = [to_numpy(played.probs) for played in (policy, *(r.policy for r in rounds))]
    against_teacher = [expected_preference(preference, p, teacher).mean(axis=-1) for p in probs]
    against_last = [np.full(networks, 0.5)]
    for before, after in itertools.pairwise(probs):
        against_last.append(expected_preference(preference, after, before).mean(axis=-1))
    return Taught(np.stack(against_teacher), np.stack(against_last))

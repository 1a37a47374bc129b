"""What curation does to a law, and where laws go that are curated again and again."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from prefsim.loops.self_consuming import self_consuming
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Verdict, above, apart, claim, falls, outside, rises, worst
from prefsim.solvers import gibbs_log_policy
from prefsim.solvers.closed_forms.curation import curated_law, curation_factor
from prefsim.testing.bandits import tables

Y = 5
LAWS = tables((Y,), low=-2.0, high=2.0).map(log_softmax)
REWARDS = tables((Y,), low=-2.0, high=2.0)
COUNTS = st.integers(2, 12)
NO_OTHER = st.none()


def weights(reward: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of e^r under laws ``(..., Y)``."""
    mean = np.exp(path) @ np.exp(reward)
    return mean, np.exp(path) @ np.exp(2 * reward) - mean**2


def kept_by(reward: np.ndarray, other: Any) -> np.ndarray:
    """Return the reward by which users keep samples."""
    return reward if other is None else np.asarray(other)


# --- one round ---


@claim(
    "C1",
    "identity",
    source="the retraining step",
    stated="paper",
    given={
        "reward": REWARDS,
        "log_law": LAWS,
        "candidates": st.integers(1, 5),
        "sampled": NO_OTHER,
    },
    breaks={"sampled": LAWS},
)
def curation_is_a_mean_over_rivals(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, sampled: Any
) -> Verdict:
    """H is the mean over K − 1 rivals drawn from p of K e^r over the sum of all K weights, at most
    K and 1 on average; one candidate changes nothing.
    """
    rivals_law = np.exp(log_law if sampled is None else sampled)
    weight = np.exp(reward)
    rivals = np.array(list(itertools.product(range(Y), repeat=candidates - 1)), dtype=int)
    chance = rivals_law[rivals].prod(axis=-1)
    total = weight[:, None] + weight[rivals].sum(axis=-1)
    expected = candidates * weight * (chance / total).sum(axis=-1)
    found = curation_factor(reward, log_law, candidates=candidates)
    alone = curation_factor(reward, log_law, candidates=1)
    return worst(
        apart(found, expected),
        apart(np.exp(log_law) @ found, 1.0),
        above(found, candidates),
        apart(alone, 1.0),
    )


@claim(
    "C2",
    "rate",
    source="many candidates",
    stated="derived",
    tolerance=0.0,
    given={
        "reward": REWARDS.filter(lambda r: np.ptp(r) > 0.5),
        "log_law": LAWS,
        "other": NO_OTHER,
    },
    breaks={"other": REWARDS},
)
def many_candidates_tilt_by_the_reward(
    reward: np.ndarray, log_law: np.ndarray, other: Any
) -> Verdict:
    """With K candidates p H is within O(1/K) of p e^r / E_p e^r: four times as many divide the
    distance by about four.
    """
    limit = np.exp(gibbs_log_policy(kept_by(reward, other), log_law, beta=1.0)[0])
    gaps = [
        np.abs(np.exp(log_law) * curation_factor(reward, log_law, candidates=k) - limit).max()
        for k in (64, 256, 1024)
    ]
    return outside(np.divide(gaps[1:], gaps[:-1]), 0.22, 0.28, detail=f"distances {gaps}")


@claim(
    "C3",
    "inequality",
    source="the lemma on one round",
    stated="paper",
    given={"reward": REWARDS, "log_law": LAWS, "candidates": COUNTS, "other": NO_OTHER},
    breaks={"other": REWARDS},
)
def a_round_gains_its_variance(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, other: Any
) -> Verdict:
    """A round raises E e^r by at least (K − 1)/K times its variance over the largest e^r."""
    after = curated_law(kept_by(reward, other), log_law, candidates=candidates)
    before, variance = weights(reward, log_law)
    promised = before + (candidates - 1) / candidates * variance / np.exp(reward.max())
    return above(promised, weights(reward, after)[0])


# --- its own samples alone ---


@claim(
    "C4",
    "monotone",
    source="the loop without real data",
    stated="derived",
    given={"reward": REWARDS, "log_law": LAWS, "candidates": COUNTS, "other": NO_OTHER},
    breaks={"other": REWARDS},
)
def every_increasing_function_of_the_reward_rises(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, other: Any
) -> Verdict:
    """Round after round the expected reward rises, and that of every increasing function of it."""
    kept = kept_by(reward, other)
    path = self_consuming(kept, log_law, candidates=candidates, rounds=6)
    better = reward >= reward[:, None]
    functions = np.stack([reward, reward**3, *better.astype(float)], axis=-1)
    return rises(np.exp(path) @ functions)


@claim(
    "C5",
    "limit",
    source="the theorem on the limit",
    stated="paper",
    examples=15,
    given={
        "reward": REWARDS.map(lambda r: np.round(2 * r) / 2),
        "log_law": LAWS,
        "candidates": COUNTS,
        "other": NO_OTHER,
    },
    breaks={"other": REWARDS},
)
def nothing_but_the_best_is_left(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, other: Any
) -> Verdict:
    """The law tends to that of the responses of highest reward in the proportions of the start:
    the divergence of the limit from the law falls to 0, as does the variance of e^r.
    """
    kept = kept_by(reward, other)
    path = self_consuming(kept, log_law, candidates=candidates, rounds=120)
    best = np.where(reward == reward.max(), log_law, -np.inf)
    limit = log_softmax(best)
    divergence = np.asarray(categorical_kl(limit, path))
    mean, variance = weights(reward, path[-1])
    return worst(
        falls(divergence),
        apart(divergence[-1], 0.0),
        apart(mean, np.exp(reward.max()), relative=True),
        apart(variance, 0.0, scale=np.exp(2 * reward.max())),
    )


@claim(
    "C8",
    "equivalence",
    source="many candidates, and RLHF",
    stated="paper",
    given={
        "reward": REWARDS.filter(lambda r: np.ptp(r) > 0.1),
        "log_law": LAWS,
        "rounds": st.integers(1, 30),
        "candidates": st.just(math.inf),
    },
    breaks={"candidates": st.sampled_from([2, 4, 16])},
)
def rounds_lower_the_price_of_divergence(
    reward: np.ndarray, log_law: np.ndarray, rounds: int, candidates: float
) -> Verdict:
    """With candidates without number t rounds give the optimum of RLHF with β = 1/t."""
    path = self_consuming(reward, log_law, candidates=candidates, rounds=rounds)
    optimum, _ = gibbs_log_policy(reward, log_law, beta=1 / rounds)
    return apart(path[-1], optimum, relative=True)


# --- with real data ---


def mixed(candidates: int, share: float) -> float:
    """Return λ with λ(K − 1) equal to a share below 1."""
    return share / (candidates - 1)


SHARES = st.floats(0.05, 0.95)


@claim(
    "C6",
    "inequality",
    source="the theorem on stability",
    stated="paper",
    given={
        "reward": tables((Y,), low=-6.0, high=6.0),
        "log_law": LAWS,
        "candidates": COUNTS,
        "share": SHARES,
        "start": NO_OTHER,
    },
    breaks={"start": tables((Y,), low=-8.0, high=8.0).map(log_softmax)},
)
def real_data_keep_the_law_near(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, share: float, start: Any
) -> Verdict:
    """With λ(K − 1) < 1 curated samples on a real one, no probability ever exceeds that of the real
    data by more than 1/(1 − λ(K − 1)), and the divergence from them its logarithm.
    """
    path = self_consuming(
        reward,
        log_law,
        candidates=candidates,
        rounds=20,
        synthetic=mixed(candidates, share),
        start=start,
    )
    bound = -math.log1p(-share)
    return worst(
        above((path - log_law).max(axis=-1), bound),
        above(np.asarray(categorical_kl(path, log_law)), bound),
    )


@claim(
    "C6-floor",
    "inequality",
    source="the theorem on stability",
    stated="derived",
    given={
        "reward": tables((Y,), low=-6.0, high=6.0),
        "log_law": LAWS,
        "candidates": COUNTS,
        "ratio": st.floats(0.05, 20.0),
        "start": NO_OTHER,
    },
    breaks={"start": tables((Y,), low=-8.0, high=8.0).map(log_softmax)},
)
def real_data_are_never_forgotten(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, ratio: float, start: Any
) -> Verdict:
    """Whatever λ, no probability falls below that of the real data over 1 + λ, and the divergence
    of the real data from the law stays below log(1 + λ).
    """
    path = self_consuming(
        reward, log_law, candidates=candidates, rounds=20, synthetic=ratio, start=start
    )
    bound = math.log1p(ratio)
    return worst(
        above((log_law - path).max(axis=-1), bound),
        above(np.asarray(categorical_kl(log_law, path)), bound),
    )


@claim(
    "C7",
    "inequality",
    source="the theorem on the gain with real data",
    stated="derived",
    given={
        "reward": REWARDS,
        "log_law": LAWS,
        "candidates": COUNTS,
        "share": SHARES,
        "other": NO_OTHER,
    },
    breaks={"other": REWARDS},
)
def with_real_data_it_still_gains(
    reward: np.ndarray, log_law: np.ndarray, candidates: int, share: float, other: Any
) -> Verdict:
    """From the first round on E e^r is above that of the real data by at least λ/(1 + λ) times what
    one round gains.
    """
    ratio = mixed(candidates, share)
    kept = kept_by(reward, other)
    path = self_consuming(kept, log_law, candidates=candidates, rounds=12, synthetic=ratio)
    mean, variance = weights(reward, log_law)
    gained = (candidates - 1) / candidates * variance / np.exp(reward.max())
    return above(mean + ratio / (1 + ratio) * gained, weights(reward, path[1:])[0])

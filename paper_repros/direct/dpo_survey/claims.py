"""Identities and inequalities between the losses, and where each of them is least."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logit

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.gradients import gradient, loss_gradient
from prefsim.losses.catalogue import properties_of
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, optimal_policy
from prefsim.testing import bandits_with_reference, betas, flip_rates, margins, tables
from prefsim.worlds import ContextualBandit

NAMES_ONLY = "it returns names and truth values: there is no number in it to negate or to scale"
UNSEEN = {
    ("prefsim.losses.catalogue.properties_of", ""): NAMES_ONLY,
    ("prefsim.losses.taxonomy.by_part", ""): NAMES_ONLY,
}

STRENGTHS = betas(0.05, 2)
RATES = flip_rates(0.01, 0.45)


def pairs(margin: Any) -> losses.PairLogps:
    """Return pairs with these log-ratio margins ``(n,)``."""
    margin = np.atleast_1d(margin)
    zero = np.zeros_like(margin)
    return losses.PairLogps(margin, zero, zero, zero)


def slope(loss: Callable[..., Any], margin: Any) -> np.ndarray:
    """Return the derivative of a loss in its margin, ``(n,)``."""
    return loss_gradient(loss, pairs(margin)).chosen


# --- losses of the margin ---


@claim(
    "Z1",
    "identity",
    source="survey, data noise",
    stated="derived",
    given={
        "margin": margins(20.0),
        "beta": STRENGTHS,
        "rate": RATES,
        "target": st.floats(0, 1),
    },
)
def one_function_of_margin_and_target(
    margin: np.ndarray, beta: float, rate: float, target: float
) -> Verdict:
    """The losses dpo, cdpo, rdpo and soft are one function of (margin, target)."""
    data, z = pairs(margin), beta * margin

    def soft(t: float) -> np.ndarray:
        return t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z)

    return worst(
        apart(losses.dpo(data, beta=beta), soft(1.0)),
        apart(losses.dpo(data, beta=beta, label_smoothing=rate), soft(1 - rate)),
        apart(losses.rdpo(data, beta=beta, flip_rate=rate), soft((1 - rate) / (1 - 2 * rate))),
        apart(losses.soft(data, beta=beta, target=target), soft(target)),
    )


@claim(
    "Z2",
    "identity",
    source="derivation",
    stated="derived",
    given={"margin": margins(20.0), "beta": STRENGTHS, "rate": RATES},
    breaks={"rate": st.just(0.0)},
)
def smoothing_adds_what_robustness_subtracts(
    margin: np.ndarray, beta: float, rate: float
) -> Verdict:
    """For ε > 0 cdpo = dpo + εβh with a finite minimum at βh = logit(1 − ε); rdpo = dpo −
    εβh/(1 − 2ε), unbounded below.
    """
    data, far = pairs(margin), 1e4 / beta
    conservative = functools.partial(losses.dpo, beta=beta, label_smoothing=rate)
    robust = functools.partial(losses.rdpo, beta=beta, flip_rate=rate)
    left, right = slope(conservative, [-far, far])
    if not left < 0 < right:
        return Verdict(1.0, f"cdpo has no minimum: slopes {left:.3g} and {right:.3g} at βh = ∓1e4")
    least = brentq(lambda h: float(slope(conservative, h)[0]), -far, far, xtol=1e-14)
    plain, lowest = losses.dpo(data, beta=beta), float(robust(pairs(far))[0])
    return worst(
        apart(conservative(data), plain + rate * beta * margin),
        apart(robust(data), plain - rate / (1 - 2 * rate) * beta * margin),
        apart(beta * least, logit(1 - rate)),
        above(lowest, -1e4 * rate / 2),
        detail=f"rdpo at βh = 1e4: {lowest:.4g}",
    )


OF_THE_MARGIN = (
    "dpo",
    "rdpo",
    "soft",
    "ipo",
    "hinge",
    "f_dpo",
    "rdpo_length",
    "odpo",
    "discopop",
    "exo_pair",
)
NOT_OF_THE_MARGIN = (
    "apo_zero",
    "apo_down",
    "orpo",
    "asft",
    "cpo",
    "simpo",
    "dpop",
    "nca_pair",
    "bco_pair",
    "bco",
    "cal_dpo",
    "chipo",
    "rpo",
    "npo",
)


@claim(
    "Z3",
    "invariance",
    source="derivation",
    stated="derived",
    given={
        "names": st.just(OF_THE_MARGIN),
        "seed": st.integers(0, 1000),
        "constants": tables((3,), low=0.1, high=1.0),
    },
    breaks=[{"names": st.just((name,))} for name in NOT_OF_THE_MARGIN],
)
def margins_do_not_see_a_prompt_constant(
    names: tuple[str, ...], seed: int, constants: np.ndarray
) -> Verdict:
    """Losses of the margin alone do not change where both log-probabilities fall by a constant of
    the prompt; bco, whose shift is a mean over the batch, does, but not where the constant is one
    for all prompts.
    """
    pair = losses.PairLogps.example(3, seed=seed)

    def change(name: str, fall: Any) -> Verdict:
        moved = pair._replace(chosen=pair.chosen - fall, rejected=pair.rejected - fall)
        loss = getattr(losses, name)
        return apart(loss(moved), loss(pair), detail=name)

    changes = [change(name, constants) for name in names] + [change("bco", constants[0])]
    return max(changes, key=lambda verdict: verdict.error)


@claim(
    "Z6",
    "counterexample",
    source="derivation",
    stated="derived",
    tolerance=1e-5,
    examples=1,
    given={"tau": st.just(0.05)},
    breaks={"tau": st.just(5.0)},
)
def discopop_turns_twice(tau: float) -> Verdict:
    """At τ = 0.05 discopop is not monotone in the margin: it turns at −2.3714 τ, where it is
    .785924, and at 1.44012 τ, where it is .878290.
    """
    loss = functools.partial(losses.discopop, beta=1.0, tau=tau)
    grid = np.linspace(-6 * tau, 6 * tau, 241)
    signs = np.sign(slope(loss, grid))
    changes = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    turns = [
        brentq(lambda h: float(slope(loss, h)[0]), grid[i], grid[i + 1], xtol=1e-14)
        for i in changes
    ]
    if len(turns) != 2:
        return Verdict(1.0, f"{len(turns)} stationary points")
    values = loss(pairs(turns))
    return worst(
        apart(turns, [-2.3714 * tau, 1.44012 * tau]),
        apart(values, [0.785924, 0.878290]),
        detail=f"turns {turns}, values {values}",
    )


@claim(
    "Z8",
    "inequality",
    source="derivation",
    stated="derived",
    given={
        "margin": margins(5.0),
        "strength": betas(1e-4, 1e4),
        "share_of_bounds": st.just(1.0),
    },
    # Few pairs, and strengths at which the first bound is nearly reached, or the second.
    breaks=(
        {"strength": betas(1e-4, 1e-3), "share_of_bounds": st.just(0.9)},
        {
            "margin": st.floats(0.1, 1.0).map(lambda z: np.array([-z, z])),
            "strength": betas(10.0, 100.0),
            "share_of_bounds": st.just(0.9),
        },
    ),
)
def robustified_loss_is_between_least_and_mean(
    margin: np.ndarray, strength: float, share_of_bounds: float
) -> Verdict:
    """Dr.DPO of n pairs lies between the least and the mean loss, at most β′ log n above the least
    and at most w²/8β′ below the mean, with the losses' range w: it tends to the mean as β′ grows
    and to the least as β′ vanishes.
    """
    data = pairs(margin)
    plain = losses.dpo(data, beta=1.0)
    robust = losses.drdpo(data, beta=1.0, beta_prime=strength)[0]
    above_least = share_of_bounds * strength * np.log(margin.size)
    below_mean = share_of_bounds * np.ptp(plain) ** 2 / (8 * strength)
    # The logarithm of a mean is multiplied by β′, and with it its rounding error.
    size = 1 + strength
    return worst(
        above(plain.min(), robust, scale=size),
        above(robust, plain.mean(), scale=size),
        above(robust - plain.min(), above_least, scale=size),
        above(plain.mean() - robust, below_mean, scale=size),
    )


MINIMISERS = {
    "dpo": "logit(p) / beta",
    "rdpo": "logit((p - e) / (1 - 2e)) / beta",
    "ipo": "(2p - 1) / (2 tau)",
    "hinge": "sign(2p - 1) / beta",
    "exo_pair": "(2p - 1) logit(1 - epsilon) / beta",
    "soft": "logit(p t + (1 - p)(1 - t)) / beta",
}


@claim(
    "Z9a",
    "minimiser",
    source="derivation",
    stated="derived",
    tolerance=0.0,
    examples=12,
    given={"name": st.sampled_from(sorted(MINIMISERS))},
)
def margin_losses_are_least_where_stated(name: str) -> Verdict:
    """Of a pair whose first response wins with probability p the loss is least at the margin logit
    p/β (dpo), logit((p − ε)/(1 − 2ε))/β (rdpo), (2p − 1)/(2τ) (ipo), sign(2p − 1)/β (hinge),
    (2p − 1) logit(1 − ε)/β (exo_pair) or logit(pt + (1 − p)(1 − t))/β (soft).
    """
    searched, stated = properties_of(getattr(losses, name), name).minimiser, MINIMISERS[name]
    return Verdict(float(searched != stated), f"{name}: found {searched}, stated {stated}")


# --- losses of each response, and of lists ---


@claim(
    "Z4",
    "identity",
    source="derivation",
    stated="derived",
    given={"log_ratio": margins(5.0, size=4), "beta": STRENGTHS},
)
def two_candidates_are_a_pair(log_ratio: np.ndarray, beta: float) -> Verdict:
    """With two candidates PL-DPO, InfoNCA with hard targets and DPO agree; exp(−PL) sums to one
    over rankings.
    """
    pair = losses.ListLogps(log_ratio[:2], np.zeros(2), np.asarray([1.0, 0.0]))
    dpo = losses.dpo(pairs(log_ratio[0] - log_ratio[1]), beta=beta)[0]
    orders = np.asarray(list(itertools.permutations(range(log_ratio.size))), dtype=float)
    rankings = losses.ListLogps(
        np.broadcast_to(log_ratio, orders.shape), np.zeros_like(orders), orders
    )
    total = np.exp(-losses.pl_dpo(rankings, beta=beta)).sum()
    return worst(
        apart(losses.pl_dpo(pair, beta=beta), dpo),
        # A temperature so low that the target of the better candidate is 1.
        apart(losses.infonca(pair, beta=beta, alpha=1e-3), dpo),
        apart(total, 1.0),
        detail=f"sum over rankings {total}",
    )


@claim(
    "Z5",
    "inequality",
    source="derivation",
    stated="derived",
    given={"chosen": margins(10.0, size=3), "rejected": margins(10.0, size=3)},
)
def classifying_costs_more_than_comparing(chosen: np.ndarray, rejected: np.ndarray) -> Verdict:
    """Of rewards r the loss bco_pair exceeds dpo by log(1 + (e^{−r_w} + e^{r_l})/(1 + e^{r_l −
    r_w})); the alignment term of asft is at least that of orpo.
    """
    zero, one = np.zeros(3), np.ones(3)
    pair = losses.PairLogps(chosen, rejected, zero, zero)
    gap = losses.bco_pair(pair, beta=1.0) - losses.dpo(pair, beta=1.0)
    shares = (np.exp(-chosen) + np.exp(rejected)) / (1 + np.exp(rejected - chosen))
    # Log-probabilities, below 0.
    likelihoods = losses.PairLogps(
        -np.abs(chosen) - 0.01, -np.abs(rejected) - 0.01, zero, zero, one, one
    )
    asft, orpo = (loss(likelihoods, lambda_=1.0) for loss in (losses.asft, losses.orpo))
    return worst(apart(gap, np.log1p(shares)), above(orpo, asft))


PROBABILITIES = st.floats(0.02, 0.98)
LOG_RATIOS: dict[str, Callable[[float], float]] = {
    "nca_pair": lambda q: np.log(2 * q) / 0.1,
    "bco_pair": lambda q: logit(q) / 0.1,
    "sppo_hard": lambda q: (2 * q - 1) / (2 * 0.1),
}


@claim(
    "Z9b",
    "minimiser",
    source="derivation",
    stated="derived",
    given={"names": st.just(tuple(LOG_RATIOS)), "prob": PROBABILITIES, "both": st.just(True)},
    breaks=[{"names": st.just((name,)), "both": st.just(False)} for name in LOG_RATIOS],
)
def point_losses_are_stationary_where_stated(
    names: tuple[str, ...], prob: float, both: bool
) -> Verdict:
    """With both orders present, and q the probability that a response wins, nca_pair is stationary
    at the log-ratio log(2q)/β, bco_pair at logit(q)/β and sppo_hard at (2q − 1)/(2β).
    """
    parts = []
    for name in names:
        loss = functools.partial(getattr(losses, name), beta=0.1)

        def risk(first: Any, second: Any, loss: Callable[..., Any] = loss) -> Any:
            pair = losses.PairLogps(first, second, 0 * first, 0 * second)
            return prob * loss(pair) + both * (1 - prob) * loss(pair.swapped())

        log_ratio = LOG_RATIOS[name]
        slopes = gradient(risk, [log_ratio(prob)], [log_ratio(1 - prob)])
        parts += [apart(slope, 0.0, detail=name) for slope in slopes]
    return worst(*parts, detail=f"p = {prob}")


# --- policies ---


@claim(
    "Z7",
    "identity",
    source="derivation (sDPO)",
    stated="derived",
    examples=8,
    given={
        "bandit": bandits_with_reference(max_contexts=2, max_responses=4, spread=1.0, scale=1.5),
        "stages": st.integers(1, 3),
        "against": st.just("the last"),
    },
    breaks={"stages": st.integers(2, 3), "against": st.just("the first")},
)
def stages_multiply_the_tilt(
    bandit: tuple[ContextualBandit, TabularPolicy], stages: int, against: str
) -> Verdict:
    """T stages of exact DPO, each against the last policy, give π_ref exp(T r/β)/Z."""
    world, reference = bandit
    data = Comparisons.population(world, reference)
    policy = reference
    for _ in range(stages):
        met = policy if against == "the last" else reference
        policy = fit(policy, functools.partial(losses.dpo, beta=1.0), data, reference=met).policy
    tilted = optimal_policy(np.asarray(world.reward), reference.probs, beta=1.0 / stages)
    return apart(policy.probs, tilted, detail=f"{stages} stages")

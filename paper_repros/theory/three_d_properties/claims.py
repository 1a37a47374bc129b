"""How a pairwise loss pulls on probabilities, logits and rewards, and where the mass goes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.theory.three_d_properties.toy import (
    METHODS,
    ascent,
    descend_table,
    logps_of,
    rates,
)
from prefsim import losses
from prefsim.analysis import pair_derivatives
from prefsim.gradients import gradient
from prefsim.losses import PairLogps, PairRewards
from prefsim.numerics import log_softmax, sigmoid
from prefsim.papers import Verdict, above, apart, claim, falls, rises, worst
from prefsim.testing import betas
from prefsim.testing.bandits import tables

STRENGTHS = betas(0.01, 2.0)
PROBABILITIES = tables((4,), low=0.01, high=0.9)
LOGITS = st.integers(3, 11).flatmap(lambda n: tables((n,), low=-5.0, high=5.0))
FIRST, SECOND = np.array([0]), np.array([1])


def _by_probability(loss: Any, probabilities: np.ndarray) -> tuple[float, float]:
    """Return the derivatives of a loss in the probabilities of both responses."""
    own, reference = probabilities[:2], np.log(probabilities[2:])

    def value(chosen: Any, rejected: Any) -> Any:
        return loss(PairLogps(chosen.log(), rejected.log(), *map(chosen.new_tensor, reference)))

    first, second = gradient(value, *own)
    return float(first), float(second)


# --- in probabilities ---


@claim(
    "C1",
    "identity",
    source="corollary 1",
    stated="paper",
    given={
        "probabilities": PROBABILITIES,
        "beta": STRENGTHS,
        "beta_rejected": STRENGTHS,
        "likelihood": st.just(0.0),
    },
    breaks={"likelihood": st.floats(0.1, 1.0)},
)
def gradients_in_the_probabilities(
    probabilities: np.ndarray, beta: float, beta_rejected: float, likelihood: float
) -> Verdict:
    """With s = σ(−u) the loss falls in π⁺ by βs/π⁺ and rises in π⁻ by β⁻s/π⁻, so that the rejected
    probability is pulled β⁻π⁺/(βπ⁻) times as hard, π⁺/π⁻ times for DPO, whatever s.
    """
    chosen, rejected, *reference = probabilities
    margin = beta * np.log(chosen / reference[0]) - beta_rejected * np.log(rejected / reference[1])
    unsure = sigmoid(-margin)
    flex = functools.partial(losses.flex_dpo, beta=beta, beta_rejected=beta_rejected)
    regularised = functools.partial(losses.rpo, beta=beta, eta=likelihood, scale_by_beta=False)
    up, down = _by_probability(flex, probabilities)
    plain = _by_probability(regularised, probabilities)
    share = beta_rejected * chosen / (beta * rejected)
    return worst(
        apart(up, -beta * unsure / chosen, relative=True),
        apart(down, beta_rejected * unsure / rejected, relative=True),
        apart(-down / up, share, scale=1 + share),
        apart(-plain[1] / plain[0], chosen / rejected, scale=1 + chosen / rejected),
    )


@claim(
    "C2",
    "rate",
    source="corollary 2",
    stated="paper",
    tolerance=0.03,
    given={
        "log_chosen": st.floats(-2.0, -0.1),
        "log_reference": tables((2,), low=-3.0, high=-0.1),
        "beta": st.floats(0.1, 0.9),
        "end": st.floats(-160.0, -120.0),
    },
    breaks=[{"beta": st.floats(1.2, 2.0)}, {"end": st.floats(-2.0, -0.5)}],
)
def one_gradient_grows_and_the_other_vanishes(
    log_chosen: float, log_reference: np.ndarray, beta: float, end: float
) -> Verdict:
    """As π⁻ falls to 0 the gradient in π⁻ grows as π⁻ to the power β − 1, without bound for β < 1,
    and that in π⁺ vanishes as π⁻ to the power β.
    """
    steps = 0.5 * np.arange(3)
    rejected = end - steps
    same = [np.full(3, x) for x in (log_chosen, *log_reference)]
    logps = PairLogps(same[0], rejected, *same[1:])
    slopes = pair_derivatives(functools.partial(losses.dpo, beta=beta), logps)
    # ∂L/∂π is that in log π over π; logarithms, since π⁻ is tiny.
    in_rejected = np.log(slopes.rejected) - rejected
    in_chosen = np.log(slopes.chosen) - log_chosen
    powers = [
        (each[-1] - each[0]) / (rejected[-1] - rejected[0]) for each in (in_rejected, in_chosen)
    ]
    return worst(apart(powers, [beta - 1, beta]), rises(in_rejected), falls(in_chosen))


@claim(
    "C7",
    "identity",
    source="section 3.4",
    stated="paper",
    tolerance=1e-15,
    given={"rewards": tables((2,), low=-5.0, high=5.0), "of_rewards": st.just(True)},
    breaks={"of_rewards": st.just(False)},
)
def a_reward_model_pulls_both_alike(rewards: np.ndarray, of_rewards: bool) -> Verdict:
    """The loss of a reward model falls in the chosen reward as it rises in the rejected one, by
    σ(r⁻ − r⁺), which is less than 1; in the exponentials of rewards it does not.
    """

    def value(chosen: Any, rejected: Any) -> Any:
        return losses.bradley_terry(PairRewards(chosen, rejected))

    up, down = gradient(value, *rewards)
    if not of_rewards:
        up, down = up / np.exp(rewards[0]), down / np.exp(rewards[1])
    size = sigmoid(rewards[1] - rewards[0])
    return worst(apart(up, -size), apart(down, size), above(down, 1.0))


# --- in logits ---


@claim(
    "C3",
    "identity",
    source="sections 3.1 and 5",
    stated="derived",
    given={
        "logits": LOGITS,
        "moved": tables((11,), low=-2.0, high=2.0),
        "beta": betas(0.05, 2.0),
        "beta_rejected": betas(0.05, 2.0),
        "likelihood": st.floats(0.0, 0.5),
        "shared": st.just(0.0),
    },
    breaks={"shared": st.floats(0.5, 1.0)},
)
def rates_of_all_log_probabilities(
    logits: np.ndarray,
    moved: np.ndarray,
    beta: float,
    beta_rejected: float,
    likelihood: float,
    shared: float,
) -> Verdict:
    """On a table the logits move by s(β1⁺ − β⁻1⁻ − (β − β⁻)π) under Flex-DPO, and by βs(1⁺ − 1⁻) +
    γ(1⁺ − π) under DPO with a likelihood term; log π⁺ by βs(1 − π⁺ + π⁻), log π⁻ by −βs(1 + π⁺ −
    π⁻) and that of every unseen response by −βs(π⁺ − π⁻) under DPO.
    """
    log_probs, reference = log_softmax(logits), log_softmax(logits + moved[: len(logits)])
    probs, ratio = np.exp(log_probs), log_probs - reference
    flex = functools.partial(losses.flex_dpo, beta=beta, beta_rejected=beta_rejected)
    regularised = functools.partial(losses.rpo, beta=beta, eta=likelihood, scale_by_beta=False)

    def directions(loss: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the direction on a table by slopes, and automatically."""
        slopes = pair_derivatives(loss, logps_of(log_probs[None], reference[None], FIRST, SECOND))

        def value(z: Any) -> Any:
            own = log_softmax(z)
            return loss(PairLogps(own[0], own[1], *(own.new_tensor(x) for x in reference[:2])))

        found = ascent(log_probs[None], slopes, FIRST, SECOND)[0]
        # A parameter of all logits beside those of each.
        return found, -gradient(value, logits) * (1 + shared * np.arange(len(logits)))

    eye = np.eye(len(logits))
    unsure = sigmoid(-(beta * ratio[0] - beta_rejected * ratio[1]))
    plain = sigmoid(-beta * (ratio[0] - ratio[1]))
    by_hand = (
        unsure * (beta * eye[0] - beta_rejected * eye[1] - (beta - beta_rejected) * probs),
        beta * plain * (eye[0] - eye[1]) + likelihood * (eye[0] - probs),
    )
    parts = []
    for loss, expected in zip((flex, regularised), by_hand, strict=True):
        found, automatic = directions(loss)
        parts += [apart(found, expected), apart(automatic, expected)]
    dpo_rates = rates(log_probs, directions(functools.partial(losses.dpo, beta=beta))[0])
    lead = probs[0] - probs[1]
    expected_rates = beta * plain * np.where(eye[0], 1 - lead, np.where(eye[1], -1 - lead, -lead))
    return worst(*parts, apart(dpo_rates, expected_rates))


@claim(
    "C4",
    "monotone",
    source="section 3.1",
    stated="derived",
    given={
        "logits": LOGITS,
        "rate": betas(0.1, 300.0),
        "beta": betas(0.05, 2.0),
        "share": st.just(1.0),
    },
    breaks={"share": st.floats(0.0, 0.5)},
)
def a_table_raises_the_chosen_and_lowers_the_rejected(
    logits: np.ndarray, rate: float, beta: float, share: float
) -> Verdict:
    """On a table every step of DPO, however long, raises the chosen and lowers the rejected
    probability, and leaves the ratios of the unseen ones as they are.
    """
    loss = functools.partial(losses.flex_dpo, beta=beta, beta_rejected=share * beta)
    path = np.array(list(descend_table(log_softmax(logits)[None], loss, rate=rate, steps=4)))[:, 0]
    ratios = path[:, 2:] - path[:, 2:3]
    return worst(
        rises(path[:, 0]), falls(path[:, 1]), apart(ratios, ratios[0], scale=1 + np.abs(path).max())
    )


@claim(
    "C5",
    "identity",
    source="section 3.1",
    stated="derived",
    given={"logits": LOGITS, "beta": betas(0.05, 2.0), "share": st.just(1.0)},
    breaks={"share": st.floats(0.0, 0.5)},
)
def the_rejected_falls_faster_where_the_chosen_is_likelier(
    logits: np.ndarray, beta: float, share: float
) -> Verdict:
    """On a table log π⁻ falls faster than log π⁺ rises, by 2βs(π⁺ − π⁻), exactly if π⁺ > π⁻."""
    log_probs = log_softmax(logits)
    loss = functools.partial(losses.flex_dpo, beta=beta, beta_rejected=share * beta)
    slopes = pair_derivatives(loss, logps_of(log_probs[None], log_probs[None], FIRST, SECOND))
    moved = rates(log_probs[None], ascent(log_probs[None], slopes, FIRST, SECOND))[0]
    lead = np.exp(log_probs[0]) - np.exp(log_probs[1])
    return apart(-moved[1] - moved[0], 2 * beta * 0.5 * lead)


@claim(
    "C6",
    "limit",
    source="section 3.3",
    stated="derived",
    tolerance=2e-3,
    examples=4,
    given={
        "chosen": st.floats(0.015, 0.03),
        "rejected": st.floats(0.55, 0.65),
        "steps": st.just(250),
    },
    breaks=[{"steps": st.just(25)}, {"rejected": st.floats(0.001, 0.01)}],
)
def dispersion_of_a_table_is_transient(chosen: float, rejected: float, steps: int) -> Verdict:
    """On a table that starts with an unlikely chosen and a likely rejected response unseen
    responses first gain what the rejected one loses, and in the end lose all of it.
    """
    start = np.log([[chosen, rejected, *np.full(8, (1 - chosen - rejected) / 8)]])
    path = np.array(list(descend_table(start, METHODS["DPO"], rate=2.0, steps=steps)))[:, 0]
    unseen = np.exp(path[:, 2:]).sum(axis=-1)
    peak = unseen.max()
    return worst(
        apart(unseen[-1], 0.0),
        above(1.2 * unseen[0], peak),
        detail=f"unseen {unseen[0]:.3f}, at most {peak:.3f}, at the end {unseen[-1]:.2g}",
    )


# --- the remedy ---


@claim(
    "C8",
    "limit",
    source="section 5, Flex-DPO",
    stated="derived",
    tolerance=1e-9,
    given={
        "probabilities": PROBABILITIES,
        "beta": STRENGTHS,
        "beta_rejected": st.just(1e-12),
    },
    breaks={"beta_rejected": st.floats(0.1, 1.0)},
)
def without_a_strength_of_its_own_the_rejected_response_is_left_out(
    probabilities: np.ndarray, beta: float, beta_rejected: float
) -> Verdict:
    """As β⁻ goes to 0 Flex-DPO becomes −log σ(β log π⁺/π_ref⁺), and at β⁻ = β it is DPO."""
    logps = PairLogps(*np.log(probabilities)[:, None])
    found = losses.flex_dpo(logps, beta=beta, beta_rejected=beta_rejected)
    alone = -np.log(sigmoid(beta * (logps.chosen - logps.ref_chosen)))
    alike = losses.flex_dpo(logps, beta=beta, beta_rejected=beta)
    return worst(apart(found, alone), apart(alike, losses.dpo(logps, beta=beta)))


@claim(
    "C9",
    "counterexample",
    source="section 5, Flex-DPO",
    stated="derived",
    tolerance=0.0,
    examples=4,
    given={
        "chosen": st.floats(0.2, 0.5),
        "rejected": st.floats(0.2, 0.4),
        "rate": st.just(50.0),
    },
    breaks={"rate": st.floats(0.2, 0.6)},
)
def a_weaker_push_ends_lower(chosen: float, rejected: float, rate: float) -> Verdict:
    """A smaller strength of the rejected response protects it at first only: on a table log π⁻
    falls as log(1 + 2β⁻²t)/β⁻, so that in the long run it ends lower than under DPO.
    """
    start = np.log([[chosen, rejected, *np.full(8, (1 - chosen - rejected) / 8)]])
    ends = []
    for name in ("DPO", "Flex-DPO, β⁻ = .02"):
        *_, end = descend_table(start, METHODS[name], rate=rate, steps=150)
        ends.append(float(end[0, 1]))
    return above(ends[1], ends[0], detail=f"log π⁻ {ends[0]:.1f} by DPO, {ends[1]:.1f} by Flex-DPO")

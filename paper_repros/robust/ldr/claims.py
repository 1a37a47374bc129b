"""What the paper says about its family of losses: worst cases, consistency, noise, adaptation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.robust.ldr import one_input
from paper_repros.robust.ldr.one_input import laws
from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_classification import aldr_lambda
from prefsim.losses.class_scores import every_label, label_margins, softplus_normalised
from prefsim.losses.classification import ldr_kl, ldr_weights, mae
from prefsim.losses.dro import kl_dro_dual
from prefsim.papers import Verdict, above, apart, claim, falls, worst
from prefsim.testing.bandits import betas, tables

SCORES = st.integers(2, 6).flatmap(lambda size: tables((size,), low=-4.0, high=4.0))

# --- the worst case itself ---


@claim(
    "L1",
    "identity",
    source="dual form of LDR-KL",
    stated="paper",
    tolerance=3e-8,
    examples=8,
    given={"scores": SCORES, "margin": st.floats(0.0, 2.0), "lambda_": betas(0.1, 10.0)},
)
def worst_case_has_a_closed_form(scores: np.ndarray, margin: float, lambda_: float) -> Verdict:
    """The worst distribution under a KL penalty has the closed form λ log mean exp(v/λ), with
    weights softmax((f + c)/λ).
    """
    classes = one_input.first_label(scores, margin)
    value, weights = one_input.solved_worst_case(label_margins(classes), lambda_)
    return worst(
        apart(value, ldr_kl(classes, lambda_=lambda_)),
        # The objective is flat at its maximum, so the solver knows the weights to about the root
        # of what it knows of the value.
        apart(weights, ldr_weights(classes, lambda_=lambda_), scale=1e3),
    )


@claim(
    "L12",
    "identity",
    source="definitions of the family",
    stated="paper",
    tolerance=1e-10,
    examples=6,
    given={
        "seed": st.integers(0, 10_000),
        "k": st.integers(1, 5),
        "lambda_": betas(0.2, 5.0),
        "lambda_0": betas(0.3, 5.0),
        "granted": st.just(1.0),
    },
    breaks={"granted": st.floats(0.5, 0.9)},
)
def losses_are_their_worst_cases(
    seed: int, k: int, lambda_: float, lambda_0: float, granted: float
) -> Verdict:
    """With the margins that the losses have, LDR-KL and KL-DRO are λ log mean exp(v/λ), LDR-k-KL
    the worst case over p <= 1/k, top-k SVM the mean of the k largest v, Crammer–Singer the largest,
    symmetric the mean, ALDR-KL the maximum over λ; cross-entropy is −log p_y and MAE 1 − p_y.
    """
    classes, strengths = one_input.drawn_examples(seed), {"lambda_": lambda_, "lambda_0": lambda_0}
    missed = one_input.differences_from_definitions(classes, k=k, granted=granted, **strengths)
    return worst(*(apart(off, 0.0, detail=name) for name, off in missed.items()))


LADDER = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 20), [math.inf]])


def as_they_are(scores: np.ndarray) -> np.ndarray:
    """Return scores that are not normalised."""
    return scores


@claim(
    "L2",
    "monotone",
    source="LDR-KL and its limits",
    stated="derived",
    given={
        "scores": SCORES,
        "margin": st.floats(0.0, 2.0),
        "shift": st.floats(-50.0, 50.0),
        "normalised": st.just(as_they_are),
    },
    breaks={"shift": st.floats(1.0, 5.0), "normalised": st.just(softplus_normalised)},
)
def loss_falls_from_the_largest_margin_to_their_mean(
    scores: np.ndarray,
    margin: float,
    shift: float,
    normalised: Callable[[np.ndarray], np.ndarray],
) -> Verdict:
    """LDR-KL falls as λ grows, from the largest margin to their mean, and does not see a constant
    added to all scores.
    """
    classes, moved = (
        one_input.first_label(normalised(x), margin) for x in (scores, scores + shift)
    )
    here, there = (
        np.array([float(ldr_kl(example, lambda_=lambda_)) for lambda_ in LADDER])
        for example in (classes, moved)
    )
    v = label_margins(classes)
    # Rounding errors grow with the scores.
    scale = 1 + np.abs(v).max() + abs(shift)
    return worst(
        falls(here / scale),
        apart(here[[0, -1]], [v.max(), v.mean()], scale=scale),
        apart(there, here, scale=scale),
        detail=f"shift changes {np.abs(there - here).max():.1e}",
    )


# --- consistency: the order of the scores of least risk ---


@claim(
    "L3",
    "consistency",
    source="consistency of LDR-KL, 0 < λ < ∞",
    stated="derived",
    tolerance=1e-9,
    examples=20,
    given={"law": laws(), "lambda_": betas(0.2, 5.0)},
    breaks={"law": laws(0.45), "lambda_": st.just(0.0)},
)
def best_scores_are_logarithms_of_the_law(law: np.ndarray, lambda_: float) -> Verdict:
    """Without margin the expected LDR-KL loss is least at λ log q + const, where it is λ(H(q) − log
    K): consistent for every top-k.
    """
    found, value = one_input.best_scores(law, lambda_=lambda_, margin=0.0)
    stated, entropy = lambda_ * (np.log(law) - np.log(law).mean()), -float(law @ np.log(law))
    return worst(
        apart(found, stated),
        # The risk is flat there: it is known better than where it is least.
        apart(value, lambda_ * (entropy - math.log(law.size)), scale=1e-3),
        one_input.lost_order(found),
        detail=f"argmin off by {np.abs(found - stated).max():.1e}",
    )


@claim(
    "L4",
    "consistency",
    source="consistency of LDR-KL, 0 < λ < ∞",
    stated="paper",
    tolerance=0.0,
    examples=20,
    given={"law": laws(), "lambda_": betas(0.3, 5.0), "margin": st.floats(0.05, 1.0)},
    breaks={"law": laws(0.45), "lambda_": st.just(0.0)},
)
def margin_keeps_the_order(law: np.ndarray, lambda_: float, margin: float) -> Verdict:
    """With a constant margin the minimiser still has strictly the order of q."""
    return one_input.keeps_the_order(*one_input.best_scores(law, lambda_=lambda_, margin=margin))


@claim(
    "L5",
    "counterexample",
    source="inconsistency of the Crammer–Singer loss",
    stated="derived",
    tolerance=1e-9,
    examples=20,
    given={
        "law": st.just(np.asarray([0.4, 0.3, 0.3])) | laws(0.5),
        "margin": st.just(1.0) | st.floats(0.1, 3.0),
    },
    breaks={"law": laws().filter(lambda law: law[0] > 0.52), "margin": st.just(1.0)},
)
def svm_is_content_with_equal_scores(law: np.ndarray, margin: float) -> Verdict:
    """The SVM loss (λ = 0) with a margin is least at equal scores where no class has more than
    half: for q = (.4, .3, .3) and a margin of 1 they cost 1 and e₁ costs 1.2.
    """
    risk = one_input.ldr_risk(law, lambda_=0.0, margin=margin)
    flat, leading = risk(np.zeros(law.size))[0], risk(np.eye(law.size)[0])[0]
    least = one_input.least_svm_risk(law, margin)
    return worst(
        apart(flat, least),
        above(flat, leading),
        detail=f"equal scores {flat:.4g}, best {least:.4g}, e₁ {leading:.4g}",
    )


@claim(
    "L9",
    "consistency",
    source="consistency of ALDR-KL, α > log K, λ₀ < ∞",
    stated="paper",
    tolerance=0.0,
    examples=6,
    given={
        "law": laws(),
        "lambda_0": betas(0.3, 5.0),
        "margin": st.sampled_from([0.0, 0.2]),
        "divergence": st.just(one_input.of_a_single_class),
        "ratio": st.floats(1.1, 3.0),
    },
    # The temperature falls to 0 as soon as all classes but the label tie.
    breaks={
        "law": laws(0.45),
        "lambda_0": st.just(0.3),
        "margin": st.just(1.0),
        "divergence": st.just(one_input.of_all_but_one),
        "ratio": st.just(0.9),
    },
)
def adaptation_keeps_the_order(
    law: np.ndarray,
    lambda_0: float,
    margin: float,
    divergence: Callable[[int], float],
    ratio: float,
) -> Verdict:
    """ALDR-KL, with the exact maximum over λ and α > log K, is least at scores in the order of
    q.
    """
    alpha = ratio * divergence(law.size)
    risk = one_input.aldr_risk(law, lambda_0=lambda_0, alpha=alpha, margin=margin)
    return one_input.keeps_the_order(*one_input.minimiser(risk, law.size))


# --- the symmetric end of the family ---


@claim(
    "L6",
    "identity",
    source="symmetric losses under uniform noise",
    stated="paper",
    given={
        "law": laws(),
        "scale": st.floats(0.5, 5.0),
        "margin": st.floats(0.0, 2.0),
        "rate": st.floats(0.05, 0.6),
        "lambda_": st.just(math.inf),
        "flips": st.just(one_input.uniform_flips),
    },
    breaks=({"lambda_": st.floats(0.1, 10.0)}, {"flips": st.just(one_input.uneven_flips)}),
)
def uniform_noise_scales_the_risk(
    law: np.ndarray,
    scale: float,
    margin: float,
    rate: float,
    lambda_: float,
    flips: Callable[[int], np.ndarray],
) -> Verdict:
    """At λ = ∞ the loss sums to (K − 1)c over the labels, so uniform noise scales the risk by 1 −
    ρK/(K−1) and shifts it, and no more.
    """
    size = law.size
    scores = scale * np.cos(np.arange(size) * (1 + scale))
    values = ldr_kl(every_label(scores, margin), lambda_=lambda_)
    noise = (1 - rate) * np.eye(size) + rate * flips(size)
    stated = (1 - rate * size / (size - 1)) * law @ values + rate * margin
    return worst(apart(values.sum(), (size - 1) * margin), apart(law @ noise @ values, stated))


Minimised = Callable[[np.ndarray, float], np.ndarray]


@claim(
    "L7",
    "counterexample",
    source="limits of symmetric losses",
    stated="derived",
    tolerance=1e-9,
    given={
        "law": laws(),
        "bound": st.floats(0.5, 10.0),
        "minimised": st.just(one_input.on_the_simplex),
    },
    breaks={"minimised": st.just(one_input.on_the_ball)},
)
def simplex_forgets_all_but_the_first(
    law: np.ndarray, bound: float, minimised: Minimised
) -> Verdict:
    """On {f >= 0, Σf <= B} the symmetric loss is least at B·e of the most likely class: top-1
    consistent, but all others tie.
    """
    scores = minimised(law, bound)
    detail = f"scores {np.round(scores, 4)}: the order of all but the first is lost"
    return apart(scores / bound, np.eye(law.size)[0], detail=detail)


@claim(
    "L7b",
    "minimiser",
    source="limits of symmetric losses",
    stated="derived",
    tolerance=1e-9,
    given={
        "law": laws(),
        "bound": st.floats(0.5, 10.0),
        "minimised": st.just(one_input.on_the_ball),
    },
    breaks={"minimised": st.just(one_input.on_the_simplex)},
)
def ball_keeps_the_order(law: np.ndarray, bound: float, minimised: Minimised) -> Verdict:
    """On the ball ‖f‖ <= B it is least at f ∝ q − 1/K, which keeps the order of every class: the
    constraint decides, not the loss.
    """
    direction, centred = minimised(law, bound) / bound, law - 1 / law.size
    return worst(
        apart(direction, centred / np.linalg.norm(centred)), one_input.lost_order(direction)
    )


@claim(
    "L8",
    "counterexample",
    source=(
        "top-k consistency of symmetric losses; the paper's general statement has hypotheses that"
        " exclude such losses"
    ),
    stated="derived",
    tolerance=1e-9,
    given={
        "loss": st.just(mae),
        "law": laws(),
        "others": tables((4,), low=-3.0, high=3.0),
    },
    breaks={"loss": st.just(one_input.spherical)},
)
def mae_does_not_see_the_order_of_the_others(
    loss: Callable[[ClassLogits[np.ndarray]], np.ndarray], law: np.ndarray, others: np.ndarray
) -> Verdict:
    """MAE is symmetric and its risk tends to the infimum along e of the most likely class, however
    the others are ordered. Not every symmetric loss is blind so: √((K−1)/K) − g_y/√(1+‖g‖²) keeps
    the order (here it breaks the claim).
    """
    size, risk = law.size, functools.partial(one_input.expected, loss, law)
    first = 200.0 * np.eye(size)[0]
    rest = np.concatenate([[0.0], others[: size - 1]])
    backwards = rest[[0, *range(size - 1, 0, -1)]]
    rays = [400 * law, *(100 * np.roll(rest, k) for k in range(size))]
    return worst(
        apart(loss(every_label(first)).sum(), loss(every_label(rest)).sum()),
        apart([risk(first + rest), risk(first + backwards)], risk(first)),
        above(risk(first), risk(np.stack(rays))),
        detail=f"risk {risk(first):.6g} whatever the order of the rest",
    )


# --- the adaptive temperature ---

PEAKED = st.integers(3, 6).flatmap(lambda size: tables((size,), low=-3.0, high=3.0))
GROWING = np.concatenate([[0.0], np.geomspace(0.1, 30.0, 12)])


@claim(
    "L10",
    "monotone",
    source="definition of ALDR-KL; the released code takes one step towards it",
    stated="derived",
    tolerance=1e-9,
    examples=20,
    given={
        "scores": PEAKED,
        "lambda_0": betas(0.2, 10.0),
        "ratio": st.floats(1.1, 3.0),
        "variant": st.just("exact"),
    },
    breaks={"lambda_0": betas(0.2, 2.0), "ratio": st.just(2.0), "variant": st.just("authors")},
)
def temperature_falls_as_the_weights_get_peaked(
    scores: np.ndarray, lambda_0: float, ratio: float, variant: str
) -> Verdict:
    """λ* = λ₀(1 − KL(p‖1/K)/α): it is λ₀ exactly where all margins are equal and falls as the
    weights get more peaked.
    """
    alpha = ratio * math.log(scores.size)
    classes = ClassLogits(GROWING[:, None] * scores, np.zeros(GROWING.size, int))
    found = np.asarray(aldr_lambda(classes, lambda_0=lambda_0, alpha=alpha, variant=variant))
    divergence = kl_dro_dual(label_margins(classes), lambda_=found).divergence
    share = found / lambda_0
    strictly_less = (share[divergence > 1e-9] < 1).all()
    return worst(
        apart(share, 1 - divergence / alpha),
        falls(share),
        apart(share[0], 1.0),
        0.0 if strictly_less else 1.0,
        detail=f"λ*/λ₀ from {share[0]:.3f} to {share[-1]:.3f}",
    )


@claim(
    "L11",
    "counterexample",
    source="definition of ALDR-KL",
    stated="derived",
    tolerance=0.0,
    examples=1,
    given={"ratio": st.just(1.2)},
    breaks={"ratio": st.just(3.0)},
)
def plain_iteration_ends_at_a_lower_maximum(ratio: float) -> Verdict:
    """The objective in λ is not concave: with ten classes, nine of them 1.88 behind, λ₀ = 1 and α =
    1.2 log K, iterating the stationary condition from λ₀ ends at a lower maximum than the best.
    """
    plain, height, lambda_, value = one_input.two_maxima(ratio)
    detail = f"λ = {plain:.4f} gives {height:.5f}, λ* = {lambda_:.4f} {value:.5f}"
    return above(1e-3, value - height, detail=detail)

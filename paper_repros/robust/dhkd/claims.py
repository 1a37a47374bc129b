"""What the paper says about losses on logits, what they do to a head, and two heads."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.robust.dhkd import distilled_students, neural_collapse
from paper_repros.robust.dhkd.distilled_students import ALIGNED, CE, DUAL, RULES, Rule
from prefsim.containers import DistillationLogits
from prefsim.gradients import loss_gradient
from prefsim.losses import binary_kl, binary_kl_norm, distillation_kl
from prefsim.numerics import sigmoid, softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.solvers.optimisers.gradient_alignment import aligned_gradient, without_conflict
from prefsim.testing.bandits import betas, tables

Pair = DistillationLogits[np.ndarray]


def pairs(spread: float = 4.0) -> st.SearchStrategy[Pair]:
    """Scores of a student and a teacher, two to six classes, up to ``spread``."""

    def of_size(n: int) -> st.SearchStrategy[Pair]:
        scores = tables((1, n), low=-spread, high=spread)
        return st.builds(DistillationLogits, scores, scores)

    return st.integers(2, 6).flatmap(of_size)


def coin_kl(p: np.ndarray, q: np.ndarray, least: float) -> np.ndarray:
    """Return the KL divergence of coins from coins, probabilities held to [least, 1 − least]."""
    p, q = np.clip(p, least, 1 - least), np.clip(q, least, 1 - least)
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


@claim(
    "D1",
    "identity",
    source="definitions of BinaryKL and BinaryKL-Norm",
    stated="paper",
    tolerance=1e-11,
    given={"pair": pairs(), "tau": betas(0.5, 10.0), "least": st.just(0.0)},
    # As the released code clamps what it takes logarithms of.
    breaks={"pair": pairs(100.0), "tau": st.just(1.0), "least": st.just(1e-8)},
)
def losses_are_divergences_of_coins(pair: Pair, tau: float, least: float) -> Verdict:
    """BinaryKL is τ² Σ KL(Ber(σ(z^t/τ))‖Ber(σ(z^s/τ))), its Norm τ² Σ KL(Ber(½)‖Ber(σ((z^s −
    z^t)/τ))) = τ² Σ log cosh((z^s − z^t)/2τ), with gradients τ(σ − σ) and (τ/2) tanh; that of
    softmax distillation is T(p^s − p^t).
    """
    student, teacher = pair
    gap = student - teacher
    coins = sigmoid(np.asarray(teacher) / tau), sigmoid(student / tau)
    pulls = (
        (functools.partial(binary_kl, tau=tau), tau * (coins[1] - coins[0])),
        (functools.partial(binary_kl_norm, tau=tau), tau / 2 * np.tanh(gap / (2 * tau))),
        (
            functools.partial(distillation_kl, temperature=tau),
            tau * (softmax(student / tau) - softmax(teacher / tau)),
        ),
    )
    of_binary = tau**2 * coin_kl(coins[0], coins[1], least).sum(-1)
    of_norm = tau**2 * coin_kl(np.full_like(gap, 0.5), sigmoid(gap / tau), least).sum(-1)
    p, q = softmax(teacher / tau), softmax(student / tau)
    of_softmax = tau**2 * np.sum(p * np.log(p / q), axis=-1)
    scale = 1 + tau**2
    return worst(
        apart(binary_kl(pair, tau=tau), of_binary, scale=scale),
        apart(binary_kl_norm(pair, tau=tau), of_norm, scale=scale),
        apart(distillation_kl(pair, temperature=tau), of_softmax, scale=scale),
        *(apart(loss_gradient(loss, pair).logits, slope, scale=scale) for loss, slope in pulls),
    )


@claim(
    "D2",
    "inequality",
    source="BinaryKL and BinaryKL-Norm, large and small temperatures",
    stated="derived",
    tolerance=1e-9,
    given={"pair": pairs(), "tau": betas(0.01, 1000.0), "share": st.just(1.0)},
    breaks={"pair": pairs(), "tau": betas(100.0, 1000.0), "share": st.floats(0.3, 0.9)},
)
def losses_lie_below_both_of_their_limits(pair: Pair, tau: float, share: float) -> Verdict:
    """Norm is at most ‖z^s − z^t‖²/8, and less than it by at most Σ d⁴/192τ²; and at most τ‖z^s −
    z^t‖₁/2, by at most Kτ² log 2. BinaryKL is at most ‖z^s − z^t‖²/8, which it tends to as τ grows.
    """
    student, teacher = pair
    d = student - teacher
    square, absolute = (d**2).sum(-1) / 8, tau * np.abs(d).sum(-1) / 2
    norm, binary = binary_kl_norm(pair, tau=tau), binary_kl(pair, tau=tau)
    # The curvature of a coin between both scores is at least that at the larger of them.
    edge = np.maximum(np.abs(student), np.abs(teacher)) / tau
    least = np.sum(sigmoid(edge) * sigmoid(-edge) * d**2, axis=-1) / 2
    return worst(
        above(norm, share * square),
        above(norm, absolute),
        above(square - (d**4).sum(-1) / (192 * tau**2), norm),
        above(absolute - d.shape[-1] * tau**2 * np.log(2), norm),
        above(binary, share * square),
        above(least, binary),
    )


UNSHIFTED = (
    (distillation_kl, "student"),
    (distillation_kl, "teacher"),
    (distillation_kl, "both"),
    (binary_kl_norm, "both"),
)
SHIFTED = ((binary_kl_norm, "student"), (binary_kl, "both"), (binary_kl, "teacher"))


@claim(
    "D3",
    "invariance",
    source="what softmax distillation does not use",
    stated="paper",
    tolerance=1e-11,
    given={
        "pair": pairs(),
        "shift": st.floats(-5.0, 5.0),
        "case": st.sampled_from(UNSHIFTED),
    },
    breaks={"shift": st.floats(1.0, 5.0), "case": st.sampled_from(SHIFTED)},
)
def softmax_distillation_does_not_see_a_shift(
    pair: Pair, shift: float, case: tuple[Callable[[Pair], np.ndarray], str]
) -> Verdict:
    """A constant added to the scores of student or teacher does not change softmax distillation;
    the Norm does not see one added to both; BinaryKL sees either. Scores alike but for a shift c
    have a Norm of Kτ² log cosh(c/2τ).
    """
    loss, moved = case
    shifts = {"student": (shift, 0.0), "teacher": (0.0, shift), "both": (shift, shift)}[moved]
    there = DistillationLogits(pair.logits + shifts[0], pair.teacher_logits + shifts[1])
    shifted = DistillationLogits(pair.teacher_logits + shift, pair.teacher_logits)
    size = pair.logits.shape[-1]
    return worst(
        apart(loss(there), loss(pair)),
        apart(binary_kl_norm(shifted), 4 * size * np.log(np.cosh(shift / 4))),
        apart(distillation_kl(shifted), 0.0),
    )


# --- one head ---


@claim(
    "D5",
    "identity",
    source="gradient analysis under neural collapse",
    stated="derived",
    given={
        "n_classes": st.integers(3, 6),
        "scale": st.floats(0.5, 4.0),
        "target": st.floats(0.5, 4.0),
        "other": st.floats(0.0, 2.0),
        "noise": st.just(0.0),
    },
    breaks={"noise": st.floats(0.5, 1.0)},
)
def at_collapse_head_and_features_conflict_alike(
    n_classes: int, scale: float, target: float, other: float, noise: float
) -> Verdict:
    """At exact collapse with a teacher that treats classes alike, cross-entropy and BinaryKL pull
    head and features along one line: both cosines are the sign of r_o − r_t, the pulls of BinaryKL
    on other classes and on the label.
    """
    found, excess = neural_collapse.collapsed(n_classes, scale, target, other, noise)
    assume(abs(excess) > 1e-3)
    return worst(
        apart(found.head, np.sign(excess)),
        apart(found.backbone, np.sign(excess)),
        detail=f"head {float(found.head):.6g}, features {float(found.backbone):.6g}",
    )


@claim(
    "D6",
    "statistical",
    source="gradient analysis under neural collapse",
    stated="chosen",
    tolerance=0.0,
    examples=5,
    given={"seed": st.integers(0, 10**6), "spread": st.just(0.1)},
    breaks={"spread": st.just(0.0)},
)
def near_collapse_it_is_the_head_that_conflicts(seed: int, spread: float) -> Verdict:
    """Near collapse, with scores of the teacher off by noise and a common shift, cases in which
    only the head conflicts are at least 1 % and five times those in which only the features do.
    """
    head, backbone, both, none = neural_collapse.near_collapse(4000, seed, spread=spread).counts()
    shown = f"head alone {head}, features alone {backbone}, both {both}, none {none}"
    return worst(above(40, head), above(5 * backbone, head), detail=shown)


# --- two heads ---


@claim(
    "D7",
    "identity",
    source="gradient alignment",
    stated="paper",
    given={
        "main": tables((4, 6), low=-2.0, high=2.0),
        "auxiliary": tables((4, 6), low=-2.0, high=2.0),
        "blocks": st.just(1),
    },
    breaks={"blocks": st.sampled_from([2, 3])},
)
def alignment_never_slows_the_main_loss(
    main: np.ndarray, auxiliary: np.ndarray, blocks: int
) -> Verdict:
    """Where g₁·g₂ < 0 the aligned step g has g₁·g = ‖g₁‖² and differs from g₁ + g₂ along g₁ alone;
    elsewhere it is the plain sum. Applied to blocks of the parameters it is another step.
    """
    assume((np.abs(main).sum(-1) > 0.1).all())
    parts = zip(np.split(main, blocks, -1), np.split(auxiliary, blocks, -1), strict=True)
    step = np.concatenate([aligned_gradient(*part) for part in parts], axis=-1)
    inner, square = np.sum(main * auxiliary, -1), np.sum(main**2, -1)
    left = auxiliary - np.minimum(inner / square, 0.0)[:, None] * main
    return worst(
        apart(np.sum(main * step, -1), square + np.maximum(inner, 0.0), relative=True),
        apart(step, main + left, relative=True),
        apart(without_conflict(auxiliary, main), left, relative=True),
    )


@claim(
    "D8",
    "equivalence",
    source="training and prediction with two heads",
    stated="paper",
    tolerance=0.0,
    examples=3,
    given={
        "rule": st.sampled_from([RULES[DUAL], RULES[ALIGNED]]),
        "seed": st.integers(0, 10**6),
        "alpha": st.just(0.0),
    },
    breaks={"alpha": st.floats(0.1, 1.0)},
)
def without_weight_the_second_head_changes_nothing(rule: Rule, seed: int, alpha: float) -> Verdict:
    """At α = 0 backbone and first head are, to the last bit, those of training on labels alone, and
    so are predictions, which never use the second head.
    """
    task = distilled_students.task_of("Gaussian", range(seed, seed + 1))
    assert task is not None
    task = task._replace(teacher_inputs=task.inputs, teacher_label=task.label)
    teachers = distilled_students.teacher_layers(task, 2, seed)
    two, one = (
        distilled_students.train(each, task, teachers, alpha=alpha, steps=3, seed=seed)
        for each in (rule, RULES[CE])
    )
    first = zip(two.layers[:4], one.layers[:4], strict=True)
    return worst(*(apart(*both) for both in first), apart(two.accuracy, one.accuracy))


UNSEEN: dict[tuple[str, str], str] = {}

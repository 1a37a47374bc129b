"""What the classifier of thumbs is to DPO, and what the shift and the prompt weights do."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp

from prefsim import losses
from prefsim.backend import like
from prefsim.data import Comparisons
from prefsim.gradients import gradient, loss_gradient
from prefsim.numerics import array_namespace, log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.testing import margins, tables

REFERENCES = -2.0, -3.0
"""Log-probabilities under the reference of chosen and rejected completions."""


def pairs(chosen: Any, rejected: Any) -> losses.PairLogps:
    """Return pairs with these rewards at β = 1, each ``(n,)``."""
    both = (np.atleast_1d(np.asarray(reward, dtype=np.float64)) for reward in (chosen, rejected))
    chosen, rejected = np.broadcast_arrays(*both)
    ref_chosen, ref_rejected = (np.full_like(chosen, reference) for reference in REFERENCES)
    return losses.PairLogps(chosen + ref_chosen, rejected + ref_rejected, ref_chosen, ref_rejected)


def thumbs(rewards: Any, desirable: Any) -> losses.UnpairedLogps:
    """Return completions with these rewards at β = 1, each ``(..., n)``."""
    rewards = np.asarray(rewards, dtype=np.float64)
    labels = np.broadcast_to(np.asarray(desirable), rewards.shape)
    references = np.where(labels, *REFERENCES)
    return losses.UnpairedLogps(rewards + references, references, labels)


def alternating(rewards: np.ndarray) -> np.ndarray:
    """Return labels of which every other one is a thumb up."""
    return np.arange(rewards.size) % 2 == 0


# --- a bound of DPO, and the shift that tightens it ---


def gap(chosen: Any, rejected: Any, shift: float) -> np.ndarray:
    """Return the classifier's loss of a pair less its DPO loss, ``(n,)``."""
    both = pairs(chosen, rejected)
    return losses.bco_pair(both, beta=1.0, shift=float(shift)) - losses.dpo(both, beta=1.0)


@claim(
    "B1",
    "inequality",
    source="theorem 1",
    stated="paper",
    tolerance=1e-13,
    given={
        "chosen": margins(8.0, size=4),
        "rejected": margins(8.0, size=4),
        "shift": st.floats(-8.0, 8.0),
    },
)
def the_classifier_bounds_dpo(chosen: np.ndarray, rejected: np.ndarray, shift: float) -> Verdict:
    """ℓ(r_w − δ) + ℓ(−(r_l − δ)) exceeds ℓ(r_w − r_l) for every δ, by
    log(1 + (e^{δ − r_w} + e^{r_l − δ})/(1 + e^{r_l − r_w})).
    """
    both = pairs(chosen, rejected)
    dpo, classifier = losses.dpo(both, beta=1.0), losses.bco_pair(both, beta=1.0, shift=shift)
    odds = np.exp(shift - chosen) + np.exp(rejected - shift)
    stated = np.log1p(odds / (1 + np.exp(rejected - chosen)))
    return worst(
        apart(classifier - dpo, stated, relative=True),
        above(dpo, classifier),
        # Strictly: equality would not do.
        float((dpo >= classifier).any()),
        detail=f"least gap {np.min(classifier - dpo):.3g}",
    )


@claim(
    "B2",
    "minimiser",
    source="section on reward shift",
    stated="derived",
    tolerance=1e-11,
    given={"chosen": st.floats(-6, 6), "rejected": st.floats(-6, 6)},
)
def the_middle_is_the_best_shift_of_a_pair(chosen: float, rejected: float) -> Verdict:
    """For one pair the best δ is (r_w + r_l)/2; the gap is then at most log 2, its value at
    r_w = r_l, and vanishes with |r_w − r_l|.
    """
    middle, half = (chosen + rejected) / 2, (rejected - chosen) / 2
    best = minimize_scalar(
        lambda shift: gap(chosen, rejected, shift)[0],
        bracket=(middle - 1, middle + 1.5),
        tol=1e-10,
    )
    least = np.log1p(2 * np.exp(half) / (1 + np.exp(2 * half)))
    return worst(
        # Where a minimum lies is known to the root of the rounding error only.
        apart(best.x, middle, scale=1e7),
        apart(best.fun, least),
        apart(gap(chosen, rejected, middle), least),
        apart(gap(chosen, chosen, chosen), np.log(2)),
        apart(gap(middle + 40, middle - 40, middle), 0.0),
        above(least, np.log(2)),
        detail=f"δ {best.x:.6f}, middle {middle:.6f}",
    )


@claim(
    "B3",
    "identity",
    source="section on reward shift",
    stated="derived",
    tolerance=1e-9,
    given={
        "chosen": tables((6,), low=-3.0, high=3.0),
        "rejected": tables((6,), low=-3.0, high=3.0),
    },
)
def the_best_shift_of_a_batch_is_nearly_its_mean(
    chosen: np.ndarray, rejected: np.ndarray
) -> Verdict:
    """E[e^{δ − r_w} + e^{r_l − δ}] is least at δ = ½ log(E e^{r_l}/E e^{−r_w}), whose first order
    is the mean reward.
    """

    def formula(scale: float) -> float:
        return float(logsumexp(scale * rejected) - logsumexp(-scale * chosen)) / 2

    best = minimize_scalar(
        lambda shift: logsumexp(np.r_[shift - chosen, rejected - shift]),
        bracket=(-1, 1.5),
        tol=1e-12,
    ).x
    small = 1e-3
    largest = max(np.abs(chosen).max(), np.abs(rejected).max())
    mean = small * (chosen.mean() + rejected.mean()) / 2
    return worst(
        # Where a minimum lies is known to the root of the rounding error only.
        apart(best, formula(1.0), scale=1e3),
        above(abs(formula(small) - mean), (small * largest) ** 2),
        detail=f"search {best:.6f}, formula {formula(1.0):.6f}",
    )


@claim(
    "B7",
    "invariance",
    source="section on reward shift",
    stated="derived",
    given={
        "rewards": tables((5,), low=-4.0, high=4.0),
        "constant": st.floats(0.5, 5.0),
        "shift_by": st.just("mean of the batch"),
    },
    breaks=({"shift_by": st.just("nothing")}, {"shift_by": st.just("running mean")}),
)
def the_mean_reward_takes_out_a_constant(
    rewards: np.ndarray, constant: float, shift_by: str
) -> Verdict:
    """With δ the mean reward a constant on all rewards changes nothing, of thumbs or of pairs."""

    def of_thumbs(moved: np.ndarray) -> np.ndarray:
        shifts = {
            "mean of the batch": None,  # the default of the loss
            "nothing": 0.0,
            "running mean": losses.RewardShift().updated(rewards).updated(moved).mean,
        }
        batch = thumbs(moved, alternating(moved))
        return losses.bco_unpaired(batch, beta=1.0, shift=shifts[shift_by])

    def of_pairs(moved: np.ndarray) -> np.ndarray:
        return losses.bco(pairs(moved, moved[::-1]), beta=1.0)

    return worst(
        apart(of_thumbs(rewards + constant), of_thumbs(rewards)),
        apart(of_pairs(rewards + constant), of_pairs(rewards)),
        detail=f"shift by {shift_by}",
    )


@claim(
    "B8",
    "identity",
    source="eqs. 7–8",
    stated="paper",
    given={"rewards": margins(8.0, size=4), "through_the_shift": st.just(False)},
    breaks={"through_the_shift": st.just(True)},
)
def no_gradient_flows_through_the_shift(rewards: np.ndarray, through_the_shift: bool) -> Verdict:
    """The gradient is −σ(−(r₊ − δ)) and σ(r₋ − δ), of thumbs and of pairs: none flows through δ."""

    def of_thumbs(logps: Any) -> Any:
        shift = logps.logp.mean() if through_the_shift else None
        return losses.bco_unpaired(logps, beta=1.0, shift=shift)

    some = np.append(rewards, 0.3)  # classes of different sizes
    desirable, z = alternating(some), some - some.mean()
    single = loss_gradient(of_thumbs, thumbs(some, desirable))
    chosen, rejected = rewards[:2], rewards[2:]
    both = loss_gradient(functools.partial(losses.bco, beta=1.0), pairs(chosen, rejected))
    return worst(
        apart(single.logp, np.where(desirable, -expit(-z), expit(z))),
        apart(both.chosen, -expit(rewards.mean() - chosen)),
        apart(both.rejected, expit(rejected - rewards.mean())),
    )


@claim(
    "B9",
    "limit",
    source="comparison with KTO",
    stated="derived",
    given={"wrong_by": st.floats(0.0, 30.0), "desirable": st.booleans(), "loss": st.just("BCO")},
    breaks={"wrong_by": st.floats(3.0, 30.0), "loss": st.just("KTO")},
)
def wrong_thumbs_keep_their_gradient(wrong_by: float, desirable: bool, loss: str) -> Verdict:
    """A thumb that the classifier gets wrong by z pulls with σ(z) ≥ ½; KTO's pull σ(z)σ(−z) on it
    is at most e^{−z} and vanishes.
    """
    batch = thumbs([-wrong_by if desirable else wrong_by], desirable)

    def pull(of: Any, **options: Any) -> float:
        slope = loss_gradient(functools.partial(of, beta=1.0, **options), batch).logp[0]
        return float(-slope if desirable else slope)

    pulls = {
        "BCO": pull(losses.bco_unpaired, shift=0.0),
        "KTO": pull(losses.kto, reference_point=0.0),
    }
    return worst(
        above(0.5, pulls[loss]),
        apart(pulls[loss], expit(wrong_by)),
        above(pulls["KTO"], np.exp(-wrong_by)),
        detail=f"z {wrong_by:.3g}: {pulls}",
    )


# --- prompts that differ by class ---


def prompt_laws(*, missing: int = 0) -> st.SearchStrategy[np.ndarray]:
    """Return laws of six prompts, of which the first ``missing`` never come."""
    present = np.arange(6) >= missing
    return tables((6,), low=0.02, high=1.0).map(lambda mass: mass * present / mass[present].sum())


@claim(
    "B4",
    "identity",
    source="underlying distribution matching",
    stated="derived",
    given={
        "positive": prompt_laws(),
        "negative": prompt_laws(),
        "rewards": tables((6,), low=-4.0, high=4.0),
        "share_of_positives": st.sampled_from([0.5, 0.75]),
        "limits": st.just((0.0, 1e9)),
    },
    breaks=({"limits": st.just((0.5, 10.0))}, {"negative": prompt_laws(missing=1)}),
)
def weights_move_negatives_to_the_positives_prompts(
    positive: np.ndarray,
    negative: np.ndarray,
    rewards: np.ndarray,
    share_of_positives: float,
    limits: tuple[float, float],
) -> Verdict:
    """Weights p₊/p₋ make negatives as if drawn with the positives' prompts; unbalanced classes
    inflate them by n₊/n₋.
    """
    up, down = share_of_positives * positive, (1 - share_of_positives) * negative
    low, high = limits
    weights = losses.density_ratio_weights(up / (up + down), low=low, high=high)
    loss = functools.partial(losses.bco_unpaired, thumbs(rewards, False), beta=1.0, shift=0.2)
    weighted = negative @ loss(density_ratio=weights)
    expected = share_of_positives / (1 - share_of_positives) * (positive @ loss())
    return apart(
        weighted,
        expected,
        relative=True,
        detail=f"weighted {weighted:.6g}, on the positives' prompts {expected:.6g}",
    )


# --- optima ---


def optimum(
    up: np.ndarray, down: np.ndarray, reference: np.ndarray, beta: float
) -> tuple[np.ndarray, float]:
    """Return π* ∝ π_ref (n₊/n₋)^{1/β} and δ*, which normalises it: −∞ where a count n₋ is 0."""
    with np.errstate(divide="ignore"):
        scores = np.log(reference) + (np.log(up) - np.log(down)) / beta
        total = logsumexp(scores)
    with np.errstate(invalid="ignore"):
        return np.exp(scores - total), float(-beta * total)


def fitted_optimum(
    up: np.ndarray, down: np.ndarray, reference: np.ndarray, beta: float
) -> tuple[np.ndarray, float]:
    """Return log-probabilities and shift where the loss of these thumbs is least, by search."""
    shares = np.stack([up, down]) / (up.sum() + down.sum())

    def risk(theta: Any) -> Any:
        """Return the mean loss of logits and, last, the shift."""
        xp = array_namespace(theta)
        logp = log_softmax(theta[:-1])
        yes = xp.ones_like(logp, dtype=xp.bool)
        thumbed = losses.UnpairedLogps(
            xp.stack([logp, logp]),
            xp.stack([like(np.log(reference), theta)] * 2),
            xp.stack([yes, ~yes]),
        )
        loss = losses.bco_unpaired(thumbed, beta=beta, shift=theta[-1])
        return xp.sum(like(shares, theta) * loss)

    start = np.append(np.log(reference), 0.0)
    options = {"gtol": 1e-9, "maxiter": 500}
    slope = functools.partial(gradient, risk)
    theta = minimize(risk, start, jac=slope, method="BFGS", options=options).x
    return log_softmax(theta[:-1]), float(theta[-1])


COUNTS = st.lists(st.floats(5, 30), min_size=3, max_size=3).map(np.asarray)


@claim(
    "B5",
    "minimiser",
    source="derivation",
    stated="derived",
    tolerance=1e-7,
    examples=5,
    given={
        "up": COUNTS,
        "down": COUNTS,
        "reference": tables((3,), low=0.2, high=1.0).map(lambda mass: mass / mass.sum()),
        "beta": st.floats(0.4, 2.0),
    },
    breaks={"down": COUNTS.map(lambda counts: counts * [0, 1, 1])},
)
def odds_of_thumbs_tilt_the_reference(
    up: np.ndarray, down: np.ndarray, reference: np.ndarray, beta: float
) -> Verdict:
    """With δ free the optimum on one prompt is π_ref (n₊/n₋)^{1/β}, normalised by δ."""
    log_probs, shift = fitted_optimum(up, down, reference, beta)
    probs, best_shift = optimum(up, down, reference, beta)
    with np.errstate(divide="ignore"):
        log_odds = np.log(up) - np.log(down)
    return worst(
        apart(beta * (log_probs - np.log(reference)) - shift, log_odds),
        apart(shift, best_shift),
        detail=(
            f"fitted {np.exp(log_probs)}, δ {shift:.6f}; closed form {probs}, δ {best_shift:.6f}"
        ),
    )


@claim(
    "B6",
    "minimiser",
    source="derivation",
    stated="derived",
    tolerance=1e-6,
    examples=12,
    given={"p": st.floats(0.05, 0.95), "normalised": st.just(False)},
    breaks={"normalised": st.just(True)},
)
def free_scores_have_twice_the_margin(p: float, normalised: bool) -> Verdict:
    """On pairs won with chance p, free scores are ± logit p: a margin twice Bradley–Terry's."""
    scores = normalised_scores(p) if normalised else free_scores(p)
    return apart(
        scores,
        logit(p) * np.asarray([1, -1]),
        detail=f"scores {scores}, logit p {logit(p):.6f}, margin {scores[0] - scores[1]:.6f}",
    )


def free_scores(p: float) -> np.ndarray:
    """Return the scores of the two responses where the expected loss is least."""

    def risk(first: float, second: float) -> float:
        won, lost = pairs(first, second), pairs(second, first)
        loss = functools.partial(losses.bco_pair, beta=1.0)
        return float(p * loss(won)[0] + (1 - p) * loss(lost)[0])

    # One after the other: each part of the loss reads one score.
    first = minimize_scalar(lambda score: risk(score, 0.0), tol=1e-12).x
    second = minimize_scalar(lambda score: risk(first, score), tol=1e-12).x
    return np.asarray([first, second])


def normalised_scores(p: float) -> np.ndarray:
    """Return the log-ratios of the policy that fits the pairs."""
    reference = TabularPolicy.uniform(1, 2)
    data = Comparisons([0], [0], [1], prob=p)
    loss = functools.partial(losses.bco_pair, beta=1.0)
    policy = fit(reference, loss, data, reference=reference).policy
    return policy.log_probs[0] - np.log(0.5)

"""What the paper says about the loss and its optimum, each as a property of random instances."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.direct.d2o.unlearning import LEVELS, World
from prefsim import losses
from prefsim.backend import like
from prefsim.data import Negatives
from prefsim.gradients import gradient
from prefsim.losses.anchored import anchor_log_ratio
from prefsim.numerics import categorical_kl, log_softmax, softmax
from prefsim.papers import Verdict, above, apart, claim, falls, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit
from prefsim.testing import betas, tables

STRENGTHS = betas(0.05, 2.0)

# --- the loss on sets of samples ---


def negatives(k: int) -> st.SearchStrategy[losses.AnchoredLogps]:
    """Three rejected responses with ``k`` samples each."""
    single, many = tables((3,), low=-15.0, high=0.0), tables((3, k), low=-15.0, high=0.0)
    return st.builds(losses.AnchoredLogps, single, single, many, many, st.none())


@claim(
    "D1",
    "inequality",
    source="theorem on the distributional preference model; Jensen",
    stated="paper",
    given={
        "logps": st.integers(1, 5).flatmap(negatives),
        "beta": STRENGTHS,
        "alpha": STRENGTHS,
        "others": st.none(),
    },
    breaks={"logps": negatives(3), "others": tables((3, 3), low=-15.0, high=0.0)},
)
def distribution_level_is_below_instance_level(
    logps: Any, beta: float, alpha: float, others: Any
) -> Verdict:
    """The distribution-level loss is at most the mean instance-level one, which is DPO with each
    sample as chosen.
    """
    distribution = losses.d2o(logps, beta=beta, alpha=alpha)
    compared = logps if others is None else logps._replace(samples=others)
    instance = losses.d2o(compared, beta=beta, alpha=alpha, level="instance")
    return worst(
        above(distribution, instance, relative=True),
        detail=f"{distribution.mean():.6g} <= {instance.mean():.6g}",
    )


@claim(
    "D2",
    "identity",
    source="derivation",
    stated="derived",
    given={"logps": negatives(1), "beta": STRENGTHS},
    breaks={"logps": negatives(2)},
)
def contains_dpo_and_npo(logps: Any, beta: float) -> Verdict:
    """With K = 1 and α = β it is DPO; with samples as likely as before and α = β it is β/2 times
    NPO.
    """
    pair = losses.PairLogps(
        chosen=logps.samples[:, 0],
        rejected=logps.rejected,
        ref_chosen=logps.ref_samples[:, 0],
        ref_rejected=logps.ref_rejected,
    )
    unmoved = logps._replace(samples=logps.ref_samples)
    moved, still = (losses.d2o(case, beta=beta, alpha=beta) for case in (logps, unmoved))
    return worst(
        apart(moved, losses.dpo(pair, beta=beta), relative=True),
        apart(still, beta / 2 * losses.npo(pair, beta=beta), relative=True),
    )


# --- one negative against its exact anchor: y_l is response 0, ρ = π_ref(y_l), α = share · βρ ---

# Each response at least three times: the share of y_l stays above the least α/β, and the minimiser
# stays finite.
COUNTS = st.lists(st.integers(3, 6), min_size=5, max_size=5).map(np.asarray)


def fitted_probs(
    log_ref: np.ndarray, beta: float, share: float, counts: Any = None, **options: Any
) -> np.ndarray:
    """Return the minimiser ``(Y,)`` against the reference, or against samples with these counts.

    From α = βρ on (a share of 1) it is the limit in which the rejected response vanishes.
    """
    reference = TabularPolicy.from_logits(log_ref[None])
    data = Negatives.population([0], [0], reference)
    if counts is not None:
        data = Negatives([0], [0], data.samples, (counts / counts.sum())[None])
    loss = functools.partial(losses.d2o, beta=beta, alpha=share * beta * np.exp(log_ref[0]))
    with warnings.catch_warnings():
        if share >= 1:
            # What is wanted is where the logit goes that has no finite minimiser.
            warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(reference, loss, data, reference=reference, **options).policy.probs[0]


def exact_loss(log_probs: np.ndarray, log_ref: np.ndarray, beta: float, share: float) -> np.ndarray:
    """Return the loss ``(...,)`` of policies ``(..., Y)`` against the whole reference."""
    ref, shares = (np.broadcast_to(part, log_probs.shape) for part in (log_ref, np.exp(log_ref)))
    logps = losses.AnchoredLogps(log_probs[..., 0], ref[..., 0], log_probs, ref, shares)
    return losses.d2o(logps, beta=beta, alpha=share * beta * np.exp(log_ref[0]))


def with_mass(log_q: np.ndarray, log_rest: np.ndarray) -> np.ndarray:
    """Return the policies with π(y_l) = q and the other mass in proportions ``rest``."""
    return np.concatenate(
        [log_q[..., None], log_rest + np.log(-np.expm1(log_q))[..., None]], axis=-1
    )


UNLEARNING = {"log_ref": tables((5,), low=-1.5, high=1.5).map(log_softmax), "beta": betas(0.3, 3.0)}


@claim(
    "D3",
    "minimiser",
    source="derivation",
    stated="derived",
    tolerance=1e-8,
    examples=10,
    given=UNLEARNING | {"share": st.floats(0.05, 0.9), "counts": st.none()},
    breaks={"share": st.floats(0.05, 0.15), "counts": COUNTS},
)
def keeps_the_proportions_of_the_others(
    log_ref: np.ndarray, beta: float, share: float, counts: Any
) -> Verdict:
    """For α < βρ the exact loss has the optimum π(y_l) = (βρ − α)/(β − α) < ρ, and the other
    responses keep the reference's proportions.
    """
    probs, rho = fitted_probs(log_ref, beta, share, counts), np.exp(log_ref[0])
    stated = rho * (1 - share) / (1 - share * rho)
    return worst(
        apart(probs[0], stated),
        apart(probs[1:] / probs[1:].sum(), softmax(log_ref[1:])),
        above(stated, rho),
        detail=f"ρ {rho:.5f}, stated {stated:.6f}, fitted {probs[0]:.6f}",
    )


@claim(
    "D4",
    "limit",
    source="derivation",
    stated="derived",
    tolerance=1e-8,
    given=UNLEARNING
    | {
        "share": st.floats(1.1, 3.0) | st.just(1.0),
        "rest": tables((4,), low=-2.0, high=2.0),
    },
    breaks={"share": st.floats(0.1, 0.8)},
)
def vanishes_at_and_above_the_threshold(
    log_ref: np.ndarray, beta: float, share: float, rest: np.ndarray
) -> Verdict:
    """For α >= βρ the loss falls all the way as π(y_l) → 0 (to 0 if α > βρ), at best with the
    reference's proportions.
    """
    log_q = log_ref[0] - np.asarray([0.0, 1.0, 10.0, 100.0, 1e4, 1e7])
    kept, moved = (
        exact_loss(with_mass(log_q, log_softmax(logits)), log_ref, beta, share)
        for logits in (log_ref[1:], rest)
    )
    end = above(kept[-1], 0.0) if share > 1 else 0.0
    return worst(
        falls(kept),
        above(kept, moved),
        end,
        detail=f"loss {kept.round(4).tolist()} at log π(y_l) {log_q.round(1).tolist()}",
    )


@claim(
    "D8",
    "monotone",
    source="derivation; Jensen",
    stated="derived",
    given={
        "log_ref": tables((4,), low=-2.0, high=2.0).map(log_softmax),
        "beta": betas(0.2, 4.0),
        "share": st.floats(0.1, 5.0),
        "log_policy": tables((4,), low=-3.0, high=3.0).map(log_softmax),
        "most": st.just(4),
    },
)
def falls_with_the_number_of_samples(
    log_ref: np.ndarray, beta: float, share: float, log_policy: np.ndarray, most: int
) -> Verdict:
    """E L over K samples falls in K = 1, 2, 3, 4 and stays above the exact loss."""
    chain = [
        *expected_losses(log_ref, beta, share, log_policy, most),
        float(exact_loss(log_policy[None], log_ref, beta, share)[0]),
    ]
    return worst(falls(chain), detail=f"E L {np.round(chain, 5).tolist()}")


def expected_losses(
    log_ref: np.ndarray, beta: float, share: float, log_policy: np.ndarray, most: int
) -> list[float]:
    """Return E L for K = 1, …, ``most`` samples of π_ref, by enumerating all Y^K draws."""
    expectations = []
    for k in range(1, most + 1):
        drawn = np.indices((log_ref.size,) * k).reshape(k, -1).T
        rejected, ref_rejected = (np.full(len(drawn), law[0]) for law in (log_policy, log_ref))
        logps = losses.AnchoredLogps(rejected, ref_rejected, log_policy[drawn], log_ref[drawn])
        values = losses.d2o(logps, beta=beta, alpha=share * beta * np.exp(log_ref[0]))
        expectations.append(float(np.exp(log_ref[drawn].sum(axis=-1)) @ values))
    return expectations


# --- what the anchor is ---


def anchor(log_policy: Any, log_reference: np.ndarray, log_sampler: np.ndarray) -> Any:
    """Return Σ sampler(y) log π(y)/π_ref(y) as the loss computes it, of an array or a tensor."""
    data = Negatives.population([0], [0], TabularPolicy.from_logits(log_sampler[None]))
    reference = TabularPolicy(like(log_reference, log_policy)[None])
    logps, _ = data.examples(
        TabularPolicy(log_policy[None]), data.log_probs(reference), losses.AnchoredLogps
    )
    return anchor_log_ratio(logps)[0]


DISTRIBUTIONS = tables((5,), low=-2.0, high=2.0).map(log_softmax)
POLICY_AND_REFERENCE = {"policy": DISTRIBUTIONS, "reference": DISTRIBUTIONS}


@claim(
    "D5",
    "identity",
    source="derivation",
    stated="derived",
    given=POLICY_AND_REFERENCE | {"other_sampler": st.none()},
    breaks={"other_sampler": DISTRIBUTIONS},
)
def offline_anchor_is_forward_kl(
    policy: np.ndarray, reference: np.ndarray, other_sampler: Any
) -> Verdict:
    """With samples of the reference the expected anchor is −KL(π_ref‖π), at most 0."""
    sampler = reference if other_sampler is None else other_sampler
    value, forward = anchor(policy, reference, sampler), categorical_kl(reference, policy)
    return worst(
        apart(value, -forward),
        above(value, 0.0),
        detail=f"anchor {value:.6g}, KL(π_ref‖π) {forward:.6g}",
    )


@claim(
    "D6",
    "identity",
    source="theorem on the Jeffrey divergence, form derived here",
    stated="derived",
    given=POLICY_AND_REFERENCE | {"other_sampler": st.none()},
    breaks={"other_sampler": DISTRIBUTIONS},
)
def online_anchor_is_reverse_kl(
    policy: np.ndarray, reference: np.ndarray, other_sampler: Any
) -> Verdict:
    """With samples of the policy itself the anchor has the value KL(π‖π_ref) and zero mean
    gradient; it exceeds that on samples of the reference by the Jeffreys divergence of the two.
    """
    sampler = policy if other_sampler is None else other_sampler
    online, offline = (anchor(policy, reference, drawn) for drawn in (sampler, reference))
    slope = gradient(lambda logits: anchor(logits, reference, sampler), policy)
    reverse, forward = categorical_kl(policy, reference), categorical_kl(reference, policy)
    return worst(
        apart(online, reverse),
        apart(slope, 0.0),
        apart(online - offline, forward + reverse),
        detail=f"value {online:.5g}, KL(π‖π_ref) {reverse:.5g}",
    )


# --- log-linear policies ---


WORLD_SEEDS = st.integers(0, 10**6)


@claim(
    "D7",
    "inequality",
    source="experiment; no theorem",
    stated="chosen",
    tolerance=0.0,
    examples=3,
    given={
        "seed": WORLD_SEEDS,
        "responses": st.just(20),
        "dimension": st.just(6),
        "levels": st.just(2),
    },
    breaks={
        "seed": st.just(33),
        "responses": st.just(4),
        "dimension": st.just(2),
        "levels": st.just(1),
    },
)
def disturbs_the_others_least(seed: int, responses: int, dimension: int, levels: int) -> Verdict:
    """In log-linear worlds of 20 responses in 6 dimensions D²O with exact anchor disturbs the other
    responses less than GA and NPO, at a tenth and a hundredth of π_ref(y_l).
    """
    world, asked = World.draw(seed, responses, dimension), LEVELS[:levels]
    d2o, ga, npo = (
        world.disturbances(world.flow(method, asked[-1]), asked) for method in ("D²O", "GA", "NPO")
    )
    shown = f"KL(rest): D²O {d2o.round(4)}, GA {ga.round(4)}, NPO {npo.round(4)}"
    return above(d2o, np.minimum(ga, npo), detail=shown)


@claim(
    "D7-line",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=1e-7,
    examples=6,
    given={
        "seed": WORLD_SEEDS,
        "samples": st.none() | st.integers(4, 16),
        "alpha": st.just(0.1),
    },
    breaks={"alpha": st.just(0.3)},
)
def flows_straight(seed: int, samples: int | None, alpha: float) -> Verdict:
    """At α = β the gradient flow of a log-linear policy is a straight line, against the whole
    reference and against samples of it.
    """
    world = World.draw(seed)._replace(alpha=alpha)
    shares = None
    if samples is not None:
        shares = world.sampled_shares(samples, 1, np.random.default_rng(seed))[0]
    path = world.flow("D²O", LEVELS[0], shares)
    step, direction = path.at(path.end) - world.start, world.straight(shares).at(1.0) - world.start
    # As the length of either: 1 where the flow runs straight, and not straight back.
    along = step @ direction / np.linalg.norm(direction)
    return apart(along / np.linalg.norm(step), 1.0, detail=f"|θ − θ₀| = {np.linalg.norm(step):.4f}")

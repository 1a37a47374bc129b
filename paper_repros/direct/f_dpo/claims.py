"""Which divergences DPO works under, how far they reach, and what each of them is best at."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.direct.f_dpo.frontiers import KINDS, entropy_gain, frontier_error
from paper_repros.direct.f_dpo.instances import (
    NEAR_COINS,
    SMALL_BANDITS,
    rivals,
    several_laws,
)
from paper_repros.direct.f_dpo.optima import (
    Bandit,
    brought_to_reward,
    learnt,
    learnt_under_pure_chi_squared,
    least_beta,
    optimum_by_search,
)
from prefsim import losses
from prefsim.analysis.bandit import divergence_to_reference, expected_reward
from prefsim.divergences import (
    DIVERGENCES,
    divergence_score,
    f_divergence,
    pinsker_constant,
    total_variation,
)
from prefsim.losses import PairLogps
from prefsim.numerics import categorical_entropy
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import optimal_policy, regularised_optimum
from prefsim.solvers.closed_forms.chi_squared import chi_squared_optimum
from prefsim.testing import (
    alphas,
    bandits_with_reference,
    betas,
    pair_logps,
)

PURE_CHI_SQUARED = "pure χ²"  # whose f'(0) is finite

# --- the optimum, and what goes wrong where a response can be dropped ---


def for_every_divergence(check: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """Make of theorem 1 one claim for each divergence of the library with f'(0) = −∞."""
    for name in DIVERGENCES:
        check = claim(
            f"F1-{name}",
            "minimiser",
            source="theorem 1",
            stated="paper",
            tolerance=1e-9,
            examples=3,
            given={
                "bandit": SMALL_BANDITS,
                "beta": betas(0.3, 3.0),
                "alpha": alphas(0.1, 0.9),
                "penalty": st.just(name),
            },
            breaks={"penalty": st.just(PURE_CHI_SQUARED), "beta": betas(0.05, 0.2)},
        )(check)
    return check


@for_every_divergence
def dpo_finds_the_optimum(bandit: Bandit, beta: float, alpha: float, penalty: str) -> Verdict:
    """The closed form π_ref (f')⁻¹((r − λ)/β) maximises E r − β D_f(π‖π_ref), and f-DPO's loss on
    the population of Bradley–Terry labels has the same minimiser, for the divergence that the id
    names: one with f'(0) = −∞.
    """
    reward, reference = np.asarray(bandit[0].reward), bandit[1]
    if penalty == PURE_CHI_SQUARED:
        stated = chi_squared_optimum(reward, reference.probs, beta=beta).policy
        by_pairs = apart(learnt_under_pure_chi_squared(bandit, beta), stated)
        return by_pairs._replace(detail=f"DPO off by {by_pairs.error:.2e}")
    options: dict[str, Any] = {"beta": beta, "divergence": penalty, "alpha": alpha}
    stated = optimal_policy(reward, reference.probs, **options)
    by_value = apart(optimum_by_search(bandit, **options), stated)
    by_pairs = apart(learnt(bandit, functools.partial(losses.f_dpo, **options)), stated)
    errors = f"maximiser {by_value.error:.2e}, DPO {by_pairs.error:.2e} off"
    return worst(by_value, by_pairs, detail=errors)


@claim(
    "F2",
    "counterexample",
    source="remark on f'(0), after theorem 1",
    stated="derived",
    given={
        # A reward that hardly differs drops nothing that could be told from rounding.
        "bandit": bandits_with_reference(n_contexts=1, spread=1.5).filter(
            lambda bandit: least_beta(bandit) > 0.05
        ),
        "share_of_least_beta": st.floats(0.05, 0.95),
    },
    breaks={"share_of_least_beta": st.floats(1.05, 3.0)},
)
def pure_chi_squared_drops_responses(bandit: Bandit, share_of_least_beta: float) -> Verdict:
    """Under the pure χ² penalty with β below (E_ref r − min r)/2 the optimum drops responses, and
    their reward can no longer be read off the policy.
    """
    world, reference = bandit
    reward, beta = np.asarray(world.reward), share_of_least_beta * least_beta(bandit)
    policy, multiplier, _ = chi_squared_optimum(reward, reference.probs, beta=beta)
    implied = 2 * beta * (policy / reference.probs - 1) + multiplier[:, None]
    kept = policy > 0
    lost = float(np.max(implied - reward))
    return worst(
        # The conditions of the optimum: the implied reward is the true one where a response is
        # kept, and not below it where none is.
        apart(np.where(kept, implied, reward), reward),
        above(reward, implied),
        apart(np.sum(policy), 1.0),
        0.0 if lost > 1e-9 else 1.0,
        detail=f"{np.sum(~kept)} of {kept.size} dropped, reward difference off by {lost:.3g}",
    )


# --- divergences: limits, conventions, distances ---


@claim(
    "F3",
    "limit",
    source="table 1",
    stated="paper",
    tolerance=5e-4,
    given={
        "log_ratio": st.floats(math.log(0.25), math.log(4.0)),
        "distance_from_limit": st.just(1e-4),
    },
    breaks={"distance_from_limit": alphas(0.1, 0.9)},
)
def alpha_reaches_from_reverse_to_forward_kl(
    log_ratio: float, distance_from_limit: float
) -> Verdict:
    """The alpha divergence's score tends to log u as α → 0 and to 1 − 1/u as α → 1 (ratios in
    [¼, 4], α within 1e-4 of its limit).
    """
    a, near = np.asarray(log_ratio), distance_from_limit
    reverse = apart(divergence_score(a, "alpha", alpha=near), a)
    forward = apart(divergence_score(a, "alpha", alpha=1 - near), 1 - np.exp(-a))
    return worst(
        reverse,
        forward,
        detail=(
            f"alpha {near:.3g}: {reverse.error:.2e} from log u, {forward.error:.2e} from 1 − 1/u"
        ),
    )


@claim(
    "F4",
    "identity",
    source="table 1 against TRL",
    stated="derived",
    given={
        "log_ratio": st.floats(-8, 8),
        "alpha": alphas(),
        "coefficient": st.just("one minus alpha"),
    },
    breaks={"coefficient": st.just("alpha itself")},
)
def coefficient_of_trl_is_the_complement(
    log_ratio: float, alpha: float, coefficient: str
) -> Verdict:
    """TRL's coefficient is one minus the paper's α:
    (u^(α_T − 1) − 1)/(α_T − 1) = (1 − u^(−α))/α.
    """
    power = {"one minus alpha": -alpha, "alpha itself": alpha - 1}[coefficient]  # α_T − 1
    theirs = math.expm1(power * log_ratio) / power
    ours = divergence_score(np.asarray(log_ratio), "alpha", alpha=alpha)
    return apart(theirs, ours, relative=True)


PINSKER = {
    "reverse_kl": math.sqrt(0.5),
    "forward_kl": math.sqrt(0.5),
    "alpha": math.sqrt(0.5),
    "jensen_shannon": 1.0,
    "mixed_chi_squared": 0.5,
}


def squared_bounds(laws: np.ndarray, alpha: float, share_of_constant: float) -> np.ndarray:
    """Return the granted bound on TV² of every divergence.

    Squares, because a root would magnify the rounding of what is small.
    """
    bounds = []
    for name in DIVERGENCES:
        constant = share_of_constant * pinsker_constant(name)
        bounds.append(constant**2 * f_divergence(laws[0], laws[1], name, alpha=alpha))
    return np.asarray(bounds)


@claim(
    "F5",
    "inequality",
    source="section on divergence and calibration",
    stated="derived",
    given={"laws": several_laws(2), "alpha": alphas(), "share_of_constant": st.just(1.0)},
    breaks={"laws": NEAR_COINS, "share_of_constant": st.just(0.9)},
)
def divergences_bound_total_variation(
    laws: np.ndarray, alpha: float, share_of_constant: float
) -> Verdict:
    """Total variation is at most √(D/2) for reverse KL, forward KL and every alpha divergence, √D
    for Jensen–Shannon and ½√D for the mixed χ² (compared in squares); nine tenths of these
    constants are not enough.
    """
    squared = float(total_variation(*np.exp(laws))) ** 2
    bounds = squared_bounds(laws, alpha, share_of_constant)
    tightest = DIVERGENCES[int(np.argmin(bounds))]
    constants = [pinsker_constant(name) for name in DIVERGENCES]
    return worst(
        above(squared, bounds),
        apart(constants, [PINSKER[name] for name in DIVERGENCES]),
        detail=f"tightest: {tightest}",
    )


@claim(
    "F6",
    "inequality",
    source="theorem 2 (shape)",
    stated="derived",
    given={"laws": several_laws(3), "alpha": alphas(), "share_of_constant": st.just(1.0)},
    breaks={
        # The truth beyond both, so that errors do not cancel.
        "laws": NEAR_COINS.map(lambda laws: np.vstack([laws, np.log([0.99, 0.01])])),
        "share_of_constant": st.just(0.9),
    },
)
def divergences_bound_calibration_errors(
    laws: np.ndarray, alpha: float, share_of_constant: float
) -> Verdict:
    """Two policies' calibration errors Σ|π − p| differ by at most 2 TV, hence by at most twice the
    square root of the bound of every divergence on TV². The paper states this shape for the
    expected calibration error; its binned form is unverified here.
    """
    both, truth = laws[:2], laws[2]
    errors = np.abs(np.exp(both) - np.exp(truth)).sum(axis=-1)
    change = abs(errors[0] - errors[1])
    return worst(
        above(change, 2 * float(total_variation(*np.exp(both)))),
        above(change**2, 4 * squared_bounds(both, alpha, share_of_constant)),
        detail=f"calibration errors {errors[0]:.4g} and {errors[1]:.4g}",
    )


# --- what each divergence is best at ---


@claim(
    "F7",
    "inequality",
    source="consequence of theorem 1",
    stated="derived",
    given=rivals(),
    breaks={"same_reward": st.just(False)},
)
def each_optimum_has_the_least_of_its_divergence(
    bandit: Bandit,
    beta: float,
    divergence: str,
    alpha: float,
    rival: TabularPolicy,
    same_reward: bool,
) -> Verdict:
    """Among all policies of the same expected reward, the solution for a divergence has the least
    of that divergence.
    """
    world, reference = bandit
    reward = np.asarray(world.reward)
    kind: dict[str, Any] = {"divergence": divergence, "alpha": alpha}
    best = regularised_optimum(reward, reference.log_probs, beta=beta, **kind).log_policy
    other = rival.probs
    if same_reward:
        other = brought_to_reward(world, rival, float(expected_reward(best, world)))
    with np.errstate(divide="ignore"):
        log_other = np.log(other)
    mine, theirs = (
        divergence_to_reference(log_policy, reference.log_probs, world, **kind)
        for log_policy in (best, log_other)
    )
    return worst(above(mine, theirs), detail=f"{divergence}: {mine:.6g} against {theirs:.6g}")


@claim(
    "F10",
    "identity",
    source="frontiers of the experiments",
    stated="derived",
    examples=8,
    given={
        "bandit": SMALL_BANDITS,
        "falling": st.tuples(betas(1.0, 3.0), betas(0.2, 0.9)),
        "kinds": st.just(tuple(KINDS)),
    },
    breaks={"falling": st.just((0.5, 2.0))},
)
def frontiers_pass_through_the_optima(
    bandit: Bandit, falling: tuple[float, float], kinds: tuple[str, ...]
) -> Verdict:
    """At falling penalties the frontier of every divergence has the penalty, reward, KL and entropy
    of the single optima.
    """
    world, log_reference = bandit[0], np.asarray(bandit[1].log_probs)
    errors = {kind: frontier_error(world, log_reference, kind, falling) for kind in kinds}
    return worst(*(apart(error, 0.0, detail=kind) for kind, error in errors.items()))


ORDERS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the alpha divergences between reverse and forward KL


@claim(
    "F8",
    "counterexample",
    source="against the diversity claim of the experiments",
    stated="chosen",
    tolerance=0.0,
    examples=2,
    given={"responses": st.just(50), "beta": st.just(0.3), "seed": st.integers(0, 10_000)},
    breaks={"responses": st.just(3), "beta": st.just(2.0)},
)
def forward_kl_need_not_keep_more_entropy(responses: int, beta: float, seed: int) -> Verdict:
    """Forward KL need not keep more entropy, nor less: of 40 drawn 50-action bandits it keeps less
    than reverse KL at reward 1 on two fifths or more, and more on one or more; and at β = 0.3
    entropy grows with α on at most a tenth of 300 such bandits.
    """
    rng = np.random.default_rng(seed)
    log_reference = np.log(rng.dirichlet(np.ones(responses), 300))
    reward = rng.standard_normal((300, responses))

    def entropy(divergence: str, alpha: float = 0.5) -> np.ndarray:
        best = regularised_optimum(
            reward / beta, log_reference, beta=1.0, divergence=divergence, alpha=alpha
        )
        return np.asarray(categorical_entropy(np.asarray(best.log_policy)))

    alpha_entropies = [entropy("alpha", alpha) for alpha in ORDERS]
    entropies = np.stack([entropy("reverse_kl"), *alpha_entropies, entropy("forward_kl")])
    growing = np.mean((np.diff(entropies, axis=0) >= 0).all(axis=0))
    gains = np.array([entropy_gain(responses, seed + i) for i in range(40)])
    return worst(
        above(16, np.sum(gains < 0)),
        above(1, np.sum(gains > 0)),
        above(growing, 0.1),
        detail=(
            f"monotone in {100 * growing:.0f} % of 300;"
            f" at reward 1 forward KL keeps less entropy on {np.sum(gains < 0)} of 40"
        ),
    )


@claim(
    "F9",
    "invariance",
    source="theorem 1 and eq. 8",
    stated="derived",
    given={
        "logps": pair_logps(lowest=-8.0),
        "beta": betas(),
        "divergence": st.just("reverse_kl"),
        "alpha": alphas(),
        "constant": st.floats(-3, 3),
    },
    breaks=[
        {"divergence": st.just(name), "constant": st.floats(1, 3)}
        for name in DIVERGENCES
        if name != "reverse_kl"
    ],
)
def ignores_a_constant_on_the_scores(
    logps: PairLogps, beta: float, divergence: str, alpha: float, constant: float
) -> Verdict:
    """f-DPO ignores a constant added to all scores; a constant added to all log-ratios it ignores
    under reverse KL alone.
    """

    def loss(name: str, logps: PairLogps) -> Any:
        return losses.f_dpo(logps, beta=beta, divergence=name, alpha=alpha)

    by_score = []
    for name in DIVERGENCES:
        winner, loser = (
            divergence_score(a, name, alpha=alpha) + constant for a in losses.log_ratios(logps)
        )
        moved_scores = losses.soft_logistic(beta * (winner - loser), 1)
        scale = 1 + beta * (np.abs(winner) + np.abs(loser))
        by_score.append(apart(moved_scores, loss(name, logps), scale=scale))
    moved = logps._replace(chosen=logps.chosen + constant, rejected=logps.rejected + constant)
    size = 1 + beta * np.abs(losses.reward_margin(logps)) + beta * abs(constant)
    by_ratio = apart(loss(divergence, moved), loss(divergence, logps), scale=size)
    return worst(*by_score, by_ratio, detail=f"log-ratio shift {by_ratio.error:.2e}")

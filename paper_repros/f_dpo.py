"""f-DPO: direct preference optimization under any f-divergence whose derivative is invertible."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros._divergence_experiments import PENALTIES, frontier_experiment, frontier_study
from prefsim import losses
from prefsim.analysis.bandit import divergence_to_reference, expected_reward, regularised_value
from prefsim.analysis.frontier import optimal_frontier
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.divergences import DIVERGENCES, divergence_score, f_divergence, pinsker_constant
from prefsim.losses import PairLogps
from prefsim.numerics import bounded_exp, categorical_entropy, log_softmax
from prefsim.papers import Claim, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit, regularised_optimum
from prefsim.solvers.closed_forms.chi_squared import chi_squared_optimum
from prefsim.solvers.optimisers.newton import minimise
from prefsim.testing.bandits import (
    alphas,
    bandits_with_reference,
    betas,
    divergences,
    pair_logps,
    policies,
    tables,
)
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="f_dpo",
    title=(
        "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence"
        " Constraints"
    ),
    arxiv="2309.16240",
    year=2023,
    family="direct",
    summary=(
        "Where f' is invertible and infinite at zero, the reward is a function of the policy's"
        " ratio up to a constant that cancels in a comparison: DPO works under forward KL,"
        " Jensen–Shannon and alpha divergences as well."
    ),
    implements=(
        "prefsim.losses.f_dpo",
        "prefsim.divergences.divergence_score",
        "prefsim.divergences.f_divergence",
        "prefsim.divergences.pinsker_constant",
        "prefsim.analysis.frontier.optimal_frontier",
        "prefsim.solvers.optimal_policy",
    ),
)


# --- the optimum, and what goes wrong where a response can be dropped
# -----------------------------------------------------------------


class Regularised(NamedTuple):
    """A bandit, its reference, and a penalty: a name of :data:`prefsim.divergences.DIVERGENCES` or the pure ``chi_squared``."""

    world: ContextualBandit
    reference: TabularPolicy
    beta: float
    divergence: str
    alpha: float


def chi_squared_dpo(logps: PairLogps, *, beta: float) -> Any:
    """Return f-DPO's loss with the derivative ``2(u − 1)`` of the pure χ² divergence, which the library does not offer for good reason."""
    chosen, rejected = losses.log_ratios(logps)
    return losses.soft_logistic(2 * beta * (bounded_exp(chosen) - bounded_exp(rejected)), 1)


def _best_policy(case: Regularised) -> np.ndarray:
    """Maximise the regularised value over the logits, without knowing the closed form."""
    import torch

    log_reference = torch.as_tensor(case.reference.log_probs)
    shape = log_reference.shape

    def cost(logits: Any) -> Any:
        table = log_softmax(logits.reshape(-1, *shape))
        return -regularised_value(
            table,
            log_reference,
            case.world,
            beta=case.beta,
            divergence=case.divergence,
            alpha=case.alpha,
        )

    found = minimise(cost, log_reference.reshape(1, -1), tolerance=1e-11, max_iterations=300)
    return to_numpy(torch.softmax(found.parameters.reshape(shape), dim=-1))


def _check_optimum(case: Regularised) -> Verdict:
    world, reference, beta, divergence, alpha = case
    data = Comparisons.population(world, reference)
    if divergence == "chi_squared":
        stated = chi_squared_optimum(world.reward, reference.probs, beta=beta).policy
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # a dropped response has its minimiser at infinity
            learnt = fit(
                reference, functools.partial(chi_squared_dpo, beta=beta), data, reference=reference
            ).policy.probs
        return Verdict(float(np.abs(learnt - stated).max()), "pure χ²")
    stated = np.exp(
        regularised_optimum(
            world.reward, reference.log_probs, beta=beta, divergence=divergence, alpha=alpha
        ).log_policy
    )
    loss = functools.partial(losses.f_dpo, beta=beta, divergence=divergence, alpha=alpha)
    learnt = fit(reference, loss, data, reference=reference).policy.probs
    by_value, by_pairs = (
        float(np.abs(found - stated).max()) for found in (_best_policy(case), learnt)
    )
    return Verdict(
        max(by_value, by_pairs),
        f"{divergence}: maximiser off by {by_value:.2e}, DPO's minimiser by {by_pairs:.2e}",
    )


class Dropped(NamedTuple):
    """One prompt, and β as a fraction of the least value that keeps every response under the pure χ² penalty."""

    world: ContextualBandit
    reference: TabularPolicy
    fraction: float


def _least_beta(pair: tuple[ContextualBandit, TabularPolicy]) -> float:
    """Return the least β at which the pure χ² penalty keeps every response: ``(E_ref r − min r)/2``, where λ is ``E_ref r``."""
    reward = np.asarray(pair[0].reward)
    return 0.5 * float(np.max(np.sum(pair[1].probs * reward, axis=-1) - reward.min(axis=-1)))


def _check_dropped(case: Dropped) -> Verdict:
    reward, reference = np.asarray(case.world.reward), case.reference.probs
    beta = case.fraction * _least_beta((case.world, case.reference))
    policy, multiplier, _ = chi_squared_optimum(reward, reference, beta=beta)
    implied = 2 * beta * (policy / reference - 1) + multiplier[:, None]
    kept = policy > 0
    # The conditions of the optimum: the implied reward is the true one where a response is kept,
    # and not below it where none is.
    residual = max(
        float(np.abs(np.where(kept, implied - reward, 0.0)).max()),
        float(np.max(reward - implied)),
        abs(policy.sum() - 1),
    )
    lost = float(np.max(implied - reward))
    return Verdict(
        residual + (0.0 if lost > 1e-9 else 1.0),
        f"{np.sum(~kept)} of {kept.size} dropped, reward difference off by {lost:.3g}",
    )


# --- divergences: limits, conventions, distances
# ---------------------------------------------------------------------------------------


class Order(NamedTuple):
    """A log-ratio, an order α, and the coefficient that stands for it in other code."""

    log_ratio: float
    alpha: float
    coefficient: float


def _check_limits(case: Order) -> Verdict:
    a = np.asarray(case.log_ratio)
    to_reverse = abs(float(divergence_score(a, "alpha", alpha=case.alpha) - a))
    to_forward = abs(float(divergence_score(a, "alpha", alpha=1 - case.alpha) - (1 - np.exp(-a))))
    return Verdict(
        max(to_reverse, to_forward),
        f"alpha {case.alpha:.3g}: {to_reverse:.2e} from log u, {to_forward:.2e} from 1 − 1/u",
    )


def _check_coefficient(case: Order) -> Verdict:
    power = case.coefficient - 1
    other = math.expm1(power * case.log_ratio) / power  # (u^(α_T − 1) − 1)/(α_T − 1)
    own = float(divergence_score(np.asarray(case.log_ratio), "alpha", alpha=case.alpha))
    return Verdict(abs(other - own) / (1 + abs(own)))


class Three(NamedTuple):
    """Two policies, a true conditional, an order, and the share of the stated constant that is granted."""

    first: np.ndarray
    second: np.ndarray
    truth: np.ndarray
    alpha: float
    share: float


@st.composite
def _threes(draw: st.DrawFn) -> Three:
    n = draw(st.integers(2, 6))
    first, second, truth = (log_softmax(draw(tables((n,), low=-8.0, high=8.0))) for _ in range(3))
    return Three(first, second, truth, draw(alphas()), share=1.0)


@st.composite
def _too_little(draw: st.DrawFn) -> Three:
    # Close to a fair coin, where all the constants are attained in the limit; the truth beyond
    # both, so that errors do not cancel.
    first, second = (log_softmax(np.asarray([0.0, draw(st.floats(0.05, 0.5))])) for _ in range(2))
    return Three(first, second, np.log([0.99, 0.01]), draw(alphas()), share=0.9)


def _total_variation(case: Three) -> float:
    return 0.5 * float(np.abs(np.exp(case.first) - np.exp(case.second)).sum())


def _squared_bounds(case: Three) -> dict[str, float]:
    """Return the granted bound on TV² of every divergence; squares, because a root would magnify the rounding of what is small."""
    distances = {
        name: float(f_divergence(case.first, case.second, name, alpha=case.alpha))
        for name in DIVERGENCES
    }
    return {
        name: (case.share * pinsker_constant(name)) ** 2 * value
        for name, value in distances.items()
    }


def _check_distance(case: Three) -> Verdict:
    excess = {
        name: _total_variation(case) ** 2 - bound for name, bound in _squared_bounds(case).items()
    }
    worst = max(excess, key=lambda name: excess[name])
    return Verdict(max(0.0, excess[worst]), worst)


def _check_calibration(case: Three) -> Verdict:
    first, second = (
        float(np.abs(np.exp(policy) - np.exp(case.truth)).sum())
        for policy in (case.first, case.second)
    )
    change, distance = abs(first - second), _total_variation(case)
    bound = min(_squared_bounds(case).values())
    return Verdict(
        max(0.0, change - 2 * distance, change**2 - 4 * bound),
        f"calibration errors {first:.4g} and {second:.4g}",
    )


# --- what each divergence is best at
# --------------------------------------------------------------------------------------------------


class Rival(NamedTuple):
    """An optimum and another policy, brought to the same expected reward or left as it is."""

    case: Regularised
    rival: TabularPolicy
    matched: bool


@st.composite
def _cases(draw: st.DrawFn, *, pure: bool = False, **sizes: Any) -> Regularised:
    world, reference = draw(bandits_with_reference(max_contexts=2, scale=1.5, spread=1.0, **sizes))
    if pure:
        return Regularised(world, reference, draw(betas(0.05, 0.2)), "chi_squared", 0.5)
    return Regularised(
        world, reference, draw(betas(0.3, 3.0)), draw(divergences()), draw(alphas(0.1, 0.9))
    )


@st.composite
def _rivals(draw: st.DrawFn, *, matched: bool) -> Rival:
    case = draw(_cases())
    return Rival(
        case, draw(policies(case.world.n_contexts, case.world.n_responses, spread=3.0)), matched
    )


def _check_smallest(instance: Rival) -> Verdict:
    (world, reference, beta, divergence, alpha), rival, matched = instance
    own = regularised_optimum(
        world.reward, reference.log_probs, beta=beta, divergence=divergence, alpha=alpha
    ).log_policy
    other = rival.probs
    if matched:
        # Mix with the best or the worst response of every prompt until the rewards agree.
        want, has = (float(expected_reward(table, world)) for table in (own, rival.log_probs))
        reward = np.asarray(world.reward) * (1.0 if has < want else -1.0)
        corner = np.eye(world.n_responses)[np.argmax(reward, axis=-1)]
        reach = (
            float(np.sum(world.context_probs[:, None] * corner * np.asarray(world.reward))) - has
        )
        share = 0.0 if reach == 0 else min(max((want - has) / reach, 0.0), 1.0)
        other = (1 - share) * other + share * corner
    options = {"divergence": divergence, "alpha": alpha}
    mine = float(divergence_to_reference(own, reference.log_probs, world, **options))  # type: ignore[arg-type]
    with np.errstate(divide="ignore"):
        log_other = np.log(other)
    theirs = float(divergence_to_reference(log_other, reference.log_probs, world, **options))  # type: ignore[arg-type]
    return Verdict(max(0.0, mine - theirs), f"{divergence}: {mine:.6g} against {theirs:.6g}")


class Entropies(NamedTuple):
    """Size of random bandits, and the penalty at which the orders of the alpha divergence are compared."""

    n: int
    beta: float
    seed: int


def _check_entropy(case: Entropies) -> Verdict:
    rng = np.random.default_rng(case.seed)
    reference, reward = rng.dirichlet(np.ones(case.n), 300), rng.standard_normal((300, case.n))

    def entropy(divergence: str, alpha: float = 0.5) -> np.ndarray:
        found = regularised_optimum(
            reward / case.beta, np.log(reference), beta=1.0, divergence=divergence, alpha=alpha
        )
        return categorical_entropy(found.log_policy)

    rows = [
        entropy("reverse_kl"),
        *(entropy("alpha", alpha) for alpha in (0.1, 0.3, 0.5, 0.7, 0.9)),
        entropy("forward_kl"),
    ]
    monotone = float(np.mean(np.all(np.diff(np.stack(rows), axis=0) >= 0, axis=0)))
    world, log_reference = frontier_study(case.n, case.seed)
    reverse, forward = (
        float(
            optimal_frontier(world, log_reference, PENALTIES, divergence=name).at_reward(
                1.0, "entropy"
            )
        )
        for name in ("reverse_kl", "forward_kl")
    )
    detail = (
        f"monotone in {100 * monotone:.0f} % of 300; at reward 1 entropy {reverse:.3f} reverse,"
        f" {forward:.3f} forward"
    )
    return Verdict(max(forward - reverse, monotone - 0.1, 0.0), detail)


class Shift(NamedTuple):
    """Pairs, a divergence, and what is added to every log-ratio."""

    logps: PairLogps
    beta: float
    divergence: str
    alpha: float
    constant: float


def _check_shift(case: Shift) -> Verdict:
    logps, beta, divergence, alpha, constant = case
    loss = functools.partial(losses.f_dpo, beta=beta, divergence=divergence, alpha=alpha)
    value = loss(logps)
    winner, loser = (
        divergence_score(a, divergence, alpha=alpha) + constant for a in losses.log_ratios(logps)
    )
    by_score = np.abs(losses.soft_logistic(beta * (winner - loser), 1) - value) / (
        1 + beta * (np.abs(winner) + np.abs(loser))
    )
    moved = loss(logps._replace(chosen=logps.chosen + constant, rejected=logps.rejected + constant))
    by_ratio = np.abs(moved - value) / (
        1 + beta * np.abs(losses.reward_margin(logps)) + beta * abs(constant)
    )
    return Verdict(
        max(float(by_score.max()), float(by_ratio.max())),
        f"score shift {by_score.max():.2e}, log-ratio shift {by_ratio.max():.2e}",
    )


def _pairs_and_shift(name: st.SearchStrategy[str]) -> st.SearchStrategy[Shift]:
    return st.builds(Shift, pair_logps(lowest=-8.0), betas(), name, alphas(), st.floats(-3, 3))


ONE_PROMPT = bandits_with_reference(n_contexts=1, spread=1.5).filter(
    lambda pair: _least_beta(pair) > 0.05
)
RATIOS = st.floats(math.log(0.25), math.log(4.0))
CLAIMS = (
    Claim(
        "F1",
        "minimiser",
        "The closed form π_ref (f')⁻¹((r − λ)/β) maximises E r − β D_f(π‖π_ref), and f-DPO's loss"
        " on the population of Bradley–Terry labels has the same minimiser, for every divergence"
        " with f'(0) = −∞",
        "theorem 1",
        _cases(),
        _check_optimum,
        2e-8,
        breaks=_cases(pure=True),
        examples=8,
    ),
    Claim(
        "F2",
        "counterexample",
        "Under the pure χ² penalty with β below (E_ref r − min r)/2 the optimum drops responses,"
        " and their reward can no longer be read off the policy",
        "remark on f'(0), after theorem 1",
        ONE_PROMPT.flatmap(
            lambda pair: st.builds(
                Dropped, st.just(pair[0]), st.just(pair[1]), st.floats(0.05, 0.95)
            )
        ),
        _check_dropped,
        1e-12,
        breaks=ONE_PROMPT.flatmap(
            lambda pair: st.builds(
                Dropped, st.just(pair[0]), st.just(pair[1]), st.floats(1.05, 3.0)
            )
        ),
    ),
    Claim(
        "F3",
        "limit",
        "The alpha divergence's score tends to log u as α → 0 and to 1 − 1/u as α → 1 (ratios in"
        " [¼, 4], α within 1e-4 of its limit)",
        "table 1",
        st.builds(lambda a: Order(a, 1e-4, 0.0), RATIOS),
        _check_limits,
        5e-4,
        breaks=st.builds(lambda a, alpha: Order(a, alpha, 0.0), RATIOS, alphas(0.1, 0.9)),
    ),
    Claim(
        "F4",
        "identity",
        "TRL's coefficient is one minus the paper's α: (u^(α_T − 1) − 1)/(α_T − 1) = (1 −"
        " u^(−α))/α",
        "table 1 against TRL",
        st.builds(lambda a, alpha: Order(a, alpha, 1 - alpha), st.floats(-8, 8), alphas()),
        _check_coefficient,
        1e-12,
        breaks=st.builds(lambda a, alpha: Order(a, alpha, alpha), st.floats(-8, 8), alphas()),
    ),
    Claim(
        "F5",
        "inequality",
        "Total variation is at most √(D/2) for reverse KL, forward KL and every alpha divergence,"
        " √D for Jensen–Shannon and ½√D for the mixed χ² (compared in squares); nine tenths of"
        " these constants are not enough",
        "section on divergence and calibration",
        _threes(),
        _check_distance,
        1e-12,
        breaks=_too_little(),
    ),
    Claim(
        "F6",
        "inequality",
        "Two policies' calibration errors Σ|π − p| differ by at most 2 TV, hence by at most twice"
        " the bound that F5 puts on it. The paper states this shape for the expected calibration"
        " error; its binned form is unverified here",
        "theorem 2 (shape)",
        _threes(),
        _check_calibration,
        1e-12,
        breaks=_too_little(),
    ),
    Claim(
        "F7",
        "inequality",
        "Among all policies of the same expected reward, the solution for a divergence has the"
        " least of that divergence",
        "consequence of theorem 1",
        _rivals(matched=True),
        _check_smallest,
        1e-12,
        breaks=_rivals(matched=False),
    ),
    Claim(
        "F8",
        "counterexample",
        "Forward KL need not keep more entropy: on a 50-action bandit it keeps less than reverse KL"
        " at reward 1, and at β = 0.3 entropy grows with α on at most a tenth of 300 such bandits",
        "against the diversity claim of the experiments",
        st.just(Entropies(50, 0.3, 0)),
        _check_entropy,
        0.0,
        breaks=st.just(Entropies(3, 2.0, 0)),
        examples=1,
    ),
    Claim(
        "F9",
        "invariance",
        "f-DPO ignores a constant added to all scores; a constant added to all log-ratios it"
        " ignores under reverse KL alone",
        "theorem 1 and eq. 8",
        _pairs_and_shift(st.just("reverse_kl")),
        _check_shift,
        1e-12,
        breaks=_pairs_and_shift(
            st.sampled_from([name for name in DIVERGENCES if name != "reverse_kl"])
        ),
    ),
)


def reproduce(run: Run) -> Reproduction:
    return frontier_experiment(run)

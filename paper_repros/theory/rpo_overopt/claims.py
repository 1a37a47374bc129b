"""What the paper says about the game, its solution and the loss, on random instances."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.theory.rpo_overopt.overoptimisation import FAILURE, guarantee
from prefsim import losses
from prefsim.analysis import log_log_slope
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, objective
from prefsim.solvers.games.pessimism import PessimisticGame
from prefsim.solvers.optimisers.penalties import Penalty, cross_entropy_penalty
from prefsim.testing.bandits import bandits, betas, policies, tables
from prefsim.typing import Loss
from prefsim.worlds import ContextualBandit

# --- the game on the population of all pairs ---

SHAPE = (2, 4)  # contexts and responses


class Population(NamedTuple):
    """All pairs of a bandit, and what the game between a policy and a reward asks besides."""

    world: ContextualBandit
    reference: TabularPolicy
    sampling: TabularPolicy
    base: TabularPolicy
    beta: float
    eta: float

    def data(self) -> Comparisons:
        """Return all pairs of responses of the sampling policy."""
        return Comparisons.population(self.world, self.sampling)

    def game(self, bound: float = np.inf) -> PessimisticGame:
        """Return the game with rewards in the box ``[-bound, bound]``."""
        return PessimisticGame(
            self.data(),
            self.reference,
            self.base.probs,
            beta=self.beta,
            eta=self.eta,
            bound=bound,
            context_probs=self.world.context_probs,
        )

    def sft(self, weight: float) -> Penalty:
        """Return supervised fine-tuning on the baseline."""
        rho = self.world.context_probs
        return cross_entropy_penalty(self.base.probs, weight=weight, context_probs=rho)

    def over_base(self, table: Any) -> float:
        """Return the mean of a table ``(X, Y)`` over prompts and the baseline's responses."""
        return float(self.world.context_probs @ np.sum(self.base.probs * table, axis=-1))


POLICIES = policies(*SHAPE, spread=1.0)
ETAS = st.floats(0.05, 1.0)
POPULATIONS = st.builds(
    Population,
    world=bandits(n_contexts=SHAPE[0], n_responses=SHAPE[1], scale=2.0),
    reference=POLICIES,
    sampling=POLICIES,
    base=POLICIES,
    beta=betas(0.1, 2.0),
    eta=ETAS,
)


@claim(
    "P1",
    "equivalence",
    source="theorems 4.2 and 5.6",
    stated="paper",
    tolerance=1e-9,
    examples=20,
    given={"population": POPULATIONS, "two_rewards": st.none()},
    breaks={"two_rewards": tables((2, *SHAPE), low=-2.0, high=2.0)},
)
def no_policy_guarantees_more_than_the_min_max_reward_gives(
    population: Population, two_rewards: Any
) -> Verdict:
    """The Gibbs policy of the min–max reward attains the max–min value, and no other policy
    guarantees more (R convex and compact).
    """
    rng = np.random.default_rng(0)
    game = population.game(bound=3.0)
    policy, value = min_max(game, two_rewards)
    anywhere = np.log(rng.dirichlet(np.ones(SHAPE[1]), size=(60, SHAPE[0])))
    nearby = log_softmax(policy + 0.05 * rng.standard_normal((20, *SHAPE)))
    attained = guaranteed(game, policy, two_rewards)
    rivals = guaranteed(game, np.concatenate([anywhere, nearby]), two_rewards)
    shown = f"min–max {value:.9g}, guaranteed {attained:.9g}, best rival {rivals.max():.6g}"
    return worst(apart(attained, value), above(rivals, value), detail=shown)


def min_max(game: PessimisticGame, rewards: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gibbs policy of the min–max reward, and the value.

    R is the box of the game, or the given rewards alone, which are no convex class.
    """
    if rewards is None:
        solution = game.solve()
        return to_numpy(solution.log_policy), to_numpy(solution.value)
    best_replies = log_softmax(game.log_reference + rewards / game.beta)
    values = np.asarray(game.objective(best_replies, rewards))
    return best_replies[values.argmin()], values.min()


def guaranteed(game: PessimisticGame, log_policy: np.ndarray, rewards: Any = None) -> np.ndarray:
    """Return min φ(π, r) over R, of policies ``(..., X, Y)``."""
    if rewards is None:
        return np.asarray(game.worst_reward(log_policy).value)
    return np.min(game.objective(log_policy[..., None, :, :], rewards), axis=-1)


@claim(
    "P2",
    "identity",
    source="section 4, eq. 4.4",
    stated="paper",
    tolerance=2e-9,
    examples=12,
    given={
        "population": POPULATIONS,
        "reward": tables(SHAPE, low=-9.0, high=9.0),
        "features": st.none(),
    },
    breaks={"features": tables((*SHAPE, 1), low=-1.0, high=1.0)},
)
def the_game_is_dpo_with_an_sft_term(
    population: Population, reward: np.ndarray, features: Any
) -> Verdict:
    """DPO plus ηβ × SFT on the baseline is the min–max objective up to the constant ηβ E_base log
    π_ref, with the same policy.
    """
    reference, game = population.reference, population.game()
    weight = population.eta * population.beta
    loss, data = functools.partial(losses.dpo, beta=population.beta), population.data()
    start: Any = reference
    if features is not None:
        start = LogLinearPolicy.from_features(features, base=reference)
    fitted = fit(start, loss, data, reference=reference, penalty=population.sft(weight)).policy

    implied = TabularPolicy(reference.log_probs + reward / population.beta)
    direct = objective(implied, loss, data, reference=reference, penalty=population.sft(weight))
    constant = weight * population.over_base(reference.log_probs)
    return worst(
        apart(fitted.probs, np.exp(game.solve().log_policy)),
        apart(game.objective(implied.log_probs, reward) - direct, constant),
        detail=f"offset {constant:.6g}, fitted {fitted.probs.round(4).tolist()}",
    )


@claim(
    "P3",
    "invariance",
    source="eq. 3.2",
    stated="derived",
    tolerance=1e-11,
    given={
        "population": POPULATIONS,
        "shift": tables((SHAPE[0], 1), low=-9.0, high=9.0),
        "baseline": st.just(1.0),
    },
    breaks={"baseline": st.just(0.0)},
)
def only_differences_of_rewards_matter(
    population: Population, shift: np.ndarray, baseline: float
) -> Verdict:
    """The game does not change when the reward shifts by a function of the prompt, thanks to the
    baseline term.
    """
    game = population.game()

    def value(reward: Any) -> float:
        """Return φ with this share of the baseline term."""
        left_out = (1 - baseline) * population.eta * population.over_base(reward)
        return float(game.objective(population.sampling.log_probs, reward) + left_out)

    reward = np.asarray(population.world.reward)
    return apart(value(reward + shift), value(reward), detail=f"shifts {shift.ravel()}")


@claim(
    "P7",
    "limit",
    source="eq. 4.5",
    stated="derived",
    tolerance=1e-9,
    examples=12,
    given={"population": POPULATIONS},
)
def lies_between_dpo_and_sft(population: Population) -> Verdict:
    """η = 0 gives DPO; the SFT term alone has the baseline as minimiser, approached like 1/η."""
    reference, base, beta = population.reference, population.base, population.beta
    eta, data = 50.0 * population.eta, population.data()
    dpo = functools.partial(losses.dpo, beta=beta)

    logps, _ = data.examples(base, data.log_probs(reference), losses.PairLogps)
    alone = fit(reference, nothing, data, reference=reference, penalty=population.sft(1.0))
    penalty = population.sft(eta * beta)
    strong = fit(reference, dpo, data, reference=reference, penalty=penalty).policy.probs
    # The gradient of the DPO term is at most 2 β ρ(x) μ(y|x) in a logit, that of the SFT term ηβ
    # ρ(x) (π − π_base).
    return worst(
        apart(losses.rpo(logps, beta=beta, eta=0.0), dpo(logps)),
        apart(alone.policy.probs, base.probs),
        above(eta * np.abs(strong - base.probs), 2 * population.sampling.probs),
        detail=f"η = {eta:.3g}, π {strong.round(4).tolist()}",
    )


def nothing(logps: losses.PairLogps) -> Any:
    """Return a loss of zero: what remains of an objective is its penalty."""
    return 0.0 * logps.chosen


# --- a response that is never compared: the last of three, under a uniform reference ---

UNIFORM = TabularPolicy.uniform(1, 3)


def losses_of_unseen_mass(
    unseen: np.ndarray, *, prob: float, share: float, beta: float
) -> np.ndarray:
    """Return DPO's losses of policies with these masses on the unseen response.

    ``prob`` is the probability that the first response beats the second, ``share`` its share of the
    other mass.
    """
    table = np.stack([(1 - unseen) * share, (1 - unseen) * (1 - share), unseen], axis=-1)
    data, dpo = Comparisons([0], [0], [1], prob=prob), functools.partial(losses.dpo, beta=beta)
    policy = TabularPolicy(np.log(table)[:, None])
    return to_numpy(objective(policy, dpo, data, reference=UNIFORM))


def optima_with_unseen(
    *, prob: float, share: float, beta: float, eta: float, leak: float = 0.0
) -> np.ndarray:
    """Return RPO's optima from five starts, ``(5, 3)``.

    The baseline has mass ``leak`` on the unseen response and ``share`` of the rest on the first.
    """
    base = np.array([[(1 - leak) * share, (1 - leak) * (1 - share), leak]])
    starts = TabularPolicy(np.random.default_rng(0).standard_normal((5, 1, 3)))
    data, dpo = Comparisons([0], [0], [1], prob=prob), functools.partial(losses.dpo, beta=beta)
    penalty = cross_entropy_penalty(base, weight=eta * beta)
    return fit(starts, dpo, data, reference=UNIFORM, penalty=penalty).policy.probs[:, 0]


@claim(
    "P4",
    "counterexample",
    source="section 3 (overoptimisation), checked by construction",
    stated="derived",
    tolerance=1e-7,
    examples=10,
    given={
        "prob": st.floats(0.55, 0.9),
        "share": st.floats(0.2, 0.8),
        "beta": st.floats(0.3, 2.0),
        "eta": st.floats(0.1, 1.0),
        "leak": st.just(0.0),
    },
    breaks={"leak": st.floats(0.05, 0.5)},
)
def only_the_sft_term_sees_the_unseen(
    prob: float, share: float, beta: float, eta: float, leak: float
) -> Verdict:
    """DPO leaves the mass on a response that is never compared undetermined; RPO with a baseline
    that avoids it drops it.
    """
    masses = np.array([0.01, 0.5, 0.98])
    undetermined = np.ptp(losses_of_unseen_mass(masses, prob=prob, share=share, beta=beta))
    optima = optima_with_unseen(prob=prob, share=share, beta=beta, eta=eta, leak=leak)
    spread, left = np.ptp(optima, axis=0).max(), optima[:, 2].max()
    shown = f"differ by: DPO losses {undetermined:.2g}, RPO optima {spread:.2g}; π(c) = {left:.2g}"
    return worst(undetermined, spread, left, detail=shown)


# --- finitely many comparisons ---


@claim(
    "P5",
    "rate",
    source="theorem 5.3",
    stated="chosen",
    tolerance=0.0,
    examples=2,
    given=st.sampled_from(
        [
            {"reward": (1.0, 0.6, 0.3, 0.0), "sampling": (0.4, 0.3, 0.2, 0.1)},
            {"reward": (0.2, 0.9, 0.5, 0.1, 0.4), "sampling": (0.1, 0.3, 0.3, 0.1, 0.2)},
        ]
    ),
    # The best response is never compared.
    breaks={"reward": st.just((1.0, 0.6, 0.3, 0.0)), "sampling": st.just((0.0, 0.5, 0.3, 0.2))},
)
def gap_falls_where_the_best_is_covered(
    reward: tuple[float, ...], sampling: tuple[float, ...]
) -> Verdict:
    """In two bandits the gap to a covered comparator stays below the theorem's bound, and its mean
    falls at least like N^-0.4.
    """
    sizes = (100, 400, 1600, 6400)
    gaps, bounds, coverage = guarantee(reward, sampling, sizes, seeds=100)
    means = gaps.mean(axis=1)
    slope, missed = log_log_slope(sizes, means), (gaps > bounds[:, None]).mean(axis=1)
    shown = f"mean gaps {means.round(4)}, slope {slope:.3f}, bounds {bounds.round(2)}"
    return worst(above(slope, -0.4), above(missed, FAILURE), detail=f"C = {coverage:.3g}, {shown}")


# --- the gradient of one step ---


def orders(pairs: int) -> st.SearchStrategy[np.ndarray]:
    """For each of some prompts an order of its four responses: the first beats the second."""
    return st.lists(st.permutations(range(4)), min_size=pairs, max_size=pairs).map(np.asarray)


@claim(
    "P6",
    "inequality",
    source="section 4, gradient of eq. 4.5",
    stated="derived",
    tolerance=1e-9,
    given={
        "features": tables((1, 4, 3), low=-2.0, high=2.0),
        "order": orders(1),
        "weights": tables((3,), low=-1.0, high=1.0),
        "beta": betas(0.1, 2.0),
        "eta": ETAS,
    },
    # Several prompts that share the parameters.
    breaks={"features": tables((3, 4, 3), low=-2.0, high=2.0), "order": orders(3)},
)
def sft_term_raises_the_chosen(
    features: np.ndarray, order: np.ndarray, weights: np.ndarray, beta: float, eta: float
) -> Verdict:
    """On one pair the SFT term raises the alignment of the descent direction with ∇ log π(y_w) by
    exactly ηβ |∇ log π(y_w)|² ≥ 0.
    """
    policy = LogLinearPolicy.from_features(features, weights=weights)
    reference = policy.with_parameters(np.zeros(3))
    data = Comparisons(np.arange(len(order)), order[:, 0], order[:, 1])

    def descent(loss: Loss) -> np.ndarray:
        return -gradient(
            lambda theta: objective(policy.with_parameters(theta), loss, data, reference=reference),
            weights,
        )

    chosen = gradient(
        lambda theta: policy.with_parameters(theta).log_prob(data.prompt[:1], data.chosen[:1]),
        weights,
    )
    with_sft = descent(functools.partial(losses.rpo, beta=beta, eta=eta))
    without = descent(functools.partial(losses.dpo, beta=beta))
    gained, expected = (with_sft - without) @ chosen, eta * beta * chosen @ chosen
    shown = f"alignment gains {gained:.6g}, ηβ|∇log π(y_w)|² = {expected:.6g}"
    return apart(gained, expected, detail=shown)

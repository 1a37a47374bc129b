"""What the value of a reward is, what the loss makes of it, and what either sign guarantees."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis import kl_to_reference, regularised_value
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.losses.value_incentive import CALIBRATIONS
from prefsim.numerics import log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import calibrated_reward, calibrated_value, gibbs_log_policy, objective
from prefsim.solvers.games.optimism import optimistic_reward
from prefsim.solvers.games.pessimism import PessimisticGame, reward_misfit, win_weights
from prefsim.testing.bandits import bandits, betas, policies, tables
from prefsim.worlds import ContextualBandit

SHAPE = (2, 4)  # contexts and responses
POLICIES = policies(*SHAPE, spread=1.0)
REWARDS = tables(SHAPE, low=-3.0, high=3.0)
WORLDS = bandits(n_contexts=SHAPE[0], n_responses=SHAPE[1], scale=2.0)
WEIGHTS = st.floats(0.1, 5.0)
SEEDS = st.integers(0, 10**6)


class Setting(NamedTuple):
    """A world, who is held to, whose responses calibrate, and both strengths."""

    world: ContextualBandit
    reference: TabularPolicy
    calibration: TabularPolicy
    beta: float
    alpha: float

    def data(self) -> Comparisons:
        """Return all pairs of responses of the calibration policy."""
        return Comparisons.population(self.world, self.calibration)

    def game(self, data: Comparisons, base: Any, bound: float = np.inf) -> PessimisticGame:
        """Return the game on data with a baseline."""
        return PessimisticGame(
            data,
            self.reference,
            base,
            beta=self.beta,
            eta=self.alpha,
            bound=bound,
            context_probs=self.world.context_probs,
        )

    def value(self, reward: Any, calibration: Any) -> np.ndarray:
        """Return the calibrated value of rewards ``(..., X, Y)``, mean over the prompts."""
        log_reference = self.reference.log_probs
        values = calibrated_value(reward, log_reference, calibration, beta=self.beta)
        return np.asarray(values @ self.world.context_probs)


SETTINGS = st.builds(
    Setting,
    world=WORLDS,
    reference=POLICIES,
    calibration=POLICIES,
    beta=betas(0.1, 2.0),
    alpha=WEIGHTS,
)


# --- the value of a reward ---


@claim(
    "C1",
    "identity",
    source="the optimal value and its form for calibrated rewards",
    stated="paper",
    given={"setting": SETTINGS, "shift": st.just(0.0)},
    breaks={"shift": st.floats(0.5, 3.0)},
)
def value_is_linear_in_the_log_policy(setting: Setting, shift: float) -> Verdict:
    """The value of the best policy of a calibrated reward is −β E_cal log(π_r/π_ref): the reward is
    calibrated when its mean under the calibration policy is zero.
    """
    world, reference, beta = setting.world, setting.reference.log_probs, setting.beta
    policy, _ = gibbs_log_policy(np.asarray(world.reward), reference, beta=beta)
    cal = setting.calibration.probs
    reward = calibrated_reward(policy, reference, cal, beta=beta) + shift
    same = ContextualBandit(reward=reward, context_probs=world.context_probs)
    attained = regularised_value(policy, reference, same, beta=beta)
    linear = -beta * world.context_probs @ (cal * (policy - reference)).sum(axis=-1)
    return worst(
        apart(attained, linear, relative=True),
        apart(setting.value(reward, cal), linear, relative=True),
    )


@claim(
    "C4",
    "invariance",
    source="the calibrated class of rewards",
    stated="derived",
    given={
        "setting": SETTINGS,
        "shift": tables((SHAPE[0], 1), low=-9.0, high=9.0),
        "baseline": st.just(1.0),
    },
    breaks={"baseline": st.just(0.0)},
)
def calibration_takes_out_what_data_leave_open(
    setting: Setting, shift: np.ndarray, baseline: float
) -> Verdict:
    """Likelihood, best policy and calibrated value are the same for r + c(x); the optimal value
    itself is not.
    """
    reward = np.asarray(setting.world.reward)
    wins = win_weights(setting.data(), *SHAPE)
    mean = setting.world.context_probs @ (setting.calibration.probs * shift).sum(axis=-1)
    values = [setting.value(r, setting.calibration.probs) for r in (reward, reward + shift)]
    policies_ = [
        gibbs_log_policy(r, setting.reference.log_probs, beta=setting.beta)[0]
        for r in (reward, reward + shift)
    ]
    return worst(
        apart(reward_misfit(reward + shift, wins), reward_misfit(reward, wins), relative=True),
        apart(values[1] + (1 - baseline) * mean, values[0], relative=True),
        apart(*policies_, relative=True),
    )


@claim(
    "C8",
    "identity",
    source="the optimistic reward, one response at a time",
    stated="derived",
    given={
        "setting": SETTINGS,
        "bound": st.floats(0.1, 3.0),
        "base": st.just("the calibration policy"),
    },
    breaks={"base": st.just("the reference")},
)
def optimism_weighs_how_rare_a_response_is(setting: Setting, bound: float, base: str) -> Verdict:
    """The reward B on response k and −B elsewhere has the calibrated value
    β log(1 + π_ref(k)(e^{2B/β} − 1)) − 2B π_cal(k): a rare response under the reference gains
    little from being rare.
    """
    reference = setting.reference.probs
    corners = bound * (2 * np.eye(SHAPE[1])[:, None, :] - 1)
    found = calibrated_value(
        np.broadcast_to(corners, (SHAPE[1], *SHAPE)),
        np.log(reference),
        setting.calibration.probs,
        beta=setting.beta,
    )
    base_of = setting.calibration.probs if base == "the calibration policy" else reference
    gain = np.log1p(reference * np.expm1(2 * bound / setting.beta))
    return apart(found, (setting.beta * gain - 2 * bound * base_of).T, relative=True)


# --- the objective of rewards is a loss of policies ---


@claim(
    "C2",
    "equivalence",
    source="from rewards to policies",
    stated="paper",
    given={
        "setting": SETTINGS,
        "policy": POLICIES,
        "optimistic": st.booleans(),
        "calibration": st.sampled_from(CALIBRATIONS),
        "base": st.just("as the loss calibrates"),
    },
    breaks={"base": st.just("another")},
)
def likelihood_with_the_value_is_the_loss_of_the_policy(
    setting: Setting, policy: TabularPolicy, optimistic: bool, calibration: str, base: str
) -> Verdict:
    """The misfit of a reward, less α times its value (optimistic) or plus it, is DPO with the
    log-likelihood term at its best policy; the calibration policy is that of the responses used.
    """
    data, beta = setting.data(), setting.beta
    wins = win_weights(data, *SHAPE)
    counts = wins.sum(axis=-1) if calibration == "chosen" else (wins + wins.mT).sum(axis=-1)
    shown = counts / counts.sum(axis=-1, keepdims=True)
    if base == "another":
        shown = shown[:, ::-1]
    reward = calibrated_reward(policy.log_probs, setting.reference.log_probs, shown, beta=beta)
    sign = -1 if optimistic else 1
    on_rewards = reward_misfit(reward, wins).sum() + sign * setting.alpha * setting.value(
        reward, shown
    )
    loss = functools.partial(
        losses.vpo, beta=beta, alpha=setting.alpha, optimistic=optimistic, calibration=calibration
    )
    on_policies = objective(policy, loss, data, reference=setting.reference)
    return apart(on_policies, on_rewards, relative=True)


@claim(
    "C3",
    "identity",
    source="the regulariser as a divergence",
    stated="paper",
    given={
        "setting": SETTINGS,
        "policy": POLICIES,
        "optimistic": st.booleans(),
        "direction": st.just("of the reference from the policy"),
        "sampling": st.none(),
    },
    breaks=(
        {"direction": st.just("of the policy from the reference")},
        {"sampling": POLICIES},
    ),
)
def calibrated_by_the_reference_the_term_is_a_divergence(
    setting: Setting, policy: TabularPolicy, optimistic: bool, direction: str, sampling: Any
) -> Verdict:
    """Where pairs are drawn from the reference, the term is ∓αβ KL(π_ref‖π): optimism moves the
    policy away from the reference, pessimism towards it.
    """
    reference, world = setting.reference, setting.world
    data = Comparisons.population(world, reference if sampling is None else sampling)
    loss, dpo = (
        functools.partial(
            losses.vpo,
            beta=setting.beta,
            alpha=setting.alpha,
            optimistic=optimistic,
            calibration="pair",
        ),
        functools.partial(losses.dpo, beta=setting.beta),
    )
    term = objective(policy, loss, data, reference=reference) - objective(
        policy, dpo, data, reference=reference
    )
    first, second = reference.log_probs, policy.log_probs
    if direction == "of the policy from the reference":
        first, second = second, first
    sign = -1 if optimistic else 1
    divergence = kl_to_reference(first, second, world)
    return apart(term, sign * setting.alpha * setting.beta * divergence, relative=True)


# --- pessimism ---


@claim(
    "C5",
    "inequality",
    source="the offline objective",
    stated="derived",
    given={"setting": SETTINGS, "first": REWARDS, "second": REWARDS, "sign": st.just(1.0)},
    breaks={"sign": st.just(-1.0)},
)
def pessimism_is_convex(
    setting: Setting, first: np.ndarray, second: np.ndarray, sign: float
) -> Verdict:
    """The misfit plus α times the value is convex in the reward; less α times the value it is
    not.
    """
    wins = win_weights(setting.data(), *SHAPE)

    def at(reward: np.ndarray) -> float:
        value = setting.alpha * setting.value(reward, setting.calibration.probs)
        return float(reward_misfit(reward, wins).sum() + sign * value)

    ends = (at(first) + at(second)) / 2
    return above(at((first + second) / 2), ends, relative=True)


@claim(
    "C6",
    "inequality",
    source="the offline algorithm as a game",
    stated="paper",
    tolerance=1e-8,
    given={"setting": SETTINGS, "seed": SEEDS, "baseline": st.just(1.0)},
    breaks={"baseline": st.just(0.0)},
)
def pessimistic_reward_and_policy_are_a_saddle_point(
    setting: Setting, seed: int, baseline: float
) -> Verdict:
    """No other calibrated reward lowers misfit + α J at the policy, no other policy raises it at
    the reward: pessimism without a confidence set.
    """
    rng = np.random.default_rng(seed)
    base = setting.calibration.probs
    game = setting.game(setting.data(), base)
    solved = game.solve()
    reward, policy = to_numpy(solved.reward), to_numpy(solved.log_policy)
    scale = np.geomspace(0.01, 5.0, 50)[:, None, None]
    rewards = reward + scale * rng.standard_normal((50, *SHAPE))
    near = log_softmax(policy + scale * rng.standard_normal((50, *SHAPE)))

    def played(log_policy: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Return the objective with this share of the calibration."""
        left_out = (base * rewards).sum(axis=-1) @ setting.world.context_probs
        value = game.objective(log_policy, rewards)
        return np.asarray(value + (1 - baseline) * setting.alpha * left_out)

    value = played(policy, reward)
    return worst(above(value, played(policy, rewards)), above(played(near, reward), value))


# --- optimism ---


@claim(
    "C7",
    "inequality",
    source="the first step of the regret bound",
    stated="paper",
    tolerance=1e-10,
    given={"setting": SETTINGS, "seed": SEEDS, "n": st.integers(1, 50), "left_out": st.just(0)},
    breaks={"left_out": st.just(1)},
)
def optimism_pays_for_its_misfit(setting: Setting, seed: int, n: int, left_out: int) -> Verdict:
    """The optimistic choice r of a finite class with the true reward r* has
    J*(r*) − J*(r) ≤ (misfit of r* − misfit of r)/α.
    """
    rng = np.random.default_rng(seed)
    true = np.asarray(setting.world.reward)
    rewards = np.concatenate([true[None], rng.uniform(-2.0, 2.0, (60, *SHAPE))])
    data = Comparisons.sample(setting.world, n, seed=rng, policy=setting.reference, distinct=True)
    misfit = reward_misfit(rewards, win_weights(data, *SHAPE)).sum(axis=-1)
    value = setting.value(rewards, setting.calibration.probs)
    chosen = left_out + (misfit - setting.alpha * value)[left_out:].argmin()
    return above(value[0] - value[chosen], (misfit[0] - misfit[chosen]) / setting.alpha)


@claim(
    "C7-box",
    "inequality",
    source="the first step of the regret bound",
    stated="derived",
    tolerance=1e-7,
    examples=15,
    given={
        "setting": SETTINGS,
        "seed": SEEDS,
        "n": st.integers(1, 50),
        "bound": st.just(2.0),
    },
    breaks={"bound": st.just(0.3)},
)
def optimism_in_a_box_pays_for_its_misfit(
    setting: Setting, seed: int, n: int, bound: float
) -> Verdict:
    """The same of rewards in a box that holds the true one, sought from it among other starts."""
    rng = np.random.default_rng(seed)
    base = setting.calibration.probs
    data = Comparisons.sample(setting.world, n, seed=rng, policy=setting.reference, distinct=True)
    game = setting.game(data, base, bound)
    starts = np.concatenate(
        [np.asarray(setting.world.reward)[None], rng.uniform(-2.0, 2.0, (6, *SHAPE))]
    )
    found = optimistic_reward(game, starts=starts, tolerance=1e-8)

    def at(rewards: np.ndarray) -> np.ndarray:
        misfit = reward_misfit(rewards, game.wins).sum(axis=-1)
        return np.asarray(misfit - setting.alpha * setting.value(rewards, base))

    reward = to_numpy(found.reward)
    policy, _ = gibbs_log_policy(reward, setting.reference.log_probs, beta=setting.beta)
    return worst(
        above(at(reward), at(starts), relative=True),
        apart(found.value, at(reward), relative=True),
        apart(found.log_policy, policy),
    )

"""What the paper says about its regression, its steps and its gradient, as claims."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.sppo.rounds import (
    Start,
    exploitability_by_horizon,
    follow_exactly,
    follow_on_samples,
    of_strength,
    shortfalls,
)
from prefsim import losses
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient, loss_gradient
from prefsim.numerics import categorical_kl, logsumexp
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import nash_path, objective
from prefsim.solvers.games.certificates import expected_preference, mirror_step, payoff
from prefsim.testing.games import Play, games_near, plays, preference_games
from prefsim.worlds import textbook_game
from prefsim.worlds.game import PreferenceGame

UNSEEN = {
    ("prefsim.losses.sppo", "swap"): (
        "each response has a term of its own, with its own win rate: the loss is the same whichever"
        " of the two is called chosen"
    ),
}

# --- one exact step, and the regressions that stand for it ---


def win_rates(play: Play) -> np.ndarray:
    """Return P(y ≻ π_t) of every response, ``(n,)``."""
    return np.asarray(payoff(play.preference, play.policy))


def next_policy(play: Play) -> np.ndarray:
    """Return log π_{t+1} after an exact step, ``(n,)``."""
    return play.update("sppo", np.log(play.policy))


def log_normaliser(play: Play) -> float:
    """Return log Z_t."""
    return float(logsumexp(np.log(play.policy) + play.step * win_rates(play)))


def half_the_step(play: Play) -> float:
    """Return η/2, which the loss has in place of log Z_t."""
    return play.step / 2


def regression(play: Play, normaliser: Callable[[Play], float], log_policy: Any) -> Any:
    """Return E_{y~π_t}(log π(y)/π_t(y) − ηP(y ≻ π_t) + log Z)², of arrays or tensors.

    It is the loss on all pairs of draws of π_t, whose target is a probability less one half, in
    units of β.
    """
    target = play.step * win_rates(play) - normaliser(play)
    # One that makes probabilities of the targets, whatever stands for log Z.
    unit = 2 * max(float(np.abs(target).max()), 1.0)
    policy, scores = TabularPolicy.from_probs(play.policy[None]), 0.5 + target / unit
    every = Comparisons.population(play.world(), policy)
    pairs = Comparisons(
        every.prompt,
        every.chosen,
        every.rejected,
        every.prob,
        every.weight,
        chosen_score=scores[every.chosen],
        rejected_score=scores[every.rejected],
    )
    loss = functools.partial(losses.sppo, beta=1 / unit)
    return objective(TabularPolicy(log_policy[None]), loss, pairs, reference=policy)


@claim(
    "C1",
    "identity",
    source="exact regression",
    stated="paper",
    given={"play": plays(), "normaliser": st.just(log_normaliser)},
    breaks={"normaliser": st.just(half_the_step)},
)
def exact_regression_is_zero_at_the_step(
    play: Play, normaliser: Callable[[Play], float]
) -> Verdict:
    """The regression with the exact log Z is 0 at π_t exp(ηP(y ≻ π_t))/Z_t, where its gradient
    vanishes.
    """
    after = next_policy(play)
    value = float(regression(play, normaliser, after))
    slope = gradient(lambda logits: regression(play, normaliser, logits), after)
    return worst(apart(value, 0.0), apart(slope, 0.0), detail=f"value {value:.2e}")


@claim(
    "C2",
    "inequality",
    source="choice of η/2 for log Z",
    stated="derived",
    given={"play": plays(), "opponent": st.just("policy")},
    # Only against itself does a policy win half of the time.
    breaks={"opponent": st.just("sampler")},
)
def normaliser_is_about_half_the_step(play: Play, opponent: str) -> Verdict:
    """At an exact step against itself the loss is (log Z_t − η/2)², and η/2 <= log Z_t <= η/2 +
    η²/8, with log Z_t = η/2 + η² Var/2 up to η³√3/108.
    """
    eta, met = play.step, getattr(play, opponent)
    policy = TabularPolicy.from_probs(play.policy[None])
    wins = payoff(play.preference, met)
    pairs = Comparisons.self_play(
        play.world(), policy, opponent=TabularPolicy.from_probs(met[None])
    )
    after = TabularPolicy(mirror_step(np.log(play.policy), None, wins, step=eta)[None])
    loss = functools.partial(losses.sppo, beta=1 / eta)
    left = float(objective(after, loss, pairs, reference=policy))

    log_z = float(logsumexp(np.log(play.policy) + eta * wins))
    variance = play.policy @ (wins - play.policy @ wins) ** 2
    # The third cumulant of a variable in [0, 1], under any tilt, is at most √3/18 in size: Taylor's
    # remainder.
    remainder = abs(log_z - eta / 2 - eta**2 * variance / 2)
    return worst(
        apart(left, (log_z - eta / 2) ** 2, relative=True),
        above(eta / 2, log_z),
        above(log_z, eta / 2 + eta**2 / 8),
        above(remainder, eta**3 * np.sqrt(3) / 108),
        detail=f"log Z {log_z:.6f} at η = {eta:.3f}",
    )


TEXTBOOK = Start(to_numpy(textbook_game().preference), np.array([0.4, 0.4, 0.2]))


def drawn_start(seed: int) -> Start:
    """Return a game of five responses and a policy, none of them rarer than 4 %."""
    policy = np.random.default_rng(seed).dirichlet(np.ones(5))
    return Start(to_numpy(PreferenceGame.random(5, seed=seed).preference), 0.8 * policy + 0.04)


@claim(
    "C3",
    "rate",
    source="SPPO loss",
    stated="derived",
    tolerance=0.1,
    examples=5,
    given={
        "start": st.just(TEXTBOOK) | st.integers(0, 9999).map(drawn_start),
        # Of 250 starts the slopes are within .03 of 3; from steps four times as long, within .12.
        "steps": st.just((0.1, 0.05, 0.025)),
    },
    breaks={"start": st.just(TEXTBOOK), "steps": st.just((40.0, 20.0, 10.0))},
)
def loss_misses_the_step_by_its_third_power(start: Start, steps: tuple[float, ...]) -> Verdict:
    """With η/2 for log Z the minimiser over normalised policies misses multiplicative weights by
    O(η³): slope 3.
    """
    missed = shortfalls(start, steps)
    slope = log_log_slope(steps, missed)
    shown = ", ".join(f"{m:.2e}" for m in missed)
    return apart(slope, 3.0, detail=f"differences {shown}: slope {slope:.3f}")


# --- rounds of exact steps ---


@claim(
    "C4",
    "rate",
    source="theorem 4.1; constant derived",
    stated="derived",
    examples=8,
    given={
        "seed": st.integers(0, 9999),
        "kind": st.sampled_from(["uniform", "cyclic", "tournament"]),
        "horizon": st.sampled_from([16, 64, 256]),
        "policy": st.just("average"),
    },
    breaks={"kind": st.just("cyclic"), "horizon": st.just(256), "policy": st.just("last")},
)
def average_of_many_policies_is_near_the_equilibrium(
    seed: int, kind: str, horizon: int, policy: str
) -> Verdict:
    """The duality gap of the average of T policies is at most √(2 log n/T), with η = √(8 log n/T)
    and a uniform start.
    """
    games = PreferenceGame.random(6, seed=seed, batch_shape=(20,), kind=kind)
    rate = exploitability_by_horizon(games, [horizon])
    gap, bound = 2 * getattr(rate, policy)[0], 2 * rate.bound[0]
    return above(gap, bound, detail=f"largest duality gap {gap.max():.4f}, bound {bound:.4f}")


@claim(
    "C5",
    "monotone",
    source="monotone improvement",
    stated="derived",
    given={"play": plays(), "back": st.just(1)},
    # Where steps are long and preferences go round, the policy of ten steps ago wins again.
    breaks={
        "play": plays(
            games_near(textbook_game().preference), tau=(0.25, 0.25), weight=(1.0, 1.0), spread=0.5
        ),
        "back": st.just(10),
    },
)
def every_step_beats_the_policy_before(play: Play, back: int) -> Verdict:
    """P(π_{t+1} ≻ π_t) >= ½ for every exact step; the lead is KL(π_{t+1}‖π_t) + KL(π_t‖π_{t+1})
    over η.
    """
    path = nash_path(
        play.preference, method="sppo", iterations=12, initial=play.policy, step=play.step
    )
    wins = expected_preference(play.preference, path.policy[back:], path.policy[:-back])
    before, after = np.log(path.policy[:-1]), np.log(path.policy[1:])
    moved = categorical_kl(after, before) + categorical_kl(before, after)
    lead = expected_preference(play.preference, path.policy[1:], path.policy[:-1]) - 0.5
    return worst(
        above(0.5, wins),
        apart(play.step * lead, moved, relative=True),
        detail=f"least win rate {wins.min():.6f}",
    )


@claim(
    "C7",
    "identity",
    source="derivation",
    stated="derived",
    given={"play": plays(preference_games(2))},
    breaks={"play": plays(preference_games(3))},
)
def two_responses_part_by_a_constant_step(play: Play) -> Verdict:
    """With two responses an exact step adds η(P(1 ≻ 2) − ½) to log π(1)/π(2), whatever π_t; so
    does a gradient step of 1 on the loss of the pair, from the log-ratios of 0.
    """
    before, after = np.log(play.policy), next_policy(play)
    moved = (after[0] - after[1]) - (before[0] - before[1])
    descended = -slopes("sppo", 1 / play.step, np.zeros(2), win_rates(play)[:2])
    stated = play.step * (play.preference[0, 1] - 0.5)
    return worst(
        apart(moved, stated),
        apart(descended[0] - descended[1], stated),
        detail=f"log-odds move by {moved:.6f}",
    )


@claim(
    "C9",
    "statistical",
    source="algorithm 1",
    stated="chosen",
    tolerance=0.02,
    examples=3,
    given={
        "seed": st.integers(0, 9999),
        "with_itself": st.just(False),
    },
    # One of two samples is the response itself, against which it wins half of the time.
    breaks={"with_itself": st.just(True)},
)
def samples_teach_what_the_population_does(seed: int, with_itself: bool) -> Verdict:
    """Two rounds on 5000 pairs of samples, whose win rate is how often the other one is beaten,
    end within .02 of two rounds on all pairs with their exact win rates (n = 4, η = 2).
    """
    start = sampled_start(seed)
    exact = follow_exactly(start, step=2.0, rounds=2)
    sampled = follow_on_samples(
        start, step=2.0, rounds=2, draws=5000, include_self=with_itself, seed=seed
    )
    return apart(sampled, exact, detail=f"population {exact[-1].round(4).tolist()}")


def sampled_start(seed: int) -> Start:
    """Return a game of four responses, and a policy that gives each a tenth or more."""
    policy = np.random.default_rng(seed).dirichlet(np.ones(4))
    return Start(to_numpy(PreferenceGame.random(4, seed=seed).preference), 0.6 * policy + 0.1)


# --- the loss of a pair ---


def pair_of(ratios: np.ndarray, wins: np.ndarray) -> losses.PairLogps[Any]:
    """Return a pair with these log-ratios and win rates, each of chosen and rejected."""
    zero = np.zeros(())
    return losses.PairLogps(
        ratios[0], ratios[1], zero, zero, chosen_score=wins[0], rejected_score=wins[1]
    )


def slopes(name: str, beta: float, ratios: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Return the derivatives of a loss in the log-ratios of chosen and rejected, ``(2,)``."""
    found = loss_gradient(of_strength(name, beta), pair_of(ratios, wins))
    return np.array([found.chosen, found.rejected])


RATIOS = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(np.asarray)
BETAS = st.floats(0.05, 2)


@claim(
    "C6",
    "identity",
    source="loss; comparison with DPO and IPO",
    stated="paper",
    given={
        "ratios": RATIOS,
        "wins": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(np.asarray),
        "beta": BETAS,
        "shift": st.floats(-3, 3),
        "blind": st.sampled_from(["dpo", "ipo"]),
    },
    breaks={"shift": st.floats(1, 3), "blind": st.just("sppo")},
)
def gradient_takes_each_response_where_it_belongs(
    ratios: np.ndarray, wins: np.ndarray, beta: float, shift: float, blind: str
) -> Verdict:
    """∂ℓ/∂u_w = u_w − (p_w − ½)/β: at the start what wins more than half goes up and the rest down.
    The gradients of DPO and IPO do not see a common shift of both log-ratios.
    """
    centred = wins - 0.5
    stated = ratios - centred / beta
    first_ascent = -slopes("sppo", beta, np.zeros(2), wins)
    here, moved = (slopes(blind, beta, at, wins) for at in (ratios, ratios + shift))
    # Derivatives of the quadratic loss are as large as 1/β: their rounding error grows with them.
    scale = max(1.0, np.abs(stated).max(), 1 / beta)
    return worst(
        apart(slopes("sppo", beta, ratios, wins), stated, scale=scale),
        apart(np.sign(first_ascent), np.sign(centred)),
        apart(here, moved, scale=scale),
        detail=f"{blind} sees {np.abs(here - moved).max():.2e}",
    )


@claim(
    "C8",
    "identity",
    source="hard labels",
    stated="derived",
    given={
        "ratios": RATIOS,
        "wins": st.just(np.array([1.0, 0.0])),
        "beta": BETAS,
    },
    breaks={"wins": st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)).map(np.asarray)},
)
def hard_labels_are_certain_wins(ratios: np.ndarray, wins: np.ndarray, beta: float) -> Verdict:
    """The loss of hard labels is (u_w − 1/2β)² + (u_l + 1/2β)², twice that of win rates of 1 and 0;
    its gradient takes chosen and rejected by 1/β in opposite directions from the start.
    """
    hard = float(losses.sppo_hard(pair_of(ratios, wins), beta=beta))
    stated = np.sum((ratios - np.array([0.5, -0.5]) / beta) ** 2)
    # The targets are as large as 1/β.
    scale = max(1.0, stated, 1 / beta)
    return worst(
        apart(hard, stated, scale=scale),
        apart(2 * losses.sppo(pair_of(ratios, wins), beta=beta), stated, scale=scale),
        apart(
            slopes("sppo_hard", beta, np.zeros(2), wins), np.array([-1.0, 1.0]) / beta, scale=scale
        ),
        detail=f"loss {hard:.4g}",
    )

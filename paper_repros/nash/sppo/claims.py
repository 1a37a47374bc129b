"""What the paper says about its regression, its steps and its gradient, as claims."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.sppo.rounds import exploitability_by_horizon
from prefsim import losses
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import like, to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient, loss_gradient
from prefsim.numerics import log_softmax, logsumexp
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, nash_path
from prefsim.solvers.games.certificates import expected_preference, payoff
from prefsim.testing.games import Play, cyclic_games, plays, preference_games
from prefsim.worlds import textbook_game
from prefsim.worlds.game import PreferenceGame

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
    """Return E_{y~π_t}(log π(y)/π_t(y) − ηP(y ≻ π_t) + log Z)², of arrays or tensors."""
    target = np.log(play.policy) + play.step * win_rates(play) - normaliser(play)
    errors = log_policy - like(target, log_policy)
    return (like(play.policy, log_policy) * errors**2).sum()


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
    slope = gradient(lambda logits: regression(play, normaliser, log_softmax(logits)), after)
    return worst(apart(value, 0.0), apart(slope, 0.0), detail=f"value {value:.2e}")


def unfair(play: Play) -> st.SearchStrategy[Play]:
    """Plays with preferences that do not add up to one in the two orders."""
    n = len(play.policy)
    cells = st.lists(st.floats(0, 1), min_size=n * n, max_size=n * n)
    return cells.map(lambda drawn: play._replace(preference=np.reshape(drawn, (n, n))))


@claim(
    "C2",
    "inequality",
    source="choice of η/2 for log Z",
    stated="derived",
    given={"play": plays()},
    breaks={"play": plays().flatmap(unfair)},
)
def normaliser_is_about_half_the_step(play: Play) -> Verdict:
    """η/2 <= log Z_t <= η/2 + η²/8, and log Z_t = η/2 + η² Var/2 up to η³√3/108."""
    wins, eta, log_z = win_rates(play), play.step, log_normaliser(play)
    variance = play.policy @ (wins - play.policy @ wins) ** 2
    # The third cumulant of a variable in [0, 1], under any tilt, is at most √3/18 in size: Taylor's
    # remainder.
    remainder = abs(log_z - eta / 2 - eta**2 * variance / 2)
    return worst(
        above(eta / 2, log_z),
        above(log_z, eta / 2 + eta**2 / 8),
        above(remainder, eta**3 * np.sqrt(3) / 108),
        detail=f"log Z {log_z:.6f} at η = {eta:.3f}",
    )


class Start(NamedTuple):
    """A game ``(n, n)`` and the policy ``(n,)`` that plays it."""

    preference: np.ndarray
    policy: np.ndarray


TEXTBOOK = Start(to_numpy(textbook_game().preference), np.array([0.4, 0.4, 0.2]))


def drawn_start(seed: int) -> Start:
    """Return a game of five responses and a policy, none of them rarer than 4 %."""
    policy = np.random.default_rng(seed).dirichlet(np.ones(5))
    return Start(to_numpy(PreferenceGame.random(5, seed=seed).preference), 0.8 * policy + 0.04)


def shortfalls(start: Start, steps: tuple[float, ...]) -> np.ndarray:
    """Return for each η how far the loss's minimiser is from multiplicative weights.

    The largest difference in probability, ``(steps,)``.
    """
    policy = TabularPolicy.from_probs(start.policy[None])
    data = Comparisons.self_play(PreferenceGame(start.preference).to_bandit(), policy)
    missed = []
    for step in steps:
        loss = functools.partial(losses.sppo, beta=1 / step)
        fitted = fit(policy, loss, data, reference=policy).policy.probs[0]
        path = nash_path(
            start.preference, method="mwu", iterations=1, initial=start.policy, step=step
        )
        missed.append(np.abs(fitted - path.policy[-1]).max())
    return np.array(missed)


@claim(
    "C3",
    "rate",
    source="SPPO loss",
    stated="derived",
    tolerance=0.1,
    examples=5,
    given={
        "start": st.just(TEXTBOOK) | st.integers(0, 3).map(drawn_start),
        "steps": st.just((0.1, 0.05, 0.025)) | st.just((0.4, 0.2, 0.1)),
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
        "seed": st.integers(0, 99),
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
    breaks={
        "play": plays(cyclic_games(3), tau=(0.1, 1.0), weight=(0.5, 1.0)),
        "back": st.integers(2, 11),
    },
)
def every_step_beats_the_policy_before(play: Play, back: int) -> Verdict:
    """P(π_{t+1} ≻ π_t) >= ½ for every exact step."""
    path = nash_path(
        play.preference, method="sppo", iterations=12, initial=play.policy, step=play.step
    )
    wins = expected_preference(play.preference, path.policy[back:], path.policy[:-back])
    return above(0.5, wins, detail=f"least win rate {wins.min():.6f}")


@claim(
    "C7",
    "identity",
    source="derivation",
    stated="derived",
    given={"play": plays(preference_games(2))},
    breaks={"play": plays(preference_games(3))},
)
def two_responses_part_by_a_constant_step(play: Play) -> Verdict:
    """With two responses an exact step adds η(P(1 ≻ 2) − ½) to log π(1)/π(2), whatever π_t."""
    before, after = np.log(play.policy), next_policy(play)
    moved = (after[0] - after[1]) - (before[0] - before[1])
    stated = play.step * (play.preference[0, 1] - 0.5)
    return apart(moved, stated, detail=f"log-odds move by {moved:.6f}")


# --- the loss of a pair ---


def of_strength(name: str, beta: float) -> Callable[..., Any]:
    """Return a loss with its strength β, which IPO calls τ."""
    if name == "ipo":
        return functools.partial(losses.ipo, tau=beta)
    return functools.partial(getattr(losses, name), beta=beta)


def slopes(name: str, beta: float, ratios: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Return the derivatives of a loss in the log-ratios of chosen and rejected, ``(2,)``."""
    zero = np.zeros(())
    pair = losses.PairLogps(
        ratios[0], ratios[1], zero, zero, chosen_score=wins[0], rejected_score=wins[1]
    )
    found = loss_gradient(of_strength(name, beta), pair)
    return np.array([found.chosen, found.rejected])


@claim(
    "C6",
    "identity",
    source="loss; comparison with DPO and IPO",
    stated="paper",
    given={
        "ratios": st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(np.asarray),
        "wins": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(np.asarray),
        "beta": st.floats(0.05, 2),
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
        above(0.0, first_ascent * np.sign(centred), scale=scale),
        apart(here, moved, scale=scale),
        detail=f"{blind} sees {np.abs(here - moved).max():.2e}",
    )

"""What the paper says about the extragradient method and its losses, as claims.

A play's τ is the paper's penalty β.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.egpo.algorithms import (
    distances_of_sampled_play,
    games_and_references,
    gaps,
    largest_stable_step,
)
from prefsim import losses
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.numerics import categorical_kl
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, objective
from prefsim.solvers.games.certificates import duality_gap, payoff, regularised_gap
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient
from prefsim.testing.games import Play, cyclic_games, plays
from prefsim.worlds import TEXTBOOK_REFERENCE, textbook_game

# Of the largest step with a guarantee.
SHARES = st.floats(0.01, 1.0)


def step_of(play: Play, share: float) -> float:
    """Return a step η, as a share of the largest one with a guarantee."""
    return share * UPDATES["egpo"].largest_step(play.tau)


@claim(
    "C1",
    "inequality",
    source="linear convergence; one step",
    stated="paper",
    given={"play": plays(), "share": SHARES, "method": st.just("egpo")},
    breaks={
        "play": plays(cyclic_games(least=0.3), tau=(0.005, 0.02)),
        "method": st.just("mirror_descent"),
    },
)
def every_step_comes_nearer(play: Play, share: float, method: str) -> Verdict:
    """KL(π*‖π_{t+1}) <= (1 − ηβ) KL(π*‖π_t) for η <= min(1/(2β + 1), ½), from any start."""
    step = step_of(play, share)
    log_policies = [np.log(play.policy)]
    for _ in range(60):
        log_policies.append(play.update(method, log_policies[-1], step=step))
    distances = categorical_kl(np.log(play.equilibrium()), np.stack(log_policies))
    bound = (1 - step * play.tau) * distances[:-1]
    return above(distances[1:], bound, detail=f"largest excess {np.max(distances[1:] - bound):.3g}")


# --- the losses and their gradients ---


def itself(play: Play) -> np.ndarray:
    """Return the policy that plays."""
    return play.policy


def uniform(play: Play) -> np.ndarray:
    """Return the uniform policy."""
    return np.full_like(play.policy, 1 / len(play.policy))


def another(play: Play) -> np.ndarray:
    """Return a policy that has nothing to do with the one that plays."""
    return play.sampler


def as_policy(probs: np.ndarray) -> TabularPolicy:
    """Return a policy ``(n,)`` as one of a single prompt."""
    return TabularPolicy.from_probs(probs[None])


def against(play: Play, opponent: np.ndarray, sampler: np.ndarray) -> Comparisons:
    """Enumerate the pairs of a sampler, with their expected wins against the opponent."""
    # The loss is the same for both orders of a pair.
    pairs = Comparisons.population(play.world(), as_policy(sampler)).relabelled(1.0)
    return Comparisons.self_play(play.world(), as_policy(opponent), pairs=pairs)


def against_each_other(play: Play, policy: np.ndarray) -> Comparisons:
    """Enumerate pairs of a policy's responses, each the opponent of the other: online IPO 2."""
    pairs = Comparisons.population(play.world(), as_policy(policy))
    return Comparisons(
        pairs.prompt,
        pairs.chosen,
        pairs.rejected,
        1.0,
        pairs.weight,
        chosen_score=pairs.prob,
        rejected_score=np.full(len(pairs), 0.5),
    )


def online_ipo(play: Play) -> Callable[..., object]:
    """Return the loss with the penalty of a play."""
    return functools.partial(losses.online_ipo, tau=play.tau)


def value(play: Play, policy: np.ndarray, data: Comparisons) -> float:
    """Return online IPO's loss of a policy."""
    reference = as_policy(play.reference)
    return float(objective(as_policy(policy), online_ipo(play), data, reference=reference))


def slope(play: Play, policy: np.ndarray, data: Comparisons) -> np.ndarray:
    """Return the gradient of online IPO's loss in the logits, ``(n,)``."""
    reference = as_policy(play.reference)
    return gradient(
        lambda logits: objective(
            TabularPolicy(logits), online_ipo(play), data, reference=reference
        ),
        np.log(policy)[None],
    )[0]


@claim(
    "C2",
    "identity",
    source="gradient form of the update",
    stated="paper",
    given={"play": plays(), "share": SHARES, "drawn_from": st.just(uniform)},
    breaks={"drawn_from": st.just(another)},
)
def two_gradient_steps_are_a_step_of_egpo(
    play: Play, share: float, drawn_from: Callable[[Play], np.ndarray]
) -> Verdict:
    """With uniform pairs the gradient of online IPO is (4/n)(q − mean q), q = log(π/μ) − Pπ'/β, and
    two gradient steps of size nβη/4, the second from π_t against the first, are one step of EGPO.
    """
    n, tau, step, policy = len(play.policy), play.tau, step_of(play, share), play.policy
    q = np.log(policy / play.reference) - payoff(play.preference, policy) / tau

    def descended(opponent: np.ndarray) -> np.ndarray:
        result, _ = gradient_descent(
            as_policy(policy),
            online_ipo(play),
            against(play, opponent, drawn_from(play)),
            reference=as_policy(play.reference),
            step=n * tau * step / 4,
            iterations=1,
        )
        return to_numpy(result.policy.probs[0])

    return worst(
        # The gradient is as large as 1/β.
        apart(
            slope(play, policy, against(play, policy, drawn_from(play))),
            4 / n * (q - q.mean()),
            scale=max(1 / tau, 1.0),
        ),
        apart(descended(descended(policy)), np.exp(play.update("egpo", np.log(policy), step=step))),
    )


@claim(
    "C3",
    "identity",
    source="fixed point of the losses",
    stated="paper",
    given={"play": plays(tau=(0.1, 2.0)), "at": st.just(Play.equilibrium)},
    breaks={"at": st.just(itself)},
)
def equilibrium_stands_still(play: Play, at: Callable[[Play], np.ndarray]) -> Verdict:
    """At π*_β online IPO against the policy itself is zero, with its gradient, whatever
    full-support sampler draws pairs; with pairs that play against each other the gradient is zero,
    too, but the value is E(P(y ≻ y') − ½ − (Pπ)_y + (Pπ)_y')²/β².
    """
    point = at(play)
    first, second = against(play, point, play.sampler), against_each_other(play, point)
    wins = payoff(play.preference, point)
    surprise = play.preference - 0.5 - (wins[:, None] - wins[None, :])
    left = float(point @ surprise**2 @ point) / play.tau**2
    return worst(
        apart(value(play, point, first), 0.0),
        apart(slope(play, point, first), 0.0),
        apart(slope(play, point, second), 0.0),
        apart(value(play, point, second), left, relative=True),
        detail=f"online IPO 2 is {left:.3g} there",
    )


@claim(
    "C4",
    "identity",
    source="derivation",
    stated="derived",
    given={"play": plays(), "drawn_from": st.just(itself)},
    breaks={"drawn_from": st.just(another)},
)
def second_loss_follows_the_policy_gradient(
    play: Play, drawn_from: Callable[[Play], np.ndarray]
) -> Verdict:
    """The gradient of online IPO with pairs from the policy, each response the opponent of the
    other, is −4/β times the policy gradient of self-play.
    """
    ascent = nash_md_pg_gradient(
        play.preference, np.log(play.policy), np.log(play.reference), tau=play.tau, mixture=0.0
    )
    return apart(
        slope(play, play.policy, against_each_other(play, drawn_from(play))),
        -4 / play.tau * ascent,
        scale=max(1 / play.tau, 1.0),
    )


# --- the original game ---


def log_of_the_rarest(play: Play) -> float:
    """Return log 1/μ_min, the largest divergence from the reference."""
    return math.log(1 / play.reference.min())


def log_of_the_number(play: Play) -> float:
    """Return log n, which is that of a uniform reference alone."""
    return math.log(len(play.reference))


@claim(
    "C5",
    "inequality",
    source="reduction to the original game",
    stated="paper",
    given={
        "play": plays(),
        "accuracy": st.floats(0.01, 1.0),
        "farthest": st.just(log_of_the_rarest),
    },
    breaks={"play": plays(spread=4.0), "farthest": st.just(log_of_the_number)},
)
def small_penalty_solves_the_original_game(
    play: Play, accuracy: float, farthest: Callable[[Play], float]
) -> Verdict:
    """The duality gap of the game without penalty is at most that with it plus 2β(log 1/μ_min −
    KL(π‖μ)): β = ε/(4 log 1/μ_min) and a gap of ε/2 give ε.
    """

    def exceeds(policy: np.ndarray, tau: float) -> Verdict:
        gap = regularised_gap(play.preference, policy, reference=play.reference, tau=tau)
        distance = categorical_kl(np.log(policy), np.log(play.reference))
        bias = 2 * tau * (farthest(play) - distance)
        return above(duality_gap(play.preference, policy), gap + bias)

    accurate = play._replace(tau=accuracy / (4 * farthest(play)))
    return worst(
        exceeds(play.policy, play.tau),
        exceeds(play.equilibrium(), play.tau),
        exceeds(accurate.equilibrium(), accurate.tau),
        above(duality_gap(play.preference, accurate.equilibrium()), accuracy),
    )


# --- the authors' simulation, and play with noise ---


@claim(
    "C6",
    "counterexample",
    source="simulation of the authors",
    stated="derived",
    tolerance=0.0,
    examples=2,
    given={"seed": st.integers(0, 20), "step": st.just(0.8)},
    breaks={"step": st.just(0.1)},
)
def mirror_descent_fails_where_egpo_converges(seed: int, step: float) -> Verdict:
    """With β = 0.01 and the authors' step η = 0.8, mirror descent (online IPO 1) has a gap above
    1e-2 after 5000 steps on one of ten random games, EGPO at most 1e-12 on all.
    """
    games, reference = games_and_references(seed)
    egpo, mirror_descent = (
        gaps(
            games, reference, method=method, beta=0.01, step=step, iterations=5000, record=5000
        ).gap[-1]
        for method in ("egpo", "inpo")
    )
    unstable = step > largest_stable_step(games, reference, beta=0.01)
    return worst(
        above(egpo, 1e-12),
        above(1e-2, mirror_descent.max()),
        detail=(
            f"gap of EGPO {egpo.max():.1e}; of mirror descent above 1e-2 on"
            f" {(mirror_descent > 1e-2).sum()} games, {unstable.sum()} unstable"
        ),
    )


# Each of the three responses is preferred to those after it.
IN_ORDER = np.triu(np.ones((3, 3)), 1) - np.tril(np.ones((3, 3)), -1)


@claim(
    "C7",
    "rate",
    source="noise theorem; constants unknown",
    stated="paper",
    tolerance=0.0,
    examples=1,
    given={"seed": st.integers(0, 99), "lean": st.just(0.0)},
    breaks={"lean": st.just(0.1)},
)
def noise_leaves_a_distance_of_its_variance(seed: int, lean: float) -> Verdict:
    """With gradients from m sampled triples the last iterate settles at a distance KL(π*‖π_t) of
    order 1/m: the fitted slope is −1 ± 0.25.
    """
    preference, sizes = to_numpy(textbook_game().preference), (16, 256)
    # After 20 rounds the start is forgotten, by a factor (1 − ηβ)²⁰ = 0.04.
    late = [
        distances_of_sampled_play(
            preference,
            np.asarray(TEXTBOOK_REFERENCE),
            beta=0.3,
            step=0.5,
            triples=triples,
            rounds=50,
            seeds=30,
            seed=seed,
            judge=preference + lean * IN_ORDER,
        )[20:].mean()
        for triples in sizes
    ]
    rate = log_log_slope(sizes, late)
    shown = ", ".join(f"{distance:.1e}" for distance in late)
    return outside(rate, -1.25, -0.75, detail=f"distances {shown} nats, slope {rate:.2f}")

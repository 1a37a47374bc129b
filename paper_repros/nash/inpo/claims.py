"""What the paper says about its loss, its step and its rates, as claims.

The paper's η is the inverse of a step size: a step of η here is ``step=1/η`` in the library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.inpo.convergence import last_policy_rate
from paper_repros.nash.inpo.steps import (
    amplified,
    as_policy,
    by_majority,
    closed_form,
    drawn_pairs,
    equilibrium_of_payoffs,
    from_reference,
    gradient_spans,
    log_iterates,
    log_policies_of,
)
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.drawn import labelled_pairs
from prefsim.gradients import gradient
from prefsim.numerics import categorical_kl, log_softmax, logsumexp, softmax
from prefsim.papers import Verdict, above, apart, claim, rises, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gradient_descent, objective, solve_nash
from prefsim.solvers.games.certificates import payoff, regularised_gap
from prefsim.testing.games import Play, cyclic_games, plays, preference_games
from prefsim.worlds.game import PreferenceGame

# --- the step, and the losses whose minimiser it is ---

# A share τ/η of 1 forgets the last policy, and no step of magnetic mirror descent does that.
PLAYS = plays(weight=(0.01, 0.95))


def itself(play: Play) -> np.ndarray:
    """Return the policy that plays."""
    return play.policy


def uniform(play: Play) -> np.ndarray:
    """Return the uniform policy."""
    return np.full_like(play.policy, 1 / len(play.policy))


def another(play: Play) -> np.ndarray:
    """Return a policy that has nothing to do with the one that plays."""
    return play.sampler


@claim(
    "C1",
    "minimiser",
    source="loss and mirror step; label form",
    stated="paper",
    given={"play": PLAYS, "drawn_from": st.just(itself)},
    breaks={"drawn_from": st.just(another)},
)
def loss_is_least_at_the_mirror_step(
    play: Play, drawn_from: Callable[[Play], np.ndarray]
) -> Verdict:
    """The gradient of the binary loss on pairs drawn from π_t vanishes at the mirror step π ∝
    exp(P(y ≻ π_t)/η) μ^(τ/η) π_t^(1−τ/η).
    """
    loss = functools.partial(losses.inpo, step=play.step, tau=play.tau)
    pairs, reference = drawn_pairs(play, drawn_from(play)), as_policy(play.reference)
    slope = gradient(
        lambda logits: objective(TabularPolicy(logits), loss, pairs, reference=reference),
        np.log(closed_form(play))[None],
    )
    # The targets are multiples of 1/η.
    return apart(slope, 0.0, scale=max(play.step, 1.0))


def as_often_as_preferred(prob: np.ndarray) -> np.ndarray:
    """Return the probability of a label that is drawn."""
    return prob


@claim(
    "C2",
    "identity",
    source="equivalence of the losses; constant derived",
    stated="derived",
    given={"play": PLAYS, "labelled": st.just(as_often_as_preferred)},
    breaks={"labelled": st.just(by_majority)},
)
def labels_differ_from_preferences_by_a_constant(
    play: Play, labelled: Callable[[np.ndarray], np.ndarray]
) -> Verdict:
    """The binary loss less the soft one is E[1/(4η²) − ((P − ½)/η)²], whatever the policy (error
    relative to the loss).
    """
    data = drawn_pairs(play, play.policy)
    labels = data.relabelled(labelled(data.prob))
    # Against the other response of the pair: scores P(y ≻ y') and ½.
    preferences = Comparisons(
        data.prompt,
        data.chosen,
        data.rejected,
        data.prob,
        data.weight,
        chosen_score=data.prob,
        rejected_score=np.full(len(data), 0.5),
        old_chosen=data.old_chosen,
        old_rejected=data.old_rejected,
    )
    binary = functools.partial(losses.inpo, step=play.step, tau=play.tau)
    soft = functools.partial(losses.mirror_descent, step=play.step, tau=play.tau)
    constant = np.sum(data.weight * (0.25 - (data.prob - 0.5) ** 2)) * play.step**2
    reference, parts = as_policy(play.reference), []
    for here in map(as_policy, (play.policy, play.reference, play.sampler)):
        of_labels = float(objective(here, binary, labels, reference=reference))
        of_preferences = float(objective(here, soft, preferences, reference=reference))
        parts.append(apart(of_labels - of_preferences, constant, scale=1 + of_labels))
    return worst(*parts, detail=f"constant {constant:.4g}")


@claim(
    "C3",
    "equivalence",
    source="mirror step; equivalences derived",
    stated="derived",
    given={"play": PLAYS, "drawn_from": st.just(uniform)},
    breaks={"drawn_from": st.just(another)},
)
def three_methods_make_the_step(play: Play, drawn_from: Callable[[Play], np.ndarray]) -> Verdict:
    """The step is that of mirror descent with step 1/η, a gradient step lr = nτ/(4η) of online IPO
    on uniform pairs, and magnetic mirror descent with step 1/(η − τ).
    """
    log_policy, stated = np.log(play.policy), closed_form(play)
    descended, _ = gradient_descent(
        as_policy(play.policy),
        functools.partial(losses.online_ipo, tau=play.tau),
        drawn_pairs(play, drawn_from(play)),
        reference=as_policy(play.reference),
        step=len(play.policy) * play.weight / 4,
        iterations=1,
    )
    magnetic_step = 1 / (1 / play.step - play.tau)
    return worst(
        apart(np.exp(play.update("inpo", log_policy)), stated),
        apart(descended.policy.probs[0], stated),
        apart(np.exp(play.update("mmd", log_policy, step=magnetic_step)), stated),
    )


PLAYED_PAIRS, PLAYERS = 2000, 64


@claim(
    "C9",
    "statistical",
    source="practical algorithm: labels in place of win rates",
    stated="derived",
    tolerance=6.0,
    examples=6,
    given={
        "play": plays(preference_games(min_n=2, max_n=4), weight=(0.05, 0.95), spread=1.0),
        "seed": st.integers(0, 9999),
        "drawn_from": st.just(itself),
    },
    breaks={
        "play": plays(cyclic_games(3, least=0.2), weight=(0.05, 0.5), spread=1.0),
        "drawn_from": st.just(another),
    },
)
def labels_lead_to_the_mirror_step(
    play: Play, seed: int, drawn_from: Callable[[Play], np.ndarray]
) -> Verdict:
    """The loss fitted to 2000 labelled pairs from π_t has the mirror step as its mean: log-ratios
    within six standard errors over 64 fits (which are all alike where every label is certain).
    """
    n, closed = len(play.policy), np.log(closed_form(play))
    playing = TabularPolicy.from_probs(np.broadcast_to(drawn_from(play), (PLAYERS, 1, n)))
    fitted = fit(
        playing,
        functools.partial(losses.inpo, step=play.step, tau=play.tau),
        labelled_pairs(play.world(), playing, PLAYED_PAIRS, seed=seed),
        reference=as_policy(play.reference),
    ).policy.log_probs[:, 0]
    missed = np.diff(fitted - closed, axis=-1)
    standard_error = missed.std(axis=0) / math.sqrt(PLAYERS)
    # Certain labels leave the accuracy of the fit.
    return apart(missed.mean(axis=0) / np.maximum(standard_error, 1e-8), 0.0)


# --- play: how far it strays, and how it comes near ---


@claim(
    "C4",
    "inequality",
    source="assumption of the theorems",
    stated="derived",
    given={"play": plays().map(from_reference)},
    breaks={"play": plays(tau=(1.0, 3.0), weight=(0.01, 0.95))},
)
def iterates_stay_near_the_reference(play: Play) -> Verdict:
    """From the reference on, log π_t/μ has span <= 1/τ and the gradient span <= 2: the paper's
    boundedness assumption holds by itself.
    """
    log_policies = log_policies_of(play, iterations=59)
    ratio_spans = play.tau * np.ptp(log_policies - np.log(play.reference), axis=-1)
    spans = gradient_spans(play, log_policies)
    return worst(
        above(ratio_spans, 1.0),
        above(spans, 2.0),
        detail=(
            f"τ·span of the log-ratio {ratio_spans.max():.3g}, span of the gradient"
            f" {spans.max():.3g}"
        ),
    )


@claim(
    "C5",
    "inequality",
    source="one step of the last-iterate theorem; constants derived",
    stated="derived",
    given={"play": plays().map(from_reference)},
    breaks={
        "play": plays(cyclic_games(max_n=6, least=0.3), weight=(0.3, 0.95))
        .map(from_reference)
        .map(amplified)
    },
)
def every_step_comes_nearer_up_to_a_square(play: Play) -> Verdict:
    """KL(π*‖π₊) <= (1 − τ/η) KL(π*‖π) + min(s²/8, ½)/η², with s the span of the gradient."""
    log_policies = log_policies_of(play, iterations=60)
    distances = categorical_kl(np.log(equilibrium_of_payoffs(play)), log_policies)
    spans = gradient_spans(play, log_policies[:-1])
    bound = (1 - play.weight) * distances[:-1] + np.minimum(spans**2 / 8, 0.5) * play.step**2
    return above(distances[1:], bound, detail=f"largest excess {np.max(distances[1:] - bound):.3g}")


ITERATIONS = 400


@claim(
    "C6",
    "rate",
    source="last-iterate theorem; constant derived",
    stated="derived",
    tolerance=1e-9,
    examples=6,
    given={
        "seed": st.integers(0, 999),
        "tau": st.sampled_from([0.03, 0.1, 0.3, 1.0]),
        "constant_step": st.none(),
    },
    breaks={"tau": st.just(0.1), "constant_step": st.floats(5.0, 10.0)},
)
def last_policy_converges_with_decreasing_steps(
    seed: int, tau: float, constant_step: float | None
) -> Verdict:
    """With η_t = τ(t + 2)/2 the last iterate has KL(π*‖π_t) <= Σ_{k<t} s_k² (k + 1)/(k + 2) / (2τ²
    t(t + 1)), s_k the spans of the gradient: at most 2/(τ²(t + 1)); its fitted slope is at most −1.
    """
    games = to_numpy(PreferenceGame.random(6, seed=seed, batch_shape=(8,)).preference)
    # Preferences of 0 and 1 alone turn fastest.
    games = np.concatenate([games, by_majority(games)])
    reference = softmax(np.random.default_rng(seed).standard_normal((16, 6)))
    rate = last_policy_rate(games, reference, tau=tau, step=constant_step, iterations=ITERATIONS)
    return worst(
        above(rate.found, rate.bound, scale=rate.bound),
        Verdict(above(rate.bound, 2 / (tau**2 * (rate.iteration[:, None] + 1))).error),
        above(rate.slope, -1.0),
        detail=f"{rate.share:.2e} of the bound, slope {rate.slope:.2f} of the worst game",
    )


@claim(
    "C7",
    "rate",
    source="regret theorem; constants derived",
    stated="derived",
    tolerance=1e-10,
    given={"play": plays().map(from_reference), "horizon": st.integers(1, 100)},
    breaks={"play": plays(tau=(2.0, 5.0), weight=(0.001, 0.1)), "horizon": st.integers(1, 3)},
)
def regret_grows_with_the_root_of_time(play: Play, horizon: int) -> Verdict:
    """Regret against any π is at most η KL(π‖π₁) + T/(2η); the average policy's gap is at most
    twice the mean regret, so O(1/√T).
    """
    log_reference, log_start, eta = np.log(play.reference), np.log(play.policy), 1 / play.step
    log_policies = log_policies_of(play, iterations=horizon - 1)
    policies = np.exp(log_policies)
    rewards = payoff(play.preference, policies)
    penalties = play.tau * categorical_kl(log_policies, log_reference)
    suffered, wins = (penalties - (policies * rewards).sum(axis=-1)).sum(), rewards.sum(axis=0)
    # The comparator with the largest regret less η KL(π‖π₁) is known, and so is that with the
    # largest regret.
    total = horizon * play.tau + eta
    logits = wins + horizon * play.tau * log_reference + eta * log_start
    beyond_distance = suffered + total * logsumexp(logits / total)
    largest = suffered + horizon * play.tau * logsumexp(log_reference + wins / (horizon * play.tau))
    mean = policies.mean(axis=0)
    gap = regularised_gap(play.preference, mean, reference=play.reference, tau=play.tau)
    twice = 2 * largest / horizon
    return worst(
        above(beyond_distance, horizon / (2 * eta)),
        above(gap, twice),
        detail=f"the gap of the average is {gap:.3g}, twice the mean regret {twice:.3g}",
    )


@claim(
    "C8",
    "counterexample",
    source="role of the reference",
    stated="derived",
    examples=10,
    given={
        "game": cyclic_games(3, least=0.2),
        "shift": st.tuples(st.floats(0.05, 0.2), st.floats(0.05, 0.2), st.just(0.0)),
        "tau": st.just(0.0),
    },
    breaks={"tau": st.floats(0.1, 0.5)},
)
def spirals_outwards_without_the_penalty(
    game: PreferenceGame, shift: tuple[float, float, float], tau: float
) -> Verdict:
    """Without the penalty, on a cyclic game, each step leads away from the equilibrium: KL(π*‖π_t)
    rises by log E exp((P(y ≻ π_t) − ½)/η), y ~ π_t, at every step.
    """
    preference, uniform_policy = to_numpy(game.preference), np.full(3, 1 / 3)
    if tau == 0:
        # With each response in proportion to how sure the other two are of each other.
        sure = np.abs(preference - 0.5)[[1, 2, 0], [2, 0, 1]]
        target = sure / sure.sum()
    else:
        target = solve_nash(game, method="regularised", reference=uniform_policy, tau=tau).policy
    log_target = np.log(target)
    start = np.exp(log_softmax(log_target + np.array(shift)))
    log_policies = log_iterates(
        preference, uniform_policy, start, iterations=1500, step=1.0, tau=tau
    )
    distances = categorical_kl(log_target, log_policies)
    policies = np.exp(log_policies[:-1])
    wins = payoff(preference, policies) - 0.5
    return worst(
        rises(distances),
        apart(np.diff(distances), logsumexp(log_policies[:-1] + wins), scale=1 + distances[1:]),
        detail=f"KL(equilibrium‖π) from {distances[0]:.2e} to {distances[-1]:.2e}",
    )


# --- what sabotage cannot show ---

SAME_MINIMISER = (
    "play minimises the loss on each round's pairs, and a multiple of it is least there"
)
UNSEEN = {
    ("prefsim.losses.nash.inpo", "half"): SAME_MINIMISER,
    ("prefsim.losses.nash.inpo", "double"): SAME_MINIMISER,
}

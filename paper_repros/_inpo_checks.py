"""What the claims of ``inpo`` measure: the play of mirror descent, and its bounds."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.numerics import categorical_kl, log_softmax, logsumexp, softmax
from prefsim.papers import Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, objective, solve_nash
from prefsim.solvers.games.certificates import mirror_step, payoff, regularised_gap
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.solvers.games.updates import mmd_update
from prefsim.testing.games import games_with_reference, preference_games, references
from prefsim.worlds import ContextualBandit, PreferenceGame


class Play(NamedTuple):
    """A game, the reference and π_t ``(n,)``, the penalty τ and its share τ/η; who draws the pairs, if not π_t; how labels are made."""

    preference: np.ndarray
    reference: np.ndarray
    last: np.ndarray
    tau: float
    share: float
    sampler: np.ndarray | None = None
    majority: bool = False

    @property
    def eta(self) -> float:
        """Inverse step size η."""
        return self.tau / self.share

    def world(self) -> ContextualBandit:
        """Return the game as a world with one prompt."""
        return ContextualBandit(preference=self.preference[None])

    def following(self, log_policy: np.ndarray) -> np.ndarray:
        """Return the next log-policy of mirror descent."""
        return mirror_step(
            log_policy,
            np.log(self.reference),
            payoff(self.preference, np.exp(log_policy)),
            step=1 / self.eta,
            tau=self.tau,
        )

    def gradient_span(self, log_policy: np.ndarray) -> float:
        """Return the span of the gradient of the learner's loss against itself."""
        return float(
            np.ptp(
                self.tau * (log_policy - np.log(self.reference))
                - payoff(self.preference, np.exp(log_policy))
            )
        )


def plays(
    *, tau: tuple[float, float] = (0.05, 2.0), low: float = 0.01, high: float = 0.95, **drawn: Any
) -> st.SearchStrategy[Play]:
    """Games with a reference and a policy, penalties τ and shares τ/η in ``[low, high]``; ``drawn`` are further fields."""

    def build(pair: tuple[PreferenceGame, np.ndarray]) -> st.SearchStrategy[Play]:
        game, reference = pair
        penalty = st.floats(math.log(tau[0]), math.log(tau[1])).map(math.exp)
        given = {
            name: value(game.n_responses) if callable(value) else st.just(value)
            for name, value in drawn.items()
        }
        # Fields that are not given must say so: `builds` would make up values for their types.
        given = {
            "sampler": st.none(),
            "majority": st.just(False),
            "last": references(game.n_responses),
        } | given
        fields = {
            "preference": st.just(game.preference),
            "reference": st.just(reference),
            "tau": penalty,
            "share": st.floats(low, high),
        }
        return st.builds(Play, **fields, **given)

    return games_with_reference(preference_games(min_n=2, max_n=6)).flatmap(build)


def from_reference(play: Play) -> Play:
    """Return the play that starts at the reference, as the algorithm does."""
    return play._replace(last=play.reference)


def as_policy(probs: np.ndarray) -> TabularPolicy:
    return TabularPolicy.from_probs(probs[None])


def drawn_pairs(play: Play) -> Comparisons:
    """Enumerate the pairs of a round, with the log-probabilities of π_t."""
    pairs = Comparisons.population(
        play.world(), as_policy(play.last if play.sampler is None else play.sampler)
    )
    return Comparisons.self_play(play.world(), as_policy(play.last), pairs=pairs)


def closed_form(play: Play) -> np.ndarray:
    """Return the step as the paper writes it, π ∝ exp(P(y ≻ π_t)/η) μ^(τ/η) π_t^(1 − τ/η)."""
    wins, keep = play.preference @ play.last / play.eta, 1 - play.tau / play.eta
    return softmax(wins + play.tau / play.eta * np.log(play.reference) + keep * np.log(play.last))


def check_minimiser(play: Play) -> Verdict:
    import torch

    logits = torch.tensor(np.log(closed_form(play))[None], requires_grad=True)
    loss = functools.partial(losses.inpo, step=1 / play.eta, tau=play.tau)
    objective(
        TabularPolicy(logits), loss, drawn_pairs(play), reference=as_policy(play.reference)
    ).backward()
    assert logits.grad is not None
    # The targets are multiples of 1/η.
    return Verdict(float(logits.grad.abs().max()) * min(play.eta, 1.0))


def check_constant(play: Play) -> Verdict:
    data = drawn_pairs(play)
    labels = (
        data.relabelled((data.prob > 0.5) + 0.5 * (data.prob == 0.5)) if play.majority else data
    )
    columns = (data.prompt, data.chosen, data.rejected, data.prob, data.weight)
    old = {"old_chosen": data.old_chosen, "old_rejected": data.old_rejected}
    # Against the other response of the pair: scores P(y ≻ y') and ½.
    pairwise = Comparisons(
        *columns, chosen_score=data.prob, rejected_score=np.full(len(data), 0.5), **old
    )
    binary = functools.partial(losses.inpo, step=1 / play.eta, tau=play.tau)
    soft = functools.partial(losses.mirror_descent, step=1 / play.eta, tau=play.tau)
    constant = float(np.sum(data.weight * (0.25 - (data.prob - 0.5) ** 2)) / play.eta**2)
    rng, error = np.random.default_rng(0), 0.0
    for _ in range(3):
        here = as_policy(softmax(rng.standard_normal(len(play.last))))
        both = (
            objective(here, loss, rows, reference=as_policy(play.reference))
            for loss, rows in ((binary, labels), (soft, pairwise))
        )
        first, second = map(float, both)
        error = max(error, abs(first - second - constant) / (1 + first))
    return Verdict(error, f"constant {constant:.4g}")


def check_same_step(play: Play) -> Verdict:
    log_last, log_reference = np.log(play.last), np.log(play.reference)
    n = len(play.last)
    sampler = np.full(n, 1 / n) if play.sampler is None else play.sampler
    pairs = Comparisons.population(play.world(), as_policy(sampler))
    data = Comparisons.self_play(play.world(), as_policy(play.last), pairs=pairs)
    loss, rate = functools.partial(losses.online_ipo, tau=play.tau), n * play.tau / (4 * play.eta)
    descended, _ = gradient_descent(
        as_policy(play.last),
        loss,
        data,
        reference=as_policy(play.reference),
        step=rate,
        iterations=1,
    )
    (magnetic,) = mmd_update(
        (log_last,), play.preference, log_reference, step=1 / (play.eta - play.tau), tau=play.tau
    )
    found = (np.exp(play.following(log_last)), descended.policy.probs[0], np.exp(magnetic))
    return Verdict(float(max(np.abs(other - closed_form(play)).max() for other in found)))


def check_spans(play: Play) -> Verdict:
    log_policy, worst = np.log(play.last), [0.0, 0.0]
    for _ in range(60):
        ratio = play.tau * float(np.ptp(log_policy - np.log(play.reference)))
        worst = [max(worst[0], ratio), max(worst[1], play.gradient_span(log_policy))]
        log_policy = play.following(log_policy)
    return Verdict(
        max(0.0, worst[0] - 1, worst[1] - 2),
        f"τ·span of the log-ratio {worst[0]:.3g}, span of the gradient {worst[1]:.3g}",
    )


def check_contraction(play: Play) -> Verdict:
    target = (
        solve_nash(
            play.preference, method="regularised", reference=play.reference, tau=play.tau
        ).policy
        if _is_game(play)
        else None
    )
    log_target = np.log(_fixed_point(play) if target is None else target)
    log_policy, worst = np.log(play.last), -math.inf
    for _ in range(60):
        following, span = play.following(log_policy), play.gradient_span(log_policy)
        excess = categorical_kl(log_target, following) - (1 - play.share) * categorical_kl(
            log_target, log_policy
        )
        worst = max(worst, float(excess - min(span**2 / 8, 0.5) / play.eta**2))
        log_policy = following
    return Verdict(max(0.0, worst), f"largest excess {worst:.3g}")


def _is_game(play: Play) -> bool:
    return bool((np.abs(play.preference - 0.5) <= 0.5).all())


def _fixed_point(play: Play) -> np.ndarray:
    """Return the equilibrium for payoffs that are no probabilities: the game of k times the payoffs has that of a penalty τ/k."""
    scale = 2 * np.abs(play.preference - 0.5).max()
    scaled = 0.5 + (play.preference - 0.5) / scale
    return solve_nash(
        scaled, method="regularised", reference=play.reference, tau=play.tau / scale
    ).policy


def amplified(play: Play) -> Play:
    """Return the play with payoffs ten times as far from one half as preferences may be."""
    return play._replace(preference=0.5 + 10 * (play.preference - 0.5))


class Schedule(NamedTuple):
    """Games of a seed, the penalty, the number of steps, and a constant step if not the schedule."""

    seed: int
    tau: float
    iterations: int = 400
    step: float | None = None


def scheduled(tau: float) -> Any:
    """Return the steps 1/η_t = 2/(τ(t + 2)) as a function of t."""
    return lambda t: 2 / (tau * (t + 2))


def check_schedule(case: Schedule) -> Verdict:
    games = PreferenceGame.random(6, seed=case.seed, batch_shape=(8,)).preference
    # Preferences of 0 and 1 alone turn fastest.
    games = np.concatenate([games, (games > 0.5) + 0.5 * (games == 0.5)])
    reference = softmax(np.random.default_rng(case.seed).standard_normal((16, 6)))
    step = scheduled(case.tau) if case.step is None else case.step
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        run = solve_nash(
            games,
            method="inpo",
            reference=reference,
            tau=case.tau,
            step=step,
            max_iterations=case.iterations,
            tolerance=0.0,
            record=1,
        )
    assert run.history is not None
    target = solve_nash(games, method="regularised", reference=reference, tau=case.tau).policy
    distance = categorical_kl(np.log(target), np.log(run.history.policy))[1:]
    share = distance * case.tau**2 * (run.history.iteration[1:, None] + 1) / 2
    late = run.history.iteration[1:] >= case.iterations // 4
    slope = np.polyfit(
        np.log(run.history.iteration[1:][late]),
        np.log(np.maximum(distance.max(axis=1)[late], 1e-300)),
        1,
    )[0]
    error = max(0.0, float(share.max()) - 1, slope + 1)
    return Verdict(error, f"{share.max():.2e} of the bound, slope {slope:.2f} of the worst game")


class Regret(NamedTuple):
    """A play and the number T of iterations; η is that of the play."""

    play: Play
    iterations: int


def check_regret(case: Regret) -> Verdict:
    play, horizon = case.play, case.iterations
    log_reference, log_start = np.log(play.reference), np.log(play.last)
    log_policy, wins, suffered, mean = (
        log_start,
        np.zeros(len(play.last)),
        0.0,
        np.zeros(len(play.last)),
    )
    for _ in range(horizon):
        policy = np.exp(log_policy)
        reward = payoff(play.preference, policy)
        suffered += float(play.tau * categorical_kl(log_policy, log_reference) - policy @ reward)
        wins, mean = wins + reward, mean + policy / horizon
        log_policy = play.following(log_policy)
    # The comparator with the largest regret less η KL(π‖π₁) is known, and so is that with the
    # largest regret.
    weight = horizon * play.tau + play.eta
    logits = wins + horizon * play.tau * log_reference + play.eta * log_start
    excess = suffered + weight * float(logsumexp(logits / weight)) - horizon / (2 * play.eta)
    most = suffered + horizon * play.tau * float(
        logsumexp(log_reference + wins / (horizon * play.tau))
    )
    gap = float(regularised_gap(play.preference, mean, reference=play.reference, tau=play.tau))
    detail = f"the gap of the average is {gap:.3g}, twice the mean regret {2 * most / horizon:.3g}"
    return Verdict(max(0.0, excess, gap - 2 * most / horizon), detail)


class Spiral(NamedTuple):
    """A cyclic game, the penalty, and where play starts: logits around its equilibrium."""

    preference: np.ndarray
    tau: float
    shift: tuple[float, float, float]


def check_spiral(case: Spiral) -> Verdict:
    uniform = np.full(3, 1 / 3)
    if case.tau == 0:
        target = solve_nash(case.preference, method="lp").policy
    else:
        target = solve_nash(
            case.preference, method="regularised", reference=uniform, tau=case.tau
        ).policy
    log_target = np.log(target)
    log_policy = log_softmax(log_target + np.array(case.shift))
    before = float(categorical_kl(log_target, log_policy))
    distance, drop = before, 0.0
    for _ in range(1500):
        log_policy = mirror_step(
            log_policy,
            np.log(uniform),
            payoff(case.preference, np.exp(log_policy)),
            step=1.0,
            tau=case.tau,
        )
        following = float(categorical_kl(log_target, log_policy))
        distance, drop = following, max(drop, distance - following)
    return Verdict(
        max(drop, 3 * before - distance), f"KL(equilibrium‖π) from {before:.2e} to {distance:.2e}"
    )

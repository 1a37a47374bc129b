"""What the claims of ``egpo`` measure: contraction, the losses at the equilibrium, and play with noise."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros._nash_md_experiments import random_games
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.drawn import judged_triples
from prefsim.loops import descent
from prefsim.loops.rounds import play_rounds
from prefsim.numerics import categorical_kl, softmax
from prefsim.papers import Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, objective, solve_nash
from prefsim.solvers.games.certificates import duality_gap, payoff, regularised_gap
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient
from prefsim.solvers.games.updates import UPDATES
from prefsim.testing.games import games_with_reference, preference_games, references
from prefsim.worlds import ContextualBandit, PreferenceGame


class Play(NamedTuple):
    """A game, the reference, a policy and a sampler of pairs ``(n,)``, the penalty β, a number in [0, 1], and what a claim varies."""

    preference: np.ndarray
    reference: np.ndarray
    policy: np.ndarray
    sampler: np.ndarray
    beta: float
    share: float
    variant: str

    def world(self) -> ContextualBandit:
        """Return the game as a world with one prompt."""
        return ContextualBandit(preference=self.preference[None])

    def equilibrium(self) -> np.ndarray:
        """Return π*_β."""
        return solve_nash(
            self.preference, method="regularised", reference=self.reference, tau=self.beta
        ).policy


def plays(
    games: st.SearchStrategy[PreferenceGame] | None = None,
    *,
    beta: tuple[float, float] = (0.05, 2.0),
    variant: str = "",
    spread: float = 2.0,
) -> st.SearchStrategy[Play]:
    def build(pair: tuple[PreferenceGame, np.ndarray]) -> st.SearchStrategy[Play]:
        game, reference = pair
        penalty = st.floats(math.log(beta[0]), math.log(beta[1])).map(math.exp)
        drawn = references(game.n_responses)
        return st.builds(
            Play,
            st.just(game.preference),
            st.just(reference),
            drawn,
            drawn,
            penalty,
            st.floats(0.01, 1.0),
            st.just(variant),
        )

    return games_with_reference(
        preference_games(min_n=2, max_n=6) if games is None else games, spread=spread
    ).flatmap(build)


def as_policy(probs: np.ndarray) -> TabularPolicy:
    return TabularPolicy.from_probs(probs[None])


def against(play: Play, opponent: np.ndarray, sampler: np.ndarray) -> Comparisons:
    """Enumerate the pairs of a sampler, with their expected wins against the opponent."""
    # The loss is the same for both orders of a pair.
    pairs = Comparisons.population(play.world(), as_policy(sampler)).relabelled(1.0)
    return Comparisons.self_play(play.world(), as_policy(opponent), pairs=pairs)


def against_each_other(play: Play, policy: np.ndarray) -> Comparisons:
    """Enumerate pairs of a policy's responses, each the opponent of the other: online IPO 2."""
    pairs = Comparisons.population(play.world(), as_policy(policy))
    columns = (pairs.prompt, pairs.chosen, pairs.rejected, 1.0, pairs.weight)
    return Comparisons(*columns, chosen_score=pairs.prob, rejected_score=np.full(len(pairs), 0.5))


def value_and_gradient(
    play: Play, policy: np.ndarray, data: Comparisons
) -> tuple[float, np.ndarray]:
    """Return online IPO's loss and its gradient in the logits, by automatic differentiation."""
    import torch

    logits = torch.tensor(np.log(policy)[None], requires_grad=True)
    loss = functools.partial(losses.online_ipo, tau=play.beta)
    value = objective(TabularPolicy(logits), loss, data, reference=as_policy(play.reference))
    value.backward()
    assert logits.grad is not None
    return float(value.detach()), logits.grad.numpy()[0]


def check_contraction(play: Play) -> Verdict:
    """``share`` is that of the largest step with a guarantee; the variant is another method."""
    update, rule = UPDATES["egpo"], UPDATES[play.variant or "egpo"]
    step = play.share * update.largest_step(play.beta)
    log_target, log_policy, worst = np.log(play.equilibrium()), np.log(play.policy), -math.inf
    for _ in range(60):
        (following,) = rule.apply(
            (log_policy,), play.preference, np.log(play.reference), step=step, tau=play.beta
        )
        excess = categorical_kl(log_target, following) - (1 - step * play.beta) * categorical_kl(
            log_target, log_policy
        )
        log_policy, worst = following, max(worst, float(excess))
    return Verdict(max(0.0, worst), f"largest excess {worst:.3g}")


def check_gradient_steps(play: Play) -> Verdict:
    """Compare the gradient with its closed form, and two gradient steps with one of the method."""
    n = len(play.policy)
    uniform = np.full(n, 1 / n) if play.variant != "sampler" else play.sampler
    _, gradient = value_and_gradient(play, play.policy, against(play, play.policy, uniform))
    ratio = np.log(play.policy / play.reference) - payoff(play.preference, play.policy) / play.beta
    error = float(np.abs(gradient - 4 / n * (ratio - ratio.mean())).max()) * min(play.beta, 1.0)
    step = play.share * UPDATES["egpo"].largest_step(play.beta)
    options: dict[str, Any] = {
        "reference": as_policy(play.reference),
        "step": n * play.beta * step / 4,
        "iterations": 1,
    }
    loss, policy = functools.partial(losses.online_ipo, tau=play.beta), as_policy(play.policy)
    half = gradient_descent(policy, loss, against(play, play.policy, uniform), **options)[
        0
    ].policy.probs[0]
    found = gradient_descent(policy, loss, against(play, half, uniform), **options)[0].policy.probs[
        0
    ]
    (expected,) = UPDATES["egpo"].apply(
        (np.log(play.policy),), play.preference, np.log(play.reference), step=step, tau=play.beta
    )
    return Verdict(max(error, float(np.abs(found - np.exp(expected)).max())))


def check_equilibrium(play: Play) -> Verdict:
    point = play.policy if play.variant == "elsewhere" else play.equilibrium()
    value, gradient = value_and_gradient(play, point, against(play, point, play.sampler))
    second, second_gradient = value_and_gradient(play, point, against_each_other(play, point))
    error = max(value, *(float(np.abs(g).max()) for g in (gradient, second_gradient)))
    return Verdict(error, f"online IPO 1 is {value:.1e} there, online IPO 2 {second:.3g}")


def check_same_field(play: Play) -> Verdict:
    _, gradient = value_and_gradient(play, play.policy, against_each_other(play, play.policy))
    if play.variant == "sampler":
        _, gradient = value_and_gradient(play, play.policy, against_each_other(play, play.sampler))
    ascent = nash_md_pg_gradient(
        play.preference, np.log(play.policy), np.log(play.reference), tau=play.beta, mixture=0.0
    )
    return Verdict(float(np.abs(gradient + 4 / play.beta * ascent).max()) * min(play.beta, 1.0))


def check_bias(play: Play) -> Verdict:
    """At the given policy, and at the equilibrium of the penalty that an accuracy ε (the share) asks for."""
    farthest = (
        math.log(len(play.reference))
        if play.variant == "uniform"
        else math.log(1 / play.reference.min())
    )
    accuracy = play.share
    worst = -math.inf
    for policy, beta in (
        (play.policy, play.beta),
        (None, play.beta),
        (None, accuracy / (4 * farthest)),
    ):
        here = play._replace(beta=beta).equilibrium() if policy is None else policy
        gap = float(regularised_gap(play.preference, here, reference=play.reference, tau=beta))
        bias = 2 * beta * (farthest - float(categorical_kl(np.log(here), np.log(play.reference))))
        worst = max(worst, float(duality_gap(play.preference, here)) - gap - bias)
    # ``here`` is now the equilibrium for the accuracy.
    return Verdict(max(0.0, worst, float(duality_gap(play.preference, here)) - accuracy))


class Cycle(NamedTuple):
    """Ten random games of a seed, and the step of both methods."""

    seed: int
    step: float


def drawn_games(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ten games of ten responses as the authors draw them, and references."""
    rng = np.random.default_rng(seed)
    return random_games(10, rng), softmax(rng.standard_normal((10, 10)))


def unstable(games: np.ndarray, reference: np.ndarray, *, beta: float, step: float) -> np.ndarray:
    """Return for which games mirror descent cannot stay near the equilibrium, η > 2β/(β² + ω²) with ±iω the fastest rotation there."""
    point = to_numpy(solve_nash(games, method="regularised", reference=reference, tau=beta).policy)
    covariance = point[:, :, None] * np.eye(point.shape[-1]) - point[:, :, None] * point[:, None, :]
    rotation = np.abs(np.linalg.eigvals((games - 0.5) @ covariance).imag).max(axis=-1)
    return step > 2 * beta / (beta**2 + rotation**2)


def check_cycle(case: Cycle) -> Verdict:
    games, reference = drawn_games(case.seed)
    gaps = {}
    for method in ("egpo", "inpo"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepSizeWarning)
            run = solve_nash(
                games,
                method=method,
                reference=reference,
                tau=0.01,
                step=case.step,
                max_iterations=5000,
                tolerance=0.0,
            )
        gaps[method] = to_numpy(run.regularised_gap)
    known = int(unstable(games, reference, beta=0.01, step=case.step).sum())
    detail = (
        f"gap of EGPO {gaps['egpo'].max():.1e}; of mirror descent above 1e-2 on"
        f" {(gaps['inpo'] > 1e-2).sum()} games, {known} unstable"
    )
    return Verdict(float(max(0.0, gaps["egpo"].max() - 1e-12, 1e-2 - gaps["inpo"].max())), detail)


class Noise(NamedTuple):
    """Sampled play on the golden game: the seed, numbers of triples in a gradient, and how far the judge leans from the preferences."""

    seed: int
    sizes: tuple[int, ...]
    lean: float


GOLDEN = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
REFERENCE = np.array([0.5, 0.3, 0.2])


def sampled_distances(
    preference: np.ndarray,
    reference: np.ndarray,
    *,
    beta: float,
    step: float,
    triples: int,
    rounds: int,
    seeds: int,
    seed: int,
    judge: np.ndarray | None = None,
) -> np.ndarray:
    """Play EGPO with gradients from so many triples, and return KL(π*‖π_t) in nats after each round, ``(rounds, seeds)``."""
    n = len(reference)
    world = ContextualBandit(preference=(preference if judge is None else judge)[None])
    log_target = np.log(
        solve_nash(preference, method="regularised", reference=reference, tau=beta).policy
    )
    start = TabularPolicy.from_probs(np.broadcast_to(reference, (seeds, 1, n)))

    def draw(policy: Any, opponent: Any, rng: np.random.Generator) -> Comparisons:
        return judged_triples(world, opponent, triples, seed=rng)

    played = play_rounds(
        start,
        draw,
        functools.partial(losses.online_ipo, tau=beta),
        rounds=rounds,
        seed=seed,
        reference=as_policy(reference),
        extragradient=True,
        train=descent(step=n * beta * step / 4, iterations=1),
    )
    return np.stack(
        [categorical_kl(log_target, round_.policy.log_probs[:, 0]) for round_ in played]
    )


def check_noise(case: Noise) -> Verdict:
    lean = case.lean * np.array([[0.0, 1.0, 1.0], [-1.0, 0.0, 1.0], [-1.0, -1.0, 0.0]])
    options: dict[str, Any] = {
        "beta": 0.3,
        "step": 0.5,
        "rounds": 60,
        "seeds": 30,
        "seed": case.seed,
        "judge": GOLDEN + lean,
    }
    late = [
        sampled_distances(GOLDEN, REFERENCE, triples=m, **options)[30:].mean() for m in case.sizes
    ]
    slope = float(np.polyfit(np.log(case.sizes), np.log(late), 1)[0])
    return Verdict(
        max(0.0, abs(slope + 1) - 0.25),
        f"distances {', '.join(f'{d:.1e}' for d in late)} nats, slope {slope:.2f} (band −1 ± 0.25)",
    )

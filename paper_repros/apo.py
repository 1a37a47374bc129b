"""Accelerated preference optimisation: Nesterov's momentum between the rounds of iterative preference optimisation."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _apo_experiments as experiments
from paper_repros._apo_experiments import (
    CYCLE,
    CYCLE_START,
    DOMINANCE,
    MOMENTA,
    log_policies,
    payoffs_of,
    play,
    rounds_on,
    shortfall,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.loops import extrapolate_policy, momentum_coefficients
from prefsim.numerics import log_softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, solve_nash
from prefsim.solvers.games.certificates import mirror_step
from prefsim.solvers.games.updates import extrapolated
from prefsim.testing.bandits import tables
from prefsim.testing.games import cyclic_games, preference_games, references
from prefsim.worlds import ContextualBandit, PreferenceGame

PAPER = Paper(
    slug="apo",
    title="Accelerated Preference Optimization for Large Language Model Alignment",
    arxiv="2410.06293",
    year=2024,
    family="nash",
    summary=(
        "Iterative preference optimisation, whose reference is the last policy, is a proximal-point"
        " method. Momentum on the log-policy makes T rounds worth T/(1 − α) of them, less a"
        " transient; on cyclic preferences it makes the last policy worse."
    ),
    implements=(
        "prefsim.loops.accelerate",
        "prefsim.loops.extrapolate_policy",
        "prefsim.loops.momentum_coefficients",
        "prefsim.solvers.games.updates.apo_update",
        "prefsim.solvers.solve_nash",
    ),
)

Array = np.ndarray


class Rounds(NamedTuple):
    """Rewards and reference ``(n,)``, β, momentum α and the number of rounds; what the rounds really learn, and the gap that is claimed."""

    reward: Array
    reference: Array
    beta: float
    momentum: float
    rounds: int
    learned: Array | None = None
    game: Array | None = None
    claimed_gap: float = 0.0

    def run(self, momentum: float | None = None, rounds: int | None = None) -> tuple[Array, Array]:
        """Return fitted and extrapolated log-policies ``(rounds, n)`` of exact rounds."""
        fixed = self.reward if self.learned is None else self.learned
        payoffs = (lambda policy: fixed) if self.game is None else payoffs_of(self.game)
        alpha = self.momentum if momentum is None else momentum
        path = rounds_on(
            payoffs, self.reference, beta=self.beta, momentum=alpha, rounds=rounds or self.rounds
        )
        return log_policies(path)


def _rounds(
    *, learned: bool = False, low: float = 0.2, most: int = 12
) -> st.SearchStrategy[Rounds]:
    def build(n: int) -> st.SearchStrategy[Rounds]:
        rewards = tables((n,), low=-2.0, high=2.0)
        numbers = (st.floats(low, 5.0), st.floats(0.0, 0.8), st.integers(1, most))
        return st.builds(
            Rounds,
            rewards,
            references(n),
            *numbers,
            rewards if learned else st.none(),
            st.none(),
            st.just(0.0),
        )

    return st.integers(2, 8).flatmap(build)


def _in_game(pair: tuple[Rounds, PreferenceGame]) -> Rounds:
    case, game = pair
    table = np.asarray(game.preference)
    uniform = np.full(len(table), 1 / len(table))
    return case._replace(game=table, reward=table @ uniform, reference=uniform)


def _check_coefficients(case: Rounds) -> Verdict:
    error = 0.0
    runs = case.run()
    for t in range(case.rounds):
        for log_policy, coefficient in zip(
            runs, momentum_coefficients(t + 1, momentum=case.momentum), strict=True
        ):
            exact = log_softmax(np.log(case.reference) + coefficient * case.reward / case.beta)
            error = max(error, float(np.max(np.abs(log_policy[t] - exact))))
    return Verdict(error)


def _check_sublinear(case: Rounds) -> Verdict:
    best, counted = int(np.argmax(case.reward)), np.arange(1, case.rounds + 1)
    coefficients = np.array(
        [momentum_coefficients(int(t), momentum=case.momentum).fitted for t in counted]
    )
    missed = shortfall(case.reward, case.run()[0])
    excess = missed - case.beta * math.log(1 / case.reference[best]) / coefficients
    return Verdict(
        max(0.0, float(np.max(excess))), f"c_T = {coefficients[-1]:.4g} after {case.rounds} rounds"
    )


def _check_linear(case: Rounds) -> Verdict:
    best = int(np.argmax(case.reward))
    missed = shortfall(case.reward, case.run()[0])
    coefficients = np.array(
        [momentum_coefficients(t, momentum=case.momentum).fitted for t in range(1, case.rounds + 1)]
    )
    odds = (1 - case.reference[best]) / case.reference[best]
    excess = float(
        np.max(
            missed
            - np.ptp(case.reward) * odds * np.exp(-coefficients * case.claimed_gap / case.beta)
        )
    )
    # The fitted exponent: what a round adds to −log of the shortfall, late in the run, against the
    # theorem's.
    measured = np.log(missed[-11] / missed[-1]) / 10
    predicted = case.claimed_gap / (case.beta * (1 - case.momentum))
    return Verdict(
        max(0.0, excess, abs(measured / predicted - 1) - 0.02),
        f"exponent {measured:.5g} a round, predicted {predicted:.5g}",
    )


def _spaced(steps: Array, reference: Array, beta: float, momentum: float, factor: float) -> Rounds:
    reward = np.concatenate([[0.0], np.cumsum(steps)])
    return Rounds(reward, reference, beta, momentum, 70, claimed_gap=factor * float(steps[-1]))


def _spaced_rounds(factors: st.SearchStrategy[float]) -> st.SearchStrategy[Rounds]:
    def build(n: int) -> st.SearchStrategy[Rounds]:
        return st.builds(
            _spaced,
            tables((n - 1,), low=0.1, high=0.3),
            references(n, spread=1.0),
            st.floats(0.3, 1.0),
            st.floats(0.0, 0.6),
            factors,
        )

    return st.integers(2, 6).flatmap(build)


class Plain(NamedTuple):
    """A game, rewards, a start and β of rounds whose momentum should be zero, and another momentum for payoffs that are constant."""

    preference: Array
    reward: Array
    start: Array
    beta: float
    momentum: float
    any_momentum: float


def _plain(momentum: st.SearchStrategy[float]) -> st.SearchStrategy[Plain]:
    def build(game: PreferenceGame) -> st.SearchStrategy[Plain]:
        n = game.n_responses
        return st.builds(
            Plain,
            st.just(np.asarray(game.preference)),
            tables((n,), low=-1.0, high=1.0),
            references(n),
            st.floats(0.5, 3.0),
            momentum,
            st.floats(0.0, 0.9),
        )

    return preference_games(min_n=2, max_n=5).flatmap(build)


def _check_plain(case: Plain) -> Verdict:
    path = rounds_on(
        payoffs_of(case.preference), case.start, beta=case.beta, momentum=case.momentum, rounds=5
    )
    weights = solve_nash(
        case.preference,
        method="mwu",
        initial=case.start,
        step=1 / case.beta,
        max_iterations=5,
        tolerance=0.0,
    )
    by_method = solve_nash(
        case.preference,
        method="apo",
        initial=case.start,
        step=1 / case.beta,
        max_iterations=5,
        tolerance=0.0,
        momentum=case.momentum,
    )
    fitted = path[-1].fitted.probs[0]
    still = rounds_on(
        np.zeros_like, case.start, beta=case.beta, momentum=case.any_momentum, rounds=5
    )[-1].fitted.probs[0]
    # One round of iterative DPO: the loss fitted to all pairs of the last policy, which is also the
    # reference.
    policy = TabularPolicy(np.log(case.start)[None])
    pairs = Comparisons.population(ContextualBandit(reward=case.reward[None]), policy)
    dpo = fit(
        policy, functools.partial(losses.dpo, beta=case.beta), pairs, reference=policy
    ).policy.probs[0]
    proximal = np.exp(mirror_step(np.log(case.start), None, case.reward, step=1 / case.beta))
    errors = fitted - weights.policy, fitted - by_method.policy, still - case.start
    return Verdict(
        max(
            *(float(np.max(np.abs(e))) for e in errors),
            1e-4 * float(np.max(np.abs(dpo - proximal))),
        )
    )


class Game(NamedTuple):
    """A game, where it starts, the step and the number of rounds."""

    preference: Array
    start: Array
    step: float
    rounds: int


def _check_dominance(case: Game) -> Verdict:
    exploited = play(
        case.preference, case.start, MOMENTA[:3], step=case.step, rounds=case.rounds
    ).last[-1]
    return Verdict(
        max(0.0, float(np.max(np.diff(exploited)))),
        f"exploitability {exploited.round(4).tolist()} at momentum 0, .3, .6",
    )


def _led(game: PreferenceGame, lead: float) -> Array:
    """Return the game whose first response beats every other, by at least ``lead``."""
    table = np.array(game.preference)
    table[0, 1:] = np.maximum(table[0, 1:], 0.5 + lead)
    table[1:, 0] = 1 - table[0, 1:]
    return table


def _from_uniform(table: Array, rounds: int) -> Game:
    return Game(table, np.full(len(table), 1 / len(table)), 0.5, rounds)


def _check_cycle(case: Game) -> Verdict:
    path = play(case.preference, case.start, MOMENTA[:3], step=case.step, rounds=case.rounds)
    distance = path.distance(experiments.equilibrium(case.preference))[100::100]
    detail = f"KL(π*‖π_T) {distance[-1].round(4).tolist()} at momentum 0, .3, .6"
    return Verdict(max(0.0, float(np.max(-np.diff(distance, axis=1)))), detail)


def _cyclic(game: PreferenceGame, start: Array) -> Game:
    return Game(np.asarray(game.preference), start, 0.05, 1000)


# 20 000 iterates, the first being the start.
LONG = 19_999


class Shift(NamedTuple):
    """Two tables of logits ``(X, n)``, the momentum, and what is added to the first: constants ``(X, 1)`` or anything."""

    logits: Array
    before: Array
    momentum: float
    shift: Array


def _shifts(constant: bool) -> st.SearchStrategy[Shift]:
    def build(shape: tuple[int, int]) -> st.SearchStrategy[Shift]:
        logits = tables(shape, low=-4.0, high=4.0)
        added = tables((shape[0], 1) if constant else shape, low=-3.0, high=3.0)
        return st.builds(Shift, logits, logits, st.floats(0.0, 0.95), added)

    return st.tuples(st.integers(1, 3), st.integers(2, 6)).flatmap(build)


def _check_shift(case: Shift) -> Verdict:
    policy, before = TabularPolicy(case.logits), TabularPolicy(case.before)
    plain = extrapolate_policy(policy, before, momentum=case.momentum).probs
    moved = extrapolate_policy(
        TabularPolicy(case.logits + case.shift), before, momentum=case.momentum
    ).probs
    exact = np.exp(extrapolated(policy.log_probs, before.log_probs, momentum=case.momentum))
    return Verdict(float(max(np.max(np.abs(plain - moved)), np.max(np.abs(plain - exact)))))


CLAIMS = (
    Claim(
        "C1",
        "identity",
        "With a fixed reward T rounds end at log π_ref + c_T r/β (fitted) and log π_ref + d_T r/β"
        " (extrapolated) up to a constant, with c_T = T/(1−α) − α(1−α^T)/(1−α)² and d_T = c_T +"
        " α(1−α^T)/(1−α)",
        "derived from the algorithm",
        _rounds(),
        _check_coefficients,
        1e-10,
        breaks=st.tuples(_rounds(), cyclic_games(least=0.2)).map(_in_game),
    ),
    Claim(
        "C2",
        "inequality",
        "r* − E_{π̂_T} r <= β log(1/π_ref(y*))/c_T: O(1/T) without momentum, O((1 − α)/T) with it",
        "convergence theorem; constant derived",
        _rounds(most=60),
        _check_sublinear,
        1e-12,
        breaks=_rounds(learned=True, most=60),
    ),
    Claim(
        "C3",
        "rate",
        "With a gap Δ to the second best response r* − E_{π̂_T} r <= (r* − r_min)(1 −"
        " π_ref(y*))/π_ref(y*) exp(−c_T Δ/β), and the exponent fitted to the last of 70 rounds is"
        " Δ/(β(1 − α)) within 2 %",
        "derived",
        _spaced_rounds(st.just(1.0)),
        _check_linear,
        1e-12,
        breaks=_spaced_rounds(st.floats(2.0, 5.0)),
    ),
    Claim(
        "C4",
        "identity",
        "Without momentum the method is multiplicative weights with step 1/β, and its round"
        " iterative DPO (fitted, to 1e-9); momentum changes nothing where all payoffs are equal",
        "proximal-point view",
        _plain(st.just(0.0)),
        _check_plain,
        1e-13,
        breaks=_plain(st.floats(0.1, 0.9)),
        examples=10,
    ),
    Claim(
        "C5",
        "monotone",
        "Where one response beats all others by .1 or more, momentum 0, .3, .6 leaves ever less"
        " exploitability after 10 to 40 rounds of step .5 from the uniform policy (found, not"
        " proved: it fails for margins near 0)",
        "acceleration on dominance games; margin found",
        st.builds(_from_uniform, st.just(DOMINANCE), st.integers(10, 40))
        | st.builds(
            _from_uniform,
            st.builds(_led, preference_games(min_n=2, max_n=6), st.floats(0.1, 0.4)),
            st.integers(10, 40),
        ),
        _check_dominance,
        1e-12,
        breaks=st.builds(
            _from_uniform,
            cyclic_games(3, least=0.2).map(lambda game: np.asarray(game.preference)),
            st.integers(10, 40),
        ),
    ),
    Claim(
        "C6",
        "counterexample",
        "In a cyclic game momentum amplifies the spiral: the last policy's distance KL(π*‖π̂_T)"
        " from the equilibrium is larger with momentum .3 than without, and larger still with .6,"
        " at every hundredth of 1000 rounds of step .05 (found on games of three responses)",
        "derived; against acceleration in general",
        st.just(Game(CYCLE, CYCLE_START, 0.05, 1000))
        | st.builds(_cyclic, cyclic_games(3, least=0.1), references(3, spread=1.0)),
        _check_cycle,
        1e-12,
        breaks=st.just(Game(DOMINANCE, np.full(3, 1 / 3), 0.05, 1000)),
        examples=15,
    ),
    Claim(
        "C7",
        "invariance",
        "Extrapolating unnormalised logits is extrapolating log-policies: a constant added to the"
        " logits of a prompt changes nothing",
        "derived",
        _shifts(True),
        _check_shift,
        1e-14,
        breaks=_shifts(False),
    ),
)

BETA, SLOW_BETA, GOAL = 0.5, 50.0, 1e-3
EXPECTED_CYCLE = {"last": (0.061, 0.337, 0.398), "average": (0.0004, 0.0020, 0.0023)}


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    bandit = experiments.Bandit.draw(20, rng)
    best = int(np.argmax(bandit.reward))
    longest = 40
    paths = {
        alpha: experiments.follow(bandit, beta=BETA, momentum=alpha, rounds=longest)
        for alpha in run.progress(MOMENTA, "rewards")
    }
    coefficients = {
        alpha: np.array(
            [momentum_coefficients(t, momentum=alpha).fitted for t in range(1, longest + 1)]
        )
        for alpha in MOMENTA
    }
    bounds = {
        alpha: BETA * math.log(1 / bandit.reference[best]) / c for alpha, c in coefficients.items()
    }

    gap = float(np.diff(np.sort(bandit.reward))[-1])
    enough = math.ceil(SLOW_BETA / gap * math.log(20 * float(np.ptp(bandit.reward)) / GOAL))
    counts = functools.partial(experiments.rounds_to, bandit, goal=GOAL)
    plain = counts(beta=SLOW_BETA, momentum=0.0, rounds=enough)
    predicted = {
        alpha: next(
            t for t in range(plain + 1) if momentum_coefficients(t, momentum=alpha).fitted >= plain
        )
        for alpha in MOMENTA
    }
    slow = {
        alpha: counts(beta=SLOW_BETA, momentum=alpha, rounds=predicted[alpha] + 5)
        for alpha in MOMENTA
    }
    quick = {
        alpha: counts(beta=BETA, momentum=alpha, rounds=math.ceil(enough * BETA / SLOW_BETA) + 1)
        for alpha in MOMENTA
    }
    ratios = {alpha: slow[alpha] / slow[0.0] for alpha in MOMENTA[1:]}
    dominance = play(DOMINANCE, np.full(3, 1 / 3), MOMENTA[:3], step=0.5, rounds=150)
    cycle = play(CYCLE, CYCLE_START, MOMENTA[:3], step=0.05, rounds=LONG)
    spiral = cycle.distance(experiments.equilibrium(CYCLE))[100::100]

    reward, rounds = np.array([0.0, 0.3, 0.6, 0.9, 1.2]), 6
    learning = {}
    for alpha in run.progress((0.0, 0.3), "sampled rounds"):
        exact = rounds_on(
            lambda policy: reward, np.full(5, 0.2), beta=2.0, momentum=alpha, rounds=rounds
        )
        learning[f"α = {alpha:g}, exact"] = shortfall(reward, log_policies(exact)[0])
        learning[f"α = {alpha:g}, 1000 pairs a round"] = experiments.sampled_rounds(
            reward,
            beta=2.0,
            momentum=alpha,
            rounds=rounds,
            pairs=1000,
            replicates=5 if run.quick else 40,
            seed=run.seed,
        )

    error = max(path.error for path in paths.values())
    excess = max(float(np.max(paths[alpha].shortfall - bounds[alpha])) for alpha in MOMENTA)
    last, average = cycle.last[-1], cycle.average[-1]
    lead = learning["α = 0, 1000 pairs a round"][-1] / learning["α = 0.3, 1000 pairs a round"][-1]
    criteria = (
        Criterion(
            "exact coefficients",
            "log-policies equal log π_ref + c_T r/β to 1e-9 (relative)",
            error,
            error <= 1e-9,
        ),
        Criterion(
            "bound",
            "shortfall at most β log(1/π_ref(y*))/c_T in every round",
            f"largest excess {excess:.2e}",
            excess <= 1e-12,
        ),
        Criterion(
            "slow rounds (β = 50)",
            "rounds to a shortfall of 1e-3 shrink to 1 − α of the plain count, within 10 % where"
            " the transient α/(1 − α)² is a small part of it, and to what c_T predicts, within a"
            " round (.700, .401, .106 on another draw)",
            ", ".join(f"{ratio:.3f} at α = {alpha:g}" for alpha, ratio in ratios.items())
            + f" of {slow[0.0]}",
            all(
                abs(ratio / (1 - alpha) - 1) <= max(0.1, 1.2 * alpha / (1 - alpha) ** 2 / slow[0.0])
                and abs(slow[alpha] - predicted[alpha]) <= 1
                for alpha, ratio in ratios.items()
            ),
        ),
        Criterion(
            "fast rounds (β = .5)",
            "the transient dominates: fewer rounds saved (17, 12, 9, 6 on another draw)",
            ", ".join(str(count) for count in quick.values()),
            all(a > b for a, b in zip(quick.values(), list(quick.values())[1:], strict=False))
            and quick[0.9] / quick[0.0] > 0.11,
        ),
        Criterion(
            "dominance game",
            "exploitability after 20 rounds .0418, .0283, .0114",
            ", ".join(f"{x:.4f}" for x in dominance.last[20]),
            bool(np.max(np.abs(dominance.last[20] - (0.0418, 0.0283, 0.0114))) < 6e-5),
        ),
        Criterion(
            "cyclic game",
            f"of 20 000 iterates the last {EXPECTED_CYCLE['last']}, average"
            f" {EXPECTED_CYCLE['average']}",
            f"last {', '.join(f'{x:.3f}' for x in last)}; average"
            f" {', '.join(f'{x:.4f}' for x in average)}",
            bool(
                np.max(np.abs(last - EXPECTED_CYCLE["last"])) < 6e-4
                and np.max(np.abs(average - EXPECTED_CYCLE["average"])) < 6e-5
            ),
        ),
        Criterion(
            "spiral of the cyclic game",
            "the distance KL(π*‖π̂_T) grows with the momentum at every hundredth round",
            ", ".join(f"{x:.3f}" for x in spiral[-1]) + " nats at the last",
            bool(np.all(np.diff(spiral, axis=1) > 0)),
        ),
        Criterion(
            "fitted on samples",
            f"momentum .3 is ahead after {rounds} rounds of DPO on 1000 pairs (no figure on the"
            " page)",
            f"shortfall smaller by the factor {lead:.2f}",
            bool(lead > 1.1),
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "momentum": alpha,
            **{f"shortfall, T = {t}": float(paths[alpha].shortfall[t - 1]) for t in (1, 5, 10, 20)},
            **{
                f"KL from the reference, T = {t}": float(paths[alpha].drift[t - 1])
                for t in (1, 5, 10, 20)
            },
            "rounds to 1e-3, β = 50": slow[alpha],
            "rounds to 1e-3, β = 0.5": quick[alpha],
        }
        for alpha in MOMENTA
    ]
    for t in range(rounds):
        row: dict[str, str | float | int] = {"round": t + 1}
        table.append(
            row | {f"shortfall, {name}": float(line[t]) for name, line in learning.items()}
        )
    return Reproduction(
        experiments.draw(bandit, paths, bounds, BETA, dominance, cycle, learning), table, criteria
    )

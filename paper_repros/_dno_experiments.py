"""The experiments of ``dno``: exact self-play and its rivals, sampled regression, small networks with a teacher, and the figure."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.filtered_pairs import filtered_pairs
from prefsim.data.replicates import replicated_comparisons
from prefsim.loops import descent
from prefsim.loops.rounds import play_rounds
from prefsim.numerics import gather, sigmoid
from prefsim.policies import NetworkPolicy, TabularPolicy
from prefsim.solvers import fit, solve_nash
from prefsim.solvers.closed_forms.self_training import best_of_n, iterative_dpo_step
from prefsim.solvers.games.certificates import expected_preference, exploitability, payoff
from prefsim.worlds import ContextualBandit

ETA, TUNING_SAMPLES = 0.5, 5
DNO, DPO, SFT = "DNO", "iterative DPO", "SFT on the best of 5"


class Trace(NamedTuple):
    """Exploitability of the policies and their wins against the start ``(T + 1, ...)``, and exploitability of their means ``(T, ...)``."""

    policy: np.ndarray
    exploited: np.ndarray
    wins: np.ndarray
    average: np.ndarray


def trace(preference: np.ndarray, policies: np.ndarray) -> Trace:
    played = np.cumsum(policies[:-1], axis=0) / np.arange(1, len(policies)).reshape(
        -1, *[1] * (policies.ndim - 1)
    )
    wins = expected_preference(preference, policies, policies[0])
    return Trace(
        policies, exploitability(preference, policies), wins, exploitability(preference, played)
    )


def play(
    preference: np.ndarray, start: np.ndarray, horizon: int, *, eta: float = ETA
) -> dict[str, Trace]:
    """Play exact steps of the three methods from one start."""
    run = solve_nash(
        preference,
        method="dno",
        initial=start,
        step=1 / eta,
        max_iterations=horizon,
        tolerance=0.0,
        record=1,
    )
    assert run.history is not None
    found = {DNO: trace(preference, to_numpy(run.history.policy))}

    def tune(logs: np.ndarray) -> np.ndarray:
        return best_of_n(payoff(preference, np.exp(logs)), logs, TUNING_SAMPLES)

    for name, update in (
        (DPO, functools.partial(iterative_dpo_step, preference, beta=eta)),
        (SFT, tune),
    ):
        logs = np.broadcast_to(np.log(start), preference.shape[:-1])
        steps = [logs]
        steps.extend(logs := update(logs) for _ in range(horizon))
        found[name] = trace(preference, np.exp(np.stack(steps)))
    return found


class Errors(NamedTuple):
    """N times the mean squared error of the fitted score differences for each N, and its limit from the Fisher information."""

    scaled: np.ndarray
    limit: float


def regress(
    preference: np.ndarray,
    policy: np.ndarray,
    *,
    eta: float,
    sizes: tuple[int, ...],
    runs: int,
    seed: int,
    flips: float = 0.0,
) -> Errors:
    """Fit DNO to N pairs drawn from the policy with Bernoulli labels, ``runs`` times for each N; ``flips`` turn wins of later responses."""
    wins = payoff(preference, policy)
    target = wins[:, None] - wins[None, :]
    labels = sigmoid(target)
    # A biased rater overlooks some wins of the later response of a pair.
    biased = np.triu(labels + flips * (1 - labels), 1)
    labels = biased + np.tril(1 - biased.T, -1) + 0.5 * np.eye(len(policy))
    start = TabularPolicy.from_probs(policy[None])
    world, rng = ContextualBandit(preference=labels[None]), np.random.default_rng(seed)
    sets = [
        replicated_comparisons(world, n, runs, seed=rng, policy=start, distinct=False)
        for n in sizes
    ]
    data = Comparisons(
        sets[0].prompt, sets[0].chosen, sets[0].rejected, weight=np.stack([s.weight for s in sets])
    )
    fitted = fit(start, functools.partial(losses.dpo, beta=eta), data, reference=start).policy
    score = eta * (to_numpy(fitted.log_probs)[..., 0, :] - np.log(policy))
    pairs = np.multiply.outer(policy, policy)
    error = (pairs * (score[..., :, None] - score[..., None, :] - target) ** 2).sum(axis=(-2, -1))
    scaled = error.mean(axis=1) * np.asarray(sizes)

    def quadratic(weight: np.ndarray) -> np.ndarray:
        return 2 * (np.diag(weight.sum(axis=1)) - weight)

    information = quadratic(pairs * sigmoid(target) * sigmoid(-target))
    return Errors(scaled, float(np.trace(np.linalg.pinv(information) @ quadratic(pairs))))


PROMPTS, CHOICES, FEATURES, SAMPLES, DRAWS, ROUNDS = 24, 50, 6, 5, 4, 3
TOP_SCORE = 6.0


class Taught(NamedTuple):
    """Wins ``(ROUNDS + 1, B)`` against the teacher and against the last policy (½ at first), and pairs trained on ``(ROUNDS, B)``."""

    against_teacher: np.ndarray
    against_last: np.ndarray
    pairs: np.ndarray

    @property
    def monotone(self) -> np.ndarray:
        """Whether every iteration beat the last policy and won more against the teacher, ``(B,)``."""
        return np.all(
            (self.against_last[1:] > 0.5) & (np.diff(self.against_teacher, axis=0) > 0), axis=0
        )


def teach(
    networks: int,
    *,
    iterations: int,
    seed: int,
    use_teacher: bool = True,
    eta: float = 0.1,
    step: float = 2.0,
) -> Taught:
    """Train networks by DNO-Prct: five own samples and the teacher's answer, scored from 0 to 6, winners of 5 or more by 1 or more.

    Rewards are linear in the prompts' features, preferences Bradley–Terry on them, scores
    ``6 σ(reward)``. The teacher answers with what a reward with normal noise of half its scale
    calls the best.
    """
    import torch

    rng = np.random.default_rng(seed)
    features = rng.standard_normal((PROMPTS, FEATURES))
    reward = (
        1.5 * features @ (rng.standard_normal((networks, FEATURES, CHOICES)) / np.sqrt(FEATURES))
    )
    preference = sigmoid(reward[..., :, None] - reward[..., None, :])
    gold = np.argmax(reward + 0.75 * rng.standard_normal(reward.shape), axis=-1)
    scores = TOP_SCORE * sigmoid(reward)
    starts = [
        NetworkPolicy.mlp(features, CHOICES, hidden=(32,), seed=seed + i) for i in range(networks)
    ]
    policy = starts[0].with_parameters(torch.stack([start.parameters for start in starts]))
    loss = functools.partial(losses.dpo, beta=eta)
    prompt = np.repeat(np.arange(PROMPTS), DRAWS)
    answers = np.repeat(gold, DRAWS, axis=-1)[..., None]
    teacher = (np.arange(CHOICES) == gold[..., None]).astype(float)

    def collect(current: Any, _: Any, generator: np.random.Generator) -> Comparisons:
        drawn = to_numpy(current.sample(prompt, SAMPLES, generator))
        responses = np.concatenate([drawn, answers], axis=-1) if use_teacher else drawn
        return filtered_pairs(
            prompt,
            responses,
            gather(scores, np.broadcast_to(prompt[:, None], responses.shape), responses),
        )

    rounds = list(
        play_rounds(
            policy,
            collect,
            loss,
            rounds=ROUNDS,
            seed=rng,
            train=descent(step=step, iterations=iterations),
        )
    )
    probs = [to_numpy(p.probs) for p in (policy, *(r.policy for r in rounds))]
    kept = [(r.pairs.weight > 0).sum(axis=-1) for r in rounds]
    wins = np.stack([expected_preference(preference, p, teacher).mean(axis=-1) for p in probs])
    ahead = [np.full(networks, 0.5)]
    ahead += [
        expected_preference(preference, b, a).mean(axis=-1) for a, b in itertools.pairwise(probs)
    ]
    return Taught(wins, np.stack(ahead), np.stack(kept))


TEACHING = (
    ("gentle steps", 0.5, True),
    ("steps four times as long", 2.0, True),
    ("gentle, without a teacher", 0.5, False),
)


def draw(
    golden: dict[str, Trace],
    bound: float,
    sizes: tuple[int, ...],
    errors: Errors,
    taught: dict[str, Taught],
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 8.4), layout="constrained")
    (exploited, ahead), (samples, teacher) = figure.subplots(2, 2)
    horizon = len(golden[DNO].average)
    steps = np.arange(1, horizon + 1)
    for (name, found), colour in zip(golden.items(), ("C0", "C1", "C2"), strict=True):
        exploited.plot(steps, found.exploited[1:], colour, lw=1, label=f"{name}, last policy")
        ahead.plot(steps, found.wins[1:], colour, label=name)
    exploited.plot(steps, golden[DNO].average, "C0", lw=2.5, label="DNO, average policy")
    exploited.axhline(
        bound, color="k", ls="--", lw=1, label=f"bound for DNO's average at T = {horizon}"
    )
    exploited.set(
        xscale="log", xlabel="step t", ylabel="exploitability (probability)", ylim=(0, 0.64)
    )
    exploited.set_title(f"Cyclic game, exact steps, η = {ETA:g}: only the average settles")
    ahead.axhline(0.5, color="grey", lw=0.8)
    ahead.set(xscale="log", xlabel="step t", ylabel="P(policy ≻ first policy)")
    ahead.set_title("Better than the last policy is not better than the first")
    samples.plot(sizes, errors.scaled, "C0o-", label="measured")
    samples.axhline(
        errors.limit,
        color="k",
        ls="--",
        lw=1,
        label=f"limit from the Fisher information, {errors.limit:.2f}",
    )
    samples.set(
        xscale="log",
        xlabel="sampled pairs N",
        ylabel="N × mean squared error of f̂  (nats²)",
        ylim=(0, 1.6 * errors.limit),
    )
    samples.set_title("Regression on N pairs errs by c/N")
    for (name, run), marker in zip(taught.items(), "os^", strict=True):
        wins = run.against_teacher
        teacher.errorbar(
            range(ROUNDS + 1),
            wins.mean(axis=1),
            wins.std(axis=1) / np.sqrt(wins.shape[1]),
            marker=marker,
            capsize=3,
            label=name,
        )
    teacher.axhline(0.5, color="grey", lw=0.8)
    teacher.set(xlabel="iteration", ylabel="P(policy ≻ teacher)", xticks=range(ROUNDS + 1))
    teacher.set_title(f"DNO-Prct, {wins.shape[1]} small networks (mean ± s.e.)")
    for axes in (exploited, ahead, samples, teacher):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right" if axes is teacher else "best")
    figure.suptitle(
        "Direct Nash optimisation: exact self-play, its regression from samples, and the practical"
        " version with a teacher"
    )
    return figure

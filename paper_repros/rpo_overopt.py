"""Provably Mitigating Overoptimization in RLHF: the SFT loss as an adversarial regulariser (RPO)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.analysis.coverage import partial_coverage_coefficient
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.numerics import log_softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, gradient_descent, objective
from prefsim.solvers.games.pessimism import PessimisticGame, win_weights
from prefsim.solvers.optimisers.penalties import cross_entropy_penalty
from prefsim.testing.bandits import bandits_with_reference, betas, policies, tables
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="rpo_overopt",
    title=(
        "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial"
        " Regularizer"
    ),
    arxiv="2405.16436",
    year=2024,
    family="theory",
    summary=(
        "The best policy against the worst reward that still fits the data minimises DPO's loss"
        " plus an SFT loss on a baseline."
    ),
    implements=(
        "prefsim.losses.rpo",
        "prefsim.solvers.games.pessimism.PessimisticGame",
        "prefsim.solvers.optimisers.penalties.cross_entropy_penalty",
        "prefsim.analysis.coverage.partial_coverage_coefficient",
    ),
)

SMALL = {"max_contexts": 2, "n_responses": 4, "scale": 2.0, "spread": 1.0}
ETAS = st.floats(0.05, 1.0)


class Instance(NamedTuple):
    """A game on the population of a bandit's pairs, with what a claim or its counterexample needs besides."""

    world: ContextualBandit
    reference: TabularPolicy
    sampling: TabularPolicy
    base: TabularPolicy
    beta: float
    eta: float
    extra: Any = None

    def game(self, bound: float = np.inf) -> PessimisticGame:
        """Return the game in the box ``[-bound, bound]``."""
        data, rho = Comparisons.population(self.world, self.sampling), self.world.context_probs
        return PessimisticGame(
            data,
            self.reference,
            self.base.probs,
            beta=self.beta,
            eta=self.eta,
            bound=bound,
            context_probs=rho,
        )


@st.composite
def instances(draw: st.DrawFn, extra: Any = None) -> Instance:
    world, reference = draw(bandits_with_reference(**SMALL))
    shape = (world.n_contexts, world.n_responses)
    sampling, base = (draw(policies(*shape, spread=1.0)) for _ in range(2))
    further = None if extra is None else draw(extra(shape))
    return Instance(world, reference, sampling, base, draw(betas(0.1, 2.0)), draw(ETAS), further)


def check_max_min(instance: Instance) -> Verdict:
    rng = np.random.default_rng(0)
    shape = instance.world.preference.shape[:-1]
    rivals = np.log(rng.dirichlet(np.ones(shape[-1]), size=(60, *shape[:-1])))
    if instance.extra is None:
        game = instance.game(bound=3.0)
        best = game.solve()
        near = log_softmax(best.log_policy + 0.05 * rng.standard_normal((20, *shape)))
        guaranteed = game.worst_reward(best.log_policy).value
        rival = float(game.worst_reward(np.concatenate([rivals, near])).value.max())
        value = best.value
    else:  # a class of two rewards, not convex
        game, rewards = instance.game(), np.asarray(instance.extra)
        policy = log_softmax(instance.reference.log_probs + rewards / instance.beta)
        paired = game.objective(policy, rewards)
        chosen = int(paired.argmin())
        value, guaranteed = paired[chosen], game.objective(policy[chosen], rewards).min()
        rival = float(game.objective(rivals[:, None], rewards).min(axis=-1).max())
    error = max(abs(float(value - guaranteed)), rival - float(value))
    return Verdict(
        max(error, 0.0),
        f"min–max {float(value):.9g}, guaranteed {float(guaranteed):.9g}, best rival {rival:.6g}",
    )


def check_direct_form(instance: Instance) -> Verdict:
    world, reference, weight = instance.world, instance.reference, instance.eta * instance.beta
    data, dpo = (
        Comparisons.population(world, instance.sampling),
        functools.partial(losses.dpo, beta=instance.beta),
    )
    penalty = cross_entropy_penalty(
        instance.base.probs, weight=weight, context_probs=world.context_probs
    )
    start = (
        reference
        if instance.extra is None
        else LogLinearPolicy.from_features(instance.extra, base=reference)
    )
    game = instance.game()
    fitted = fit(start, dpo, data, reference=reference, penalty=penalty)
    policy_error = np.abs(fitted.policy.probs - np.exp(game.solve().log_policy)).max()
    rng = np.random.default_rng(1)
    reward = 3.0 * rng.standard_normal(
        (world.n_contexts, world.n_responses)
    ) + 5.0 * rng.standard_normal((world.n_contexts, 1))
    policy = TabularPolicy(reference.log_probs + reward / instance.beta)
    direct = objective(policy, dpo, data, reference=reference, penalty=penalty)
    constant = weight * np.sum(
        world.context_probs * np.sum(instance.base.probs * reference.log_probs, axis=-1)
    )
    offset = abs(game.objective(policy.log_probs, reward) - direct - constant)
    return Verdict(
        max(policy_error, offset),
        f"policies differ by {policy_error:.2g}, objectives by the constant within {offset:.2g}",
    )


def check_shift(instance: Instance) -> Verdict:
    game, shift = instance.game(), np.asarray(instance.extra["shift"])
    policy, reward = instance.sampling.log_probs, np.asarray(instance.world.reward)

    def value(r: np.ndarray) -> float:
        dropped = (
            0.0
            if instance.extra["baseline"]
            else instance.eta * np.sum(game.context_probs * np.sum(game.base * r, axis=-1))
        )
        return float(game.objective(policy, r) + dropped)

    return Verdict(abs(value(reward + shift) - value(reward)), f"shifts {shift.ravel()}")


def _shifts(baseline: bool) -> Any:
    return lambda shape: st.builds(
        lambda shift: {"shift": shift, "baseline": baseline},
        tables((shape[0], 1), low=-9.0, high=9.0),
    )


class Unseen(NamedTuple):
    """Three responses of which only the first two are compared; ``leak`` is the baseline's mass on the third."""

    prob: float = 0.8
    base: float = 0.8
    eta: float = 0.3
    beta: float = 0.5
    leak: float = 0.0


def solve_unseen(case: Unseen) -> tuple[np.ndarray, np.ndarray]:
    """Return DPO's losses at three values of π(c), the rest divided as in the baseline, and RPO's optima from five starts ``(5, 3)``."""
    reference, data = TabularPolicy.uniform(1, 3), Comparisons([0], [0], [1], prob=case.prob)
    dpo = functools.partial(losses.dpo, beta=case.beta)
    rest = np.array([0.01, 0.5, 0.98])
    table = np.stack([(1 - rest) * case.base, (1 - rest) * (1 - case.base), rest], axis=-1)
    dpo_losses = objective(TabularPolicy(np.log(table)[:, None]), dpo, data, reference=reference)
    base = (1 - case.leak) * np.array([case.base, 1 - case.base, 0.0]) + case.leak * np.array(
        [0.0, 0.0, 1.0]
    )
    starts = TabularPolicy(np.random.default_rng(0).standard_normal((5, 1, 3)))
    penalty = cross_entropy_penalty(base[None], weight=case.eta * case.beta)
    return (
        dpo_losses,
        fit(starts, dpo, data, reference=reference, penalty=penalty).policy.probs[:, 0],
    )


def check_unidentified(case: Unseen) -> Verdict:
    dpo_losses, optima = solve_unseen(case)
    errors = np.ptp(dpo_losses), np.ptp(optima, axis=0).max(), optima[:, 2].max()
    return Verdict(
        float(max(errors)),
        f"DPO losses differ by {errors[0]:.2g}, RPO optima by {errors[1]:.2g}, π(c) ="
        f" {errors[2]:.2g}",
    )


def unseen_cases(leaks: st.SearchStrategy[float]) -> st.SearchStrategy[Unseen]:
    return st.builds(
        Unseen,
        st.floats(0.55, 0.9),
        st.floats(0.2, 0.8),
        st.floats(0.1, 1.0),
        st.floats(0.3, 2.0),
        leaks,
    )


class Rate(NamedTuple):
    """A one-context bandit with rewards in [0, 1] and the distribution that responses are drawn from."""

    reward: tuple[float, ...]
    sampling: tuple[float, ...]


def guarantee(
    case: Rate, sizes: tuple[int, ...], seeds: int, *, delta: float = 0.1
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return gaps to the best response ``(sizes, seeds)``, the theorem's bound ``(sizes,)`` and the coverage coefficient."""
    world, range_ = ContextualBandit(reward=[case.reward]), 1.0
    y = world.n_responses
    reference, sampling = TabularPolicy.uniform(1, y), TabularPolicy.from_probs([case.sampling])
    best = np.where(np.arange(y) == int(np.argmax(case.reward)), 0.0, -np.inf)[None]
    pair_weight = win_weights(Comparisons.population(world, sampling, distinct=True), 1, y)
    coverage = float(partial_coverage_coefficient(best, sampling.log_probs, pair_weight))
    gaps, bounds, curvature = [], [], (1 + np.exp(range_)) ** 2
    for n in sizes:
        precision = 1 / (6 * (1 + np.exp(range_)) * n)
        log_covering = y * np.log(np.ceil(range_ / (2 * precision)))
        iota = np.sqrt(log_covering + np.log(1 / delta))
        data = replicated_comparisons(world, n, seeds, seed=n, policy=sampling)
        eta = np.sqrt(24.0 / n) * iota / curvature
        game = PessimisticGame(
            data, reference, sampling.probs, beta=n**-0.5, eta=eta, bound=(0.0, range_)
        )
        gaps.append(suboptimality(to_numpy(game.solve().log_policy), world))
        bounds.append(
            (np.sqrt(6) * curvature * (coverage**2 + 1) * iota + 4 * np.log(y)) / (4 * np.sqrt(n))
        )
    return np.asarray(gaps), np.asarray(bounds), coverage


def check_rate(case: Rate) -> Verdict:
    sizes = (100, 400, 1600, 6400)
    gaps, bounds, coverage = guarantee(case, sizes, seeds=100)
    slope = np.polyfit(np.log(sizes), np.log(gaps.mean(axis=1)), 1)[0]
    above = (gaps > bounds[:, None]).mean(axis=1).max()
    detail = (
        f"C = {coverage:.3g}, slope {slope:.3f}, mean gaps {gaps.mean(axis=1).round(4)}, bounds"
        f" {bounds.round(2)}"
    )
    return Verdict(max(0.0, slope + 0.4, above - 0.1), detail)


class Batch(NamedTuple):
    """A log-linear policy and the pairs of one gradient step; the claim is about the first."""

    policy: LogLinearPolicy
    data: Comparisons
    beta: float
    eta: float


@st.composite
def batches(draw: st.DrawFn, pairs: int) -> Batch:
    features = draw(tables((pairs, 4, 3), low=-2.0, high=2.0))
    weights = draw(tables((3,), low=-1.0, high=1.0))
    which = [draw(st.permutations(range(4))) for _ in range(pairs)]
    data = Comparisons(np.arange(pairs), [w[0] for w in which], [w[1] for w in which])
    return Batch(
        LogLinearPolicy.from_features(features, weights=weights),
        data,
        draw(betas(0.1, 2.0)),
        draw(ETAS),
    )


def check_alignment(batch: Batch) -> Verdict:
    import torch

    reference = batch.policy.with_parameters(np.zeros(3))
    theta = torch.tensor(batch.policy.parameters, dtype=torch.float64, requires_grad=True)
    policy = batch.policy.with_parameters(theta)

    def gradient(value: Any) -> Any:
        return torch.autograd.grad(value, theta)[0]

    def of(loss: Any, **options: float) -> Any:
        return gradient(
            objective(
                policy,
                functools.partial(loss, beta=batch.beta, **options),
                batch.data,
                reference=reference,
            )
        )

    chosen = gradient(policy.log_prob(batch.data.prompt[:1], batch.data.chosen[:1]).sum())
    gained = float(-(of(losses.rpo, eta=batch.eta) - of(losses.dpo)) @ chosen)
    expected = batch.eta * batch.beta * float(chosen @ chosen)
    return Verdict(
        abs(gained - expected), f"alignment gains {gained:.6g}, ηβ|∇log π(y_w)|² = {expected:.6g}"
    )


def check_limits(instance: Instance) -> Verdict:
    world, reference, beta = instance.world, instance.reference, instance.beta
    data, rho, eta = (
        Comparisons.population(world, instance.sampling),
        world.context_probs,
        50.0 * instance.eta,
    )
    logps, _ = data.examples(instance.base, data.log_probs(reference), losses.PairLogps)
    without = np.abs(losses.rpo(logps, beta=beta, eta=0.0) - losses.dpo(logps, beta=beta)).max()
    sft = cross_entropy_penalty(instance.base.probs, weight=1.0, context_probs=rho)
    pure = fit(reference, _nothing, data, reference=reference, penalty=sft).policy.probs
    penalty = cross_entropy_penalty(instance.base.probs, weight=eta * beta, context_probs=rho)
    strong = fit(
        reference,
        functools.partial(losses.dpo, beta=beta),
        data,
        reference=reference,
        penalty=penalty,
    ).policy.probs
    # The gradient of the DPO term is at most 2 β ρ(x) μ(y|x) in a logit, that of the SFT term ηβ
    # ρ(x) (π − π_base).
    excess = (eta * np.abs(strong - instance.base.probs) - 2 * instance.sampling.probs).max()
    error = max(without, np.abs(pure - instance.base.probs).max(), excess)
    return Verdict(
        max(float(error), 0.0),
        f"η = 0: {without:.2g}; SFT alone: {np.abs(pure - instance.base.probs).max():.2g}; η ="
        f" {eta:.3g}",
    )


def _nothing(logps: losses.PairLogps) -> Any:
    return 0.0 * logps.chosen


CLAIMS = (
    Claim(
        "P1",
        "equivalence",
        "The Gibbs policy of the min–max reward attains the max–min value, and no other policy"
        " guarantees more (R convex and compact).",
        "theorems 4.2 and 5.6",
        instances(),
        check_max_min,
        1e-9,
        breaks=instances(lambda shape: tables((2, *shape), low=-2.0, high=2.0)),
        examples=20,
    ),
    Claim(
        "P2",
        "identity",
        "DPO plus ηβ × SFT on the baseline is the min–max objective up to the constant ηβ E_base"
        " log π_ref, with the same policy.",
        "section 4, eq. 4.4",
        instances(),
        check_direct_form,
        2e-9,
        breaks=instances(lambda shape: tables((*shape, 1), low=-1.0, high=1.0)),
        examples=12,
    ),
    Claim(
        "P3",
        "invariance",
        "The game does not change when the reward shifts by a function of the prompt, thanks to the"
        " baseline term.",
        "eq. 3.2",
        instances(_shifts(True)),
        check_shift,
        1e-11,
        breaks=instances(_shifts(False)),
    ),
    Claim(
        "P4",
        "counterexample",
        "DPO leaves the mass on a response that is never compared undetermined; RPO with a baseline"
        " that avoids it drops it.",
        "section 3 (overoptimisation), checked by construction",
        unseen_cases(st.just(0.0)),
        check_unidentified,
        1e-7,
        breaks=unseen_cases(st.floats(0.05, 0.5)),
        examples=10,
    ),
    Claim(
        "P5",
        "rate",
        "The gap to a covered comparator stays below the theorem's bound, and its mean falls at"
        " least like N^-0.4.",
        "theorem 5.3",
        st.sampled_from(
            [
                Rate((1.0, 0.6, 0.3, 0.0), (0.4, 0.3, 0.2, 0.1)),
                Rate((0.2, 0.9, 0.5, 0.1, 0.4), (0.1, 0.3, 0.3, 0.1, 0.2)),
            ]
        ),
        check_rate,
        0.0,
        breaks=st.just(Rate((1.0, 0.6, 0.3, 0.0), (0.0, 0.5, 0.3, 0.2))),
        examples=2,
    ),
    Claim(
        "P6",
        "inequality",
        "On one pair the SFT term raises the alignment of the descent direction with ∇ log π(y_w)"
        " by exactly ηβ |∇ log π(y_w)|² ≥ 0.",
        "section 4, gradient of eq. 4.5",
        batches(1),
        check_alignment,
        1e-9,
        breaks=batches(3),
    ),
    Claim(
        "P7",
        "limit",
        "η = 0 gives DPO; the SFT term alone has the baseline as minimiser, approached like 1/η.",
        "eq. 4.5",
        instances(),
        check_limits,
        1e-9,
        examples=12,
    ),
)

WORLD = ContextualBandit(reward=[[1.0, 0.6, 0.3, 0.0, -1.0]])
SAMPLING = TabularPolicy.from_probs([[0.3, 0.3, 0.25, 0.13, 0.02]])
BETA = 0.2
RULES = {
    "DPO (η = 0)": lambda n: 0.0,
    "RPO, η = 0.5/√N": lambda n: 0.5 / np.sqrt(n),
    "RPO, η = 0.005": lambda n: 0.005,
    "RPO, η = 0.2": lambda n: 0.2,
}
DPO, TUNED, _, FIXED = RULES


def measure_gaps(sizes: tuple[int, ...], seeds: int, run: Run) -> np.ndarray:
    """Return the gap to the best reward, ``(rules, sizes, seeds)``: all rules and seeds of a size in one solve."""
    gaps = []
    for n in run.progress(sizes, "sizes"):
        data = replicated_comparisons(
            WORLD, n, seeds, seed=np.random.default_rng([run.seed, n]), policy=SAMPLING
        )
        winners = win_weights(data, 1, 5).sum(axis=-1)
        eta = np.array([rule(n) for rule in RULES.values()])[:, None]
        game = PessimisticGame(
            data, TabularPolicy.uniform(1, 5), winners, beta=BETA, eta=eta, bound=4.0
        )
        gaps.append(suboptimality(to_numpy(game.solve().log_policy), WORLD))
    return np.stack(gaps, axis=1)


def trajectories(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the step numbers and the mean ``log π(chosen)`` along gradient descent under DPO and RPO (η = 1), ``(2, records)``.

    The one feature follows the reward but puts the rare worst response on top, so that it says
    "more than any winner".
    """
    policy = LogLinearPolicy.from_features(np.array([[[1.0], [0.6], [0.3], [0.0], [2.2]]]))
    data = Comparisons.population(WORLD, SAMPLING, distinct=True)
    winners = win_weights(data, 1, 5).sum(axis=-1)
    penalty = cross_entropy_penalty(winners, weight=BETA * np.array([0.0, 1.0]))
    every = steps // 40
    _, path = gradient_descent(
        policy,
        functools.partial(losses.dpo, beta=BETA),
        data,
        reference=policy,
        penalty=penalty,
        step=1.0,
        iterations=steps,
        record=lambda p: (to_numpy(p.log_probs) * winners).sum(axis=(-2, -1)),
        record_every=every,
    )
    return np.arange(len(path)) * every, np.stack(path, axis=-1)


def reproduce(run: Run) -> Reproduction:
    from matplotlib.figure import Figure

    sizes = (25, 50, 100, 200, 400, 1600)
    gaps = measure_gaps(sizes, 200 if run.quick else 2000, run)
    mean, tail = gaps.mean(axis=-1), np.quantile(gaps, 0.95, axis=-1)
    rows = {name: k for k, name in enumerate(RULES)}
    steps, paths = trajectories(200 if run.quick else 1000)
    change = paths[:, -1] - paths[:, 0]
    small, large = [0, 1], [k for k, n in enumerate(sizes) if n >= 400]
    ratio, tail_ratio = (table[rows[TUNED]] / table[rows[DPO]] for table in (mean, tail))
    apart = np.abs(mean[rows[TUNED]] - mean[rows[DPO]])[large]
    worst = [list(RULES)[k] for k in mean[:, large].argmax(axis=0)]
    criteria = (
        Criterion(
            "mean gap, RPO(0.5/√N) over DPO, N = 25 and 50",
            "<= 0.85",
            _pair(ratio[small]),
            bool((ratio[small] <= 0.85).all()),
        ),
        Criterion(
            "95 % quantile, the same ratio",
            "<= 0.75",
            _pair(tail_ratio[small]),
            bool((tail_ratio[small] <= 0.75).all()),
        ),
        Criterion(
            "difference of mean gaps, N = 400 and 1600",
            "<= 0.03",
            _pair(apart),
            bool((apart <= 0.03).all()),
        ),
        Criterion(
            "worst rule, N = 400 and 1600", FIXED, "; ".join(worst), worst == [FIXED] * len(large)
        ),
        Criterion(
            "log π(chosen) falls under DPO",
            "falls (fig. 1)",
            f"{change[0]:+.3f} nats",
            bool(change[0] < 0),
        ),
        Criterion(
            "log π(chosen) rises under RPO",
            "does not fall (fig. 1)",
            f"{change[1]:+.3f} nats",
            bool(change[1] > 0),
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "rule": name,
            "N": n,
            "mean gap": round(float(mean[k, j]), 4),
            "95 % quantile": round(float(tail[k, j]), 4),
            "seeds": gaps.shape[-1],
        }
        for name, k in rows.items()
        for j, n in enumerate(sizes)
    ]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, values, title in (
        (axes[0], mean, "Mean over data sets"),
        (axes[1], tail, "95 % quantile: how bad it gets"),
    ):
        for name, k in rows.items():
            axis.plot(
                sizes,
                values[k],
                marker="o",
                ms=4,
                label=name,
                lw=2 if name in (DPO, TUNED) else 1.2,
            )
        axis.set(
            xscale="log",
            xlabel="comparisons N",
            ylabel="reward gap to the best response",
            title=title,
            ylim=(0, None),
        )
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
    axes[0].legend(frameon=False)
    for values, name in zip(paths, ("DPO", "RPO, η = 1"), strict=True):
        axes[2].plot(steps, values, lw=2, label=name)
    axes[2].axhline(paths[0, 0], color="0.6", lw=1, ls=":")
    axes[2].set(
        xlabel="gradient steps",
        ylabel="mean log π(chosen), nats",
        title="DPO lowers its own winners; RPO does not",
    )
    axes[2].legend(frameon=False)
    figure.suptitle(
        f"The SFT term protects against rewards guessed from few comparisons ({gaps.shape[-1]} data"
        f" sets, 5 responses, β = {BETA})"
    )
    return Reproduction(figure, table, criteria)


def _pair(values: np.ndarray) -> str:
    return ", ".join(f"{v:.3f}" for v in values)

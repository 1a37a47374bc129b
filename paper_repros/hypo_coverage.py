"""The Importance of Online Data: coverage explains when offline preference learning fails, and HyPO repairs it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros._coverage_worlds import (
    LEVELS,
    LINEAR,
    Extrapolation,
    Unseen,
    extrapolation_path,
    hybrid_paths,
    separation_value,
    worst_gaps,
)
from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference, regularised_value
from prefsim.analysis.coverage import (
    concentrability,
    in_distribution_reward_error,
    kl_ball_coverage,
)
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, objective
from prefsim.solvers.optimisers.penalties import kl_penalty, sampled_kl_penalty
from prefsim.testing.bandits import bandits_with_reference, betas, policies, tables
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="hypo_coverage",
    title="The Importance of Online Data: Understanding Preference Fine-tuning via Coverage",
    arxiv="2406.01462",
    year=2024,
    family="theory",
    summary=(
        "Offline contrastive learning needs data that cover every policy, KL-regularised online"
        " learning only those near the reference; DPO with an online KL penalty (HyPO) needs the"
        " latter."
    ),
    implements=(
        "prefsim.analysis.coverage.concentrability",
        "prefsim.analysis.coverage.global_coverage",
        "prefsim.analysis.coverage.kl_ball_coverage",
        "prefsim.analysis.coverage.in_distribution_reward_error",
        "prefsim.solvers.optimisers.penalties.kl_penalty",
        "prefsim.losses.kl_estimators.rloo_kl",
    ),
)

LOG2 = float(np.log(2))


class Instance(NamedTuple):
    """A bandit, its reference, and what the claims ask about them."""

    world: ContextualBandit
    reference: TabularPolicy
    beta: float
    policy: TabularPolicy
    extra: Any = None


@st.composite
def instances(
    draw: st.DrawFn, extra: Any = None, *, beta: tuple[float, float] = (0.1, 3.0)
) -> Instance:
    world, reference = draw(bandits_with_reference(max_responses=5, scale=2.0, spread=1.5))
    shape = (world.n_contexts, world.n_responses)
    further = None if extra is None else draw(extra(shape))
    return Instance(world, reference, draw(betas(*beta)), draw(policies(*shape)), further)


def check_value_difference(instance: Instance) -> Verdict:
    world, log_reference = instance.world, instance.reference.log_probs
    best, _ = gibbs_log_policy(world.reward, log_reference, beta=instance.beta)
    value = functools.partial(
        regularised_value, log_reference=log_reference, world=world, beta=instance.beta
    )
    lost = value(best) - value(instance.policy.log_probs)
    divergence = instance.beta * kl_to_reference(instance.policy.log_probs, best, world)
    return Verdict(
        abs(float(lost - divergence)), f"J* − J = {lost:.9g}, β KL(π‖π*) = {divergence:.9g}"
    )


def check_coverage_bound(instance: Instance) -> Verdict:
    world, beta, rho = instance.world, instance.beta, instance.world.context_probs
    seen, estimate = instance.extra
    with np.errstate(divide="ignore"):
        log_data = np.where(seen, instance.policy.log_probs, -np.inf)
        log_data = log_softmax(log_data)
    best, _ = gibbs_log_policy(world.reward, instance.reference.log_probs, beta=beta)
    learned, _ = gibbs_log_policy(estimate, instance.reference.log_probs, beta=beta)
    value = functools.partial(
        regularised_value, log_reference=instance.reference.log_probs, world=world, beta=beta
    )
    wrong = ContextualBandit(reward=estimate - world.reward, context_probs=rho)
    overrated = expected_reward(learned, wrong) - expected_reward(best, wrong)
    # The coverage of what the data show; all there is where the data show everything.
    roots = [
        np.sqrt(concentrability(np.where(seen, p, -np.inf), log_data, context_probs=rho))
        for p in (learned, best)
    ]
    bound = sum(roots) * np.sqrt(
        in_distribution_reward_error(estimate, world.reward, log_data, context_probs=rho) / 2
    )
    gap = value(best) - value(learned)
    return Verdict(
        max(0.0, gap - overrated, overrated - bound),
        f"gap {gap:.6g} <= {overrated:.6g} <= {bound:.6g}",
    )


def _estimates(all_seen: bool) -> Any:
    def strategy(shape: tuple[int, int]) -> Any:
        seen = np.ones(shape, dtype=bool)
        seen[:, -1] = all_seen
        return st.tuples(st.just(seen), tables(shape, low=-2.0, high=2.0))

    return strategy


def check_unseen_mass(case: Unseen) -> Verdict:
    mass = np.array([0.0, 0.1, 0.5, 0.9])
    none = case._replace(delta=0.0)
    data, policy = (
        Comparisons.population(none.world, none.reference, distinct=True),
        none.policy(mass),
    )
    penalty = None if case.weight == 0 else kl_penalty(none.reference, weight=case.weight)
    spreads = []
    for loss in (
        functools.partial(losses.dpo, beta=case.beta),
        functools.partial(losses.ipo, tau=case.beta),
    ):
        values = objective(policy, loss, data, reference=none.reference, penalty=penalty)
        spreads.append(float(np.abs(values[1:] - values[0]).max() / values[0]))
    error, gap, _ = none.measure(mass)
    hidden = float(error.max()) if np.isinf(gap[1:]).all() else np.inf
    small, large = case.measure(0.5), case._replace(delta=case.delta / 100).measure(0.5)
    grows = max(0.0, float(large[0] - small[0]), float(small[1] - large[1]), 0.5 - float(small[1]))
    detail = (
        f"losses differ by {spreads[0]:.2g}, {spreads[1]:.2g}; δ = {case.delta:.2g}: error"
        f" {small[0]:.3g}, gap {small[1]:.3g}"
    )
    return Verdict(max(*spreads, hidden, grows), detail)


def check_ball(instance: Instance) -> Verdict:
    world, beta, rho = instance.world, instance.beta, instance.world.context_probs
    bound, estimate = instance.extra
    learned, _ = gibbs_log_policy(estimate, instance.reference.log_probs, beta=beta)
    spent = beta * kl_to_reference(learned, instance.reference.log_probs, world)
    spread = np.sum(rho * np.ptp(estimate, axis=-1))
    ball = kl_ball_coverage(instance.reference.log_probs, 2 * bound / beta, context_probs=rho).value
    reached = concentrability(learned, instance.reference.log_probs, context_probs=rho)
    error = max(0.0, spent - spread, spread - 2 * bound, reached / ball - 1)
    return Verdict(
        float(error),
        f"β KL {spent:.6g} <= {spread:.6g} <= {2 * bound}; C {reached:.6g} <= {ball:.6g}",
    )


def _bounded_rewards(largest: float) -> Any:
    return lambda shape: st.tuples(st.just(2.0), tables(shape, low=-largest, high=largest))


def check_closed_form(instance: Instance) -> Verdict:
    world, log_reference, radius = instance.world, instance.reference.log_probs, instance.extra
    shape, rho = log_reference.shape, world.context_probs
    single = np.eye(log_reference.size).reshape(-1, *shape)
    directions = np.concatenate([single, np.random.default_rng(0).standard_normal((60, *shape))])
    low, high = np.zeros((len(directions), 1, 1)), np.full((len(directions), 1, 1), 400.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = (
            kl_to_reference(log_softmax(log_reference + middle * directions), log_reference, world)[
                :, None, None
            ]
            <= radius
        )
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    found = concentrability(
        log_softmax(log_reference + low * directions), log_reference, context_probs=rho
    )
    ball = kl_ball_coverage(log_reference, radius, context_probs=rho)
    overspent = max(0.0, float(ball.spent.max()) - radius * (1 + 1e-12))
    return Verdict(
        max(abs(float(found.max() / ball.value - 1)), overspent),
        f"C_ε = {ball.value:.9g}, search {found.max():.9g}",
    )


def check_hybrid_ball(instance: Instance) -> Verdict:
    world, reference, rho = instance.world, instance.reference, instance.world.context_probs
    weight, factor = instance.extra
    dpo, data = (
        functools.partial(losses.dpo, beta=instance.beta),
        Comparisons.population(world, reference),
    )
    penalty = kl_penalty(reference, weight=weight * factor, context_probs=rho)
    solution = fit(reference, dpo, data, reference=reference, penalty=penalty)
    path = np.linspace(0.0, 1.0, 5)[:, None, None]
    candidates = TabularPolicy(
        reference.log_probs + path * (solution.policy.log_probs - reference.log_probs)
    )
    at_least_as_good = (
        objective(candidates, dpo, data, reference=reference, penalty=penalty) <= LOG2 + 1e-12
    )
    divergence = kl_to_reference(candidates.log_probs, reference.log_probs, world)[
        at_least_as_good
    ].max()
    reached = concentrability(candidates.log_probs, reference.log_probs, context_probs=rho)[
        at_least_as_good
    ].max()
    ball = kl_ball_coverage(reference.log_probs, LOG2 / weight, context_probs=rho).value
    error = max(0.0, weight * divergence - LOG2, reached / ball - 1)
    return Verdict(
        float(error),
        f"KL {divergence:.4g} <= {LOG2 / weight:.4g}, C {reached:.4g} <= {ball:.4g} at"
        f" {at_least_as_good.sum()} policies",
    )


@st.composite
def extrapolations(draw: st.DrawFn, tabular: bool = False) -> Extrapolation:
    case = Extrapolation(
        draw(tables((6, 2), low=-2.0, high=2.0)),
        draw(tables((2,), low=-1.5, high=1.5)),
        draw(betas(0.5, 2.0)),
        tabular,
    )
    shown = np.delete(case.features, case.best, axis=0)
    assume(np.linalg.svd(shown - shown.mean(axis=0), compute_uv=False)[-1] > 0.3)
    return case


def check_extrapolation(case: Extrapolation) -> Verdict:
    result = fit(
        case.start, functools.partial(losses.dpo, beta=case.beta), case.data, reference=case.start
    )
    best = np.exp(case.optimum())
    error = np.abs(result.policy.probs - best).max()
    return Verdict(
        float(error),
        f"unseen best response: fitted {result.policy.probs[0, case.best]:.6g}, optimal"
        f" {best[0, case.best]:.6g}",
    )


def check_kl_gradient(instance: Instance) -> Verdict:
    import torch

    rho, reference, (samples, mistake) = (
        instance.world.context_probs,
        instance.reference,
        instance.extra,
    )
    p, log_ratio = instance.policy.probs, instance.policy.log_probs - reference.log_probs
    formula = rho[:, None] * p * (log_ratio - np.sum(p * log_ratio, axis=-1, keepdims=True))
    steps = 1e-5 * np.eye(p.size).reshape(-1, *p.shape)
    around = [
        categorical_kl(log_softmax(instance.policy.logits + sign * steps), reference.log_probs)
        @ rho
        for sign in (1, -1)
    ]
    differences = (around[0] - around[1]).reshape(p.shape) / 2e-5
    theta = torch.tensor(instance.policy.parameters, requires_grad=True)
    errors = [np.abs(differences - formula).max()]
    sampled = sampled_kl_penalty(
        reference, weight=1.0, samples=samples, context_probs=rho, differentiate_ratio=mistake
    )
    for penalty in (kl_penalty(reference, weight=1.0, context_probs=rho), sampled):
        (gradient,) = torch.autograd.grad(penalty(instance.policy.with_parameters(theta)), theta)
        errors.append(np.abs(gradient.numpy().reshape(p.shape) - formula).max())
    return Verdict(
        float(max(errors)),
        "differences {:.2g}, exact penalty {:.2g}, expected estimator {:.2g}".format(*errors),
    )


NAMES = ("log-linear", "tabular")

CLAIMS = (
    Claim(
        "C1",
        "identity",
        "The value lost by a policy is β times its divergence from the optimum.",
        "section 2",
        instances(),
        check_value_difference,
        1e-9,
    ),
    Claim(
        "C2",
        "inequality",
        "J* − J(π_r̂) <= E_π̂ Δ − E_π* Δ <= (√C_π̂ + √C_π*) √(ε_r / 2) with Δ = r̂ − r* and"
        " coverage relative to the data.",
        "shape of the theorems on RLHF and DPO; constants derived here",
        instances(_estimates(True)),
        check_coverage_bound,
        1e-9,
        breaks=instances(_estimates(False)),
    ),
    Claim(
        "C3",
        "counterexample",
        "Without coverage, policies with any mass on an unseen response have one DPO (and IPO)"
        " loss, no reward error and value −∞; as its reference mass vanishes the error goes to 0"
        " while the gap stays above 0.5.",
        "proposition that global coverage is necessary; the instance is our own",
        st.builds(
            Unseen, st.floats(-6.0, -1.0).map(lambda e: 10.0**e), st.floats(0.1, 0.2), st.just(0.0)
        ),
        check_unseen_mass,
        1e-12,
        breaks=st.builds(Unseen, st.just(1e-3), st.just(0.1), st.floats(1e-3, 1.0)),
    ),
    Claim(
        "C4",
        "inequality",
        "With rewards in [−R', R'] the learned policy stays in the ball of radius 2R'/β, so the"
        " coverage of that ball suffices.",
        "lemma on the KL ball (the constant 2 derived here)",
        instances(_bounded_rewards(2.0)),
        check_ball,
        1e-9,
        breaks=instances(_bounded_rewards(40.0)),
    ),
    Claim(
        "C5",
        "identity",
        "The coverage of a KL ball has the closed form of one response lifted at the expense of all"
        " others.",
        "definition of partial coverage; closed form derived here",
        instances(lambda shape: st.floats(1e-3, 4.0)),
        check_closed_form,
        1e-6,
    ),
    Claim(
        "C6",
        "inequality",
        "A policy at least as good as the reference for HyPO's objective has KL <= log 2 / λ, hence"
        " coverage C_{log 2 / λ}.",
        "HyPO's objective; the radius is derived here",
        instances(lambda shape: st.tuples(st.floats(0.02, 2.0), st.just(1.0)), beta=(0.2, 2.0)),
        check_hybrid_ball,
        1e-9,
        breaks=instances(
            lambda shape: st.tuples(st.floats(1.0, 2.0), st.just(0.0)), beta=(0.2, 0.5)
        ),
        examples=8,
    ),
    Claim(
        "C7",
        "equivalence",
        "A log-linear class that holds the reward recovers π* from data that never show the best"
        " response, if they span its features.",
        "section on extrapolation",
        extrapolations(),
        check_extrapolation,
        1e-9,
        breaks=extrapolations(tabular=True),
        examples=12,
    ),
    Claim(
        "C8",
        "identity",
        "The score-function estimator with a leave-one-out baseline has the KL gradient p ⊙ (log"
        " p/π_ref − KL) as expectation.",
        "HyPO's online gradient",
        instances(lambda shape: st.tuples(st.integers(1, 3), st.just(False))),
        check_kl_gradient,
        1e-8,
        breaks=instances(lambda shape: st.tuples(st.just(1), st.just(True))),
        examples=25,
    ),
)


def reproduce(run: Run) -> Reproduction:
    from matplotlib.figure import Figure

    separation = Unseen(1e-4)
    # The same time along the gradient flow, in twenty times longer steps, when it must be quick.
    paths = hybrid_paths(
        separation, step=10.0 if run.quick else 0.5, iterations=1000 if run.quick else 20000
    )
    optimum, ladder, fits = LINEAR.optimum()[0], {}, {}
    for name in run.progress(NAMES, "policies"):
        case = LINEAR._replace(tabular=name == "tabular")
        ladder[name] = extrapolation_path(case, iterations=300 if run.quick else 1000)
        fitted = fit(
            case.start,
            functools.partial(losses.dpo, beta=case.beta),
            case.data,
            reference=case.start,
        ).policy
        fits[name] = to_numpy(fitted.log_probs)
    values = {
        name: float(regularised_value(p, np.full((1, 8), -np.log(8)), LINEAR.world, beta=1.0))
        for name, p in fits.items()
    }
    recovered = float(np.abs(np.exp(fits["log-linear"][0]) - np.exp(optimum)).max())
    found = {name: float(np.exp(p[0, LINEAR.best])) for name, p in fits.items()}
    changes = [mean_change(fits["log-linear"], side) for side in ("chosen", "rejected")]
    deltas = np.logspace(-1, -8, 15)
    gaps = np.array([worst_gaps(Unseen(d)) for d in deltas])
    end = float(paths.gap[-1, -1])
    criteria = (
        Criterion(
            "value J over λ",
            "increases",
            _row(separation_value(separation) - paths.gap[-1]),
            _falls(paths.gap[-1]),
        ),
        Criterion(
            "divergence from the reference over λ",
            "decreases",
            _row(paths.divergence[-1]),
            _falls(paths.divergence[-1]),
        ),
        Criterion("J* − J at λ = 0.01", "<= 0.001", end, end <= 1e-3),
        Criterion(
            "log-linear: distance to π*", "<= 1e-9 (recovers π*)", recovered, recovered <= 1e-9
        ),
        Criterion(
            "log-linear: unseen best response",
            "0.543490",
            found["log-linear"],
            abs(found["log-linear"] - 0.543490) < 1e-6,
        ),
        Criterion(
            "log-linear: mean log π of chosen and of rejected",
            "both fall",
            _row(np.array(changes)),
            max(changes) < 0,
        ),
        Criterion(
            "tabular: unseen best response",
            "0.0031 (falls from 0.125)",
            found["tabular"],
            abs(found["tabular"] - 0.0031) < 5e-5,
        ),
        Criterion(
            "tabular: J, with J* = 3.738898",
            "2.976298",
            values["tabular"],
            abs(values["tabular"] - 2.976298) < 1e-6,
        ),
        Criterion(
            "gap of RLHF as δ falls to 1e-8", "→ 0", float(gaps[-1, 1]), bool(gaps[-1, 1] < 1e-6)
        ),
        Criterion(
            "least gap of worst-case DPO over δ",
            "does not vanish (> 0.5)",
            float(gaps[:, 0].min()),
            bool(gaps[:, 0].min() > 0.5),
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "experiment": "separation",
            "case": f"λ = {lam:g}",
            "π(rare)": float(m),
            "J* − J": float(g),
            "KL": float(k),
        }
        for lam, m, g, k in zip(
            LEVELS, paths.mass[-1], paths.gap[-1], paths.divergence[-1], strict=True
        )
    ]
    table += [
        {
            "experiment": "extrapolation",
            "case": name,
            "π(unseen best)": found[name],
            "J": values[name],
        }
        for name in NAMES
    ]
    for delta, (dpo_gap, rlhf_gap) in zip(deltas, gaps, strict=True):
        table.append(
            {
                "experiment": "worst case",
                "case": f"δ = {delta:.1e}",
                "gap DPO": float(dpo_gap),
                "gap RLHF": float(rlhf_gap),
            }
        )
    figure = Figure(figsize=(12.5, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    for k, lam in enumerate(LEVELS):
        name = "DPO (λ = 0)" if lam == 0 else f"HyPO, λ = {lam:g}"
        axes[0, 0].plot(
            paths.steps * (20 if run.quick else 1), paths.gap[:, k], lw=2, label=name, color=f"C{k}"
        )
    axes[0, 0].set(yscale="log", xlabel="gradient steps of 0.5", ylabel="J* − J, units of reward")
    axes[0, 0].set_title("An online KL term removes mass the pairs do not see")
    axes[0, 0].legend(frameon=False)
    axes[0, 1].plot(
        deltas,
        gaps[:, 0],
        lw=2,
        marker="o",
        ms=3,
        label="DPO, half the mass there: error on the data → 0",
    )
    axes[0, 1].plot(
        deltas,
        np.maximum(gaps[:, 1], 1e-16),
        lw=2,
        marker="o",
        ms=3,
        label="RLHF, bounded reward as wrong on the data",
    )
    axes[0, 1].set(
        xscale="log",
        yscale="log",
        xlabel="reference mass δ of the rare response",
        ylabel="J* − J, units of reward",
    )
    axes[0, 1].set_title("A small error on the data says nothing about DPO's value")
    axes[0, 1].legend(frameon=False, loc="lower right")
    for name, color in zip(NAMES, ("C0", "C3"), strict=True):
        steps, record = ladder[name]
        axes[1, 0].plot(steps, np.exp(record[:, 0]), lw=2, color=color, label=f"{name} DPO")
    axes[1, 0].axhline(
        np.exp(optimum[LINEAR.best]), color="0.5", ls="--", lw=1, label="optimal policy π*"
    )
    axes[1, 0].set(xlabel="gradient steps", ylabel="π(best response)", ylim=(0, None))
    axes[1, 0].set_title("The best response is in no pair: features find it, a table cannot")
    axes[1, 0].legend(frameon=False)
    steps, record = ladder["log-linear"]
    for column, name in enumerate(
        ("unseen best response", "chosen responses (mean)", "rejected responses (mean)")
    ):
        axes[1, 1].plot(steps, record[:, column] - record[0, column], lw=2, label=name)
    axes[1, 1].axhline(0.0, color="0.5", ls=":", lw=1)
    axes[1, 1].set(xlabel="gradient steps", ylabel="change of log π, nats")
    axes[1, 1].set_title("Log-linear DPO: chosen and rejected both fall, the unseen rises")
    axes[1, 1].legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.3))
    figure.suptitle(
        "Coverage: what offline pairs do not show, a KL ball or a shared feature must supply"
    )
    return Reproduction(figure, table, criteria)


def mean_change(log_policy: np.ndarray, side: str) -> float:
    """Return the mean change of ``log π`` on the chosen or the rejected responses, from the uniform reference."""
    data = LINEAR.data
    change = log_policy[0] + np.log(8)
    first, second = (
        (data.chosen, data.rejected) if side == "chosen" else (data.rejected, data.chosen)
    )
    return float(
        (data.weight * data.prob) @ change[first] + (data.weight * (1 - data.prob)) @ change[second]
    )


def _falls(values: np.ndarray) -> bool:
    return bool((np.diff(values) < 0).all())


def _row(values: np.ndarray) -> str:
    return ", ".join(f"{v:.6g}" for v in values)

"""RSO: Statistical Rejection Sampling Improves Preference Optimization (arXiv:2309.06657).

Draw the pairs from the optimal policy itself, by rejection from the SFT policy, and fit with a
logistic or a hinge loss.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from paper_repros import _rso_experiments as experiments
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, optimal_policy
from prefsim.solvers.closed_forms.rejection import (
    accept_pass,
    accepted_law,
    first_accepted_law,
    rejection_sample,
)
from prefsim.testing import betas, margins, tables
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="rso",
    title="Statistical Rejection Sampling Improves Preference Optimization",
    arxiv="2309.06657",
    year=2023,
    family="direct",
    summary=(
        "Pairs are drawn from the optimal policy by rejection sampling, labelled by a ranker and"
        " fitted with a logistic or hinge loss."
    ),
    implements=(
        "prefsim.solvers.closed_forms.rejection.accepted_law",
        "prefsim.solvers.closed_forms.rejection.rejection_sample",
        "prefsim.losses.hinge",
    ),
)


class Sampler(NamedTuple):
    """Rewards and log π_sft ``(Y,)``, β, and the number of candidates whose largest reward is the cap (None: the true largest)."""

    reward: np.ndarray
    log_sft: np.ndarray
    beta: float = 0.5
    candidates: int | None = None


EXAMPLE = Sampler(np.asarray([0.0, 0.5, 1.0, 2.0]), np.log([0.4, 0.3, 0.2, 0.1]))


def samplers(
    *, low: float = 0.1, high: float = 3.0, candidates: int | None = None, apart: bool = False
) -> st.SearchStrategy[Sampler]:
    """Samplers of five responses; ``apart``: the rewards are different integers, and the cap comes from few candidates."""
    rewards = (
        st.permutations(range(5)).map(lambda r: np.asarray(r, dtype=np.float64))
        if apart
        else tables((5,), low=-3.0, high=3.0)
    )
    log_sft = tables((5,), low=-2.0, high=2.0).map(log_softmax)
    return st.builds(Sampler, rewards, log_sft, betas(low, high), st.just(candidates))


def variation(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """Return the total variation distance of two laws given by log-probabilities."""
    return float(np.abs(np.exp(log_p) - np.exp(log_q)).sum() / 2)


def accepted_is_target(case: Sampler) -> Verdict:
    target, log_z = gibbs_log_policy(case.reward, case.log_sft, beta=case.beta)
    if case.candidates is not None:
        return Verdict(
            variation(
                first_accepted_law(case.reward, case.log_sft, case.candidates, beta=case.beta),
                target,
            )
        )
    law = accepted_law(case.reward, case.log_sft, beta=case.beta)
    rate = float(np.exp(log_z - case.reward.max() / case.beta))
    return Verdict(
        max(variation(law.log_probs, target), abs(float(np.exp(law.log_rate)) - rate)),
        f"rate {rate:.6f}",
    )


def propose(case: Sampler, proposals: int, seed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw independent proposals from π_sft and return the share of each response among the accepted, and which were accepted."""
    rng = np.random.default_rng(seed)
    drawn = np.append(
        rng.choice(case.reward.size, size=proposals, p=np.exp(case.log_sft)), case.reward.argmax()
    )
    # The best response is appended to set the cap and left out again.
    accepted = accept_pass(case.reward[drawn], rng.random(drawn.size), beta=case.beta)[:-1]
    return np.bincount(drawn[:-1][accepted], minlength=case.reward.size) / accepted.sum(), accepted


def sampled_is_target(case: Sampler) -> Verdict:
    law = accepted_law(case.reward, case.log_sft, beta=case.beta)
    share, accepted = propose(case, 400_000, 0)
    rate, error = float(np.exp(law.log_rate)), 0.0
    for found, exact, n in (
        (accepted.mean(), rate, accepted.size),
        (share, np.exp(law.log_probs), accepted.sum()),
    ):
        error = max(error, float((np.abs(found - exact) / np.sqrt(exact * (1 - exact) / n)).max()))
    return Verdict(
        max(0.0, error - 4),
        f"rate {accepted.mean():.5f} for {rate:.5f}; worst deviation {error:.2f} standard errors",
    )


def extremes(case: Sampler) -> Verdict:
    hot, cold = (accepted_law(case.reward, case.log_sft, beta=beta) for beta in (1e6, 1e-2))
    best = int(case.reward.argmax())
    rates = (
        abs(float(np.expm1(hot.log_rate))),
        abs(float(np.exp(cold.log_rate) - np.exp(case.log_sft[best]))),
    )
    point = np.where(np.arange(case.reward.size) == best, 0.0, -np.inf)
    top = rejection_sample(case.reward, 3, beta=1e-4, seed=0)
    in_order = float((top != np.argsort(-case.reward, kind="stable")[:3]).any())
    return Verdict(
        max(
            *rates,
            variation(hot.log_probs, case.log_sft),
            variation(cold.log_probs, point),
            in_order,
        )
    )


def clipped(instance: tuple[Sampler, float]) -> Verdict:
    case, shift = instance
    cap = np.asarray(case.reward.max() + shift)
    law = accepted_law(case.reward, case.log_sft, beta=case.beta, cap=cap)
    expected, log_z = gibbs_log_policy(np.minimum(case.reward, cap), case.log_sft, beta=case.beta)
    rate = abs(float(np.exp(law.log_rate) - np.exp(log_z - cap / case.beta)))
    return Verdict(
        max(variation(law.log_probs, expected), rate), f"cap {shift:+.3f} from the largest reward"
    )


def candidate_cap(case: Sampler) -> Verdict:
    target, _ = gibbs_log_policy(case.reward, case.log_sft, beta=case.beta)
    missed = -np.expm1(case.log_sft[case.reward.argmax()])
    sizes = (2, 8, 64, 256)
    found = [
        variation(first_accepted_law(case.reward, case.log_sft, n, beta=case.beta), target)
        for n in sizes
    ]
    excess = max(far - missed**n for far, n in zip(found, sizes, strict=True))
    return Verdict(
        max(0.0, excess),
        "TV " + ", ".join(f"{far:.3g} (N = {n})" for far, n in zip(found, sizes, strict=True)),
    )


def pooled_distance(candidates: int, samples: int, *, dedup: bool, runs: int, seed: int) -> float:
    """Return the distance to π_r of all samples of many runs of the N-candidate algorithm on the page's example."""
    rng = np.random.default_rng(seed)
    pool = rng.choice(4, size=(runs, candidates), p=np.exp(EXAMPLE.log_sft))
    kept = rejection_sample(
        EXAMPLE.reward[pool], samples, beta=EXAMPLE.beta, seed=rng, keys=pool if dedup else None
    )
    counts = np.bincount(np.take_along_axis(pool, kept, axis=-1).ravel(), minlength=4)
    target, _ = gibbs_log_policy(EXAMPLE.reward, EXAMPLE.log_sft, beta=EXAMPLE.beta)
    return float(np.abs(counts / counts.sum() - np.exp(target)).sum() / 2)


def all_samples(case: tuple[int, int, bool]) -> Verdict:
    candidates, samples, dedup = case
    found = pooled_distance(candidates, samples, dedup=dedup, runs=1000, seed=0)
    return Verdict(max(0.0, found - 0.02), f"N = {candidates}, k = {samples}: TV {found:.4f}")


def logps(margin: np.ndarray, level: float) -> losses.PairLogps:
    """Return pairs with these log-ratio margins; ``level`` moves policy and reference of both responses alike."""
    zero = np.zeros_like(margin)
    return losses.PairLogps(margin / 2 + level, -margin / 2 + level, zero + level, zero + level)


def normalised_losses(instance: tuple[np.ndarray, float, float, float]) -> Verdict:
    m, level, gamma, p = instance
    error = 0.0
    for loss, formula in (
        (losses.dpo, np.logaddexp(0, -gamma * m)),
        (losses.hinge, np.maximum(0, 1 - gamma * m)),
    ):
        for moved in (
            logps(m, 0.0),
            logps(m, level),
            logps(m, 0.0)._replace(chosen=m, rejected=np.zeros_like(m)),
        ):
            error = max(
                error, float((np.abs(loss(moved, beta=gamma) - formula) / (1 + formula)).max())
            )

    def risk(h: float) -> float:
        hinge = losses.hinge(logps(np.asarray([h, -h]), 0.0), beta=gamma)
        return float(p * hinge[0] + (1 - p) * hinge[1])

    best = minimize_scalar(
        risk, bounds=(-3 / gamma, 3 / gamma), method="bounded", options={"xatol": 1e-9 / gamma}
    ).x
    return Verdict(
        max(error, 1e-6 * abs(gamma * best - np.sign(p - 0.5))),
        f"minimiser {best:.4f}, 1/γ {1 / gamma:.4f}, p {p:.3f}",
    )


class Source(NamedTuple):
    """A bandit with reward ``(2, 4)``, log π_sft and the log-law of the pairs, β, and features of a log-linear class (None: tabular)."""

    reward: np.ndarray
    log_sft: np.ndarray
    log_law: np.ndarray
    beta: float
    features: np.ndarray | None = None


def source_free(case: Source) -> Verdict:
    world, base = ContextualBandit(reward=case.reward), TabularPolicy.from_logits(case.log_sft)
    start = (
        base if case.features is None else LogLinearPolicy.from_features(case.features, base=base)
    )
    data = Comparisons.population(world, TabularPolicy.from_logits(case.log_law), distinct=True)
    found = fit(
        start, functools.partial(losses.dpo, beta=case.beta), data, reference=base
    ).policy.probs
    return Verdict(
        float(np.abs(found - optimal_policy(world.reward, base.probs, beta=case.beta)).max())
    )


def _sources(features: st.SearchStrategy[Any]) -> st.SearchStrategy[Source]:
    laws = tables((2, 4), low=-1.5, high=1.5).map(log_softmax)
    return st.builds(
        Source, tables((2, 4), low=-2.0, high=2.0), laws, laws, betas(0.3, 2.0), features
    )


def not_always_better(seed: int) -> Verdict:
    sft, target = experiments.misspecified(seed, instances=60)
    share = float((target > sft).mean())
    return Verdict(
        max(0.05 - share, share - 0.5, 0.0),
        f"π_r pairs win {share:.0%}; E r {target.mean():.3f} against {sft.mean():.3f}",
    )


def mixture_gap(seed: int) -> Verdict:
    sft, target, half = experiments.asymptotic_gaps(seed)
    return Verdict(
        max(0.0, float(half - (sft + target) / 2)),
        f"π_sft {sft:.3f}, π_r {target:.3f}, half–half {half:.3f}",
    )


def in_beta(instance: tuple[Sampler, float]) -> Verdict:
    case, factor = instance
    laws = [
        accepted_law(case.reward, case.log_sft, beta=beta)
        for beta in (case.beta, case.beta * factor)
    ]
    low, high = (float(categorical_kl(law.log_probs, case.log_sft)) for law in laws)
    return Verdict(
        max(0.0, high - low, float(laws[0].log_rate - laws[1].log_rate)),
        f"KL {low:.4g} to {high:.4g}",
    )


def efficiency(case: Sampler) -> Verdict:
    law = accepted_law(case.reward, case.log_sft, beta=case.beta)
    kl = float(categorical_kl(law.log_probs, case.log_sft))
    short = float(case.reward.max() - np.exp(law.log_probs) @ case.reward) / case.beta
    return Verdict(
        max(abs(float(law.log_rate) + kl + short), -short, 0.0),
        f"proposals per sample {np.exp(-law.log_rate):.4g}",
    )


_signed = st.one_of(st.floats(0.05, 0.4), st.floats(0.6, 0.95))

CLAIMS = (
    Claim("S1", "identity", "An accepted sample has the law π_r exactly, and the rate is Z exp(−r_max/β).", "theorem 1",
          samplers(), accepted_is_target, 1e-12, breaks=samplers(candidates=2, apart=True)),
    Claim("S1-sampled", "statistical", "4·10⁵ proposals: rate and shares of the sampler lie within 4 standard errors of the exact law.",
          "theorem 1", st.just(EXAMPLE), sampled_is_target, 0.0, examples=1),
    Claim("S2", "limit", "β → ∞ accepts everything, law π_sft; β → 0 only the best response, at the rate π_sft(best), then the next.",
          "section 3.3", samplers(apart=True), extremes, 1e-2,
          breaks=samplers(apart=True).map(lambda case: case._replace(reward=np.maximum(case.reward, 4.0)))),
    Claim("S3", "identity", "With a cap r̃ below max r the law is that of the clipped reward min(r, r̃), at the rate Z̃ exp(−r̃/β); with one "
          "above, it is π_r at a lower rate.", "derivation", st.tuples(samplers(), st.floats(-2.0, 2.0)), clipped, 1e-12),
    Claim("S4", "limit", "The first sample accepted among N candidates is within (1 − π_sft(argmax r))^N of π_r.",
          "algorithm 1; the bound by coupling, the law enumerated", samplers(), candidate_cap, 1e-12),
    Claim("S4-all", "statistical", "All k = 8 samples of N = 1024 candidates are within 0.02 of π_r.", "algorithm 1",
          st.just((1024, 8, False)), all_samples, 0.0, breaks=st.just((1024, 3, True)), examples=1),
    Claim("S5", "identity", "Hinge-norm and sigmoid-norm see (γ, m) only, sigmoid-norm at γ = β is DPO; hinge-norm is least at "
          "sign(p − ½)/γ.", "section 3.2", st.tuples(margins(20.0), st.floats(-30.0, 0.0), betas(0.05, 2.0), _signed),
          normalised_losses, 1e-12),
    Claim("S6", "invariance", "A saturated class fits π_r wherever the pairs come from.", "derivation",
          _sources(st.none()), source_free, 1e-6, breaks=_sources(tables((2, 4, 1), low=-1.0, high=1.0)), examples=8),
    Claim("S7", "counterexample", "Misspecified log-linear policies earn more from pairs of π_r in fewer than half of 60 worlds, though "
          "in some.", "experiment", st.just(0), not_always_better, 0.0, examples=1),
    Claim("S7-mixture", "inequality", "Well-specified: half of each source has at most the mean of their asymptotic gaps.",
          "convexity of the inverse information", st.integers(0, 10**6), mixture_gap, 1e-9),
    Claim("S8", "monotone", "KL(π_r‖π_sft) falls and the rate of acceptance rises with β.", "section 3.3",
          st.tuples(samplers(), st.floats(1.0, 10.0)), in_beta, 1e-12),
    Claim("S9", "identity", "log rate = −KL(π_r‖π_sft) − (r_max − E r)/β: at least exp KL proposals per sample.", "derivation",
          samplers(), efficiency, 1e-10),
)  # fmt: skip

BETAS = (0.25, 0.5, 1.0, 2.0, 8.0)


def reproduce(run: Run) -> Reproduction:
    """Compare the sampler with the exact law at five temperatures; train a small token policy on three sources of pairs."""
    from matplotlib.figure import Figure

    criteria, exact, shares = [], [], []
    table: list[dict[str, str | float | int]] = []
    for k, beta in enumerate(run.progress(BETAS, "temperatures")):
        case = EXAMPLE._replace(beta=beta)
        law = accepted_law(case.reward, case.log_sft, beta=beta)
        rate = float(np.exp(law.log_rate))
        share, accepted = propose(case, int(1.05e5 / rate), (run.seed, k))
        far = float(np.abs(share - np.exp(law.log_probs)).sum() / 2)
        errors = abs(float(accepted.mean()) - rate) / np.sqrt(rate * (1 - rate) / accepted.size)
        shown = (
            f"TV {far:.4f} of {accepted.sum()}, rate {accepted.mean():.5f} for {rate:.5f}"
            f" ({errors:.2f} s.e.)"
        )
        criteria.append(
            Criterion(
                f"β = {beta:g}: sampler against law",
                "TV < 0.01, rate in 3 s.e.",
                shown,
                bool(far < 0.01 and errors < 3),
            )
        )
        exact.append(law)
        shares.append(share)
    for name, far in experiments.tree_identity(run.seed).items():
        criteria.append(
            Criterion(
                f"{name}: distance to π_r, true labels, all pairs",
                "<= 1e-6",
                f"{far:.2e}",
                far <= 1e-6,
            )
        )
    seeds = [run.seed + s for s in range(3 if run.quick else 10)]
    steps = 60 if run.quick else 300
    outcomes, start = experiments.pipeline(seeds, iterations=steps)
    for (source, loss), found in outcomes.items():
        gain = found.reward - start
        table.append({
            "pairs": source, "loss": loss, "gain in E r": round(float(gain.mean()), 3),
            "s.e.": round(float(gain.std(ddof=1) / np.sqrt(len(seeds))), 3), "ranker − true gain": round(float(found.excess.mean()), 3),
        })  # fmt: skip
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for k, (law, share) in enumerate(zip(exact, shares, strict=True)):
        x = np.arange(4) + 0.16 * (k - 2)
        left.bar(x, share, 0.15, color=f"C{k}", label=f"β = {BETAS[k]:g}")
        left.plot(x, np.exp(law.log_probs), "k_", ms=9, label="exact π_r" if k == 4 else None)
    left.set(
        xticks=range(4),
        xlabel="response (rewards 0, 0.5, 1, 2)",
        ylabel="probability among the accepted",
        title="Accepted samples follow π_r",
    )
    left.legend(frameon=False, fontsize=8)
    grid = np.geomspace(0.1, 20, 60)
    curves = [accepted_law(EXAMPLE.reward, EXAMPLE.log_sft, beta=float(beta)) for beta in grid]
    middle.loglog(grid, [np.exp(-law.log_rate) for law in curves], label="proposals per sample")
    middle.loglog(
        grid,
        [np.exp(categorical_kl(law.log_probs, EXAMPLE.log_sft)) for law in curves],
        "--",
        label="its lower bound exp KL",
    )
    middle.set(
        xlabel="sampling temperature β", ylabel="proposals", title="Cold samples cost proposals"
    )
    middle.legend(frameon=False)
    for k, loss in enumerate(experiments.LOSSES):
        gains = np.asarray(
            [outcomes[source, loss].reward - start for source in experiments.SOURCES]
        )
        spread = gains.std(axis=1, ddof=1) / np.sqrt(len(seeds))
        right.bar(
            np.arange(3) + 0.27 * (k - 1),
            gains.mean(axis=1),
            0.25,
            yerr=spread,
            color=f"C{k}",
            label=loss,
        )
    right.set_xticks(range(3), experiments.SOURCES)
    right.set(
        xlabel="source of the pairs",
        ylabel="gain in E r over π_sft (± s.e.)",
        title=f"Token policy, {len(seeds)} seeds, {steps} steps",
    )
    right.legend(frameon=False, loc="upper left")
    figure.suptitle("Rejection sampling turns SFT samples into samples of the optimal policy")
    return Reproduction(figure, table, tuple(criteria))

"""P3O: Pairwise Proximal Policy Optimization (arXiv:2310.00212).

The policy gradient written with differences of rewards of one prompt, clipped for whole responses:
blind to a shift of the reward.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _p3o_experiments as experiments
from paper_repros.copg import (
    Case,
    advantage_gap,
    cases,
    largest,
    logit_gradient,
    pair_gradient,
    scored,
)
from prefsim import losses
from prefsim.analysis.bandit import regularised_value
from prefsim.backend import like, to_numpy
from prefsim.data import Comparisons
from prefsim.losses.kl_estimators import rloo_kl
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective
from prefsim.solvers.optimisers.policy_gradient import (
    pairwise_variance,
    regularised_reward,
    score_gradient,
    score_variance,
)
from prefsim.testing import betas, pair_logps, tables
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="p3o",
    title="Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment",
    arxiv="2310.00212",
    year=2023,
    family="nash",
    summary=(
        "The policy gradient as a difference over pairs, clipped by sequence: exact, and unmoved by"
        " rewards shifted prompt by prompt."
    ),
    implements=(
        "prefsim.losses.p3o",
        "prefsim.losses.RewardScale",
        "prefsim.solvers.optimisers.policy_gradient.pairwise_variance",
    ),
)

UNCLIPPED = {"epsilon": math.inf, "weight_clip": math.inf}


def exact_gradient(case: Case) -> np.ndarray:
    """Return ∇J in the logits by automatic differentiation of the enumerated value."""
    world = case.world
    return logit_gradient(
        case.log_policy,
        lambda p: regularised_value(
            p.log_probs, like(case.log_reference, p.log_probs), world, beta=case.beta
        ),
    )


def expected_gradient(case: Case, data: Comparisons, **options: Any) -> np.ndarray:
    """Return the gradient of the expected P3O loss over enumerated pairs, in the logits."""
    loss = functools.partial(losses.p3o, beta=case.beta, **options)
    return logit_gradient(
        case.log_policy, lambda p: objective(p, loss, data, reference=case.reference)
    )


def pairwise_is_exact(case: Case) -> Verdict:
    second = case.log_policy if case.kept else case.log_second
    # Without behaviour log-probabilities the pairs count as fresh ones.
    data = case._replace(log_first=case.log_policy, log_second=second).pairs().without_behaviour()
    return Verdict(largest(expected_gradient(case, data) + exact_gradient(case)))


def ratio_gradient(case: Case) -> np.ndarray:
    """Return ½ E_old[(R_β(y) − R_β(y')) ∇(ρ(y) − ρ(y'))] with ratios ρ of each response to its own law, by enumeration."""
    import torch

    advantage = regularised_reward(case.reward, case.log_policy, case.log_reference, beta=case.beta)
    gap = torch.tensor(advantage[:, :, None] - advantage[:, None, :])
    first, second = (torch.tensor(np.array(x)) for x in (case.log_first, case.log_second))

    def value(policy: Any) -> Any:
        ratios = [torch.exp(policy.log_probs - law) for law in (first, second)]
        weight = torch.exp(first[:, :, None] + second[:, None, :])
        return 0.25 * (weight * gap * (ratios[0][:, :, None] - ratios[1][:, None, :])).sum()

    return logit_gradient(case.log_policy, value)


def off_policy_is_exact(case: Case) -> Verdict:
    exact = exact_gradient(case)
    found = expected_gradient(case, case.pairs(), **(UNCLIPPED if case.kept else {}))
    return Verdict(
        max(largest(found + exact), largest(ratio_gradient(case) - exact)) / (1 + largest(exact))
    )


class Pairs(NamedTuple):
    """Scored pairs with behaviour log-probabilities, β, the rule of clipping, ``scale_q``, constants for the prompts and an assumption."""

    logps: losses.PairLogps
    beta: float
    clip: str
    scale_q: bool
    shift: np.ndarray
    kept: bool = True

    def loss(self) -> Any:
        """Return the loss with these options."""
        return functools.partial(losses.p3o, beta=self.beta, clip=self.clip, scale_q=self.scale_q)


def behaved(
    clips: tuple[str, ...] = ("joint", "separate"),
    *,
    scale_q: bool = False,
    kept: bool = True,
    least: float = 1.0,
) -> st.SearchStrategy[Pairs]:
    """Pairs whose behaviour policy is within a nat of the current one, so that some are clipped and some are not."""

    def build(logps: losses.PairLogps) -> st.SearchStrategy[Pairs]:
        moved = tables(logps.chosen.shape, low=-1.0, high=1.0)
        old = st.builds(
            lambda a, b: logps._replace(
                old_chosen=logps.chosen + a, old_rejected=logps.rejected + b
            ),
            moved,
            moved,
        )
        shift = tables(logps.chosen.shape, low=least, high=50.0)
        return st.builds(
            Pairs,
            old,
            betas(0.01, 0.5),
            st.sampled_from(clips),
            st.just(scale_q),
            shift,
            st.just(kept),
        )

    return pair_logps(max_size=4, lowest=-6.0).flatmap(scored).flatmap(build)


def blind_to_shift(case: Pairs) -> Verdict:
    logps, loss = case.logps, case.loss()
    other = case.shift if case.kept else 0 * case.shift
    moved = logps._replace(
        chosen_score=logps.chosen_score + case.shift, rejected_score=logps.rejected_score + other
    )
    value, gradient = loss(logps), pair_gradient(logps, loss)
    errors = (
        largest(loss(moved) - value) / (1 + largest(value)),
        largest(pair_gradient(moved, loss) - gradient) / (1 + largest(gradient)),
    )
    return Verdict(max(errors))


def enumerated_variance(estimates: np.ndarray, prob: np.ndarray) -> float:
    """Return the trace of the covariance of estimates ``(m, n)`` with probabilities ``(m,)``."""
    mean = prob @ estimates
    return float(prob @ (estimates**2).sum(axis=-1) - mean @ mean)


def variances(case: Case) -> Verdict:
    log_policy, reward = case.log_policy[0], case.reward[0]
    policy, n = np.exp(log_policy), reward.size
    i, j = np.indices((n, n)).reshape(2, -1)
    error = 0.0
    for shift in (0.0, 10.0, 100.0):
        a = reward + (shift if case.kept else shift * np.arange(n))
        single = enumerated_variance(a[:, None] * (np.eye(n) - policy), policy)
        pair = enumerated_variance(
            0.5 * (a[i] - a[j])[:, None] * (np.eye(n)[i] - np.eye(n)[j]), policy[i] * policy[j]
        )
        size = 1 + np.abs(a).max() ** 2
        error = max(
            error,
            abs(single - score_variance(a, log_policy)) / size,
            abs(pair - pairwise_variance(a, log_policy)) / size,
        )
        error = max(error, abs(pair - pairwise_variance(reward, log_policy)) / size)
        # The growth is quadratic in the constant, with E‖∇ log π‖² = 1 − Σπ² as its coefficient.
        if case.kept:
            square = shift**2 * (1 - policy @ policy) + 2 * shift * (policy * reward) @ (
                1 - 2 * policy + policy @ policy
            )
            error = max(error, abs(single - score_variance(reward, log_policy) - square) / size)
    return Verdict(error)


def preprocessed(instance: tuple[int, float]) -> Verdict:
    seed, size = instance
    rng = np.random.default_rng(seed)
    reward, offset = rng.standard_normal((64, 2)), size * rng.standard_normal((64, 1))
    gaps = []
    for rewards in (reward, reward + offset):
        scaled = losses.RewardScale().updated(rewards).scaled(rewards)
        gaps.append(scaled[:, 0] - scaled[:, 1])
    change = largest(gaps[0] - gaps[1])
    return Verdict(
        max(0.0, 0.5 - change), f"differences of scaled rewards move by up to {change:.3g}"
    )


def swapped(case: Pairs) -> Verdict:
    logps, loss = case.logps, case.loss()
    first = np.arange(logps.chosen.size) == 0
    fields: dict[str, Any] = dict(logps._asdict())
    for a in ("chosen", "ref_chosen", "old_chosen", "chosen_score"):
        b = a.replace("chosen", "rejected")
        fields[a], fields[b] = (
            np.where(first, fields[b], fields[a]),
            np.where(first, fields[a], fields[b]),
        )
    value = loss(logps)
    return Verdict(largest(loss(losses.PairLogps(**fields)) - value) / (1 + largest(value)))


def when_clipped(case: Pairs) -> Verdict:
    logps, epsilon = case.logps, 0.2
    d = losses.reward_margin(logps)
    moved = d - ((logps.old_chosen - logps.ref_chosen) - (logps.old_rejected - logps.ref_rejected))
    q = advantage_gap(logps, case.beta)
    together = logps.chosen + logps.rejected - logps.old_chosen - logps.old_rejected
    weight = np.clip(np.exp(together), 0.1, 10.0)
    slope = np.where(q * moved > epsilon * np.abs(q), 0.0, -0.5 * q * weight)
    generic = np.abs(np.abs(moved) - epsilon) > 1e-9
    found = pair_gradient(logps, case.loss())
    return Verdict(
        largest(np.where(generic, found - np.stack([slope, -slope]), 0.0)) / (1 + largest(slope))
    )


def first_step(case: Pairs) -> Verdict:
    logps = (
        case.logps
        if not case.kept
        else case.logps._replace(old_chosen=case.logps.chosen, old_rejected=case.logps.rejected)
    )
    found = pair_gradient(logps, case.loss())
    contrast = pair_gradient(logps, functools.partial(losses.copg, beta=case.beta, form="gradient"))

    def leave_one_out(pair: losses.PairLogps) -> Any:
        import torch

        fields: tuple[Any, ...] = tuple(pair)
        own, reference, score = (torch.stack(fields[k : k + 2], dim=-1) for k in (0, 2, 6))
        return case.beta * rloo_kl(own, reference + score / case.beta).mean(dim=-1)

    size = 1 + largest(contrast)
    return Verdict(
        max(largest(found - contrast / 2), largest(found - pair_gradient(logps, leave_one_out)))
        / size
    )


def what_a_shift_moves(case: Case) -> Verdict:
    shift = np.asarray([[10.0], [-7.0]])
    world, moved = case.world, ContextualBandit(reward=case.reward + shift)
    policy = TabularPolicy(case.log_policy)
    likelihoods = [
        float(
            objective(
                policy,
                losses.dpo,
                Comparisons.population(w, case.reference),
                reference=case.reference,
            )
        )
        for w in (world, moved)
    ]
    advantages = [
        regularised_reward(w.reward, case.log_policy, case.log_reference, beta=case.beta)
        for w in (world, moved)
    ]
    if not case.kept:  # PPO with the exact value of the prompt as its baseline
        advantages = [
            a - (np.exp(case.log_policy) * a).sum(axis=-1, keepdims=True) for a in advantages
        ]
    expected = [score_gradient(a, case.log_policy) for a in advantages]
    sampled = [score_variance(a, case.log_policy) for a in advantages]
    errors = [
        abs(likelihoods[0] - likelihoods[1]),
        largest(expected[0] - expected[1]),
        largest(world.preference - moved.preference),
    ]
    return Verdict(
        max(*errors, 1.0 - largest(sampled[1] - sampled[0])),
        f"variance {sampled[0].round(3)} to {sampled[1].round(3)}",
    )


def clip_decisions(baseline: bool) -> Verdict:
    # Old and new policies that differ by more than ε in every ratio, and a reward of either sign.
    old, new, reward = (
        np.log([0.25, 0.5, 0.25]),
        np.log([0.45, 0.35, 0.2]),
        np.asarray([1.0, -0.5, -1.0]),
    )
    decisions = []
    for shift in (0.0, 10.0):
        a = reward + shift
        a = a - np.exp(old) @ a if baseline else a
        ratio = np.exp(new - old)
        decisions.append(((a > 0) & (ratio > 1.2)) | ((a < 0) & (ratio < 0.8)))
        found = ppo_slopes(new, old, a) == 0
        if (found != decisions[-1]).any():
            return Verdict(math.inf, "the decisions are not those of the surrogate's gradient")
    changed = int((decisions[0] != decisions[1]).sum())
    return Verdict(float(changed == 0), f"{changed} of 3 clip decisions change")


def ppo_slopes(logp: np.ndarray, old: np.ndarray, advantage: np.ndarray) -> np.ndarray:
    import torch

    moved = torch.tensor(logp, requires_grad=True)
    experiments.ppo_clip(moved, torch.tensor(old), torch.tensor(advantage)).sum().backward()
    return to_numpy(moved.grad)


CLAIMS = (
    Claim("C1", "identity", "½ E[(R_β(y₁) − R_β(y₂)) ∇(log π(y₁) − log π(y₂))] over pairs from π is ∇J, exactly.", "theorem (PPG)",
          cases(), pairwise_is_exact, 1e-12, breaks=cases(False)),
    Claim("C2", "identity", "Off policy and unclipped, weighted by both ratios or with the ratios inside the gradient, it is still ∇J.",
          "section 4", cases(), off_policy_is_exact, 1e-11, breaks=cases(False)),
    Claim("C3", "invariance", "r + δ(x) leaves value and gradient of every pair alone.", "theorem (invariance)",
          behaved(), blind_to_shift, 1e-12, breaks=behaved(kept=False)),
    Claim("C3-variance", "identity", "The variance of a pair's estimate is Var r − ‖∇‖² whatever δ; that of REINFORCE grows by "
          "δ²(1 − Σπ²) + O(δ).", "derived", cases(), variances, 1e-12, breaks=cases(False)),
    Claim("C3-scale", "counterexample", "The trainer's preprocessing (clip to ±10, divide by the running deviation) is not blind to δ(x).",
          "derived", st.tuples(st.integers(0, 10**6), st.just(10.0)), preprocessed, 0.0,
          breaks=st.tuples(st.integers(0, 10**6), st.just(0.0))),
    Claim("C4", "invariance", "Exchanging the two responses of a pair changes nothing, unless q is scaled by its deviation.", "derived",
          behaved(), swapped, 1e-13, breaks=behaved(scale_q=True)),
    Claim("C5", "identity", "V2's gradient is zero exactly if q (d − d_old) > ε |q|, and −½ q w ∇d otherwise.", "derived",
          behaved(("joint",)), when_clipped, 1e-12, breaks=behaved(("separate",))),
    Claim("C6", "identity", "On policy the gradient is half of CoPG's, and RLOO's for two samples.", "derived",
          behaved(), first_step, 1e-12, breaks=behaved(kept=False)),
    Claim("C7", "invariance", "A shift moves neither Bradley–Terry likelihood nor expected policy gradient, but raises the variance of the "
          "sampled one (without a baseline).", "section 3", cases(), what_a_shift_moves, 1e-12, breaks=cases(False)),
    Claim("C7-clip", "counterexample", "A shift changes which samples PPO without a baseline clips; with the prompt's value it does not.",
          "section 3", st.just(False), clip_decisions, 0.0, breaks=st.just(True), examples=1),
)  # fmt: skip


def reproduce(run: Run) -> Reproduction:
    """Train five online methods with and without constants added to the rewards of each prompt."""
    seeds, rollouts = (4, 100) if run.quick else (20, 300)
    trained = {
        name: experiments.train(
            name, seeds=seeds, seed=run.seed, rollouts=rollouts, progress=run.progress
        )
        for name in experiments.METHODS
    }
    moved = {
        name: max(largest(x[:, 0] - x[:, 1]) for x in found) for name, found in trained.items()
    }
    at = {name: np.nanmean(found.at(1.0), axis=-1) for name, found in trained.items()}
    same = [name for name in experiments.METHODS if name != "PPO, no baseline"]
    criteria = [
        Criterion(
            f"{name}: curves with and without the constants",
            "identical to 1e-9",
            moved[name],
            moved[name] <= 1e-9,
        )
        for name in same
    ]
    plain = "PPO, no baseline"
    criteria.append(
        Criterion(
            f"{plain}: curves with and without the constants",
            "different",
            moved[plain],
            moved[plain] > 0.05,
        )
    )
    for name in experiments.METHODS[:2]:
        shown = ", ".join(
            f"{at[name][k]:.3f} against {at[plain][k]:.3f} (scale {experiments.SCALES[k]:g})"
            for k in (0, 1)
        )
        passed = bool(at[name][1] >= at[plain][1])
        criteria.append(
            Criterion(
                f"{name}: reward at KL = 1 nat",
                "at least that of PPO without a baseline, scale 10",
                shown,
                passed,
            )
        )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "constants": scale,
            "reward at KL = 1 nat": float(at[name][k]),
            "seeds that reach it": int(np.isfinite(trained[name].at(1.0)[k]).sum()),
            "final KL (nats)": float(trained[name].kl[-1, k].mean()),
            "final reward": float(trained[name].reward[-1, k].mean()),
        }
        for name in experiments.METHODS
        for k, scale in enumerate(experiments.SCALES)
    ]
    return Reproduction(experiments.draw(trained), table, tuple(criteria))

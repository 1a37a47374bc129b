"""CoPG: Contrastive Policy Gradient (arXiv:2406.19185).

The policy gradient of a pair, each response with the other's regularised reward as baseline, is a
regression: off policy, no weights.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _copg_experiments as experiments
from prefsim import losses
from prefsim.analysis.bandit import regularised_value
from prefsim.backend import to_numpy
from prefsim.data import ScoredPairs
from prefsim.losses.kl_estimators import rloo_kl
from prefsim.numerics import log_softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, objective
from prefsim.solvers.optimisers.policy_gradient import (
    contrastive_gradient,
    off_policy_limit,
    regularised_reward,
)
from prefsim.testing import betas, pair_logps, tables
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="copg",
    title=(
        "Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a"
        " supervised-friendly fashion"
    ),
    arxiv="2406.19185",
    year=2024,
    family="nash",
    summary=(
        "A pairwise loss whose gradient is a policy gradient with the right baseline: whatever drew"
        " the pairs, its only optimum is the regularised one."
    ),
    implements=(
        "prefsim.losses.copg",
        "prefsim.losses.copg_group",
        "prefsim.solvers.optimisers.policy_gradient.contrastive_gradient",
    ),
)


class Case(NamedTuple):
    """Rewards ``(2, 4)``, log-probabilities of reference, policy and the laws of both responses, β; ``kept``: so is the assumption."""

    reward: np.ndarray
    log_reference: np.ndarray
    log_policy: np.ndarray
    log_first: np.ndarray
    log_second: np.ndarray
    beta: float
    kept: bool = True

    @property
    def world(self) -> ContextualBandit:
        """One bandit of two contexts."""
        return ContextualBandit(reward=self.reward)

    @property
    def reference(self) -> TabularPolicy:
        """The reference policy."""
        return TabularPolicy.from_logits(self.log_reference)

    @property
    def optimum(self) -> np.ndarray:
        """Log-probabilities of π*."""
        return gibbs_log_policy(self.reward, self.log_reference, beta=self.beta)[0]

    def pairs(self) -> ScoredPairs:
        """Return all pairs from the two laws."""
        first, second = (TabularPolicy(table) for table in (self.log_first, self.log_second))
        return ScoredPairs.population(self.world, first, against=second)

    def loss(self, form: str = "square") -> Any:
        """Return the loss with this β."""
        return functools.partial(losses.copg, beta=self.beta, form=form)


def cases(kept: bool = True) -> st.SearchStrategy[Case]:
    laws = tables((2, 4), low=-1.5, high=1.5).map(log_softmax)
    return st.builds(
        Case,
        tables((2, 4), low=-2.0, high=2.0),
        laws,
        laws,
        laws,
        laws,
        betas(0.2, 2.0),
        st.just(kept),
    )


def logit_gradient(log_policy: np.ndarray, value: Any) -> np.ndarray:
    """Return the gradient in the logits of a scalar function of a torch policy, by automatic differentiation."""
    import torch

    theta = torch.tensor(np.array(log_policy), requires_grad=True)
    (found,) = torch.autograd.grad(value(TabularPolicy(theta)), theta)
    return to_numpy(found)


def largest(x: Any) -> float:
    return float(np.abs(np.asarray(x)).max())


def scored(pairs: losses.PairLogps) -> st.SearchStrategy[losses.PairLogps]:
    scores = tables(pairs.chosen.shape, low=-3.0, high=3.0)
    return st.builds(pairs._replace, chosen_score=scores, rejected_score=scores)


def pair_gradient(logps: losses.PairLogps, loss: Any) -> np.ndarray:
    """Return the gradients of each value in both log-probabilities, ``(2, n)``."""
    import torch

    parts = [torch.tensor(np.array(x), requires_grad=True) for x in (logps.chosen, logps.rejected)]
    fixed = {
        name: torch.tensor(x)
        for name, x in logps._asdict().items()
        if x is not None and name not in ("chosen", "rejected")
    }
    return np.stack(
        [
            to_numpy(g)
            for g in torch.autograd.grad(loss(losses.PairLogps(*parts, **fixed)).sum(), parts)
        ]
    )


def advantage_gap(logps: losses.PairLogps, beta: float) -> Any:
    """Return R_β(y) − R_β(y'), written out."""
    rewards = [
        score - beta * (logp - ref)
        for logp, ref, score in zip(logps[:2], logps[2:4], logps[6:8], strict=True)
    ]
    return rewards[0] - rewards[1]


def attached(logps: losses.PairLogps, *, beta: float) -> Any:
    """Return the gradient form without its stop-gradient."""
    gap = advantage_gap(logps, beta)
    return -gap * (logps.chosen - logps.rejected)


def same_gradient(instance: tuple[losses.PairLogps, float, bool]) -> Verdict:
    logps, beta, detached = instance
    contrast = (
        functools.partial(losses.copg, beta=beta, form="gradient")
        if detached
        else functools.partial(attached, beta=beta)
    )
    square, found = (
        pair_gradient(logps, functools.partial(losses.copg, beta=beta)),
        pair_gradient(logps, contrast),
    )
    gap = advantage_gap(logps, beta)
    expected = np.stack([-gap, gap])
    return Verdict(max(largest(square - expected), largest(found - expected)) / (1 + largest(gap)))


def zero_at_optimum(case: Case) -> Verdict:
    at = TabularPolicy(case.optimum if case.kept else case.log_policy)
    return Verdict(float(objective(at, case.loss(), case.pairs(), reference=case.reference)))


def unique_optimum(case: Case) -> Verdict:
    if not case.kept:
        case = case._replace(
            log_first=without_last(case.log_first), log_second=without_last(case.log_second)
        )
    start = TabularPolicy(case.log_policy)
    found = fit(start, case.loss(), case.pairs(), reference=case.reference)
    far = largest(to_numpy(found.policy.probs) - np.exp(case.optimum))
    # How far a policy is from the optimum, as the pairs see it, is the whole of the loss.
    log_ratio = case.log_policy - case.optimum
    spread = (log_ratio[:, :, None] - log_ratio[:, None, :]) ** 2 * np.exp(
        case.log_first[:, :, None] + case.log_second[:, None, :]
    )
    value = float(objective(start, case.loss(), case.pairs(), reference=case.reference))
    return Verdict(
        max(far, abs(value - case.beta / 2 * spread.sum(axis=(1, 2)).mean()) / (1 + value))
    )


def without_last(log_law: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [log_softmax(log_law[:, :-1]), np.full((log_law.shape[0], 1), -np.inf)], axis=1
    )


def on_policy(case: Case) -> Verdict:
    if case.kept:
        case = case._replace(log_first=case.log_policy, log_second=case.log_policy)
    data, world = case.pairs(), case.world
    descent = logit_gradient(
        case.log_policy,
        lambda p: objective(p, case.loss("gradient"), data, reference=case.reference),
    )
    exact = logit_gradient(
        case.log_policy,
        lambda p: regularised_value(
            p.log_probs, p.log_probs.new_tensor(case.log_reference), world, beta=case.beta
        ),
    )
    advantage = regularised_reward(case.reward, case.log_policy, case.log_reference, beta=case.beta)
    enumerated = contrastive_gradient(advantage, case.log_first, case.log_second) / 2
    return Verdict(max(largest(-descent - 2 * exact), largest(-descent - enumerated)))


def pairs_of(group: losses.ListLogps, i: Any, j: Any) -> losses.PairLogps:
    """Return the pairs of candidates ``i`` and ``j``."""
    logps, ref_logps, scores = ((table[..., i], table[..., j]) for table in group)
    return losses.PairLogps(*logps, *ref_logps, chosen_score=scores[0], rejected_score=scores[1])


def group_is_leave_one_out(instance: tuple[np.ndarray, float]) -> Verdict:
    import torch

    (logps, ref_logps, scores), beta = instance
    k = logps.shape[-1]
    moved = torch.tensor(np.array(logps), requires_grad=True)
    group = losses.ListLogps(moved, torch.tensor(ref_logps), torch.tensor(scores))
    i, j = (torch.tensor(part) for part in np.nonzero(~np.eye(k, dtype=bool)))
    pairs = pairs_of(group, i, j)
    # RLOO of a reward is that of the penalty alone from a tilted reference.
    values = {
        "sum": losses.copg(pairs, beta=beta, form="gradient").mean(dim=-1),
        "group": losses.copg_group(group, beta=beta, form="gradient"),
        "square": losses.copg_group(group, beta=beta),
        "rloo": 2 * beta * rloo_kl(moved, group.ref_logps + group.scores / beta).mean(dim=-1),
    }
    two = pairs_of(group, torch.tensor([0]), torch.tensor([1]))
    values |= {"first two": losses.copg(two, beta=beta), "p3o": 2 * losses.p3o(two, beta=beta)}
    found = {
        name: to_numpy(torch.autograd.grad(value.sum(), moved, retain_graph=True)[0])
        for name, value in values.items()
    }
    size = 1 + largest(found["sum"])
    ends = [largest(found[name] - found["sum"]) / size for name in ("group", "square", "rloo")]
    same = largest(to_numpy(values["square"] - losses.copg(pairs, beta=beta).mean(dim=-1))) / (
        1 + largest(to_numpy(values["square"]))
    )
    return Verdict(max(*ends, same, largest(found["first two"] - found["p3o"]) / size))


def contains_ipo(instance: tuple[losses.PairLogps, float, float]) -> Verdict:
    logps, beta, score = instance
    labelled = logps._replace(
        chosen_score=np.full_like(logps.chosen, score),
        rejected_score=np.full_like(logps.chosen, -score),
    )
    ipo = beta / 2 * losses.ipo(logps, tau=beta)
    return Verdict(largest((losses.copg(labelled, beta=beta) - ipo) / (1 + ipo)))


def baselines(case: experiments.Toy) -> Verdict:
    limits, target = experiments.limits(case), experiments.optimum(case)
    far = {name: float(np.abs(limit - target).sum() / 2) for name, limit in limits.items()}
    right = max(far[name] for name in experiments.RIGHT)
    wrong = min(far[name] for name in experiments.WRONG)
    formula = 0.0
    if not case.on_policy:
        for name, b in (
            ("no baseline", 0.0),
            ("b = E_μ R", case.reward @ np.exp(case.log_behaviour)),
        ):
            point = off_policy_limit(
                case.reward, case.log_behaviour, case.log_reference, beta=case.beta, baseline=b
            )
            formula = max(formula, largest(np.exp(point) - limits[name]))
    return Verdict(
        max(right, formula, 0.15 - wrong),
        ", ".join(f"{name}: TV {x:.2g}" for name, x in far.items()),
    )


class Shift(NamedTuple):
    """Scored pairs, β, the constants added to the rewards of their prompts, and whether both responses answer one prompt."""

    logps: losses.PairLogps
    beta: float
    shift: np.ndarray
    same_prompt: bool


def shifts(same_prompt: bool) -> st.SearchStrategy[Shift]:
    def build(logps: losses.PairLogps) -> st.SearchStrategy[Shift]:
        added = tables(logps.chosen.shape, low=1.0, high=50.0)
        return st.builds(Shift, scored(logps), betas(0.05, 2.0), added, st.just(same_prompt))

    return pair_logps(max_size=4, lowest=-20.0).flatmap(build)


def blind_to_prompts(case: Shift) -> Verdict:
    logps, beta = case.logps, case.beta
    other = case.shift if case.same_prompt else 0 * case.shift
    moved = logps._replace(
        chosen_score=logps.chosen_score + case.shift, rejected_score=logps.rejected_score + other
    )
    error = 0.0
    for form in ("square", "gradient"):
        loss = functools.partial(losses.copg, beta=beta, form=form)
        value, gradient = loss(logps), pair_gradient(logps, loss)
        error = max(error, largest((loss(moved) - value) / (1 + np.abs(value))))
        error = max(error, largest(pair_gradient(moved, loss) - gradient) / (1 + largest(gradient)))
    # With equal scores the whole loss is the squared log-ratio margin, least at the reference.
    level = logps._replace(rejected_score=logps.chosen_score)
    pull = beta / 2 * losses.reward_margin(logps) ** 2
    return Verdict(max(error, largest((losses.copg(level, beta=beta) - pull) / (1 + pull))))


_scored = pair_logps(max_size=4, lowest=-20.0).flatmap(scored)
_groups = st.integers(2, 6).flatmap(
    lambda k: st.tuples(*(tables((2, k), low=-4.0, high=0.0) for _ in range(3)))
)

CLAIMS = (
    Claim("C1", "identity", "The contrastive form and the regression have one gradient: ∓(R_β(y) − R_β(y')) in the log-probabilities.",
          "section 3", st.tuples(_scored, betas(0.05, 2.0), st.just(True)), same_gradient, 1e-12,
          breaks=st.tuples(_scored, betas(0.05, 2.0), st.just(False))),
    Claim("C2", "identity", "The loss is zero at π* ∝ π_ref exp(R/β), for any laws of the two responses.", "derivation",
          cases(), zero_at_optimum, 1e-24, breaks=cases(False)),
    Claim("C2-unique", "minimiser", "With full support π* is the only minimum: the loss is (β/2) E (Δ log π/π*)², and the fit ends at π*.",
          "theorem (uniqueness)", cases(), unique_optimum, 1e-9, breaks=cases(False), examples=12),
    Claim("C3", "identity", "For pairs drawn from the policy the negative gradient is 2∇J; from anything else it is the enumerated "
          "μ₁(R_β − E_μ₂ R_β) + μ₂(R_β − E_μ₁ R_β).", "section 3", cases(), on_policy, 1e-12, breaks=cases(False)),
    Claim("C4", "identity", "For K samples the mean over pairs is 2 × RLOO with R_β (and s²/β as a value); for K = 2 it is 2 × P3O's.",
          "section 3", st.tuples(_groups, betas(0.1, 2.0)), group_is_leave_one_out, 1e-13),
    Claim("C5", "identity", "With scores ±¼ it is IPO: (β/2)(h − 1/(2β))².", "section 3",
          st.tuples(pair_logps(max_size=4, lowest=-20.0), betas(0.05, 2.0), st.just(0.25)), contains_ipo, 1e-12,
          breaks=st.tuples(pair_logps(max_size=4, lowest=-20.0), betas(0.05, 2.0), st.just(0.5))),
    Claim("C6", "counterexample", "Off policy, no baseline and b = E_μ R end elsewhere, where μ(R_β − b) = cπ; b = E_μ R_β, b = V^π and "
          "CoPG end at π*.", "bandit example", experiments.toys(), baselines, 1e-6, breaks=experiments.toys(on_policy=True), examples=8),
    Claim("C7", "invariance", "R + δ(x) changes neither loss nor gradient; with equal scores the loss is (β/2)h², which pulls to π_ref.",
          "derivation", shifts(True), blind_to_prompts, 1e-12, breaks=shifts(False)),
)  # fmt: skip

PAGE = {
    "CoPG": (0.6652, 0.2447, 0.0900),
    "no baseline": (0.3684, 0.3590, 0.2727),
    "b = E_μ R": (0.4397, 0.3557, 0.2046),
}
PAGE |= dict.fromkeys(("b = E_μ R_β", "b = V^π"), PAGE["CoPG"])


def reproduce(run: Run) -> Reproduction:
    """Follow five gradients on the toy bandit; compare where three offline methods end on 20-armed bandits."""
    toy, steps = experiments.TOY, 7_000 if run.quick else 200_000
    paths, ends = experiments.paths(toy, step=0.05, steps=steps, progress=run.progress)
    target = experiments.optimum(toy)
    criteria = []
    for name, end in ends.items():
        far = float(np.abs(end - target).sum() / 2)
        off = largest(end - PAGE[name])
        wanted = "at π*: TV < 1e-6" if name in experiments.RIGHT else "not at π*: TV > 0.2"
        passed = (far < 1e-6 if name in experiments.RIGHT else far > 0.2) and off < 6e-5
        shown = f"TV {far:.2g}; ends at ({', '.join(f'{p:.4f}' for p in end)})"
        criteria.append(
            Criterion(f"{name}, {steps} steps", f"{wanted}; ends at {PAGE[name]}", shown, passed)
        )
    fronts, frontier = experiments.fronts(6 if run.quick else 50, run.seed, progress=run.progress)
    short = {name: abs(float(front.shortfall.mean())) for name, front in fronts.items()}
    worst = largest(fronts["CoPG"].reward - fronts["CoPG"].best)
    criteria.append(
        Criterion(
            "CoPG on the reward–KL frontier",
            "every β ends on the frontier",
            f"within {worst:.1e}",
            worst < 1e-9,
        )
    )
    criteria.append(
        Criterion(
            "reward missing at a KL of at most 1 nat",
            "CoPG reaches a higher reward than IPO",
            ", ".join(f"{name} {x:.4f}" for name, x in short.items()),
            min(x for name, x in short.items() if name != "CoPG") > 0.01 > 10 * short["CoPG"],
        )
    )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "TV to π*": float(np.abs(end - target).sum() / 2),
            **{f"π({k + 1})": float(p) for k, p in enumerate(end)},
        }
        for name, end in ends.items()
    ]
    table += [
        {"method": name, "β": float(beta), "KL (nats)": float(kl), "E R": float(reward)}
        for name, front in fronts.items()
        for beta, kl, reward in zip(
            front.beta, front.kl.mean(axis=1), front.reward.mean(axis=1), strict=True
        )
    ]
    return Reproduction(experiments.draw(paths, fronts, frontier), table, tuple(criteria))

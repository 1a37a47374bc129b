"""The copg paper's bandits: five gradients followed to their ends, and the frontiers of three offline methods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.analysis.frontier import optimal_frontier
from prefsim.backend import to_numpy
from prefsim.data import ScoredPairs
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy
from prefsim.solvers.optimisers.policy_gradient import (
    contrastive_gradient,
    off_policy_limit,
    regularised_reward,
    score_gradient,
)
from prefsim.testing import tables
from prefsim.worlds import ContextualBandit

RIGHT = ("CoPG", "b = E_μ R_β", "b = V^π")
WRONG = ("no baseline", "b = E_μ R")
METHODS = (*RIGHT, *WRONG)


class Toy(NamedTuple):
    """Rewards and log-probabilities of behaviour and reference ``(n,)``, β; ``on_policy`` samples from the policy itself instead."""

    reward: np.ndarray
    log_behaviour: np.ndarray
    log_reference: np.ndarray
    beta: float
    on_policy: bool = False


TOY = Toy(np.asarray([1.0, 0.5, 0.0]), np.log([0.1, 0.2, 0.7]), np.log(np.full(3, 1 / 3)), 0.5)


def toys(*, on_policy: bool = False) -> st.SearchStrategy[Toy]:
    """Bandits near the paper's."""

    def build(reward: np.ndarray, tilt: np.ndarray, reference: np.ndarray, beta: float) -> Toy:
        log_behaviour = log_softmax(TOY.log_behaviour + tilt)
        return Toy(TOY.reward + reward, log_behaviour, log_softmax(reference), beta, on_policy)

    small = tables((3,), low=-0.05, high=0.05)
    return st.builds(build, small, small, small, st.floats(0.45, 0.5))


def optimum(toy: Toy) -> np.ndarray:
    return np.exp(gibbs_log_policy(toy.reward, toy.log_reference, beta=toy.beta)[0])


def ascent(toy: Toy, log_policy: np.ndarray) -> np.ndarray:
    """Return the ascent directions of all :data:`METHODS` at their policies, both ``(methods, n)``."""
    a = regularised_reward(toy.reward, log_policy, toy.log_reference, beta=toy.beta)
    log_mu = log_policy if toy.on_policy else np.broadcast_to(toy.log_behaviour, log_policy.shape)
    mu = np.exp(log_mu)
    baseline = np.stack([
        np.sum(mu[1] * a[1]), np.sum(np.exp(log_policy[2]) * a[2]), np.zeros(()), np.sum(mu[4] * toy.reward)
    ])[:, None]  # fmt: skip
    single = score_gradient(a[1:] - baseline, log_policy[1:], log_mu[1:])
    return np.concatenate([contrastive_gradient(a[:1], log_mu[:1]), single])


def limits(toy: Toy) -> dict[str, np.ndarray]:
    """Return where every method ends, as probabilities."""
    log_policy = np.tile(toy.log_reference, (len(METHODS), 1))
    for _ in range(5000):
        direction = ascent(toy, log_policy)
        if np.abs(direction).max() < 1e-13:
            break
        log_policy = log_softmax(log_policy + direction)
    return dict(zip(METHODS, np.exp(log_policy), strict=True))


class Path(NamedTuple):
    """Steps ``(t,)`` and the total variation distance to the optimum after them, ``(t,)``."""

    step: np.ndarray
    distance: np.ndarray


def paths(
    toy: Toy, *, step: float, steps: int, progress: Callable[[Iterable[Any], str], Iterable[Any]]
) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """Ascend every direction from the uniform policy; return the distances on the way and the ends."""
    shown = np.unique(np.geomspace(1, steps, 120).astype(int))
    log_policy = log_softmax(np.zeros((len(METHODS), toy.reward.size)))
    target, far, done = optimum(toy), [], 0
    for mark in progress(shown, "gradient steps"):
        for _ in range(mark - done):
            log_policy = log_softmax(log_policy + step * ascent(toy, log_policy))
        done = mark
        far.append(np.abs(np.exp(log_policy) - target).sum(axis=-1) / 2)
    distances = np.stack(far, axis=-1)
    found = {name: Path(shown, distances[k]) for k, name in enumerate(METHODS)}
    return found, dict(zip(METHODS, np.exp(log_policy), strict=True))


class Front(NamedTuple):
    """Strengths ``(m,)``; KL, E R and the largest E R at that KL, each ``(m, worlds)``; what is missing at one nat, ``(worlds,)``."""

    beta: np.ndarray
    kl: np.ndarray
    reward: np.ndarray
    best: np.ndarray
    shortfall: np.ndarray


STRENGTHS = {
    "CoPG": np.geomspace(2.0, 0.1, 9),
    "PG, b = E_μ R": np.geomspace(1.0, 1e-3, 16),
    "PG, no baseline": np.geomspace(1.0, 1e-3, 16),
    "IPO": np.geomspace(2.0, 0.05, 10),
}


def fronts(
    worlds: int, seed: int, *, progress: Callable[[Iterable[Any], str], Iterable[Any]]
) -> tuple[dict[str, Front], np.ndarray]:
    """Return where each method ends on 20-armed bandits with pairs from the reference, exactly, and the mean frontier (KL, E R).

    Rewards are standard normal from a least of zero, the reference is a softmax of standard normal
    logits; IPO sees which of the two rewards is higher.
    """
    rng = np.random.default_rng(seed)
    reward = rng.standard_normal((worlds, 1, 20))
    reward -= reward.min(axis=-1, keepdims=True)
    world, reference = (
        ContextualBandit(reward=reward),
        TabularPolicy.from_logits(rng.standard_normal((worlds, 1, 20))),
    )
    log_ref = to_numpy(reference.log_probs)
    scored = ScoredPairs.population(world, reference)
    ranked = scored.relabelled(0.5 + 0.5 * np.sign(scored.chosen_score - scored.rejected_score))
    frontiers = [
        optimal_frontier(ContextualBandit(reward=r), table, np.geomspace(50.0, 0.004, 1500))
        for r, table in zip(reward, log_ref, strict=True)
    ]

    def ends(name: str, beta: float) -> np.ndarray:
        if name == "CoPG":
            found = fit(
                reference, functools.partial(losses.copg, beta=beta), scored, reference=reference
            )
        elif name == "IPO":
            found = fit(
                reference, functools.partial(losses.ipo, tau=beta), ranked, reference=reference
            )
        else:
            baseline = np.sum(np.exp(log_ref) * reward, axis=-1) if name == "PG, b = E_μ R" else 0.0
            return off_policy_limit(reward, log_ref, log_ref, beta=beta, baseline=baseline)
        return to_numpy(found.policy.log_probs)

    found = {}
    for name, betas in STRENGTHS.items():
        policies = np.stack([ends(name, float(beta)) for beta in progress(betas, name)])
        kl, value = kl_to_reference(policies, log_ref, world), expected_reward(policies, world)
        # The frontier is drawn through exact optima: its tangent at λ bounds what any policy of
        # that KL can earn.
        best = np.stack(
            [_best(f.penalty, f.reward, f.reverse_kl, kl[:, k]) for k, f in enumerate(frontiers)],
            axis=1,
        )
        if name == "CoPG":
            best = np.stack(
                [
                    [_optimum_at(beta, reward[k, 0], log_ref[k, 0]) for k in range(worlds)]
                    for beta in betas
                ]
            )
        top = [_best(f.penalty, f.reward, f.reverse_kl, np.ones(1))[0] for f in frontiers]
        # A method that no penalty brings to one nat is judged by its last point.
        missing = [np.interp(1.0, kl[:, k], best[:, k] - value[:, k]) for k in range(worlds)]
        found[name] = Front(
            betas,
            kl,
            value,
            best,
            np.asarray(missing) + np.where(kl[-1] < 1, np.asarray(top) - best[-1], 0.0),
        )
    return found, np.mean([(f.reverse_kl, f.reward) for f in frontiers], axis=0)


def _optimum_at(beta: float, reward: np.ndarray, log_ref: np.ndarray) -> float:
    return float(np.exp(gibbs_log_policy(reward, log_ref, beta=beta)[0]) @ reward)


def _best(penalty: np.ndarray, reward: np.ndarray, kl: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the largest reward at divergences ``at``, by the tangents of the frontier, which bound it from above."""
    return np.min(reward + penalty * (at[:, None] - kl), axis=-1)


def draw(paths: dict[str, Path], fronts: dict[str, Front], frontier: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = {
        "CoPG": "C0-",
        "b = E_μ R_β": "C2--",
        "b = V^π": "C4:",
        "no baseline": "C3-",
        "b = E_μ R": "C1-",
    }
    for name, path in paths.items():
        left.loglog(
            path.step,
            np.maximum(path.distance, 1e-16),
            styles[name],
            lw=2,
            label=name if name == "CoPG" else f"policy gradient, {name}",
        )
    left.set(
        xlabel="gradient steps (size 0.05)",
        ylabel="total variation distance to the optimum π*",
        title=(
            "Three arms, samples from a poor behaviour policy:\nonly the right baseline leads to π*"
        ),
        ylim=(1e-9, 1),
    )
    left.legend(frameon=False, loc="lower left")
    right.plot(*frontier, "k-", lw=0.8, label="largest reward at each KL")
    for name, colour in (
        ("CoPG", "C0"),
        ("IPO", "C5"),
        ("PG, b = E_μ R", "C1"),
        ("PG, no baseline", "C3"),
    ):
        front = fronts[name]
        line = "o" if name == "CoPG" else "o-"
        right.plot(
            front.kl.mean(axis=1), front.reward.mean(axis=1), colour + line, ms=4, label=name
        )
    right.set(
        xlabel="KL(π‖π_ref) (nats)",
        ylabel="expected reward",
        title=(
            f"20 arms, pairs from π_ref, exact limits, mean of {fronts['CoPG'].kl.shape[1]}"
            " bandits:\nno penalty takes the plain gradients further than this"
        ),
        xlim=(0, 2.6),
    )
    right.legend(frameon=False, loc="lower right")
    figure.suptitle("Contrastive policy gradient learns the regularised optimum from any samples")
    return figure

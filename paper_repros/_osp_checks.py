"""What arXiv:2405.14103 says about soft labels, their optimum and a judge with a position bias, as measurable instances."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from paper_repros import _osp_training as training
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.ranked_pairs import ranked_pairs
from prefsim.numerics import categorical_entropy, categorical_kl, log_sigmoid, log_softmax
from prefsim.papers import Verdict
from prefsim.policies import TabularPolicy
from prefsim.raters import both_orders, judged_preference
from prefsim.solvers import fit, gibbs_log_policy
from prefsim.testing import betas, tables


def pairs(margin: Any, prob: Any) -> losses.PairLogps:
    """Return pairs with these log-ratio margins and judged probabilities."""
    h, p = np.broadcast_arrays(
        np.atleast_1d(np.asarray(margin, dtype=np.float64)), np.asarray(prob, dtype=np.float64)
    )
    zero = np.zeros_like(h)
    return losses.PairLogps(0.5 * h, -0.5 * h, zero, zero, chosen_score=p, rejected_score=1 - p)


def slope(margin: Any, prob: Any, beta: float) -> np.ndarray:
    """Return ∂L/∂h by automatic differentiation, ``(n,)``."""
    import torch

    given = pairs(margin, prob)
    chosen = torch.tensor(np.array(given.chosen), requires_grad=True)
    others = {
        name: torch.tensor(np.array(getattr(given, name)))
        for name in ("rejected", "ref_chosen", "ref_rejected", "chosen_score")
    }
    moved = losses.PairLogps(chosen, **others)
    (found,) = torch.autograd.grad(losses.spce(moved, beta=beta).sum(), chosen)
    return to_numpy(found)


def pair_minimiser(instance: tuple[float, float]) -> Verdict:
    p, beta = instance
    formula = -beta * (p - expit(beta * np.asarray([-3.0, 0.5, 7.0])))
    error = float(np.abs(slope([-3.0, 0.5, 7.0], p, beta) - formula).max())
    ends = slope([-40 / beta, 40 / beta], p, beta)
    if not ends[0] < 0 < ends[1]:
        return Verdict(
            1.0, f"no minimiser at p = {p}: slopes {ends[0]:.3g} and {ends[1]:.3g} at βh = ∓40"
        )
    found = beta * brentq(lambda h: float(slope(h, p, beta)[0]), -40 / beta, 40 / beta, xtol=1e-13)
    return Verdict(
        max(error, abs(found - np.log(p / (1 - p)))),
        f"βh* = {found:.9f}, logit p = {np.log(p / (1 - p)):.9f}",
    )


def decomposition(instance: tuple[np.ndarray, np.ndarray, float, float]) -> Verdict:
    h, p, beta, epsilon = instance
    value = losses.spce(pairs(h, p), beta=beta)
    with np.errstate(divide="ignore"):
        log_p = np.log(np.stack([p, 1 - p], axis=-1))
    log_q = np.stack([log_sigmoid(beta * h), log_sigmoid(-beta * h)], axis=-1)
    entropy = categorical_entropy(log_p)
    hard, smooth = (losses.dpo(pairs(h, 1.0), beta=beta, label_smoothing=e) for e in (0.0, epsilon))
    gaps = (
        value - categorical_kl(log_p, log_q) - entropy,
        losses.spce(pairs(h, 1.0), beta=beta) - hard,
        losses.spce(pairs(h, 1 - epsilon), beta=beta) - smooth,
        slope(np.zeros(1), 0.5, beta),
        np.maximum(entropy - value, 0.0),
    )
    scale = 1 + beta * float(np.abs(h).max())
    return Verdict(max(float(np.abs(gap).max()) for gap in gaps) / scale)


class Judged(NamedTuple):
    """Rewards ``(5,)``, log π_ref ``(5,)``, weights of up to ten pairs, β; the judge's temperature, bias and average; pairing; cycle."""

    reward: np.ndarray
    log_ref: np.ndarray
    weight: np.ndarray
    beta: float
    temperature: float = 1.0
    bias: float = 0.0
    average: str = "logit"
    pairing: str = "all"
    cycle: float = 0.0


def preferences(case: Judged) -> np.ndarray:
    """Return the judge's preferences ``(5, 5)``; ``cycle`` adds log-odds to each response against the next, which no reward explains."""
    table = judged_preference(
        case.reward, temperature=case.temperature, position_bias=case.bias, average=case.average
    )
    ahead = np.roll(np.eye(5), 1, axis=1)
    odds = np.log(table) - np.log1p(-table) + case.cycle * (ahead - ahead.T)
    return expit(odds)


def population(case: Judged) -> Verdict:
    found = ranked_pairs(preferences(case), pairing=case.pairing)
    weight = case.weight[: found.first.size] / case.weight[: found.first.size].sum()
    data = Comparisons(
        np.zeros_like(found.first),
        found.first,
        found.second,
        weight=weight,
        chosen_score=found.prob,
        rejected_score=1 - found.prob,
    )
    reference = TabularPolicy.from_logits(case.log_ref[None])
    policy = fit(
        reference, functools.partial(losses.spce, beta=case.beta), data, reference=reference
    ).policy
    # The same objective with the soft labels as weights of pairs and reversed pairs.
    doubled = Comparisons(data.prompt, data.chosen, data.rejected, found.prob, weight)
    twin = fit(
        reference, functools.partial(losses.dpo, beta=case.beta), doubled, reference=reference
    ).policy
    target, _ = gibbs_log_policy(case.temperature * case.reward, case.log_ref, beta=case.beta)
    error = max(float(np.abs(p.probs[0] - np.exp(target)).max()) for p in (policy, twin))
    return Verdict(
        error, f"{case.pairing}: KL {float(categorical_kl(target, policy.log_probs[0])):.3g}"
    )


def judged_worlds(**fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Judged]:
    reward, log_ref = (
        tables((5,), low=-1.5, high=1.5),
        tables((5,), low=-1.0, high=1.0).map(log_softmax),
    )
    parts: dict[str, st.SearchStrategy[Any]] = {
        "temperature": st.just(1.0), "bias": st.just(0.0), "average": st.just("logit"), "pairing": st.just("all"), "cycle": st.just(0.0)
    }  # fmt: skip
    return st.builds(
        Judged,
        reward,
        log_ref,
        tables((10,), low=0.2, high=1.0),
        betas(0.3, 2.0),
        **(parts | fixed),
    )


def label_noise(instance: tuple[float, float, float, bool]) -> Verdict:
    h, p, beta, argmax = instance
    gradients = slope([h, h], np.asarray([1.0, 0.0]), beta)
    chance = float(p > 0.5) if argmax else p
    mean = chance * gradients[0] + (1 - chance) * gradients[1]
    variance = chance * (gradients[0] - mean) ** 2 + (1 - chance) * (gradients[1] - mean) ** 2
    error = max(abs(mean - float(slope(h, p, beta)[0])), abs(variance - beta**2 * p * (1 - p)))
    return Verdict(float(error), f"mean {mean:.6g}, variance {variance:.6g}")


def overfitting(instance: tuple[tuple[int, ...], float]) -> Verdict:
    seeds, temperature = instance
    path = training.train(seeds, 20_000, temperature=temperature)
    early, late = (path.kl[path.steps == t][0] for t in (1000, 20_000))
    short = (
        max(early[0].max(), late[0].max()) - 1e-3,
        0.1 - late[1].min(),
        2 - (late[2] / early[2]).min(),
    )
    shown = (
        f"{name} {values.round(3).tolist()}"
        for name, values in zip(training.LABELS, late, strict=True)
    )
    return Verdict(float(max(0.0, *short)), "KL after 20000 steps: " + ", ".join(shown))


def debiased(instance: tuple[float, float, str]) -> Verdict:
    gap, bias, average = instance
    found = float(both_orders(np.asarray(gap + bias), np.asarray(bias - gap), average=average))
    return Verdict(abs(found - expit(gap)), f"{found:.5f} for {expit(gap):.5f}")


def drawn_to_half(instance: tuple[float, float]) -> Verdict:
    gap, bias = instance
    found = float(both_orders(np.asarray(gap + bias), np.asarray(bias - gap), average="prob"))
    return Verdict(
        max(0.0, abs(found - 0.5) - abs(expit(gap) - 0.5), -(found - 0.5) * gap),
        f"{found:.5f} for {expit(gap):.5f}",
    )


def swapped(instance: tuple[np.ndarray, np.ndarray, float, bool]) -> Verdict:
    h, p, beta, keep = instance
    value, other = (
        losses.spce(pairs(h, p), beta=beta),
        losses.spce(pairs(-h, p if keep else 1 - p), beta=beta),
    )
    return Verdict(float((np.abs(value - other) / (1 + value)).max()))

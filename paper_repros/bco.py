"""BCO: Binary Classifier Optimization for Large Language Model Alignment (arXiv:2404.04656).

A classifier of thumbs up and down whose logit is the implicit reward bounds DPO's loss; a shift
tightens it, weights match the prompts.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp

from paper_repros import _thumbs
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.testing import margins, tables

PAPER = Paper(
    slug="bco",
    title="Binary Classifier Optimization for Large Language Model Alignment",
    arxiv="2404.04656",
    year=2024,
    family="direct",
    summary=(
        "Thumbs up and down train a classifier whose logit is the implicit reward: an upper bound"
        " of DPO, tightened by a reward shift."
    ),
    implements=(
        "prefsim.losses.bco_unpaired",
        "prefsim.losses.bco_pair",
        "prefsim.losses.bco",
        "prefsim.losses.density_ratio_weights",
    ),
)


def pairs(chosen: Any, rejected: Any) -> losses.PairLogps:
    """Return pairs with these rewards at β = 1, each ``(n,)``."""
    chosen, rejected = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(r, dtype=np.float64)) for r in (chosen, rejected))
    )
    return losses.PairLogps(chosen, rejected, np.zeros_like(chosen), np.zeros_like(chosen))


def thumbs(rewards: Any, desirable: Any) -> losses.UnpairedLogps:
    """Return completions with these rewards at β = 1, each ``(..., n)``."""
    rewards = np.asarray(rewards, dtype=np.float64)
    return losses.UnpairedLogps(
        rewards, np.zeros_like(rewards), np.broadcast_to(np.asarray(desirable), rewards.shape)
    )


def gap(chosen: Any, rejected: Any, shift: float) -> np.ndarray:
    """Return the BCE of a pair less its DPO loss, ``(n,)``."""
    both = pairs(chosen, rejected)
    return losses.bco_pair(both, beta=1.0, shift=float(shift)) - losses.dpo(both, beta=1.0)


def upper_bound(instance: tuple[np.ndarray, np.ndarray, float]) -> Verdict:
    w, lose, shift = instance
    found = gap(w, lose, shift)
    formula = np.log1p((np.exp(shift - w) + np.exp(lose - shift)) / (1 + np.exp(lose - w)))
    return Verdict(
        max(float((np.abs(found - formula) / (1 + formula)).max()), float((found <= 0).any())),
        f"least gap {found.min():.3g}",
    )


def pair_optimum(instance: tuple[float, float]) -> Verdict:
    w, lose = instance
    middle = (w + lose) / 2
    found = minimize_scalar(
        lambda d: gap(w, lose, d)[0], bracket=(middle - 1, middle + 1.5), tolerance=1e-10
    )
    half = (lose - w) / 2
    formula = np.log1p(2 * np.exp(half) / (1 + np.exp(2 * half)))
    far = max(abs(found.fun - formula), abs(gap(w, lose, middle)[0] - formula))
    ends = max(
        abs(gap(w, w, w)[0] - np.log(2)),
        gap(middle + 40, middle - 40, middle)[0],
        formula - np.log(2),
        0.0,
    )
    return Verdict(
        max(float(far), float(ends), 1e-7 * abs(found.x - middle)),
        f"δ {found.x:.6f}, middle {middle:.6f}",
    )


def batch_shift(instance: tuple[np.ndarray, np.ndarray]) -> Verdict:
    def best(scale: float) -> tuple[float, float]:
        r_w, r_l = scale * instance[0], scale * instance[1]
        found = minimize_scalar(
            lambda d: logsumexp(np.r_[d - r_w, r_l - d]), bracket=(-1, 1.5), tolerance=1e-12
        )
        return float(found.x), float(logsumexp(r_l) - logsumexp(-r_w)) / 2

    found, formula = best(1.0)
    small, largest = 1e-3, max(float(np.abs(part).max()) for part in instance)
    mean = small * (instance[0].mean() + instance[1].mean()) / 2
    second_order = max(0.0, abs(best(small)[1] - mean) - (small * largest) ** 2)
    return Verdict(
        max(1e-3 * abs(found - formula), second_order), f"search {found:.6f}, formula {formula:.6f}"
    )


class Prompts(NamedTuple):
    """Prompt laws of both classes, rewards of a negative for each prompt, the share of positives in the classifier's data, clipping."""

    positive: np.ndarray
    negative: np.ndarray
    rewards: np.ndarray
    share: float = 0.5
    low: float = 0.0
    high: float = 1e9


def matching(case: Prompts) -> Verdict:
    up, down = case.share * case.positive, (1 - case.share) * case.negative
    weights = losses.density_ratio_weights(up / (up + down), low=case.low, high=case.high)
    negatives = thumbs(case.rewards, False)
    found = float(
        case.negative @ losses.bco_unpaired(negatives, beta=1.0, shift=0.2, density_ratio=weights)
    )
    inflation = case.share / (1 - case.share)
    expected = inflation * float(
        case.positive @ losses.bco_unpaired(negatives, beta=1.0, shift=0.2)
    )
    return Verdict(
        abs(found - expected) / (1 + expected),
        f"weighted {found:.6g}, on the positives' prompts {expected:.6g}",
    )


@st.composite
def _prompts(draw: st.DrawFn, *, clip: bool = False, missing: bool = False) -> Prompts:
    up, down, rewards = (
        draw(tables((6,), low=0.02, high=1.0)),
        draw(tables((6,), low=0.02, high=1.0)),
        draw(tables((6,), low=-4.0, high=4.0)),
    )
    if missing:
        down[0] = 0.0
    limits = (0.5, 10.0) if clip else (0.0, 1e9)
    return Prompts(
        up / up.sum(), down / down.sum(), rewards, draw(st.sampled_from([0.5, 0.75])), *limits
    )


class Counts(NamedTuple):
    """Thumbs up and down of each response to one prompt, the reference and β."""

    up: np.ndarray
    down: np.ndarray
    reference: np.ndarray
    beta: float


def closed_form(case: Counts) -> tuple[np.ndarray, float]:
    """Return π* ∝ π_ref (n₊/n₋)^{1/β} and δ*, which normalises it."""
    with np.errstate(divide="ignore"):
        scores = np.log(case.reference) + (np.log(case.up) - np.log(case.down)) / case.beta
        total = logsumexp(scores)
    with np.errstate(invalid="ignore"):
        return np.exp(scores - total), float(-case.beta * total)


def counts_optimum(case: Counts) -> Verdict:
    import torch

    log_reference = torch.tensor(np.log(case.reference))
    size, rows = (
        case.up.size,
        torch.tensor(np.r_[case.up, case.down] / (case.up.sum() + case.down.sum())),
    )
    desirable = torch.arange(2 * size) < size

    def value(point: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.tensor(point, requires_grad=True)
        logp = torch.log_softmax(theta[:size], dim=0)
        both = losses.UnpairedLogps(logp.repeat(2), log_reference.repeat(2), desirable)
        total = (rows * losses.bco_unpaired(both, beta=case.beta, shift=theta[size])).sum()
        (gradient,) = torch.autograd.grad(total, theta)
        return float(total.detach()), to_numpy(gradient)

    start = np.append(np.log(case.reference), 0.0)
    found = minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
    probs, shift = closed_form(case)
    fitted = np.exp(found.x[:size] - logsumexp(found.x[:size]))
    with np.errstate(invalid="ignore"):
        error = np.abs(np.append(fitted - probs, found.x[size] - shift)).max()
    return Verdict(
        float(error) if np.isfinite(error) else np.inf,
        f"fitted {fitted}, δ {found.x[size]:.6f}; closed form {probs}, δ {shift:.6f}",
    )


@st.composite
def _counts(draw: st.DrawFn, zero: bool = False) -> Counts:
    up, down = (
        np.asarray(draw(st.lists(st.floats(5, 30), min_size=3, max_size=3))) for _ in range(2)
    )
    reference = draw(tables((3,), low=0.2, high=1.0))
    down[0] *= 0.0 if zero else 1.0
    return Counts(up, down, reference / reference.sum(), draw(st.floats(0.4, 2.0)))


def twice_bradley_terry(instance: tuple[float, bool]) -> Verdict:
    p, normalised = instance
    if normalised:
        reference = TabularPolicy.uniform(1, 2)
        data = Comparisons([0], [0], [1], prob=p)
        log_probs = fit(
            reference, functools.partial(losses.bco_pair, beta=1.0), data, reference=reference
        ).policy.log_probs[0]
        found = log_probs - np.log(0.5)
    else:

        def risk(a: float, b: float) -> float:
            return float(
                p * losses.bco_pair(pairs(a, b), beta=1.0)[0]
                + (1 - p) * losses.bco_pair(pairs(b, a), beta=1.0)[0]
            )

        first = minimize_scalar(lambda a: risk(a, 0.0), tolerance=1e-12).x
        found = np.asarray([first, minimize_scalar(lambda b: risk(first, b), tolerance=1e-12).x])
    error = float(np.abs(found - logit(p) * np.asarray([1, -1])).max())
    return Verdict(
        error, f"scores {found}, logit p {logit(p):.6f}, margin {found[0] - found[1]:.6f}"
    )


def global_shift(instance: tuple[str, np.ndarray, float]) -> Verdict:
    rule, rewards, constant = instance
    desirable = np.arange(rewards.size) % 2 == 0

    def value(moved: np.ndarray) -> np.ndarray:
        shift = {
            "batch": None,
            "none": 0.0,
            "running": losses.RewardShift().updated(rewards).updated(moved).mean,
        }[rule]
        return losses.bco_unpaired(thumbs(moved, desirable), beta=1.0, shift=shift)

    return Verdict(
        float(np.abs(value(rewards + constant) - value(rewards)).max()), f"shift: {rule}"
    )


def no_gradient_through_shift(instance: tuple[np.ndarray, bool]) -> Verdict:
    import torch

    rewards, attached = np.append(instance[0], 0.3), instance[1]
    desirable = np.arange(rewards.size) % 2 == 0
    r = torch.tensor(rewards, requires_grad=True)
    logps = losses.UnpairedLogps(r, torch.zeros_like(r), torch.tensor(desirable))
    total = losses.bco_unpaired(logps, beta=1.0, shift=r.mean() if attached else None).sum()
    found = to_numpy(torch.autograd.grad(total, r)[0])
    z = rewards - rewards.mean()
    return Verdict(float(np.abs(found - np.where(desirable, -expit(-z), expit(z))).max()))


_rewards = margins(8.0, size=4)
_batch = st.tuples(tables((5,), low=-4.0, high=4.0), st.floats(0.5, 5.0))

CLAIMS = (
    Claim(
        "B1", "inequality", "ℓ(r_w − δ) + ℓ(−(r_l − δ)) exceeds ℓ(r_w − r_l) for every δ, by the stated gap.", "theorem 1",
        st.tuples(_rewards, _rewards, st.sampled_from([0.0, 0.7, -2.0])), upper_bound, 1e-13,
    ),
    Claim(
        "B2", "minimiser", "For one pair the best δ is (r_w + r_l)/2; the gap is then at most log 2, its value at r_w = r_l, and vanishes "
        "with |r_w − r_l|.", "section on reward shift", st.tuples(st.floats(-6, 6), st.floats(-6, 6)), pair_optimum, 1e-11,
    ),
    Claim(
        "B3", "identity", "E[e^{δ − r_w} + e^{r_l − δ}] is least at δ = ½ log(E e^{r_l}/E e^{−r_w}), whose first order is the mean reward.",
        "section on reward shift", st.tuples(tables((6,), low=-3.0, high=3.0), tables((6,), low=-3.0, high=3.0)), batch_shift, 1e-9,
    ),
    Claim(
        "B4", "identity", "Weights p₊/p₋ make negatives as if drawn with the positives' prompts; unbalanced classes inflate them by n₊/n₋.",
        "underlying distribution matching", _prompts(), matching, 1e-12, breaks=_prompts(clip=True) | _prompts(missing=True),
    ),
    Claim(
        "B5", "minimiser", "With δ free the optimum on one prompt is π_ref (n₊/n₋)^{1/β}, normalised by δ.", "derivation",
        _counts(), counts_optimum, 1e-6, breaks=_counts(zero=True), examples=5,
    ),
    Claim(
        "B6", "minimiser", "On pairs won with probability p, free scores are ± logit p: a margin twice Bradley–Terry's.", "derivation",
        st.tuples(st.floats(0.05, 0.95), st.just(False)), twice_bradley_terry, 1e-6,
        breaks=st.tuples(st.floats(0.6, 0.9), st.just(True)), examples=12,
    ),
    Claim(
        "B7", "invariance", "With δ the mean reward a constant on all rewards changes nothing.", "section on reward shift",
        _batch.map(lambda x: ("batch", *x)), global_shift, 1e-12,
        breaks=_batch.map(lambda x: ("none", *x)) | _batch.map(lambda x: ("running", *x)),
    ),
    Claim(
        "B8", "identity", "The gradient is −σ(−(r₊ − δ)) and σ(r₋ − δ): none flows through δ.", "eqs. 7–8",
        st.tuples(_rewards, st.just(False)), no_gradient_through_shift, 1e-12, breaks=st.tuples(_rewards, st.just(True)),
    ),
)  # fmt: skip


def reproduce(run: Run) -> Reproduction:
    """Train on thumbs whose prompts differ by class: with and without shift and matching, beside KTO and DPO; curves are illustrative."""
    from matplotlib.figure import Figure

    seeds, steps = (8, 120) if run.quick else (20, 400)
    gradients = _thumbs.matching_gradients(run.seed)
    matched, unmatched = (
        float(np.abs(gradients[name] - gradients["target"]).max())
        for name in ("matched", "unmatched")
    )
    paths = _thumbs.train(seeds, steps, run)
    criteria = (
        Criterion(
            "gradient with exact weights less that on the positives' prompts",
            "<= 1e-10",
            f"{matched:.2g}",
            matched <= 1e-10,
        ),
        Criterion("the same without weights", "> 1e-3", f"{unmatched:.3g}", unmatched > 1e-3),
        Criterion(
            "L_BCO − L_DPO > 0 along every path (theorem 1)",
            "positive",
            f"least {min(p.gap.min() for p in paths.values()):.3g} nats",
            bool(all((p.gap > 0).all() for p in paths.values())),
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "KL(π*‖π)": round(float(p.kl[-1].mean()), 4),
            "standard error": round(float(p.kl[-1].std() / np.sqrt(seeds)), 4),
            "reward": round(float(p.reward[-1].mean()), 4),
            "seeds": seeds,
        }
        for name, p in paths.items()
    ]
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, colour in (("BCE (δ = 0)", "tab:orange"), ("BCO", "tab:blue")):
        p = paths[name]
        for values, style, label in (
            (p.up, "-", "mean r, thumbs up"),
            (p.down, "--", "mean r, thumbs down"),
            (p.shift, ":", "δ"),
        ):
            axes[0].plot(
                p.steps, values.mean(axis=1), style, color=colour, label=f"{name}: {label}"
            )
        axes[1].plot(p.steps, p.gap.mean(axis=1), color=colour, lw=2, label=name)
    axes[0].set(
        xlabel="gradient steps",
        ylabel="implicit reward, nats",
        title="The shift follows the mean reward",
    )
    axes[0].set_ylim(bottom=1.7 * axes[0].get_ylim()[0])  # room for the legend
    axes[1].set(
        xlabel="gradient steps",
        ylabel="classifier loss − DPO loss, nats",
        title="An upper bound of DPO all along",
    )
    for name, p in paths.items():
        axes[2].errorbar(
            p.reward[-1].mean(),
            p.kl[-1].mean(),
            p.kl[-1].std() / np.sqrt(seeds),
            fmt="o",
            ms=7,
            capsize=3,
            label=name,
        )
    axes[2].set(
        xlabel="expected reward",
        ylabel="KL(π*‖π), nats",
        title="Where each method ends (± standard error)",
    )
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(
        "Thumbs up and down from different prompts: what the shift and the prompt weights do"
        f" ({seeds} data sets, {steps} steps)"
    )
    return Reproduction(figure, table, criteria)

"""ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood (arXiv:2409.10571).

The chosen response is classified by its own log-odds, not against the rejected one; what that does
to DPO's falling likelihoods.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from paper_repros._asft_paths import (
    ALIGNMENT,
    ASFT,
    DPO,
    METHODS,
    ORPO,
    SHARED,
    STRONG,
    TABULAR,
    from_odds,
    pair,
    prob_gradients,
    ratio_field,
    trajectory,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.testing import betas, margins, tables

PAPER = Paper(
    slug="asft",
    title="ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood",
    arxiv="2409.10571",
    year=2024,
    family="direct",
    summary=(
        "Classify each response by its own log-odds, not by a margin, so that the chosen one is"
        " always pulled harder."
    ),
    implements=("prefsim.losses.asft", "prefsim.losses.orpo"),
)

_PROB = st.floats(1e-6, 1 - 1e-6)
_WEIGHTS = st.floats(0.01, 3.0)


def _relative(found: Any, expected: Any) -> float:
    found, expected = np.asarray(found), np.asarray(expected)
    return float((np.abs(found - expected) / (1 + np.abs(expected))).max())


def absolute_likelihood(instance: tuple[float, float, float, float, float]) -> Verdict:
    p_w, p_l, weight, sft_weight, beta = instance
    found = losses.asft(pair(p_w, p_l), lambda_=weight, beta=beta, sft_weight=sft_weight)[0]
    expected = -(sft_weight + weight) * np.log(p_w) - weight * np.log1p(-p_l)
    # The logistic form of the definition, with the log-odds themselves.
    defined = -sft_weight * np.log(p_w) + weight * (
        np.logaddexp(0, -beta * logit(p_w)) + np.logaddexp(0, beta * logit(p_l))
    )
    return Verdict(
        _relative([found, defined], expected),
        f"loss {found}, definition {defined}, closed form {expected}",
    )


def above_orpo(odds: np.ndarray) -> Verdict:
    f_w, f_l = odds
    logps = from_odds(odds[:1], odds[1:])
    odds_ratio_term = losses.orpo(logps, lambda_=1.0) + logps.chosen
    gap = float((ALIGNMENT(logps) - odds_ratio_term)[0])
    formula = np.log1p((np.exp(-f_w) + np.exp(f_l)) / (1 + np.exp(f_l - f_w)))
    return Verdict(
        max(abs(gap - formula), 0.0 if gap > 0 else 1.0), f"gap {gap:.6g}, formula {formula:.6g}"
    )


def gradients(instance: tuple[np.ndarray, float, float, float]) -> Verdict:
    (p_w, p_l, ref_w, ref_l), beta, weight, sft_weight = instance
    logps = pair(p_w, p_l, ref_w, ref_l)
    pull = beta * expit(-beta * (np.log(p_w / ref_w) - np.log(p_l / ref_l)))
    push = weight * expit(logit(p_l) - logit(p_w))
    rows = (
        (functools.partial(losses.dpo, beta=beta), -pull / p_w, pull / p_l),
        (
            functools.partial(losses.asft, lambda_=weight, sft_weight=sft_weight),
            -(sft_weight + weight) / p_w,
            weight / (1 - p_l),
        ),
        (
            functools.partial(losses.orpo, lambda_=weight),
            -1 / p_w - push / (p_w * (1 - p_w)),
            push / (p_l * (1 - p_l)),
        ),
    )
    return Verdict(
        max(_relative(np.ravel(prob_gradients(loss, logps)), formula) for loss, *formula in rows)
    )


def gradient_ratio(logps: losses.PairLogps) -> Verdict:
    down, up = (np.abs(g)[0] for g in prob_gradients(ALIGNMENT, logps)[::-1])
    length = np.asarray(logps.chosen_length)
    p_w, p_l = np.exp(logps.chosen / length)[0], np.exp(logps.rejected / length)[0]
    above_one = max(0.0, down / up - 1)
    dpo = prob_gradients(
        functools.partial(losses.dpo, beta=0.1),
        logps._replace(chosen_length=np.ones(1), rejected_length=np.ones(1)),
    )
    dpo_ratio, whole = np.abs(dpo[1] / dpo[0])[0], np.exp(logps.chosen - logps.rejected)[0]
    wrong = max(
        _relative(down / up, p_w / (1 - p_l)),
        _relative(dpo_ratio, whole),
        float((dpo_ratio > 1 + 1e-9) != (whole > 1 + 1e-9)),
    )
    return Verdict(max(above_one, wrong), f"ASFT ratio {down / up:.4g}, DPO ratio {dpo_ratio:.4g}")


def _sequences(tokens: int) -> st.SearchStrategy[losses.PairLogps]:
    """Two of three responses of ``tokens`` tokens each; their whole probabilities sum to less than one."""
    length = np.full(1, float(tokens))

    def of(logits: np.ndarray) -> losses.PairLogps:
        logp = logits - np.logaddexp.reduce(logits)
        return losses.PairLogps(logp[:1], logp[1:2], np.zeros(1), np.zeros(1), length, length)

    return tables((3,), low=-4.0, high=4.0).map(of)


def shared_features(features: np.ndarray) -> Verdict:
    paths = {method: trajectory(features, method, 60)[:, 0] for method in (DPO, ORPO, ASFT)}
    rises = max(0.0, float(paths[DPO][-1] - paths[DPO][0]))
    falls = max(float(paths[m][0] - paths[m].min()) for m in (ORPO, ASFT))
    return Verdict(
        max(rises, falls), ", ".join(f"{m}: {p[0]:.4f} to {p[-1]:.4f}" for m, p in paths.items())
    )


class Frequencies(NamedTuple):
    """How often each response is chosen and rejected, and the weights of the loss."""

    chosen: np.ndarray
    rejected: np.ndarray
    lambda_: float = 0.1
    sft_weight: float = 1.0


def kkt_policy(case: Frequencies) -> tuple[np.ndarray, float]:
    """Return the minimiser of −(c + λ) Σ c log π − λ Σ d log(1 − π) and its multiplier, from the KKT equations alone.

    At a multiplier ν each π solves νπ² − (c' + λd + ν)π + c' = 0, and falls in ν; one root find
    makes them sum to one.
    """
    pull, push = (case.sft_weight + case.lambda_) * case.chosen, case.lambda_ * case.rejected

    def probs(multiplier: float) -> np.ndarray:
        b = pull + push + multiplier
        return 2 * pull / (b + np.sqrt((pull - push - multiplier) ** 2 + 4 * pull * push))

    multiplier = brentq(lambda v: probs(v).sum() - 1, -1e3, 1e3, xtol=1e-14)
    return probs(multiplier), multiplier


def kkt(case: Frequencies) -> Verdict:
    size = case.chosen.size
    first, second = np.indices((size, size)).reshape(2, -1)
    data = Comparisons(
        np.zeros(size**2, int), first, second, weight=np.outer(case.chosen, case.rejected).ravel()
    )
    loss = functools.partial(losses.asft, lambda_=case.lambda_, sft_weight=case.sft_weight)
    fitted = fit(TabularPolicy.uniform(1, size), loss, data).policy.probs[0]
    expected, multiplier = kkt_policy(case)
    return Verdict(
        float(np.abs(fitted - expected).max()),
        f"fitted {fitted}, KKT {expected}, multiplier {multiplier}",
    )


def _frequencies() -> st.SearchStrategy[Frequencies]:
    rows = st.integers(3, 6).flatmap(
        lambda n: st.tuples(tables((n,), low=0.1, high=1.0), tables((n,), low=0.1, high=1.0))
    )
    return st.builds(
        lambda r, w, c: Frequencies(r[0] / r[0].sum(), r[1] / r[1].sum(), w, c),
        rows,
        st.floats(0.02, 1.0),
        st.floats(0.5, 2.0),
    )


def limits(instance: tuple[np.ndarray, float]) -> Verdict:
    odds, weight = instance
    f_w, f_l = np.split(odds, 2)
    logps = from_odds(f_w, f_l)
    sft = _relative(losses.asft(logps, lambda_=0.0), losses.sft(logps))
    classifier = weight * losses.bco_pair(logps._replace(chosen=f_w, rejected=f_l), beta=1.0)
    return Verdict(
        max(sft, _relative(losses.asft(logps, lambda_=weight, sft_weight=0.0), classifier))
    )


def prompt_constant(instance: tuple[str, float, float, float]) -> Verdict:
    name, p_w, p_l, factor = instance
    loss = getattr(losses, name)
    before, after = loss(pair(p_w, p_l))[0], loss(pair(factor * p_w, factor * p_l))[0]
    return Verdict(abs(after - before), f"{name}: {before:.6g} to {after:.6g}")


def _moved(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, float, float, float]]:
    return st.tuples(
        st.sampled_from(names), st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.floats(0.1, 0.9)
    )


_one_feature = st.floats(0.2, 0.9).map(lambda gap: np.asarray([[1.0], [1.0 + gap], [-1.0]]))
_any_weights = st.tuples(_PROB, _PROB, _WEIGHTS, _WEIGHTS)

CLAIMS = (
    Claim(
        "A1", "identity", "At β = 1 the loss is −(c + λ) log p_w − λ log(1 − p_l).", "eq. 4, definitions (1)–(3)",
        _any_weights.map(lambda x: (*x, 1.0)), absolute_likelihood, 1e-13,
        breaks=st.tuples(_PROB, _PROB, _WEIGHTS, _WEIGHTS, st.floats(0.1, 0.8)),
    ),
    Claim(
        "A2", "inequality", "The alignment term exceeds ORPO's by log(1 + (e^{−f_w} + e^{f_l})/(1 + e^{f_l − f_w})) > 0.", "derivation",
        margins(12.0, size=2), above_orpo, 1e-10,
    ),
    Claim(
        "A3", "identity", "Gradients in the probabilities of DPO, ASFT and ORPO are the stated ones.", "gradient analysis, eqs. 5–7",
        st.tuples(tables((4,), low=0.01, high=0.99), betas(0.05, 2.0), _WEIGHTS, _WEIGHTS), gradients, 1e-11,
    ),
    Claim(
        "A4", "inequality", "The gradient on p_l is p_w/(1 − p_l) < 1 times that on p_w (two of the responses of one distribution); "
        "DPO's ratio p_w/p_l exceeds 1 wherever p_l < p_w.", "gradient analysis", _sequences(1), gradient_ratio, 1e-9,
        breaks=_sequences(5),
    ),
    Claim(
        "A5", "counterexample", "With a feature shared by both responses DPO lowers π(w); ORPO and ASFT do not.", "checked by construction",
        _one_feature, shared_features, 0.0, breaks=st.just(TABULAR), examples=3,
    ),
    Claim(
        "A6", "minimiser", "The tabular minimiser satisfies (c + λ)c(y)/π(y) − λd(y)/(1 − π(y)) = const.", "derivation, KKT",
        _frequencies(), kkt, 1e-9, examples=12,
    ),
    Claim(
        "A7", "limit", "λ = 0 is SFT; without SFT it is the point-wise logistic classifier (BCO without shift) of the log-odds.", "eq. 3",
        st.tuples(margins(15.0, size=6), _WEIGHTS), limits, 1e-12,
    ),
    Claim(
        "A8", "invariance", "A prompt constant on both log-likelihoods does not move DPO; it moves ASFT and ORPO.", "derivation",
        _moved(("dpo", "ipo", "rdpo")), prompt_constant, 1e-12, breaks=_moved(("asft", "orpo")),
    ),
)  # fmt: skip

# Ends of the page's trajectories: method, step, π(w).
ENDS = ((DPO, 100, 0.2834), (ORPO, -1, 0.3765), (ASFT, -1, 0.3769), (STRONG, -1, 0.3628))


def reproduce(run: Run) -> Reproduction:
    """Follow DPO, ORPO and ASFT on one pair, with shared features and with a table, and compare their gradient fields."""
    from matplotlib.figure import Figure

    long, short = (200, 200) if run.quick else (2000, 500)
    wanted = [(space, m) for space in ("shared", "table") for m in METHODS]
    paths = {
        (space, m): trajectory(
            SHARED if space == "shared" else TABULAR, m, long if m == DPO else short
        )
        for space, m in run.progress(wanted, "trajectories")
    }
    criteria = []
    for m, step, expected in ENDS:
        value, when = (
            float(paths["shared", m][step, 0]),
            f"after {step} steps" if step > 0 else "at the end",
        )
        criteria.append(
            Criterion(
                f"shared feature, {m}: π(w) {when}",
                f"{expected} ± 1e-4",
                round(value, 5),
                abs(value - expected) <= 1e-4,
            )
        )
    if not run.quick:
        ends = paths["shared", DPO][-1, :2]
        near = bool(np.allclose(ends, [8.3e-5, 8e-6], rtol=0.02))
        criteria.append(
            Criterion(
                "shared feature, DPO, 2000 steps: π(w), π(l)",
                "8.3e-5, 8e-6",
                f"{ends[0]:.2e}, {ends[1]:.2e}",
                near,
            )
        )
    for m in METHODS:
        chosen = paths["shared", m][:, 0]
        ok = bool(chosen[-1] < chosen[0]) if m == DPO else bool(chosen.min() >= chosen[0])
        said = "falls below its start" if m == DPO else "never below its start"
        criteria.append(
            Criterion(
                f"shared feature, {m}: π(w)",
                said,
                f"least {chosen.min():.4f}, start {chosen[0]:.4f}",
                ok,
            )
        )
    rises = float(paths["table", DPO][-1, 0] - paths["table", DPO][0, 0])
    criteria.append(Criterion("table, DPO: π(w)", "rises", f"{rises:+.4f}", rises > 0))
    fields = {"DPO": ratio_field(METHODS[DPO]), "ASFT alignment": ratio_field(ALIGNMENT)}
    p_l, p_w = np.meshgrid(fields["DPO"][0], fields["DPO"][0], indexing="ij")
    for name, excess, said in (
        ("DPO", p_w - p_l, "p_w > p_l"),
        ("ASFT alignment", p_w + p_l - 1, "p_w + p_l > 1"),
    ):
        off = np.abs(excess) > 1e-9
        right = bool(((fields[name][1] > 1) == (excess > 0))[off].all())
        criteria.append(
            Criterion(
                f"{name}: gradient ratio > 1", f"exactly where {said}", f"{off.sum()} points", right
            )
        )
    table: list[dict[str, str | float | int]] = [
        {
            "policy": space,
            "method": m,
            "steps": len(path) - 1,
            "π(w)": round(w, 6),
            "π(l)": round(lose, 6),
            "π(other)": round(o, 6),
        }
        for (space, m), path in paths.items()
        for w, lose, o in [map(float, path[-1])]
    ]
    figure = Figure(figsize=(15, 7), layout="constrained")
    axes = figure.subplots(2, 4)
    titles = {"shared": "shared feature", "table": "one logit per response"}
    for row, space in enumerate(titles):
        for axis, m in zip(axes[row], (DPO, ORPO, ASFT), strict=False):
            for y, (label, colour) in enumerate(
                {"chosen": "tab:green", "rejected": "tab:red", "other": "0.5"}.items()
            ):
                axis.plot(np.log(paths[space, m][: short + 1, y]), color=colour, label=label, lw=2)
            axis.axhline(np.log(1 / 3), color="0.7", ls=":", lw=1)
            axis.set(
                title=f"{m} ({titles[space]})",
                xlabel="gradient steps of 0.1",
                ylabel="log π, nats",
                ylim=(-6.5, 0.1),
            )
    axes[0, 0].legend(frameon=False, title="response")
    levels = np.log10([0.1, 0.2, 0.5, 1, 2, 5, 10])
    for axis, (name, (grid, values)) in zip(axes[:, 3], fields.items(), strict=True):
        shown = axis.contourf(
            grid, grid, np.log10(values), levels=levels, cmap="RdBu_r", extend="both"
        )
        axis.contour(grid, grid, np.log10(values), levels=[0.0], colors="k", linewidths=2)
        axis.set(
            title=f"{name}: push / pull (black: equal)",
            xlabel="p(chosen)",
            ylabel="p(rejected)",
            aspect="equal",
        )
        bar = figure.colorbar(shown, ax=axis, label="|∂L/∂p_l| / |∂L/∂p_w|")
        bar.set_ticks(list(levels), labels=["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    figure.suptitle(
        "With a shared feature DPO loses both responses; ASFT and ORPO keep the chosen one and lift"
        " the rejected one with it"
    )
    return Reproduction(figure, table, tuple(criteria))

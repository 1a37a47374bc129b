"""Negating Negatives: Alignment without Human Positive Samples via Distributional Dispreference Optimization (arXiv:2403.03419).

Rejected responses alone, held against the distribution of the model's own samples: the anchor keeps
the rest of the policy in place.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from paper_repros import _d2o_checks as checks
from paper_repros import _d2o_paths as paths
from prefsim.numerics import log_softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run
from prefsim.testing import betas, tables

PAPER = Paper(
    slug="d2o",
    title=(
        "Negating Negatives: Alignment without Human Positive Samples via Distributional"
        " Dispreference Optimization"
    ),
    arxiv="2403.03419",
    year=2024,
    family="direct",
    summary=(
        "Rejected responses go down against the mean log-ratio of the model's own samples, which"
        " anchors the policy to its reference."
    ),
    implements=("prefsim.losses.d2o", "prefsim.data.Negatives"),
)


CLAIMS = (
    Claim(
        "D1", "inequality", "The distribution-level loss is at most the mean instance-level one: DPO with each sample as chosen.",
        "theorem on the distributional preference model; Jensen", st.integers(1, 5).flatmap(checks.sets), checks.below_instance, 1e-12,
        breaks=checks.sets(3, other=True),
    ),
    Claim(
        "D2", "identity", "With K = 1 and α = β it is DPO; with samples as likely as before and α = β it is β/2 times NPO.", "derivation",
        checks.sets(1), checks.special_cases, 1e-12, breaks=checks.sets(2),
    ),
    Claim(
        "D3", "minimiser", "For α < βρ the exact loss has the optimum π(y_l) = (βρ − α)/(β − α) < ρ, and the other responses keep the "
        "reference's proportions.", "derivation", checks.unlearns(0.05, 0.9), checks.optimum, 1e-8,
        breaks=checks.unlearns(0.05, 0.15, checks.COUNTS), examples=10,
    ),
    Claim(
        "D4", "limit", "For α >= βρ the loss falls all the way as π(y_l) → 0 (to 0 if α > βρ), at best with the reference's proportions.",
        "derivation", st.tuples(checks.unlearns(1.1, 3.0) | checks.unlearns(1.0, 1.0), tables((4,), low=-2.0, high=2.0)),
        checks.divergent, 1e-8,
        breaks=st.tuples(checks.unlearns(0.1, 0.8), tables((4,), low=-2.0, high=2.0)),
    ),
    Claim(
        "D5", "identity", "The expected anchor is −KL(π_ref‖π), at most 0.", "derivation",
        checks.laws(), checks.forward_kl, 1e-12, breaks=checks.laws(True),
    ),
    Claim(
        "D6", "identity", "With online samples the anchor has the value KL(π‖π_ref) and zero mean gradient; it exceeds the offline one "
        "by the Jeffreys divergence of the two.", "theorem on the Jeffrey divergence, form derived here",
        checks.laws(), checks.online, 1e-12, breaks=checks.laws(True),
    ),
    Claim(
        "D7", "inequality", "In four log-linear worlds D²O with exact anchor disturbs the other responses less than GA and NPO, at a tenth "
        "and a hundredth of π_ref(y_l).", "experiment; no theorem", st.tuples(st.integers(0, 3), st.just(20), st.just(6), st.just(2)),
        checks.least_disturbed, 0.0, breaks=st.tuples(st.sampled_from([33, 50, 90]), st.just(4), st.just(2), st.just(1)), examples=4,
    ),
    Claim(
        "D7-line", "identity", "At α = β the gradient flow of a log-linear policy is a straight line.", "derivation",
        st.integers(0, 10**6).map(paths.draw), checks.straight, 1e-7,
        breaks=st.integers(0, 10**6).map(lambda seed: paths.draw(seed)._replace(alpha=0.3)), examples=10,
    ),
    Claim(
        "D8", "monotone", "E L over K samples falls in K = 1, 2, 3, 4 and stays above the exact loss.", "derivation; Jensen",
        st.tuples(
            st.builds(checks.Unlearn, tables((4,), low=-2.0, high=2.0).map(log_softmax), betas(0.2, 4.0), st.floats(0.1, 5.0)),
            tables((4,), low=-3.0, high=3.0).map(log_softmax),
            st.just(4),
        ), checks.monotone_in_k, 1e-12,
    ),
)  # fmt: skip

COLOURS = {
    "GA": "tab:red",
    "NPO": "black",
    "D²O, exact": "tab:blue",
    "K = 1": "#c9b8e0",
    "K = 4": "#f5b461",
    "K = 16": "#7cc58a",
}
LABELS = {"GA": "gradient ascent (GA)"}
SAMPLES = (1, 4, 16)


def reproduce(run: Run) -> Reproduction:
    """Unlearn one response of four log-linear policies with GA, NPO and D²O, with the exact anchor and with K samples."""
    from matplotlib.figure import Figure

    repeats, sets_drawn = (5, 2000) if run.quick else (20, 20_000)
    levels = np.linspace(0.0, checks.LEVELS[-1], 25)[1:]
    criteria, table = [], []
    figure = Figure(figsize=(16, 4.8), layout="constrained")
    axes = figure.subplots(1, 4)
    at, apart, spread = [], [], []
    for axis, seed in zip(axes, run.progress(range(run.seed, run.seed + 4), "worlds"), strict=True):
        case, rng = paths.draw(seed), np.random.default_rng((run.seed, seed))
        curves = {
            m: paths.disturbances(case, *paths.flow(case, m, levels[-1]), levels)[None]
            for m in ("GA", "NPO")
        }
        curves["D²O, exact"] = paths.disturbances(case, paths.line(case), None, levels)[None]
        for k in SAMPLES:
            lines = [
                paths.line(case, shares) for shares in paths.sampled_shares(case, k, repeats, rng)
            ]
            curves[f"K = {k}"] = np.stack(
                [paths.disturbances(case, path, None, levels) for path in lines]
            )
        for name, kl in curves.items():
            drawn = np.insert(kl[:5], 0, 0.0, axis=1)
            several = len(drawn) > 1
            style = (
                {"lw": 0.9}
                if several
                else {"lw": 2.4, "zorder": 3, "ls": "--" if name == "NPO" else "-"}
            )
            label = [f"D²O, {name}" if several else LABELS.get(name, name)] + [None] * (
                len(drawn) - 1
            )
            axis.plot(np.append(0.0, levels), drawn.T, color=COLOURS[name], label=label, **style)
            marks = [kl[:, np.abs(levels - level).argmin()] for level in checks.LEVELS]
            table.append({
                "seed": seed, "method": name, "paths to 0.01ρ": f"{np.isfinite(marks[1]).sum()} of {len(kl)}",
                "KL(rest) at 0.1ρ": round(float(np.nanmedian(marks[0])), 4), "KL(rest) at 0.01ρ": round(float(np.nanmedian(marks[1])), 4),
            })  # fmt: skip
        axis.invert_xaxis()
        axis.set(
            xlabel="log π(y_l)/π_ref(y_l), nats",
            title=f"world {seed}",
            ylim=(0, 1.6 * float(curves["GA"].max())),
        )
        at.append(
            [
                [
                    float(curves[m][0, np.abs(levels - level).argmin()])
                    for m in ("D²O, exact", "GA", "NPO")
                ]
                for level in checks.LEVELS
            ]
        )
        apart.append(float(np.abs(curves["NPO"] / curves["GA"] - 1).max()))
        middle = paths.line(case)(0.5)
        variance = [
            paths.sample_gradients(case, middle, paths.sampled_shares(case, k, sets_drawn, rng))
            .var(axis=0)
            .sum()
            for k in (4, 16)
        ]
        spread.append(float(variance[0] / variance[1]))
    found = np.asarray(at)
    for i, name in enumerate(("0.1ρ", "0.01ρ")):
        shown = ", ".join(f"{d:.3f} < {min(g, n):.3f}" for d, g, n in found[:, i])
        below = bool((found[:, i, 0] < found[:, i, 1:].min(axis=-1)).all())
        criteria.append(
            Criterion(
                f"KL(rest) at {name}: D²O (exact) below GA and NPO", "4 of 4 worlds", shown, below
            )
        )
    criteria.append(
        Criterion(
            "GA and NPO: one curve", "within 2 %", f"within {max(apart):.2g}", max(apart) < 0.02
        )
    )
    shown = ", ".join(f"{x:.2f}" for x in spread)
    fair = all(abs(x - 4) <= 1 for x in spread)
    criteria.append(
        Criterion(
            "variance of the K-sample gradient, K = 4 over K = 16", "4 ± 1 (∝ 1/K)", shown, fair
        )
    )
    axes[0].set_ylabel("KL(π_ref‖π) on the other responses, nats")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(
        "Unlearning one of 20 responses: D²O with its exact anchor disturbs the others less than GA"
        " and NPO; with few samples it need not"
    )
    return Reproduction(figure, table, tuple(criteria))

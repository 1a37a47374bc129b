"""OSP: Online Self-Preferring Language Models (arXiv:2405.14103).

The model judges pairs of its own responses and learns from how strongly it prefers, by a
cross-entropy with soft labels.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from paper_repros import _osp_checks as checks
from paper_repros import _osp_training as training
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run
from prefsim.testing import betas, margins, tables

PAPER = Paper(
    slug="osp",
    title="Online Self-Preferring Language Models",
    arxiv="2405.14103",
    year=2024,
    family="selfimprove",
    summary=(
        "A model samples, judges its own pairs and learns from the strengths of its preferences by"
        " a cross-entropy with soft labels."
    ),
    implements=(
        "prefsim.losses.spce",
        "prefsim.data.ranked_pairs.ranked_pairs",
        "prefsim.raters.both_orders",
        "prefsim.loops.self_preferring",
    ),
)


_probs = tables((4,), low=0.0, high=1.0)
_inner = st.floats(0.01, 0.99)
_connected = st.sampled_from(["all", "adjacent", "extremes"])

CLAIMS = (
    Claim("O1", "minimiser", "A pair's loss has the slope −β(p − σ(βh)) and is least at βh = logit p, finite for p in (0, 1).",
          "derivation", st.tuples(_inner, betas(0.05, 2.0)), checks.pair_minimiser, 1e-9,
          breaks=st.tuples(st.sampled_from([0.0, 1.0]), betas(0.05, 2.0)), examples=15),
    Claim("O2", "identity", "The loss is KL(p‖σ(βh)) + H(p) >= H(p); p = 1 is DPO, p = 1 − ε conservative DPO, p = ½ is least at h = 0.",
          "soft-preference cross-entropy loss", st.tuples(margins(30.0, size=4), _probs, betas(0.05, 2.0), st.floats(0.0, 0.49)),
          checks.decomposition, 1e-14),
    Claim("O3", "consistency", "If p = σ(r_i − r_j), the fit is π_ref e^{r/β}/Z for any weights of connected pairs.", "derivation",
          checks.judged_worlds(pairing=_connected), checks.population, 2e-8,
          breaks=checks.judged_worlds(cycle=st.just(1.0)) | checks.judged_worlds(pairing=st.just("top_bottom")), examples=8),
    Claim("O4", "identity", "A judge with log-odds c(r_i − r_j) gives π_ref e^{cr/β}/Z: over-confidence acts like a smaller β.",
          "derivation", checks.judged_worlds(temperature=st.floats(0.3, 2.0), bias=st.floats(-2.0, 2.0)), checks.population, 2e-8,
          breaks=checks.judged_worlds(bias=st.floats(1.0, 2.0), average=st.just("prob")), examples=6),
    Claim("O5", "identity", "A sampled label keeps the mean gradient and adds the variance β²p(1 − p) per pair.", "derivation",
          st.tuples(st.floats(-10.0, 10.0), _inner, betas(0.05, 2.0), st.just(False)), checks.label_noise, 1e-14,
          breaks=st.tuples(st.floats(-10.0, 10.0), _inner, betas(0.05, 2.0), st.just(True))),
    Claim("O6", "statistical", "Eight responses, 28 pairs labelled once: soft labels reach π* (KL < 10⁻³ from step 1000 on), sampled ones "
          "stay more than 0.1 away, argmax labels run off (KL more than doubles from step 1000 to 20000).", "abstract; experiment",
          st.just(((0, 1, 2), 1.0)), checks.overfitting, 0.0, breaks=st.just(((0, 1, 2), 2.0)), examples=1),
    Claim("O7", "identity", "A position bias added to the judge's log-odds cancels in their mean over both orders.", "derivation",
          st.tuples(st.floats(-5.0, 5.0), st.floats(-3.0, 3.0), st.just("logit")), checks.debiased, 1e-14,
          breaks=st.tuples(st.floats(0.3, 3.0), st.floats(0.5, 3.0), st.just("prob"))),
    Claim("O7-prob", "inequality", "The mean of probabilities is drawn towards ½ but keeps the side.", "derivation",
          st.tuples(st.floats(-5.0, 5.0), st.floats(-3.0, 3.0)), checks.drawn_to_half, 1e-14),
    Claim("O8", "invariance", "L(p, h) = L(1 − p, −h): swapping the two responses is harmless.", "derivation",
          st.tuples(margins(30.0, size=4), _probs, betas(0.05, 2.0), st.just(False)), checks.swapped, 1e-14,
          breaks=st.tuples(margins(30.0, size=4), tables((4,), low=0.6, high=1.0), betas(0.5, 2.0), st.just(True))),
)  # fmt: skip

COLOURS = {"soft": "tab:blue", "sampled": "tab:orange", "argmax": "tab:red"}
NAMES = {
    "soft": "soft: p itself",
    "sampled": "one label drawn from p",
    "argmax": "the likelier side as label",
}
TEMPERATURES = (0.5, 1.0, 2.0)


def reproduce(run: Run) -> Reproduction:
    """Train on three kinds of labels of one judge, and run the online loop with judges of three temperatures."""
    from matplotlib.figure import Figure

    seeds, steps = [run.seed + s for s in range(3)], 20_000
    path = training.train(seeds, steps)
    at = {t: path.kl[path.steps == t][0] for t in (100, 1000, steps)}
    criteria = [
        Criterion(
            "soft labels: KL(π*‖π) at step 100, first seed",
            "< 1e-3",
            f"{at[100][0, 0]:.2g}",
            bool(at[100][0, 0] < 1e-3),
        ),
        Criterion(
            "soft labels: largest KL(π*‖π) at steps 1000 and 20000, three seeds",
            "< 1e-3",
            f"{max(at[1000][0].max(), at[steps][0].max()):.2g}",
            bool(max(at[1000][0].max(), at[steps][0].max()) < 1e-3),
        ),
        Criterion(
            "one sampled label: plateau of KL(π*‖π) at step 20000",
            "> 0.1 in each of three seeds",
            ", ".join(f"{x:.3f}" for x in at[steps][1]),
            bool((at[steps][1] > 0.1).all()),
        ),
        Criterion(
            "argmax labels: KL(π*‖π) at step 20000 over step 1000",
            "> 2",
            ", ".join(f"{x:.2f}" for x in at[steps][2] / at[1000][2]),
            bool((at[steps][2] > 2 * at[1000][2]).all()),
        ),
    ]
    table: list[dict[str, str | float | int]] = []
    for k, name in enumerate(training.LABELS):
        for s, seed in enumerate(seeds):
            ends = {
                f"KL at step {t}": round(abs(float(values[k, s])), 4) for t, values in at.items()
            }
            table.append({"labels": name, "seed": str(seed), **ends})
    # Shorter rounds in quick mode.
    draws, epochs = (12, 12) if run.quick else (16, 30)
    worlds = seeds[:1] if run.quick else [run.seed + s for s in range(5)]
    loops = {
        c: training.online(c, worlds, draws=draws, epochs=epochs)
        for c in run.progress(TEMPERATURES, "judges")
    }
    for c, kl in loops.items():
        ends = {
            "KL before": round(float(kl[:, 0].mean()), 4),
            "KL after 10 rounds": round(float(kl[:, -1].mean()), 5),
        }
        table.append({"labels": f"online, c = {c:g}", "seed": f"mean of {len(worlds)}", **ends})
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for k, name in enumerate(training.LABELS):
        for axis, values in ((axes[0], np.maximum(path.kl, 1e-6)), (axes[1], path.reward)):
            label = [NAMES[name]] + [None] * (len(seeds) - 1)
            axis.plot(path.steps, values[:, k], color=COLOURS[name], lw=1.6, label=label)
    axes[0].set(
        xscale="log",
        yscale="log",
        ylim=(5e-7, 30),
        xlabel="gradient steps",
        ylabel="KL(π*‖π), nats (cut at 1e-6)",
        title="Soft labels end at the optimum",
    )
    axes[1].set(
        xscale="log",
        xlabel="gradient steps",
        ylabel="expected reward less that of π*",
        title="Argmax labels chase reward past the optimum",
    )
    for colour, (c, kl) in zip(
        ("tab:green", "tab:purple", "tab:brown"), loops.items(), strict=True
    ):
        axes[2].plot(
            np.arange(kl.shape[1]),
            np.maximum(kl.mean(axis=0), 1e-6),
            "o-",
            ms=4,
            color=colour,
            label=f"judge's temperature c = {c:g}",
        )
    axes[2].set(yscale="log", xlabel="online rounds (N = 4 samples, all pairs)", ylabel="KL(π*_c‖π), nats (cut at 1e-6)",
                title="Online: each judge has its own optimum π*_c")  # fmt: skip
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"Learning from judged strengths: 8 responses, 28 pairs judged once, {len(seeds)} seeds"
        " (left, middle); the online loop (right)"
    )
    return Reproduction(figure, table, tuple(criteria))

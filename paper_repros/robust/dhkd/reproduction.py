"""Which gradients conflict, and what a second head is worth to small students."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.robust.dhkd import distilled_students, neural_collapse
from paper_repros.robust.dhkd.distilled_students import (
    ALIGNED,
    CE,
    ONE_HEAD,
    RULES,
    Study,
)
from paper_repros.robust.dhkd.neural_collapse import Conflicts
from prefsim.analysis.intervals import mean_half_width
from prefsim.containers import DistillationLogits
from prefsim.losses import binary_kl, binary_kl_norm, distillation_kl
from prefsim.papers import Reproduction, Run, at_least, at_most, near, panels
from prefsim.papers.criteria import Criterion
from prefsim.papers.figures import BLUE, COLOURS
from prefsim.solvers.optimisers.gradient_alignment import aligned_gradient, without_conflict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Four classes: strength of the head, of the teacher on the label and elsewhere, and the sign of
# both cosines.
AT_COLLAPSE = ((2.0, 3.0, 1.0, 1.0), (3.0, 2.0, 2 / 3, -1.0), (2.0, 2.2, 0.1, -1.0))

STUDENT, TEACHER = np.array([[2.0, 0.5, -1.0]]), np.array([[3.0, -1.0, -0.5]])
KNOWN_LOSSES = (0.38774408324893433, 0.4297834739760573, 0.5224171573036314)
ALPHAS = (0.1, 1.0, 10.0)


def reproduce(run: Run) -> Reproduction:
    cases = neural_collapse.near_collapse(2000 if run.quick else 20000, run.seed)
    seeds = range(10 * run.seed, 10 * run.seed + (4 if run.quick else 10))
    names = ("Gaussian", "digits") if run.quick else tuple(distilled_students.SIZES)
    steps, alphas = (60, (1.0,)) if run.quick else (200, ALPHAS)
    found = [distilled_students.study(name, seeds, alphas, steps=steps, run=run) for name in names]
    studies = [study for study in found if study is not None]
    criteria = (
        *criteria_of_losses(),
        *criteria_of_conflicts(cases),
        *criteria_of_students(studies),
    )
    cut = (
        "2,000 draws rather than 20,000, 4 seeds rather than 10, two data sets, one weight and 60"
        " steps rather than 200"
    )
    return Reproduction(draw(cases, studies), table_of(studies), criteria, caption=CAPTION, cut=cut)


def criteria_of_losses() -> tuple[Criterion, ...]:
    pair = DistillationLogits(STUDENT, TEACHER)
    values = [float(loss(pair)[0]) for loss in (binary_kl, binary_kl_norm, distillation_kl)]
    alike = DistillationLogits(np.array([[-2.0, -1.0, 0.0]]), np.array([[2.0, 3.0, 4.0]]))
    main, auxiliary = np.array([1.0, 0.0, 1.0]), np.array([-2.0, 1.0, 0.0])
    aligned = [*without_conflict(auxiliary, main), *aligned_gradient(main, auxiliary)]
    return (
        near(
            "BinaryKL, its Norm and softmax distillation of one pair",
            values,
            KNOWN_LOSSES,
            within=1e-12,
            stated="derived",
        ),
        near(
            "softmax distillation and BinaryKL of (−2, −1, 0) from (2, 3, 4), equal probabilities",
            [float(distillation_kl(alike)[0]), float(binary_kl(alike)[0])],
            [0.0, 4.790972565269556],
            within=1e-12,
            stated="derived",
            paper="logits hold more than probabilities",
        ),
        near(
            "an auxiliary gradient (−2, 1, 0) beside (1, 0, 1): what is left, and the step",
            aligned,
            [-1.0, 1.0, 1.0, 0.0, 1.0, 2.0],
            within=1e-15,
            stated="paper",
        ),
    )


def criteria_of_conflicts(cases: Conflicts) -> tuple[Criterion, ...]:
    exact = [neural_collapse.collapsed(4, *case[:3])[0] for case in AT_COLLAPSE]
    head, backbone, _, _ = cases.counts()
    return (
        near(
            "cosines of head and features at exact collapse, three teachers",
            np.concatenate([[found.head, found.backbone] for found in exact]),
            np.repeat([case[3] for case in AT_COLLAPSE], 2),
            within=1e-12,
            stated="derived",
        ),
        at_least(
            "near collapse: cases where the head alone conflicts over those of the features alone",
            head / max(backbone, 1),
            5.0,
            stated="chosen",
            paper="the head conflicts, the backbone does not (theorem)",
        ),
        at_least(
            "near collapse: share of cases where the head alone conflicts",
            head / cases.head.size,
            0.01,
            stated="chosen",
        ),
    )


def criteria_of_students(studies: list[Study]) -> tuple[Criterion, ...]:
    gaussian = studies[0]
    one_head = gaussian.trained[ONE_HEAD, 1.0]
    return (
        at_least(
            "Gaussian classes, α = 1: mean accuracy of two heads, aligned, over labels alone",
            gaussian.lead(ALIGNED, 1.0).mean(),
            0.0,
            stated="chosen",
            paper="ahead (table)",
        ),
        at_least(
            "the same: labels + BinaryKL on one head over two heads, aligned",
            (gaussian.lead(ONE_HEAD, 1.0) - gaussian.lead(ALIGNED, 1.0)).mean(),
            0.0,
            stated="chosen",
            paper="behind, and behind labels alone (table): not so for small students",
        ),
        at_most(
            "the same, one head: cosine of both gradients in the head at the last step",
            float(one_head.head[-1].mean()),
            0.0,
            stated="chosen",
            paper="the head conflicts (theorem)",
        ),
        at_least(
            "the same: cosine in the features less that in the head",
            float(np.mean(one_head.backbone[-1] - one_head.head[-1])),
            0.0,
            stated="chosen",
            paper="the backbone does not (theorem)",
        ),
    )


def table_of(studies: list[Study]) -> list[dict[str, str | float | int]]:
    rows: list[dict[str, str | float | int]] = []
    for study in studies:
        for (rule, alpha), accuracy in study.accuracy.items():
            lead = study.lead(rule, alpha)
            trained = study.trained[rule, alpha]
            row: dict[str, str | float | int] = {
                "data": study.name,
                "student": rule,
                "α": alpha,
                "splits": accuracy.size,
                "accuracy": round(float(accuracy.mean()), 4),
                "ahead of labels alone": round(float(lead.mean()), 4),
                "±": round(mean_half_width(lead), 4),
                "teacher": round(float(study.teachers.mean()), 4),
            }
            if trained.head.size:
                row["steps with the head in conflict"] = round(float(np.mean(trained.head < 0)), 4)
                row["with the features"] = round(float(np.mean(trained.backbone < 0)), 4)
            rows.append(row)
    return rows


CAPTION = (
    "Top left: students near collapse, a dot a draw; below and left of the lines the two losses"
    " pull the head or the features apart, and numbers count the draws of each corner. Bottom left:"
    " the same cosines while one student trains. Right: test accuracy ahead of labels alone, by"
    " what else is learned from the teacher; right of the line is ahead, bars are 95 % intervals"
    " over seeds."
)


def draw(cases: Conflicts, studies: list[Study]) -> Figure:
    figure, axes = panels(
        2,
        1 + (len(studies) + 1) // 2,
        width=5.2,
        title="Near collapse two losses pull the head apart; small students learn more from one all"
        " the same",
    )
    draw_conflicts(axes[0, 0], cases)
    draw_path(axes[1, 0], studies[0])
    places = axes[:, 1:].ravel()
    for axis, study in zip(places, studies, strict=False):
        draw_students(axis, study)
    if len({alpha for _, alpha in studies[0].accuracy} - {0.0}) > 1:
        places[0].legend(frameon=False, fontsize=8)
    for axis in places[len(studies) :]:
        axis.set_visible(False)
    return figure


def draw_conflicts(axis: Any, cases: Conflicts) -> None:
    shown = slice(2000)
    axis.plot(cases.backbone[shown], cases.head[shown], ".", ms=3, color=BLUE, alpha=0.5)
    axis.axhline(0.0, color="0.3", lw=1)
    axis.axvline(0.0, color="0.3", lw=1)
    head, backbone, both, none = cases.counts()
    for place, count in (
        ((0.98, 0.04), f"head alone {head}"),
        ((0.02, 0.04), f"both {both}"),
        ((0.98, 0.96), f"none {none}"),
        ((0.02, 0.96), f"features alone {backbone}"),
    ):
        sides = {"ha": "right" if place[0] > 0.5 else "left"}
        axis.text(*place, count, transform=axis.transAxes, fontsize=9, **sides)
    axis.set(
        xlabel="cosine of both gradients in the features",
        ylabel="cosine in the head",
        title="Cross-entropy and BinaryKL near collapse",
    )


def draw_path(axis: Any, study: Study) -> None:
    trained = study.trained[ONE_HEAD, 1.0]
    for name, cosines in (("head", trained.head), ("features", trained.backbone)):
        mean, spread = cosines.mean(axis=-1), cosines.std(axis=-1)
        steps = np.arange(mean.size)
        (line,) = axis.plot(steps, mean, label=name)
        axis.fill_between(steps, mean - spread, mean + spread, alpha=0.2, color=line.get_color())
    axis.axhline(0.0, color="0.3", lw=1)
    axis.set(
        xlabel="steps of labels + BinaryKL on one head, α = 1",
        ylabel="cosine of both gradients, mean ± sd",
        title=f"Along training, {study.name}",
    )
    axis.legend(frameon=False)


def draw_students(axis: Any, study: Study) -> None:
    rules = [rule for rule in RULES if rule != CE]
    alphas = sorted({alpha for rule, alpha in study.accuracy if rule != CE})
    for k, alpha in enumerate(alphas):
        for place, rule in enumerate(rules):
            lead = study.lead(rule, alpha)
            shift = 0.2 * (k - (len(alphas) - 1) / 2)
            axis.errorbar(
                lead.mean(),
                place + shift,
                xerr=mean_half_width(lead),
                fmt="o",
                ms=4,
                capsize=2,
                color=COLOURS[k],
                label=f"α = {alpha:g}" if place == 0 else None,
            )
    axis.axvline(0.0, color="0.3", lw=1)
    axis.set_yticks(range(len(rules)), rules, fontsize=8)
    axis.invert_yaxis()
    axis.set(
        xlabel="test accuracy ahead of labels alone, 95 % interval",
        title=f"{study.name.replace('_', ' ')}: teacher {study.teachers.mean():.2f},"
        f" labels alone {study.accuracy[CE, 0.0].mean():.2f}",
    )

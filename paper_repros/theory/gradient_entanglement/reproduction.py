"""Ten losses on a pair whose suffix drags, on single tokens, and the length of a shared suffix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.gradient_entanglement.shared_head import (
    Pair,
    Path,
    logps_of,
    single_token,
    step,
    suffix_that_drags,
    train,
    train_normalised,
    with_suffix,
)
from paper_repros.theory.gradient_entanglement.slopes import EXPLICIT, TABLE, by_hand
from prefsim.analysis import PairDerivatives, pair_derivatives, pulls_of_losses
from prefsim.containers import PairLogps
from prefsim.losses import loss_functions
from prefsim.papers import Reproduction, Run, at_least, between, holds, near, panels, rising
from prefsim.papers.figures import BLUE, GREEN, PURPLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTHS = (0, 2, 8, 16)
COLOURS = {"both fall": VERMILION, "as wanted": GREEN, "both rise": BLUE}


def kind_of(moved: tuple[float, float]) -> str:
    """Return what a training has done to both log-probabilities."""
    chosen, rejected = moved
    if chosen * rejected < 0:
        return "as wanted"
    return "both fall" if chosen < 0 else "both rise"


def reproduce(run: Run) -> Reproduction:
    steps = 100 if run.quick else 500
    dragged, start = suffix_that_drags()
    single, logits = single_token()
    paths, alone = {}, {}
    for name, row in run.progress(list(TABLE.items()), "losses"):
        paths[name] = train(dragged, start, row.loss, rate=row.rate, steps=steps)
        alone[name] = train(single, logits, row.loss, rate=row.rate, steps=steps)
    parted = train_normalised(dragged, start, TABLE["DPO"].loss, rate=0.1, steps=steps)

    draws = 400 if run.quick else 2000
    suffixes = {
        length: with_suffix(np.random.default_rng((run.seed, length)), length, draws=draws)
        for length in LENGTHS
    }
    measured = {length: pair.entangled(weights) for length, (pair, weights) in suffixes.items()}
    cosines = [float(found.cosine.mean()) for found in measured.values()]
    violations = [float((found.ratio > 1).mean()) for found in measured.values()]
    shares = [
        float((found.inner / (pair.gradients(weights)[0] ** 2).sum(axis=(-2, -1))).mean())
        for found, (pair, weights) in zip(measured.values(), suffixes.values(), strict=True)
    ]
    drags = [name for name, path in paths.items() if kind_of(path.moved) == "both fall"]
    margin_losses = [name for name in TABLE if name not in EXPLICIT]
    gram, inner = dragged.token_gram(start), dragged.entangled(start).inner
    criteria = (
        near(
            "ten losses: how hard each pulls and pushes on a drawn pair, over the table by hand",
            pulls_over_hand(np.random.default_rng((run.seed, 99))),
            1.0,
            within=1e-9,
            stated="paper",
        ),
        near(
            "ten losses: first steps of both log-probabilities, over what norms and inner product"
            " say",
            first_steps(dragged, start, np.random.default_rng((run.seed, 98))),
            1.0,
            within=1e-3,
            stated="paper",
        ),
        holds(
            "shared suffix: losses without a term for the chosen response alone",
            [name in drags for name in margin_losses],
            "lower both",
            stated="paper",
        ),
        holds(
            "shared suffix: losses with such a term",
            [name not in drags for name in EXPLICIT if name != "DPOP"],
            "do not lower the chosen response",
            stated="paper",
        ),
        at_least(
            "shared suffix, DPOP: change of log π(chosen)",
            paths["DPOP"].moved[0],
            -1e-3,
            stated="derived",
        ),
        holds(
            "single tokens: all ten losses",
            [kind_of(path.moved) == "as wanted" for path in alone.values()],
            "raise the chosen and lower the rejected",
            stated="paper",
        ),
        holds(
            "shared suffix, DPO along gradients of length one: every step",
            [*(np.diff(parted.chosen) > 0), *(np.diff(parted.rejected) < 0)],
            "raises the chosen and lowers the rejected",
            stated="paper",
        ),
        holds(
            "token by token, inner products of the differing token and of the suffix",
            [
                gram[0, 0] < 0,
                gram[1, 1] > 0,
                np.isclose(gram.sum(), inner),
            ],
            "negative, positive, and they sum to that of the responses",
            stated="paper",
        ),
        rising(
            f"mean cosine of the gradients at suffixes of {', '.join(map(str, LENGTHS))} tokens",
            cosines,
            stated="paper",
        ),
        rising("the same: mean inner product over ‖g_w‖²", shares, stated="derived"),
        between(
            "the same: share of pairs beyond the gradient condition, with a suffix",
            violations[1:],
            0.001,
            0.05,
            stated="derived",
        ),
        near("the same, without one", violations[0], 0.0, within=0.0, stated="paper"),
        *judge_losses(dragged, start, ["dpo", "ipo", "hinge", "probit", "exo_pair"]),
    )
    table: list[dict[str, Any]] = [
        {
            "loss": name,
            "Δ log π(chosen), suffix": round(path.moved[0], 3),
            "Δ log π(rejected), suffix": round(path.moved[1], 3),
            "Δ chosen, single token": round(alone[name].moved[0], 3),
            "Δ rejected, single token": round(alone[name].moved[1], 3),
        }
        for name, path in paths.items()
    ]
    table += every_pairwise_loss(dragged, start)
    figure = draw(paths, parted, gram, cosines, shares)
    cut = "100 steps rather than 500, and 400 drawn pairs a length rather than 2,000"
    return Reproduction(figure, table, criteria, caption=caption(draws), cut=cut)


def pulls_over_hand(rng: np.random.Generator) -> np.ndarray:
    """Return slopes of the ten losses on a drawn pair over those by hand, where these are not 0."""
    # Misranked and behind its reference, so that every hinge is active.
    chosen, rejected = -6.0 - rng.random(1), -4.0 - rng.random(1)
    lengths = np.array([3.0]), np.array([5.0])
    pair = PairLogps(chosen, rejected, chosen + 0.5 + rng.random(1), rejected - 0.4, *lengths)
    ratios = []
    for name, row in TABLE.items():
        found, expected = pair_derivatives(row.loss, pair), by_hand(name, pair)
        ratios += [a / b for a, b in zip(found, expected, strict=True) if np.abs(b) > 0]
    return np.concatenate(ratios)


def first_steps(pair: Pair, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the changes in a small step near the start over those to first order, ``(10, 2)``."""
    small, ratios = 1e-4, []
    # Elsewhere than at the reference, where DPOP has its kink.
    weights = start + 0.1 * rng.standard_normal(start.shape)
    before = np.array(pair.log_probs(weights))
    for name, row in TABLE.items():
        rate = small * row.rate
        after = pair.log_probs(step(pair, weights, start, row.loss, rate))
        slopes = by_hand(name, logps_of(pair, weights, start))
        found = pair.entangled(weights, PairDerivatives(*(each[0] for each in slopes)))
        expected = rate * np.array([found.chosen_rate, found.rejected_rate])
        ratios.append((after - before) / expected)
    return np.array(ratios)


def pair_at(pair: Pair, start: np.ndarray) -> PairLogps[np.ndarray]:
    """Return the pair with all that losses read: judged .7 and .3 to win, drawn by the policy."""
    here = logps_of(pair, start, start)
    scores = np.array([0.7]), np.array([0.3])
    return PairLogps(*here[:6], *scores, here.chosen, here.rejected)


def every_pairwise_loss(pair: Pair, start: np.ndarray) -> list[dict[str, Any]]:
    """Return how hard each pairwise loss of the library pulls at the start, and what that does."""
    rows = []
    for pull in pulls_of_losses(pair_at(pair, start), norm_ratio=norm_ratio(pair, start)):
        slopes = PairDerivatives(np.asarray(pull.chosen), np.asarray(pull.rejected))
        found = pair.entangled(start, slopes)
        moved = float(found.chosen_rate), float(found.rejected_rate)
        still = max(map(abs, moved)) < 1e-12
        never = pull.both_fall_above >= 1
        rows.append(
            {
                "pairwise loss": pull.name,
                "pulls the chosen": round(pull.chosen, 6),
                "pushes the rejected": round(pull.rejected, 6),
                "both fall above a cosine of": "never" if never else round(pull.both_fall_above, 4),
                "first step on the shared suffix": "no step" if still else kind_of(moved),
            }
        )
    return rows


def norm_ratio(pair: Pair, weights: np.ndarray) -> float:
    """Return the rejected gradient's norm over the chosen one's."""
    chosen, rejected = pair.gradients(weights)
    return float(np.linalg.norm(rejected) / np.linalg.norm(chosen))


def judge_losses(pair: Pair, start: np.ndarray, names: list[str]) -> Any:
    """Yield what is expected of the table of all pairwise losses."""
    given, ratio = pair_at(pair, start), norm_ratio(pair, start)
    pulls = pulls_of_losses(given, norm_ratio=ratio)
    slopes = [pair_derivatives(loss_functions()[pull.name], given) for pull in pulls]
    rates = [pair.entangled(start, PairDerivatives(*(x[0] for x in each))) for each in slopes]
    cosine = float(pair.entangled(start).cosine)
    yield near(
        "every pairwise loss: how hard the table says it pulls and pushes, less the derivatives",
        [
            [pull.chosen - up[0], pull.rejected - down[0]]
            for pull, (up, down) in zip(pulls, slopes, strict=True)
        ],
        0.0,
        within=1e-12,
        stated="derived",
    )
    yield holds(
        f"every pairwise loss whose cosine in the table is below {cosine:.3f}, that of the pair",
        [
            (pull.both_fall_above < cosine) == (rate.chosen_rate < 0 and rate.rejected_rate < 0)
            for pull, rate in zip(pulls, rates, strict=True)
        ],
        "lowers both by its first step, and no other does",
        stated="derived",
    )
    yield near(
        "losses of the margin: their cosine in the table times ‖g_l‖/‖g_w‖",
        [pull.both_fall_above * ratio for pull in pulls if pull.name in names],
        1.0,
        within=1e-9,
        stated="paper",
    )


def caption(draws: int) -> str:
    return (
        "Left: by how much the log-probabilities of the chosen (filled) and of the rejected"
        " response (open) of one pair change under each loss; wanted are filled dots right of the"
        " line and open ones left of it. Middle: inner products of the gradients of single tokens:"
        " what ties the two responses is the token that they share. Right: how alike their"
        f" gradients are, by the length of a shared ending, mean of {draws:,} drawn pairs: at a"
        " cosine of 1 they could only move together; dashed, their inner product over the squared"
        " length of the chosen one's: in a pair where that is above 1, a step that raises the"
        " margin lowers the chosen response too."
    )


def draw(
    paths: dict[str, Path],
    parted: Path,
    gram: np.ndarray,
    cosines: list[float],
    shares: list[float],
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "A suffix that both responses share ties their log-probabilities together: losses of"
            " the margin lower both"
        ),
        width=4.9,
        width_ratios=(1.35, 0.8, 1),
    )
    _draw_ends(axes[0, 0], {**paths, "DPO, gradients of length one": parted})
    _draw_gram(axes[0, 1], gram)
    axes[0, 2].plot(LENGTHS, cosines, "o-", color=BLUE, label="cosine")
    axes[0, 2].plot(LENGTHS, shares, "s--", color=PURPLE, label="inner product over ‖g_w‖²")
    axes[0, 2].set(
        xlabel="tokens of the shared suffix",
        ylabel="mean over drawn pairs",
        title="The longer the suffix, the tighter",
    )
    axes[0, 2].legend(frameon=False)
    return figure


def _draw_ends(axis: Any, paths: dict[str, Path]) -> None:
    """Draw where each loss has brought both log-probabilities, the chosen one filled."""
    order = sorted(paths, key=lambda name: paths[name].moved[0])
    for place, name in enumerate(order):
        chosen, rejected = paths[name].moved
        colour = COLOURS[kind_of((chosen, rejected))]
        axis.plot([chosen, rejected], [place, place], color=colour, lw=1.5, zorder=1)
        axis.scatter([chosen], [place], color=colour, s=45, zorder=2)
        axis.scatter([rejected], [place], facecolor="white", edgecolor=colour, s=45, zorder=2)
    for kind, colour in COLOURS.items():
        axis.plot([], [], color=colour, lw=3, label=kind)
    axis.axvline(0.0, color="0.3", lw=1)
    axis.set_yticks(range(len(order)), order)
    axis.set(xlabel="change of log π, nats: chosen ●, rejected ○")
    axis.set_title("What training on one pair does")
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_gram(axis: Any, gram: np.ndarray) -> None:
    largest = np.abs(gram).max()
    axis.imshow(gram, cmap="RdBu", vmin=-largest, vmax=largest)
    for (i, j), value in np.ndenumerate(gram):
        colour = "white" if abs(value) > 0.5 * largest else "black"
        text = f"{value:.4f}" if value else "0"
        axis.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
    names = ("differs", "shared")
    axis.set_xticks(range(2), names)
    axis.set_yticks(range(2), names)
    axis.grid(False)
    axis.set(xlabel="token of the rejected", ylabel="token of the chosen")
    axis.set_title("Inner products of token gradients")

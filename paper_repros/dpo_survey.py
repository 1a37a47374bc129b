"""A Survey of Direct Preference Optimization (arXiv:2503.11701): the identities between its losses, and all of them on one plane."""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from prefsim import losses, testing
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.data import Comparisons, Rankings
from prefsim.losses.catalogue import properties_of
from prefsim.losses.registry import container_of, loss_functions
from prefsim.losses.taxonomy import PARTS, TAXONOMY
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import ConvergenceWarning, fit, optimal_policy
from prefsim.worlds import ContextualBandit

PAPER = Paper(
    slug="dpo_survey",
    title="A Survey of Direct Preference Optimization",
    arxiv="2503.11701",
    year=2025,
    family="direct",
    summary=(
        "One table of direct-alignment losses, sorted by the part of DPO that each changes: data,"
        " framework, constraint or property."
    ),
    implements=(
        "prefsim.losses.soft",
        "prefsim.losses.catalogue.catalogue",
        "prefsim.losses.taxonomy.by_part",
    ),
)


def _pairs(margins: np.ndarray) -> losses.PairLogps:
    zero = np.zeros_like(margins)
    return losses.PairLogps(margins, zero, zero, zero)


def one_function(instance: tuple[np.ndarray, float, float, float]) -> Verdict:
    """Z1: one soft-target function gives dpo, cdpo, rdpo and the soft loss."""
    h, beta, rate, target = instance
    pairs, z = _pairs(h), beta * h
    targets = (1.0, 1 - rate, (1 - rate) / (1 - 2 * rate), target)
    rows = (
        losses.dpo(pairs, beta=beta),
        losses.dpo(pairs, beta=beta, label_smoothing=rate),
        losses.rdpo(pairs, beta=beta, flip_rate=rate),
        losses.soft(pairs, beta=beta, target=target),
    )
    parts = [t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z) for t in targets]
    return Verdict(max(np.abs(row - part).max() for row, part in zip(rows, parts, strict=True)))


def linear_parts(instance: tuple[np.ndarray, float, float]) -> Verdict:
    """Z2: cdpo and rdpo are dpo plus and minus a linear term; cdpo's minimum is finite, rdpo falls without end."""
    h, beta, rate = instance
    pairs = _pairs(h)
    plain = losses.dpo(pairs, beta=beta)
    conservative = losses.dpo(pairs, beta=beta, label_smoothing=rate)
    robust = losses.rdpo(pairs, beta=beta, flip_rate=rate)
    identity = max(
        np.abs(conservative - plain - rate * beta * h).max(),
        np.abs(robust - plain + rate / (1 - 2 * rate) * beta * h).max(),
    )
    at_minimum = _pairs((logit(1 - rate) + np.asarray([-1e-3, 0.0, 1e-3])) / beta)
    left, best, right = losses.dpo(at_minimum, beta=beta, label_smoothing=rate)
    far = float(losses.rdpo(_pairs(np.asarray([1e4 / beta])), beta=beta, flip_rate=rate)[0])
    failures = float(best > min(left, right)) + float(far > -1e4 * rate / 2)
    return Verdict(identity + failures, f"rdpo at βh = 1e4: {far:.4g}")


MARGIN_ROWS = (
    "dpo",
    "rdpo",
    "soft",
    "ipo",
    "hinge",
    "f_dpo",
    "rdpo_length",
    "odpo",
    "discopop",
    "exo_pair",
)
OTHER_ROWS = (
    "apo_zero",
    "apo_down",
    "orpo",
    "asft",
    "cpo",
    "simpo",
    "dpop",
    "nca_pair",
    "bco_pair",
    "bco",
    "cal_dpo",
    "chipo",
    "rpo",
    "npo",
)


def shift_invariance(name: str) -> Verdict:
    """Z3: a prompt constant added to both log-probabilities changes nothing."""
    rng = np.random.default_rng(0)
    lw, ll, rw, rl = -4 * rng.random((4, 2)) - 1
    lengths, scores = np.asarray([[3.0, 5.0], [4.0, 2.0]]), np.asarray([[2.0, 3.0], [1.0, 0.5]])
    pair = losses.PairLogps(lw, ll, rw, rl, *lengths, *scores)
    moved = pair._replace(chosen=pair.chosen - 0.5, rejected=pair.rejected - 0.5)
    loss = getattr(losses, name)
    return Verdict(float(np.abs(loss(moved) - loss(pair)).max()), name)


def two_candidates(instance: tuple[np.ndarray, float]) -> Verdict:
    """Z4: on two candidates PL-DPO, InfoNCA with hard targets and DPO agree; exp(−PL) is a distribution over rankings."""
    h, beta = instance
    pair = losses.ListLogps(h[:2], np.zeros(2), np.asarray([1.0, 0.0]))
    dpo = float(losses.dpo(_pairs(np.asarray([h[0] - h[1]])), beta=beta)[0])
    ranked = float(losses.pl_dpo(pair, beta=beta))
    hard = float(losses.infonca(pair, beta=beta, alpha=1e-3))
    orders = np.asarray(list(itertools.permutations(range(len(h)))), dtype=float)
    everything = losses.ListLogps(np.broadcast_to(h, orders.shape), np.zeros_like(orders), orders)
    total = float(np.exp(-losses.pl_dpo(everything, beta=beta)).sum())
    return Verdict(
        max(abs(dpo - ranked), abs(dpo - hard), abs(total - 1)), f"sum over rankings {total}"
    )


def binary_bound(instance: tuple[np.ndarray, np.ndarray]) -> Verdict:
    """Z5: bco_pair exceeds dpo by log(1 + (e^{−r_w} + e^{r_l})/(1 + e^{r_l − r_w})); asft exceeds orpo."""
    chosen, rejected = instance
    zero = np.zeros_like(chosen)
    pair = losses.PairLogps(chosen, rejected, zero, zero)
    gap = losses.bco_pair(pair, beta=1.0) - losses.dpo(pair, beta=1.0)
    formula = np.log1p((np.exp(-chosen) + np.exp(rejected)) / (1 + np.exp(rejected - chosen)))
    ones = np.ones_like(chosen)
    below = losses.PairLogps(
        -np.abs(chosen) - 0.01, -np.abs(rejected) - 0.01, zero, zero, ones, ones
    )
    alignment = losses.asft(below, lambda_=1.0) - losses.orpo(below, lambda_=1.0)
    return Verdict(float(max(np.abs(gap - formula).max(), -alignment.min())))


def not_monotone(tau: float) -> Verdict:
    """Z6: discopop has a local minimum at −2.3714 τ and a local maximum at 1.44012 τ."""

    def slope(z: float) -> float:
        s = expit(z / tau)
        ds = s * (1 - s) / tau
        return -ds * np.logaddexp(0, -z) - (1 - s) * expit(-z) + (ds - s) * np.exp(-z)

    grid = np.linspace(-6 * tau, 6 * tau, 241)
    signs = np.sign([slope(z) for z in grid])
    turns = [
        brentq(slope, a, b)
        for a, b, i, j in zip(grid[:-1], grid[1:], signs[:-1], signs[1:], strict=True)
        if i * j < 0
    ]
    if len(turns) != 2:
        return Verdict(1.0, f"{len(turns)} stationary points")
    values = losses.discopop(_pairs(np.asarray(turns)), beta=1.0, tau=tau)
    expected = np.asarray([[-2.3714 * tau, 1.44012 * tau], [0.785924, 0.878290]])
    return Verdict(
        float(np.abs(np.asarray([turns, values]) - expected).max()),
        f"turns {turns}, values {values}",
    )


def staged(instance: tuple[ContextualBandit, TabularPolicy, int]) -> Verdict:
    """Z7: T stages of population DPO, each against the last, reach π_ref exp(T r/β)."""
    world, reference, stages = instance
    policy = reference
    for _ in range(stages):
        data = Comparisons.population(world, reference)
        policy = fit(policy, functools.partial(losses.dpo, beta=1.0), data, reference=policy).policy
    expected = optimal_policy(world.reward, reference.probs, beta=1.0 / stages)
    return Verdict(float(np.abs(policy.probs - expected).max()), f"{stages} stages")


def robustified(h: np.ndarray) -> Verdict:
    """Z8: Dr.DPO tends to the mean loss as β′ grows and to the least loss as β′ vanishes, and lies between."""
    pairs = _pairs(h)
    plain = losses.dpo(pairs, beta=1.0)
    wide, narrow, middle = (
        float(losses.drdpo(pairs, beta=1.0, beta_prime=b)[0]) for b in (1e6, 1e-6, 1.0)
    )
    outside = max(0.0, plain.min() - middle, middle - plain.mean())
    return Verdict(max(abs(wide - plain.mean()) * 1e-2, abs(narrow - plain.min()), outside))


FORMS = {
    "dpo": "logit(p) / beta",
    "rdpo": "logit((p - e) / (1 - 2e)) / beta",
    "ipo": "(2p - 1) / (2 tau)",
    "hinge": "sign(2p - 1) / beta",
    "exo_pair": "(2p - 1) logit(1 - epsilon) / beta",
    "soft": "logit(p t + (1 - p)(1 - t)) / beta",
}


def margin_minimiser(name: str) -> Verdict:
    """Z9, losses of the margin: the minimiser found by search is the table's."""
    found = properties_of(getattr(losses, name), name).minimiser
    return Verdict(float(found != FORMS[name]), f"{name}: found {found}, table {FORMS[name]}")


def point_minimiser(instance: tuple[str, float]) -> Verdict:
    """Z9, point-wise losses: the gradient vanishes at the table's log-ratios, when both orders are present."""
    import torch

    name, p = instance
    target = {
        "nca_pair": lambda q: np.log(2 * q) / 0.1,
        "bco_pair": lambda q: logit(q) / 0.1,
        "sppo_hard": lambda q: (2 * q - 1) / (2 * 0.1),
    }[name]
    point = torch.tensor([target(p), target(1 - p)], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    loss = getattr(losses, name)
    first, second = point[:1], point[1:]
    risk = p * loss(losses.PairLogps(first, second, zero, zero)) + (1 - p) * loss(
        losses.PairLogps(second, first, zero, zero)
    )
    (gradient,) = torch.autograd.grad(risk.sum(), point)
    return Verdict(float(gradient.abs().max()), f"{name} at p = {p}")


_rates = testing.flip_rates(0.01, 0.45)
_instances = testing.bandits_with_reference(max_contexts=2, max_responses=4, spread=1.0, scale=1.5)

CLAIMS = (
    Claim(
        "Z1",
        "identity",
        "dpo, cdpo, rdpo and the soft loss are one function of (margin, target)",
        "survey, data noise",
        st.tuples(testing.margins(20.0), testing.betas(0.05, 2), _rates, st.floats(0, 1)),
        one_function,
        1e-9,
    ),
    Claim(
        "Z2",
        "identity",
        "cdpo = dpo + εβh with a finite minimum at βh = logit(1 − ε); rdpo = dpo − εβh/(1 − 2ε),"
        " unbounded below",
        "derivation",
        st.tuples(testing.margins(20.0), testing.betas(0.05, 2), _rates),
        linear_parts,
        1e-9,
        breaks=st.tuples(testing.margins(1.0), st.just(1.0), st.just(0.0)).map(
            lambda x: (x[0], x[1], 1e-300)
        ),
    ),
    Claim(
        "Z3",
        "invariance",
        "losses of the margin alone do not see a prompt constant",
        "derivation",
        st.sampled_from(MARGIN_ROWS),
        shift_invariance,
        1e-12,
        breaks=st.sampled_from(OTHER_ROWS),
    ),
    Claim(
        "Z4",
        "identity",
        "with two candidates PL-DPO = InfoNCA with hard targets = DPO; exp(−PL) sums to one over"
        " rankings",
        "derivation",
        st.tuples(testing.margins(5.0, size=4), testing.betas(0.05, 2)),
        two_candidates,
        1e-10,
    ),
    Claim(
        "Z5",
        "inequality",
        "bco_pair ≥ dpo by the stated gap; the alignment term of asft ≥ that of orpo",
        "derivation",
        st.tuples(testing.margins(10.0, size=3), testing.margins(10.0, size=3)),
        binary_bound,
        1e-9,
    ),
    Claim(
        "Z6",
        "counterexample",
        "discopop at τ = 0.05 is not monotone in the margin: it turns at −2.3714 τ and 1.44012 τ",
        "derivation",
        st.just(0.05),
        not_monotone,
        1e-5,
        breaks=st.just(5.0),
        examples=1,
    ),
    Claim(
        "Z7",
        "identity",
        "T stages of exact DPO give π_ref exp(T r/β)",
        "derivation (sDPO)",
        st.tuples(_instances, st.integers(1, 3)).map(lambda x: (*x[0], x[1])),
        staged,
        1e-9,
        examples=12,
    ),
    Claim(
        "Z8",
        "limit",
        "Dr.DPO lies between the least and the mean loss, its limits",
        "derivation",
        testing.margins(5.0),
        robustified,
        1e-4,
    ),
    Claim(
        "Z9a",
        "minimiser",
        "the population minimisers of the losses of the margin are those of the table",
        "derivation",
        st.sampled_from(sorted(FORMS)),
        margin_minimiser,
        0.0,
        examples=len(FORMS) * 2,
    ),
    Claim(
        "Z9b",
        "minimiser",
        "with both orders present, nca_pair, bco_pair and sppo_hard are stationary at the table's"
        " log-ratios",
        "derivation",
        st.tuples(st.sampled_from(["nca_pair", "bco_pair", "sppo_hard"]), st.floats(0.02, 0.98)),
        point_minimiser,
        1e-10,
    ),
)

LIST_LOSSES = ("infonca", "nca", "exo_rw", "pl_dpo")
HARD_LABELS = (
    "drdpo",
    "aot",
    "aot_unpaired",
    "bco",
    "beta_dpo",
)  # they couple a batch, and need its rows to weigh alike


WORLDS = 2
POINTWISE_BELOW = ("dpo(flipped)", "ipo", "nca_pair", "bco_pair", "sppo_hard")
BY_KL = ("ipo", "sppo_hard", "nca_pair", "bco_pair", "dpo")


def _minimiser(
    loss: Any, data: Any, reference: TabularPolicy, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-policies ``(worlds, 1, Y)`` and whether each gradient vanished."""
    with warnings.catch_warnings():
        # A kinked or bang-bang loss has no smooth minimum: the figure marks it, and the table says
        # so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = fit(reference, loss, data, reference=reference, max_iterations=steps)
    return np.asarray(result.policy.log_probs), np.asarray(result.grad_norm) <= 1e-10


def _takes_bare_pairs(loss: Any) -> bool:
    """Whether log-probabilities and lengths are all that a loss needs: no scores, no log-probabilities of a sampler."""
    zero, one = np.zeros(1), np.ones(1)
    try:
        loss(losses.PairLogps(zero, zero, zero, zero, one, one))
    except ValueError:
        return False
    return True


def _settings(
    data: Comparisons, flipped: Comparisons, lists: list[Rankings], beta: float, flip: float
) -> dict[str, tuple[Any, list[Any]]]:
    """Return, by label, the configured loss and the data sets it is fitted to (one for all worlds, or one for each)."""
    names = [
        n
        for n, f in loss_functions().items()
        if container_of(f) is losses.PairLogps and n not in HARD_LABELS and _takes_bare_pairs(f)
    ]
    found: dict[str, tuple[Any, list[Any]]] = {}
    for name in (*names, *LIST_LOSSES):
        function = getattr(losses, name)
        options = {
            key: 0.5 for key in ("beta", "tau") if key in inspect.signature(function).parameters
        }
        found[name] = (
            functools.partial(function, **options),
            lists if name in LIST_LOSSES else [data],
        )
    found["rdpo"] = (functools.partial(losses.rdpo, beta=beta, flip_rate=flip), [flipped])
    found["dpo(flipped)"] = (functools.partial(losses.dpo, beta=beta), [flipped])
    for divergence in ("forward_kl", "jensen_shannon", "alpha"):
        found[f"f_dpo({divergence})"] = (
            functools.partial(losses.f_dpo, beta=beta, divergence=divergence),
            [data],
        )
    return found


def reproduce(run: Run) -> Reproduction:
    """Place every loss on one reward–KL plane."""
    beta, flip = 0.5, 0.2
    rewards = np.stack(
        [np.random.default_rng(seed).standard_normal((1, 8)) for seed in range(WORLDS)]
    )
    world, reference = ContextualBandit(reward=rewards), TabularPolicy.uniform(1, 8)
    data = Comparisons.population(world, reference, distinct=True)
    lists = [Rankings.population(ContextualBandit(reward=r)) for r in rewards]
    best = optimal_policy(rewards, np.broadcast_to(reference.probs, rewards.shape), beta=beta)
    settings = _settings(data, data.relabelled(flip_labels(data.prob, flip)), lists, beta, flip)
    found = {}
    for label in run.progress(list(settings), "losses"):
        loss, sources = settings[label]
        parts = [
            _minimiser(loss, source, reference, 100 if run.quick else 400) for source in sources
        ]
        log_policy = parts[0][0] if len(parts) == 1 else np.stack([part[0] for part in parts])
        smooth = np.broadcast_to(np.stack([part[1] for part in parts]).squeeze(), (WORLDS,))
        place = (
            np.asarray(kl_to_reference(log_policy, reference.log_probs, world)),
            np.asarray(expected_reward(log_policy, world)),
        )
        found[label] = (*place, np.exp(log_policy)[:, 0], smooth)
    table: list[dict[str, Any]] = []
    criteria: list[Criterion] = []
    star_kl, star_reward = (
        np.sum(best * np.log(8 * best), axis=(1, 2)),
        np.sum(best * rewards, axis=(1, 2)),
    )
    for seed in range(WORLDS):
        for label, (kl, reward, _, smooth) in found.items():
            part = TAXONOMY[label.split("(")[0]].part
            row = {
                "loss": label,
                "part": part,
                "KL": float(kl[seed]),
                "reward": float(reward[seed]),
                "smooth minimum": str(smooth[seed]),
            }
            table.append({"world": seed, **row})
        reach = max(
            float(np.abs(found[name][2][seed] - best[seed, 0]).max())
            for name in ("dpo", "rdpo", "infonca")
        )
        lower = all(
            found[n][0][seed] < star_kl[seed] and found[n][1][seed] < star_reward[seed]
            for n in POINTWISE_BELOW
        )
        losing = np.asarray(world.preference)[seed, 0].mean(axis=1) < 0.5
        mass, top = (
            float(found["apo_zero"][2][seed][losing].max()),
            float(found["apo_zero"][2][seed].max()),
        )
        order = [float(found[n][0][seed]) for n in BY_KL]
        for name, expected, measured, passed in (
            ("dpo, rdpo (on flipped labels) and infonca reach π*", "≤ 1e-6", reach, reach <= 1e-6),
            (
                "flipped dpo, ipo, nca, bco, sppo end with less KL and less reward than π*",
                "all five",
                str(lower),
                lower,
            ),
            (
                "apo_zero drops what wins less than half, without collapse",
                "mass < 1e-10",
                f"mass {mass:.1e}, π_max {top:.2f}",
                mass < 1e-10 and top < 0.9,
            ),
            (
                "KL in the order " + " < ".join(BY_KL),
                "increasing",
                " < ".join(f"{x:.3f}" for x in order),
                bool((np.diff(order) > 0).all()),
            ),
        ):
            criteria.append(Criterion(f"world {seed}: {name}", expected, measured, passed))
    return Reproduction(
        _draw(found, (float(star_kl[0]), float(star_reward[0])), rewards[0, 0]),
        table,
        tuple(criteria),
    )


# Where a label goes, in points from its marker; the rest alternate between above left and below
# right.
LABEL_SHIFTS = {
    "dpo": (60, -45),
    "apo_down": (-4, -120),
    "f_dpo(forward_kl)": (30, -16),
    "rpo": (-40, 8),
    "hinge*": (-30, 26),
    "dpop*": (14, -8),
    "sppo_hard": (-30, 34),
}


def _draw(found: dict[str, Any], star: tuple[float, float], reward: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    rows = np.broadcast_to(reward, (200, 8))
    curve = np.stack(
        [
            optimal_policy(reward, np.full(8, 0.125), beta=float(b))
            for b in np.geomspace(0.02, 100, 200)
        ]
    )
    kl = np.sum(curve * np.log(np.maximum(8 * curve, 1e-300)), axis=1)
    axes.plot(
        kl,
        (curve * rows).sum(axis=1),
        color="0.6",
        lw=1.5,
        label="best reward at each KL: π_ref exp(r/β), all β",
    )
    colours = dict(zip(PARTS, ("tab:blue", "tab:purple", "tab:green", "tab:orange"), strict=True))
    groups: list[tuple[float, float, str, list[str]]] = []
    for name, (x, y, _, smooth) in sorted(
        found.items(), key=lambda item: (round(item[1][0][0], 3), item[0])
    ):
        label = name if smooth[0] else f"{name}*"
        near = next(
            (
                g
                for g in groups
                if abs(np.sqrt(g[0]) - np.sqrt(max(x[0], 0))) < 0.006 and abs(g[1] - y[0]) < 0.006
            ),
            None,
        )
        if near is None:
            groups.append(
                (max(float(x[0]), 0.0), float(y[0]), TAXONOMY[name.split("(")[0]].part, [label])
            )
        else:
            near[3].append(label)
    for i, (x, y, part, names) in enumerate(groups):
        shift = LABEL_SHIFTS.get(names[0], (-14, 12) if i % 2 == 0 else (14, -14))
        axes.plot(x, y, "o", color=colours[part], ms=7, zorder=3)
        axes.annotate(
            "\n".join(", ".join(names[k : k + 4]) for k in range(0, len(names), 4)),
            (x, y),
            xytext=shift,
            textcoords="offset points",
            ha="right" if shift[0] < 0 else "left",
            va="bottom" if shift[1] > 0 else "top",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.6, "shrinkB": 3},
        )
    axes.plot(*star, "*", color="crimson", ms=16, zorder=4, label="RLHF optimum π* at β = 0.5")
    for part, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=f"changes the {part}")
    axes.set(
        xlabel="KL(π‖π_ref) in nats (square-root axis)",
        ylabel="expected reward",
        xlim=(0, 2.3),
        title=(
            "Same comparisons, same β: where each loss stops\n(exact minimisers on one 8-action"
            " bandit; * = kinked or unbounded, shown where the solver stopped)"
        ),
    )
    axes.margins(y=0.1)
    axes.legend(loc="lower right", fontsize=9)
    return figure

"""A contrastive loss on whole segments turns preferences into a policy, without a reward model and without reinforcement learning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _cpl_experiments as experiments
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Segments
from prefsim.data.trajectories import enumerate_trajectories
from prefsim.losses import PairLogps, TokenPairLogps
from prefsim.losses.segments import cpl, segment_contrast, segment_scores
from prefsim.numerics import log_softmax, sigmoid
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.raters.regret import partial_return_preference, segment_return
from prefsim.solvers.planning import policy_iteration, soft_value_iteration
from prefsim.testing.bandits import tables
from prefsim.testing.segments import (
    SegmentProcess,
    potentials,
    segment_pairs,
    segment_processes,
    token_pair_logps,
)

PAPER = Paper(
    slug="cpl",
    title="Contrastive Preference Learning: Learning from Human Feedback without RL",
    arxiv="2310.13639",
    year=2023,
    family="mdp",
    summary=(
        "If people judge segments by regret and act like a maximum-entropy expert, advantages are"
        " log-probabilities of the policy: a contrastive loss on whole segments learns the policy"
        " in any decision process, and DPO is its one-step case."
    ),
    implements=(
        "prefsim.losses.segments.cpl",
        "prefsim.losses.segments.cpl_ranked",
        "prefsim.losses.segments.segment_contrast",
        "prefsim.losses.segments.squared_error_logps",
        "prefsim.data.Segments",
        "prefsim.solvers.planning.soft_value_iteration",
    ),
)


# --- the maximum-entropy expert
# ----------------------------------------------------------------------------------------------------------


class Expert(NamedTuple):
    """A process, a temperature and whether values are soft (or of the hard maximum)."""

    process: SegmentProcess
    alpha: float
    soft: bool = True


ALPHAS = st.floats(0.2, 2.0)


def _check_soft_advantage(case: Expert) -> Verdict:
    mdp = case.process.mdp
    soft = soft_value_iteration(mdp, temperature=case.alpha)
    advantage = soft.advantage if case.soft else policy_iteration(mdp).advantage
    alive = ~np.asarray(mdp.terminal)
    total = np.abs(np.exp(advantage / case.alpha).sum(axis=-1) - 1)[alive]
    told = np.abs(advantage - case.alpha * np.log(soft.policy))[alive] / case.alpha
    return Verdict(float(max(total.max(), told.max())))


class Policied(NamedTuple):
    """A process, logits of a policy and a temperature."""

    process: SegmentProcess
    logits: np.ndarray
    alpha: float


@st.composite
def _policied(draw: st.DrawFn) -> Policied:
    process = draw(segment_processes())
    return Policied(process, draw(tables(process.mdp.reward.shape, low=-3, high=3)), draw(ALPHAS))


def _check_bijection(case: Policied) -> Verdict:
    mdp = case.process.mdp
    alive = ~np.asarray(mdp.terminal)
    log_policy = log_softmax(case.logits)
    found = soft_value_iteration(
        mdp.with_reward(np.where(alive[:, None], case.alpha * log_policy, 0.0)),
        temperature=case.alpha,
    )
    return Verdict(
        float(
            max(np.abs(found.value).max(), np.abs(found.policy - np.exp(log_policy))[alive].max())
        )
    )


class Shaped(NamedTuple):
    """An expert's process, a potential, and what the rater sums up along a segment."""

    expert: Expert
    potential: np.ndarray
    sums: str


@st.composite
def _shaped(draw: st.DrawFn, sums: str) -> Shaped:
    process = draw(segment_processes(max_actions=2))
    return Shaped(Expert(process, draw(ALPHAS)), draw(potentials(process.mdp)), sums)


def _check_shaping(case: Shaped) -> Verdict:
    (process, alpha, _), potential, sums = case
    found = enumerate_trajectories(*process)
    preferences, policies = [], []
    for mdp in (process.mdp, process.mdp.shaped(potential)):
        expert = soft_value_iteration(mdp, temperature=alpha)
        table = np.asarray(expert.advantage if sums == "advantages" else mdp.reward)
        score = segment_return(
            table[found.states[:, :-1], found.actions], found.mask, discount=mdp.discount
        )
        preferences.append(partial_return_preference(score[:, None], score))
        policies.append(expert.policy)
    return Verdict(
        float(
            max(
                np.abs(preferences[1] - preferences[0]).max(),
                np.abs(policies[1] - policies[0]).max(),
            )
        )
    )


# --- what the loss recovers
# --------------------------------------------------------------------------------------------------------------


class Fitted(NamedTuple):
    """An expert whose exact population of comparisons is fitted, with a bias and a discount that may be wrong."""

    expert: Expert
    lambda_: float
    discount_off_by: float


@st.composite
def _fitted(draw: st.DrawFn, lambda_: float = 1.0, off_by: float = 0.0) -> Fitted:
    process = draw(
        segment_processes(
            min_states=2,
            max_states=3,
            min_actions=2,
            max_actions=2,
            max_length=2,
            deterministic=True,
            scale=1.0,
        )
    )
    return Fitted(Expert(process, draw(st.floats(0.5, 1.5))), lambda_, off_by)


def _check_consistency(case: Fitted) -> Verdict:
    (mdp, length), alpha, _ = case.expert
    expert = soft_value_iteration(mdp, temperature=alpha)
    data = Segments.population(mdp, length, scores=expert.advantage, discount=mdp.discount)
    assumed = abs(mdp.discount - case.discount_off_by)
    found = experiments.cpl_policies(
        data, *mdp.reward.shape, lambda_=case.lambda_, alpha=alpha, discount=assumed
    )
    error = float(np.abs(found - expert.policy)[~np.asarray(mdp.terminal)].max())
    return Verdict(
        error,
        f"λ = {case.lambda_}, γ = {assumed:.3g} for {mdp.discount:.3g}, {len(data)} pairs of"
        f" {length} steps",
    )


class OneStep(NamedTuple):
    """One-step segments that share their state, a temperature and a bias."""

    logps: TokenPairLogps
    alpha: float
    lambda_: float


def _one_step(lambda_: st.SearchStrategy[float]) -> st.SearchStrategy[OneStep]:
    return st.builds(OneStep, token_pair_logps(max_length=1), ALPHAS, lambda_)


def _check_dpo(case: OneStep) -> Verdict:
    error = 0.0
    free = case.logps._replace(
        ref_chosen=np.zeros_like(case.logps.chosen), ref_rejected=np.zeros_like(case.logps.rejected)
    )
    for logps in (case.logps, free):
        pairs = PairLogps(*(part[:, 0] for part in logps[:4]))
        difference = cpl(logps, alpha=case.alpha, lambda_=case.lambda_) - losses.dpo(
            pairs, beta=case.alpha
        )
        error = max(error, float(np.abs(difference).max()))
    return Verdict(error)


# --- shape of the loss
# -------------------------------------------------------------------------------------------------------------------


class Two(NamedTuple):
    """Two tables, of log-probabilities or of logits, comparisons and a bias."""

    tables: np.ndarray
    segments: Segments
    lambda_: float
    logits: bool


def _two(logits: bool) -> st.SearchStrategy[Two]:
    return st.builds(
        Two,
        tables((2, 3, 2), low=-5, high=0 if not logits else 5),
        segment_pairs(),
        st.floats(0.1, 1.0),
        st.just(logits),
    )


def _loss(
    table: np.ndarray, segments: Segments, *, alpha: float, lambda_: float, discount: float = 0.9
) -> float:
    """Return the objective of a table of anything in the place of log-probabilities."""
    score = alpha * segments.returns(table, discount=discount)
    first, second = score[:, 0], score[:, 1]
    both = segments.prob * segment_contrast(first, second, lambda_=lambda_)
    return float(
        segments.weight
        @ (both + (1 - segments.prob) * segment_contrast(second, first, lambda_=lambda_))
    )


def _check_convexity(case: Two) -> Verdict:
    def value(table: np.ndarray) -> float:
        return _loss(
            log_softmax(table) if case.logits else table,
            case.segments,
            alpha=1.0,
            lambda_=case.lambda_,
        )

    first, second = case.tables
    return Verdict(max(0.0, value(0.5 * (first + second)) - 0.5 * (value(first) + value(second))))


class Direction(NamedTuple):
    """A table, a direction, comparisons, and whether the direction is freed of all that the comparisons see."""

    tables: np.ndarray
    segments: Segments
    projected: bool


def _check_flat(case: Direction) -> Verdict:
    start, direction = case.tables
    seen = np.einsum(
        "nktd,t->nkd",
        case.segments.step_features(np.eye(6).reshape(3, 2, 6)),
        0.9 ** np.arange(case.segments.length),
    )
    compared = seen[:, 0] - seen[:, 1]
    flat = direction.reshape(-1)
    if case.projected:
        flat = flat - np.linalg.pinv(compared, rcond=1e-10) @ (compared @ flat)
    values = [
        _loss(table, case.segments, alpha=1.0, lambda_=1.0)
        for table in (start, start + flat.reshape(3, 2))
    ]
    return Verdict(abs(values[1] - values[0]), f"moved by {np.abs(flat).max():.3g}")


class Raised(NamedTuple):
    """Comparisons, a temperature, a bias and a constant added to both scores."""

    logps: TokenPairLogps
    alpha: float
    lambda_: float
    constant: float


def _raised(lambda_: st.SearchStrategy[float]) -> st.SearchStrategy[Raised]:
    return st.builds(Raised, token_pair_logps(), st.floats(0.2, 1.0), lambda_, st.floats(-3, 3))


def _check_conservatism(case: Raised) -> Verdict:
    logps, alpha, lambda_, constant = case

    def value(c: float) -> np.ndarray:
        lift = np.where(np.arange(logps.chosen.shape[-1]) == 0, c / alpha, 0.0)
        return cpl(
            logps._replace(chosen=logps.chosen + lift, rejected=logps.rejected + lift),
            alpha=alpha,
            lambda_=lambda_,
        )

    step = 1e-4
    slope = (value(constant + step) - value(constant - step)) / (2 * step)
    chosen, rejected = segment_scores(logps, alpha=alpha)
    told = -(1 - lambda_) * sigmoid(lambda_ * rejected - chosen + (lambda_ - 1) * constant)
    return Verdict(
        float(np.abs(slope - told).max()) + float((told >= 0).sum()),
        f"steepest {told.min():.3g}, least {told.max():.3g}",
    )


def _check_gradient(case: Raised) -> Verdict:
    import torch

    logps, alpha, lambda_, _ = case
    moved = TokenPairLogps(*(torch.as_tensor(np.array(part)) for part in logps[:6]))
    parts = (moved.chosen.requires_grad_(), moved.rejected.requires_grad_())
    found = torch.autograd.grad(cpl(moved, alpha=alpha, lambda_=lambda_, discount=0.9).sum(), parts)
    chosen, rejected = segment_scores(logps, alpha=alpha, discount=0.9)
    common = (
        sigmoid(lambda_ * rejected - chosen)[:, None]
        * alpha
        * 0.9 ** np.arange(logps.chosen.shape[-1])
    )
    told = -common * logps.chosen_mask, lambda_ * common * logps.rejected_mask
    return Verdict(
        max(float(np.abs(to_numpy(a) - b).max()) for a, b in zip(found, told, strict=True))
    )


BELOW_ONE = st.floats(0.1, 0.9)
CLAIMS = (
    Claim(
        "soft_advantage",
        "identity",
        "Under soft optimality exp(A*/α) sums to one over the actions, and A* = α log π*.",
        "section 2",
        st.builds(Expert, segment_processes(), ALPHAS, st.just(True)),
        _check_soft_advantage,
        1e-11,
        breaks=st.builds(Expert, segment_processes(min_actions=2), ALPHAS, st.just(False)),
    ),
    Claim(
        "bijection",
        "identity",
        "Every policy p > 0 is optimal for the reward α log p, whose soft value is zero.",
        "proposition 1",
        _policied(),
        _check_bijection,
        1e-11,
    ),
    Claim(
        "shaping",
        "invariance",
        "Potential-based shaping changes neither the expert nor any preference by advantages.",
        "section 2",
        _shaped("advantages"),
        _check_shaping,
        1e-11,
        breaks=_shaped("rewards"),
    ),
    Claim(
        "consistency",
        "consistency",
        "The population loss with λ = 1 and the labels' own discount is minimised by the expert.",
        "theorem 1",
        _fitted(),
        _check_consistency,
        1e-6,
        breaks=st.one_of(_fitted(lambda_=0.5), _fitted(off_by=0.5)),
        examples=10,
    ),
    Claim(
        "dpo",
        "equivalence",
        "On one-step segments from one state the loss is DPO with β = α, and without a reference"
        " DPO without one.",
        "section 3.2",
        _one_step(st.just(1.0)),
        _check_dpo,
        1e-12,
        breaks=_one_step(BELOW_ONE),
    ),
    Claim(
        "convexity",
        "inequality",
        "The loss is convex in the table of log-probabilities.",
        "appendix, convexity",
        _two(logits=False),
        _check_convexity,
        1e-12,
        breaks=_two(logits=True),
    ),
    Claim(
        "flat_directions",
        "invariance",
        "It is not strictly convex: directions that no compared difference sees change nothing.",
        "appendix, convexity",
        st.builds(Direction, tables((2, 3, 2), low=-3, high=0), segment_pairs(), st.just(True)),
        _check_flat,
        1e-11,
        breaks=st.builds(
            Direction, tables((2, 3, 2), low=-3, high=0), segment_pairs(), st.just(False)
        ),
    ),
    Claim(
        "conservatism",
        "monotone",
        "Raising both scores by c changes the loss at the rate −(1−λ) σ(λv₋ − v₊ + (λ−1)c), which"
        " is negative for λ < 1.",
        "proposition 2",
        _raised(BELOW_ONE),
        _check_conservatism,
        1e-8,
        breaks=_raised(st.just(1.0)),
    ),
    Claim(
        "gradient",
        "identity",
        "The gradient is −σ(λv₋ − v₊)(∇v₊ − λ∇v₋).",
        "section 3.1",
        _raised(st.floats(0.1, 1.0)),
        _check_gradient,
        1e-10,
    ),
)


# --- reproduction
# ------------------------------------------------------------------------------------------------------------------------

PAGE_CURVES = {50: (-3.20, -4.86), 200: (-0.47, -3.51), 800: (0.753, 0.175), 3200: (0.932, 0.659)}


def reproduce(run: Run) -> Reproduction:
    table: list[dict[str, str | float | int]] = []
    criteria: list[Criterion] = []
    curves = experiments.learning_curves(run)
    means = {
        n: (float(found["CPL"].mean()), float(found["partial return"].mean()))
        for n, found in curves.items()
    }
    for n, pair in means.items():
        for method, value in zip(("CPL", "partial return"), pair, strict=True):
            table.append(
                {
                    "part": "4 x 4 grids",
                    "method": method,
                    "x": n,
                    "measure": "scaled soft return",
                    "value": value,
                }
            )
    seeds = len(next(iter(curves.values()))["CPL"])
    told = ", ".join(f"{n}: {a:g} / {b:g}" for n, (a, b) in PAGE_CURVES.items() if n in means)
    text = ", ".join(f"{n}: {a:.3g} / {b:.3g}" for n, (a, b) in means.items())
    criteria.append(
        Criterion(
            f"CPL above partial return at every size ({seeds} seeds)",
            told,
            text,
            all(a > b for a, b in means.values()),
        )
    )
    least = 0.85 if run.quick else 0.9  # two seeds scatter more than five
    criteria.append(
        Criterion(
            f"CPL at 3200 comparisons (> {least} here)",
            "> 0.9",
            f"{means[3200][0]:.3f}",
            means[3200][0] > least,
        )
    )
    errors = experiments.error_by_lambda(run.seed)
    text = ", ".join(f"λ = {x:g}: {error:.2g}" for x, error in errors.items())
    falling = all(
        a > b for a, b in zip(list(errors.values())[:-1], list(errors.values())[1:], strict=True)
    )
    criteria.append(
        Criterion(
            "population optimum: error 0 at λ = 1, growing as λ falls",
            "6e-11 at 1, 0.22 at 0.5",
            text,
            falling and errors[1.0] < 1e-6,
        )
    )
    masses = experiments.mass_by_lambda(run)
    text = ", ".join(f"λ = {x:g}: {mass:.3f}" for x, mass in masses.items())
    falling = all(
        a < b for a, b in zip(list(masses.values())[:-1], list(masses.values())[1:], strict=True)
    )
    criteria.append(
        Criterion(
            "half of the actions in the data: mass outside falls with λ",
            "falls with λ",
            text,
            falling,
        )
    )
    for part, measure, found in (
        ("population", "largest error", errors),
        ("half coverage", "mass outside the data", masses),
    ):
        table += [
            {"part": part, "method": "CPL", "x": x, "measure": measure, "value": value}
            for x, value in found.items()
        ]
    toys = experiments.gymnasium_curves(run)
    for name, sizes in toys.items():
        for n, values in sizes.items():
            for measure, key in (
                ("scaled soft return", "soft"),
                ("return of the most probable actions", "mode"),
            ):
                table.append(
                    {
                        "part": name,
                        "method": "CPL",
                        "x": n,
                        "measure": measure,
                        "value": values[key],
                    }
                )
        last = sizes[max(sizes)]
        close = last["soft"] > 0.95 and last["optimum"] - last["mode"] <= 0.02 * abs(
            last["optimum"]
        )
        text = f"return {last['mode']:.6f}, soft return {last['soft']:.3f}"
        criteria.append(
            Criterion(
                f"{name}: policy from {max(sizes)} recorded comparisons",
                f"exact optimum {last['optimum']:.6f}",
                text,
                close,
            )
        )
    return Reproduction(experiments.draw(curves, errors, masses, toys), table, tuple(criteria))

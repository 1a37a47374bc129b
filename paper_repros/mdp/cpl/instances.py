"""What claims draw and compare: processes with policies and potentials, lists, planes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.stats import norm

from paper_repros.mdp.cpl.continuous import Plane
from prefsim.data import Segments
from prefsim.losses import TokenPairLogps
from prefsim.losses.segments import cpl, segment_contrast, squared_error_logps
from prefsim.numerics import log_softmax
from prefsim.solvers.planning import PlanningResult, policy_iteration, soft_value_iteration
from prefsim.testing.bandits import tables
from prefsim.testing.segments import SegmentProcess, potentials, segment_processes
from prefsim.worlds import TabularMDP


def soft_plan(mdp: TabularMDP, alpha: float) -> PlanningResult:
    """Return the maximum-entropy expert to rounding."""
    return soft_value_iteration(mdp, temperature=alpha, tolerance=1e-15)


def soft_advantage(mdp: TabularMDP, alpha: float) -> np.ndarray:
    """Return the advantages ``(S, A)`` of the maximum-entropy expert."""
    return np.asarray(soft_plan(mdp, alpha).advantage)


def hard_advantage(mdp: TabularMDP, alpha: float) -> np.ndarray:
    """Return the optimal advantages ``(S, A)``, whatever the temperature."""
    return np.asarray(policy_iteration(mdp).advantage)


def nats(value: Any, alpha: float) -> float:
    """Return one more than the largest value, in nats: rounding grows with it."""
    return 1 + float(np.abs(np.asarray(value)).max()) / alpha


class Policied(NamedTuple):
    """A process and log-probabilities ``(S, A)`` of a policy in it."""

    process: SegmentProcess
    log_policy: np.ndarray


def policied(**options: Any) -> st.SearchStrategy[Policied]:
    """Return processes with a policy of full support."""
    return segment_processes(**options).flatmap(
        lambda process: tables(process.mdp.reward.shape, low=-3, high=3).map(
            lambda logits: Policied(process, log_softmax(logits))
        )
    )


class Shaped(NamedTuple):
    """A process and a potential ``(S,)`` that shapes its reward."""

    process: SegmentProcess
    potential: np.ndarray


def shaped() -> st.SearchStrategy[Shaped]:
    """Return processes with potentials that are zero where the episode ends."""
    return segment_processes(max_actions=2).flatmap(
        lambda process: st.builds(Shaped, st.just(process), potentials(process.mdp))
    )


def rewards(mdp: TabularMDP, alpha: float) -> np.ndarray:
    """Return the rewards ``(S, A)``, whatever the temperature."""
    return np.asarray(mdp.reward)


def loss_of(table: np.ndarray, segments: Segments, *, lambda_: float) -> float:
    """Return the objective of a table ``(S, A)`` of anything in the place of log-probabilities."""
    first, second = np.moveaxis(segments.returns(table, discount=0.9), -1, 0)
    forth = segments.prob * segment_contrast(first, second, lambda_=lambda_)
    back = (1 - segments.prob) * segment_contrast(second, first, lambda_=lambda_)
    return float(segments.weight @ (forth + back))


def unchanged(table: np.ndarray) -> np.ndarray:
    """Return a table of log-probabilities as it is."""
    return table


def pairs_of(logps: np.ndarray, ref_logps: np.ndarray, scores: np.ndarray) -> TokenPairLogps:
    """Return all pairs of lists ``(n, 5)``, the one of higher score chosen, of one step each."""
    # From the best to the worst; of two places the first is the better one.
    ranking, (better, worse) = np.argsort(-scores, axis=1), np.triu_indices(5, 1)
    sides = (
        np.take_along_axis(part, ranking[:, side], axis=1)[..., None]
        for side in (better, worse)
        for part in (logps, ref_logps)
    )
    chosen, reference, rejected, ref_rejected = sides
    every = np.ones(chosen.shape, dtype=bool)
    return TokenPairLogps(chosen, rejected, reference, ref_rejected, every, every)


@st.composite
def planes(draw: st.DrawFn) -> Plane:
    """Points that drift towards the origin or away from it, at any angle."""
    return Plane(
        angle=draw(st.floats(-3.0, 3.0)),
        drift=draw(st.floats(0.3, 1.2)),
        push=draw(st.floats(0.3, 1.5)),
        effort=draw(st.floats(0.2, 2.0)),
        discount=draw(st.floats(0.5, 0.95)),
    )


def squared_and_gaussian(
    plane: Plane, seed: int, gain: np.ndarray, *, lambda_: float
) -> tuple[np.ndarray, ...]:
    """Return the losses of four pairs by squared errors, and by a Gaussian of variance 1/2."""
    states, actions, _ = plane.draw(4, seed)
    mean = states @ gain.T
    densities = norm.logpdf(actions, mean, np.sqrt(0.5)).sum(axis=-1)
    found = []
    for steps in (squared_error_logps(actions, mean), densities):
        nothing, every = np.zeros_like(steps[:, 0]), np.ones(steps[:, 0].shape, dtype=bool)
        pairs = TokenPairLogps(steps[:, 0], steps[:, 1], nothing, nothing, every, every)
        found.append(cpl(pairs, alpha=0.5, lambda_=lambda_))
    return tuple(found)

"""The ten losses of the paper's table, and how hard each pulls its two responses by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis import PairDerivatives
from prefsim.losses import PairLogps, UnpairedLogps
from prefsim.numerics import sigmoid

BETA, LENGTH_WEIGHT, TARGET, MARGIN, SFT, PENALTY, POINT = 0.1, 0.05, 0.3, 1.0, 0.5, 5.0, 2.0
"""Strength of the KL penalty; weights of lengths; SimPO's target; SLiC's margin; weight of the
likelihood; DPOP's penalty; KTO's reference point in nats."""


def kto_of_pair(pair: PairLogps[Any], *, beta: float, reference_point: float) -> Any:
    """Return KTO of the chosen response as desirable and of the rejected one as not."""
    parts = []
    for policy, reference, good in (
        (pair.chosen, pair.ref_chosen, True),
        (pair.rejected, pair.ref_rejected, False),
    ):
        row = UnpairedLogps(policy, reference, policy > (-np.inf if good else np.inf))
        parts.append(losses.kto(row, beta=beta, reference_point=reference_point))
    return parts[0] + parts[1]


class Margins(NamedTuple):
    """What the table is written in, each ``(..., n)``."""

    chosen: np.ndarray
    rejected: np.ndarray
    ratio_chosen: np.ndarray
    ratio_rejected: np.ndarray
    chosen_length: np.ndarray
    rejected_length: np.ndarray

    @classmethod
    def of(cls, pair: PairLogps[np.ndarray]) -> Margins:
        """Return them for pairs with lengths."""
        return cls(
            pair.chosen,
            pair.rejected,
            pair.chosen - pair.ref_chosen,
            pair.rejected - pair.ref_rejected,
            np.asarray(pair.chosen_length),
            np.asarray(pair.rejected_length),
        )

    @property
    def implicit(self) -> np.ndarray:
        """β times the difference of the log-ratios."""
        return BETA * (self.ratio_chosen - self.ratio_rejected)

    @property
    def per_token(self) -> np.ndarray:
        """The difference of the mean log-probabilities of a token."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length

    @property
    def distance_from_kinks(self) -> float:
        """How far the nearest hinge of the table is from its kink."""
        kinks = self.per_token, self.chosen - self.rejected - MARGIN, self.ratio_chosen
        return float(np.abs(np.stack(kinks)).min())


def _dpo(m: Margins) -> tuple[Any, Any]:
    pull = BETA * sigmoid(-m.implicit)
    return pull, pull


def _rdpo(m: Margins) -> tuple[Any, Any]:
    longer = LENGTH_WEIGHT * (m.chosen_length - m.rejected_length)
    pull = BETA * sigmoid(-m.implicit - longer)
    return pull, pull


def _simpo(m: Margins) -> tuple[Any, Any]:
    pull = BETA * sigmoid(TARGET - BETA * m.per_token)
    return pull / m.chosen_length, pull / m.rejected_length


def _ipo(m: Margins) -> tuple[Any, Any]:
    pull = 2 * (1 / (2 * BETA) - m.implicit / BETA)
    return pull, pull


def _rrhf(m: Margins) -> tuple[Any, Any]:
    active = m.per_token < 0
    return active / m.chosen_length + SFT, active / m.rejected_length


def _slic(m: Margins) -> tuple[Any, Any]:
    active = (m.chosen - m.rejected < MARGIN).astype(float)
    return active + SFT, active


def _cpo(m: Margins) -> tuple[Any, Any]:
    pull = BETA * sigmoid(-BETA * (m.chosen - m.rejected))
    return pull + SFT / m.chosen_length, pull


def _dpop(m: Margins) -> tuple[Any, Any]:
    fallen = np.maximum(-m.ratio_chosen, 0.0)
    pull = BETA * sigmoid(BETA * PENALTY * fallen - m.implicit)
    return pull * (1 + PENALTY * (fallen > 0)), pull


def _kto(m: Margins) -> tuple[Any, Any]:
    gains = (sigmoid(BETA * (POINT - ratio)) for ratio in (m.ratio_chosen, m.ratio_rejected))
    up, down = (BETA * gain * (1 - gain) for gain in gains)
    return up, down


def _sppo(m: Margins) -> tuple[Any, Any]:
    target = 1 / (2 * BETA)
    return 2 * (target - m.ratio_chosen), 2 * (m.ratio_rejected + target)


class Row(NamedTuple):
    """One row of the table.

    Attributes
    ----------
    loss
        The loss of the library, its options bound.
    slopes
        How hard it pulls and pushes, by hand.
    rate
        Step size of the trajectories.
    """

    loss: Callable[[PairLogps[Any]], Any]
    slopes: Callable[[Margins], tuple[Any, Any]]
    rate: float = 0.1


TABLE: dict[str, Row] = {
    "DPO": Row(functools.partial(losses.dpo, beta=BETA), _dpo),
    "R-DPO": Row(functools.partial(losses.rdpo_length, beta=BETA, alpha=LENGTH_WEIGHT), _rdpo),
    "SimPO": Row(functools.partial(losses.simpo, beta=BETA, gamma=TARGET), _simpo),
    "IPO": Row(functools.partial(losses.ipo, tau=BETA), _ipo, 1e-3),
    "RRHF": Row(functools.partial(losses.rrhf, lambda_=SFT), _rrhf),
    "SLiC-HF": Row(functools.partial(losses.slic, delta=MARGIN, lambda_=SFT), _slic),
    "CPO": Row(functools.partial(losses.cpo, beta=BETA, alpha=SFT), _cpo),
    "DPOP": Row(functools.partial(losses.dpop, beta=BETA, penalty=PENALTY), _dpop),
    "KTO": Row(functools.partial(kto_of_pair, beta=BETA, reference_point=POINT), _kto),
    "SPPO": Row(functools.partial(losses.sppo_hard, beta=BETA), _sppo, 1e-3),
}
EXPLICIT = ("RRHF", "SLiC-HF", "CPO", "DPOP")
"""Losses with a term for the chosen response alone."""


def by_hand(name: str, pair: PairLogps[np.ndarray]) -> PairDerivatives:
    """Return a row's slopes by hand."""
    up, down = TABLE[name].slopes(Margins.of(pair))
    return PairDerivatives(np.asarray(up), np.asarray(down))

"""Which methods are compared, how they are trained and how they are drawn."""

from __future__ import annotations

from typing import NamedTuple

from paper_repros.theory.suboptimal_on_policy.didactic import (
    PUSH,
    Method,
    dpo,
    imitate_best,
    reinforce,
)
from paper_repros.theory.suboptimal_on_policy.sampled import BEST, BEST_AND_WORST, DPO

SMALL = 0.1
"""A β at which DPO on fixed data goes astray."""
SMALL_NAME = f"DPO, β = {SMALL}"
ESCAPE = 1000
"""Steps after which DPO with that β has escaped where it samples anew."""
REUSE = (1, 5, 50)
LEARNERS = {"best of 10": BEST, "DPO": DPO, "best and worst of 10": BEST_AND_WORST}


class Setting(NamedTuple):
    """A method, how it is trained and how it is drawn."""

    method: Method
    rate: float
    on_policy: bool
    colour: str

    @property
    def style(self) -> str:
        """The line: solid where samples are the policy's own."""
        return "-" if self.on_policy else "--"


SETTINGS = {
    "best of 10": Setting(imitate_best(), 1.0, False, "#0072b2"),
    "best of 10, own samples": Setting(imitate_best(), 1.0, True, "#0072b2"),
    "best of 10, worst pushed": Setting(imitate_best(PUSH), 1.0, False, "#56b4e9"),
    "policy gradient": Setting(reinforce, 10.0, True, "#009e73"),
    "DPO, β = 1": Setting(dpo(1.0), 20.0, False, "#d55e00"),
    "DPO, β = 1, own samples": Setting(dpo(1.0), 20.0, True, "#d55e00"),
    SMALL_NAME: Setting(dpo(SMALL), 20.0, False, "#cc79a7"),
    f"{SMALL_NAME}, own samples": Setting(dpo(SMALL), 20.0, True, "#cc79a7"),
}

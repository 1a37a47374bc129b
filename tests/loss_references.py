"""Reference values of losses on pairs: one batch, and what each loss makes of it to eight digits.

They were computed apart from this library: by TRL's code where it has the loss, otherwise from the
formula of the paper or of its authors' code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.losses import PairLogps

# Values are printed to eight digits.
EIGHT_DIGITS = 5.1e-9

BATCH = PairLogps(
    chosen=np.asarray([-12.5, -30.25, -8.0]),
    rejected=np.asarray([-14.0, -28.5, -20.75]),
    ref_chosen=np.asarray([-13.0, -29.0, -9.5]),
    ref_rejected=np.asarray([-13.5, -30.0, -18.25]),
    chosen_length=np.asarray([10.0, 25.0, 6.0]),
    rejected_length=np.asarray([12.0, 20.0, 15.0]),
)
SCORED = BATCH._replace(
    chosen_score=np.asarray([3.0, 2.0, 5.0]), rejected_score=np.asarray([1.0, 1.5, 0.0])
)
JUDGED = BATCH._replace(
    chosen_score=np.asarray([0.8, 0.3, 0.9]), rejected_score=np.asarray([0.2, 0.7, 0.1])
)


class Reference(NamedTuple):
    """What one loss makes of one batch.

    ``gradient`` is that of the second pair's value with respect to its chosen and rejected
    log-probability; of a loss that couples its batch, that of the sum of all values, printed as its
    third.
    """

    name: str
    options: dict[str, Any]
    batch: PairLogps
    values: tuple[float, ...]
    gradient: tuple[float, float] | None

    @property
    def loss(self) -> Callable[..., Any]:
        return functools.partial(getattr(losses, self.name), **self.options)

    @property
    def label(self) -> str:
        settings = "-".join(f"{option}={value}" for option, value in self.options.items())
        return f"{self.name}-{settings}" if settings else self.name


REFERENCES = (
    Reference("dpo", {}, BATCH, (0.64439666, 0.84007067, 0.51301525), (-0.05683200, 0.05683200)),
    Reference(
        "dpo",
        {"label_smoothing": 0.1},
        BATCH,
        (0.65439666, 0.81257067, 0.55301525),
        (-0.04683200, 0.04683200),
    ),
    Reference("rdpo", {}, BATCH, (0.63189666, 0.87444567, 0.46301525), (-0.06933200, 0.06933200)),
    Reference(
        "soft",
        {"target": 0.7},
        BATCH,
        (0.67439666, 0.75757067, 0.63301525),
        (-0.02683200, 0.02683200),
    ),
    Reference("ipo", {}, BATCH, (16, 60.0625, 1), (-15.5, 15.5)),
    Reference(
        "ipo", {"average": True}, BATCH, (24.09173611, 26.265625, 21.00694444), (-0.41, 0.5125)
    ),
    Reference("hinge", {}, BATCH, (0.9, 1.275, 0.6), (-0.1, 0.1)),
    Reference("probit", {}, BATCH, (0.61650501, 0.93736596, 0.42247637), (-0.09808016, 0.09808016)),
    Reference("robust_ipo", {}, BATCH, (13.5, 66.9375, -9), (-18, 18)),
    Reference("robust_hinge", {}, BATCH, (0.875, 1.34375, 0.5), (-0.125, 0.125)),
    Reference(
        "robust_probit",
        {},
        BATCH,
        (0.59654881, 0.99240943, 0.34210666),
        (-0.11823334, 0.11823334),
    ),
    Reference("slic", {}, BATCH, (1.25, 5.775, 0.8), (-1.1, 1)),
    Reference("rrhf", {}, BATCH, (12.58333333, 30.25, 8), (-1, 0)),
    Reference(
        "apo_zero", {}, BATCH, (0.97500521, 1.06863922, 0.90039365), (-0.02490260, 0.02485990)
    ),
    Reference(
        "apo_down", {}, BATCH, (0.98751821, 1.03711061, 0.93874219), (0.00036936, 0.02453324)
    ),
    Reference("orpo", {}, BATCH, (1.32543385, 1.26569143, 1.39933932), (-0.04243388, 0.00281126)),
    Reference(
        "asft",
        {"lambda_": 0.1},
        BATCH,
        (1.41230994, 1.35851061, 1.49553377),
        (-0.04400000, 0.00158335),
    ),
    Reference("cpo", {}, BATCH, (1.87095705, 1.99447043, 1.57974876), (-0.09436387, 0.05436387)),
    Reference("simpo", {}, BATCH, (1.08103675, 0.72875956, 0.91301525), (-0.04139943, 0.05174929)),
    Reference(
        "rdpo_length", {}, BATCH, (0.69314718, 0.70572530, 0.71845965), (-0.05062497, 0.05062497)
    ),
    Reference("odpo", {}, SCORED, (1.03306876, 0.50577208, 1.47054365), (-0.03969602, 0.03969602)),
    Reference("dpop", {}, BATCH, (0.55435524, 19.575, 0.26328247), (-15.29999995, 0.3)),
    Reference(
        "flex_dpo", {}, BATCH, (0.64915934, 0.82313161, 0.53338216), (-0.05609455, 0.04487564)
    ),
    Reference(
        "flex_dpo",
        {"beta_rejected": 0.02},
        BATCH,
        (0.66359711, 0.77364730, 0.59813887),
        (-0.05386726, 0.01077345),
    ),
    Reference(
        "exo_pair", {}, BATCH, (2.58995403, 3.24246459, 2.09922623), (-0.17619170, 0.17619170)
    ),
    Reference(
        "nca_pair", {}, BATCH, (1.36191930, 1.45937708, 1.29440528), (-0.02968141, 0.02687149)
    ),
    Reference(
        "bco_pair", {}, BATCH, (1.33691930, 1.52855608, 1.19689647), (-0.05312094, 0.05374298)
    ),
    Reference(
        "bco", {}, BATCH, (1.33695833, 1.52867271, 1.19662579), (-0.01760318 * 3, 0.01801786 * 3)
    ),
    Reference(
        "aot", {}, BATCH, (0.81196200, 0.66845965, 0.51301525), (-0.01853380 * 3, 0.01853380 * 3)
    ),
    Reference(
        "aot_unpaired",
        {},
        BATCH,
        (0.63259904, 0.64439666, 0.69314718),
        (-0.01562635 * 3, 0.01666667 * 3),
    ),
    Reference(
        "cal_dpo", {}, BATCH, (40.81326169, 84.12446759, 18.51814993), (-13.43991335, 13.93991335)
    ),
    Reference("sppo_hard", {}, BATCH, (40.5, 81.3125, 18.5), (-12.5, 13)),
    Reference("sppo", {}, JUDGED, (6.25, 0.40625, 4.25), None),
    Reference("gpo", {}, SCORED, (490.25, 316.90625, 1179.25), (-21.25, -13.5)),
    Reference(
        "discopop", {}, BATCH, (0.87518092, 0.78728039, 0.81476314), (-0.00691946, 0.00691946)
    ),
    Reference(
        "sigmoid_norm", {}, BATCH, (0.68857435, 0.69941671, 0.67253085), (-0.00201250, 0.00251562)
    ),
    Reference("drdpo", {}, BATCH, (0.65691370,) * 3, (-0.01577348 * 3, 0.01577348 * 3)),
    Reference(
        "beta_dpo",
        {"margin_mean": 1.0},
        BATCH,
        (0.65155003, 0.81683657, 0.53752811),
        (-0.04744469, 0.04744469),
    ),
    Reference(
        "f_dpo",
        {"divergence": "forward_kl"},
        BATCH,
        (0.64239474, 0.86979224, 0.26422456),
        (-0.20277545, 0.01296300),
    ),
    Reference(
        "f_dpo",
        {"divergence": "jensen_shannon"},
        BATCH,
        (0.66845965, 0.76028566, 0.58132227),
        (-0.04138866, 0.00971356),
    ),
    Reference(
        "f_dpo",
        {"divergence": "alpha", "alpha": 0.3},
        BATCH,
        (0.64421834, 0.83862476, 0.47667853),
        (-0.08259919, 0.03619785),
    ),
    Reference(
        "f_dpo",
        {"divergence": "mixed_chi_squared"},
        BATCH,
        (0.59624179, 1.09952666, 0.35888184),
        (-0.08580618, 0.36561294),
    ),
    Reference("chipo", {}, BATCH, (0.59624179, 1.09952666, 0.35888184), (-0.08580618, 0.36561294)),
    Reference("rpo", {}, BATCH, (0.65064666, 0.85519567, 0.51701525), (-0.05733200, 0.05683200)),
    Reference(
        "rpo",
        {"reduction": "mean", "eta": 0.2},
        BATCH,
        (0.89439666, 1.08207067, 0.77968192),
        (-0.06483200, 0.05683200),
    ),
    Reference("vpo", {}, BATCH, (0.63939666, 0.85257067, 0.49801525), (-0.06683200, 0.05683200)),
    Reference(
        "vpo",
        {"optimistic": True, "calibration": "pair"},
        BATCH,
        (0.64439666, 0.84132067, 0.50801525),
        (-0.05183200, 0.06183200),
    ),
    Reference("npo", {}, BATCH, (13.36919296, 15.41914096, 11.51878840), (0, 1.07485969)),
    Reference("simnpo", {}, BATCH, (0.04216031, 0.02237832, 0.02479743), (0, 0.00275853)),
)

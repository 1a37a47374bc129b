"""What a loss sees: log-probabilities in nats, rewards or logits, with any leading batch shape.

Fields are reached by name. :func:`map_fields`, :func:`stacked` and the methods ``swapped`` visit
every field that a container has, so that a new one takes part from the day it is written.
``example`` gives random data of a container, for checks that run over every loss.
"""

from prefsim.containers.fields import fields_of, map_fields, stacked
from prefsim.containers.log_probs import (
    AnchoredLogps,
    JudgedLogps,
    ListLogps,
    PairLogps,
    SelfImprovementLogps,
    TokenListLogps,
    TokenPairLogps,
    UnpairedLogps,
)
from prefsim.containers.scores import (
    ClassLogits,
    ClassPairs,
    DegreeLogits,
    DegreePairLogps,
    DistillationLogits,
    GaussianRewards,
    PairRewards,
    TokenValues,
)

__all__ = [
    "AnchoredLogps",
    "ClassLogits",
    "ClassPairs",
    "DegreeLogits",
    "DegreePairLogps",
    "DistillationLogits",
    "GaussianRewards",
    "JudgedLogps",
    "ListLogps",
    "PairLogps",
    "PairRewards",
    "SelfImprovementLogps",
    "TokenListLogps",
    "TokenPairLogps",
    "TokenValues",
    "UnpairedLogps",
    "fields_of",
    "map_fields",
    "stacked",
]


def __dir__() -> list[str]:
    return sorted(__all__)

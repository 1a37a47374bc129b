"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="a structure that entails another has the larger loss",
        true=(
            "Among the sixteen structures of the lattice the order of losses and entailment are "
            "one. Among all 225 of two predictions entailment is sufficient only: of 8951 pairs "
            "whose scores are ordered at all probabilities 4225 entail (of different structures "
            "4000 of 8726). The squared loss, which rises beyond its target, has no such order, "
            "and scores relative to the whole structure of a reference lose it."
        ),
        known="`prefsim check logic_dpa`",
    ),
)

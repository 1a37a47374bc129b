"""The SFT loss as an adversarial regulariser: DPO against the worst reward that fits the data."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="rpo_overopt",
    title=(
        "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial"
        " Regularizer"
    ),
    arxiv="2405.16436",
    year=2024,
    summary=(
        "The best policy against the worst reward that still fits the data minimises DPO's loss"
        " plus an SFT loss on a baseline."
    ),
    implements=(
        "prefsim.losses.rpo",
        "prefsim.solvers.games.pessimism.PessimisticGame",
        "prefsim.solvers.optimisers.penalties.cross_entropy_penalty",
        "prefsim.analysis.coverage.partial_coverage_coefficient",
    ),
)

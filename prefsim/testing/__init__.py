"""Public hypothesis strategies: worlds, policies and data for property tests of your own."""

from prefsim.testing.bandits import (
    alphas,
    bandits,
    bandits_with_reference,
    betas,
    divergences,
    flip_rates,
    margins,
    pair_logps,
    policies,
    tables,
)

__all__ = [
    "alphas",
    "bandits",
    "bandits_with_reference",
    "betas",
    "divergences",
    "flip_rates",
    "margins",
    "pair_logps",
    "policies",
    "tables",
]

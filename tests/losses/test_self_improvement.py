"""The loss of a model that answers and revises: its terms, and bad input."""

import numpy as np
import pytest

from prefsim import losses

RATIOS = {
    "chosen": 0.3,
    "rejected": -0.1,
    "chosen_from_rejected": 0.5,
    "rejected_from_chosen": -0.4,
    "chosen_from_chosen": 0.2,
    "rejected_from_rejected": 0.1,
}


def one_pair(**changes):
    policy = {name: np.array([ratio]) for name, ratio in RATIOS.items()}
    reference = {f"ref_{name}": np.zeros(1) for name in RATIOS}
    return losses.SelfImprovementLogps(**(policy | reference | changes))


@pytest.mark.parametrize(("alpha", "value"), [(0, 0.1832), (1, 0.0576), (0.5, 0.1204)])
def test_terms(alpha, value):
    assert losses.srpo(one_pair(), beta=0.4, alpha=alpha)[0] == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"beta": 0.0}, "beta must be a finite number > 0"),
        ({}, {"alpha": 1.5}, r"alpha must lie in \[0.0, 1.0\]"),
        ({"ref_chosen": np.zeros(2)}, {}, "one shape"),
    ],
)
def test_bad_input(changes, options, message):
    with pytest.raises(ValueError, match=message):
        losses.srpo(one_pair(**changes), **options)

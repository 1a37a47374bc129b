"""Losses without a reference: what they refuse."""

import numpy as np
import pytest

from prefsim import losses

ONE = np.ones(1)
PAIR = losses.PairLogps(-ONE, -2 * ONE, 0 * ONE, 0 * ONE, chosen_length=ONE, rejected_length=ONE)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"lambda_": -0.1}, "lambda_ must be a finite number >= 0"),
        ({}, {"beta": 0.0}, "beta must be a finite number > 0"),
        ({}, {"sft_weight": -1.0}, "sft_weight must be a finite number >= 0"),
        ({"chosen_length": None}, {}, "chosen_length is needed"),
        ({"rejected": np.zeros(2)}, {}, "one shape"),
    ],
)
def test_what_asft_refuses(changes, options, message):
    with pytest.raises(ValueError, match=message):
        losses.asft(PAIR._replace(**changes), **options)

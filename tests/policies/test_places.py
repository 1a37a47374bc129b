"""Data meet a policy: prompts and responses that it does not have are named, not read elsewhere."""

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.backend import use_backend
from prefsim.data import Comparisons, Feedback, Negatives, Rankings, Segments
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit

POLICY = TabularPolicy.uniform(2, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Comparisons([0, 0], [3, 2], [1, 1]), "chosen must be >= 0 and < 3, got 3 at index 0"),
        (Comparisons([0, 1], [2, 2], [1, 3]), "rejected must be >= 0 and < 3, got 3 at index 1"),
        (Comparisons([0, 2], [2, 2], [1, 1]), "prompt must be >= 0 and < 2, got 2 at index 1"),
        (Negatives([0, 0], [1, 4], [[0], [2]]), "rejected must be >= 0 and < 3, got 4 at index 1"),
        (Negatives([0, 0], [1, 1], [[0], [9]]), "samples must be >= 0 and < 3, got 9 at index 1"),
        (
            Rankings([0], [[0, 3]], [[1.0, 2.0]]),
            r"completions must be >= 0 and < 3, got 3 at index \(0, 1\)",
        ),
        (
            Feedback([0, 1], [2, 3], [True, False]),
            "completion must be >= 0 and < 3, got 3 at index 1",
        ),
        (
            Feedback([0, 0], [2, 1], [1, 0], mismatched=[3, 0]),
            "mismatched must be >= 0 and < 3, got 3 at index 0",
        ),
        (
            Segments([[[0, 1], [0, 0]]], [[[1], [3]]]),
            "actions must be >= 0 and < 3, got 3 at index 1",
        ),
        (
            Segments([[[2, 1], [0, 0]]], [[[1], [2]]]),
            "states must be >= 0 and < 2, got 2 at index 0",
        ),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_column_and_the_row_are_named(data, message, library):
    with use_backend(library):
        policy = TabularPolicy.uniform(2, 3)
    with pytest.raises(ValueError, match=message):
        data.log_probs(policy)


def test_a_file_that_counts_from_one_is_no_fit():
    with pytest.raises(ValueError, match="chosen must be >= 0 and < 3, got 3 at index 0"):
        fit(POLICY, losses.ipo, Comparisons([0, 0], [3, 2], [1, 1]), reference=POLICY)


def test_batches_of_policies_and_of_indices():
    batch = TabularPolicy.random(2, 3, seed=0, batch_shape=(4,))
    shared = batch.log_prob(np.array([0, 1]), np.array([2, 0]))
    assert shared.shape == (4, 2)
    with pytest.raises(ValueError, match=r"response must be >= 0 and < 3, got 5"):
        batch.log_prob(np.array([0, 1]), np.array([2, 5]))
    tensor = TabularPolicy.from_logits(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"prompt must be >= 0 and < 2, got -1"):
        tensor.log_prob(torch.tensor([0, -1]), torch.tensor([2, 0]))


def test_columns_are_told_apart():
    policy = TabularPolicy.random(2, 3, seed=1)
    asked = {
        "one": (np.array([0, 1, 1]), np.array([2, 0, 1])),
        "two": (np.array([1]), np.array([2])),
    }
    found = policy.log_prob_each(asked)
    for name, (prompt, response) in asked.items():
        np.testing.assert_array_equal(found[name], policy.log_prob(prompt, response))

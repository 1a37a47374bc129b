"""Draws on a processor, from cumulative sums."""

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim.lm import CausalLM
from prefsim.lm.model.sampling import drawn_from

PROBS = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("uniform", "drawn"), [(0.0, [1, 0]), (0.3, [3, 0]), (0.5, [3, 4]), (1.0 - 2.0**-53, [3, 4])]
)
def test_no_number_draws_what_has_no_probability(monkeypatch, uniform, drawn):
    monkeypatch.setattr(torch, "rand", lambda shape, dtype: torch.full(shape, uniform, dtype=dtype))
    assert drawn_from(PROBS).tolist() == drawn
    # Sums that are off one, as those of float32 are.
    assert drawn_from(PROBS * 3.0).tolist() == drawn


def test_draws_have_the_probabilities():
    torch.manual_seed(0)
    probs = torch.tensor([0.1, 0.2, 0.0, 0.7])
    counts = torch.bincount(drawn_from(probs.expand(20_000, -1)), minlength=4) / 20_000
    # Hoeffding and a union over 4: 0.03 has probability below 1e-14.
    assert (counts - probs).abs().max() < 0.03


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"temperature": 0.5}, lambda p: p**2),
        ({"top_k": 3}, lambda p: np.where(p >= np.sort(p)[-3], p, 0)),
        ({"top_p": 0.5}, lambda p: np.where(p >= nucleus(p, 0.5), p, 0)),
    ],
)
def test_draws_are_of_the_distribution_that_was_asked_for(settings, kept):
    policy = CausalLM.from_config(small_llama(12), seed=1)
    own = policy.log_prob([[1, 5, 5]] * 12, [[token] for token in range(12)]).exp().numpy()
    wanted = kept(own) / kept(own).sum()
    drawn = policy.sample([[1, 5, 5]], 4000, 3, max_new_tokens=1, **settings)[0]
    counts = np.bincount([ids[0] for ids in drawn], minlength=12) / 4000
    assert not counts[wanted == 0].any()
    # Hoeffding and a union over 12 tokens: a deviation of 0.05 has probability below 1e-7.
    assert np.abs(counts - wanted).max() < 0.05


def nucleus(probs, mass):
    """The least probability among the fewest tokens that have so much together."""
    falling = np.sort(probs)[::-1]
    return falling[np.searchsorted(falling.cumsum(), mass)]

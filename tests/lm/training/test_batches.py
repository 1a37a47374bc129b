"""Which rows meet in a step, and how the rate goes."""

import itertools

import numpy as np

from prefsim.lm import (
    TrainingOptions,
)
from prefsim.lm.training.batches import BatchPlan, epoch_batches, micro_batches
from prefsim.lm.training.options import learning_rate_factor


def test_every_row_is_in_one_batch_of_an_epoch():
    lengths = np.random.default_rng(0).integers(1, 100, 103)
    for order in ("by_length", "shuffled", "given"):
        batches = epoch_batches(lengths, 4, order=order, seed=0, epoch=0)
        assert sorted(np.concatenate(batches).tolist()) == list(range(103))
        assert sorted(map(len, batches)) == [3] + [4] * 25
        again = epoch_batches(lengths, 4, order=order, seed=0, epoch=0)
        assert all((a == b).all() for a, b in zip(batches, again, strict=True))
        other = epoch_batches(lengths, 4, order=order, seed=0, epoch=1)
        assert (order == "given") == all(
            (a == b).all() for a, b in zip(batches, other, strict=True)
        )
    by_length = epoch_batches(lengths, 4, order="by_length", seed=0, epoch=0)
    assert lengths.max() in lengths[by_length[0]]
    padding = [
        sum(
            int(lengths[batch].max()) * len(batch)
            for batch in epoch_batches(lengths, 4, order=order, seed=0, epoch=0)
        )
        for order in ("by_length", "shuffled")
    ]
    assert padding[0] < 0.75 * padding[1]


def test_a_plan_goes_on_where_it_is_asked_to():
    plan = BatchPlan(np.arange(10), 4, "shuffled", 7)
    whole = list(plan.batches(0, 8))
    assert [batch.tolist() for batch in plan.batches(5, 8)] == [
        batch.tolist() for batch in whole[5:]
    ]
    split = micro_batches(whole[0], plan.lengths, 6, regroup=True)
    assert sorted(len(part) for part in split) == [0, 0, 1, 1, 1, 1]


def test_learning_rates():
    rates = [learning_rate_factor(step, 10, schedule="cosine", warmup=0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[2:]))
    assert learning_rate_factor(9, 10, schedule="constant", warmup=0.0) == 1.0
    assert TrainingOptions(epochs=2.5, batch_size=4).total_steps(10) == 8
    assert TrainingOptions().total_steps(3) == 1

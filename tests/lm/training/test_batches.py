"""Which rows meet in a step, and how the rate goes."""

import itertools

import numpy as np
import pytest
from lm_made import random_pairs

from prefsim import losses
from prefsim.lm import Evaluation, TextComparisons, TrainingOptions
from prefsim.lm.training.batches import BatchPlan, Split, epoch_batches, micro_batches
from prefsim.lm.training.schedule import learning_rate_factor
from prefsim.solvers import fit


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


@pytest.mark.parametrize("tokens", [200, 450, 10**6])
def test_micro_batches_by_tokens_hold_every_row_once_and_no_token_too_many(tokens):
    lengths = np.random.default_rng(0).integers(1, 101, 60)
    split = Split(lengths, 2, 1, tokens, couples=False)
    split.check("the data")
    batch = np.arange(7, 40)
    for processes in (1, 3):
        parts = split.of_step(batch, processes)
        assert len(parts) % processes == 0
        assert sorted(np.concatenate(parts).tolist()) == batch.tolist()
        filled = [part for part in parts if len(part)]
        used = [2 * len(part) * int(lengths[part].max()) for part in filled]
        assert max(used) <= tokens
        # One row more would not have gone in.
        assert all(
            used[i] + 2 * int(lengths[part].max()) > tokens for i, part in enumerate(filled[:-1])
        )
    of_all = split.of_evaluation(4)
    assert sorted(np.concatenate(of_all).tolist()) == list(range(60))
    assert max(2 * len(part) * lengths[part].max() for part in of_all) <= tokens


def test_tokens_that_cannot_split_a_step_are_refused(tiny):
    data = random_pairs(5)
    longest = max(
        len(x) + len(y)
        for x, *ys in zip(data.prompt, data.chosen, data.rejected, strict=True)
        for y in ys
    )
    message = rf"micro_batch_tokens must be >= {2 * longest}, the tokens of example \d of the data"
    options = {"steps": 1, "reference": tiny, "progress": False}
    with pytest.raises(ValueError, match=message):
        fit(tiny, losses.dpo, data, micro_batch_tokens=2 * longest - 1, **options)
    held_out = Evaluation(data=random_pairs(3, seed=4))
    with pytest.raises(ValueError, match="of the evaluation's data"):
        fit(
            tiny,
            losses.dpo,
            TextComparisons([[3]], [[4]], [[5]]),
            evaluation=held_out,
            micro_batch_tokens=8,
            **options,
        )
    with pytest.raises(ValueError, match="the loss couples the examples of its micro-batch"):
        fit(tiny, losses.aot, data, micro_batch_tokens=100, **options)
    with pytest.raises(ValueError, match="got both: 9 and 2"):
        TrainingOptions(micro_batch_tokens=9, gradient_accumulation=2)
    with pytest.raises(ValueError, match="micro_batch_tokens must be"):
        TrainingOptions(micro_batch_tokens=0)


def test_an_evaluation_by_tokens_measures_the_same(tiny64):
    data, found = random_pairs(5), []
    for way in ({}, {"micro_batch_tokens": 40}):
        evaluation = Evaluation(data=random_pairs(9, seed=1))
        options = {"steps": 2, "batch_size": 5, "learning_rate": 1e-3, "progress": False}
        result = fit(
            tiny64, losses.dpo, data, reference=tiny64, evaluation=evaluation, **way, **options
        )
        found.append([line["eval_margin"] for line in result.metrics if "eval_margin" in line])
    np.testing.assert_allclose(*found, rtol=1e-10, atol=1e-12)


def test_learning_rates():
    rates = [learning_rate_factor(step, 10, schedule="cosine", warmup=0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[2:]))
    assert learning_rate_factor(9, 10, schedule="constant", warmup=0.0) == 1.0
    assert TrainingOptions(epochs=2.5, batch_size=4).total_steps(10) == 8
    assert TrainingOptions().total_steps(3) == 1

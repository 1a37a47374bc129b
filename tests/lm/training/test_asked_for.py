"""What a training is asked for is said in full, and what it cannot give is told before it runs."""

import functools

import pytest
from lm_made import random_ids, random_pairs

from prefsim import losses
from prefsim.containers import PairLogps, TokenPairLogps
from prefsim.lm import TextComparisons, TextFeedback
from prefsim.losses.catalogue import reads_reference
from prefsim.losses.registry import container_of, loss_functions
from prefsim.solvers import fit

OPTIONS = {"steps": 1, "progress": False}
OF_PAIRS = {
    name: loss
    for name, loss in loss_functions().items()
    if container_of(loss) in (PairLogps, TokenPairLogps)
}
READING = [name for name, loss in OF_PAIRS.items() if reads_reference(loss)]


def test_some_losses_read_the_reference_and_some_do_not():
    assert {"dpo", "ipo", "sppo", "tdpo1"} <= set(READING)
    assert not {"simpo", "orpo", "cpo", "slic"} & set(READING)


@pytest.mark.parametrize("name", READING)
def test_a_loss_that_reads_the_reference_is_given_one(tiny, name):
    with pytest.raises(ValueError, match=f"{name} reads the reference, and none was given"):
        fit(tiny, OF_PAIRS[name], random_pairs(), **OPTIONS)


def test_what_was_not_needed_or_was_said_is_trained_with(tiny):
    assert fit(tiny, losses.simpo, random_pairs(), **OPTIONS).steps == 1
    assert fit(tiny, losses.dpo, random_pairs(), reference=None, **OPTIONS).steps == 1
    feedback = TextFeedback([[3], [4]], [[5], [6]], [1.0, 0.0])
    with pytest.raises(ValueError, match="nash_md_pg reads the reference"):
        fit(tiny, losses.nash_md_pg, feedback, **OPTIONS)


def test_a_loss_goes_by_its_name(tiny):
    by_name, by_itself = (
        fit(tiny, loss, random_pairs(), reference=tiny, **OPTIONS).value
        for loss in ("ipo", losses.ipo)
    )
    assert by_name == by_itself
    with pytest.raises(ValueError, match=r"did you mean .*'dpo'"):
        fit(tiny, "dppo", random_pairs(), reference=tiny, **OPTIONS)


@pytest.mark.parametrize("name", ["tol", "tolerance", "max_iterations", "step", "learningrate"])
def test_options_of_other_policies_are_named(tiny, name):
    message = f"fit of a language model has no option '{name}': it takes steps or epochs"
    with pytest.raises(TypeError, match=message):
        fit(tiny, losses.dpo, random_pairs(), reference=tiny, **{name: 1})


def feedback(n, **columns):
    import numpy as np

    rng = np.random.default_rng(0)
    labels = [i % 2 for i in range(n)]
    return TextFeedback(random_ids(rng, n), random_ids(rng, n), labels, **columns)


ALONE = "couples the examples of its batch, and of 1 alone it is the same whatever the policy says"
# Rows, how a step of them is split, and whether an example is alone anywhere.
SPLITS = [
    (4, {"batch_size": 1}, True),
    (4, {"batch_size": 2}, False),
    (4, {"batch_size": 2, "gradient_accumulation": 2}, True),
    (4, {"batch_size": 4, "gradient_accumulation": 2}, False),
    (4, {"batch_size": 4, "gradient_accumulation": 3}, True),
    (5, {"batch_size": 4, "epochs": 1.0}, True),
    (6, {"batch_size": 4, "epochs": 1.0}, False),
]


@pytest.mark.parametrize(("rows", "split", "is_alone"), SPLITS)
@pytest.mark.parametrize("loss", [losses.kto, losses.bco_unpaired], ids=["kto", "bco_unpaired"])
def test_an_example_alone_teaches_a_loss_that_couples_nothing(tiny, loss, rows, split, is_alone):
    options = {"progress": False, **({} if "epochs" in split else {"steps": 1}), **split}
    if is_alone:
        with pytest.raises(ValueError, match=ALONE):
            fit(tiny, loss, feedback(rows), reference=tiny, **options)
    else:
        assert fit(tiny, loss, feedback(rows), reference=tiny, **options).steps > 0


def test_more_processes_leave_less_in_each(tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match=r"a step of 2 examples in 2 parts has such \(batch_size ="
    ):
        fit(tiny, losses.kto, feedback(4), reference=tiny, batch_size=2, **OPTIONS)


def test_what_gives_a_reference_point_lets_an_example_be_alone(tiny):
    """Then the value of an example does depend on what the policy says."""
    data = feedback(4)
    for loss, rows in (
        (functools.partial(losses.kto, reference_point=0.0), data),
        (losses.kto, data.with_mismatched(seed=0)),
        (losses.running_bco(beta=0.1), data),
    ):
        assert fit(tiny, loss, rows, reference=tiny, batch_size=1, **OPTIONS).steps == 1


COUPLED = [name for name, loss in OF_PAIRS.items() if "batch" in (loss.__doc__ or "")]


@pytest.mark.parametrize("name", COUPLED)
def test_pairs_alone_are_enough_for_losses_of_pairs(tiny, name):
    scores = {
        "chosen_score": [1.0, 2.0],
        "rejected_score": [0.0, 0.5],
        "old_chosen": [-3.0, -4.0],
        "old_rejected": [-4.0, -3.0],
    }
    data = TextComparisons([[3], [4]], [[5], [6]], [[7], [8]], **scores)
    assert fit(tiny, OF_PAIRS[name], data, reference=tiny, batch_size=1, **OPTIONS).steps == 1

"""Fields of a loss's container: of one shape or refused by name; what is not read does nothing."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from loss_examples import example_of
from loss_settings import base_options, configurations, outcome

from prefsim.containers import map_fields
from prefsim.losses.registry import container_of, loss_functions

LOSSES = loss_functions()
# Beside log-probabilities: what NumPy may refuse in its own words.
BESIDE = re.compile(r".*(score|length|degree|density_ratio|margin)")
# Which of two columns stands for the reference depends on the step and the penalty.
REFUSED_BY_NUMPY = {"inpo", "mirror_descent"}


def is_read(loss: Callable[..., Any], container: Any, field: str, value: np.ndarray) -> bool:
    """Whether a loss depends on a field in some setting: its value, or whether it is taken."""
    changed = np.flip(value, axis=0) if value.dtype.kind != "f" else value + 0.01
    for setting in configurations(loss):
        before = loss(container, **setting)
        after, refusal = outcome(loss, container._replace(**{field: changed}), **setting)
        if refusal or not np.array_equal(before, after):
            return True
    return False


def is_named(field: str, refusal: str) -> bool:
    return re.search(rf"\b{field}\b", refusal) is not None


OF_LISTS = {
    "AnchoredLogps",
    "ClassLogits",
    "JudgedLogps",
    "ListLogps",
    "TokenListLogps",
    "TokenValues",
}


@pytest.mark.parametrize(
    "name", sorted(n for n, loss in LOSSES.items() if container_of(loss).__name__ in OF_LISTS)
)
def test_lists_without_an_entry_and_no_lists_at_all_are_refused(name):
    loss = LOSSES[name]
    container = example_of(loss, seed=12)
    for part in (lambda x: x[..., :0], lambda x: x.reshape(-1)[0]):
        with pytest.raises(ValueError, match=r" (at least|more axis|>= 2) .*got"):
            loss(map_fields(container, part), **base_options(loss))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_field_of_another_shape_is_refused(name):
    loss = LOSSES[name]
    container = example_of(loss, seed=12)
    for field in container._fields:
        value = getattr(container, field)
        if value is None or not is_read(loss, container, field, value):
            continue
        longer = container._replace(**{field: np.concatenate([value, value[:1]])})
        refusal = outcome(loss, longer, **base_options(loss))[1]
        assert refusal, field
        if not BESIDE.fullmatch(field) and name not in REFUSED_BY_NUMPY:
            # Logits of degrees are those of a classifier, whose labels do not fit.
            assert is_named(field, refusal) or is_named("label", refusal), field


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_field_that_is_missing_is_named(name):
    loss = LOSSES[name]
    container = example_of(loss, seed=12)
    for field, default in container._field_defaults.items():
        assert default is None
        for setting in configurations(loss):
            value, refusal = outcome(loss, container._replace(**{field: None}), **setting)
            assert value is not None or is_named(field, refusal)

"""Whatever comes to a loss: a right value, or one error that names what is wrong.

Every public loss is swept, a new one from the day it is written.
"""

import functools
import inspect
import math
import re
import typing

import numpy as np
import pytest
import torch
from loss_examples import differentiable, example_of, to_torch
from loss_settings import ALTERNATIVES, base_options, configurations, options
from wrong_types import NO_NUMBERS, OTHER_FORMS, PRECISION, STRANGE_OPTIONS, doubles, spoilt

from prefsim import losses
from prefsim.checks import check_integer, trusted_values
from prefsim.containers import PairLogps, PairRewards, map_fields
from prefsim.losses.edge import checked
from prefsim.losses.registry import loss_functions
from prefsim.typing import Numbers

LOSSES = loss_functions()
every_loss = pytest.mark.parametrize("name", sorted(LOSSES))

# Constants of differentiation by their definition.
HELD = {("p3o", "beta")}


def outcome(loss, container, **setting):
    """Return the value as NumPy, or the text of its one kind of error."""
    try:
        value = loss(container, **{**base_options(loss), **setting})
    except ValueError as error:
        return str(error)
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)


def fields(container):
    return {name: x for name, x in container._asdict().items() if x is not None}


@every_loss
def test_what_holds_no_numbers_is_refused(name):
    container = example_of(LOSSES[name])
    for field, column in fields(container).items():
        for kind, spoil in NO_NUMBERS.items():
            if kind == "nothing" and field in container._field_defaults:
                continue
            found = outcome(LOSSES[name], container._replace(**{field: spoil(column)}))
            assert isinstance(found, str), (field, kind, found)
            assert field in found, (field, kind, found)


@every_loss
def test_numbers_in_another_form_are_the_same_numbers(name):
    container = example_of(LOSSES[name])
    for field, column in fields(container).items():
        if column.dtype.kind != "f":
            continue
        for kind, change in OTHER_FORMS.items():
            form = change(column)
            expected = outcome(LOSSES[name], container._replace(**{field: doubles(form)}))
            found = outcome(LOSSES[name], container._replace(**{field: form}))
            if isinstance(expected, str):
                assert field.rpartition("_")[2] in found, (field, kind, found)
            else:
                tolerance = PRECISION.get(kind, 1e-12)
                np.testing.assert_allclose(
                    found, expected, rtol=tolerance, atol=tolerance, err_msg=f"{field} {kind}"
                )


@every_loss
def test_labels_and_masks_are_neither_guessed_nor_wrapped(name):
    container = example_of(LOSSES[name])
    value = outcome(LOSSES[name], container)
    for field, column in fields(container).items():
        if column.dtype.kind == "b":
            found = outcome(LOSSES[name], container._replace(**{field: column.astype(float)}))
            assert re.search(rf"{field} must hold booleans", str(found)), found
            listed = outcome(LOSSES[name], container._replace(**{field: column.tolist()}))
            np.testing.assert_array_equal(listed, value)
        elif column.dtype.kind == "i":
            found = outcome(LOSSES[name], container._replace(**{field: column.astype(float)}))
            assert re.search(rf"{field} must hold integers", str(found)), found
            some = np.abs(column)
            small = outcome(LOSSES[name], container._replace(**{field: some.astype(np.uint8)}))
            np.testing.assert_array_equal(
                small, outcome(LOSSES[name], container._replace(**{field: some}))
            )
            huge = np.full(column.shape, 2**64 - 1, dtype=np.uint64)
            found = outcome(LOSSES[name], container._replace(**{field: huge}))
            assert isinstance(found, str)
            assert field in found
        else:
            found = outcome(LOSSES[name], container._replace(**{field: column > 0}))
            assert re.search(rf"{field} must be an array of numbers", str(found)), (field, found)


@every_loss
def test_nan_is_refused_where_it_counts(name):
    container = example_of(LOSSES[name])
    clean = outcome(LOSSES[name], container)
    for field, column in fields(container).items():
        if column.dtype.kind != "f":
            continue
        for place in (0, column.size - 1):
            poisoned = spoilt(column, place)
            for library in (np.asarray, torch.as_tensor):
                moved = map_fields(container._replace(**{field: poisoned}), library)
                found = outcome(LOSSES[name], moved)
                if isinstance(found, str):
                    assert field in found, (field, found)
                else:
                    # The loss does not read it, or not there.
                    np.testing.assert_allclose(found, clean, rtol=1e-12, err_msg=field)


@every_loss
def test_fields_of_another_shape_are_refused(name):
    """Also those that would broadcast: a row too few or an axis too many is another batch."""
    loss = LOSSES[name]
    container = example_of(loss)
    for setting in configurations(loss):
        clean = loss(container, **setting)
        for field, column in fields(container).items():
            for kind, other in {
                "one row": column[:1],
                "a row more": np.concatenate([column, column[:1]]),
                "an axis more": np.stack([column, column]),
            }.items():
                found = outcome(loss, container._replace(**{field: other}), **setting)
                if isinstance(found, str):
                    assert re.search(rf"(?<![a-z_]){field}(?![a-z_])", found), (kind, found)
                else:
                    # The loss does not read it.
                    np.testing.assert_array_equal(found, clean, err_msg=f"{field} {kind}")


@every_loss
def test_what_cannot_be_left_out_is_asked_for(name):
    loss = LOSSES[name]
    container = example_of(loss)
    for field in container._fields:
        if field in container._field_defaults:
            continue
        with pytest.raises(ValueError, match=rf"{field} must be an array, got None"):
            loss(container._replace(**{field: None}), **base_options(loss))
    other = PairRewards.example() if not isinstance(container, PairRewards) else PairLogps.example()
    for wrong in (other, tuple(container), list(container), container._asdict(), None, "logps"):
        with pytest.raises(TypeError, match=f"{name} takes {type(container).__name__}, got"):
            loss(wrong, **base_options(loss))


def described(loss, option):
    """What the docstring says of an option."""
    text = inspect.getdoc(loss)
    found = re.search(rf"^[\w, ]*\b{option}\b[\w, ]*\n((?: +.*\n?)+)", text, re.MULTILINE)
    return found.group(1) if found else ""


@every_loss
def test_options_of_another_kind_are_refused(name):
    loss = LOSSES[name]
    container = example_of(loss)
    for option, parameter in options(loss).items():
        for strange in STRANGE_OPTIONS:
            if strange is None and parameter.default is None:
                continue
            try:
                value = loss(container, **{**base_options(loss), option: strange})
            except (ValueError, TypeError) as error:
                found = str(error)
            else:
                found = ""
            if found:
                assert option in found, (option, strange, found)
                continue
            assert strange == math.inf, (option, strange)
            assert "inf" in described(loss, option), (option, strange)
            assert np.isfinite(value).all(), (option, strange)


@every_loss
def test_switches_are_true_or_false(name):
    loss = LOSSES[name]
    hints = typing.get_type_hints(loss)
    for option in options(loss):
        if bool not in (hints[option], *typing.get_args(hints[option])):
            continue
        for strange in ("false", "True", 0, 1, 0.0, np.array([1, 0])):
            with pytest.raises(ValueError, match=option):
                loss(example_of(loss), **{**base_options(loss), option: strange})
        container = example_of(loss)
        np.testing.assert_array_equal(
            loss(container, **{**base_options(loss), option: np.True_}),
            loss(container, **{**base_options(loss), option: True}),
        )


@every_loss
def test_a_frontier_of_options_is_one_call(name):
    """An option that takes arrays broadcasts; any other says that it does not."""
    loss = LOSSES[name]
    container = example_of(loss)
    hints = typing.get_type_hints(loss)
    for option, parameter in options(loss).items():
        is_number = Numbers in typing.get_args(hints[option])
        if not (is_number or isinstance(parameter.default, float)):
            continue
        accepted = {}
        for number in ALTERNATIVES[float]:
            value = outcome(loss, container, **{option: number})
            if not isinstance(value, str):
                accepted[number] = value
        several = np.asarray([*accepted])[:, None]
        found = outcome(loss, container, **{option: several})
        if not is_number:
            assert isinstance(found, str)
            assert option in found, (option, found)
            continue
        expected = np.stack([*accepted.values()])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14, err_msg=option)
        learned = torch.as_tensor(several, dtype=torch.float64).requires_grad_()
        value = loss(to_torch(container), **{**base_options(loss), option: learned})
        np.testing.assert_allclose(value.detach(), expected, rtol=1e-12, atol=1e-14)
        assert value.requires_grad != ((name, option) in HELD), option


@every_loss
def test_options_of_another_shape_are_refused(name):
    loss = LOSSES[name]
    hints = typing.get_type_hints(loss)
    for option in options(loss):
        if Numbers not in typing.get_args(hints[option]):
            continue
        for library in (np.asarray, torch.as_tensor):
            moved = map_fields(example_of(loss), library)
            with pytest.raises(ValueError, match=rf"shapes must broadcast, got {option} \(4,\)"):
                loss(moved, **{**base_options(loss), option: library(np.full(4, 0.4))})


def test_hyper_parameters_that_broadcast_are_most():
    numbers = [
        Numbers in typing.get_args(typing.get_type_hints(loss)[option])
        for loss in LOSSES.values()
        for option, parameter in options(loss).items()
        if isinstance(parameter.default, float)
    ]
    assert np.mean(numbers) > 0.85


LENGTHS = ("simpo", "orpo", "asft", "cpo", "rrhf", "simnpo", "sigmoid_norm", "rdpo_length")


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("length", [0.0, -3.0, 0.5])
def test_a_response_has_a_token(name, length):
    container = example_of(LOSSES[name])
    emptied = container._replace(
        rejected_length=np.where(np.arange(6) == 2, length, container.rejected_length)
    )
    message = rf"rejected_length must be >= 1, for a response has a token, got {length} at index 2"
    for library in (np.asarray, torch.as_tensor):
        with pytest.raises(ValueError, match=message):
            LOSSES[name](map_fields(emptied, library))


@pytest.mark.parametrize("name", ["orpo", "asft"])
@pytest.mark.parametrize("field", ["chosen", "rejected"])
def test_what_has_odds_is_a_probability(name, field):
    container = example_of(LOSSES[name])
    likely = np.where(np.arange(6) == 1, 0.2, getattr(container, field))
    with pytest.raises(ValueError, match=f"{field} must be the logarithm of a probability, at mos"):
        LOSSES[name](container._replace(**{field: likely}))


@pytest.mark.parametrize(
    ("name", "field", "entry", "message"),
    [
        ("bco_unpaired", "density_ratio", -3.0, "density_ratio must be a finite number >= 0"),
        ("nash_md_pg", "win_prob", 1.7, r"win_prob must be a probability in \[0, 1\], got 1.7"),
        ("sppo", "chosen_score", -0.1, "chosen_score must be a probability"),
        ("dno", "rejected_score", 1.1, "rejected_score must be a probability"),
        ("online_ipo", "rejected_score", 1.1, "rejected_score must be a probability"),
        ("spce", "chosen_score", 1.1, "chosen_score must be a probability"),
        ("d2o", "sample_weight", -3.0, "sample_weight must be >= 0, got -3.0"),
        ("d2o", "sample_weight", 0.9, "sample_weight must sum to 1 over the samples"),
    ],
)
def test_fields_that_are_no_probabilities(name, field, entry, message):
    container = example_of(LOSSES[name])
    column = getattr(container, field)
    wrong = np.where(np.arange(column.size).reshape(column.shape) == 0, entry, column)
    with pytest.raises(ValueError, match=message):
        LOSSES[name](container._replace(**{field: wrong}))


def test_unsigned_differences_do_not_wrap():
    pair = PairLogps(
        *np.full((4, 1), -1.0),
        chosen_length=np.array([5], dtype=np.uint32),
        rejected_length=np.array([9], dtype=np.uint32),
        chosen_score=np.array([2], dtype=np.uint8),
        rejected_score=np.array([5], dtype=np.uint8),
    )
    assert losses.rdpo_length(pair, alpha=0.05)[0] == pytest.approx(math.log1p(math.exp(0.2)))
    assert losses.copg(pair, beta=0.5)[0] == pytest.approx(9.0)
    with pytest.raises(ValueError, match="chosen_score must exceed rejected_score"):
        losses.odpo(pair)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lambda_", [0.0, 1e-46, 1e-320, 1e-39, 1e-38, 1e-30])
@pytest.mark.parametrize("scale", [1.0, 1e20])
def test_the_limit_of_a_small_temperature(dtype, lambda_, scale):
    logits = scale * np.asarray([[2.0, 1.0, 0.5, -1.0]], dtype=dtype)
    classes = losses.ClassLogits(logits, np.asarray([2]))
    for library in (np.asarray, torch.as_tensor):
        moved = map_fields(classes, library)
        assert float(losses.ldr_kl(moved, lambda_=lambda_)[0]) == pytest.approx(1.5 * scale)
        found = float(losses.ldr_k_kl(moved, k=2, lambda_=lambda_)[0])
        assert found == pytest.approx(scale)
    moved = map_fields(classes, torch.as_tensor)
    logits = moved.logits.requires_grad_()
    losses.ldr_kl(moved, lambda_=lambda_).sum().backward()
    np.testing.assert_allclose(logits.grad, [[1.0, 0.0, -1.0, 0.0]])


@every_loss
def test_function_transforms_go_through(name):
    """Nothing looks at values that are not there yet: gradients of single rows, in one call."""
    if name == "aldr_kl":
        pytest.skip("its temperature is found by a search that looks at values")
    loss = functools.partial(LOSSES[name], **base_options(LOSSES[name]))
    container = to_torch(example_of(LOSSES[name]))
    moving = differentiable(container)[0]

    def total(leaf, rest):
        return loss(rest._replace(**{moving: leaf})).sum()

    rows = map_fields(container, lambda x: x[:, None])
    expected = torch.stack(
        [
            torch.func.grad(total)(getattr(row, moving), row)
            for row in (map_fields(rows, lambda x, i=i: x[i]) for i in range(6))
        ]
    )
    found = torch.func.vmap(torch.func.grad(total))(getattr(rows, moving), rows)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["orpo", "odpo"])
def test_compiled_losses_have_no_break(name):
    container = to_torch(example_of(LOSSES[name]))
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    np.testing.assert_allclose(compiled(container), LOSSES[name](container), rtol=1e-12)


def test_trusted_values_are_not_looked_at():
    pair = PairLogps(*np.full((4, 1), 0.5), np.zeros(1), np.zeros(1))
    with trusted_values(), np.errstate(all="ignore"):
        assert np.isnan(losses.simpo(pair._replace(chosen=np.zeros(1)))).all()
    with pytest.raises(ValueError, match="chosen_length must be >= 1"):
        losses.simpo(pair)


def test_a_loss_of_ones_own():
    @checked
    def distance(logps: PairLogps, *, power: int = 2) -> np.ndarray:
        return (logps.chosen - logps.rejected) ** power

    with pytest.raises(TypeError, match="distance takes PairLogps, got PairRewards"):
        distance(PairRewards.example())
    pair = PairLogps([3], [1], [0], [0])
    assert distance(logps=pair, power=3) == 8.0
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        distance()


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("loss", [losses.infonca, losses.nca, losses.exo_rw, losses.copg_group])
def test_infinite_scores_that_make_a_nan_are_named(loss, library):
    example = losses.ListLogps.example()
    scores = np.where(np.arange(example.scores.size).reshape(example.scores.shape) == 1, np.inf, 0)
    given = losses.ListLogps(*map(library, (example.logps, example.ref_logps, scores)))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="scores must be finite"):
        loss(given)


def test_the_largest_integer_is_named_where_it_is_passed():
    with pytest.raises(ValueError, match=r"seed must be an integer >= 0 and < 2\*\*63, got 922"):
        check_integer(low=0, seed=2**63)
    with pytest.raises(ValueError, match=r"seed must be an integer >= 0, got -1"):
        check_integer(low=0, seed=-1)

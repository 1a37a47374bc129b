"""A tensor that requires a gradient keeps its graph, or is refused: NumPy would lose it."""

import inspect

import numpy as np
import pytest
import torch
from constructor_calls import MADE
from public_calls import EXAMPLES, FUNCTIONS
from room_calls import CALLS

from prefsim.data import Comparisons, Feedback, Rankings, Segments
from prefsim.losses.binary_classifier import RewardShift
from prefsim.losses.policy_gradient import RewardScale
from prefsim.solvers import fit_bradley_terry, solve_nash
from prefsim.worlds import PreferenceGame

VALID = MADE | CALLS | {name: (FUNCTIONS[name], given) for name, given in EXAMPLES.items()}
# Which rows are kept is no number, and a training asks while it has its graph.
CHOICES = {"guided_filter"}
WHERE = sorted(
    (name, argument)
    for name, (_, given) in VALID.items()
    if name not in CHOICES
    for argument, value in given.items()
    if isinstance(value, np.ndarray) and value.dtype.kind == "f"
)


def tensors(value, seen):
    """Every tensor inside a value: of containers, objects, and functions that remember."""
    if id(value) in seen or isinstance(value, np.ndarray | str | int | float):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each, seen)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each, seen)
    elif inspect.isfunction(value):
        for cell in value.__closure__ or ():
            yield from tensors(cell.cell_contents, seen)
    else:
        for each in getattr(value, "__dict__", {}).values():
            yield from tensors(each, seen)


@pytest.mark.parametrize(("name", "argument"), WHERE)
def test_nothing_leaves_torch_without_a_word(name, argument):
    function, given = VALID[name]
    leaf = torch.tensor(given[argument].copy(), dtype=torch.float64, requires_grad=True)
    try:
        result = function(**(given | {argument: leaf}))
    except (TypeError, ValueError) as error:
        refusal = str(error)
        assert argument in refusal or "gradient" in refusal or "torch" in refusal
        return
    # A result that is constant by its nature (a label, a best response) is a tensor too.
    assert list(tensors(result, set()))


def test_states_of_losses_are_plain_numbers_of_what_a_training_computed():
    margins = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    assert RewardShift().updated(margins).mean == 1.0
    assert RewardScale().updated(margins) == RewardScale().updated(margins.detach())


LEAF = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
GAME = torch.tensor([[0.5, 0.8], [0.2, 0.5]], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Comparisons([0, 0], [0, 1], [1, 0], prob=LEAF),
        lambda: Comparisons([0, 0], [0, 1], [1, 0], weight=LEAF),
        lambda: Comparisons(
            [0, 0], [0, 1], [1, 0], old_chosen=torch.log(LEAF), old_rejected=[-1.0, -1.0]
        ),
        lambda: Feedback([0, 0], [0, 1], LEAF),
        lambda: Rankings([0], [[0, 1]], LEAF[None]),
        lambda: Segments(np.zeros((2, 2, 2), int), np.zeros((2, 2, 1), int), prob=LEAF),
        lambda: fit_bradley_terry(GAME),
        lambda: solve_nash(GAME, method="lp"),
        lambda: PreferenceGame(GAME),
    ],
)
def test_what_needs_a_constant_says_so(call):
    with pytest.raises(ValueError, match="requires a gradient, which is lost in NumPy"):
        call()

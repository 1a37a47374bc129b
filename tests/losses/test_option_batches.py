"""Numbers among the options of losses may be a batch of them, or are refused by name."""

import inspect

import numpy as np
import pytest

from prefsim.losses.registry import container_of, loss_functions


def numbers(loss):
    parameters = inspect.signature(loss).parameters.items()
    return [
        (name, parameter.default)
        for name, parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and isinstance(parameter.default, float)
    ]


OPTIONS = [
    (loss, option, default)
    for loss, function in sorted(loss_functions().items())
    for option, default in numbers(function)
]


@pytest.mark.parametrize(("loss", "option", "default"), OPTIONS)
def test_a_batch_of_an_option_is_a_loop_over_it(loss, option, default):
    function = loss_functions()[loss]
    example = container_of(function).example()
    values = np.asarray([default, 0.9 * default + 0.01])
    each = [np.asarray(function(example, **{option: float(value)})) for value in values]
    try:
        together, refused = function(example, **{option: values[:, None]}), None
    except ValueError as error:
        together, refused = None, str(error)
    if refused is None:
        np.testing.assert_allclose(together, np.stack(each), rtol=1e-12)
    else:
        assert refused.startswith(f"{option} must ")
        assert refused.endswith(" and takes no array, got one of shape (2, 1)")

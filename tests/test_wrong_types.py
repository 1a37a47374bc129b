"""Whatever comes to a public function: a right value, or one error that names what is wrong.

The rooms that are swept are those of pure functions and of values; a new function of theirs joins
by an example in ``public_calls``, and is missed where it has none.
"""

import functools
import inspect
import math
import re

import numpy as np
import pytest
import torch
from constructor_calls import MADE
from public_calls import (
    ELSEWHERE,
    EXAMPLES,
    FUNCTIONS,
    GAME,
    LOGS,
    OTHER,
    PROBS,
    REF,
    REWARD,
    WORLD,
)
from wrong_types import (
    NO_NUMBERS,
    OTHER_FORMS,
    PRECISION,
    STRANGE_OPTIONS,
    doubles,
    numbers_of,
    spoilt,
)

from prefsim import analysis, raters
from prefsim.backend import use_backend
from prefsim.divergences import f_divergence, total_variation
from prefsim.loops.judgements import judgements
from prefsim.policies import TabularPolicy
from prefsim.solvers import closed_forms

CALLS = MADE | {name: (FUNCTIONS[name], given) for name, given in EXAMPLES.items()}
every_call = pytest.mark.parametrize("name", sorted(CALLS))
# Right values beside what a sweep expects: an option and what it may be.
MAY_BE_INFINITE = {
    ("scaled_return", "floor"): -math.inf,
    ("multiplier_step", "max_norm"): math.inf,
    ("curated_law", "candidates"): math.inf,
    ("curation_factor", "candidates"): math.inf,
    ("log_ratio_rewards", "clip"): math.inf,
    ("rto_rewards", "clip"): math.inf,
    ("rto_rewards", "score_clip"): math.inf,
}


def outcome(function, arguments):
    """Return the numbers of a value, or the text of its error of one of the two kinds."""
    try:
        value = function(**arguments)
    except (ValueError, TypeError) as error:
        return str(error)
    return list(numbers_of(value))


def same(found, expected, tolerance=1e-12):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def may_be_none(function, key):
    parameter = inspect.signature(function).parameters.get(key)
    return parameter is not None and parameter.default is None


def arrays_of(name):
    return {key: value for key, value in CALLS[name][1].items() if isinstance(value, np.ndarray)}


def named(key, message):
    """Whether a message names an argument, as a word of its own."""
    return re.search(rf"\b{key}\b", message) is not None


def test_every_function_is_swept():
    assert set(FUNCTIONS) - set(EXAMPLES) == ELSEWHERE & set(FUNCTIONS)
    for name, (function, arguments) in CALLS.items():
        assert isinstance(outcome(function, arguments), list), (name, outcome(function, arguments))


@every_call
def test_what_holds_no_numbers_is_refused(name):
    function, arguments = CALLS[name]
    for key, array in arrays_of(name).items():
        for kind, spoil in NO_NUMBERS.items():
            if kind == "nothing" and may_be_none(function, key):
                continue
            found = outcome(function, arguments | {key: spoil(array)})
            assert isinstance(found, str), (key, kind, found)
            assert named(key, found), (key, kind, found)


@every_call
def test_numbers_in_another_form_are_the_same_numbers(name):
    function, arguments = CALLS[name]
    for key, array in arrays_of(name).items():
        if array.dtype.kind != "f":
            continue
        for kind, change in OTHER_FORMS.items():
            form = change(array)
            expected = outcome(function, arguments | {key: doubles(form)})
            found = outcome(function, arguments | {key: form})
            if isinstance(expected, str):
                # What sums to one in half precision does so there alone.
                assert isinstance(found, list) == (kind in ("float16", "float32")), (key, kind)
                assert isinstance(found, list) or named(key, found), (key, kind, found)
            else:
                assert isinstance(found, list), (key, kind, found)
                same(found, expected, PRECISION.get(kind, 1e-12))


@every_call
def test_nan_is_refused_or_seen(name):
    function, arguments = CALLS[name]
    clean = outcome(function, arguments)
    for key, array in arrays_of(name).items():
        if array.dtype.kind != "f":
            continue
        for place in (0, array.size - 1):
            with np.errstate(invalid="ignore"):
                found = outcome(function, arguments | {key: spoilt(array, place)})
            if isinstance(found, str):
                assert named(key, found), (key, found)
            elif not any(np.isnan(leaf).any() for leaf in found):
                # Behind a mask it may be anything.
                same(found, clean)
                assert "mask" in arguments


@every_call
def test_places_and_masks_are_neither_guessed_nor_wrapped(name):
    function, arguments = CALLS[name]
    for key, array in arrays_of(name).items():
        if array.dtype.kind == "f":
            continue
        wanted = "booleans" if array.dtype.kind == "b" else "integers"
        found = outcome(function, arguments | {key: array.astype(float)})
        assert isinstance(found, str)
        assert f"{key} must hold {wanted}" in found, (key, found)
        expected = outcome(function, arguments)
        same(outcome(function, arguments | {key: array.tolist()}), expected)
        same(outcome(function, arguments | {key: torch.as_tensor(array.copy())}), expected)
        if wanted == "integers":
            same(outcome(function, arguments | {key: array.astype(np.uint64)}), expected)
            huge = np.full(array.shape, 2**64 - 1, dtype=np.uint64)
            found = outcome(function, arguments | {key: huge})
            assert isinstance(found, str)
            assert named(key, found), (key, found)


@every_call
def test_options_of_another_kind_are_refused(name):
    function, arguments = CALLS[name]
    for key, value in arguments.items():
        if isinstance(value, np.ndarray):
            continue
        for strange in STRANGE_OPTIONS:
            if strange is None and may_be_none(function, key):
                continue
            if key == "seed" and isinstance(strange, int):
                continue
            found = outcome(function, arguments | {key: strange})
            if isinstance(found, str):
                assert named(key, found), (key, strange, found)
                continue
            allowed = MAY_BE_INFINITE.get((name, key))
            assert allowed is not None, (key, strange, found)
            assert isinstance(strange, float), (key, strange)
            assert strange == allowed, (key, strange)


def test_functions_of_a_policy_take_the_policy():
    policy, reference = TabularPolicy.from_probs(PROBS), TabularPolicy.from_probs(OTHER)
    same(
        outcome(analysis.expected_reward, {"log_policy": policy, "world": WORLD}),
        outcome(analysis.expected_reward, {"log_policy": LOGS, "world": WORLD}),
    )
    for function in (
        analysis.kl_to_reference,
        functools.partial(analysis.regularised_value, beta=1),
    ):
        assert float(function(policy, reference, WORLD)) == pytest.approx(
            float(function(LOGS, REF, WORLD)), abs=1e-12
        )
    assert float(analysis.concentrability(policy, reference)) == pytest.approx(2.0)
    np.testing.assert_allclose(
        closed_forms.regularised.optimal_policy(REWARD, reference, beta=0.5),
        closed_forms.regularised.optimal_policy(REWARD, OTHER, beta=0.5),
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: analysis.expected_reward(PROBS, WORLD),
        lambda: analysis.kl_to_reference(LOGS, OTHER, WORLD),
        lambda: analysis.global_coverage(OTHER),
        lambda: closed_forms.regularised.regularised_optimum(REWARD, OTHER, beta=1.0),
        lambda: closed_forms.self_training.best_of_n(REWARD, PROBS, 2),
        lambda: analysis.expected_reward(torch.as_tensor(PROBS, dtype=torch.float32), WORLD),
    ],
)
def test_probabilities_are_not_their_logarithms(call):
    with pytest.raises(ValueError, match="must hold the logarithms of probabilities that sum to 1"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: raters.sample_labels(np.array([np.nan, 2.0, -1.0]), seed=0), "probability must"),
        (lambda: raters.flip_labels(7, 0.2), "preference must be a probability in"),
        (lambda: raters.noiseless_preference(np.nan, 0.0), "score_first must hold no NaN"),
        (lambda: raters.sample_rankings([np.nan, 0.0], 1, seed=0), "reward must be finite"),
        (
            lambda: closed_forms.chi_squared.chi_squared_optimum(
                [[np.nan, 1.0, 0.0]], [[0.4, 0.3, 0.3]], beta=1.0
            ),
            "reward must hold no NaN",
        ),
        (
            lambda: f_divergence(np.array([np.nan, 0.0]), np.log([0.5, 0.5]), "alpha"),
            "logp must hold no NaN",
        ),
        (lambda: f_divergence(PROBS, REF, "alpha"), "logp must hold the logarithms"),
        (lambda: total_variation(2 * PROBS, OTHER), "p must sum to 1"),
        (
            lambda: closed_forms.self_improvement.solve_self_improvement(
                GAME + 0.1, OTHER[0], beta=1.0
            ),
            "preference must satisfy",
        ),
        (lambda: analysis.borda_scores(GAME + 0.2), "preference must"),
        (
            lambda: judgements(GAME.astype(str), (3, 3), mutual=True),
            "preferences of the judge must be an array of numbers",
        ),
    ],
)
def test_what_is_no_probability_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integer_rewards_and_certain_labels():
    ranking = np.array([1, 0, 2])
    assert float(raters.ranking_log_prob(np.array([1, -1, 0]), ranking)) == pytest.approx(
        float(raters.ranking_log_prob(np.array([1.0, -1.0, 0.0]), ranking))
    )
    certain = np.array([0.9, 0.2]) > 0.5
    np.testing.assert_array_equal(raters.sample_labels(certain, seed=0), [True, False])


def test_torch_and_numpy_meet():
    reward = torch.as_tensor(REWARD).requires_grad_()
    found = closed_forms.regularised.optimal_policy(reward, OTHER, beta=0.5)
    expected = closed_forms.regularised.optimal_policy(REWARD, OTHER, beta=0.5)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    found[0, 0].backward()
    assert reward.grad.abs().sum() > 0
    mixed = analysis.kl_to_reference(LOGS, torch.as_tensor(REF), WORLD)
    assert float(mixed) == pytest.approx(float(analysis.kl_to_reference(LOGS, REF, WORLD)))


@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "mixed_chi_squared"])
@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
def test_a_frontier_of_optima_is_one_call(divergence, library):
    betas = np.array([0.1, 1.0, 5.0])
    solve = functools.partial(closed_forms.regularised.optimal_policy, divergence=divergence)
    found = solve(library(REWARD[0]), library(OTHER[0]), beta=library(betas))
    expected = np.stack([solve(REWARD[0], OTHER[0], beta=beta) for beta in betas])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = solve(library(REWARD), library(OTHER), beta=library(betas[:, None]))
    expected = np.stack([solve(REWARD, OTHER, beta=beta) for beta in betas])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    chi = closed_forms.chi_squared.chi_squared_optimum
    np.testing.assert_allclose(
        chi(library(REWARD), library(OTHER), beta=library(betas[:, None])).policy,
        np.stack([chi(REWARD, OTHER, beta=beta).policy for beta in betas]),
        rtol=1e-12,
    )
    values = analysis.regularised_value(LOGS, REF, WORLD, beta=betas)
    assert values.shape == (3,)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(MADE))
def test_constructors_know_every_precision_of_the_backend(name, dtype):
    function, arguments = MADE[name]
    with use_backend("torch", dtype=dtype):
        found = outcome(function, arguments)
    assert isinstance(found, list), found

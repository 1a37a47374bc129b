"""A test that must break passes exactly where its property fails."""

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from prefsim.testing import counterexample, must_break, preference_games


def test_the_plainest_counterexample():
    def small(n, shift):
        assert n + shift < 7

    assert counterexample(small, n=st.integers(0, 100), shift=st.just(2)) == {"n": 5, "shift": 2}


def test_a_property_that_holds_does_not_break():
    def positive(n):
        assert n >= 0

    with pytest.raises(AssertionError, match="positive must break, and held on 30 instances"):
        counterexample(positive, examples=30, n=st.integers(0, 9))
    with pytest.raises(AssertionError, match="positive must break"):
        must_break(n=st.integers(0, 9))(positive)()


def test_an_error_is_no_counterexample():
    def broken(n):
        raise ZeroDivisionError("of the property itself")

    with pytest.raises(ZeroDivisionError, match="of the property itself"):
        counterexample(broken, n=st.integers())


def test_what_is_assumed_away_does_not_count():
    def odd(n):
        assume(n % 2)
        assert n % 2

    with pytest.raises(AssertionError, match="must break"):
        counterexample(odd, examples=50, n=st.integers(0, 20))


def test_the_same_instance_every_time():
    def narrow(n):
        assert n % 97

    first, second = (counterexample(narrow, seed=4, n=st.integers(1, 10**6)) for _ in range(2))
    assert first == second


@pytest.fixture
def limit():
    return 0.3


@pytest.mark.parametrize("n", [3, 4])
@must_break(game=preference_games(4), examples=100)
def test_fixtures_and_parameters_stay(game, n, limit):
    assert n in (3, 4) and limit == 0.3
    assert game.preference[0, 1] > limit


class TestInAClass:
    @must_break(n=st.integers())
    def test_methods(self, n):
        assert isinstance(self, TestInAClass)
        assert n <= 1000


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: counterexample(len), ValueError, "needs strategies for parameters"),
        (lambda: counterexample(5, n=st.none()), ValueError, "property must be a function"),
        (
            lambda: counterexample(len, n=[1]),
            TypeError,
            "n must be a hypothesis strategy",
        ),
        (lambda: counterexample(len, examples=0, n=st.none()), ValueError, "examples must be"),
        (lambda: must_break(m=st.none())(abs), ValueError, "abs has no parameter m"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()

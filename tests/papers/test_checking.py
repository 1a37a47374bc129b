"""A claim holds, fails, or is not tested: the harness tells the three apart."""

import math
import random
import warnings

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st

from prefsim.papers import Verdict, checking
from prefsim.papers.checking import check_claim, is_refuted
from prefsim.papers.claims import Claim, RealData
from prefsim.solvers.results import ConvergenceWarning

UNIT = st.floats(0, 1)


def claim(check, strategy=UNIT, *, tolerance=1e-9, breaks=None, examples=None):
    dropping = () if breaks is None else (breaks,)
    about = ("c", "identity", "statement", "source")
    return Claim(*about, strategy, check, tolerance, dropping, examples)


def excess(x):
    return Verdict(max(0.0, x - 1), f"x = {x}")


def test_a_claim_that_holds():
    result = check_claim(claim(excess), examples=20)
    assert result == (True, 20, 0.0, 1e-9, None, result.detail, None, None, checking.DRAWN)


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_claim_about_real_data_says_so_and_does_not_run_without_them(at_hand):
    seen = []

    def check(x):
        seen.append(x)
        return Verdict(0.0)

    about = claim(check, examples=1)._replace(data=RealData("labels by people", lambda: at_hand))
    result = check_claim(about)
    assert result.data == "labels by people"
    assert len(seen) == result.examples == int(at_hand)
    assert result.holds is (True if at_hand else None)
    assert at_hand or result.detail == "not run: needs labels by people, which are not at hand"


def test_the_worst_error_is_over_all_instances_and_not_the_first_bad_one():
    seen = []

    def check(x):
        seen.append(x)
        return Verdict(x)

    result = check_claim(claim(check, st.floats(0, 100), tolerance=1.0), examples=40)
    survey = seen[:40]
    assert not result.holds
    assert result.examples == 40
    assert result.worst == max(survey)
    assert next(x for x in survey if x > 1.0) < result.worst, (
        "the first violation was the worst: this shows nothing"
    )


def test_a_failure_names_its_smallest_instance():
    result = check_claim(claim(excess, st.integers(0, 1000)), examples=30)
    assert not result.holds
    assert result.counterexample == "2"
    assert "smallest instance found: 2, x = 2" in result.detail
    assert "> tolerance 1e-09" in result.detail


def test_nan_is_a_failure_and_stays_the_worst():
    result = check_claim(claim(lambda x: Verdict(math.nan if x > 0.5 else 0.0)), examples=30)
    assert not result.holds
    assert math.isnan(result.worst)
    assert "error nan" in result.detail


def test_an_exception_is_a_failure_with_its_text_and_place():
    def check(x):
        raise KeyError(f"no {x}")

    result = check_claim(claim(check), examples=30)
    assert not result.holds
    assert result.worst == math.inf
    assert "raised KeyError: 'no 0.0' (test_checking.py:" in result.detail


def test_an_exception_of_the_strategy_is_a_failure():
    def make(x):
        raise OSError("no instance")

    result = check_claim(claim(excess, UNIT.map(make)), examples=5)
    assert not result.holds
    assert "raised OSError: no instance" in result.detail


def test_a_solver_that_did_not_converge_is_a_failure():
    def check(x):
        warnings.warn("gap 0.1", ConvergenceWarning, stacklevel=1)
        return Verdict(0.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = check_claim(claim(check), examples=5)
    assert not result.holds
    assert "ConvergenceWarning: gap 0.1" in result.detail


@pytest.mark.parametrize(
    ("verdict", "message"),
    [(0.0, "must return a Verdict, got float"), (Verdict(-1.0), "must be >= 0, got -1.0")],
)
def test_a_wrong_verdict_is_a_failure(verdict, message):
    result = check_claim(claim(lambda x: verdict), examples=5)
    assert not result.holds
    assert message in result.detail


def test_no_instance_is_a_failure():
    result = check_claim(claim(lambda x: assume(False)), examples=5)
    assert not result.holds
    assert result.examples == 0
    assert "no instance satisfied" in result.detail


def test_rejected_instances_do_not_count():
    tried = []

    def check(x):
        tried.append(x)
        assume(x < 0.5)
        return Verdict(0.0)

    result = check_claim(claim(check), examples=20)
    assert result.holds
    assert result.examples == sum(x < 0.5 for x in tried) < len(tried)


def test_a_counterexample_is_found_and_small():
    result = check_claim(claim(excess, breaks=st.integers(0, 1000)), examples=20)
    assert result.holds
    assert result.counterexample_found is True
    assert result.counterexample == "2", "the smallest of them"


def test_a_rare_counterexample_is_climbed_to(monkeypatch):
    digits = st.lists(st.integers(0, 9), min_size=10, max_size=10)
    rare = claim(lambda x: Verdict(float(sum(x))), st.just([0]), tolerance=80.0, breaks=digits)
    assert all(check_claim(rare, seed=seed).counterexample_found for seed in range(2))
    monkeypatch.setattr(checking, "_aim", lambda error: None)
    assert not all(check_claim(rare, seed=seed).counterexample_found for seed in range(2)), (
        "chance alone finds it: this shows nothing"
    )


def test_a_claim_that_nothing_breaks_is_no_claim():
    result = check_claim(claim(excess, breaks=UNIT), examples=20)
    assert not result.holds
    assert result.counterexample_found is False
    assert result.worst == 0.0
    assert "no counterexample in 200 instances" in result.detail


def test_a_crash_where_an_assumption_is_dropped_is_no_counterexample():
    def check(x):
        if x > 1:
            raise ZeroDivisionError("crash")
        return Verdict(0.0)

    result = check_claim(claim(check, breaks=st.floats(2, 3)), examples=20)
    assert not result.holds
    assert result.counterexample_found is False
    assert "raised ZeroDivisionError: crash" in result.detail


def test_nan_is_no_counterexample_but_infinity_is():
    assert not check_claim(
        claim(lambda x: Verdict(math.nan if x > 1 else 0.0), breaks=st.floats(2, 3)), examples=5
    ).holds
    assert check_claim(
        claim(lambda x: Verdict(math.inf if x > 1 else 0.0), breaks=st.floats(2, 3)), examples=5
    ).holds


def test_no_counterexample_is_sought_for_a_claim_that_fails():
    result = check_claim(claim(lambda x: Verdict(1.0), breaks=UNIT), examples=5)
    assert not result.holds
    assert result.counterexample_found is False


def test_the_largest_share_of_a_bound_is_kept():
    half = claim(lambda x: Verdict(0.0, "", x / 2))
    result = check_claim(half._replace(kind="inequality"), examples=30)
    assert 0 < result.used <= 0.5
    # That a number is positive, as a part of an identity, bounds nothing.
    assert check_claim(half._replace(kind="identity"), examples=30).used is None
    assert check_claim(claim(excess), examples=5).used is None


def test_costly_claims_take_fewer_examples_and_deterministic_ones_one():
    assert check_claim(claim(excess, examples=3), examples=50).examples == 3
    assert check_claim(claim(excess, examples=300), examples=50).examples == 50
    assert check_claim(claim(excess, st.just(0.5)), examples=50).examples == 1


def test_the_seed_decides_the_instances():
    def run(seed):
        seen = []
        check_claim(claim(lambda x: seen.append(x) or Verdict(0.0)), examples=20, seed=seed)
        return seen

    random.seed(1)
    first = run(0)
    random.seed(2)
    assert run(0) == first
    assert run(1) != first


def test_the_instances_do_not_depend_on_what_else_is_imported(tmp_path, monkeypatch):
    def run():
        seen = []
        check_claim(
            claim(lambda x: seen.append(x) or Verdict(0.0), st.integers(0, 10**9)), examples=200
        )
        return seen

    first = run()
    (tmp_path / "full_of_numbers.py").write_text(
        "\n".join(f"x{i} = {123_456 + i}" for i in range(300))
    )
    monkeypatch.syspath_prepend(tmp_path)
    __import__("full_of_numbers")
    assert run() == first
    assert not (tmp_path / ".hypothesis").exists()


def test_arrays_are_shown_and_cut_short():
    big = st.just(np.arange(5000.0).tolist())
    result = check_claim(claim(lambda x: Verdict(1.0), big), examples=5)
    assert "characters)" in result.counterexample
    assert len(result.counterexample) < 2100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "examples must be an integer >= 1, got 0"),
        ({"examples": 2.5}, "examples must be an integer >= 1, got 2.5"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": True}, "seed must be an integer >= 0, got True"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        check_claim(claim(excess), **options)


def test_a_violation_ends_the_search_and_nothing_is_shrunk():
    seen = []

    def check(x):
        seen.append(x)
        return Verdict(x)

    about = claim(check, st.floats(0, 100), tolerance=1.0)
    assert is_refuted(about, examples=40)
    # One more attempt is cut short before it is checked.
    assert [x > 1.0 for x in seen] == [False] * (len(seen) - 1) + [True]
    assert not is_refuted(claim(excess), examples=20)


@pytest.mark.parametrize("error", [math.nan, math.inf, "raise"])
def test_nan_and_what_raises_refute(error):
    def check(x):
        return Verdict({}[x] if error == "raise" else error)

    assert is_refuted(claim(check), examples=3)


def test_no_instance_refutes_and_absent_people_do_not():
    assert is_refuted(claim(excess, UNIT.filter(lambda x: x > 2)), examples=3)
    about = claim(lambda x: Verdict(math.inf))
    absent = about._replace(data=RealData("labels by people", lambda: False))
    assert is_refuted(about, examples=1)
    assert not is_refuted(absent, examples=1)

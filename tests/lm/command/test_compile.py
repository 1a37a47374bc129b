"""``--compile``: the layers of policy and reference are compiled while they are trained."""

import contextlib

import pytest
from lm_made import TRAIN, TWO_STEPS, report_of

from prefsim.lm.training import process_state, setup


@pytest.fixture
def compiled(monkeypatch):
    """How many models were compiled at a time; none really is, which takes a while."""
    counts = []

    def noted(models):
        counts.append(len(models))
        return contextlib.nullcontext()

    monkeypatch.setattr(process_state, "compiled_layers", noted)
    monkeypatch.setattr(setup, "check_compiles", lambda model: counts.append("checked"))
    return counts


def test_the_command_compiles_policy_and_reference(prefsim, compiled):
    report_of(prefsim, *TRAIN, *TWO_STEPS, "--out", "plain")
    assert compiled == [0]
    report_of(prefsim, *TRAIN, *TWO_STEPS, "--compile", "--out", "run")
    assert compiled == [0, "checked", 2]
    report_of(prefsim, *TRAIN, *TWO_STEPS, "--compile", "--precompute", "--out", "stored")
    assert compiled[3:] == ["checked", 1]


def test_the_dry_run_fails_where_the_run_would(prefsim, monkeypatch):
    def refuses(model):
        raise ValueError("compile needs a compiler")

    monkeypatch.setattr(setup, "check_compiles", refuses)
    code, out, err = prefsim(*TRAIN, *TWO_STEPS, "--compile", "--dry-run")
    assert (code, out) == (2, "") and "compile needs a compiler" in err

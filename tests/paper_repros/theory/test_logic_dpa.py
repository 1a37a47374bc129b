"""arXiv:2412.17696: the tables' losses, the case study of the sixteen, and exact optima."""

import numpy as np
import pytest

from paper_repros.theory.logic_dpa.log_linear import PROMPTS, Trained, Worlds, leads, train
from paper_repros.theory.logic_dpa.statements import (
    DPOP,
    OF_PAIRS,
    OF_REFERENCES,
    bend_of_count,
    core_is_as_written,
    distinct_structures,
    merged,
    name_of,
    read_off,
    two_response_optima,
)
from prefsim.logic import NAMED_STRUCTURES, PreferenceStructure, log_count_ratio
from prefsim.numerics import sigmoid

SIXTEEN = list(NAMED_STRUCTURES.values())
DPOP_POINT = np.log([0.4, 0.4, 0.3, 0.5, 0.5, 0.4])


def test_every_table_is_read_as_the_paper_reads_it():
    says = [row.says for row in (*OF_PAIRS.values(), *OF_REFERENCES.values(), DPOP)]
    assert list(read_off()) == says
    assert [NAMED_STRUCTURES[name] for name in OF_PAIRS] == list(read_off()[: len(OF_PAIRS)])
    assert OF_REFERENCES["DPO"].says == NAMED_STRUCTURES["CPO"].with_reference()
    assert log_count_ratio(DPOP.says, DPOP_POINT) == pytest.approx(-0.1586050302, abs=1e-10)


def test_the_full_lift_is_another_construction():
    missed = {name for name in NAMED_STRUCTURES if not core_is_as_written(name, "full")}
    assert missed == {"l20", "fUNL", "qfUNL", "bCPO", "cfUNL", "unCPO", "l14", "l5"}


def test_a_reference_of_the_models_own_predictions():
    assert merged(NAMED_STRUCTURES["CPO"]) == PreferenceStructure.from_labels("bnnn")


def test_functions_that_differ():
    every = distinct_structures()
    assert len(every) == 186
    assert every[:16] == tuple(SIXTEEN)
    assert [name_of(each) for each in every[15:17]] == ["unCPO", every[16].labels]


def test_one_formula_counts_linearly():
    plain = np.full(2, -1.0)
    assert bend_of_count("CE", plain) < 1e-15
    p = np.array([0.2, 0.5, 0.8])
    expected = max(abs(np.diff(p / (p + q), 2)[0]) for q in (0.2, 0.6))
    assert bend_of_count("CPO", plain) == pytest.approx(expected, abs=1e-14)


def test_optima_of_two_responses():
    found = dict(zip(NAMED_STRUCTURES, two_response_optima(SIXTEEN, 0.8), strict=True))
    for name in ("CE", "CEUnl", "fUNL", "CPO", "qfUNL"):
        assert found[name] == pytest.approx(0.8, abs=1e-7)
    assert found["ORPO"] == pytest.approx(2 / 3, abs=1e-7)
    others = [PreferenceStructure.from_labels(labels) for labels in ("n+bn", "+nn-", "nb-n")]
    only_up, symmetric, p = two_response_optima(others, 0.8)
    assert only_up == 1.0
    # "Both are valid" is as likely as "neither is" at p and at 1 − p: either end is best.
    assert np.isnan(symmetric)
    # The score of the last is log σ of ORPO's, z: the risk is least where its slope is 0.
    z = 2 * np.log(p / (1 - p))

    def pull(score):
        share = sigmoid(score)
        return (1 - share) / (1 + share)

    assert 0.8 * pull(z) == pytest.approx(0.2 * pull(-z), abs=1e-6)


def test_the_case_study():
    """Means over twenty worlds, of an independent implementation with gradients by hand."""
    worlds = Worlds.draw(range(20))
    chosen = ["CE", "CPO", "fUNL", "qfUNL"]
    found = train(worlds, [NAMED_STRUCTURES[name] for name in chosen])
    np.testing.assert_allclose(found.chosen.mean(axis=1), [2.01, -2.2, -5.0, -5.6], atol=0.06)
    np.testing.assert_allclose(found.rejected.mean(axis=1), [-4.6, -9.2, -8.0, -12.1], atol=0.06)
    np.testing.assert_allclose(found.accuracy.mean(axis=1), [0.89, 1.0, 0.78, 0.68], atol=0.006)


def test_training_keeps_its_books():
    worlds = Worlds.draw(range(2))
    assert worlds.pairs.shape == (2, PROMPTS, 2)
    assert (worlds.pairs[..., 0] != worlds.pairs[..., 1]).all()
    (none,) = (train(worlds, SIXTEEN[:1], steps=0),)
    assert not none.chosen.any() and not none.rejected.any()
    assert np.isnan(none.disturbed).all() and np.isnan(none.chosen_then).all()
    half = train(worlds, [NAMED_STRUCTURES["CPO"]], flip_rate=0.5, steps=40)
    # With coins for labels the optimum is a tie, to which a margin comes back.
    margins = np.abs(np.diff(half.pairs, axis=-1))
    assert margins.mean() < np.abs(np.diff(none.pairs, axis=-1)).mean()


def test_leads_are_of_the_worlds_that_did_not_choose():
    structures = [NAMED_STRUCTURES[name] for name in ("CPO", "cCPO", "ORPO")]
    # The new one is ahead in the even worlds alone; in the odd ones CPO is by one.
    values = np.array([[0.0, 1.0, 0.0, 1.2], [5.0, 0.0, 5.0, 0.0], [-1.0, 9.0, -1.0, 9.0]])
    every = Trained(values, values, np.ones((3, 4)), -values, values, values)
    found = leads(structures, every, every._replace(accuracy=values))
    # The new one never forgets what is to be forgotten in one world, and that is said.
    missed = every._replace(chosen_then=np.where(values == 1.2, np.nan, values))
    assert leads(structures, missed, every)[2].verdict == "not reached in every world"
    for lead in found:
        assert (lead.new, lead.old) == ("cCPO", "CPO")
        assert lead.mean == pytest.approx(-1.1)
        assert (lead.low + lead.high) / 2 == pytest.approx(-1.1)
        assert lead.verdict == ("the old one leads" if lead.high < 0 else "no difference is seen")

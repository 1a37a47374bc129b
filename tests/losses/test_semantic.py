"""Losses of preference structures: known losses among them, and any other as a loss of its own."""

import functools
import pickle

import checks
import numpy as np
import pytest
import torch
from checks import LOSS_CHECKS
from loss_examples import clear_winners

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.logic import NAMED_STRUCTURES, PreferenceStructure, all_structures, atoms
from prefsim.losses import PairLogps, from_structure, semantic
from prefsim.losses.semantic import structure_of
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit

PAIR = PairLogps.example()
POINT = PairLogps(*np.log([[0.6], [0.3], [0.5], [0.4]]))

# Of each kind of label something, and all sixteen over four atoms' worth of them.
OTHERS = (
    "nn+-",
    "b-+b",
    "+bn-",
    "-n+b",
    "bb+-",
    "n-+n",
    NAMED_STRUCTURES["cCPO"].with_reference().labels,
    NAMED_STRUCTURES["l5"].with_reference("full").labels,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CEUnl", 0.8675005677),
        ("sCE", 0.6763400622),
        ("l3", 0.6690496290),
        ("CE", 0.5108256238),
        ("l20", 0.6035350219),
        ("cUNL", 0.5389965007),
        ("fUNL", 0.3566749439),
        ("CPO", 0.4054651081),
        ("ORPO", 0.2513144283),
        ("cCPO", 0.1823215568),
        ("qfUNL", 0.4519851237),
        ("l5", 0.5062698072),
        ("bCPO", 0.3746934494),
        ("cfUNL", 0.1582240052),
        ("l14", 0.2933478100),
        ("unCPO", 0.1278333715),
    ],
)
def test_the_sixteen(name, value):
    assert from_structure(name)(POINT) == pytest.approx(value, abs=1e-10)
    labels = NAMED_STRUCTURES[name].labels
    assert from_structure(labels)(POINT) == pytest.approx(value, abs=1e-10)
    assert from_structure(NAMED_STRUCTURES[name])(POINT) == pytest.approx(value, abs=1e-10)


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_losses_that_are_structures():
    """Each computed by the library's own function of that name."""
    same(from_structure("CPO", beta=0.3)(PAIR), losses.cpo(PAIR, beta=0.3, alpha=0.0))
    same(from_structure("CPO", beta=0.3, reference="log_ratio")(PAIR), losses.dpo(PAIR, beta=0.3))
    same(
        from_structure("CPO", beta=0.3, reference="log_ratio", link="squared")(PAIR),
        losses.ipo(PAIR, tau=0.3),
    )
    same(
        from_structure("CPO", beta=0.3, reference="log_ratio", link="squared", average=True)(PAIR),
        losses.ipo(PAIR, tau=0.3, average=True),
    )
    same(
        from_structure("CPO", beta=0.3, reference="log_ratio", link="hinge")(PAIR),
        losses.hinge(PAIR, beta=0.3),
    )
    same(from_structure("CPO", link="hinge")(PAIR), losses.slic(PAIR, delta=1.0, lambda_=0.0))
    same(
        from_structure("CPO", link="perceptron", average=True)(PAIR),
        losses.rrhf(PAIR, lambda_=0.0),
    )
    same(
        from_structure("CPO", beta=2.0, average=True)(PAIR), losses.simpo(PAIR, beta=2.0, gamma=0.0)
    )
    mean = PAIR.chosen / PAIR.chosen_length
    same(from_structure("ORPO", average=True)(PAIR), losses.orpo(PAIR, lambda_=1.0) + mean)
    same(from_structure("CEUnl", average=True)(PAIR), losses.asft(PAIR, sft_weight=0.0))
    same(from_structure("CE")(PAIR), losses.sft(PAIR))


def test_a_target_margin_is_a_manual_reference():
    gamma, beta = 0.5, 2.0
    manual = PAIR._replace(
        ref_chosen=-1.0 * PAIR.rejected_length, ref_rejected=-1.0 * PAIR.rejected_length
    )
    manual = manual._replace(
        ref_chosen=(gamma / beta - 1.0) * PAIR.chosen_length,
    )
    same(
        from_structure("CPO", beta=beta, average=True, reference="log_ratio")(manual),
        losses.simpo(PAIR, beta=beta, gamma=gamma),
    )


def test_dpop_over_copies():
    fallen = PAIR._replace(ref_chosen=PAIR.chosen + 1.0)
    structure = PreferenceStructure(
        functools.reduce(lambda a, b: a & b, (ATOMS["W"], ATOMS["W2"], ATOMS["Rl"])),
        functools.reduce(lambda a, b: a & b, (ATOMS["Rw"], ATOMS["Rw2"], ATOMS["L"])),
    )
    # Its penalty is active where the chosen response has fallen behind its reference.
    fallen = fallen._replace(ref_chosen=np.minimum(fallen.ref_chosen, -1e-3), chosen=PAIR.chosen)
    same(from_structure(structure, beta=0.3)(fallen), losses.dpop(fallen, beta=0.3, penalty=1.0))


SIX = ("W", "W2", "L", "Rw", "Rw2", "Rl")
ATOMS = dict(zip(SIX, atoms(*SIX), strict=True))


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("lift", ["log_ratio", "full"])
@pytest.mark.parametrize("name", NAMED_STRUCTURES)
def test_a_reference_is_four_atoms(name, lift, average):
    lifted = NAMED_STRUCTURES[name].with_reference(lift)
    same(
        from_structure(name, reference=lift, average=average)(PAIR),
        from_structure(lifted, average=average)(PAIR),
    )
    same(from_structure(lifted)(PAIR), from_structure(lifted.labels)(PAIR))


def test_every_structure_with_a_score_is_a_loss():
    for structure in all_structures():
        if structure.has_score:
            assert np.isfinite(from_structure(structure)(PAIR)).all()
        else:
            with pytest.raises(ValueError, match="a world that counts for and one that counts"):
                from_structure(structure)


@pytest.mark.parametrize(
    "check",
    [check for check in LOSS_CHECKS if "prefers_the_chosen" not in check.__name__],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_other_structures_pass_what_every_loss_passes(check, monkeypatch):
    settings = [{"structure": labels} for labels in OTHERS]
    settings += [{"structure": labels, "link": "hinge", "average": True} for labels in OTHERS]
    monkeypatch.setattr(checks, "configurations", lambda loss: settings)
    check(semantic)


@pytest.mark.parametrize("link", ["logistic", "squared", "hinge", "perceptron"])
@pytest.mark.parametrize("name", NAMED_STRUCTURES)
def test_the_sixteen_prefer_the_chosen(name, link):
    right, wrong = clear_winners(PairLogps)
    # A square has its least value where the score is 1/(2 beta), which no policy here exceeds.
    loss = from_structure(name, link=link, beta=0.05)
    assert (loss(right) < loss(wrong)).all()


def test_likely_responses_in_single_precision():
    """At probabilities near 1 the complement is what the loss is made of."""
    exact = PairLogps(*np.array([[-1e-6, -1e-3], [-2e-6, -0.5], [-1.0, -1.0], [-1.0, -1.0]]))
    single = PairLogps(*(torch.as_tensor(x, dtype=torch.float32) for x in exact[:4]))
    for name in NAMED_STRUCTURES:
        np.testing.assert_allclose(
            from_structure(name)(single).numpy(), from_structure(name)(exact), rtol=1e-4
        )


def test_certain_responses_are_one_rounding_away():
    certain = PairLogps(*np.array([[0.0], [-1.0], [-1.0], [-1.0]]))
    nearly = certain._replace(chosen=np.array([-np.finfo(float).eps]))
    for name in NAMED_STRUCTURES:
        value = from_structure(name)(certain)
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, from_structure(name)(nearly))


def test_on_sequences_three_losses_are_one():
    """With 1 − p equal to 1, ORPO and cCPO are CPO; with mean log-probabilities they are not."""
    long = PAIR._replace(chosen=PAIR.chosen - 100.0, rejected=PAIR.rejected - 100.0)
    values = [from_structure(name)(long) for name in ("CPO", "ORPO", "cCPO")]
    assert np.ptp(values, axis=0).max() == 0.0
    averaged = [from_structure(name, average=True)(PAIR) for name in ("CPO", "ORPO", "cCPO")]
    assert np.ptp(averaged, axis=0).min() > 0.01


def test_a_table_is_trained():
    reference = TabularPolicy.uniform(1, 3)
    data = Comparisons([0, 0], [0, 0], [1, 2], prob=[0.8, 0.7])
    found = fit(reference, from_structure("cCPO"), data, reference=reference)
    again = fit(reference, "semantic", data, reference=reference)
    assert found.converged
    assert found.policy.probs[0, 0] > 0.5
    np.testing.assert_allclose(again.policy.probs, found.policy.probs, atol=1e-9)


def test_a_loss_is_pickled_with_its_structure():
    loss = from_structure(NAMED_STRUCTURES["l14"].with_reference(), link="hinge", beta=0.5)
    again = pickle.loads(pickle.dumps(loss))
    np.testing.assert_array_equal(again(PAIR), loss(PAIR))


@pytest.mark.parametrize(
    ("structure", "options", "message"),
    [
        ("cCPOO", {}, "structure must be one of 'CEUnl', .*, got 'cCPOO'"),
        ("n+-", {}, "structure must be one of"),
        (7, {}, "structure must be one of .*, got 7"),
        ("++bb", {}, None),
        ("++++", {}, "a world that counts for and one that counts against, got labels"),
        ("nn--", {}, "a world that counts for and one that counts against"),
        ("CPO", {"link": "probit"}, "link must be one of 'logistic', 'squared', 'hinge'"),
        ("CPO", {"beta": 0.0}, "beta must be a finite number > 0"),
        ("CPO", {"reference": "half"}, "reference must be one of 'none', 'log_ratio', 'full'"),
        ("CPO", {"average": 1}, "average must be True or False"),
        (
            OTHERS[-1],
            {"reference": "full"},
            "reference must be 'none' for a structure over W, L, R",
        ),
    ],
)
def test_options(structure, options, message):
    if message is None:
        assert np.isfinite(from_structure(structure, **options)(PAIR)).all()
    else:
        with pytest.raises(ValueError, match=message):
            from_structure(structure, **options)


def test_atoms_are_of_the_pair():
    (other,) = atoms("A")
    with pytest.raises(ValueError, match="over W, L, Rw, Rl and numbered copies of them, got atom"):
        from_structure(PreferenceStructure(other, ~other))
    assert (
        structure_of("b+-n") is NAMED_STRUCTURES["CPO"]
        or structure_of("b+-n") == (NAMED_STRUCTURES["CPO"])
    )


def test_densities_have_no_complement():
    positive = PAIR._replace(chosen=PAIR.chosen + 10.0)
    with pytest.raises(ValueError, match="chosen must be the logarithm of a probability"):
        semantic(positive)
    with pytest.raises(ValueError, match="ref_chosen must be the logarithm of a probability"):
        semantic(PAIR._replace(ref_chosen=-PAIR.chosen), reference="full")

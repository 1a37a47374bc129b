"""Preference structures: known losses, the order of the sixteen, neighbours, references."""

import itertools
import pickle

import numpy as np
import pytest

from prefsim.logic import (
    NAMED_STRUCTURES,
    Formula,
    PreferenceStructure,
    all_structures,
    atoms,
    covering_pairs,
    log_count_ratio,
    named_structure,
)

W, L = atoms("W", "L")
POINT = np.log([0.6, 0.3])
SIXTEEN = {
    "CEUnl": -0.3227733923,
    "sCE": 0.0339015517,
    "l3": 0.0487901642,
    "CE": 0.4054651081,
    "l20": 0.1880522315,
    "cUNL": 0.3364722366,
    "fUNL": 0.8472978604,
    "CPO": 0.6931471806,
    "ORPO": 1.2527629685,
    "cCPO": 1.6094379124,
    "qfUNL": 0.5596157879,
    "l5": 0.4168938039,
    "bCPO": 0.7884573604,
    "cfUNL": 1.7635885923,
    "l14": 1.0761394328,
    "unCPO": 1.9924301647,
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_scores_of_the_sixteen(name):
    score = log_count_ratio(NAMED_STRUCTURES[name], POINT)
    assert score == pytest.approx(SIXTEEN[name], abs=1e-10)


@pytest.mark.parametrize(
    ("name", "numerator", "denominator"),
    [
        ("CPO", 0b1100, 0b1010),
        ("ORPO", 0b0100, 0b0010),
        ("unCPO", 0b1101, 0b0010),
        ("CEUnl", 0b0100, 0b1011),
        ("cUNL", 0b0100, 0b1010),
        ("qfUNL", 0b0101, 0b0011),
    ],
)
def test_truth_tables(name, numerator, denominator):
    structure = named_structure(name)
    assert (structure.numerator.bits, structure.denominator.bits) == (numerator, denominator)


@pytest.mark.parametrize(
    ("name", "core", "given", "additive"),
    [
        ("CE", W, W | ~W, W & ~W),
        ("CEUnl", W & ~L, W | ~W, W & ~W),
        ("CPO", L.implies(W), W | L, W & L),
        ("ORPO", L.implies(W), W ^ L, W & ~W),
        ("unCPO", L.implies(W), W | ~W, W & ~W),
        ("cCPO", L.implies(W), W | L, W & ~W),
        ("cUNL", ~L, W | L, W & ~W),
        ("fUNL", ~L, W | ~W, W & ~W),
        ("cfUNL", L.implies(W), ~(W & L), W & ~W),
        ("qfUNL", L.implies(W), ~(W & L), ~W & ~L),
    ],
)
def test_what_the_named_losses_say(name, core, given, additive):
    structure = named_structure(name)
    assert (structure.core, structure.given, structure.additive) == (core, given, additive)
    assert PreferenceStructure.of(core, given=given, additive=additive) == structure


def test_all_structures_of_two_atoms():
    structures = list(all_structures())
    assert len(structures) == len(set(structures)) == 256
    scored = [each for each in structures if each.has_score]
    assert len(scored) == 225
    for each in structures:
        assert PreferenceStructure.from_labels(each.labels) == each
        assert PreferenceStructure.of(each.core, given=each.given, additive=each.additive) == each
        assert each.decided == each.given & ~each.additive
    assert len(list(all_structures(("W",)))) == 16


def test_the_order_of_the_sixteen():
    arrows = covering_pairs(NAMED_STRUCTURES)
    assert len(arrows) == 32
    order = list(NAMED_STRUCTURES)
    # They are listed from the strongest on.
    assert all(order.index(low) < order.index(high) for low, high in arrows)
    assert {low for low, _ in arrows} == set(order) - {"unCPO"}
    assert {high for _, high in arrows} == set(order) - {"CEUnl"}
    assert {high for low, high in arrows if low == "CEUnl"} == {"sCE", "l3", "cUNL", "l20"}
    assert {low for low, high in arrows if high == "unCPO"} == {"bCPO", "cCPO", "cfUNL", "l14"}
    lifted = {name: each.with_reference() for name, each in NAMED_STRUCTURES.items()}
    assert set(covering_pairs(lifted)) == set(arrows)
    # The whole structure of the reference works against the order.
    full = {name: each.with_reference("full") for name, each in NAMED_STRUCTURES.items()}
    assert covering_pairs(full) == ()


def test_joins_and_meets_are_the_nearest_bounds():
    rng = np.random.default_rng(0)
    structures = list(all_structures())
    for _ in range(60):
        one, other = (structures[i] for i in rng.integers(256, size=2))
        join, meet = one.join(other), one.meet(other)
        above = [each for each in structures if one.entails(each) and other.entails(each)]
        below = [each for each in structures if each.entails(one) and each.entails(other)]
        assert join in above and all(join.entails(each) for each in above)
        assert meet in below and all(each.entails(meet) for each in below)


def test_neighbours_are_one_step_away():
    structures = {each.labels: each for each in all_structures()}
    arrows = set(covering_pairs(structures))
    for each in structures.values():
        weaker = {other.labels for other in each.weaker_neighbours()}
        assert weaker == {high for low, high in arrows if low == each.labels}
        stronger = {other.labels for other in each.stronger_neighbours()}
        assert stronger == {low for low, high in arrows if high == each.labels}


def test_neighbours_that_keep_worlds():
    structure = named_structure("CPO")
    kept = structure.stronger_neighbours(keep=W & ~L | ~W & L)
    assert [each.labels for each in kept] == ["-+-n", "b+--"]
    with pytest.raises(ValueError, match="over the same atoms"):
        structure.weaker_neighbours(keep=atoms("A")[0])


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("CPO", 0.4700036292, 0.4700036292),
        ("ORPO", 1.0296194172, 0.8472978604),
        ("cCPO", 1.3862943611, 0.6931471806),
        ("unCPO", 1.7692866134, 0.6061358036),
        ("CE", 0.1823215568, None),
        ("CEUnl", -0.5459169436, None),
    ],
)
def test_references(name, plain, full):
    structure, point = named_structure(name), np.log([0.6, 0.3, 0.5, 0.4])
    lifted = structure.with_reference()
    assert lifted.atoms == ("W", "L", "Rw", "Rl")
    assert log_count_ratio(lifted, point) == pytest.approx(plain, abs=1e-10)
    whole = log_count_ratio(structure.with_reference("full"), point)
    both = [log_count_ratio(structure, point[part]) for part in (slice(2), slice(2, 4))]
    assert whole == pytest.approx(both[0] - both[1], abs=1e-12)
    if full is not None:
        assert whole == pytest.approx(full, abs=1e-10)


def test_what_dpo_says():
    w, r, rw, rl = atoms("W", "L", "Rw", "Rl")
    dpo = named_structure("CPO").with_reference()
    assert dpo.core == (rw & r).implies(w & rl)
    assert dpo.given == (rw & r) | (w & rl)
    assert dpo.additive == w & r & rw & rl
    assert str(dpo).startswith("P: L ∧ Rw → W ∧ Rl; given ")


def test_scores_entail_losses_over_strange_probabilities():
    """A structure that entails another has the smaller score, at sequences that underflow too."""
    points = np.array(list(itertools.product((-1e-9, -0.4, -3.0, -900.0), repeat=2)))
    for low, high in covering_pairs(NAMED_STRUCTURES):
        scores = [log_count_ratio(NAMED_STRUCTURES[name], points) for name in (low, high)]
        assert (scores[0] <= scores[1] + 1e-12 * np.abs(scores[1])).all()


def test_a_structure_is_a_value():
    structure = named_structure("ORPO")
    assert pickle.loads(pickle.dumps(structure)) == structure
    assert len({structure, PreferenceStructure.from_labels("n+-n")}) == 1


def test_what_is_no_structure():
    with pytest.raises(ValueError, match="labels must be 4, one for each world of W, L"):
        PreferenceStructure.from_labels("+-")
    with pytest.raises(ValueError, match="labels must be a word of"):
        PreferenceStructure.from_labels("xyzw")
    with pytest.raises(ValueError, match="labels must be a word of"):
        PreferenceStructure.from_labels(4)
    with pytest.raises(ValueError, match="over the same atoms"):
        PreferenceStructure(W, atoms("A")[0])
    with pytest.raises(TypeError, match="denominator must be a Formula, got NoneType"):
        PreferenceStructure(W, None)
    with pytest.raises(TypeError, match="the other structure must be a PreferenceStructure"):
        named_structure("CPO").entails(W)
    with pytest.raises(ValueError, match="structure 'cCPOO' is not known; did you mean 'cCPO'"):
        named_structure("cCPOO")
    with pytest.raises(ValueError, match="lift must be one of 'log_ratio', 'full'"):
        named_structure("CPO").with_reference("half")
    with pytest.raises(ValueError, match="a reference is for structures over W, L, got W, L, Rw"):
        named_structure("CPO").with_reference().with_reference()
    with pytest.raises(ValueError, match="a world that counts for and one that counts against"):
        log_count_ratio(PreferenceStructure(W, W & ~W), POINT)
    with pytest.raises(ValueError, match="a world that counts for and one that counts against"):
        log_count_ratio(PreferenceStructure(Formula(("W", "L"), 0), W), POINT)

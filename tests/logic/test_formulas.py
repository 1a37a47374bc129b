"""Formulas are sets of worlds: connectives, order of worlds, and text that means the same."""

import itertools

import numpy as np
import pytest

from prefsim.logic import Formula, atoms, truth_values

W, L = atoms("W", "L")


def test_worlds_are_counted_from_all_true_down():
    np.testing.assert_array_equal(truth_values(2), [[1, 1], [1, 0], [0, 1], [0, 0]])
    assert truth_values(3)[1].tolist() == [True, True, False]
    with pytest.raises(ValueError, match="read-only"):
        truth_values(2)[0] = False


def test_connectives_are_those_of_truth_values():
    for first, second in itertools.product(range(16), repeat=2):
        one, other = Formula(("W", "L"), first), Formula(("W", "L"), second)
        p, q = one.table, other.table
        np.testing.assert_array_equal((one & other).table, p & q)
        np.testing.assert_array_equal((one | other).table, p | q)
        np.testing.assert_array_equal((one ^ other).table, p ^ q)
        np.testing.assert_array_equal((~one).table, ~p)
        np.testing.assert_array_equal(one.implies(other).table, ~p | q)
        assert one.entails(other) == bool((~p | q).all())
        assert one.is_tautology == bool(p.all())
        assert one.is_contradiction == (not p.any())
        assert Formula.from_table(("W", "L"), p) == one


def test_more_atoms_and_another_order_say_the_same():
    statement = L.implies(W)
    wide = statement.over(("A", "L", "B", "W"))
    a, r, b, w = truth_values(4).T
    np.testing.assert_array_equal(wide.table, ~r | w)
    assert wide.essential_atoms == ("L", "W")
    assert wide.reduced() == statement.over(("L", "W"))
    assert statement.over(("L", "W")).over(("W", "L")) == statement
    assert (a | ~a | b).all()


def test_what_a_formula_does_not_depend_on():
    assert ((W & L) | (W & ~L)).essential_atoms == ("W",)
    everything = W | ~W
    assert everything.essential_atoms == () and everything.reduced() == everything


def reading(text, names, world):
    """The truth of a text in a world, read by Python."""
    python = text.replace("¬", " not ").replace("∧", " and ").replace("∨", " or ")
    values = dict(zip(names, world, strict=True)) | {"⊤": True, "⊥": False}
    python = python.replace("⊤", "True").replace("⊥", "False")
    left, arrow, right = python.partition("→")
    if not arrow:
        return bool(eval(left, {}, values))
    return not eval(left, {}, values) or bool(eval(right, {}, values))


@pytest.mark.parametrize("n_atoms", [1, 2, 3])
def test_every_text_means_its_formula(n_atoms):
    names = ("A", "B", "C")[:n_atoms]
    for bits in range(2**2**n_atoms):
        formula = Formula(names, bits)
        read = [reading(str(formula), names, world) for world in truth_values(n_atoms)]
        np.testing.assert_array_equal(read, formula.table, err_msg=str(formula))


def test_texts_of_more_atoms_and_of_some_worlds():
    rng = np.random.default_rng(3)
    names = ("W", "L", "Rw", "Rl")
    for _ in range(200):
        formula, where = (Formula.from_table(names, rng.random(16) < 0.5) for _ in range(2))
        read = np.array([reading(formula.text(where=where), names, w) for w in truth_values(4)])
        counted = where.table
        np.testing.assert_array_equal(read[counted], formula.table[counted])


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (W & ~W, "⊥"),
        (W | ~W, "⊤"),
        (~W, "¬W"),
        (~W | ~L, "¬W ∨ ¬L"),
        (W ^ L, "(W ∧ ¬L) ∨ (¬W ∧ L)"),
        (L.implies(W), "L → W"),
        (W & ~L, "W ∧ ¬L"),
    ],
)
def test_texts_are_short(formula, text):
    assert str(formula) == text


def test_implications_of_more_atoms():
    w, r, rw, rl = atoms("W", "L", "Rw", "Rl")
    assert str((rw & r).implies(w & rl)) == "L ∧ Rw → W ∧ Rl"
    assert str(rw.implies(w & ~r)) == "Rw → W ∧ ¬L"


@pytest.mark.parametrize(
    ("names", "bits", "message"),
    [
        (("W", "W"), 0, "atoms must be one to 8 distinct names"),
        ((), 0, "atoms must be one to 8"),
        (tuple("ABCDEFGHI"), 0, "atoms must be one to 8"),
        (("not a name",), 0, "atoms must be one to 8"),
        (["W"], 0, "atoms must be one to 8"),
        (("W",), 4, r"bits must be an integer in \[0, 2\*\*2\)"),
        (("W",), -1, "bits must be an integer"),
        (("W",), 0.0, "bits must be an integer"),
    ],
)
def test_what_is_no_formula(names, bits, message):
    with pytest.raises(ValueError, match=message):
        Formula(names, bits)


def test_formulas_over_other_atoms_are_not_mixed():
    (other,) = atoms("A")
    with pytest.raises(ValueError, match=r"over the same atoms, got W, L and A: use over"):
        W & other
    with pytest.raises(ValueError, match="atom of the formula must be one of 'W', got 'L'"):
        (W & L).over(("W",))
    with pytest.raises(TypeError, match="the other formula must be a Formula, got bool"):
        W & True
    with pytest.raises(ValueError, match=r"table must have trailing shape \(4\)"):
        Formula.from_table(("W", "L"), [True, False])
    with pytest.raises(ValueError, match="table must have one axis"):
        Formula.from_table(("W",), [[True, False]])

"""A broken function is broken for all who hold it, and what notices is named."""

import functools

import numpy as np
import pytest

from prefsim import loops, losses
from prefsim.losses import PairLogps
from prefsim.papers import load
from prefsim.papers.sabotage import functions_of, resolve, sabotage_paper, sabotaged
from prefsim.solvers import nash_path
from prefsim.solvers.games.updates import apo_update
from prefsim.worlds import textbook_game

PAIR = PairLogps(*(np.array([x]) for x in (-1.0, -2.5, -1.5, -2.0)))
HELD = functools.partial(losses.npo, beta=0.5)

SEES_ALL = '''
import numpy as np
from prefsim import losses


@claim("value", "identity", source="eq. 1", stated="paper", given={"x": st.floats(-3, -1)})
def is_what_the_paper_writes(x):
    """The loss is (2/β) log(1 + (π/π_ref)^β)."""
    pair = losses.PairLogps(*(np.array([v]) for v in (-1.0, x, -1.0, -2.0)))
    return apart(losses.npo(pair, beta=0.5), 4 * np.log1p(np.exp(0.5 * (x + 2.0))))
'''
SEES_NOTHING = '''
import numpy as np
from prefsim import losses


@claim("sum", "identity", source="eq. 1", stated="paper", given={"x": st.floats(-3, -1)})
def is_itself(x):
    """The loss is the loss."""
    pair = losses.PairLogps(*(np.array([v]) for v in (-1.0, x, -1.0, -2.0)))
    return apart(losses.npo(pair, beta=0.5), losses.npo(pair, beta=0.5))
'''
BODY = """import numpy as np
    from prefsim import losses
    pair = losses.PairLogps(*(np.array([v]) for v in (-1.0, -1.5, -1.0, -2.0)))
    passed = abs(float(losses.npo(pair, beta=0.5)[0]) - 4 * np.log1p(np.exp(0.25))) < 1e-9"""


@pytest.fixture
def paper(fake_papers):
    """Make a paper about ``losses.npo``."""

    def make(claims, body=BODY):
        folder = fake_papers("p", claims=claims, body=body)
        card = folder / "__init__.py"
        card.write_text(card.read_text().replace("losses.dpo", "losses.npo"))
        return "p"

    return make


def test_every_holder_sees_the_mutant_and_nobody_afterwards():
    right = losses.npo(PAIR, beta=0.5)
    with sabotaged(losses.npo, lambda original: lambda *a, **k: -original(*a, **k)) as calls:
        assert losses.npo(PAIR, beta=0.5) == HELD(PAIR) == -right
        assert resolve("prefsim.losses.pointwise.npo")(PAIR, beta=0.5) == -right
        assert calls == [3]
        assert losses.container_of(losses.npo) is PairLogps
    assert losses.npo(PAIR, beta=0.5) == HELD(PAIR) == right
    assert not [name for name in losses.npo.__globals__ if "sabotaged" in name]


def test_a_method_runs_the_mutant_of_its_update():
    with sabotaged(apo_update, lambda original: original) as calls:
        nash_path(textbook_game(), method="apo", iterations=3)
    assert calls == [3]


def test_what_raises_is_put_back():
    with pytest.raises(KeyError), sabotaged(losses.npo, lambda original: original):
        raise KeyError("boom")
    assert not [name for name in losses.npo.__globals__ if "sabotaged" in name]


def test_closures_and_dispatchers_can_be_broken():
    from prefsim.solvers import fit

    with sabotaged(fit, lambda original: lambda *a, **k: "broken"):
        assert fit(1, 2, 3) == "broken"
    with pytest.raises((TypeError, ValueError, NotImplementedError, AttributeError)):
        fit(1, 2, 3)


def test_a_claim_and_a_criterion_that_notice_are_named(paper):
    findings = list(sabotage_paper(paper(SEES_ALL)))
    named = {finding.mutant: finding for finding in findings}
    for mutant in ("sign", "half", "double", "swap"):
        assert named[mutant].function == "prefsim.losses.npo"
        assert named[mutant].claim == "value"
        assert named[mutant].criterion == "second"
        assert named[mutant].used == (True, True)
        assert named[mutant].is_explained
    assert {"no reference", "ignores beta"} <= named.keys()


def test_blind_evidence_is_found_out(paper):
    slug = paper(SEES_NOTHING, body="passed = True")
    for finding in sabotage_paper(slug, mutants=("sign", "swap")):
        assert finding.claim is None
        assert finding.criterion is None
        assert finding.used == (True, False)
        assert not finding.is_explained


def test_a_reason_explains(paper):
    reason = "UNSEEN = {('prefsim.losses.npo', 'swap'): 'both are symmetric'}\n"
    findings = {f.mutant: f for f in sabotage_paper(paper(SEES_NOTHING + reason, body="pass"))}
    assert findings["swap"].is_explained
    assert findings["swap"].reason == "both are symmetric"
    assert not findings["sign"].is_explained


def test_an_exception_is_noticed(paper):
    body = "from prefsim import losses; losses.npo(None) if False else None; {}[run.seed]"
    (finding,) = sabotage_paper(paper(SEES_ALL, body=body), mutants=("sign",))
    assert finding.criterion.startswith("raised KeyError: 0")


def test_what_a_card_names_must_exist(paper, fake_papers):
    paper(SEES_ALL)
    for name in ("prefsim.losses.none", "nothing.at.all"):
        with pytest.raises(ValueError, match=f"implements must name what exists, got '{name}'"):
            resolve(name)
    assert list(functions_of(load("p"))) == ["prefsim.losses.npo"]


def test_a_function_comes_before_the_module_of_its_name():
    assert resolve("prefsim.loops.self_play") is loops.self_play
    assert resolve("prefsim.losses.catalogue.catalogue") is losses.catalogue
    assert resolve("prefsim.losses.pointwise").__name__ == "prefsim.losses.pointwise"


def test_a_card_that_names_a_module_is_refused(fake_papers):
    folder = fake_papers("p", claims=SEES_ALL)
    file = folder / "__init__.py"
    file.write_text(file.read_text().replace("prefsim.losses.dpo", "prefsim.losses.pointwise"))
    with pytest.raises(ValueError, match=r"in full, got 'prefsim\.losses\.pointwise'"):
        functions_of(load("p"))

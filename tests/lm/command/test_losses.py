"""Losses that the command takes beside those of the library: sums, and functions of the user's."""

import functools

import pytest
from lm_made import FILM_PAIRS, TRAIN, TWO_STEPS, report_of

from prefsim import losses
from prefsim.lm import CausalLM, TextComparisons
from prefsim.lm.command.settings import configured_loss
from prefsim.solvers import fit

OWN = """
from prefsim import losses
from prefsim.losses import PairLogps


def cautious(logps: PairLogps, *, beta: float = 0.1, floor: float = 0.0):
    return losses.dpo(logps, beta=beta).clip(floor)


def of_degrees(graded: losses.DegreePairLogps):
    return losses.spo_degree(graded)


nothing = 3
"""


def trained_by_fit(loss):
    policy = CausalLM.load("model")
    columns = {name: [row[name] for row in FILM_PAIRS] for name in FILM_PAIRS[0]}
    return fit(
        policy,
        loss,
        TextComparisons(**columns),
        reference=policy,
        **{"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False},
    )


def run(prefsim, loss, *options):
    first, _, *others = [argument for argument in TRAIN if argument != "dpo"]
    return report_of(prefsim, first, "--loss", loss, *others, *TWO_STEPS, *options, "--out", "run")


def test_a_sum_of_losses(prefsim):
    report = run(prefsim, "dpo+0.1*sft", "--set", "beta=0.5", "--set", "sft.reduction=mean")
    dpo = functools.partial(losses.dpo, beta=0.5)
    sft = functools.partial(losses.sft, reduction="mean")
    expected = trained_by_fit(losses.Mixture([(1.0, dpo), (0.1, sft)]))
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)


def test_a_loss_of_ones_own(prefsim, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    report = run(prefsim, "mine.py:cautious", "--set", "beta=0.5", "--set", "floor=1e-9")
    expected = trained_by_fit(functools.partial(losses.dpo, beta=0.5))
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    same = run_again(prefsim, "run", "mine.py:cautious")
    assert same[0] == 0
    # What it computes is part of what a training goes on from.
    (tmp_path / "mine.py").write_text(OWN.replace("clip(floor)", "clip(floor + 1)"))
    code, _, error = run_again(prefsim, "run", "mine.py:cautious")
    assert code == 2
    assert "loss must be what it was before the interruption" in error


def run_again(prefsim, folder, loss):
    options = ["--set", "beta=0.5", "--set", "floor=1e-9", "--out", folder, "--resume"]
    rest = TRAIN[3:]
    return prefsim("train", "--loss", loss, *rest, *TWO_STEPS, *options)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("mine.py:missing", "mine.py has no function 'missing'"),
        ("mine.py:nothing", "mine.py has no function 'nothing'"),
        ("none.py:cautious", "none.py cannot be read"),
        ("no_such_module:cautious", "no_such_module cannot be read"),
        ("mine.py:of_degrees", "text cannot feed a loss of DegreePairLogps"),
        ("dpo+0.1*kto", "must be of one kind of data, got PairLogps, UnpairedLogps"),
        ("dpo+0.1*dpo", "must name each loss once"),
        ("dpo+", "must be written as names with weights"),
        ("dpo+0.1*bradley", "loss 'bradley' is not known"),
    ],
)
def test_what_is_no_loss_is_told(prefsim, tmp_path, loss, message):
    (tmp_path / "mine.py").write_text(OWN)
    code, _, error = prefsim("train", "--loss", loss, *TRAIN[3:], "--dry-run")
    assert code == 2
    assert message in error


def test_options_of_a_sum_belong_to_one_loss():
    with pytest.raises(ValueError, match="'beta' must be of one loss of the sum, dpo, rdpo"):
        configured_loss("dpo+rdpo", {"beta": "0.5"})
    with pytest.raises(ValueError, match=r"'ipo\.tau' must be of one loss"):
        configured_loss("dpo+sft", {"ipo.tau": "0.5"})
    with pytest.raises(ValueError, match="loss 'sft' has no option 'beta'; it has reduction"):
        configured_loss("dpo+sft", {"sft.beta": "0.5"})


def test_a_loss_that_weighs_tokens(prefsim):
    penalties = ("--set", "reward_l1=0.01", "--set", "kl_l1=0.01")
    report = run(prefsim, "sparse_po", *penalties, "--token-masks", "independent")
    policy = CausalLM.load("model").with_masks("independent", seed=0)
    columns = {name: [row[name] for row in FILM_PAIRS] for name in FILM_PAIRS[0]}
    loss = functools.partial(losses.sparse_po, reward_l1=0.01, kl_l1=0.01)
    options = {"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False}
    reference = CausalLM.load("model")
    expected = fit(policy, loss, TextComparisons(**columns), reference=reference, **options)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    assert CausalLM.load("run/model").log_prob_model.masks.kind == "independent"


def test_weights_of_tokens_are_asked_for_where_they_matter(prefsim):
    sparse = ["sparse_po" if argument == "dpo" else argument for argument in TRAIN]
    calls = (
        (sparse, (), "a policy with masks: policy.with_masks('common'), or --token-masks common"),
        (TRAIN, ("--token-masks", "common"), "which sparse_po takes, got --loss dpo"),
        (sparse, ("--token-masks", "some"), "kind must be one of"),
    )
    for train, options, message in calls:
        code, _, error = prefsim(*train, *TWO_STEPS, *options, "--out", "run")
        assert code == 2 and message in error

"""``prefsim train --online-kl``: HyPO on one line."""

from lm_made import TRAIN, TWO_STEPS, report_of

HYPO = ("--online-kl", 0.5, "--online-tokens", 4)


def test_a_training_with_fresh_completions(prefsim):
    plain = report_of(prefsim, *TRAIN, *TWO_STEPS, "--out", "dpo")
    hypo = report_of(prefsim, *TRAIN, *TWO_STEPS, *HYPO, "--reference", "other", "--out", "hypo")
    again = report_of(prefsim, *TRAIN, *TWO_STEPS, *HYPO, "--reference", "other", "--out", "again")
    assert hypo["loss"] == again["loss"] != plain["loss"]
    assert report_of(prefsim, *TRAIN, *TWO_STEPS, *HYPO, "--dry-run")["training"]["steps"] == 2


def test_what_it_needs(prefsim):
    for more, message in (
        (("--precompute",), "--online-kl needs the reference model, which --precompute frees"),
        (("--reference", "none"), "needs the reference model itself; got no reference"),
        (("--online-samples", 1), "samples must be an integer >= 2, got 1"),
        (("--online-kl", -1), "online_kl must be a finite number >= 0, got -1"),
    ):
        code, out, err = prefsim(*TRAIN, *HYPO, *more, "--dry-run")
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1

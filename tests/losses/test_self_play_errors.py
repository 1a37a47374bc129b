"""Bad win rates and strengths are refused by the losses of self-play."""

import numpy as np
import pytest

from prefsim import losses


def logps(chosen_score, rejected_score):
    scores = {"chosen_score": chosen_score, "rejected_score": rejected_score}
    arrays = {name: None if x is None else np.full(1, x) for name, x in scores.items()}
    return losses.PairLogps(*[np.zeros(1)] * 4, **arrays)


@pytest.mark.parametrize("loss", [losses.sppo, losses.dno, losses.online_ipo])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((1.2, 0.4), r"chosen_score must be a probability in \[0, 1\]"),
        ((0.7, -0.1), r"rejected_score must be a probability in \[0, 1\]"),
        ((None, 0.4), "chosen_score is needed"),
        ((0.7, None), "rejected_score is needed"),
    ],
)
def test_win_rates(loss, scores, message):
    with pytest.raises(ValueError, match=message):
        loss(logps(*scores))


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        (losses.sppo, "beta"),
        (losses.sppo_hard, "beta"),
        (losses.dno, "step"),
        (losses.inpo, "step"),
        (losses.mirror_descent, "step"),
    ],
)
def test_strengths(loss, option):
    with pytest.raises(ValueError, match=f"{option} must be a finite number > 0"):
        loss(logps(0.7, 0.4), **{option: 0.0})

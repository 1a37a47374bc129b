"""Every public loss runs through every generic check."""

import pytest
from checks import EXPECTED_FAILURES, LOSS_CHECKS

from prefsim.losses.registry import loss_functions

LOSSES = loss_functions()


@pytest.mark.parametrize(
    "check", LOSS_CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss(name, check, request):
    reason = EXPECTED_FAILURES.get((name, check.__name__.removeprefix("check_")))
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check(LOSSES[name])


def test_registry_finds_the_losses():
    assert {"dpo", "rdpo", "ipo", "hinge", "f_dpo", "rpo", "kto", "bradley_terry"} <= set(LOSSES)
    assert not {"log_ratios", "reward_margin", "soft_logistic"} & set(LOSSES)

"""The catalogue measures; here what is known of the losses is held against it."""

import functools

import numpy as np
import pytest
from loss_examples import differentiable

from prefsim import losses
from prefsim.losses.catalogue import (
    as_loss,
    catalogue,
    couples_batch,
    properties_of,
    reads_reference,
)
from prefsim.losses.registry import loss_functions
from prefsim.losses.running import running_losses


def measured():
    """Return the rows by name, measured anew for every test: half a second."""
    return {row.name: row for row in catalogue()}


# Claim Z3 of dpo_survey: exactly the losses of the margin alone are blind to a prompt constant.
MARGIN_ONLY = {
    "dpo",
    "rdpo",
    "soft",
    "ipo",
    "hinge",
    "f_dpo",
    "rdpo_length",
    "odpo",
    "exo_pair",
    "discopop",
    "copg",
    "dno",
    "online_ipo",
    "spce",
    "probit",
    "robust_ipo",
    "robust_hinge",
    "robust_probit",
}


def test_every_loss_on_log_probabilities_is_listed():
    assert {"dpo", "kto", "pl_dpo", "tdpo2", "cpl"} <= set(measured())
    assert "bradley_terry" not in measured()  # a loss on rewards


def test_margin_only():
    assert {name for name, row in measured().items() if row.margin_only} == MARGIN_ONLY


def test_reference_free():
    free = {name for name, row in measured().items() if row.reference_free}
    assert free == {
        "slic",
        "rrhf",
        "orpo",
        "asft",
        "cpo",
        "simpo",
        "simnpo",
        "semantic",
        "sft",
        "gradient_ascent",
        "ga_rt",
    }


def test_reading_the_reference_is_a_matter_of_the_options():
    assert reads_reference(functools.partial(losses.kto, reference_point=0.1))
    assert reads_reference(losses.running_bco())
    assert not reads_reference(functools.partial(losses.cpo, beta=0.3))


@pytest.mark.parametrize("name", [*loss_functions(), *running_losses()])
def test_a_loss_goes_by_its_name(name):
    found, function = as_loss(name), getattr(losses, name)
    if name in running_losses():
        assert found.container is function().container and found.state == function().state
    else:
        assert found is function
    assert as_loss(found) is found


def test_what_is_no_loss():
    with pytest.raises(ValueError, match="loss 'dpoo' is not known; did you mean 'dpo'"):
        as_loss("dpoo")
    with pytest.raises(TypeError, match=r"function of prefsim\.losses or its name, got int"):
        as_loss(3)
    with pytest.raises(ValueError, match="must be annotated"):
        as_loss(len)


def test_bounded_below():
    assert {name for name, row in measured().items() if not row.bounded_below} == {
        "gradient_ascent",
        "ga_rt",
        "ga_kl",
        "rdpo",
        "robust_hinge",
        "robust_probit",
    }
    assert properties_of(functools.partial(losses.rdpo, flip_rate=0.0), "rdpo").bounded_below


CONTAINERS = (
    losses.PairLogps,
    losses.UnpairedLogps,
    losses.ListLogps,
    losses.TokenPairLogps,
    losses.DegreePairLogps,
    losses.AnchoredLogps,
    losses.SelfImprovementLogps,
)


def made(kind, formula):
    """Return a loss of one's own on a container."""

    def loss(logps):
        return formula(logps)

    loss.__annotations__ = {"logps": kind}
    return loss


@pytest.mark.parametrize("kind", CONTAINERS, ids=lambda kind: kind.__name__)
def test_what_falls_with_any_log_probability_has_no_bound(kind):
    example = kind.example(3)
    for field in differentiable(example):
        if "logits" in field:
            continue
        axes = tuple(range(1, getattr(example, field).ndim))

        def total(logps, field=field, axes=axes):
            first = getattr(logps, field)
            # Of a list a loss may see the differences alone: it is the first response that falls.
            return first[..., 0] if isinstance(logps, losses.ListLogps) else first.sum(axis=axes)

        assert not properties_of(made(kind, total), field).bounded_below, field
        rising = made(kind, lambda logps, total=total: -total(logps))
        assert properties_of(rising, field).bounded_below, field


@pytest.mark.parametrize(
    ("of_margin", "minimiser"),
    [
        (lambda h: (h - 1) ** 2, "other"),
        (lambda h: abs(h - 1), "other"),
        (lambda h: h, "infinite"),
        (lambda h: -h, "infinite"),
        (lambda h: np.logaddexp(0, h / 50), "other"),
    ],
)
def test_minimisers_without_a_name(of_margin, minimiser):
    def formula(logps):
        return of_margin(logps.chosen - logps.ref_chosen - logps.rejected + logps.ref_rejected)

    row = properties_of(made(losses.PairLogps, formula), "own")
    assert row.margin_only
    assert row.minimiser == minimiser


def test_coupled():
    assert {name for name, row in measured().items() if row.coupled} == {
        "aot",
        "aot_unpaired",
        "bco",
        "bco_unpaired",
        "beta_dpo",
        "drdpo",
        "kto",
        "ppo",
    }
    assert not couples_batch(functools.partial(losses.ppo, reduction="response"))
    assert couples_batch(functools.partial(losses.ppo, reduction="response", whiten=True))
    assert couples_batch(functools.partial(losses.grpo, reduction="batch"))
    assert not couples_batch(functools.partial(losses.kto, reference_point=0.1))


def test_convexity():
    # Two sigmoids, a blend of two links, a saturating one, a temperature that follows the margin, a
    # mean of a loss and its mirror image: all others curve upwards in the margin.
    assert {name for name, row in measured().items() if row.convex is False} == {
        "apo_down",
        "apo_zero",
        "beta_dpo",
        "chipo",
        "discopop",
        "exo_pair",
        "robust_hinge",
        "robust_probit",
    }


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("dpo", "logit(p) / beta"),
        ("rdpo", "logit((p - e) / (1 - 2e)) / beta"),
        ("soft", "logit(p t + (1 - p)(1 - t)) / beta"),
        ("ipo", "(2p - 1) / (2 tau)"),
        ("hinge", "sign(2p - 1) / beta"),
        ("probit", "probit(p) / beta"),
        ("robust_ipo", "(2p - 1) / (2 tau (1 - 2e))"),
        ("robust_hinge", "sign(2p - 1) / beta"),
        ("robust_probit", "probit((p - e) / (1 - 2e)) / beta"),
        ("exo_pair", "(2p - 1) logit(1 - epsilon) / beta"),
        ("rdpo_length", "(logit(p) - alpha (n_w - n_l)) / beta"),
        ("odpo", "none: the reversed pair is refused"),
    ],
)
def test_population_minimisers(name, form):
    assert properties_of(loss_functions()[name], name).minimiser == form


def test_the_taxonomy_places_every_direct_loss():
    from prefsim.losses.taxonomy import PARTS, TAXONOMY, by_part

    direct = set(measured()) - {
        "cpl",
        "cpl_ranked",
    }  # losses on segments stand outside the survey's map
    assert set(TAXONOMY) == direct
    assert {name for part in PARTS for names in by_part(part).values() for name in names} == direct

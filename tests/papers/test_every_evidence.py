"""The evidence of every paper: it notices broken functions, and holds for any seed."""

import os

import pytest

from prefsim.data.locate import data_folder
from prefsim.papers import Run, all_slugs
from prefsim.papers.mutators import REQUIRED
from prefsim.papers.reproducing import run_reproduction
from prefsim.papers.sabotage import sabotage_paper
from prefsim.papers.verdicts import check_papers

SLUGS = all_slugs()

deep = pytest.mark.skipif(
    "PREFSIM_EVIDENCE" not in os.environ, reason="takes an hour or two: make evidence"
)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_claim_notices_what_is_broken(slug):
    for finding in sabotage_paper(slug, mutants=("sign", "half", "swap"), with_reproduction=False):
        assert finding.claim or finding.reason, (finding.function, finding.mutant)


@deep
@pytest.mark.parametrize("slug", SLUGS)
def test_claims_and_criteria_notice_every_mutant(slug):
    run = Run(quick=True, data=data_folder())
    for finding in sabotage_paper(slug, mutants=REQUIRED, run=run):
        assert finding.is_explained, finding


@deep
@pytest.mark.parametrize("seed", range(1, 10))
@pytest.mark.parametrize("slug", SLUGS)
def test_claims_hold_for_any_seed(slug, seed):
    results = check_papers([slug], examples=30, seed=seed)[slug]
    assert not {name: each.detail for name, each in results.items() if each.holds is False}


def failed_criteria(slug, tmp_path, **settings):
    outcome = run_reproduction(slug, out=tmp_path, data=data_folder(), **settings)
    assert outcome.error is None
    return [row for row in outcome.result["criteria"] if not row["passed"]]


@deep
@pytest.mark.parametrize("seed", range(1, 10))
@pytest.mark.parametrize("slug", SLUGS)
def test_a_quick_reproduction_holds_for_any_seed(slug, seed, tmp_path):
    assert not failed_criteria(slug, tmp_path, quick=True, seed=seed)


@deep
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slug", SLUGS)
def test_a_full_reproduction_holds_for_any_seed(slug, seed, tmp_path):
    assert not failed_criteria(slug, tmp_path, quick=False, seed=seed)

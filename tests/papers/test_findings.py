"""Findings of several papers are kept beside their results, also where a worker dies."""

import pytest
from conftest import write_fake_paper

from prefsim.papers.findings import read_findings, sabotage_papers
from prefsim.papers.tables import checks_table, sabotage_table

SEES = """
import numpy as np
from prefsim import losses


@claim("value", "identity", source="eq. 1", stated="paper", given={"x": st.floats(-3, -1)})
def is_what_the_paper_writes(x):
    '''The loss of equal texts is log 2.'''
    pair = losses.PairLogps(*(np.array([x]) for _ in range(4)))
    return apart(losses.dpo(pair, beta=1.0), np.log(2))
"""


def test_findings_are_kept_and_a_changed_file_is_none(fake_papers, tmp_path):
    fake_papers("p", claims=SEES, body="")
    found = sabotage_papers(["p"], mutants=["sign"], out=tmp_path)["p"]
    assert [(finding.mutant, finding.claim) for finding in found] == [("sign", "value")]
    assert not found[0].is_explained, "the reproduction of this paper does not use the loss"
    kept = read_findings(tmp_path / "p")
    assert kept["findings"][0]["claim"] == "value"
    file = tmp_path / "p" / "sabotage.json"
    file.write_text(file.read_text().replace('"explained": false', '"explained": true'))
    assert read_findings(tmp_path / "p") is None


def test_a_worker_that_dies_leaves_its_mutant_unexplained(tmp_path):
    dies = str(write_fake_paper(tmp_path / "dies", claims=SEES, body="os._exit(7)"))
    whole = str(write_fake_paper(tmp_path / "whole", claims=SEES))
    found = sabotage_papers([dies, whole], mutants=["sign"], jobs=2, out=tmp_path / "out")
    (lost,) = found[dies]
    assert lost.lost == "its worker process ended with exit code 7"
    assert not lost.is_explained
    assert found[whole][0].claim == "value"
    assert read_findings(tmp_path / "out" / "dies")["findings"][0]["lost"] == lost.lost
    table = sabotage_table(found)
    assert "ended with exit code 7" in str(list(table.columns[-1].cells))


@pytest.mark.parametrize("table", [sabotage_table, checks_table])
def test_tables_of_nothing_are_empty(table):
    assert table({}).row_count == 0

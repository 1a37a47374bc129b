"""The page of results as a browser shows it, where there is one."""

import re
import shutil
import subprocess

import pytest

from prefsim.papers.report import write_index
from prefsim.papers.reproducing import run_reproduction
from prefsim.papers.verdicts import check_papers, write_verdicts

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="no chromium")]

# What a reader would see is written into the title, which the browser prints.
PROBE = """
<script>
addEventListener("load", () => {
  const articles = [...document.querySelectorAll("article")];
  const shown = () => articles.filter((article) => article.offsetParent).length;
  const said = [document.documentElement.scrollWidth <= innerWidth, shown()];
  document.getElementById("failing").click();
  said.push(shown());
  document.getElementById("failing").click();
  const family = document.getElementById("family");
  family.value = family.options[1].value;
  family.dispatchEvent(new Event("change", { bubbles: true }));
  said.push(shown(), document.getElementById("beta-claims").open);
  said.push(matchMedia("(prefers-color-scheme: dark)").matches);
  document.title = said.join(" ");
});
</script>
"""


@pytest.fixture
def page(fake_papers, tmp_path):
    fake_papers("zeta", family="direct")
    fake_papers("alpha", family="nash", body="passed = False")
    fake_papers("beta", family="direct")
    for slug in ("zeta", "alpha", "beta"):
        run_reproduction(slug, out=tmp_path / "results", quick=True)
    verdicts = check_papers(["beta"], examples=10)
    write_verdicts(tmp_path / "results", verdicts, examples=10, seed=0)
    path = write_index(tmp_path / "results")
    path.write_text(path.read_text(encoding="utf-8") + PROBE, encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
@pytest.mark.parametrize("width", [420, 1200])
def test_it_fits_filters_and_opens(page, scheme, width, tmp_path):
    done = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--window-size={width},900",
            "--virtual-time-budget=3000",
            f"{page.as_uri()}#beta-claims",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stderr[-2000:]
    dark = "true" if scheme == 0 else "false"
    # Three papers, one that fails, two of the first family; the link has opened the claims.
    assert title[1] == f"true 3 1 2 true {dark}"

"""The page in a real browser: it lays out, and nothing sticks out of a phone's screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_bench_report import outcome, run

from lirpa_verify.bench.page import html_report
from lirpa_verify.bench.report import make_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>
const all = document.querySelectorAll("svg");
const texts = [...document.querySelectorAll("svg text")].map(t => t.getBoundingClientRect());
document.title = [document.documentElement.scrollWidth, innerWidth, all.length,
  Math.min(...texts.map(t => t.height)), Math.max(...texts.map(t => t.right))].join(" ");
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_the_screen(tmp_path: Path, width: int) -> None:
    long = "a_network_with_a_rather_long_name_as_they_are_in_the_competition"
    mine = run(*(outcome(f"{long}_{i}", "unsat", 0.1 * i + 0.1, expected="sat") for i in range(20)))
    other = run(*(outcome(f"{long}_{i}", "unsat", 2.0) for i in range(20)), name="another run")
    # An old headless mode has no narrow windows; a frame has any width.
    (tmp_path / "page.html").write_text(html_report(make_report(mine, [other])) + PROBE)
    (tmp_path / "frame.html").write_text(
        f'<iframe src="page.html" width="{width}" height="900" frameborder="0" '
        'onload="document.title = this.contentDocument.title"></iframe>'
    )
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path}/profile", "--window-size=1300,1000", "--virtual-time-budget=2000"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/frame.html"], capture_output=True, text=True, timeout=60
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None, done.stderr
    content, window, plots, smallest, rightmost = map(float, found[1].split())
    assert window == width
    assert content <= window  # wide tables scroll by themselves
    assert plots == 2
    assert smallest >= 9.5  # pixels of a line of text in a plot
    assert rightmost <= window

"""The report in a real browser: wide and narrow, light and dark, by keyboard."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlcluster.tune import TrialStory, render_report, report_on, tell_study
from mlcluster.tune.report_style import STYLE
from tests.tune.studies import simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1400,1000",
)
WIDTHS = (360, 768, 1200)
SCHEMES = {"dark": 0, "light": 1}
"""As Chromium's engine numbers them."""

PROBE = """
<!doctype html><meta charset="utf-8"><pre id="found"></pre>FRAMES<script>
function texts(page) {
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement, style = page.defaultView.getComputedStyle(parent);
    if (!walker.currentNode.data.trim() || style.visibility === "hidden" || parent.closest("title, .scroll")) continue;
    const range = page.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (box.width) found.push([box.left, box.right, parseFloat(style.fontSize), walker.currentNode.data]);
  }
  return found;
}
function probe(frame) {
  const page = frame.contentDocument, root = page.documentElement, view = page.defaultView;
  const charts = [...page.querySelectorAll("svg.chart")].map(one => {
    const box = one.getBoundingClientRect();
    return [one.getAttribute("aria-label"), box.width, box.height];
  });
  const spots = [...page.querySelectorAll(".spot")], hidden = spots.find(one => !one.classList.contains("shown"));
  let tip = null;
  if (hidden) { hidden.focus(); tip = view.getComputedStyle(hidden.querySelector(".tip")).visibility; }
  const shut = root.scrollWidth, read = texts(page);
  page.querySelectorAll("details").forEach(one => { one.open = true; });
  return {
    width: root.clientWidth, scroll_width: shut, open_scroll_width: root.scrollWidth, charts, texts: read,
    num_spots: spots.length, tip, focused: page.activeElement.getAttribute("aria-label"),
    ground: view.getComputedStyle(page.body).backgroundColor, height: root.scrollHeight,
  };
}
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(probe);
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


@dataclass(frozen=True, kw_only=True)
class Browser:
    """Headless, with a profile of its own, and without a network."""

    command: str
    folder: Path

    def open(self, page: str, *, scheme: str = "light") -> tuple[str, list[str]]:
        """The document as it stands once it has loaded, and what was written to the console."""
        path = self.folder / "page.html"
        path.write_text(page, encoding="utf-8")
        profile = self.folder / "profile"
        done = subprocess.run(
            [
                self.command,
                *FLAGS,
                f"--user-data-dir={profile}",
                f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
                "--dump-dom",
                path.as_uri(),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        shutil.rmtree(profile, ignore_errors=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def look(self, report: str, *, scheme: str = "light") -> list[dict[str, Any]]:
        """What the report comes to at each of `WIDTHS`; nothing may be written to the console."""
        frames = "".join(
            f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(report)}"></iframe>'
            for width in WIDTHS
        )
        document, console = self.open(PROBE.replace("FRAMES", frames), scheme=scheme)
        assert console == []
        found = re.search(r'<pre id="found">(.+?)</pre>', document, re.DOTALL)
        assert found is not None
        return list(json.loads(html.unescape(found[1])))


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[Browser]:
    yield Browser(command=chromium, folder=tmp_path)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of 120 trials, one of which has names and values that are long, and mean something in HTML."""
    result, events = simulated(
        tmp_path_factory.mktemp("study"), max_trials=120, families=("linear", "forest", "boosting", "mlp")
    )
    story = tell_study(events, result)
    trials = (_odd(story.trials[0]), *story.trials[1:])
    return render_report(report_on(replace(story, trials=trials), cap_usd=2.0))


def _odd(trial: TrialStory) -> TrialStory:
    words = "<b>a family & its 'long' name</b>" + "x" * 80
    return replace(trial, family=words, configuration={"y" * 90: words * 3})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_chart_is_there_and_no_text_is_cut_off_at_any_width(browser: Browser, report: str, scheme: str) -> None:
    for width, seen in zip(WIDTHS, browser.look(report, scheme=scheme), strict=True):
        assert seen["width"] == width
        assert seen["scroll_width"] <= width, "the page scrolls sideways"
        assert seen["open_scroll_width"] <= width, "an open table makes the page scroll sideways"
        assert len(seen["charts"]) >= 3 + 2 * 5 + 4 + 1
        for label, chart_width, chart_height in seen["charts"]:
            assert label
            assert min(chart_width, chart_height) >= 5, label
        large = [chart for chart in seen["charts"] if chart[2] > 200]
        assert len(large) == 3, "score, Pareto front and forecast"
        for left, right, size, text in seen["texts"]:
            assert 0 <= left <= right <= width + 0.5, text
            assert size >= 12, text


def test_light_and_dark_are_two(browser: Browser, report: str) -> None:
    light, dark = (browser.look(report, scheme=scheme)[0]["ground"] for scheme in ("light", "dark"))
    assert light != dark


def test_points_that_matter_are_reached_by_keyboard_and_say_what_they_are(browser: Browser, report: str) -> None:
    seen = browser.look(report)[-1]
    assert 3 <= seen["num_spots"] <= 60
    assert seen["tip"] == "visible"
    assert seen["focused"].startswith("t0")


def test_a_page_that_loads_something_or_complains_would_be_noticed(browser: Browser) -> None:
    _, console = browser.open("<script>console.error('oh')</script>")
    assert len(console) == 1
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    _, refused = browser.open(f"{policy}<img src='picture.png'>")
    assert len(refused) == 1


def _luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_from_its_ground_in_both_schemes() -> None:
    schemes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in STYLE.split("@media", 2)[:2]]
    for colours in schemes:
        pairs = [("ink", "card"), ("ink", "ground"), ("soft", "card"), ("soft", "ground"), ("warn", "warn-ground")]
        pairs += [("accent", "card"), *((f"c{number}", "card") for number in range(8))]
        for front, back in pairs:
            bright, dim = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
            least = 3.0 if front.startswith("c") else 4.5
            assert (bright + 0.05) / (dim + 0.05) >= least, (front, back)

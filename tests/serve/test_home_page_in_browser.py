"""The page of an endpoint in a real browser, over a real socket: by keyboard, wide and narrow, without the internet."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from mlcluster.registry import Bundle
from mlcluster.serve import Predictor, build_app
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.conftest import MemoryRecords
from tests.serve.image_models import ServedImages, trained_on_bars

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ODD = "</script><img src=x onerror=alert(1)>'\"&"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A page and the server that it came from."""

    page: Page
    url: str
    records: MemoryRecords
    requests: list[str]
    """The URL of each request that the page has made."""


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ServedImages:
    return trained_on_bars(tmp_path_factory.mktemp("images"))


@contextmanager
def serving(bundle: Bundle, records: MemoryRecords) -> Iterator[str]:
    config = uvicorn.Config(build_app(Predictor(bundle), record=records), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def visit(browser: Browser, records: MemoryRecords) -> Iterator[Callable[[Bundle], Opened]]:
    """Serves a bundle and opens its page; nothing may be thrown on the page by the end."""
    open_now: list[tuple[object, Page]] = []
    thrown: list[str] = []

    def opened(bundle: Bundle) -> Opened:
        server = serving(bundle, records)
        url = server.__enter__()
        page = browser.new_context(viewport={"width": 1100, "height": 900}, locale="en").new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("dialog", lambda dialog: thrown.append(dialog.message))
        page.goto(url)
        open_now.append((server, page))
        return Opened(page=page, url=url, records=records, requests=requests)

    yield opened
    for server, page in open_now:
        page.context.close()
        server.__exit__(None, None, None)  # type: ignore[attr-defined]
    assert thrown == []


def tab_to(page: Page, name: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.labels?.[0]?.textContent") == name:
            return
    pytest.fail(f"{name} is not reached by the key Tab")


def test_a_row_is_typed_and_answered_by_keyboard_alone(visit: Callable[[Bundle], Opened]) -> None:
    bundle, row = sample_bundle("multiclass"), sample_table(9, seed=3).slice(7, 1)
    opened = visit(bundle)
    page = opened.page
    for name, value in row.to_pylist()[0].items():
        tab_to(page, name)
        if name == "member":
            page.keyboard.press("ArrowUp" if value else "ArrowDown")
            page.keyboard.type(str(value).lower())
        else:
            page.keyboard.press("ControlOrMeta+A")
            page.keyboard.press("Backspace")
            page.keyboard.type("" if value is None else str(value))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#prediction-id")).to_be_visible()
    expected = Predictor(bundle).predict(row)
    assert page.locator("#answer .value").inner_text() == str(expected.labels[0])
    shares = page.locator("#answer .bars span:nth-child(3n)").all_inner_texts()
    assert shares == [f"{share:.4f}" for share in sorted(expected.scores[0], reverse=True)]
    (record,) = opened.records.records
    assert record.id == page.locator("#prediction-id").inner_text()
    assert record.inputs == row.to_pydict()
    assert re.search(r"\d+\.\d ms, version 3", page.locator("#answer").inner_text())


def test_a_wrong_value_is_named_at_its_field_and_the_next_answer_clears_it(visit: Callable[[Bundle], Opened]) -> None:
    page = visit(sample_bundle()).page
    age = page.get_by_label("age", exact=True)
    age.fill("old")
    age.press("Enter")
    expect(age).to_have_attribute("aria-invalid", "true")
    expect(age).to_be_focused()
    hint = page.locator(f"#{age.get_attribute('aria-describedby')}")
    assert hint.inner_text().startswith("age = 'old' in row 0")
    assert hint.inner_text() in page.locator("#answer").inner_text()
    age.fill("41")
    age.press("Enter")
    expect(page.locator("#prediction-id")).to_be_visible()
    expect(age).to_have_attribute("aria-invalid", "false")
    assert page.locator("#history tbody tr").count() == 1


def test_the_command_for_a_shell_gives_the_answer_of_the_page(visit: Callable[[Bundle], Opened]) -> None:
    opened = visit(sample_bundle("regression"))
    page = opened.page
    page.get_by_label("city", exact=True).fill("Ħal 'Qormi'")
    page.get_by_label("age", exact=True).fill("33")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#prediction-id")).to_be_visible()
    command = page.locator("#curl").inner_text()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=30)
    assert '"prediction_id"' in done.stdout
    by_page, by_shell = opened.records.records
    assert by_page.inputs == by_shell.inputs
    assert by_page.inputs["city"] == ["Ħal 'Qormi'"]
    assert by_page.outputs == by_shell.outputs


def test_every_page_works_without_the_internet(visit: Callable[[Bundle], Opened]) -> None:
    opened = visit(sample_bundle())
    page = opened.page
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#prediction-id")).to_be_visible()
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.get_by_text("/v2/models/demo/infer").first).to_be_visible()
    served = urlsplit(opened.url).netloc
    assert len(opened.requests) > 4
    assert {urlsplit(url).netloc for url in opened.requests if not url.startswith("data:")} == {served}


@pytest.mark.parametrize("width", [320, 360, 768, 1400])
def test_nothing_is_cut_off_at_any_width(visit: Callable[[Bundle], Opened], width: int) -> None:
    page = visit(sample_bundle("multiclass")).page
    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#prediction-id")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    controls = page.locator("input:visible, select:visible, button:visible")
    assert controls.count() >= 9
    for box in (control.bounding_box() for control in controls.all()):
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        assert box["height"] >= 24


def test_names_that_mean_something_in_html_are_text(visit: Callable[[Bundle], Opened]) -> None:
    bundle = sample_bundle()
    schema = replace(
        bundle.schema, features=(replace(bundle.schema.features[0], name=ODD), *bundle.schema.features[1:])
    )
    columns = (replace(bundle.transform.columns[0], name=ODD), *bundle.transform.columns[1:])
    example = tuple(
        {ODD if key == "income" else key: value for key, value in row.items()} for row in bundle.input_example
    )
    transform = replace(bundle.transform, columns=columns)
    page = visit(replace(bundle, schema=schema, transform=transform, input_example=example)).page
    assert page.locator("#fields label").first.inner_text().startswith(ODD)
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#prediction-id")).to_be_visible()
    assert page.locator("img").count() == 0


def test_an_image_is_chosen_shown_and_answered(
    visit: Callable[[Bundle], Opened], images: ServedImages, tmp_path: Path
) -> None:
    (tmp_path / "bar.png").write_bytes(images.images[2])
    opened = visit(images.bundle)
    opened.page.get_by_label("picture", exact=True).set_input_files(tmp_path / "bar.png")
    expect(opened.page.locator("img.seen")).to_be_visible()
    assert opened.page.evaluate("document.querySelector('img.seen').naturalWidth") > 0
    opened.page.get_by_role("button", name="Predict").click()
    expect(opened.page.locator("#prediction-id")).to_be_visible()
    assert opened.page.locator("#answer .bars span:nth-child(3n)").first.inner_text() == f"{images.scores[2].max():.4f}"


def test_an_endpoint_that_asks_for_a_key_is_given_one(visit: Callable[[Bundle], Opened]) -> None:
    opened = visit(sample_bundle())
    keys: list[str | None] = []

    def door(route: Route) -> None:
        keys.append(route.request.headers.get("authorization"))
        if keys[-1] == "Bearer open-sesame":
            route.continue_()
        else:
            route.fulfill(status=401, content_type="application/problem+json", body='{"title": "Unauthorized"}')

    opened.page.route("**/infer", door)
    expect(opened.page.get_by_label("API key")).to_be_hidden()
    opened.page.get_by_role("button", name="Predict").click()
    expect(opened.page.get_by_label("API key")).to_be_focused()
    opened.page.keyboard.type("open-sesame")
    opened.page.keyboard.press("Enter")
    expect(opened.page.locator("#prediction-id")).to_be_visible()
    assert keys == [None, "Bearer open-sesame"]
    assert "open-sesame" not in opened.page.locator("#curl").inner_text()


def test_an_endpoint_that_is_gone_is_said_to_be(visit: Callable[[Bundle], Opened]) -> None:
    page = visit(sample_bundle()).page
    page.route("**/infer", lambda route: route.abort())
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#answer .problem").first).to_have_text("No answer")
    expect(page.get_by_role("button", name="Predict")).to_be_enabled()

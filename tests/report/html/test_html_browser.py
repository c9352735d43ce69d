import json
import threading
from urllib.parse import urlsplit

import pytest
from headless import CHROMIUM, Browser
from ports import free_port
from run_folders import write_run, write_sweep

from savi.report.html import write_report
from savi.report.watch import ReportServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

DRAWN = "[...document.querySelectorAll('[data-plot]')].map(e => e.querySelectorAll('svg').length)"
WIDTHS = "[document.documentElement.scrollWidth, innerWidth]"
GROUND = "getComputedStyle(document.body).backgroundColor"
PLOT_GROUND = "document.querySelector('[data-plot]')._fullLayout.paper_bgcolor"
SHOWN = "document.querySelector('[data-plot=overlay]').data.length"
# Boxes that scroll may be wider inside; nothing else may stick out of the window.
STICKING_OUT = """[...document.querySelectorAll('main *')].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre')).length"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def run_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run = write_run(folder / "a", command="savi-train " + " ".join(["inner.rho=0.1"] * 30))
    record = {
        "kind": "v",
        "name": "bad local minimum",
        "sentence": "1 of 2 are pruned",
        "kl_per_dimension": [1.0, 0.0],
        "sigma_histogram": {"edges": [0.0, 0.5, 1.0], "counts": [1, 2]},
    }
    (run / "collapse.json").write_text(json.dumps(record))
    return write_report([run], folder / "run.html")


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    sweep = write_sweep(folder / "s")
    words = "<img src=x onerror='document.title=1'>"
    write_run(sweep / "evil", {"experiment": words, "seed": 7}, command=words)
    return write_report([sweep], folder / "sweep.html")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["run_page", "sweep_page"])
def test_a_page_is_drawn_fits_and_fetches_nothing(browser, request, name, width, dark):
    page = request.getfixturevalue(name)
    browser.open(page, width, dark=dark)
    drawn = browser.evaluate(DRAWN)
    assert len(drawn) == 5
    assert all(drawn)
    assert browser.complaints() == []
    assert browser.fetched() == [page.resolve().as_uri()]
    content, window = browser.evaluate(WIDTHS)
    assert content <= window == width
    assert browser.evaluate(STICKING_OUT) == 0


@pytest.mark.parametrize("name", ["run_page", "sweep_page"])
def test_the_theme_follows_the_system_and_then_the_button(browser, request, name):
    browser.open(request.getfixturevalue(name), dark=True)
    dark = browser.evaluate(f"[{GROUND}, {PLOT_GROUND}]")
    browser.prefer(dark=False)
    browser.wait_for(f"{PLOT_GROUND} !== '{dark[1]}'")
    light = browser.evaluate(f"[{GROUND}, {PLOT_GROUND}]")
    assert light[0] != dark[0]
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(f"[{GROUND}, {PLOT_GROUND}]") == dark
    browser.prefer(dark=True)
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(f"[{GROUND}, {PLOT_GROUND}]") == light
    assert browser.complaints() == []


def test_plots_follow_the_width_of_the_window(browser, run_page):
    browser.open(run_page, 1280)
    browser.resize(390)
    widths = "[...document.querySelectorAll('.main-svg')].map(e => e.getBoundingClientRect().width)"
    browser.wait_for(f"Math.max(...{widths}) < 390")
    content, window = browser.evaluate(WIDTHS)
    assert content <= window == 390


def test_metric_lines_and_settings_can_be_chosen(browser, sweep_page):
    browser.open(sweep_page)
    assert browser.evaluate(SHOWN) == 8
    browser.evaluate("document.querySelector('input[value=means]').click()")
    assert browser.evaluate(SHOWN) == 6
    browser.evaluate("document.querySelector('.legend button[data-setting=\"1\"]').click()")
    pressed = (
        "[...document.querySelectorAll('.legend button[data-setting]')].map(b => b.ariaPressed)"
    )
    assert browser.evaluate(SHOWN) < 6
    assert browser.evaluate(pressed).count("false") == 2
    browser.evaluate("document.querySelector('.legend [data-every=hide]').click()")
    assert browser.evaluate(SHOWN) == 0
    browser.evaluate("document.querySelector('.legend [data-every=show]').click()")
    assert browser.evaluate(SHOWN) == 6
    chosen = "document.getElementById('metric')"
    browser.evaluate(f"{chosen}.value = 'inner/stationarity'")
    browser.evaluate(f"{chosen}.dispatchEvent(new Event('change'))")
    scale = browser.evaluate("document.querySelector('[data-plot=overlay]')._fullLayout.yaxis.type")
    assert scale == "log"
    assert browser.complaints() == []


def test_tables_sort_and_columns_can_be_chosen(browser, sweep_page):
    browser.open(sweep_page)
    heading = "document.querySelector('#settings-table th[data-column=\"0\"]')"
    cells = "[...document.querySelectorAll('#settings-table td[data-column=\"0\"]')]"
    browser.evaluate(f"{heading}.querySelector('button').click()")
    values = browser.evaluate(f"{cells}.map(cell => cell.dataset.value)")
    assert values == sorted(values, key=float)
    assert browser.evaluate(f"{heading}.ariaSort") == "ascending"
    browser.evaluate(f"{heading}.querySelector('button').click()")
    assert browser.evaluate(f"{cells}.map(cell => cell.dataset.value)") == values[::-1]
    # The failed and the missing run have no ELBO, and come last in either order.
    last = "[...document.querySelectorAll('#status tbody tr')].at(-1).cells[4].textContent"
    button = "document.querySelectorAll('#status .sort')[4]"
    for _ in range(2):
        browser.evaluate(f"{button}.click()")
        assert browser.evaluate(last) == ""
    browser.evaluate("document.querySelector('input[data-column=\"0\"]').click()")
    assert browser.evaluate(f"{cells}.every(cell => cell.hidden)")


def test_what_users_wrote_runs_nothing(browser, sweep_page):
    browser.open(sweep_page)
    assert browser.evaluate("document.title") == "s"
    assert browser.evaluate("document.querySelectorAll('[onerror]').length") == 0
    assert browser.evaluate('document.body.textContent.includes("<img src=x onerror=\'")')


def test_printing_is_light_and_unfolds_the_config(browser, run_page):
    browser.open(run_page, dark=True)
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.querySelector('.config').open")
    assert browser.evaluate("root.dataset.theme") == "light"
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not browser.evaluate("document.querySelector('.config').open")
    assert browser.evaluate("root.dataset.theme ?? null") is None
    assert browser.complaints() == []


def test_a_served_page_follows_its_runs_and_stays_where_it_is(browser, tmp_path):
    run = write_run(tmp_path / "a")
    with ReportServer([tmp_path], port=free_port()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            browser.open(server.address)
            assert browser.complaints() == []
            assert all(browser.evaluate(DRAWN))
            browser.evaluate("document.getElementById('theme').click()")
            browser.evaluate("scrollTo({ top: 321, behavior: 'instant' })")
            before = browser.evaluate(f"[{GROUND}, document.documentElement.dataset.version]")
            metrics = json.loads((run / "metrics.json").read_text())
            (run / "metrics.json").write_text(json.dumps(metrics | {"test/elbo": -9876.5}))
            browser.wait_for("document.body?.textContent.includes('9,876.5')")
            browser.wait_for("document.documentElement.dataset.ready === 'true'")
            after = browser.evaluate(f"[{GROUND}, document.documentElement.dataset.version]")
            assert after[0] == before[0]
            assert after[1] != before[1]
            assert browser.evaluate("scrollY") == 321
            assert browser.complaints() == []
            assert {urlsplit(url).netloc for url in browser.fetched()} == {
                urlsplit(server.address).netloc
            }
        finally:
            server.shutdown()
            thread.join()

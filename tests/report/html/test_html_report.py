import json
import re
from html.parser import HTMLParser

import pytest
from run_folders import METRICS, write_run, write_sweep

from savi.errors import InputError
from savi.report.html import write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = "<script>alert(1)</script>\"'&<b>"


class Checked(HTMLParser):
    """Collects what a page holds, and fails where its tags do not close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.addresses, self.words = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.addresses += [
            attributes[key] for key in ("src", "href", "action") if key in attributes
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


def parsed(path):
    page = Checked()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    page.text = " ".join(" ".join(page.words).split())
    return page


def embedded(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="plot-data">(.*?)</script>', text, re.S).group(1))


@pytest.fixture
def evil_run(tmp_path):
    folder = write_run(
        tmp_path / "<i>run",
        {"experiment": EVIL, "data.name": EVIL, f"inner.{EVIL}": EVIL},
        METRICS | {f"test/{EVIL}": 1.0},
        f"epoch,step,{EVIL.replace(',', '')}\n".replace('"', "") + "0,1,2\n1,2,3\n",
        "failed",
        EVIL,
        EVIL,
    )
    record = {"kind": EVIL, "name": EVIL, "sentence": EVIL}
    (folder / "collapse.json").write_text(json.dumps(record))
    (folder / "error.txt").write_text(EVIL)
    (folder / "figures" / "<u>.png").write_bytes(
        (folder / "figures" / "reconstructions.png").read_bytes()
    )
    return folder


def test_the_page_of_a_run_shows_all_that_it_left(tmp_path):
    run = write_run(tmp_path / "a", state="interrupted", reason="stopped by Ctrl-C")
    page = parsed(write_report([run], tmp_path / "report.html"))
    for words in (
        "savi_ift on digits",
        "interrupted",
        "stopped by Ctrl-C",
        "2026-01-02 03:04 UTC",
        "1 h 02 min",
        "40.00",
        "of 16",
        "test/gap/amortization",
        "Not positive",
        "savi-train seed=0",
    ):
        assert words in page.text, words
    assert len(embedded(tmp_path / "report.html")["plots"]) == 3


@pytest.mark.parametrize("make", [lambda p: write_run(p / "a"), lambda p: write_sweep(p / "s")])
def test_the_page_refers_to_nothing_outside(tmp_path, make):
    page = parsed(write_report([make(tmp_path)], tmp_path / "report.html"))
    assert len(page.addresses) > 5
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    anchors = {address[1:] for address in page.addresses if address.startswith("#")}
    assert anchors <= set(page.ids)
    policy = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    assert policy[0].startswith("default-src 'none'")


def test_pictures_have_words_for_those_who_do_not_see_them(tmp_path):
    page = parsed(write_report([write_run(tmp_path / "a")], tmp_path / "report.html"))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [picture["alt"][:11] for picture in pictures] == ["Test images"]
    assert (pictures[0]["width"], pictures[0]["height"]) == ("24", "12")


def test_the_same_runs_give_the_same_bytes(tmp_path):
    sweep = write_sweep(tmp_path / "s")
    first = write_report([sweep], tmp_path / "1.html").read_bytes()
    assert first == write_report([sweep], tmp_path / "2.html").read_bytes()


def test_what_users_wrote_stays_text_on_the_page_of_a_run(tmp_path, evil_run):
    page = parsed(write_report([evil_run], tmp_path / "report.html", title=EVIL))
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert not {"b", "i", "u"} & {tag for tag, a in page.tags if not a}
    # Title, reason, traceback, command, verdict, metric, panel, key and value of the config.
    assert page.text.count("<script>alert(1)") > 8


def test_what_users_wrote_stays_text_in_a_comparison(tmp_path, evil_run):
    other = write_run(tmp_path / "other")
    output = write_report([evil_run, other], tmp_path / "report.html", title=EVIL)
    page = parsed(output)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert page.text.count("<script>alert(1)") > 5
    overlays = embedded(output)["overlays"]
    named = [
        t["name"] for plots in overlays.values() for t in plots["means"]["data"] if "name" in t
    ]
    assert any("&lt;script&gt;" in name for name in named)
    assert not any("<" in name for name in named)


def test_a_sweep_is_compared(tmp_path):
    page = parsed(write_report([write_sweep(tmp_path / "s")], tmp_path / "report.html"))
    for words in (
        "7 finished",
        "1 failed",
        "1 missing",
        "the ELBO is not finite",
        "the sweep lists it, but it never started",
        "rho=100",
        "savi-train -m inner.rho=0.1,1,100",
        "rho=100 is the best by “Evidence lower bound”: mean 42.1 ± 0.25 nats (95 % t-interval "
        "over 3 seeds).",
        "savi-train inner.rho=100",
        "Its run rho-100_seed-0 (seed 0):",
    ):
        assert words in page.text, words


def test_a_run_without_anything_but_a_failure_has_a_page(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "status.json").write_text('{"state": "failed", "reason": "no such data"}')
    page = parsed(write_report([folder], tmp_path / "report.html"))
    assert "no such data" in page.text


def test_runs_without_figures_or_with_nan_are_compared(tmp_path):
    write_run(tmp_path / "s" / "nan", {"inner.rho": 1.0}, METRICS | {"test/elbo": float("nan")})
    write_run(tmp_path / "s" / "bare", {"inner.rho": 2.0}, None, None, state=None, picture=False)
    write_run(tmp_path / "s" / "few", {"inner.rho": 3.0}, {"own/metric": 1.0}, state="running")
    page = parsed(write_report([tmp_path / "s"], tmp_path / "report.html"))
    assert "1 not finite" in page.text
    assert "own/metric" in page.text


def test_a_sweep_of_which_nothing_started_is_shown(tmp_path):
    jobs = [{"folder": "a", "overrides": ["seed=0"]}]
    (tmp_path / "sweep.json").write_text(json.dumps({"command": "c", "jobs": jobs}))
    page = parsed(write_report([tmp_path], tmp_path / "report.html"))
    assert "1 missing" in page.text


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_report([tmp_path / "nothing"], tmp_path / "no" / "report.html")
    with pytest.raises(InputError, match="cannot be written"):
        write_report([tmp_path / "nothing"], tmp_path)


@pytest.mark.parametrize(
    ("totals", "told"),
    [
        ({"inner/solves": 96.0, "inner/solves_failed": 0.0}, "None failed in the whole training."),
        (
            {"inner/solves": 96.0, "inner/solves_failed": 8.0, "inner/solves_failed/kink": 8.0},
            "Some failed in training: the metrics tell of how many, and why.",
        ),
        ({}, None),
    ],
)
def test_solves_that_failed_before_the_last_step_are_told(tmp_path, totals, told):
    write_run(tmp_path / "run", metrics=METRICS | totals)
    text = parsed(write_report([tmp_path / "run"], tmp_path / "r.html")).text
    assert ("in training: the metrics" in text or "the whole training." in text) == bool(totals)
    assert told is None or told in text
    assert ("… near a kink" in text) == ("inner/solves_failed/kink" in totals)

"""The page that is served, and follows its runs."""

import os
import signal
import threading
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from ports import free_port
from run_folders import write_run

from savi.errors import InputError
from savi.report.watch import ReportServer, watch


@pytest.fixture
def served(tmp_path):
    """The server of a folder, at work."""
    runs = tmp_path / "runs"
    runs.mkdir()
    server = ReportServer([runs], "Mine", free_port())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server, runs
    server.shutdown()
    thread.join()
    server.server_close()


def got(server: ReportServer, path: str = "", **headers: str) -> str:
    with urlopen(Request(server.address + path, headers=headers), timeout=10) as answer:
        return answer.read().decode()


def test_the_page_follows_the_files(served):
    server, runs = served
    waiting = got(server)
    assert "there is no run in or below" in waiting
    first = got(server, "version")
    assert f'data-version="{first}"' in waiting
    run = write_run(runs / "a")
    second = got(server, "version")
    assert second != first
    page = got(server)
    assert f'data-version="{second}"' in page
    assert "<h1>Mine</h1>" in page
    assert "40.00" in page
    # Nothing has changed: the same page, which is not made again.
    assert server.page() is server.page()
    with (run / "metrics.csv").open("a") as file:
        file.write(",".join("9" for _ in range(3)) + "\n")
    assert got(server, "version") != second


def test_a_page_asks_its_own_server_and_nobody_else(served):
    server, runs = served
    write_run(runs / "a")
    page = got(server)
    assert len(page) < 200_000
    assert '<script src="plotly.js">' in page
    assert "connect-src 'self'" in page
    assert "Plotly" in got(server, "plotly.js")
    for path in ("../../etc/passwd", "runs/a/config.yaml"):
        with pytest.raises(HTTPError, match="404"):
            got(server, path)
    # By a name that a page of another site has made stand for this machine.
    with pytest.raises(HTTPError, match="403"):
        got(server, Host="evil.example")


def test_nobody_else_can_reach_it_or_have_its_port(served):
    server, runs = served
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(InputError, match=rf"port {server.server_port} cannot be used .*: give"):
        ReportServer([runs], port=server.server_port)


def test_it_ends_at_ctrl_c_with_a_sentence(tmp_path, capsys):
    write_run(tmp_path / "run")
    server = ReportServer([tmp_path], port=free_port())
    seen = []

    def look_and_interrupt() -> None:
        try:
            seen.append(got(server, "version"))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.1, look_and_interrupt).start()
    watch(server)
    assert len(seen[0]) == 16
    begun, ended = capsys.readouterr().out.splitlines()
    assert begun == f"The report is at {server.address}, and follows the runs until Ctrl-C"
    assert ended == "The runs are no longer watched; what they do goes on"
    with pytest.raises(URLError):
        got(server)

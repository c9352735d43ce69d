"""``savi-report --watch``: the page on a loopback address, which follows runs that are at work."""

from __future__ import annotations

import errno
import hashlib
import signal
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from plotly.offline import get_plotlyjs

from savi.errors import InputError
from savi.report.folders import tree
from savi.report.html.page import PLOTLY, VERSION, report_page, waiting_page
from savi.runs.folder import require_folder
from savi.runs.record import RECORD
from savi.runs.stop import SIGNALS

#: The only address that is listened at: nobody else is to see the runs.
HOST = "127.0.0.1"

#: The port, unless another process is there.
PORT = 8765

#: What a page is made of, in each folder of a run or a sweep.
READ = (
    RECORD, "config.yaml", "metrics.json", "metrics.csv", "collapse.json", "error.txt",
    "sweep.json", "figures/*.png",
)  # fmt: skip


class ReportServer(ThreadingHTTPServer):
    """Serves the page on runs, made anew when a file has changed that it is made of.

    Args:
        paths: run folders, sweep folders, or folders above them; they may still be empty.
        title: heading of the page.
        port: where; None for the usual one, or for any that is free.

    Raises:
        InputError: if a path is no folder, or the port cannot be had.
    """

    daemon_threads = True
    # A port that another process listens at is not to be shared with it.
    allow_reuse_port = False

    def __init__(
        self, paths: Sequence[Path], title: str | None = None, port: int | None = None
    ) -> None:
        for path in paths:
            require_folder(path)
        self.paths, self.title = list(paths), title
        self._made, self._page = "", b""
        self._making = threading.Lock()
        try:
            super().__init__((HOST, PORT if port is None else port), _Handler)
        except OSError as error:
            if port is not None or error.errno != errno.EADDRINUSE:
                raise InputError(
                    f"port {port} cannot be used ({error.strerror}): give another by --port"
                ) from error
            super().__init__((HOST, 0), _Handler)

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_port}/"

    def version(self) -> str:
        """What the files are at now, in a word."""
        seen = hashlib.sha256()
        for path in self.paths:
            for folder in tree(path):
                for file in sorted(file for name in READ for file in folder.glob(name)):
                    try:
                        stat = file.stat()
                    except OSError:
                        continue
                    seen.update(f"{file}\0{stat.st_mtime_ns}\0{stat.st_size}\0".encode())
        return seen.hexdigest()[:16]

    def page(self) -> bytes:
        """The page on the files as they are now."""
        with self._making:
            version = self.version()
            if version != self._made:
                try:
                    text = report_page(self.paths, self.title, version)
                except InputError as error:
                    text = waiting_page(str(error), version)
                self._made, self._page = version, text.encode()
            return self._page


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        """Answer a browser on this machine, and no page of another site that asks through it."""
        if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
            self.send_error(403)
        elif self.path == "/":
            self._send(self.server.page(), "text/html; charset=utf-8")
        elif self.path == f"/{VERSION}":
            self._send(self.server.version().encode(), "text/plain")
        elif self.path == f"/{PLOTLY}":
            self._send(get_plotlyjs().encode(), "text/javascript", "max-age=86400")
        else:
            self.send_error(404)

    def _send(self, content: bytes, kind: str, cached: str = "no-store") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", cached)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Nothing: a line for every look of the browser would tell nobody anything."""


def watch(server: ReportServer) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    # A shell has those that it starts in the background ignore Ctrl-C.
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    with server:
        print(f"The report is at {server.address}, and follows the runs until Ctrl-C", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print("The runs are no longer watched; what they do goes on", flush=True)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

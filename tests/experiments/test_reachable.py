import socket
import time
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from savi.experiments import reachable
from savi.experiments.reachable import unreachable


@pytest.fixture
def port():
    """A port of this machine, at which nobody answers until it is listened to."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def url(port: socket.socket) -> str:
    return f"http://127.0.0.1:{port.getsockname()[1]}/graphql"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("status", [200, 302, 401, 503])
def test_whoever_answers_is_reached(status):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        assert unreachable(f"http://127.0.0.1:{made.server_port}/graphql") is None
        made.shutdown()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whoever_speaks_another_language_is_reached(scheme, port):
    """Such as TLS with a certificate that is not known here."""

    def answer() -> None:
        with port.accept()[0] as connection, suppress(OSError):
            connection.sendall(b"220 at your service\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1_000):
                pass

    port.listen()
    Thread(target=answer, daemon=True).start()
    assert unreachable(url(port).replace("http", scheme, 1)) is None


def test_a_refused_connection_is_told(port):
    assert unreachable(url(port)) == "Connection refused"


@pytest.mark.parametrize("accepts", [False, True])
def test_silence_is_not_waited_for(port, accepts):
    port.listen()
    begun = time.monotonic()
    with ExitStack() as stack:
        if accepts:
            Thread(target=lambda: stack.enter_context(port.accept()[0]), daemon=True).start()
        assert unreachable(url(port), 0.2) == "no answer within 0.2 s"
    assert time.monotonic() - begun < 5


def test_a_search_for_a_name_is_not_waited_for(monkeypatch):
    asked = []

    def slowly(*_: object, **__: object) -> None:
        asked.append("name")
        time.sleep(1)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    assert unreachable("http://example.invalid/graphql", 0.1) == "no answer within 0.1 s"
    assert asked == ["name"]


def test_an_unknown_name_is_told(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert unreachable("http://example.invalid/graphql") == "Name or service not known"


def test_a_connection_that_is_cut_is_told(monkeypatch):
    def cut(*_: object, **__: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(reachable, "urlopen", cut)
    assert unreachable("http://127.0.0.1/graphql") == "Connection reset by peer"

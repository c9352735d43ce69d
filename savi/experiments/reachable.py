"""Whether a server answers at all, found out faster than by a client that tries again and again."""

from __future__ import annotations

import ssl
from http.client import HTTPException
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

#: So long may a server take to say anything: a few round trips over a satellite.
ANSWER_SECONDS = 4.0


def unreachable(url: str, seconds: float = ANSWER_SECONDS) -> str | None:
    """Why nobody answers a request to a URL, in a few words; None if somebody does.

    Every answer counts, a refusal too. The proxies of the environment are used.
    """
    found = [_silence(seconds)]
    # A time-out of its own would not end the search for a name.
    asking = Thread(target=lambda: found.append(_why_not(url, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    return found[-1] or None


def _why_not(url: str, seconds: float) -> str:
    try:
        request = Request(url, data=b"{}", headers={"Content-Type": "application/json"})
        with urlopen(request, timeout=seconds):
            return ""
    except HTTPError as error:
        error.close()
        return ""
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):
            # Somebody answers, whose certificate another program may know.
            return ""
        if isinstance(reason, TimeoutError):
            return _silence(seconds)
        return getattr(reason, "strerror", None) or str(reason)
    except HTTPException:
        return ""


def _silence(seconds: float) -> str:
    return f"no answer within {seconds:g} s"

"""The service's side of a callback, as its page has it: POST, 5 s, three tries in all, one second apart."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from tests.contract.raw_servers import until

TRIES, PAUSE, TIMEOUT = 3, 1.0, 5.0


class Caller:
    """Given to an emulator with ``call_back_with``; keeps what it called, and what it was answered."""

    def __init__(self) -> None:
        self.may_call = threading.Event()
        self.may_call.set()
        self.urls: list[str] = []
        self.statuses: list[int | None] = []

    def __call__(self, url: str, body: bytes) -> None:
        self.urls.append(url)
        self.may_call.wait(60)
        for number in range(TRIES):
            if number:
                threading.Event().wait(PAUSE)
            status = post(url, body)
            self.statuses.append(status)
            if status == 200:
                return

    def heard(self, number: int = 1) -> None:
        until(lambda: len(self.statuses) >= number)
        assert self.statuses == [200] * number


def post(url: str, body: bytes = b"", method: str = "POST", **headers: str) -> int | None:
    """The status of the answer; ``None`` if there was none. Never leaves this machine."""
    parts = urlsplit(url)
    assert parts.scheme == "http" and parts.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=TIMEOUT)
    try:
        connection.request(method, parts.path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def raw(port: int, data: bytes) -> bytes:
    """What comes back for these bytes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        # The other side may close before it has taken everything.
        with suppress(ConnectionError):
            line.sendall(data)
        answer = b""
        with suppress(ConnectionError):
            while block := line.recv(65536):
                answer += block
        return answer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

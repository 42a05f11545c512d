"""Raw servers on 127.0.0.1 for the contract tests: one scripted handler per connection, TLS with a throw-away CA.

``RawServer.whole`` counts the requests that arrived to their last byte: only those may have been paid.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

# pycryptodome comes with the official SDK; it makes a certificate without another dependency.
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from Crypto.Util.asn1 import (
    DerBitString,
    DerBoolean,
    DerInteger,
    DerObject,
    DerObjectId,
    DerOctetString,
    DerSequence,
    DerSetOf,
)
from hidream_volcengine.api import (
    Batch,
    CallHandle,
    CancelToken,
    Deadlines,
    Delivery,
    Journal,
    JournalSettings,
    PaidCall,
    Profiles,
    Progress,
    Run,
    tensors,
)
from hidream_volcengine.api.catalog import HiDreamEndpoint, HiDreamRequest
from hidream_volcengine.api.catalog.endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_upscale,
    volcengine_outpaint,
)
from hidream_volcengine.api.purchase import pictures
from hidream_volcengine.api.purchase import poll as polling
from hidream_volcengine.api.purchase import submit as submits
from hidream_volcengine.api.services import HiDreamService, VolcengineService
from hidream_volcengine.api.transport.account import HiDreamAccount, VolcengineAccount
from PIL import Image

TOKEN = "canary-token-5f1c"
API_KEY = "canary-api-key-77d0"
# Settings without a budget and without a limiter.
UNLIMITED = {
    "REMOTE_IMAGE_PICTURES_PER_RUN": "0",
    "REMOTE_IMAGE_HIDREAM_AT_ONCE": "0",
    "REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE": "0",
    "REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE": "0",
    "REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "0",
    "REMOTE_IMAGE_POLLS_PER_SECOND": "0",
}
PATIENCE = 10.0
# Short enough that a test of a deadline ends soon, long enough for two busy cores.
QUICK = Deadlines(connect=3, upload_stall=2, hidream_answer=2, cvprocess_answer=2, poll=2, queue=8, run=8, download=4)

_T = TypeVar("_T")


# ---- waiting


def until(condition: Callable[[], _T], seconds: float = PATIENCE) -> _T:
    """Wait for the first true value of ``condition``, and return it; fails after ``seconds``.

    The pause is three times as long as a look took: a look may read the journal, which takes work from the others.
    """
    end = time.monotonic() + seconds
    while (looked := time.monotonic()) < end:
        if value := condition():
            return value
        time.sleep(max(0.005, 3 * (time.monotonic() - looked)))
    raise AssertionError("the condition did not become true in time")


def brisk(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every back-off and pause fifty times shorter; return the list to which the intended seconds are appended."""
    asked: list[float] = []

    def short(seconds: float) -> float:
        asked.append(seconds)
        return seconds / 50

    for module in (submits, pictures, polling):
        monkeypatch.setattr(module, "jittered", short)
    monkeypatch.setattr(polling, "_SECOND", 1 / 50)
    return asked


# ---- servers


@dataclass
class Connection:
    """One accepted connection, with methods for its handler. ``whole``: the last byte of its request has arrived."""

    sock: socket.socket
    index: int
    stopping: threading.Event
    head: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    closed_by_client: bool = False
    began: float = field(default_factory=time.monotonic)
    answered: float = 0.0

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def json(self) -> dict[str, Any]:
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed

    def _receive(self, size: int = 65536) -> bytes:
        data = self.sock.recv(size)
        if not data:
            self.closed_by_client = True
            raise ConnectionError("the client closed")
        return data

    def read_head(self) -> None:
        while b"\r\n\r\n" not in self.head:
            self.head += self._receive()
        self.head, _, begun = self.head.partition(b"\r\n\r\n")
        self.body += begun
        self.whole = len(self.body) >= self.length

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))

    def read_body(self, at_most: int | None = None) -> None:
        wanted = self.length if at_most is None else min(at_most, self.length)
        while len(self.body) < wanted:
            self.body += self._receive()
        self.whole = len(self.body) >= self.length

    def read(self) -> None:
        self.read_head()
        self.read_body()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.answered = time.monotonic()

    def answer(
        self,
        status: int = 200,
        body: bytes | str | Mapping[str, Any] = b"",
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        data = encoded_body(body)
        lines = {"Content-Type": content_type, "Content-Length": str(len(data)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
        self.send(f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode("latin-1") + data)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Close the plain socket: an SSLSocket would send close_notify first.
        socket.socket.close(self.sock)

    def wait_for_close(self) -> None:
        """Read whatever comes until the client hangs up."""
        try:
            while True:
                self.body += self._receive()
                self.whole = bool(self.head) and len(self.body) >= self.length
        except OSError:
            self.closed_by_client = True


def encoded_body(body: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode("utf-8")


Step = Callable[[Connection], None]


class RawServer:
    """Serves connection i with step i; the last step serves all later ones."""

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None, receive_buffer: int = 65536) -> None:
        self._steps = steps
        self._tls = tls
        self._listener = socket.socket()
        # A set size keeps the kernel from growing the buffer: what the server does not read stays with the client.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[Connection] = []
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.accepted = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def whole(self) -> int:
        """How many requests arrived to their last byte."""
        return sum(connection.whole for connection in self.connections)

    @property
    def submits(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.request_line.startswith("POST")]

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True, name="raw-server").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with socket.socket() as knock:
            knock.settimeout(1)
            knock.connect_ex(("127.0.0.1", self.port))
        self._listener.close()
        for connection in self.connections:
            socket.socket.close(connection.sock)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.stopping.is_set():
                sock.close()
                return
            sock.settimeout(PATIENCE)
            with self._lock:
                connection = Connection(sock, self.accepted, self.stopping)
                self.accepted += 1
                self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True, name="raw-connection").start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            self._steps[min(connection.index, len(self._steps) - 1)](connection)
        except (OSError, ValueError):
            # The client is gone, or the server stops; the counts stay.
            pass
        finally:
            connection.sock.close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answering(
    status: int = 200,
    body: bytes | str | Mapping[str, Any] = b"",
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> Step:
    def step(connection: Connection) -> None:
        connection.read()
        connection.answer(status, body, headers, content_type)

    return step


def resetting(phase: str) -> Step:
    """RST at ``accept``, amid ``head``, ``body`` or ``answer``, or at the end of ``headers`` or ``whole``."""

    def step(connection: Connection) -> None:
        if phase == "accept":
            return connection.reset()
        if phase == "head":
            connection.head = connection.sock.recv(20)
            return connection.reset()
        connection.read_head()
        if phase == "headers":
            return connection.reset()
        if phase == "body":
            connection.read_body(connection.length // 2)
            return connection.reset()
        connection.read_body()
        if phase == "answer":
            connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"code": 0, "result": {"task')
        return connection.reset()

    return step


def hanging(connection: Connection) -> None:
    """Take the whole request and never answer."""
    connection.read()
    connection.wait_for_close()


def stalled(connection: Connection) -> None:
    """Read the head and then nothing more, until the test ends."""
    connection.read_head()
    connection.stopping.wait(PATIENCE)


# ---- TLS


def _oid(dotted: str) -> DerObjectId:
    return DerObjectId(dotted)


def _extension(dotted: str, critical: bool, value: bytes) -> DerSequence:
    parts: list[Any] = [_oid(dotted)]
    if critical:
        parts.append(DerBoolean(True))
    return DerSequence([*parts, DerOctetString(value)])


def _name(common_name: str) -> DerSequence:
    entry = DerSequence([_oid("2.5.4.3"), DerObject(0x0C, common_name.encode())])
    return DerSequence([DerSetOf([entry.encode()])])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost that is its own CA: (certificate, certificate with key)."""
    key = ECC.generate(curve="P-256")
    public = key.public_key().export_key(format="DER")
    assert isinstance(public, bytes)
    key_id = hashlib.sha256(public).digest()[:20]
    algorithm = DerSequence([_oid("1.2.840.10045.4.3.2")])
    now = datetime.now(timezone.utc)
    validity = DerSequence(
        [DerObject(0x17, (now + timedelta(days=days)).strftime("%y%m%d%H%M%SZ").encode()).encode() for days in (-1, 2)]
    )
    names = DerSequence([DerOctetString(b"\x7f\x00\x00\x01", implicit=7), DerOctetString(b"localhost", implicit=2)])
    extensions = DerSequence(
        [
            _extension("2.5.29.19", True, DerSequence([DerBoolean(True)]).encode()),
            _extension("2.5.29.15", True, b"\x03\x02\x02\x84"),
            _extension("2.5.29.14", False, DerOctetString(key_id).encode()),
            _extension("2.5.29.35", False, DerSequence([DerOctetString(key_id, implicit=0)]).encode()),
            _extension("2.5.29.17", False, names.encode()),
        ],
        explicit=3,
    )
    to_sign = DerSequence(
        [
            DerInteger(2, explicit=0),
            DerInteger(int.from_bytes(key_id[:8], "big") | 1),
            algorithm,
            _name("127.0.0.1"),
            validity,
            _name("127.0.0.1"),
            public,
            extensions,
        ]
    ).encode()
    signature = DSS.new(key, "fips-186-3", "der").sign(SHA256.new(to_sign))
    der = DerSequence([to_sign, algorithm, DerBitString(signature)]).encode()
    pem = ssl.DER_cert_to_PEM_cert(der)
    private = key.export_key(format="PEM")
    certificate, both = folder / "ca.pem", folder / "server.pem"
    certificate.write_text(pem, encoding="ascii")
    both.write_text(f"{private}\n{pem}", encoding="ascii")
    return certificate, both


def server_context(certificate_with_key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_with_key)
    return context


# ---- calls


def no_sandbox() -> Any:
    raise AssertionError("the sandbox was not asked for")


def hidream_account(
    url: str, deadlines: Deadlines = QUICK, environment: Mapping[str, str] | None = None
) -> HiDreamAccount:
    key = environment or {"HIDREAM_TOKEN": TOKEN}
    settings = {**UNLIMITED, "HIDREAM_BASE_URL": url, "HIDREAM_EC_BASE_URL": url, **key}
    return replace(Profiles(settings, no_sandbox).hidream("default"), deadlines=deadlines)


def volcengine_account(
    url: str, deadlines: Deadlines = QUICK, environment: Mapping[str, str] | None = None
) -> VolcengineAccount:
    key = environment or {"VOLCENGINE_GATEWAY_API_KEY": TOKEN, "VOLCENGINE_GATEWAY_BASE_URL": url}
    settings = {**UNLIMITED, **key}
    return replace(Profiles(settings, no_sandbox).volcengine("default"), deadlines=deadlines)


def resumable_account(url: str, deadlines: Deadlines = QUICK) -> VolcengineAccount:
    """Return a Volcengine account whose calls are submitted as tasks."""
    keys = {"VOLCENGINE_GATEWAY_API_KEY": TOKEN, "VOLCENGINE_GATEWAY_BASE_URL": url, "VOLCENGINE_RESUMABLE": "1"}
    return volcengine_account(url, deadlines, keys)


def photo(width: int = 64, height: int = 48, seed: int = 0) -> tensors.Pixels:
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3))
    return noise.astype(np.uint8)


def png(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(width, height, seed)).save(buffer, "PNG")
    return buffer.getvalue()


SMALL = base64.b64encode(png()).decode("ascii")
# The picture that is sent; it differs from the one that comes back.
SENT = base64.b64encode(png(seed=9)).decode("ascii")
PORTRAIT = base64.b64encode(png(96, 128)).decode("ascii")
# Beyond what the socket buffers of both sides hold (Linux lets a send buffer grow to 4 MB).
LARGE = "A" * (8 * 2**20)


def upscale_request(image: str = SENT) -> HiDreamRequest:
    return hidream_upscale.Request(image=image, upsale_ratio=2)


def img2img_request(count: int = 2) -> HiDreamRequest:
    return hidream_image_to_image.Request(image=SENT, prompt="a storm", img_count=count)


def outpaint_request() -> HiDreamRequest:
    return hidream_outpaint.Request(image=SENT, x_offset=30, y_offset=40, resolution="160*128")


def photo_set_request() -> HiDreamRequest:
    return hidream_model_photo_set.Request(image=PORTRAIT, template_id=20)


def sides_request(image: str = SENT, **more: Any) -> volcengine_outpaint.Request:
    return volcengine_outpaint.Request(binary_data_base64=[image], top=0.5, left=0.25, **more)


def hidream_call(
    url: str,
    *,
    image: str = SENT,
    deadlines: Deadlines = QUICK,
    account: HiDreamAccount | None = None,
    endpoint: HiDreamEndpoint = hidream_upscale.ENDPOINT,
    request: HiDreamRequest | None = None,
    take: int = 0,
) -> PaidCall:
    service = HiDreamService(account or hidream_account(url, deadlines), endpoint)
    whole = request or upscale_request(image)
    values = {"image": whole.image}
    return PaidCall(service, whole.model_copy(update={"image": printed(whole.image)}), lambda: values, 128 * 96, take)


def volcengine_call(
    url: str,
    *,
    image: str = SENT,
    deadlines: Deadlines = QUICK,
    account: VolcengineAccount | None = None,
    request: volcengine_outpaint.Request | None = None,
    take: int = 0,
) -> PaidCall:
    service = VolcengineService(account or volcengine_account(url, deadlines), volcengine_outpaint.ENDPOINT)
    whole = request or sides_request(image)
    values = {"binary_data_base64": whole.binary_data_base64}
    prints = [printed(each) for each in whole.binary_data_base64 or ()]
    return PaidCall(service, whole.model_copy(update={"binary_data_base64": prints}), lambda: values, 128 * 96, take)


def printed(image: str) -> str:
    """Return the fingerprint that stands for an image in a request's key."""
    return f"sha256:{hashlib.sha256(image.encode('ascii')).hexdigest()}:64x48"


@contextmanager
def fresh_journal() -> Iterator[Journal]:
    """Yield an empty journal."""
    with tempfile.TemporaryDirectory(prefix="journal-", ignore_cleanup_errors=True) as folder:
        journal = Journal(JournalSettings(Path(folder)))
        try:
            yield journal
        finally:
            journal.close()


def bought(call: PaidCall, watch: CallHandle, journal: Journal | None = None) -> Delivery:
    """Run one call as the only one of its node; return its delivery, or raise its error.

    Without a journal it gets an empty one, in which the same request is bought again.
    """
    with nullcontext(journal) if journal is not None else fresh_journal() as its_journal:
        return _bought(call, watch, its_journal)


def _bought(call: PaidCall, watch: CallHandle, journal: Journal) -> Delivery:
    batch = Batch(journal, [call], Run().node().item())
    result = batch.run(0, watch)
    batch.end([result], delivered=True)
    if result.error is not None:
        raise result.error
    assert result.delivery is not None, "not submitted"
    return result.delivery


def run(call: PaidCall, journal: Journal | None = None) -> Delivery:
    """Run a call in this thread, and return its delivery."""
    return bought(call, CallHandle(CancelToken(), lambda progress: None), journal)


class Running:
    """A call in a thread of its own, with everything it reported."""

    def __init__(self, call: PaidCall, cancel: CancelToken | None = None, journal: Journal | None = None) -> None:
        self.cancel = cancel or CancelToken()
        self.progress: list[Progress] = []
        self.delivery: Delivery | None = None
        self.problem: BaseException | None = None
        self.ended = 0.0
        self._call = call
        self._journal = journal
        self._thread = threading.Thread(target=self._run, daemon=True, name="call")
        self._thread.start()

    def _run(self) -> None:
        with nullcontext(self._journal) if self._journal is not None else fresh_journal() as journal:
            try:
                self.delivery = _bought(self._call, CallHandle(self.cancel, self.progress.append), journal)
            except BaseException as problem:
                self.problem = problem
            # Taken before a journal of its own is closed and deleted, which does not belong to the call.
            self.ended = time.monotonic()

    @property
    def stages(self) -> list[str]:
        return [progress.stage for progress in self.progress]

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float = PATIENCE) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the call did not end in time"

    def felt(self, seconds: float = PATIENCE) -> float:
        """Cancel the call; return the seconds until it ended."""
        began = time.monotonic()
        self.cancel.cancel()
        self.join(seconds)
        return self.ended - began


def accepted(task_id: str = "task-1", sub_task_ids: Sequence[str] = ("sub-1",), **more: Any) -> dict[str, Any]:
    result = {"task_id": task_id, "sub_task_ids": list(sub_task_ids)}
    return {"code": 0, "message": "Success", "request_id": "vendor-request-1", "result": result, **more}


def finished_picture(**data: Any) -> dict[str, Any]:
    """Return CVProcess' answer with one picture; ``data`` replaces parts of its ``data``."""
    whole = {
        "algorithm_base_resp": {"status_code": 0, "status_message": "Success"},
        "binary_data_base64": [SMALL],
        "image_urls": None,
        **data,
    }
    return {"code": 10000, "data": whole, "message": "Success", "request_id": "vendor-request-1", "status": 10000}


# ---- scripted services


def sub_task(sub_task_id: str = "sub-1", status: Any = 1, image: str | None = None, **more: Any) -> dict[str, Any]:
    entry = {"sub_task_id": sub_task_id, "task_status": status, "task_completion": 1.0 if status == 1 else 0.5, **more}
    return entry if image is None else {**entry, "image": image}


def results(*entries: Any, **more: Any) -> dict[str, Any]:
    return {
        "code": 0,
        "message": "Success",
        "request_id": "vendor-request-1",
        "result": {"task_id": "task-1", "sub_task_results": list(entries)},
        **more,
    }


def serving(connection: Connection) -> None:
    """A HiDream that accepts every submit as ``task-1``, has its one picture ready, and delivers it."""
    connection.read()
    serving_what_was_read(connection)


def serving_what_was_read(connection: Connection) -> None:
    """As :func:`serving`, for a request that was read already."""
    if connection.request_line.startswith("POST"):
        return connection.answer(200, accepted())
    if "/results?" in connection.request_line:
        return connection.answer(200, results(sub_task(image=f"http://{connection.headers['host']}/picture.png")))
    return connection.answer(200, png(128, 96), content_type="image/png")


def over_tls(context: ssl.SSLContext, step: Step) -> Step:
    """Return the step over TLS: as ``RawServer(tls=…)``, for one connection only."""

    def wrapped(connection: Connection) -> None:
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        step(connection)

    return wrapped


def cut_handshake(connection: Connection) -> None:
    connection.sock.recv(100)
    connection.reset()

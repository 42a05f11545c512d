"""`dev.py report` against the emulator: what it buys, what it tells, and what it must never show."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest import CaptureFixture, MonkeyPatch

import api.core.redaction
from devtools import report
from devtools.report import NODES, scrub
from emulator import Emulator
from tests.contract.paying import KEYS, UNLIMITED
from tests.endpoints import PAID

SIGNATURE = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
PROXY_PASSWORD = "canary-of-the-proxy"
CANARIES = [
    *vars(KEYS).values(),
    SIGNATURE,
    PROXY_PASSWORD,
    base64.b64encode(KEYS.hidream_token.encode()).decode()[:20],
]
EXTRA = {"HiDreamAPIModelPhotoSet": ("--template-id", "20")}
every_node = pytest.mark.parametrize("node", NODES)


@pytest.fixture(autouse=True)
def _quick_and_forgetful(monkeypatch: MonkeyPatch) -> Iterator[None]:
    """The tool uses the pack by the name `api`, another copy than the other tests'."""
    for name, module in list(sys.modules.items()):
        if name.startswith("api.") and hasattr(module, "jittered"):
            monkeypatch.setattr(module, "jittered", lambda seconds, *_: seconds / 50)
    known = dict(api.core.redaction._known)
    yield
    api.pack_logger().setLevel(logging.NOTSET)
    api.core.redaction._known.clear()
    api.core.redaction._known.update(known)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(port=0, latency=0.05, credentials=KEYS) as running:
        yield running


class Reporter:
    """Somebody with keys, at the emulator instead of the services."""

    def __init__(self, emulator: Emulator, out: Path) -> None:
        self.out = out
        self.environment = {
            **UNLIMITED,
            "REMOTE_IMAGE_POLLS_PER_SECOND": "0",
            "HIDREAM_TOKEN": KEYS.hidream_token,
            "HIDREAM_BASE_URL": emulator.url,
            "HIDREAM_EC_BASE_URL": emulator.url,
            "VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key,
            "VOLCENGINE_GATEWAY_BASE_URL": emulator.url,
            "HTTPS_PROXY": f"http://somebody:{PROXY_PASSWORD}@proxy.example:3128",
        }

    def __call__(self, node: str, *arguments: str) -> int:
        return report.main([node, *EXTRA.get(node, ()), *arguments], self.environment, self.out)

    def told(self, node: str, *arguments: str, ends: int) -> str:
        """The newest report, without anything secret in it."""
        for old in self.out.glob("report-*.md"):
            old.unlink()
        assert self(node, "--yes", *arguments) == ends
        (path,) = self.out.glob("report-*.md")
        text = path.read_text(encoding="utf-8")
        for canary in CANARIES:
            for length in (len(canary), 10):
                assert canary[:length] not in text
                assert canary[-length:] not in text
        assert re.search("[A-Za-z0-9+/]{60,}", re.sub(r"/[a-z0-9_/-]+", "", text)) is None, "a picture"
        return text


@pytest.fixture
def reporter(emulator: Emulator, tmp_path: Path) -> Reporter:
    return Reporter(emulator, tmp_path)


# ---- what it buys


@every_node
def test_buys_once_and_tells_it(node: str, reporter: Reporter, emulator: Emulator) -> None:
    text = reporter.told(node, ends=0)
    assert len(emulator.accepted) == 1
    assert text.startswith(f"# {node}, ")
    assert "\nPack " in text
    assert "\nbought: [(" in text
    assert re.search(r"POST http://127\.0\.0\.1:\d+/\S* -> 200", text), "the pack's own wire log"
    assert bool(re.search(r'"\(\d+ characters\)"', text)) == bool(PAID[node].image), "the picture that went up"
    assert "Content-Type: application/json" in text
    assert '"code": ' in text

    again = reporter.told(node, ends=0)
    assert len(emulator.accepted) == 1, "paid once"
    assert "\nreused: [(" in again

    reporter.told(node, "--take", "1", ends=0)
    assert len(emulator.accepted) == 2


@every_node
def test_without_consent_nothing_is_sent(
    node: str, reporter: Reporter, emulator: Emulator, monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]
) -> None:
    for answer in ("", "n", "no", EOFError):
        monkeypatch.setattr("builtins.input", _answering(answer))
        with pytest.raises(SystemExit) as left:
            reporter(node)
        assert left.value.code
        assert "1 picture will be paid" in capsys.readouterr().out
    assert emulator.requests == []
    assert list(reporter.out.glob("report-*.md")) == []
    monkeypatch.setattr("builtins.input", _answering("y"))
    assert reporter(node) == 0
    assert len(emulator.accepted) == 1


def _answering(answer: Any) -> Any:
    def asked(question: str) -> str:
        assert "Send it?" in question
        if answer is EOFError:
            raise EOFError("nothing was answered")
        return str(answer)

    return asked


@pytest.mark.parametrize(
    ("node", "missing"), [("HiDreamAPIUpscale", "HIDREAM_TOKEN"), ("HiDreamAPIModelPhotoSet", "template_id")]
)
def test_what_is_missing_is_named_and_nothing_sent(
    node: str, missing: str, reporter: Reporter, emulator: Emulator
) -> None:
    reporter.environment.pop(missing, None)
    with pytest.raises(SystemExit, match=missing):
        report.main([node, "--yes"], reporter.environment, reporter.out)
    assert emulator.requests == []


# ---- what goes wrong


def test_a_refused_key(reporter: Reporter, emulator: Emulator) -> None:
    reporter.environment["HIDREAM_TOKEN"] = "canary-that-nobody-knows-81ab"
    text = reporter.told("HiDreamAPIUpscale", ends=1)
    assert "AuthenticationError, billed: no" in text
    assert "canary-that" not in text
    assert "-> 401" in text
    assert emulator.accepted == []


def test_moderation(reporter: Reporter, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"vendor_code": 50411}})
    text = reporter.told("VolcengineAPIOutpaintCanvas", ends=1)
    assert "ModerationError, billed: no" in text
    assert "50411" in text
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"task_status": [4]}})
    assert "ModerationError, billed: unknown" in reporter.told("HiDreamAPIUpscale", ends=1)


@pytest.mark.parametrize("node", ["HiDreamAPIUpscale", "VolcengineAPIOutpaint"])
def test_a_lost_answer_is_never_sent_again(node: str, reporter: Reporter, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "do": {"reset": "after"}})
    text = reporter.told(node, ends=1)
    assert "AmbiguousSubmitError, billed: unknown" in text
    assert "no answer" in text
    assert "AmbiguousSubmitError" in reporter.told(node, ends=1)
    assert len(emulator.accepted) == 1


def test_ctrl_c_parks_the_task_and_the_next_report_fetches_it(
    reporter: Reporter, emulator: Emulator, monkeypatch: MonkeyPatch
) -> None:
    emulator.add_fault({"phase": "result", "times": None, "do": {"task_status": [2]}})
    wait = report.wait

    def interrupted(futures: Any, timeout: float) -> Any:
        if timeout == 0.2 and any(record.phase == "result" for record in emulator.requests):
            raise KeyboardInterrupt
        return wait(futures, timeout)

    monkeypatch.setattr(report, "wait", interrupted)
    assert "CallCancelled" in reporter.told("HiDreamAPIUpscale", ends=1)
    monkeypatch.undo()
    emulator._faults.clear()
    assert "\nresumed: [(" in reporter.told("HiDreamAPIUpscale", ends=0)
    assert len(emulator.accepted) == 1


# ---- what it must not show


def test_keys_pictures_and_signatures_that_a_service_repeats(reporter: Reporter, emulator: Emulator) -> None:
    """`told` looks for them; here the service says them in every place that a report quotes."""
    picture = base64.b64encode(bytes(range(256)) * 4).decode()
    key = KEYS.hidream_token
    words = f"wrong key {key}, or {key[:14]}… or …{key[-12:]}, of {picture} at https://x.example/a.png?sig={SIGNATURE}"
    answer = {
        "code": 2005,
        "message": words,
        "request_id": "request-0123456789-abcdef",
        "api_key": key[:9],
        "result": {"you": [{"sent": picture}], "url": f"https://x.example/p.png?X-Signature={SIGNATURE}"},
    }
    headers = {"X-Echo": key, "Set-Cookie": f"session={SIGNATURE}", "Retry-After": "7"}
    for status in (400, 500):
        emulator.add_fault({"phase": "submit", "do": {"status": status, "json": answer, "headers": headers}})
        text = reporter.told("HiDreamAPIUpscale", "--take", str(status), ends=1)
        assert "2005" in text
        assert "Retry-After: 7" in text
        assert "Set-Cookie" in text
        assert "x.example" in text
    emulator.add_fault({"phase": "submit", "do": {"status": 403, "html": True}})
    reporter.told("HiDreamAPIUpscale", "--take", "9", ends=1)


def test_an_error_of_the_pack_itself(reporter: Reporter, monkeypatch: MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError(f"{KEYS.hidream_token} at https://x.example/?X-Signature={SIGNATURE}")

    monkeypatch.setattr(api.Batch, "run", fails)
    assert "RuntimeError(" in reporter.told("HiDreamAPIUpscale", ends=1)


def test_a_signed_result_address(reporter: Reporter, emulator: Emulator) -> None:
    reporter.environment["REMOTE_IMAGE_DOWNLOAD_SECONDS"] = "0.2"
    url = f"{emulator.url}/files/p_0123456789abcdef.png?Expires=86400&Signature={SIGNATURE}"
    emulator.add_fault({"phase": "submit", "do": {"url": url}})
    text = reporter.told("HiDreamAPIUpscale", ends=1)
    assert "/files/(" in text
    assert "0123456789abcdef" not in text


def test_an_exchanged_token_and_its_key(reporter: Reporter, emulator: Emulator) -> None:
    del reporter.environment["HIDREAM_TOKEN"]
    reporter.environment["HIDREAM_API_KEY"] = KEYS.hidream_api_key
    text = reporter.told("HiDreamAPIUpscale", ends=0)
    assert "apikey2token" in text
    assert "expire_time" in text
    tokens = [token for token in api.core.redaction._known if len(token) > 12]
    assert tokens
    assert [token for token in tokens if token in text] == []


def test_signed_requests(reporter: Reporter, emulator: Emulator) -> None:
    for name in ("VOLCENGINE_GATEWAY_API_KEY", "VOLCENGINE_GATEWAY_BASE_URL"):
        del reporter.environment[name]
    reporter.environment |= {
        "VOLCENGINE_ACCESS_KEY_ID": KEYS.access_key_id,
        "VOLCENGINE_SECRET_ACCESS_KEY": KEYS.secret_access_key,
        "VOLCENGINE_BASE_URL": emulator.url,
    }
    text = reporter.told("VolcengineAPIOutpaintCanvas", ends=0)
    assert "Authorization" in text
    assert "Signature=" not in text


@pytest.mark.parametrize(
    ("text", "unshown"),
    [
        ("Max retries exceeded with url: /a.png?sig=abcdef0123 (Caused by …)", "abcdef0123"),
        ("http://me:hunter2secret@proxy.example/x", "hunter2secret"),
        ("see https://x.example/image/p_9f8e7d6c5b4a.png", "9f8e7d6c5b4a"),
        ("data:image/png;base64," + "QUJD" * 30, "QUJDQUJDQUJD"),
        ("ends in …key-41aa, they say", "key-41aa"),
        ("the password is proxy-pass", "proxy-pass"),
    ],
)
def test_scrub(text: str, unshown: str) -> None:
    environment = {"VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key, "http_proxy": "http://me:proxy-pass@host:1"}
    for shown in (text, json.dumps({"message": [text], text: 1})):
        assert unshown not in scrub(shown, environment)


def test_scrub_goes_by_names_too() -> None:
    shown = scrub(json.dumps({"token": "abcd", "accessKeys": ["abcd"], "Api-Key": 'ab\\"cd', "code": 7}), {})
    assert "abcd" not in shown
    assert "cd" not in shown.replace("code", "")
    assert shown.endswith('"code": 7}')


def test_scrub_leaves_what_helps() -> None:
    body = '{"code": 1051, "message": "ref_image field abnormal", "req_key": "i2i_outpainting", "template_id": 20}'
    assert scrub(body, {"HIDREAM_TOKEN": KEYS.hidream_token}) == body
    address = "https://h.example/api-pub/gw/v3/image/image_upscaler/async/results"
    assert scrub(f"GET {address} -> 200", {}) == f"GET {address} -> 200"

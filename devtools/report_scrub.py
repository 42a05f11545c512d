"""What a report may show: nothing that pays, nothing that opens a picture, no picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from api.redaction import MASK, redact

# Half a key is a key, too: services like to repeat the beginning and the end of one.
_PART_OF_SECRET = 8
_MOST = 300
_SECRET_NAME = re.compile(r"token|secret|passw|credential|authori[sz]|signature|cookie|(?<!req_)key", re.IGNORECASE)
_PLAIN_PARAMETERS = {"Action", "Version"}
_EXPIRY = re.compile(r"expires", re.IGNORECASE)
# Words of the services' own paths that look like an id.
_PATH_WORDS = {"apikey2token", "img2img", "txt2img", "variation", "outpainting"}
_ID_IN_PATH = re.compile(r"[A-Za-z]*\d[A-Za-z0-9]{5,}|[A-Za-z0-9]{5,}\d[A-Za-z0-9]*|[A-Za-z0-9]{16,}")
_ADDRESS = r"[a-z][a-z0-9+.-]*://[^\s\"'<>\\]+"
_ENCODED = r"[A-Za-z0-9+/_=-]{40,}"
_QUERY = r"\?[^\s()\"'<>]*=[^\s()\"'<>]*"
_UNSHOWN = re.compile(f"(?P<address>{_ADDRESS})|(?P<encoded>{_ENCODED})|(?P<query>{_QUERY})", re.IGNORECASE)


class Scrub:
    """
    Args:
        environment: whose keys, and whose proxies' passwords, are kept out beside the secrets that the pack knows.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._parts: set[str] = set()
        self._ids: set[str] = set()
        for name, value in environment.items():
            if name.startswith(("HIDREAM_", "VOLCENGINE_")) and re.search("TOKEN|KEY|USER_ID", name):
                self.hide(value.strip())
            if name.lower().endswith("_proxy"):
                parts = urlsplit(value if "://" in value else f"//{value}")
                self.hide(*filter(None, (parts.username, parts.password)))

    def hide(self, *secrets: str) -> None:
        for secret in secrets:
            length = min(_PART_OF_SECRET, len(secret))
            self._parts |= {secret[start : start + length] for start in range(len(secret) - length + 1) if length >= 4}

    def learn(self, value: Any) -> None:
        """Take note of the ids and secrets in a body, which may come again in some text."""
        for name, item in _named(value):
            if _is_id(name):
                self._ids |= {str(item)} if len(str(item)) > 8 else set()
            elif _SECRET_NAME.search(name) and isinstance(item, str):
                self.hide(item)

    def text(self, text: str) -> str:
        text = self._without_secrets(redact(text))
        for known in sorted(self._ids, key=len, reverse=True):
            text = text.replace(known, short_id(known))
        return _UNSHOWN.sub(self._shown, text)

    def json(self, value: Any, name: str = "") -> Any:
        """The same shape with nothing in it that is not to be shown."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item, str(key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, name) for item in value]
        if _is_id(name) and not isinstance(value, (bool, float, type(None))):
            return self.text(short_id(str(value))) if len(str(value)) > 8 else value
        if isinstance(value, str):
            if _SECRET_NAME.search(name):
                return f"({len(value)} characters)"
            shown = self.text(value)
            return shown if len(shown) <= _MOST else f"{shown[:_MOST]}… ({len(value)} characters)"
        return value

    def body(self, body: bytes) -> str:
        """JSON, or the beginning of what is none."""
        parsed = parsed_json(body)
        if parsed is not None:
            return json.dumps(self.json(parsed), ensure_ascii=False, indent=1)
        return self.text(body[:16384].decode("utf-8", "replace"))[:_MOST]

    def url(self, address: str) -> str:
        """Host and the shape of the path; of the query only what names an action or how long it is good for."""
        try:
            parts = urlsplit(address)
            host = parts.hostname or ""
            host = f"{host}:{parts.port}" if parts.port else host
            asked = parse_qsl(parts.query, keep_blank_values=True)
        except ValueError:
            return f"(an address of {len(address)} characters)"
        shown = [f"{name}={value}" for name, value in asked if name in _PLAIN_PARAMETERS]
        shown += [f"{name}={short_id(value)}" for name, value in asked if name in ("task_id", "request_id")]
        shown += [
            f"{name}={value}" for name, value in asked if _EXPIRY.search(name) and re.fullmatch("[0-9]{1,12}", value)
        ]
        query = f"?{'&'.join(shown)}" if shown else ""
        left = "" if len(shown) == len(asked) and (asked or not parts.query) else " (the rest of its query dropped)"
        path = "/".join(_segment(segment) for segment in parts.path.split("/"))
        return self._without_secrets(redact(f"{parts.scheme}://{host}{path}{query}{left}"))

    def headers(self, headers: Mapping[str, str]) -> str:
        """All names; values of harmless ones."""
        told = [
            f"{name}: {self.text(value)}" if name.lower() in _PLAIN_HEADERS else name for name, value in headers.items()
        ]
        return self._without_secrets(redact("; ".join(sorted(told, key=str.lower))))

    def _without_secrets(self, text: str) -> str:
        hidden = [False] * len(text)
        for length in {len(part) for part in self._parts}:
            for start in range(len(text) - length + 1):
                if text[start : start + length] in self._parts:
                    hidden[start : start + length] = [True] * length
        shown: list[str] = []
        for character, secret in zip(text, hidden, strict=True):
            if not secret:
                shown.append(character)
            elif not shown or shown[-1] != MASK:
                shown.append(MASK)
        return "".join(shown)

    def _shown(self, found: re.Match[str]) -> str:
        if found["address"]:
            return self.url(found["address"])
        return f"({len(found[0])} characters)" if found["encoded"] else "?…"


_PLAIN_HEADERS = {
    *("accept", "accept-encoding", "age", "cache-control", "connection", "content-encoding", "content-length"),
    *("content-type", "date", "expires", "last-modified", "retry-after", "transfer-encoding", "x-accept-language"),
}


def parsed_json(body: bytes) -> Any:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, (dict, list)) else None


def short_id(value: str) -> str:
    return value if len(value) <= 8 else f"{value[:4]}…({len(value)})"


def _is_id(name: str) -> bool:
    return bool(re.search(r"(?:^|_)ids?$|Id$", name)) and name != "template_id"


def _segment(segment: str) -> str:
    return _ID_IN_PATH.sub(lambda found: found[0] if found[0] in _PATH_WORDS else f"({len(found[0])})", segment)


def _named(value: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _named(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, name)
    elif value is not None and not isinstance(value, (bool, float)):
        yield name, value

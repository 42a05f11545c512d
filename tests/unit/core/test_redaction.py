"""What the pack's logger writes down has no secret in it."""

from __future__ import annotations

import html
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hidream_volcengine.api.catalog.checks import integer as check_integer
from hidream_volcengine.api.core.errors import InvalidInputError
from hidream_volcengine.api.core.reading import _EXCERPT_OF as EXCERPT_OF
from hidream_volcengine.api.core.reading import excerpt
from hidream_volcengine.api.core.redaction import (
    MASK,
    Secret,
    hide_address,
    pack_logger,
    redact,
    redact_data,
    shortened,
    words_of,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def test_no_secret_in_message_traceback_and_stack(written: io.StringIO) -> None:
    Secret("sk-canary-in-three-places")
    handler = logging.StreamHandler(written)
    pack_logger().logger.addHandler(handler)
    try:
        try:
            raise RuntimeError("sk-canary-in-three-places")  # with the line itself in the traceback
        except RuntimeError:
            pack_logger().error("%s", "sk-canary-in-three-places", exc_info=True, stack_info=True)
    finally:
        pack_logger().logger.removeHandler(handler)
    assert "RuntimeError: ***" in written.getvalue() and "Stack (most recent call last)" in written.getvalue()
    assert "sk-canary-in-three" not in written.getvalue()


_TWO_COPIES = f"""
import importlib, logging, sys, types
def copy_of_the_pack(name):
    pack = types.ModuleType(name); pack.__path__ = [{str(ROOT)!r}]; sys.modules[name] = pack
    return importlib.import_module(name + ".api.core.redaction")
first, second = copy_of_the_pack("first"), copy_of_the_pack("second")
handler = logging.StreamHandler(sys.stdout)
for copy in (first, second):
    copy.pack_logger().logger.addHandler(handler)
for copy, secret in ((first, "sk-canary-of-the-first"), (second, "sk-canary-of-the-second")):
    copy.Secret(secret)
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        copy.pack_logger().error("failed with %s", secret, exc_info=True)
"""


def test_two_copies_of_the_pack_hide_each_its_own_secrets() -> None:
    """They share the logger: the filter of the first one formats the traceback before the second one's sees it."""
    ran = subprocess.run([sys.executable, "-c", _TWO_COPIES], capture_output=True, text=True, check=True)
    assert ran.stdout.count("failed with ***") == 2 and ran.stdout.count("RuntimeError: ***") == 2
    assert "sk-canary" not in ran.stdout


# ---- keys that come back cut or escaped

KEY = "sk-canary+of/an=echo&with<odd>\"signs'and.parts"


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


ESCAPED: dict[str, Callable[[str], str]] = {
    "HTML": html.escape,
    "HTML, decimal": lambda key: "".join(sign if sign.isalnum() else f"&#{ord(sign)};" for sign in key),
    "HTML, hexadecimal": lambda key: "".join(f"&#x{ord(sign):X};" for sign in key),
    "HTML, padded": lambda key: key.replace("/", "&#x0002f;").replace("+", "&#00043;"),
    "HTML, by name": lambda key: key.replace("/", "&sol;").replace("+", "&plus;").replace("=", "&equals;"),
    "HTML, twice": lambda key: html.escape(html.escape(key)),
    "percent": lambda key: quote(key, safe=""),
    "percent, lower case": lambda key: quote(key, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
    "percent, in part": lambda key: key.replace("/", "%2F"),
    "percent, every character": lambda key: "".join(f"%{ord(sign):02x}" for sign in key),
    "percent, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "JSON": lambda key: _json(key).replace("/", "\\/"),
    "JSON, as Gson writes it": lambda key: "".join(s if s.isalnum() else f"\\u{ord(s):04x}" for s in key),
    "JSON in JSON": lambda key: _json(_json(key).replace("/", "\\/")),
    "JSON, HTML in it": lambda key: _json(html.escape(key)).replace("&", "\\u0026"),
    "JavaScript": lambda key: key.replace("/", "\\x2f").replace("'", "\\'"),
    "Python": lambda key: repr(key.encode()),
    "a pattern": re.escape,
    "percent in HTML": lambda key: html.escape(quote(key, safe="/&")),
}


@pytest.mark.parametrize("how", ESCAPED)
def test_an_escaped_echo_of_a_key_is_hidden(how: str) -> None:
    Secret(KEY)
    echo = ESCAPED[how](KEY)
    assert echo != KEY
    shown = redact(f"<p>the key “{echo}” of 100% &amp; more is not valid</p>")
    assert shown.startswith("<p>the key “") and shown.endswith("is not valid</p>") and MASK in shown
    assert not any(part in shown for part in ("canary", "6361", "63;", "echo", "odd", "parts"))


def test_what_has_no_key_in_it_stays_as_it_was_written() -> None:
    Secret(KEY)
    for text in ("%2F &amp; \\/ \\u002f", "a line\\nof 100%25 &#10; \u4f60", "https://a.example/%E4%BD%A0?x=%0A"):
        assert redact(text) == text


def test_unescaping_for_a_key_brings_no_line_break_into_the_log() -> None:
    Secret(KEY)
    shown = redact(f"%0A%0dForged: line &#10;&#x0d;\\u000a\\x1b{html.escape(KEY)}")
    assert MASK in shown and shown.isprintable()


def test_each_half_is_hidden_as_far_as_it_goes() -> None:
    """A short one does not uncover a longer one, nor one token of a service the payload of another one."""
    Secret("canary-of-halves-0123456789-abcdefghijkl")
    told = redact("got canary-of-ha and canary-of-halves-0123456789-abcdefghij, canary-of-halv")
    assert told == "got *** and ***, ***"
    header = "eyJhbGciOiJIUzI1NiJ9."
    Secret(f"{header}yesterdays-payload.signature-of-yesterday")
    Secret(f"{header}todays-payload.signature-of-today")
    assert redact(f"({header}todays-payload.sign)") == "(***)"
    assert redact_data(f"{header}yesterdays-pay".encode() + b"\xff\0") == b"***\xff\0"


@pytest.mark.parametrize("how", ["as it is", "HTML", "percent", "JSON"])
def test_half_a_key_is_hidden(how: str) -> None:
    """Cut by a service, or by a connection that ended: what follows may be anything."""
    Secret(KEY)
    echo = ESCAPED.get(how, str)(KEY)
    for length in range(20, len(echo)):
        for after in ("", "…", '", "code": 7}', " is not valid"):
            shown = redact(f"the key {echo[:length]}{after}")
            assert "sk-canary+of" not in shown and "/an=" not in shown and MASK in shown, shown


def test_half_of_a_hidden_address_is_ordinary_words() -> None:
    """Of these only the whole is secret: the host, and the beginning of the path, are on every line of the log."""
    hide_address("https://hooks.example/services/v1/canary-of-the-path")
    assert redact("https://hooks.example/services/v1/other") == "https://hooks.example/services/v1/other"
    assert redact("at /services/v1/canary-of-the-path") == f"at {MASK}"
    assert "canary" not in redact("%2Fservices%2Fv1%2Fcanary-of-the-path")


TOKEN = ".".join(("eyJhbGciOiJIUzI1NiJ9", "eyJ" + "Canary0" * 20, "signature-canary"))


@pytest.mark.parametrize("before", ["", "{", "A" * 200 + " ", "=" * 40])
@pytest.mark.parametrize("secret", [KEY, TOKEN, "Canary" * 30])
def test_words_are_cut_after_the_key_is_out(before: str, secret: str) -> None:
    """Also what looks like the data of a picture: half of a token did, and the other half stayed."""
    Secret(secret)
    for limit in range(4, len(before) + len(secret) + 40):
        for shown in (words_of(f"{before}{secret} is not valid", limit), shortened(f"{before} {secret}", limit)):
            assert len(shown) <= limit
            assert not any(part in shown for part in (secret[:12], secret[12:24], secret[-12:])), shown


def test_the_end_of_an_excerpt_has_no_half_of_a_key() -> None:
    """The blanks before it are not shown, so that what stands at the end of the part that is read comes into sight."""
    Secret(TOKEN)
    for cut in range(12, len(TOKEN)):
        for blank in (b" ", b"A"):
            shown = excerpt(blank * (EXCERPT_OF - cut - 1) + b" " + TOKEN.encode() + b" is not valid")
            assert TOKEN[:12] not in shown and TOKEN[20:32] not in shown, shown


def test_a_widgets_value_is_cut_after_the_key_is_out() -> None:
    Secret(TOKEN)
    with pytest.raises(InvalidInputError) as refused:
        check_integer("take", "A" * 50 + TOKEN, 0, 9)
    assert "take" in str(refused.value) and TOKEN[:8] not in str(refused.value)

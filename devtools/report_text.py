"""The report itself: Markdown, in which everything that came from outside has gone through the scrub."""

from __future__ import annotations

import platform
import re
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata

from devtools.environment import ROOT
from devtools.report_calls import Story
from devtools.report_findings import findings
from devtools.report_scrub import Scrub, parsed_json
from devtools.report_wire import poll_states

_PACKAGES = ("requests", "urllib3", "pydantic", "SQLAlchemy", "Pillow", "numpy", "torch")
_SETTINGS = ("HIDREAM_", "VOLCENGINE_", "REMOTE_IMAGE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def report(story: Story, scrub: Scrub, environment: Mapping[str, str]) -> str:
    for exchange in story.exchanges:
        for body in (exchange.body, exchange.answer or b""):
            scrub.learn(parsed_json(body))
    sections = (
        ("Outcome", _outcome(story, scrub)),
        ("Open questions that this answers", findings(story, scrub)),
        ("Made with", _versions(environment)),
        ("Request", _request(story, scrub)),
        ("Course", _course(story)),
        ("Polls", _polls(story, scrub)),
        ("On the wire", _wire(story, scrub)),
    )
    lines = [f"# Report of {story.node}, {time.strftime('%Y-%m-%d %H:%M %z')}", ""]
    lines += ["Keys, pictures, signatures and the middle of ids are left out.", ""]
    for title, told in sections:
        lines += [f"## {title}", "", *(list(told) or ["–"]), ""]
    return "\n".join(lines)


def _outcome(story: Story, scrub: Scrub) -> Iterator[str]:
    delivery = story.delivery
    if delivery is not None:
        how = {"bought": "bought", "resumed": "resumed, nothing bought", "reused": "reused, 0 calls"}[delivery.source]
        yield f"- {len(delivery.pictures)} pictures: {how}"
    for car in story.stored:
        yield f"- {car.media_type}, {car.width}×{car.height}, {car.bytes} bytes"
    for error in story.errors:
        text = error.text()
        yield f"- {type(error).__name__}, billed: {error.billed}"
        yield f"  - {scrub.text(text.en)}"
        yield f"  - {scrub.text(text.zh)}"
    if story.trouble is not None:
        yield f"- {type(story.trouble).__name__}: {scrub.text(str(story.trouble))}"
    yield f"- {story.seconds:.1f} s in all"


def _versions(environment: Mapping[str, str]) -> Iterator[str]:
    ours = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    yield f"- this pack {ours[1] if ours else '?'}, Python {sys.version.split()[0]}, {platform.platform()}"
    versions = [f"{package} {_version(package)}" for package in _PACKAGES]
    yield f"- {', '.join(versions)}, {ssl.OPENSSL_VERSION}"
    named = sorted(name for name in environment if name.upper().startswith(_SETTINGS) and environment[name])
    yield f"- set, values not shown: {', '.join(named) or 'nothing'}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _request(story: Story, scrub: Scrub) -> Iterator[str]:
    yield f"- {story.node}: {story.call.asked}; service `{story.call.paid.service.name}`"
    for exchange in story.exchanges:
        if exchange.kind == "submit":
            yield f"- {len(exchange.body)} bytes:"
            yield from _fenced(scrub.body(exchange.body))


def _course(story: Story) -> Iterator[str]:
    for at, progress in story.stages:
        share = "" if progress.fraction is None else f", {progress.fraction:.0%} as the service says"
        yield f"- {at:.1f} s: {progress.stage}{share}"


def _polls(story: Story, scrub: Scrub) -> Iterator[str]:
    polls = [exchange for exchange in story.exchanges if exchange.kind == "poll"]
    if polls:
        yield "| at | took | HTTP | code | states | task_completion |"
        yield "| --- | --- | --- | --- | --- | --- |"
    for poll in polls:
        states, shares = poll_states(poll)
        body = parsed_json(poll.answer or b"")
        code = scrub.json(body.get("code")) if isinstance(body, dict) else scrub.text(poll.trouble)
        shown = [scrub.json(states), scrub.json(shares)]
        yield f"| {poll.at:.1f} s | {poll.seconds:.2f} s | {poll.status} | {code} | {shown[0]} | {shown[1]} |"


def _wire(story: Story, scrub: Scrub) -> Iterator[str]:
    told: dict[str, int] = {}
    for number, exchange in enumerate(story.exchanges, 1):
        yield f"### {number}. {exchange.method} {scrub.url(exchange.url)}"
        yield ""
        outcome = f"HTTP {exchange.status}" if exchange.status is not None else "no answer"
        trouble = f", {scrub.text(exchange.trouble)}" if exchange.trouble else ""
        yield f"- {exchange.kind}, at {exchange.at:.1f} s, took {exchange.seconds:.2f} s: {outcome}{trouble}"
        yield f"- sent headers: {scrub.headers(exchange.headers)}"
        if exchange.answer_headers:
            yield f"- answered headers: {scrub.headers(exchange.answer_headers)}"
        if exchange.answer is not None:
            shown = scrub.body(exchange.answer)
            if shown in told:
                yield f"- {len(exchange.answer)} bytes, as in {told[shown]}."
            else:
                told[shown] = number
                yield f"- {len(exchange.answer)} bytes:"
                yield from _fenced(shown)
        yield ""


def _fenced(text: str) -> list[str]:
    return ["", "```", text.replace("```", "'''"), "```", ""]

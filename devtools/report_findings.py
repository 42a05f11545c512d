"""What one call says about questions that the services' pages leave open."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np

from api import images
from api.hidream import HiDreamService
from devtools.report_calls import HEIGHT, PICTURE, Story
from devtools.report_scrub import Scrub, parsed_json
from devtools.report_wire import poll_states

_SAME, _OTHER = 20.0, 40.0  # levels of 255, on average


def findings(story: Story, scrub: Scrub) -> Iterator[str]:
    if isinstance(story.call.paid.service, HiDreamService):
        yield from _hidream(story, scrub)
    else:
        yield from _volcengine(story, scrub)
    yield from _pictures(story, scrub)


def _hidream(story: Story, scrub: Scrub) -> Iterator[str]:
    polls = [poll for poll in story.exchanges if poll.kind == "poll" and poll.answer is not None]
    if polls:
        known = any(poll_states(poll)[0] for poll in polls)
        yield f"- The result path of this service {'answers with its sub tasks' if known else 'gave no sub task'}."
        told = {
            pair
            for poll in polls
            for pair in zip(*poll_states(poll), strict=False)
            if isinstance(pair[1], (int, float))
        }
        shares = sorted({share for _, share in told})
        yield f"- Scale of task_completion: {_scale(shares, (1, 1) in told)} (seen: {shares})."
        states = {state for poll in polls for state in poll_states(poll)[0]}
        yield f"- task_status seen: {scrub.json(sorted(states, key=str))}."
    for exchange in story.exchanges:
        if exchange.kind == "token":
            body = parsed_json(exchange.answer or b"")
            result = body.get("result") if isinstance(body, dict) else None
            expiry = result.get("expire_time") if isinstance(result, dict) else None
            if expiry is not None:
                yield f"- Unit of the token's expire_time: it says {scrub.json(expiry)}."
    if story.node == "HiDreamAPIModelPhotoSet" and story.delivery is not None:
        yield f"- Pictures of this template: {len(story.delivery.pictures) + len(story.errors)}."


def _scale(shares: list[int | float], whole_is_one: bool) -> str:
    if not shares:
        return "not told"
    if shares[-1] > 1:
        return "0 to 100"
    return "0 to 1" if whole_is_one or any(0 < share < 1 for share in shares) else "still open"


def _volcengine(story: Story, scrub: Scrub) -> Iterator[str]:
    for exchange in story.exchanges:
        body = parsed_json(exchange.answer or b"")
        if exchange.kind != "submit" or not isinstance(body, dict):
            continue
        yield f"- Fields of the answer: {', '.join(scrub.text(str(name)) for name in body)}."
        data = body.get("data")
        if isinstance(data, dict):
            filled = [name for name in ("binary_data_base64", "image_urls", "task_id") if data.get(name)]
            yield f"- Its picture came as: {', '.join(filled) or 'nothing'}."
        if exchange.status == 200 and story.delivery is not None:
            yield "- `prompt` and `custom_prompt` together were taken."
        yield f"- time_elapsed: {scrub.json(body.get('time_elapsed'))}."
    if story.node == "VolcengineAPIOutpaint" and story.delivery is not None and story.delivery.pictures:
        height = story.delivery.pictures[0].shape[0]
        means = {HEIGHT: "0", round(HEIGHT * 1.2): "the default of 0.1"}.get(height, "something else")
        yield f"- An omitted side means {means}: {HEIGHT} px became {height}."


def _pictures(story: Story, scrub: Scrub) -> Iterator[str]:
    for exchange in story.exchanges:
        if exchange.kind == "picture":
            parts = urlsplit(exchange.url)
            query = f"with a query of {len(parts.query)} characters" if parts.query else "without a query"
            yield f"- Result address: {scrub.url(exchange.url)}, {query}."
    if story.delivery is None:
        return
    for number, picture in enumerate(story.delivery.pictures, 1):
        height, width = picture.shape[:2]
        wanted = story.call.size
        same = "" if wanted is None else ", as asked for" if wanted == (width, height) else f", not {wanted}"
        yield f"- Picture {number} is {width}×{height}{same}.{_kept(story, picture)}"


def _kept(story: Story, picture: images.Pixels) -> str:
    """Whether the original lies where it should: the other place for it, or an inverted mask, would show here."""
    if story.call.original is None or story.call.size != (picture.shape[1], picture.shape[0]):
        return ""
    x, y, right, bottom = story.call.original
    difference = float(np.abs(picture[y:bottom, x:right].astype(np.int16) - PICTURE).mean())
    verdict = "it is there" if difference <= _SAME else "it is not" if difference >= _OTHER else "unclear"
    return f" The original where it was put: {verdict} (off by {difference:.1f} of 255 on average)."

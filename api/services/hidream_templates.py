"""HiDream's templates for model photo sets: their list and their pictures. Free requests, made only for a person.

Page: hidreamai.com/doc/variation/templates. It does not say whether ``page_index`` begins at 0 or at 1.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import requests

from ..core import (
    GENDERS,
    AuthenticationError,
    CancelToken,
    ConnectionFailedError,
    Gender,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    Text,
    code_of,
    excerpt,
    json_object,
    shortened,
    words_of,
)
from ..pixels import UndecodableImageError, decode, encode, fit_within, resize, unwrapped
from ..transport import (
    Answer,
    DownloadError,
    ExchangedTokenAuth,
    HiDreamAccount,
    NotSentError,
    RefusedUrlError,
    WholeNumber,
    WireAnswer,
    Word,
    ask,
    downloaded,
    is_loopback,
    unreachable,
)
from .outcome import meaning_of

THUMBNAIL_SIDE = 256

_PATH = "/api-pub/ec/v3/template/variation"
_PAGE_SIZE = 100
# More templates than anybody looks through: a list that never ends must not be read for ever.
_MOST_PAGES = 50
_MAX_PAGE_BYTES = 4 * 2**20
_MAX_ID = 2**31 - 1
_LONGEST_ADDRESS = 2048
_MAX_PICTURE_BYTES = 16 * 2**20
_MAX_PICTURE_PIXELS = 25_000_000
_PICTURE_SECONDS = 30.0

_ADVICE = Text("Reload the list once that is mended.", "修正后请重新加载列表。")
_NO_LIST = Text(
    "The answer is no list of templates: is the host of this profile HiDream's?",
    "应答不是模板列表：该配置的主机地址是否为 HiDream？",
)


@dataclass(frozen=True)
class Template:
    """One template; ``show_image`` is the address of its picture, "" if it has none."""

    id: int
    gender: Gender
    show_image: str = field(repr=False)


class _Entry(WireAnswer):
    id: WholeNumber = None
    gender: Word = ""
    show_image: Word = ""


class _Result(WireAnswer):
    total_count: WholeNumber = None


@dataclass(frozen=True)
class _Page:
    """One page of the list: its templates by id, how many all pages have together, and whether this one is full."""

    templates: Mapping[int, Template]
    total: int | None
    full: bool


class _PageRefused(Exception):
    """The service answered with JSON, and refuses this page: it may have none of this number."""

    def __init__(self, error: RemoteImageError) -> None:
        super().__init__(error.what.en)
        self.error = error


# ---- the list


def fetch_templates(account: HiDreamAccount, gender: Gender) -> list[Template]:
    """Every template of a gender, in the service's order.

    Pages are read from 1 on. If these may not be all, page 0 is read, too: templates that only it has come first.

    Raises:
        RemoteImageError: a page has no answer, or one that is no list, or is refused before all templates are there.
    """
    found: dict[int, Template] = {}
    total: int | None = None
    refused: _PageRefused | None = None
    for index in range(1, _MOST_PAGES + 1):
        try:
            page = _page(account, gender, index)
        except _PageRefused as problem:
            refused = problem
            break
        new = page.templates.keys() - found.keys()
        found.update(page.templates)
        total = page.total
        if not new or (total is not None and len(found) >= total and not page.full):
            break
    if total is None or len(found) < total:
        found, total, refused = _with_page_0(account, gender, found, total, refused)
    if refused is not None and (not found or (total is not None and len(found) < total)):
        raise refused.error
    # A service that ignores the gender lists all templates for each: the picker would show them twice.
    return [template for template in found.values() if template.gender == gender]


def _with_page_0(
    account: HiDreamAccount,
    gender: Gender,
    found: dict[int, Template],
    total: int | None,
    refused: _PageRefused | None,
) -> tuple[dict[int, Template], int | None, _PageRefused | None]:
    """The arguments of the same names with what page 0 adds to them."""
    try:
        page = _page(account, gender, 0)
    except _PageRefused:
        # This service's pages begin at 1.
        return found, total, refused
    first = {number: template for number, template in page.templates.items() if number not in found}
    return first | found, page.total if total is None else total, refused


def _page(account: HiDreamAccount, gender: Gender, index: int) -> _Page:
    """Fetch one page.

    Raises:
        _PageRefused: see there.
        RemoteImageError: no answer, or one that is no page.
    """
    params = {"gender": gender, "page_size": str(_PAGE_SIZE), "page_index": str(index)}
    answer = _ask(account, params)
    if answer.status == 401 and isinstance(account.auth, ExchangedTokenAuth):
        # The one-day token has ended early: exchange the key for another one.
        account.auth.forget_refused()
        answer = _ask(account, params)
    body = json_object(answer.body) if len(answer.body) <= _MAX_PAGE_BYTES else None
    result = (body or {}).get("result")
    if body is None or answer.status != 200 or code_of(body.get("code")) != 0 or not isinstance(result, dict):
        raise _failure(answer, body)
    listed = result.get("templates")
    entries = listed if isinstance(listed, list) else []
    templates = [template for entry in entries if (template := _template(entry, gender))]
    total = _Result.model_validate(result).total_count
    by_id = {template.id: template for template in templates}
    return _Page(by_id, total, len(entries) >= _PAGE_SIZE)


def _template(entry: Any, asked: Gender) -> Template | None:
    """One entry of the list; ``None`` without a usable id. An entry without a known gender has the one asked for."""
    fields = _Entry.model_validate(entry if isinstance(entry, dict) else {})
    if fields.id is None or not 1 <= fields.id <= _MAX_ID:
        return None
    gender = next((known for known in GENDERS if known == fields.gender), asked)
    address = fields.show_image
    return Template(fields.id, gender, address if len(address) <= _LONGEST_ADDRESS and address.isprintable() else "")


def _ask(account: HiDreamAccount, params: Mapping[str, str]) -> Answer:
    try:
        return ask(account.request(account.ec_base_url + _PATH, params))
    except requests.RequestException as problem:
        error = unreachable("HiDream", NotSentError(problem))
        error.advice = _ADVICE
        raise error from None
    except (ConnectionFailedError, AuthenticationError) as problem:
        # The exchange of the key for a token raises these.
        problem.advice = _ADVICE
        raise


# Errors that are raised as what they are; all others become a ServiceError.
_RAISED_AS_THEMSELVES = (AuthenticationError, QuotaError, RateLimitError)


def _failure(answer: Answer, body: Mapping[str, Any] | None) -> Exception:
    """The exception for an answer without a page; ``body`` is its JSON object, if it has one."""
    code = code_of((body or {}).get("code"))
    meaning = meaning_of("HiDream", answer.status, code)
    message = words_of(str((body or {}).get("message") or ""), 500) or excerpt(answer.body)
    details: dict[str, Any] = {
        "advice": _ADVICE,
        "provider": "HiDream",
        "code": code if code not in (None, 0) else f"HTTP {answer.status}",
        "vendor_message": message,
        "request_id": str((body or {}).get("request_id") or ""),
    }
    if meaning.error in _RAISED_AS_THEMSELVES:
        return meaning.error(meaning.what, **details)
    if body is not None and answer.status in (200, 400, 404, 422) and code not in (None, 0):
        return _PageRefused(ServiceError(meaning.what, **details))
    if answer.status >= 500 or answer.status == 408:
        return ServiceError(meaning.what, **details)
    return ServiceError(_NO_LIST, **details)


# ---- a picture


def fetch_thumbnail(account: HiDreamAccount, template: Template) -> bytes:
    """The template's picture, as a JPEG of at most ``THUMBNAIL_SIDE`` pixels a side.

    The address comes from the service, so it is not trusted: it must be public https, or loopback if the profile's host
    is loopback, and no key is sent to it.

    Raises:
        ServiceError: the template has no address, or one that is refused or fails, or that gives no picture.
    """
    deadlines = replace(account.deadlines, download=min(account.deadlines.download, _PICTURE_SECONDS))
    try:
        with downloaded(
            template.show_image,
            max_bytes=_MAX_PICTURE_BYTES,
            allow_loopback=is_loopback(urlsplit(account.ec_base_url).hostname or ""),
            deadlines=deadlines,
            proxy=account.proxy,
            cancel=CancelToken(),
        ) as stream:
            stream.seek(0)
            pixels = decode(io.BytesIO(unwrapped(stream.read(), _MAX_PICTURE_BYTES)), _MAX_PICTURE_PIXELS)
    except RefusedUrlError as problem:
        why = problem.reason
    except (DownloadError, UndecodableImageError) as problem:
        why = Text(shortened(str(problem), 200), shortened(str(problem), 200))
    else:
        height, width = pixels.shape[:2]
        return encode(resize(pixels, *fit_within(width, height, THUMBNAIL_SIDE, THUMBNAIL_SIDE)), "jpeg 95")
    raise ServiceError(
        Text(
            f"The picture of template {template.id} is not to be had: {why.en}.",
            f"无法获取模板 {template.id} 的图片：{why.zh}。",
        ),
        provider="HiDream",
        advice=Text("The template can be chosen all the same.", "仍可选用该模板。"),
    )

"""HiDream's templates for model photo sets: their list and their pictures. Free requests, made only for a person.

Page: hidreamai.com/doc/variation/templates. It does not say whether ``page_index`` begins at 0 or at 1.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import requests
from pydantic import BeforeValidator

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
    templates: Annotated[tuple[Any, ...], BeforeValidator(lambda value: value if isinstance(value, list) else ())] = ()
    total_count: WholeNumber = None


class _Body(WireAnswer):
    """The answer: a page if it has the code 0 and a ``result``."""

    code: Annotated[int | str | None, BeforeValidator(code_of)] = None
    message: Word = ""
    request_id: Word = ""
    result: Annotated[_Result | None, BeforeValidator(lambda value: value if isinstance(value, dict) else None)] = None


@dataclass(frozen=True)
class _Page:
    """One page of the list: its templates by id, how many all pages have together, and how many entries this one has.

    ``refused``: why the service has no page of this number.
    """

    templates: Mapping[int, Template] = field(default_factory=dict)
    total: int | None = None
    entries: int = 0
    refused: RemoteImageError | None = None


class _Listing:
    """The templates of the pages that were read so far, by id and in the service's order."""

    def __init__(self) -> None:
        self.found: dict[int, Template] = {}
        self._total: int | None = None
        # Entries of the pages that brought something new, usable or not.
        self._listed = 0

    def add(self, page: _Page, *, comes_first: bool = False) -> bool:
        """Add the templates of a page; returns whether it has some that no page before it had."""
        has_new = not page.templates.keys() <= self.found.keys()
        self.found = {**page.templates, **self.found} if comes_first else {**self.found, **page.templates}
        if page.refused is None and (self._total is None or not comes_first):
            self._total = page.total
        self._listed += page.entries if has_new else 0
        return has_new

    @property
    def lacks_some(self) -> bool | None:
        """Whether the service has more entries than these pages; ``None`` if it does not say how many it has."""
        return None if self._total is None else self._listed < self._total

    def fault_after(self, last: _Page) -> RemoteImageError | None:
        """Why these are not all templates; ``None`` if they may be all. ``last``: the last page read from page 1 on."""
        if self.found and not self.lacks_some:
            return None
        if last.refused is not None or not last.templates:
            # An empty page is the end, whatever number was announced.
            return last.refused
        what = Text(
            f"Only {self._listed} of {self._total} templates could be read: the pages of the service's list repeat, or "
            "are too many.",
            f"服务端的模板列表共 {self._total} 项，只能读取 {self._listed} 项：各页内容重复，或页数过多。",
        )
        return ServiceError(what, advice=_ADVICE, provider="HiDream")


# ---- the list


def fetch_templates(account: HiDreamAccount, gender: Gender) -> list[Template]:
    """Every template of a gender, in the service's order.

    Pages are read from 1 on. If these may not be all, page 0 is read, too: templates that only it has come first.

    Raises:
        RemoteImageError: a page has no answer, or one that is no list, or is refused before all templates are there; or
            the pages repeat before that, or are too many.
    """
    listing = _Listing()
    for index in range(1, _MOST_PAGES + 1):
        page = _page(account, gender, index)
        if not listing.add(page) or (page.entries < _PAGE_SIZE and listing.lacks_some is False):
            break
    if listing.lacks_some is not False:
        listing.add(_page(account, gender, 0), comes_first=True)
    fault = listing.fault_after(page)
    if fault is not None:
        raise fault
    # A service that ignores the gender lists all templates for each: the picker would show them twice.
    return [template for template in listing.found.values() if template.gender == gender]


def _page(account: HiDreamAccount, gender: Gender, index: int) -> _Page:
    """Fetch one page.

    Raises:
        RemoteImageError: no answer, or one that is no page.
    """
    params = {"gender": gender, "page_size": str(_PAGE_SIZE), "page_index": str(index)}
    answer = _ask(account, params)
    if answer.status == 401 and isinstance(account.auth, ExchangedTokenAuth):
        # The one-day token has ended early: exchange the key for another one.
        account.auth.forget_refused()
        answer = _ask(account, params)
    body = _Body.model_validate((len(answer.body) <= _MAX_PAGE_BYTES and json_object(answer.body)) or {})
    if answer.status != 200 or body.code != 0 or body.result is None:
        return _Page(refused=_refusal(answer, body))
    templates = (_template(entry, gender) for entry in body.result.templates)
    by_id = {template.id: template for template in templates if template is not None}
    return _Page(by_id, body.result.total_count, len(body.result.templates))


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


def _refusal(answer: Answer, body: _Body) -> RemoteImageError:
    """Return the error of an answer that refuses a page with JSON: the service may have none of this number.

    Raises:
        RemoteImageError: any other answer without a page.
    """
    has_code = body.code not in (None, 0)
    meaning = meaning_of("HiDream", answer.status, body.code)
    is_refused_page = has_code and answer.status in (200, 400, 404, 422)
    is_understood = is_refused_page or answer.status >= 500 or answer.status == 408
    is_raised_as_itself = meaning.error in _RAISED_AS_THEMSELVES
    error = (meaning.error if is_raised_as_itself else ServiceError)(
        meaning.what if is_raised_as_itself or is_understood else _NO_LIST,
        advice=_ADVICE,
        provider="HiDream",
        code=body.code if has_code else f"HTTP {answer.status}",
        vendor_message=words_of(body.message, 500) or excerpt(answer.body),
        request_id=body.request_id,
    )
    if is_refused_page and not is_raised_as_itself:
        return error
    raise error


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

"""What the template picker shows: lists less than a day old, or kept older ones while the service does not answer."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import GENDERS, Gender, RemoteImageError, ServiceError, Text
from ..profiles import Profiles
from ..services import Template, fetch_templates, fetch_thumbnail
from ..transport import HiDreamAccount, origin
from .cache import KeptList, TemplateCache

# Templates on a page.
PAGE_SIZE = 30
# Seconds after which a list is fetched again.
_FRESH_S = 24 * 3600.0
# Seconds after a failure in which the same is not fetched again: a page has thirty pictures, and each would fail.
_FAILED_S = 60.0


@dataclass(frozen=True)
class TemplatePage:
    """One page of a gender's list: ``number`` (from 1) of ``pages``; the list has ``total`` templates.

    ``offline`` says when the list was fetched and why it could not be renewed; ``None`` if it is up to date.
    """

    gender: Gender
    templates: Sequence[Template]
    number: int
    pages: int
    total: int
    offline: Text | None


@dataclass(frozen=True)
class _Listing:
    """A list in memory; if it could not be renewed, also when that failed and with what error."""

    kept: KeptList
    failed_at: float = 0.0
    error: RemoteImageError | None = None

    @property
    def offline(self) -> Text | None:
        if self.error is None:
            return None
        day, why = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.kept.at)), self.error.text()
        return Text(
            f"This is the list as of {day}; it could not be renewed. {why.en}",
            f"此为 {day} 时的列表，未能更新。{why.zh}",
        )


@dataclass(frozen=True)
class _Found:
    listing: _Listing
    index: int
    template: Template


class TemplateShelf:
    """The templates of every HiDream account, with their pictures: from memory, from disk or from the service.

    Its methods block while they fetch. Each list and picture is fetched by one thread at a time.

    Args:
        directory: returns the folder in which lists and thumbnails are kept. Those of the profile ``sandbox`` are not
            kept: its emulator can always be asked.
        now: the time in seconds since the epoch.
    """

    def __init__(self, profiles: Profiles, directory: Callable[[], Path], now: Callable[[], float] = time.time) -> None:
        self._profiles = profiles
        self._cache = TemplateCache(lambda: directory() / "templates")
        self._now = now
        self._listings: dict[tuple[str, Gender], _Listing] = {}
        self._failures: dict[tuple[str, str], tuple[float, ServiceError]] = {}
        self._locks_guard = threading.Lock()
        self._locks: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)

    def page(self, profile: str, gender: Gender, number: int, *, fresh: bool = False) -> TemplatePage:
        """Page ``number`` (from 1) of a gender's list; the last page if there are fewer.

        Args:
            fresh: ask the service, however new the list is.

        Raises:
            RemoteImageError: the profile has no usable HiDream account, or there is no list, not even an old one.
        """
        account = self._profiles.hidream(profile)
        return _page_of(self._listing(account, gender, fresh=fresh), gender, number)

    def page_with(self, profile: str, template_id: int) -> TemplatePage | None:
        """The page with this template on it; ``None`` if neither gender's list has the template.

        Raises:
            RemoteImageError: as for :meth:`page`; also if one list is missing and the other has no such template.
        """
        found = self._find(self._profiles.hidream(profile), template_id)
        return _page_of(found.listing, found.template.gender, found.index // PAGE_SIZE + 1) if found else None

    def thumbnail(self, profile: str, template_id: int) -> bytes | None:
        """The picture of a template as JPEG; ``None`` if neither gender's list has the template.

        Raises:
            RemoteImageError: as for :meth:`page_with`, or the picture could not be fetched.
        """
        account = self._profiles.hidream(profile)
        found = self._find(account, template_id)
        return self._thumbnail(account, found.template) if found else None

    def _find(self, account: HiDreamAccount, template_id: int) -> _Found | None:
        problem: RemoteImageError | None = None
        for gender in GENDERS:
            try:
                listing = self._listing(account, gender)
            except RemoteImageError as error:
                # The other list may have it.
                problem = error
                continue
            for index, template in enumerate(listing.kept.templates):
                if template.id == template_id:
                    return _Found(listing, index, template)
        if problem is not None:
            raise problem
        return None

    def _listing(self, account: HiDreamAccount, gender: Gender, *, fresh: bool = False) -> _Listing:
        asked_at = self._now()
        identity = _identity(account)
        with self._lock_of(identity, gender):
            known = self._listings.get((identity, gender))
            if known is None and not account.sandbox and (kept := self._cache.read_list(identity, gender)):
                known = _Listing(kept)
            if known is None or not self._is_current(known, asked_at, fresh=fresh):
                known = self._renewed(account, gender, identity, known)
            self._listings[identity, gender] = known
            return known

    def _is_current(self, known: _Listing, asked_at: float, *, fresh: bool) -> bool:
        """Whether a list need not be fetched again."""
        # Another thread may have fetched it, or failed to, while this one waited for the lock: that is fresh enough.
        if fresh:
            return asked_at <= max(known.kept.at, known.failed_at) <= self._now()
        if 0 <= self._now() - known.kept.at < _FRESH_S:
            return True
        return 0 <= self._now() - known.failed_at < _FAILED_S

    def _renewed(self, account: HiDreamAccount, gender: Gender, identity: str, known: _Listing | None) -> _Listing:
        """The list from the service, or ``known`` with the error if it cannot be fetched; raises it if that is none."""
        try:
            kept = KeptList(self._now(), fetch_templates(account, gender))
        except RemoteImageError as error:
            if known is None:
                raise
            return _Listing(known.kept, self._now(), error.with_traceback(None))
        if not account.sandbox:
            self._cache.write_list(identity, gender, kept)
        return _Listing(kept)

    def _thumbnail(self, account: HiDreamAccount, template: Template) -> bytes:
        key = _identity(account), template.show_image
        with self._lock_of(*key):
            if not account.sandbox and (kept := self._cache.read_thumbnail(template)):
                return kept
            failed_at, failure = self._failures.get(key, (0.0, None))
            if failure is not None and 0 <= self._now() - failed_at < _FAILED_S:
                raise failure.with_traceback(None)
            try:
                jpeg = fetch_thumbnail(account, template)
            except ServiceError as error:
                self._failures[key] = self._now(), error
                raise
            self._failures.pop(key, None)
            if not account.sandbox:
                self._cache.write_thumbnail(template, jpeg)
            return jpeg

    def _lock_of(self, *what: str) -> threading.Lock:
        """The lock of one list or picture, to be held while it is read or fetched."""
        with self._locks_guard:
            return self._locks[what]


def _identity(account: HiDreamAccount) -> str:
    """A name for the host and account that a list belongs to, which can be a part of a file name."""
    return hashlib.sha256(f"{origin(account.ec_base_url)}\n{account.account_id}".encode()).hexdigest()[:32]


def _page_of(listing: _Listing, gender: Gender, number: int) -> TemplatePage:
    templates = listing.kept.templates
    pages = max(1, -(-len(templates) // PAGE_SIZE))
    number = min(max(1, number), pages)
    shown = templates[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    return TemplatePage(gender, shown, number, pages, len(templates), listing.offline)

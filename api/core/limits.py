"""Settings of the server's owner, which no graph can change: budget, limits, time limits, and where the journal is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path


@dataclass(frozen=True)
class Budget:
    """How many pictures a profile may buy; ``None`` = no limit.

    ``by_environment``: an environment variable can also set it, so that an error about the budget names that variable.
    """

    per_day: int | None = None
    per_run: int | None = 100
    by_environment: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Limits:
    """What the services are said to allow one account; ``None`` = no limit.

    ``at_once`` counts tasks. ``declared`` are the limits that endpoints declare, by the names of their settings.
    ``polls_per_second`` is this pack's own restraint.
    """

    at_once: int | None = None
    declared: Mapping[str, int | None] = field(default_factory=dict)
    polls_per_second: int | None = None


@dataclass(frozen=True)
class Ceiling:
    """The limits of one endpoint: tasks at once, and pictures in any 60 seconds; ``None`` = no limit.

    ``own_at_once`` and ``rates`` say what counts together: from the name of each endpoint that declares such a limit to
    the limit's name.
    """

    at_once: int | None = None
    per_minute: int | None = None
    own_at_once: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, str] = field(default_factory=dict)

    def at_once_of(self, endpoint: str) -> str:
        """Where the tasks of an endpoint count: a limit that it declares, or "", the provider's."""
        return self.own_at_once.get(endpoint, "")

    def rate_of(self, endpoint: str) -> str:
        """Where the pictures of an endpoint count: a rate that it declares, or the endpoint's own name."""
        return self.rates.get(endpoint, endpoint)


@dataclass(frozen=True)
class Price:
    """What the server's owner says that one picture costs; whatever is computed from it is an estimate.

    ``currency`` is three letters, as in ISO 4217.
    """

    amount: Decimal
    currency: str


@dataclass(frozen=True)
class JournalSettings:
    """Where the journal is: in SQLite in ``directory``, or in the PostgreSQL database ``url`` if that is set.

    ``store`` is the folder of the bought pictures, ``directory / "store"`` if ``None``. ``store_max_bytes`` bounds its
    size; ``None`` = no limit.
    """

    directory: Path
    url: str = field(default="", repr=False)
    store: Path | None = None
    store_max_bytes: int | None = None


@dataclass(frozen=True)
class Deadlines:
    """Time limits, in seconds.

    ``connect``, ``upload_stall``, ``poll`` and the two for answers bound one try of one request, and begin anew with
    each byte. What comes byte by byte is cut after twice that time, plus a second for each 16 KiB that came
    (``api/transport/time_limit.py``). ``queue`` bounds the time until a service starts on a task (retries after 429
    included), ``run`` the time it works on it, ``download`` the retries for a picture.
    """

    connect: float = 10.0
    upload_stall: float = 60.0
    hidream_answer: float = 120.0
    cvprocess_answer: float = 300.0
    poll: float = 30.0
    queue: float = 600.0
    run: float = 600.0
    download: float = 300.0

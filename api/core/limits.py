"""What the server's owner sets, never a graph: how much may be spent, how fast, and where it is written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Budget:
    """Pictures that a profile may buy; ``None`` = no limit. ``by_environment``: also a variable can change it."""

    per_day: int | None = None
    per_run: int | None = 100
    by_environment: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Limits:
    """What the services are said to allow one account; ``None`` = no limit.

    ``at_once`` counts tasks; the two rates count pictures in any 60 seconds (HiDream's pages: 4 tasks at once,
    outpainting 20 a minute, img2img 100). ``polls_per_second`` is this pack's own restraint.
    """

    at_once: int | None = None
    outpaint_per_minute: int | None = None
    img2img_per_minute: int | None = None
    polls_per_second: int | None = None


@dataclass(frozen=True)
class Ceiling:
    """The limits that concern one endpoint."""

    at_once: int | None = None
    per_minute: int | None = None


@dataclass(frozen=True)
class JournalSettings:
    """Where the journal and its pictures are: SQLite in ``directory``, or the PostgreSQL database ``url``."""

    directory: Path
    url: str = field(default="", repr=False)
    store: Path | None = None
    store_max_bytes: int | None = None


@dataclass(frozen=True)
class Deadlines:
    """Seconds.

    ``connect``, ``upload_stall``, ``poll`` and the answers are per try and begin anew with each byte (what arrives byte
    by byte is cut after twice that, and a second for each 16 KiB that came); ``queue`` bounds the time until a service
    starts on a task (retries after 429 included), ``run`` the time it works, ``download`` the retries for a picture.
    """

    connect: float = 10.0
    upload_stall: float = 60.0
    hidream_answer: float = 120.0
    cvprocess_answer: float = 300.0
    poll: float = 30.0
    queue: float = 600.0
    run: float = 600.0
    download: float = 300.0

"""Compiled SQL that all journals of a process share.

Each test opens a journal of its own. SQLAlchemy keeps the compiled statements by engine, so each journal would compile
all of them again: a sixth of the processor time of the tests that buy.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class SharingSQLite(SQLiteDialect_pysqlite):
    """The usual SQLite; all engines look into one cache, and for that cache their dialects are equal."""

    supports_statement_cache = True
    _compiled: ClassVar[dict[Any, Any]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharingSQLite)

    def __hash__(self) -> int:
        return hash(SharingSQLite)

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=cls._compiled)

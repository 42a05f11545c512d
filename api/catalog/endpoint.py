"""An endpoint of a service: where it is, how it is asked, its limits, and the nodes that buy there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import core
from ..core import Provider, Text
from .node import PaidNode

if TYPE_CHECKING:
    from ..core import Ceiling, Limits

_DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Rate:
    """How many pictures of an endpoint one account may have in any 60 seconds; endpoints with one rate share it.

    ``setting`` is the name of the profile's setting, ``default`` its value where nothing sets it, ``label`` its name in
    the settings dialog.
    """

    setting: str
    default: int
    label: Text


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One endpoint.

    Args:
        name: in journal, task list and Remote Task Result, for ever.
        title: its name for the user; the title of its only node unless given.
        kept_for: seconds after which a task that the service does not know counts as forgotten.
    """

    provider: ClassVar[Provider]

    name: str
    nodes: Sequence[PaidNode]
    title: Text | None = None
    rate: Rate | None = None
    kept_for: float = _DAY_S

    @property
    def shown(self) -> Text:
        """Its name for the user."""
        return self.title or self.nodes[0].title

    def ceiling(self, limits: Limits) -> Ceiling:
        """What of an account's limits holds here."""
        return core.Ceiling(limits.at_once, limits.per_minute.get(self.rate.setting) if self.rate is not None else None)


@dataclass(frozen=True, kw_only=True)
class HiDreamEndpoint(Endpoint):
    """An endpoint of HiDream: the path of a submit, that of the results, and the optional headers its page lists.

    The result pages of these endpoints were not found; the rule "GET <submit URL>/results" is the documented one of
    their siblings (hidreamai.com/doc/txt2video/result).
    """

    provider: ClassVar[Provider] = "HiDream"

    path: str
    on_ec_host: bool = False
    takes_user_id: bool = True
    takes_language: bool = False

    @property
    def results_path(self) -> str:
        return f"{self.path}/results"


@dataclass(frozen=True, kw_only=True)
class VolcengineEndpoint(Endpoint):
    """An endpoint of Volcengine's visual service.

    ``is_synchronous``: it is asked by ``CVProcess``, unless the account is resumable; else always by
    ``CVSync2AsyncSubmitTask`` and ``CVSync2AsyncGetResult``.
    """

    provider: ClassVar[Provider] = "Volcengine"

    req_key: str
    is_synchronous: bool = False

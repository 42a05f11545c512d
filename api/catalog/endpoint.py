"""An endpoint of a service: where it is, how it is asked, its limits, and the nodes that buy there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..core import Provider, Text
from .node import PaidNode

_DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class DeclaredLimit:
    """A limit of an account that an endpoint declares; endpoints that declare the same object share it.

    Profiles, their file, the settings dialog, the environment and ``docs/settings.md`` have it by this declaration.

    Args:
        setting: the name of the profile's setting.
        default: the value where nothing sets it; 0 = no limit.
        label: its name in the settings dialog.
    """

    setting: str
    default: int
    label: Text


class Rate(DeclaredLimit):
    """How many pictures in any 60 seconds."""


class AtOnce(DeclaredLimit):
    """How many tasks at once. An endpoint without one has the provider's limit, with all others that have none."""


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
    at_once: AtOnce | None = None
    kept_for: float = _DAY_S

    @property
    def shown(self) -> Text:
        """Its name for the user."""
        return self.title or self.nodes[0].title


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


AnyEndpoint = HiDreamEndpoint | VolcengineEndpoint

"""Every endpoint as data: one file of ``endpoints/`` says what a service takes, and what its nodes show and buy.

Nothing here knows ComfyUI, a network or a database. ComfyUI's start loads it, so that it imports ``pixels`` lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import core
from ..core import ConfigurationError, Provider, Text
from .endpoint import AnyEndpoint, AtOnce, DeclaredLimit, Endpoint, HiDreamEndpoint, Rate, VolcengineEndpoint
from .endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_text_to_image,
    hidream_upscale,
    volcengine_jimeng_outpaint,
    volcengine_outpaint,
)
from .local import OUTPAINT_PASTE_BACK, OUTPAINT_PLACEMENT, SET_REPORT, task_result
from .node import LABEL, LABELS, Given, Node, NodePlan, Output, PaidNode, PlannedCall, Socket
from .outpainting import ORIGINALS, checked_placement, fills_canvas, note_resized
from .result_options import AigcMeta, LogoInfo, ResultOption
from .widgets import (
    ON_PARTIAL,
    PROFILE,
    RETURN_THE_REST,
    TAKE,
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    IntWidget,
    ProfileWidget,
    StringWidget,
    Widget,
    checked_values,
)
from .wire import HiDreamRequest, WireRequest, checked

if TYPE_CHECKING:
    from ..core import Ceiling, Limits

# In this order Remote Task Result offers them, and ComfyUI lists the nodes.
ENDPOINTS: tuple[AnyEndpoint, ...] = (
    hidream_outpaint.ENDPOINT,
    hidream_text_to_image.ENDPOINT,
    hidream_image_to_image.ENDPOINT,
    hidream_upscale.ENDPOINT,
    hidream_model_photo_set.ENDPOINT,
    volcengine_outpaint.ENDPOINT,
    volcengine_jimeng_outpaint.ENDPOINT,
)
TASK_RESULT = task_result([endpoint.name for endpoint in ENDPOINTS])
LOCAL_NODES: tuple[Node, ...] = (OUTPAINT_PLACEMENT, OUTPAINT_PASTE_BACK, TASK_RESULT, SET_REPORT)
NODES: tuple[Node, ...] = (*(node for endpoint in ENDPOINTS for node in endpoint.nodes), *LOCAL_NODES)
"""In the order of ComfyUI's list."""
_BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def endpoint_named(name: str) -> AnyEndpoint:
    """The endpoint of a task in the journal.

    Raises:
        ConfigurationError: it is not known: a later version of this pack submitted the task.
    """
    if name not in _BY_NAME:
        raise ConfigurationError(Text(f"This version knows no endpoint {name!r}.", f"此版本不支持端点 {name!r}。"))
    return _BY_NAME[name]


def declared_limits() -> dict[DeclaredLimit, Provider]:
    """The limits that endpoints declare, each once, and whose account they are of."""
    found = ((limit, each.provider) for each in ENDPOINTS for limit in (each.at_once, each.rate))
    return {limit: provider for limit, provider in found if limit is not None}


def ceiling(endpoint: Endpoint, limits: Limits) -> Ceiling:
    """What of an account's limits holds at an endpoint."""
    own, rate = endpoint.at_once, endpoint.rate
    return core.Ceiling(
        at_once=limits.declared.get(own.setting) if own is not None else limits.at_once,
        per_minute=limits.declared.get(rate.setting) if rate is not None else None,
        own_at_once={each.name: each.at_once.setting for each in ENDPOINTS if each.at_once is not None},
        rates={each.name: each.rate.setting for each in ENDPOINTS if each.rate is not None},
    )

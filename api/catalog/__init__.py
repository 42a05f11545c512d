"""Every endpoint as data: one file of ``endpoints/`` says what a service takes, and what its nodes show and buy.

Nothing here knows ComfyUI, a network or a database. ComfyUI's start loads it, so that it imports ``pixels`` lazily.
"""

from __future__ import annotations

from ..core import ConfigurationError, Text
from .endpoint import Endpoint, HiDreamEndpoint, Rate, VolcengineEndpoint
from .endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_upscale,
    volcengine_outpaint,
)
from .node import Given, Node, NodePlan, Output, PaidNode, PlannedCall, Socket
from .outpainting import checked_placement, fills_canvas, note_resized
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
)
from .wire import HiDreamRequest, WireRequest, checked

# In this order Remote Task Result offers them, and ComfyUI lists the nodes.
ENDPOINTS: tuple[HiDreamEndpoint | VolcengineEndpoint, ...] = (
    hidream_outpaint.ENDPOINT,
    hidream_image_to_image.ENDPOINT,
    hidream_upscale.ENDPOINT,
    hidream_model_photo_set.ENDPOINT,
    volcengine_outpaint.ENDPOINT,
)
RATES: tuple[Rate, ...] = tuple(dict.fromkeys(endpoint.rate for endpoint in ENDPOINTS if endpoint.rate is not None))
_BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def endpoint_named(name: str) -> HiDreamEndpoint | VolcengineEndpoint:
    """The endpoint of a task in the journal.

    Raises:
        ConfigurationError: it is not known: a later version of this pack submitted the task.
    """
    if name not in _BY_NAME:
        raise ConfigurationError(Text(f"This version knows no endpoint {name!r}.", f"此版本不支持端点 {name!r}。"))
    return _BY_NAME[name]

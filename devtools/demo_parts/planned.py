"""What a paid node plans to buy on a picture, asked of its own description in ``api/catalog/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

import api

# Pixels of the frame that is to be painted, for a node that needs a mask.
_FRAME = 64


def planned(node: api.PaidNode, values: Mapping[str, Any], picture: Image.Image) -> api.NodePlan:
    """Return the plan for one picture; a widget without a value has its default, a needed mask is a frame.

    Raises:
        InvalidInputError: the node would not buy that.
    """
    checked = {widget.id: widget.check(values.get(widget.id, widget.default)) for widget in node.widgets}
    sockets = [one.type for one in node.inputs if isinstance(one, api.Socket) and not one.optional]
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), np.float32) / 255)[None]
    mask = torch.ones(1, picture.height, picture.width)
    mask[:, _FRAME:-_FRAME, _FRAME:-_FRAME] = 0
    return node.plan(
        api.Given(
            checked,
            api.Pictures(pixels) if "IMAGE" in sockets else None,
            mask if "MASK" in sockets else None,
        )
    )

"""tests/vectors/placement.json, with which web/ is held to api/pixels/geometry.py: `dev.py generate` writes it.

Each vector has a function, its arguments by position, and the placement that it returns, or `"error": true` for an
InvalidInputError. A placement among the arguments is an object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from typing import Any

from api import InvalidInputError, Placement, choices, geometry
from devtools.environment import ROOT

FILE = ROOT / "tests" / "vectors" / "placement.json"

Arguments = tuple[Any, ...]


def vectors() -> list[dict[str, Any]]:
    calls: list[tuple[str, Arguments]] = [
        *(("place", arguments) for arguments in _place()),
        *(("place_in_aspect", arguments) for arguments in _place_in_aspect()),
        *(("pad", arguments) for arguments in _pad()),
        *(("within", arguments) for arguments in _within()),
        *(("scaled_to", arguments) for arguments in _scaled_to()),
    ]
    return [_vector(function, arguments) for function, arguments in calls]


def _vector(function: str, arguments: Arguments) -> dict[str, Any]:
    plain = [asdict(argument) if isinstance(argument, Placement) else argument for argument in arguments]
    try:
        return {"function": function, "arguments": plain, "placement": asdict(_answer(function, arguments))}
    except InvalidInputError:
        return {"function": function, "arguments": plain, "error": True}


def _answer(function: str, arguments: Arguments) -> Placement:
    if function in ("place", "place_in_aspect"):
        ratio, position, x_offset, y_offset = arguments[4:]
        where = {"ratio": ratio, "position": position, "x_offset": x_offset, "y_offset": y_offset}
        return getattr(geometry, function)(*arguments[:4], **where)
    if function == "pad":
        return geometry.pad(*arguments)
    placement: Placement = arguments[0]
    return getattr(placement, function)(*arguments[1:])


def _place() -> Iterator[Arguments]:
    """Yield width, height, canvas_width, canvas_height, ratio, position, x_offset, y_offset."""
    for position in choices.POSITIONS:
        yield 400, 300, 1023, 1023, 0.5, position, 13, 7
    originals = ((1, 1), (1, 7), (3, 2), (105, 77), (333, 127), (600, 400), (2000, 2000), (6000, 4000), (16384, 16))
    canvases = ((64, 64), (300, 301), (1023, 65), (1024, 1024), (1920, 1080))
    for original, canvas, ratio in product(originals, canvases, (0.05, 0.35, 0.5, 1.0)):
        yield *original, *canvas, ratio, "center", 0, 0
    yield 3, 3, 5, 5, 0.5, "center", 0, 0  # 2.5 pixels become 3
    yield 5, 5, 7, 7, 0.5, "bottom right", 0, 0  # 3.5 become 4
    yield 300, 41, 64, 64, 0.2, "center", 0, 0  # 300:41 cannot be kept: the nearest whole pixels
    for x_offset, y_offset in ((512, 512), (513, 0), (0, 513), (-1, 0), (16384, 16384)):
        yield 64, 64, 1024, 1024, 0.5, "offset", x_offset, y_offset


def _place_in_aspect() -> Iterator[Arguments]:
    """Yield width, height, aspect_width, aspect_height, ratio, position, x_offset, y_offset."""
    for position in choices.POSITIONS:
        yield 401, 303, 16, 9, 0.75, position, 13, 7
    originals = ((1, 1), (1, 16384), (3, 2), (105, 77), (333, 127), (6000, 4000), (4000, 6000), (16384, 16))
    shapes = ((1, 1), (5, 4), (3, 4), (3, 2), (16, 9), (9, 16), (21, 9), (1.91, 1))
    for original, shape, ratio in product(originals, shapes, (0.35, 0.5, 1.0)):
        yield *original, *shape, ratio, "center", 0, 0
    yield 3, 3, 3, 2, 1.0, "center", 0, 0  # 4.5 become 5
    yield 7, 7, 5, 4, 0.5, "top left", 0, 0  # 17.5 become 18
    for x_offset, y_offset in ((0, 0), (200, 0), (201, 0), (0, 1), (-1, 0)):
        yield 200, 200, 2, 1, 1.0, "offset", x_offset, y_offset


def _pad() -> Iterator[Arguments]:
    """Yield width, height, left, top, right, bottom."""
    yield 100, 80, 0, 0, 0, 0
    yield 100, 80, 1, 0, 0, 0
    yield 105, 77, 24, 16, 41, 8
    yield 1, 1, 16384, 0, 0, 16384
    for side in range(4):
        yield 100, 80, *(-1 if index == side else 8 for index in range(4))


_PLACEMENTS = (
    Placement(1024, 1024, 256, 256, 512, 512),
    Placement(7111, 4000, 555, 0, 6000, 4000),
    Placement(1023, 65, 426, 0, 170, 65),
    Placement(5, 3, 1, 1, 3, 1),
    Placement(3001, 2999, 1500, 1499, 1, 1),
    Placement(16384, 16, 0, 0, 16384, 15),
    Placement(16, 20000, 3, 19999, 13, 1),
    Placement(240, 120, 240 - 33, 120 - 17, 33, 17),
)


def _within() -> Iterator[Arguments]:
    """Yield placement, max_width, max_height."""
    for placement, limit in product(_PLACEMENTS, ((1024, 1024), (1920, 1080), (64, 4096), (100, 51), (1, 1))):
        yield placement, *limit


def _scaled_to() -> Iterator[Arguments]:
    """Yield placement, canvas_width, canvas_height."""
    for placement, size in product(_PLACEMENTS, ((1024, 1024), (2048, 2049), (512, 511), (333, 127), (3, 1))):
        yield placement, *size
    for placement in _PLACEMENTS:
        yield placement, placement.canvas_width, placement.canvas_height


def text() -> str:
    """The content of :data:`FILE`."""
    lines = ",\n".join(json.dumps(vector) for vector in vectors())
    return f"[\n{lines}\n]\n"

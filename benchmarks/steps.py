"""The speed of each step from a tensor to a request body, over the line, and from an answer to a tensor.

MB/s count the bytes of the 8-bit pixels in every step, so that the steps can be compared and added up.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from api import tensors
from api.catalog import checked
from api.catalog.endpoints import hidream_upscale
from benchmarks import MIN_ROUNDS, Table, timed
from benchmarks.encoding import LINES_MBITS, SIDE, photograph

TITLE = f"Steps of a photograph of {SIDE}², there and back"
_UP, _DOWN = "to the service", "back"


def table() -> Table:
    photo = photograph()
    megabytes = photo.nbytes / 1e6
    tensor = torch.from_numpy(photo).float().div_(255.0).unsqueeze(0)
    png, jpeg = tensors.encode(photo), tensors.encode(photo, "jpeg 95")
    request = checked(hidream_upscale.Request, image=tensors.to_base64(png), upsale_ratio=4)
    steps: dict[tuple[str, str], Callable[[], Any]] = {
        (_UP, "to 8 bits"): lambda: tensors.images_from_tensor(tensor),
        (_UP, "fingerprint"): lambda: tensors.fingerprint(photo),
        (_UP, "PNG"): lambda: tensors.encode(photo),
        (_UP, "base64"): lambda: tensors.to_base64(png),
        (_UP, "JSON"): request.json_bytes,
        (_DOWN, "decode PNG"): lambda: tensors.decode(io.BytesIO(png), photo.nbytes),
        (_DOWN, "decode JPEG"): lambda: tensors.decode(io.BytesIO(jpeg), photo.nbytes),
        (_DOWN, "to float"): lambda: tensors.image_tensor([photo]),
    }
    laps: dict[tuple[str, str], list[float]] = {name: [] for name in steps}
    for _ in range(MIN_ROUNDS + 1):
        for name, step in steps.items():
            laps[name].append(timed(step))
    typical = {name: median(seconds[1:]) for name, seconds in laps.items()}  # the first round warms up
    for mbits in LINES_MBITS:
        typical[_UP, f"send at {mbits} Mbit/s"] = len(request.json_bytes()) * 8 / (mbits * 1e6)
        typical[_DOWN, f"download the PNG at {mbits} Mbit/s"] = len(png) * 8 / (mbits * 1e6)
    rows = [
        (*name, f"{megabytes / seconds:.{0 if seconds < 1 else 1}f} MB/s", f"{seconds * 1000:.0f} ms")
        for name, seconds in sorted(typical.items(), key=lambda item: item[0][0], reverse=True)
    ]
    measured = {": ".join(name): seconds for name, seconds in laps.items()}
    return Table(TITLE, ("way", "step", "speed", "time"), rows, measured)

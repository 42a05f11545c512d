"""HiDream v3 outpainting: the image at an offset on a larger canvas."""

from functools import partial
from typing import Literal

from pydantic import Field

from ..message import RefusedError
from ..pictures import pictures
from ..pictures.images import Loader
from ..services.endpoint import LANGUAGE, USER_ID, Draw, HiDreamBody, HiDreamEndpoint

MAX_CANVAS_SIDE = 1024


class Outpaint(HiDreamBody):
    image: str
    x_offset: int = Field(0, ge=0)
    y_offset: int = Field(0, ge=0)
    version: Literal["v1"] = "v1"
    resolution: str = Field("1024*1024", pattern=r"^[1-9][0-9]{0,4}\*[1-9][0-9]{0,4}$")

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        width, height = (int(side) for side in self.resolution.split("*"))
        if max(width, height) > MAX_CANVAS_SIDE:
            raise RefusedError(f"resolution {self.resolution} is over the maximum of 1024*1024")
        image = load.rgb(self.image)
        if self.x_offset + image.width > width or self.y_offset + image.height > height:
            raise RefusedError(f"image {image.width}*{image.height} at offset {self.x_offset},{self.y_offset}"
                               f" leaves the canvas of {self.resolution}")
        return [partial(pictures.outpaint, image, (width, height), (self.x_offset, self.y_offset), seed)]


ENDPOINT = HiDreamEndpoint(
    name="outpaint",
    path="/api-pub/gw/v3/image/outpainting/async",
    headers=frozenset({LANGUAGE, USER_ID}),
    body=Outpaint,
)

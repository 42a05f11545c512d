"""HiDream's four request bodies: what each page allows, and the functions that draw the pictures it asks for."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from ..message import ImageRefusedError, RefusedError
from ..pictures import pictures
from ..pictures.images import Loader, as_rgb
from .templates import TEMPLATES

Draw = Callable[[], Image.Image]
"""Draws one picture; called in a worker thread."""

# The emulator's own limit, so that it does not run out of memory.
MAX_RESULT_PIXELS = 200_000_000
MAX_CANVAS_SIDE = 1024
MAX_PHOTO_SIDE = 2048
VARIATION_SIZES = ((768, 1024), (900, 1200))
VARIATION_COUNT = 4
RATIO_SIZES = {
    "9:16": (576, 1024),
    "2:3": (672, 1008),
    "3:4": (768, 1024),
    "1:1": (1024, 1024),
    "4:3": (1024, 768),
    "3:2": (1008, 672),
    "16:9": (1024, 576),
}


class Body(BaseModel):
    """What all four have in common."""

    # strict: a bool or "2" is no int. forbid: a misspelt name fails here, before it reaches the real service.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    request_id: str = ""
    # Checked, but never called: the emulator opens no connections.
    notify_url: str = Field("", pattern=r"^https://[^\s/]+(/\S*)?$")

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        """Check what the types cannot, and return one function for each picture; `seed` varies the pictures.

        Raises:
            RefusedError: the page does not allow it.
        """
        raise NotImplementedError


class Outpaint(Body):
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


class ImageToImage(Body):
    image: str | Annotated[list[str], Field(min_length=1)]
    prompt: str = ""
    negative_prompt: str = ""
    aspect_ratio: Literal["9:16", "2:3", "4:3", "1:1", "3:4", "3:2", "16:9"] = "1:1"
    img_count: int = Field(1, ge=1, le=4)

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        texts = [self.image] if isinstance(self.image, str) else self.image
        references = [load.rgb(text) for text in texts]
        # The prompts change the style, and so does the seed.
        digest = hashlib.sha256(f"{self.prompt}\n{self.negative_prompt}\n{seed}".encode()).digest()
        style = int.from_bytes(digest[:4], "big")
        size = RATIO_SIZES[self.aspect_ratio]
        return [partial(pictures.restyle, references, size, style, index) for index in range(self.img_count)]


class Upscale(Body):
    image: str
    upsale_ratio: Literal[2, 4]
    version: Literal["v1"] = "v1"

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        image = load.rgb(self.image)
        if image.width * image.height * self.upsale_ratio**2 > MAX_RESULT_PIXELS:
            raise ImageRefusedError(f"the result would have more than {MAX_RESULT_PIXELS} pixels")
        return [partial(pictures.upscale, image, self.upsale_ratio)]


class Variation(Body):
    image: str
    template_id: int

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        if self.template_id not in TEMPLATES:
            raise RefusedError(f"there is no template {self.template_id}")
        photo = load.image(self.image)
        if max(photo.size) > MAX_PHOTO_SIDE:
            raise ImageRefusedError(f"image {photo.width}*{photo.height} is over 2K ({MAX_PHOTO_SIDE} pixels)")
        if abs(photo.width / photo.height / 0.75 - 1) > 0.005:
            raise ImageRefusedError(f"image {photo.width}*{photo.height} is not 3:4")
        sizes = [VARIATION_SIZES[index % len(VARIATION_SIZES)] for index in range(VARIATION_COUNT)]
        return [partial(pictures.variation, as_rgb(photo), size, self.template_id, index)
                for index, size in enumerate(sizes)]

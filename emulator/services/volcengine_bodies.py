"""Volcengine's request bodies: Outpainting for CVProcess and for the async submit, ResultQuery for a poll."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, Json

from ..message import RefusedError
from ..pictures import pictures
from ..pictures.images import Loader, decode, is_grey8_png

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=64, le=4096)]


class LogoInfo(BaseModel):
    """Checked, but not drawn: the emulator's watermark is on every picture anyway."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    add_logo: bool = False
    position: int = Field(0, ge=0, le=3)
    language: int = Field(0, ge=0, le=1)
    opacity: float = Field(0.3, ge=0, le=1)
    logo_text_content: str = ""


class Outpainting(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    req_key: Literal["i2i_outpainting"]
    binary_data_base64: list[str] | None = None
    image_urls: list[str] | None = None
    prompt: str | None = None
    custom_prompt: str | None = None
    scale: float = Field(7.0, ge=1, le=20)
    steps: int = Field(30, ge=1, le=100)
    strength: float = Field(0.8, ge=0.1, le=1)
    seed: int = Field(0, ge=-1)
    top: Share | None = None
    bottom: Share | None = None
    left: Share | None = None
    right: Share | None = None
    max_width: Side = 1920
    max_height: Side = 1920
    return_url: bool = False
    logo_info: LogoInfo | None = None

    def draw(self, load: Loader, chance: int) -> Callable[[], Image.Image]:
        """Check what the types cannot, and return the function that draws the picture.

        `chance` is the seed where `seed` is -1.

        Raises:
            RefusedError: the page does not allow it.
        """
        if None not in (self.prompt, self.custom_prompt) and self.prompt != self.custom_prompt:
            raise RefusedError("prompt and custom_prompt differ")
        texts = self.binary_data_base64 or self.image_urls or []
        limit = (self.max_width, self.max_height)
        seed = self._chance(chance if self.seed == -1 else self.seed)
        sides = (self.top, self.bottom, self.left, self.right)
        if len(texts) == 1:
            if not any(sides):
                raise RefusedError("one image needs the sides that are to be extended: top, bottom, left, right")
            # The service's default of a side that is left out is unknown (0 or 0.1). Here it is 0.
            top, bottom, left, right = (side or 0.0 for side in sides)
            return partial(pictures.outpaint_sides, load.rgb(texts[0]), top, bottom, left, right, limit, seed)
        if len(texts) != 2:
            raise RefusedError(f"one image or a canvas and its mask are needed, not {len(texts)} images")
        if any(sides):
            raise RefusedError("a canvas with a mask takes no top, bottom, left, right")
        canvas = load.rgb(texts[0])
        mask = _checked_mask(load.data(texts[1]), canvas.size)
        return partial(pictures.outpaint_canvas, canvas, mask, limit, seed)

    def _chance(self, seed: int) -> int:
        prompt = self.custom_prompt or self.prompt or ""
        return int.from_bytes(hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()[:4], "big")


class ResultOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    return_url: bool | None = None
    logo_info: LogoInfo | None = None


class ResultQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    req_key: Literal["i2i_outpainting"]
    task_id: str = Field(min_length=1)
    # The vendor takes JSON within a string here; an object is refused.
    req_json: Json[ResultOptions] | None = None

    @property
    def return_url(self) -> bool | None:
        """The query's own return_url; None if it has none, and that of the submit counts."""
        return self.req_json.return_url if self.req_json else None


def _checked_mask(data: bytes, size: tuple[int, int]) -> Image.Image:
    mask = decode(data)
    if not is_grey8_png(data):
        raise RefusedError("the mask must be a PNG with one 8-bit grey channel")
    if mask.size != size:
        raise RefusedError(f"the mask is {mask.width}*{mask.height}, the canvas {size[0]}*{size[1]}")
    levels = set(np.unique(np.asarray(mask)).tolist())
    if not levels <= {0, 255}:
        raise RefusedError("the mask must have no grey levels but 0 and 255")
    if levels == {0}:
        raise RefusedError("the mask is all black: nothing to generate")
    return mask

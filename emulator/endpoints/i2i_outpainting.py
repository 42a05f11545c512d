"""Volcengine 智能扩图: an image extended at its sides, or a canvas with new pixels where its mask is white.

Not known: what a side that is left out means (here 0), and the limits of the image.
"""

from typing import Annotated

from pydantic import Field

from ..message import RefusedError
from ..pictures import pictures
from ..pictures.images import Loader
from ..services.endpoint import ASYNC, SYNC, Draw, ImagesBody, VolcengineEndpoint
from ..services.outpainting import outpainted

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=64, le=4096)]


class Outpainting(ImagesBody):
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

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        if None not in (self.prompt, self.custom_prompt) and self.prompt != self.custom_prompt:
            raise RefusedError("prompt and custom_prompt differ")
        chance = pictures.chance(seed if self.seed == -1 else self.seed, self.custom_prompt or self.prompt or "")
        sides = (self.top, self.bottom, self.left, self.right)
        return [outpainted(load, self.images, sides, chance, (self.max_width, self.max_height))]


ENDPOINT = VolcengineEndpoint(
    req_key="i2i_outpainting",
    actions=SYNC | ASYNC,
    # Its page is not public; that a submit with them is refused is not known.
    options_in_submit=True,
    body=Outpainting,
)

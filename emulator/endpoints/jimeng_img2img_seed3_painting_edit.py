"""Volcengine 即梦智能扩图: an image extended at its sides, or a canvas with new pixels where its mask is white.

Not known: what a request without any side does (a client relies on an extension of the service's choice; here it is
refused), the default seed, the longest prompt, and the limits of the image (a sibling takes 4.7 MB and 4096*4096).
"""

from typing import Annotated

from pydantic import Field

from ..pictures import pictures
from ..pictures.images import Loader
from ..services.endpoint import ASYNC, Draw, ImagesBody, VolcengineEndpoint
from ..services.outpainting import outpainted

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class JimengOutpainting(ImagesBody):
    prompt: str = ""
    seed: int = Field(-1, ge=-1)
    top: Share | None = None
    bottom: Share | None = None
    left: Share | None = None
    right: Share | None = None

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        chance = pictures.chance(seed if self.seed == -1 else self.seed, self.prompt)
        return [outpainted(load, self.images, (self.top, self.bottom, self.left, self.right), chance)]


ENDPOINT = VolcengineEndpoint(
    req_key="jimeng_img2img_seed3_painting_edit",
    actions=ASYNC,
    image_links=True,
    body=JimengOutpainting,
)

"""HiDream v3 image_upscaler: the image, two or four times as wide and high."""

from functools import partial
from typing import Literal

from ..message import ImageRefusedError
from ..pictures import pictures
from ..pictures.images import Loader
from ..services.endpoint import LANGUAGE, USER_ID, Draw, HiDreamBody, HiDreamEndpoint

# The emulator's own limit, so that it does not run out of memory.
MAX_RESULT_PIXELS = 200_000_000


class Upscale(HiDreamBody):
    image: str
    upsale_ratio: Literal[2, 4]
    version: Literal["v1"] = "v1"

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        image = load.rgb(self.image)
        if image.width * image.height * self.upsale_ratio**2 > MAX_RESULT_PIXELS:
            raise ImageRefusedError(f"the result would have more than {MAX_RESULT_PIXELS} pixels")
        return [partial(pictures.upscale, image, self.upsale_ratio)]


ENDPOINT = HiDreamEndpoint(
    name="upscale",
    path="/api-pub/gw/v3/image/image_upscaler/async",
    headers=frozenset({LANGUAGE, USER_ID}),
    body=Upscale,
)

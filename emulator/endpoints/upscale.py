"""HiDream v3 image_upscaler: the image, two or four times as wide and high."""

from functools import partial
from typing import Literal

from ..pictures import pictures
from ..pictures.images import Loader, check_result
from ..services.endpoint import LANGUAGE, USER_ID, Draw, HiDreamBody, HiDreamEndpoint


class Upscale(HiDreamBody):
    image: str
    upsale_ratio: Literal[2, 4]
    version: Literal["v1"] = "v1"

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        image = load.rgb(self.image)
        check_result(image.width * self.upsale_ratio, image.height * self.upsale_ratio)
        return [partial(pictures.upscale, image, self.upsale_ratio)]


ENDPOINT = HiDreamEndpoint(
    name="upscale",
    path="/api-pub/gw/v3/image/image_upscaler/async",
    headers=frozenset({LANGUAGE, USER_ID}),
    body=Upscale,
)

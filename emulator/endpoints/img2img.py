"""HiDream v2 img2img: one to four pictures in the style of a prompt, from one image or several."""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from ..pictures import pictures
from ..pictures.images import Loader
from ..services.endpoint import USER_ID, Draw, HiDreamBody, HiDreamEndpoint

SIZES = {
    "9:16": (576, 1024),
    "2:3": (672, 1008),
    "3:4": (768, 1024),
    "1:1": (1024, 1024),
    "4:3": (1024, 768),
    "3:2": (1008, 672),
    "16:9": (1024, 576),
}


class ImageToImage(HiDreamBody):
    image: str | Annotated[list[str], Field(min_length=1)]
    prompt: str = ""
    negative_prompt: str = ""
    aspect_ratio: Literal["9:16", "2:3", "4:3", "1:1", "3:4", "3:2", "16:9"] = "1:1"
    img_count: int = Field(1, ge=1, le=4)

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        texts = [self.image] if isinstance(self.image, str) else self.image
        references = [load.rgb(text) for text in texts]
        style = pictures.chance(self.prompt, self.negative_prompt, seed)
        size = SIZES[self.aspect_ratio]
        return [partial(pictures.restyle, references, size, style, index) for index in range(self.img_count)]


ENDPOINT = HiDreamEndpoint(
    name="img2img",
    path="/api-pub/gw/v2/image/img2img/async",
    headers=frozenset({USER_ID}),
    body=ImageToImage,
)

"""HiDream v3 txt2img: one to four pictures from a prompt alone.

The page has the version v2L. v2.1-standard and its resolutions are those of a public client.

Not known: the longest prompt, whether an empty one is refused (here it is not), and the defaults of img_count and
resolution (here 1, and the square one of the version).
"""

from functools import partial
from typing import Literal

from PIL import Image, ImageOps
from pydantic import Field

from ..message import RefusedError
from ..pictures import pictures
from ..pictures.images import Loader
from ..services.endpoint import USER_ID, Draw, HiDreamBody, HiDreamEndpoint

RESOLUTIONS = {
    "v2L": ("1024*1024", "832*1248", "880*1168", "768*1360", "1248*832", "1168*880", "1360*768"),
    "v2.1-standard": ("2048*2048", "1664*2496", "1728*2304", "1536*2688", "2496*1664", "2304*1728", "2688*1536"),
}


class TextToImage(HiDreamBody):
    prompt: str
    negative_prompt: str = ""
    img_count: int = Field(1, ge=1, le=4)
    version: Literal["v2L", "v2.1-standard"] = "v2L"
    resolution: str = ""

    def draws(self, load: Loader, seed: int) -> list[Draw]:
        known = RESOLUTIONS[self.version]
        resolution = self.resolution if "resolution" in self.model_fields_set else known[0]
        if resolution not in known:
            raise RefusedError(f"resolution: {self.version} has {', '.join(known)}")
        width, height = (int(side) for side in resolution.split("*"))
        style = pictures.chance(self.prompt, self.negative_prompt, seed)
        return [partial(_picture, (width, height), style, index) for index in range(self.img_count)]


def _picture(size: pictures.Size, style: int, index: int) -> Image.Image:
    """Return rings of two colours on a slope, in a style; all of it depends on the style's number."""
    shape = Image.blend(Image.radial_gradient("L"), Image.linear_gradient("L"), 0.2 + style % 7 / 10)
    shape = shape.resize(size, pictures.LANCZOS)
    bands = shape.point([level * (3 + style % 5) % 256 for level in range(256)])
    return pictures.restyle([ImageOps.colorize(bands, "midnightblue", "ivory")], size, style, index)


ENDPOINT = HiDreamEndpoint(
    name="txt2img",
    path="/api-pub/gw/v3/image/txt2img/async",
    headers=frozenset({USER_ID}),
    body=TextToImage,
)

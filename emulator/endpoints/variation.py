"""HiDream ec v3 variation (模特套图): four pictures of a person after a template.

The page does not say how many pictures a template gives, nor their sizes.
"""

from functools import partial

from ..message import ImageRefusedError, RefusedError
from ..pictures import pictures
from ..pictures.images import Loader, as_rgb
from ..services.endpoint import Draw, HiDreamBody, HiDreamEndpoint
from ..services.templates import TEMPLATES

MAX_PHOTO_SIDE = 2048
SIZES = ((768, 1024), (900, 1200)) * 2


class Variation(HiDreamBody):
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
        return [partial(pictures.variation, as_rgb(photo), size, self.template_id, index)
                for index, size in enumerate(SIZES)]


ENDPOINT = HiDreamEndpoint(name="variation", path="/api-pub/ec/v3/image/variation/async", body=Variation)

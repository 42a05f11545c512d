"""What Volcengine's outpainting endpoints have in common: one image and its sides, or a canvas and its mask."""

from collections.abc import Sequence
from functools import partial

from ..message import RefusedError
from ..pictures import pictures
from ..pictures.images import Loader, check_result
from .endpoint import Draw


def outpainted(load: Loader, images: Sequence[str], sides: Sequence[float | None], seed: int,
               limit: pictures.Size | None = None) -> Draw:
    """Return the function that draws the picture.

    Args:
        sides: top, bottom, left, right, as shares of the image's own height and width.
        limit: the width and height that the result is scaled down into; None: it keeps its size.

    Raises:
        RefusedError: other images, sides or mask.
    """
    if len(images) == 1:
        if not any(sides):
            raise RefusedError("one image needs the sides that are to be extended: top, bottom, left, right")
        # The service's default of a side that is left out is unknown (0 or 0.1). Here it is 0.
        top, bottom, left, right = (side or 0.0 for side in sides)
        image = load.rgb(images[0])
        if limit is None:
            check_result(image.width * (1 + left + right), image.height * (1 + top + bottom))
        return partial(pictures.outpaint_sides, image, top, bottom, left, right, limit, seed)
    if len(images) != 2:
        raise RefusedError(f"one image or a canvas and its mask are needed, not {len(images)} images")
    if any(side is not None for side in sides):
        raise RefusedError("a canvas with a mask takes no top, bottom, left, right")
    canvas = load.rgb(images[0])
    return partial(pictures.outpaint_canvas, canvas, load.mask(images[1], canvas.size), limit, seed)

"""One small call of each service, as its node would make it, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from api import (
    Delivery,
    HiDreamService,
    PaidCall,
    Profiles,
    Progress,
    RemoteImageError,
    VolcengineService,
    checked,
    hidream,
    images,
    volcengine,
)
from api.store import SideCar
from devtools.report_wire import Exchange

PROMPT = "a lighthouse on a hill at dusk"
WIDTH, HEIGHT = 384, 512  # upright and 3:4: every service takes it
_CANVAS, _CORNER = (640, 640), (128, 64)
Box = tuple[int, int, int, int]
Calls = Callable[[Profiles, int, int], "Call"]


@dataclass(frozen=True)
class Call:
    paid: PaidCall
    asked: str
    size: tuple[int, int] | None = None
    """Of the picture that was asked for; ``None`` where the service chooses."""
    original: Box | None = None
    """Where the picture that went up should lie in it."""


@dataclass
class Story:
    """What became of the call."""

    node: str
    call: Call
    stages: list[tuple[float, Progress]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    delivery: Delivery | None = None
    stored: Sequence[SideCar] = ()
    errors: list[RemoteImageError] = field(default_factory=list)
    trouble: BaseException | None = None
    """An error of the pack itself, or the user's Ctrl-C."""
    seconds: float = 0.0


def made_up_picture() -> images.Pixels:
    """A sun over hills: no photograph, nobody's."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    picture = np.stack([120 + y * 0.2, 170 + y * 0.1, 235 - y * 0.15], axis=-1)
    picture[(x - 280) ** 2 + (y - 110) ** 2 < 45**2] = (250, 220, 120)
    for number, (height, colour) in enumerate(((330, (70, 120, 80)), (410, (50, 90, 60)))):
        picture[y > height + 30 * np.sin(x / 45 + 2 * number)] = colour
    return np.clip(picture + 6 * np.sin(x / 3)[..., None], 0, 255).round().astype(np.uint8)


PICTURE = made_up_picture()


def _encoded() -> dict[str, str]:
    return {"image": images.to_base64(images.encode(PICTURE))}


def _hidream(
    profiles: Profiles, endpoint: hidream.Endpoint, request: hidream.HiDreamRequest, pixels: int, take: int
) -> PaidCall:
    return PaidCall(HiDreamService(profiles.hidream("default"), endpoint), request, _encoded, pixels, take)


def _outpaint(profiles: Profiles, take: int, template: int) -> Call:
    (width, height), (x, y) = _CANVAS, _CORNER
    request = checked(
        hidream.OutpaintRequest,
        image=images.fingerprint(PICTURE),
        x_offset=x,
        y_offset=y,
        resolution=f"{width}*{height}",
    )
    paid = _hidream(profiles, hidream.OUTPAINT, request, width * height, take)
    return Call(paid, f"a canvas of {width}×{height}", _CANVAS, (x, y, x + WIDTH, y + HEIGHT))


def _image_to_image(profiles: Profiles, take: int, template: int) -> Call:
    request = checked(
        hidream.ImageToImageRequest, image=images.fingerprint(PICTURE), prompt=PROMPT, aspect_ratio="3:4", img_count=1
    )
    return Call(_hidream(profiles, hidream.IMAGE_TO_IMAGE, request, 4_000_000, take), f"3:4, {PROMPT!r}")


def _upscale(profiles: Profiles, take: int, template: int) -> Call:
    request = checked(hidream.UpscaleRequest, image=images.fingerprint(PICTURE), upsale_ratio=2)
    size = (2 * WIDTH, 2 * HEIGHT)
    return Call(_hidream(profiles, hidream.UPSCALE, request, size[0] * size[1], take), "twice as large", size)


def _photo_set(profiles: Profiles, take: int, template: int) -> Call:
    request = checked(hidream.ModelPhotoSetRequest, image=images.fingerprint(PICTURE), template_id=template)
    paid = _hidream(profiles, hidream.MODEL_PHOTO_SET, request, hidream.MAX_MODEL_PHOTO**2, take)
    return Call(paid, f"a set of template {template}")


def _sides(profiles: Profiles, take: int, template: int) -> Call:
    """Above and below are left out on purpose: what that means is one of the open questions."""
    request = checked(
        volcengine.OutpaintRequest,
        binary_data_base64=[images.fingerprint(PICTURE)],
        **volcengine.prompt_fields(PROMPT),
        left=0.25,
        right=0.25,
    )
    paid = PaidCall(
        VolcengineService(profiles.volcengine("default")),
        request,
        lambda: {"binary_data_base64": [_encoded()["image"]]},
        2 * WIDTH * HEIGHT,
        take,
    )
    x = WIDTH // 4
    return Call(paid, "a quarter more left and right", (WIDTH + 2 * x, HEIGHT), (x, 0, x + WIDTH, HEIGHT))


def _canvas(profiles: Profiles, take: int, template: int) -> Call:
    (width, height), (x, y) = _CANVAS, _CORNER
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[y : y + HEIGHT, x : x + WIDTH] = PICTURE
    mask = np.full((height, width), 255, np.uint8)
    mask[y : y + HEIGHT, x : x + WIDTH] = 0
    request = checked(
        volcengine.OutpaintRequest,
        binary_data_base64=[images.fingerprint(canvas), images.fingerprint(mask)],
        **volcengine.prompt_fields(PROMPT),
    )
    encoded = {"binary_data_base64": [images.to_base64(images.encode(each)) for each in (canvas, mask)]}
    service = VolcengineService(profiles.volcengine("default"))
    paid = PaidCall(service, request, lambda: encoded, width * height, take)
    asked = f"a canvas of {width}×{height}, its mask white where it is new"
    return Call(paid, asked, _CANVAS, (x, y, x + WIDTH, y + HEIGHT))


CALLS: dict[str, Calls] = {
    "HiDreamAPIOutpaint": _outpaint,
    "HiDreamAPIImageToImage": _image_to_image,
    "HiDreamAPIUpscale": _upscale,
    "HiDreamAPIModelPhotoSet": _photo_set,
    "VolcengineAPIOutpaint": _sides,
    "VolcengineAPIOutpaintCanvas": _canvas,
}

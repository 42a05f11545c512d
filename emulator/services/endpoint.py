"""What a file of emulator/endpoints/ is made of: the bases of its body, and the endpoint."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from pydantic import Field

from ..pictures.images import Loader
from .strict import Strict
from .volcengine_query import LogoInfo

LANGUAGE, USER_ID = "x-accept-language", "api-user-id"
CVPROCESS, ASYNC_SUBMIT, ASYNC_RESULT = "CVProcess", "CVSync2AsyncSubmitTask", "CVSync2AsyncGetResult"
SYNC, ASYNC = frozenset({CVPROCESS}), frozenset({ASYNC_SUBMIT, ASYNC_RESULT})

Draw = Callable[[], Image.Image]
"""Draws one picture; called in a worker thread."""


class Body(Strict):
    def draws(self, load: Loader, seed: int) -> list[Draw]:
        """Check what the types cannot, and return one function for each picture.

        `seed` is another number for each submit: as at the services, equal requests give different pictures, unless
        the body has a seed of its own.

        Raises:
            RefusedError: the page does not allow it.
        """
        raise NotImplementedError


class HiDreamBody(Body):
    request_id: str = ""
    # Checked, but never called: the emulator opens no connections.
    notify_url: str = Field("", pattern=r"^https://[^\s/]+(/\S*)?$")


@dataclass(frozen=True)
class HiDreamEndpoint:
    name: str
    """As its requests are recorded, and faults name it."""
    path: str
    """Of the submit. A task is asked for at this path + "/results"."""
    body: type[HiDreamBody]
    headers: frozenset[str] = frozenset()
    """Headers that a submit may have besides Authorization and the ordinary ones (LANGUAGE, USER_ID). The result pages
    list Authorization alone."""


class VolcengineBody(Body):
    req_key: str
    return_url: bool = False
    logo_info: LogoInfo | None = None


class ImagesBody(VolcengineBody):
    """The body of an endpoint that takes images."""

    binary_data_base64: list[str] | None = None
    image_urls: list[str] | None = None

    @property
    def images(self) -> list[str]:
        return self.binary_data_base64 or self.image_urls or []


@dataclass(frozen=True)
class VolcengineEndpoint:
    """Requests are recorded, and faults name them, by their action: cvprocess or cvsync2async."""

    req_key: str
    body: type[VolcengineBody]
    actions: frozenset[str]
    """SYNC, ASYNC or SYNC | ASYNC. Any other action answers 50402."""
    options_in_submit: bool = False
    """Whether an asynchronous submit takes return_url and logo_info. Most pages have them in the query's req_json only;
    CVProcess always takes them."""
    image_links: bool = False
    """Whether result links end in ".image?…" (a template of Volcengine's storage), whatever the file is."""

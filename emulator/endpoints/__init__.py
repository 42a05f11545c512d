"""The endpoints of both services, one file each. A new file is found by itself.

It has the name of its endpoint (of the req_key, at Volcengine), and this in it:

1. a docstring: the service, what the endpoint makes, and what its page does not say;
2. a class of the body: `HiDreamBody`, `VolcengineBody`, or `ImagesBody` for an endpoint of Volcengine with images. Its
   fields are those of the page that the base does not have, with the page's types, ranges and defaults;
3. in it `draws(self, load, seed)`: checks what no type can say (sizes, fields that exclude each other) and raises
   RefusedError, or ImageRefusedError for an image; returns one function for each picture, which is then billed.
   `load` reads images and masks; emulator/pictures/ draws, and each picture must bear its watermark;
4. `ENDPOINT = HiDreamEndpoint(...)` with name, path, body and the headers that the page lists, or
   `ENDPOINT = VolcengineEndpoint(...)` with req_key, body, the actions that know it, and where its options and links
   differ (see the fields of these two classes in services/endpoint.py).

`upscale.py` is the shortest of HiDream, `i2i_outpainting.py` that of Volcengine. What a page does not say, the
emulator must not know.
"""

import sys
from pathlib import Path

from ..services.endpoint import HiDreamEndpoint, VolcengineEndpoint

# `from . import *` imports the modules that __all__ names. What is shipped must not use importlib or pkgutil
# (tests/unit/test_registry.py).
__all__ = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
from . import *  # noqa: F403

_FOUND = [sys.modules[f"{__name__}.{name}"].ENDPOINT for name in __all__]
HIDREAM: dict[str, HiDreamEndpoint] = {entry.name: entry for entry in _FOUND if isinstance(entry, HiDreamEndpoint)}
"""By name."""
VOLCENGINE: dict[str, VolcengineEndpoint] = {
    entry.req_key: entry for entry in _FOUND if isinstance(entry, VolcengineEndpoint)
}
"""By req_key."""
if len(HIDREAM) + len(VOLCENGINE) < len(_FOUND) or len({entry.path for entry in HIDREAM.values()}) < len(HIDREAM):
    raise ValueError("two files of emulator/endpoints/ have the same name, path or req_key")

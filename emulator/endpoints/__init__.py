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

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules

from ..services.endpoint import HiDreamEndpoint, VolcengineEndpoint


def found(folders: Iterable[str]) -> list[HiDreamEndpoint | VolcengineEndpoint]:
    """Return the endpoint of each file, sorted by the files' names.

    Raises:
        ValueError: a file names the endpoint or the path of another one.
    """
    endpoints: list[HiDreamEndpoint | VolcengineEndpoint] = []
    taken: set[str] = set()
    for module in sorted(info.name for info in iter_modules(folders)):
        endpoint = import_module(f".{module}", __name__).ENDPOINT
        named = {endpoint.name, endpoint.path} if isinstance(endpoint, HiDreamEndpoint) else {endpoint.req_key}
        if taken & named:
            raise ValueError(f"emulator/endpoints/{module}.py: another file has {sorted(taken & named)}")
        taken |= named
        endpoints.append(endpoint)
    return endpoints


_FOUND = found(__path__)
HIDREAM = {entry.name: entry for entry in _FOUND if isinstance(entry, HiDreamEndpoint)}
"""By name."""
VOLCENGINE = {entry.req_key: entry for entry in _FOUND if isinstance(entry, VolcengineEndpoint)}
"""By req_key."""

"""Every endpoint of the catalog with its vectors, and every paid node: what the tests are parametrised over.

The vectors of an endpoint are ``tests/vectors/endpoints/NAME.json``, with the name of its file in
``api/catalog/endpoints/``. CONTRIBUTING.md says what stands in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import catalog
from hidream_volcengine.api.catalog import HiDreamEndpoint, Socket, VolcengineEndpoint, WireRequest

from devtools.environment import ROOT
from emulator.endpoints import HIDREAM

VECTORS = ROOT / "tests" / "vectors"
PRODUCTS = ROOT / "api" / "catalog" / "endpoints"
# Width and height of the picture that a node gets unless its vectors say otherwise: 3:4 suits every endpoint.
PHOTO = (75, 100)
# What a node with a mask gets: the picture behind ImagePadForOutpaint with these values.
PADDING = {"left": 16}


def product_names() -> list[str]:
    """The names of the product files."""
    return sorted(path.stem for path in PRODUCTS.glob("[!_]*.py"))


def vector_names() -> list[str]:
    """The names of the vector files."""
    return sorted(path.stem for path in (VECTORS / "endpoints").glob("*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Vectors:
    """An endpoint, and what its vector file says (nothing, if there is none: a test of its own tells that)."""

    name: str

    @cached_property
    def told(self) -> dict[str, Any]:
        path = VECTORS / "endpoints" / f"{self.name}.json"
        found: dict[str, Any] = read(path) if path.exists() else {}
        return found

    @property
    def endpoint(self) -> HiDreamEndpoint | VolcengineEndpoint:
        found: HiDreamEndpoint | VolcengineEndpoint = self._product.ENDPOINT
        return found

    @property
    def model(self) -> type[WireRequest]:
        found: type[WireRequest] = self._product.Request
        return found

    @property
    def _product(self) -> Any:
        return import_module(f"hidream_volcengine.api.catalog.endpoints.{self.name}")

    @property
    def smallest(self) -> dict[str, Any]:
        """The first body that is accepted: no field of it has a default."""
        body: dict[str, Any] = self.told["accepts"][0]
        return body

    @property
    def recorded(self) -> str:
        """The name under which the emulator records its requests, and by which faults find them; "" for none."""
        if isinstance(self.endpoint, VolcengineEndpoint):
            return "cvprocess" if self.endpoint.is_synchronous else "cvsync2async"
        return next((name for name, entry in HIDREAM.items() if entry.path == self.endpoint.path), "")

    def answers(self, kind: str) -> list[dict[str, Any]]:
        """Answers to a submit or to a query: those of every endpoint of the service, and of this one alone."""
        common: list[dict[str, Any]] = read(VECTORS / "answers" / f"{self.endpoint.provider}.json")[kind]
        return common + self.told.get(kind, [])


@dataclass(frozen=True)
class Paid:
    """A paid node, and what its vectors say about a small run of it."""

    vectors: Vectors
    node: catalog.PaidNode

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = self.vectors.told.get("nodes", {}).get(self.node.node_id, {})
        return told

    @property
    def widgets(self) -> dict[str, Any]:
        """The values of its widgets but ``profile``: the defaults, and what a run needs besides."""
        return {widget.id: widget.default for widget in self.node.widgets} | self.told.get("widgets", {})

    @property
    def photo(self) -> tuple[int, int]:
        """Width and height of the picture that it gets."""
        width, height = self.told.get("photo", PHOTO)
        return width, height

    @property
    def pictures(self) -> list[tuple[int, int]]:
        """Width and height of each picture that comes of it; each is paid for."""
        return [(width, height) for width, height in self.told["pictures"]]

    @property
    def image(self) -> str:
        """The id of its input for images; "" without one."""
        return next((one.id for one in self._sockets if one.type == "IMAGE"), "")

    @property
    def needs_mask(self) -> bool:
        return any(one.type == "MASK" and not one.optional for one in self._sockets)

    @property
    def _sockets(self) -> list[Socket]:
        return [one for one in self.node.inputs if isinstance(one, Socket)]


ENDPOINTS = {name: Vectors(name) for name in product_names()}
"""By the name of the product file."""
PAID = {
    node.node_id: Paid(vectors, node)
    for endpoint in catalog.ENDPOINTS
    for vectors in ENDPOINTS.values()
    if vectors.endpoint is endpoint
    for node in endpoint.nodes
}
"""By node id, in the order of the catalog."""
every_endpoint = pytest.mark.parametrize("vectors", list(ENDPOINTS.values()), ids=list(ENDPOINTS))
every_paid_node = pytest.mark.parametrize("paid", list(PAID.values()), ids=list(PAID))


def filled(value: Any, images: dict[str, str]) -> Any:
    """``value`` with each name of ``images`` replaced, in lists and objects too."""
    if isinstance(value, dict):
        return {name: filled(one, images) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, images) for one in value]
    return images.get(value, value) if isinstance(value, str) else value


def changed(body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``body`` with other values; a field whose new value is ``None`` is left out."""
    return {name: value for name, value in {**body, **changes}.items() if value is not None}

"""What the vectors of each endpoint say about its wire and its keys (tests/vectors/endpoints/)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import torch
from hidream_volcengine.api import (
    LABEL,
    LABELS,
    ON_PARTIAL,
    ORIGINALS,
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    Given,
    IntWidget,
    InvalidInputError,
    PaidCall,
    Pictures,
    Profiles,
    ProfileWidget,
    Run,
    Socket,
    StringWidget,
    Widget,
    catalog,
)
from hidream_volcengine.api.catalog import VolcengineEndpoint, WireRequest, checked
from hidream_volcengine.api.catalog.widgets import TAKE, UPLOAD
from hidream_volcengine.api.purchase.order import orders_of
from hidream_volcengine.api.services import Service
from pydantic import ValidationError

from emulator.endpoints import VOLCENGINE
from tests.endpoints import (
    ENDPOINTS,
    PADDING,
    PAID,
    Paid,
    Vectors,
    changed,
    every_endpoint,
    every_paid_node,
    filled,
    product_names,
    vector_names,
)
from tests.unit.purchase.test_keys import ENVIRONMENT, MASK, PRINT, keys_of, no_sandbox

# The pixels that the released keys were made of.
PRINTS = {"IMAGE": PRINT, "CANVAS": PRINT, "MASK": MASK}
WHERE = "CONTRIBUTING.md, Adding an endpoint, says what stands in it"


def service_of(vectors: Vectors) -> Service:
    return Profiles(ENVIRONMENT, no_sandbox).service("default", vectors.endpoint)


# ---- the files


def test_every_endpoint_has_its_vectors() -> None:
    missing = [f"tests/vectors/endpoints/{name}.json" for name in product_names() if name not in vector_names()]
    assert not missing, f"write these files; {WHERE}"
    assert not set(vector_names()) - set(product_names()), "vectors without a file in api/catalog/endpoints/"


def test_every_product_file_is_in_the_list() -> None:
    missing = [name for name, vectors in ENDPOINTS.items() if vectors.endpoint not in catalog.ENDPOINTS]
    assert not missing, "add their ENDPOINT to ENDPOINTS in api/catalog/__init__.py"


@every_endpoint
def test_vectors_know_every_node_and_the_emulator_every_endpoint(vectors: Vectors) -> None:
    allowed = {"accepts", "refuses", "sends", "keys", "answers", "queries", "nodes"}
    assert set(vectors.told) <= allowed and set(vectors.told) >= allowed - {"answers", "queries"}, WHERE
    assert set(vectors.told["nodes"]) == {node.node_id for node in vectors.endpoint.nodes}
    endpoint = vectors.endpoint
    known = endpoint.req_key in VOLCENGINE if isinstance(endpoint, VolcengineEndpoint) else vectors.recorded
    assert known, "write its file in emulator/endpoints/"


@every_paid_node
def test_vectors_of_a_node_name_its_widgets(paid: Paid) -> None:
    assert set(paid.told) <= {"inputs", "widgets", "photo", "pictures", "refuses", "not_in_key"}
    refused = [widget for changes, _ in paid.told.get("refuses", []) for widget in changes]
    named = {*paid.told.get("widgets", {}), *paid.told.get("not_in_key", []), *refused}
    assert named <= {one.id for one in paid.node.widgets}
    assert paid.pictures, "how many pictures come, and their sizes"
    for widget in paid.node.widgets:
        assert widget.check(paid.widgets[widget.id]) == paid.widgets[widget.id]


@every_paid_node
def test_last_are_on_partial_and_label_and_what_belongs_to_the_pictures(paid: Paid) -> None:
    node = paid.node
    ids = [one.id for one in node.inputs]
    assert ids[-1] == LABEL.id and ON_PARTIAL.id in ids, f"{node.node_id}: `*LAST_INPUTS` stands last"
    gives_placement = any(output.type == "OUTPAINT_PLACEMENT" for output in node.outputs)
    last = LABELS if node.outputs[0].is_list else ORIGINALS if gives_placement else node.outputs[0]
    assert node.outputs[-1] is last


@every_paid_node
def test_a_saved_workflow_stays_valid(paid: Paid) -> None:
    """Inputs keep their order and type for ever; an added one is optional and last."""
    shown = {one.id: one.type if isinstance(one, Socket) else _TYPES[type(one)] for one in paid.node.inputs}
    released = paid.told["inputs"]
    assert list(shown.items())[: len(released)] == list(released.items()), shown
    for added in paid.node.inputs[len(released) :]:
        assert getattr(added, "optional", False), f"{added.id} was added and is not optional"


_TYPES = {
    IntWidget: "INT",
    FloatWidget: "FLOAT",
    BooleanWidget: "BOOLEAN",
    ComboWidget: "COMBO",
    ProfileWidget: "COMBO",
    StringWidget: "STRING",
}


# ---- the wire


@every_endpoint
def test_what_the_model_takes(vectors: Vectors) -> None:
    for body in vectors.told["accepts"]:
        sent = json.loads(checked(vectors.model, **body).json_bytes())
        assert sent == {**sent, **body}


def cases(kind: str) -> pytest.MarkDecorator:
    """Each entry of a list of the vector files, with its endpoint."""
    found = [(vectors, *entry) for vectors in ENDPOINTS.values() for entry in vectors.told.get(kind, [])]
    ids = [f"{vectors.name}-{json.dumps(changes)[:60]}" for vectors, changes, _ in found]
    return pytest.mark.parametrize(("vectors", "changes", "named"), found, ids=ids)


@cases("refuses")
def test_what_the_model_refuses(vectors: Vectors, changes: dict[str, Any], named: str) -> None:
    """With words that name the field, in both languages, and repeat no image."""
    image = "iVBORw0KGgo" * 20
    with pytest.raises(InvalidInputError) as caught:
        checked(vectors.model, **filled(changed(vectors.smallest, changes), {"IMAGE": image}))
    assert caught.value.billed == "no"
    for line in str(caught.value).split("\n"):
        assert named in line
        assert image[:50] not in line


@every_endpoint
def test_what_no_model_takes(vectors: Vectors) -> None:
    """A field that the service's page does not have, and one that is needed and missing."""
    with pytest.raises(InvalidInputError, match="no_such_field"):
        checked(vectors.model, **vectors.smallest, no_such_field=1)
    for name, field in vectors.model.model_fields.items():
        if field.is_required():
            with pytest.raises(InvalidInputError, match=name):
                checked(vectors.model, **changed(vectors.smallest, {name: None}))
    request = checked(vectors.model, **vectors.smallest)
    with pytest.raises(ValidationError):
        setattr(request, next(iter(vectors.smallest)), "other")


@every_endpoint
def test_what_is_sent_byte_for_byte(vectors: Vectors) -> None:
    """The smallest body with every default, in the order of the service's page."""
    expected = json.dumps(vectors.told["sends"], ensure_ascii=False, separators=(",", ":"))
    assert checked(vectors.model, **vectors.smallest).json_bytes().decode() == expected
    defaults = {name for name, field in vectors.model.model_fields.items() if field.default is not None}
    required = {name for name, field in vectors.model.model_fields.items() if field.is_required()}
    assert not set(vectors.smallest) & (defaults - required), "the first body has a field that has a default"


# ---- keys


@every_endpoint
def test_a_key_never_changes(vectors: Vectors) -> None:
    for golden in vectors.told["keys"]:
        [found] = keys_of([call(vectors, filled(golden["body"], PRINTS), golden.get("take", 0))])
        assert found == golden["sha256"], f"{found} is the key now: for a released endpoint, everybody would pay again"


def call(vectors: Vectors, body: dict[str, Any], take: int = 0) -> PaidCall:
    return paid_call(service_of(vectors), checked(vectors.model, **body), take)


def paid_call(service: Service, request: WireRequest, take: int) -> PaidCall:
    return PaidCall(service, request, lambda: {}, 1000, take)


def keys_of_run(paid: Paid, **changes: Any) -> list[str]:
    """The keys of what a node would buy with these values of its widgets.

    Raises:
        InvalidInputError: the node refuses them.
    """
    values = {**paid.widgets, **changes}
    given = Given(values, *_pictures(paid))
    service = service_of(paid.vectors)
    planned = [one for make in paid.node.plan(given).calls for one in make()]
    for problem in (one.problem for one in planned if one.problem is not None):
        raise problem
    return [
        order.key
        for order in orders_of(
            [paid_call(service, one.request, values[TAKE.id]) for one in planned], Run("prompt-1").node().item()
        )
    ]


def _pictures(paid: Paid) -> tuple[Pictures | None, torch.Tensor | None]:
    """The images and the mask that the node gets."""
    if not paid.image:
        return None, None
    width, height = paid.photo
    if not paid.needs_mask:
        return Pictures(torch.linspace(0, 1, height * width * 3).reshape(1, height, width, 3)), None
    width += PADDING["left"]
    mask = torch.zeros(1, height, width)
    mask[:, :, : PADDING["left"]] = 1
    return Pictures(torch.linspace(0, 1, height * width * 3).reshape(1, height, width, 3)), mask


@every_paid_node
def test_every_widget_counts(paid: Paid) -> None:
    """A widget that changes what is bought is part of the key; else the next run would reuse another picture.

    A value that the node refuses beside these of the other widgets buys nothing. If that is every other value of a
    widget, the vectors must say so (refuses).
    """
    refused = {widget for changes, _ in paid.told.get("refuses", []) for widget in changes}
    same = {ON_PARTIAL.id, UPLOAD.id, "label", *paid.told.get("not_in_key", [])}
    before = keys_of_run(paid)
    for widget in paid.node.widgets:
        keys = []
        for value in others(widget, paid.widgets[widget.id]):
            with suppress(InvalidInputError):
                keys.append(keys_of_run(paid, **{widget.id: value}))
        if widget.id in same:
            assert all(one == before for one in keys), f"{widget.id} changes the key"
        else:
            counts = any(one != before for one in keys) or (not keys and widget.id in refused)
            assert counts, f"{widget.id} is not in the key; is that meant? (not_in_key)"


def node_cases() -> pytest.MarkDecorator:
    found = [(paid, *entry) for paid in PAID.values() for entry in paid.told.get("refuses", [])]
    ids = [f"{paid.node.node_id}-{json.dumps(changes)[:60]}" for paid, changes, _ in found]
    return pytest.mark.parametrize(("paid", "changes", "named"), found, ids=ids)


@node_cases()
def test_what_a_node_refuses(paid: Paid, changes: dict[str, Any], named: str) -> None:
    """Values of widgets that do not go together, in words of both languages, before anything is sent."""
    assert keys_of_run(paid)
    with pytest.raises(InvalidInputError) as caught:
        keys_of_run(paid, **changes)
    assert caught.value.billed == "no"
    assert named in caught.value.what.en and named in caught.value.what.zh


def others(widget: Widget, value: Any) -> list[Any]:
    """Other values of a widget; not each of them need change what is bought."""
    match widget:
        case IntWidget():
            return [one for one in (widget.minimum + 1, widget.maximum, value + 1) if one <= widget.maximum]
        case FloatWidget():
            return [widget.minimum + (widget.maximum - widget.minimum) * share for share in (0.3, 0.6)]
        case BooleanWidget():
            return [not value]
        case ComboWidget():
            return [one for one in widget.options if one != value]
        case StringWidget():
            return ["other words"]

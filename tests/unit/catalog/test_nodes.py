"""The descriptions of the nodes: what holds for each of them, and checks of all values of a node at once."""

from __future__ import annotations

import pytest
from hidream_volcengine.api import InvalidInputError
from hidream_volcengine.api.catalog import ENDPOINTS, LOCAL_NODES, NODES, TAKE, TASK_RESULT, Node, checked_values

from tests.thinned import in_one_test


def test_the_paid_nodes_come_first() -> None:
    paid = [node for endpoint in ENDPOINTS for node in endpoint.nodes]
    assert list(NODES) == [*paid, *LOCAL_NODES]
    assert [TAKE in node.inputs for node in NODES] == [True] * len(paid) + [False] * len(LOCAL_NODES)


def test_ids_are_unique() -> None:
    assert len({node.node_id for node in NODES}) == len(NODES)
    for node in NODES:
        ids = [one.id for one in node.inputs]
        assert len(set(ids)) == len(ids), node.node_id


@in_one_test("node", NODES)
def test_every_default_is_allowed(node: Node) -> None:
    for widget in node.widgets:
        assert widget.check(widget.default) == widget.default, widget.id


def test_remote_task_result_offers_every_endpoint() -> None:
    (endpoint,) = (widget for widget in TASK_RESULT.widgets if widget.id == "endpoint")
    assert [endpoint.check(each.name) for each in ENDPOINTS] == [each.name for each in ENDPOINTS]


def test_checked_values_are_those_of_the_widgets() -> None:
    values = checked_values(TASK_RESULT.widgets, {"endpoint": "hidream upscale", "other": object()})
    assert values == {"endpoint": "hidream upscale", "task_id": ""}


def test_a_value_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="`endpoint` must be one of"):
        checked_values(TASK_RESULT.widgets, {"endpoint": "another service", "task_id": "7"})

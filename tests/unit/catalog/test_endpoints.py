"""What all endpoints of the catalog have in common."""

from __future__ import annotations

import re

from hidream_volcengine.api.catalog import ENDPOINTS

from devtools.environment import ROOT
from tests.thinned import in_one_test


@in_one_test("language", ["en", "zh"])
def test_the_titles_of_an_endpoints_nodes_begin_with_its_name(language: str) -> None:
    """Task list and canvas call it the same."""
    for endpoint in ENDPOINTS:
        name = getattr(endpoint.shown, language)
        titles = [getattr(node.title, language) for node in endpoint.nodes]
        assert [title for title in titles if not title.startswith(name)] == []
        assert len(titles) > 1 or titles == [name]


def test_each_node_id_is_a_literal_of_its_endpoints_file() -> None:
    """Programs that read the source find it."""
    files = (ROOT / "api" / "catalog" / "endpoints").glob("*.py")
    found = {name for file in files for name in re.findall('node_id="(\\w+)"', file.read_text(encoding="utf-8"))}
    assert found == {node.node_id for endpoint in ENDPOINTS for node in endpoint.nodes}

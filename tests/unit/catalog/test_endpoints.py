"""What all endpoints of the catalog have in common."""

from __future__ import annotations

from hidream_volcengine.api.catalog import ENDPOINTS

from tests.thinned import in_one_test


@in_one_test("language", ["en", "zh"])
def test_the_titles_of_an_endpoints_nodes_begin_with_its_name(language: str) -> None:
    """Task list and canvas call it the same."""
    for endpoint in ENDPOINTS:
        name = getattr(endpoint.shown, language)
        titles = [getattr(node.title, language) for node in endpoint.nodes]
        assert [title for title in titles if not title.startswith(name)] == []
        assert len(titles) > 1 or titles == [name]

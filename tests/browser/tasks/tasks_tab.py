"""The Tasks tab in an open page, as the tests drive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.frontend import Frontend, Json

_TOGGLE = "app.extensionManager.command.execute('Workspace.ToggleSidebarTab.hidream-volcengine-tasks')"
# Node, and where its upper left corner is on the screen.
_NODES = """() => app.canvas.graph.nodes.map((node) => ({
    id: node.id, type: node.type, at: app.canvasPosToClientPos(node.pos),
    values: Object.fromEntries((node.widgets ?? []).map(({name, value}) => [name, value])),
}))"""


@dataclass(frozen=True)
class TasksTab:
    """Opened when it is made."""

    frontend: Frontend

    def __post_init__(self) -> None:
        if not self.root.is_visible():
            self.toggle()
        expect(self.root).to_be_visible()

    @property
    def root(self) -> Locator:
        return self.frontend.page.locator("[data-remote-tasks]")

    @property
    def rows(self) -> Locator:
        """Those that the filter lets through."""
        return self.root.locator(".task:visible")

    def row(self, journal_id: str) -> Locator:
        return self.root.locator(f'.task[data-task="{journal_id}"]')

    def toggle(self) -> None:
        self.frontend.page.evaluate(_TOGGLE)

    def unfold(self, row: Locator) -> None:
        row.locator(".toggle").click()
        expect(row.locator(".details")).to_be_visible()

    def filter(self, **values: str) -> None:
        for name, value in values.items():
            control = self.root.locator(f'[data-filter="{name}"]')
            if name == "search":
                control.fill(value)
            else:
                control.select_option(value)

    def drag(self, what: Locator, x: float, y: float) -> None:
        """Drop it so many pixels right of the sidebar's panel and below the canvas' upper edge."""
        panel = self.root.bounding_box()
        start = what.bounding_box()
        assert panel is not None
        assert start is not None
        mouse = self.frontend.page.mouse
        mouse.move(start["x"] + start["width"] / 2, start["y"] + 20)
        mouse.down()
        mouse.move(panel["x"] + panel["width"] + x - 5, panel["y"] + y)
        mouse.move(panel["x"] + panel["width"] + x, panel["y"] + y)
        mouse.up()

    def nodes(self) -> list[Any]:
        nodes: list[Json] = self.frontend.page.evaluate(_NODES)
        return nodes

    def node(self, kind: str) -> Any:
        """Wait for the only node of this type."""
        self.frontend.page.wait_for_function(
            "(type) => app.canvas.graph.nodes.filter((node) => node.type === type).length === 1", arg=kind
        )
        return next(node for node in self.nodes() if node["type"] == kind)

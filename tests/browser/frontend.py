"""ComfyUI's frontend in an open page, as the tests drive it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page, expect

from devtools.comfyui.host import PACK_FOLDER, ComfyUI
from devtools.environment import ROOT

Json = dict[str, Any]

SCREENSHOTS = ROOT / "out" / "screenshots"

_OUR_WORDS = (PACK_FOLDER, "node_status", "NodeStatus", "HiDream", "Volcengine")
READY = "!!window.app?.graph && !!window.LiteGraph?.registered_node_types.VolcengineAPIOutpaintCanvas"
# The frontend opens the right panel when a run fails, and remembers that for the next page.
CLOSED = {"Comfy.Minimap.Visible": False, "Comfy.RightSidePanel.IsOpen": False}
_CHANGE_SETTINGS = """async (settings) => {
    for (const [name, value] of Object.entries(settings)) await app.extensionManager.setting.set(name, value);
}"""
_LOCALE = "() => app.extensionManager.setting.get('Comfy.Locale')"
_LOAD = """async (workflow) => {
    await app.loadGraphData(workflow);
    const tabs = app.extensionManager.workflow;
    const others = tabs.openWorkflows.filter(({path}) => path !== tabs.activeWorkflow.path);
    for (const tab of others) await tabs.closeWorkflow(tab);
}"""
_RUN = """async () => {
    const ends = ["execution_success", "execution_error", "execution_interrupted"];
    const ended = new Promise((resolve) => ends.forEach((type) =>
        app.api.addEventListener(type, ({detail}) => resolve([type, detail]), {once: true})));
    document.querySelector('[data-testid="queue-button"] button, button[data-testid="queue-button"]').click();
    return await ended;
}"""
_GRAPH = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"
_PROMPT = "async () => JSON.parse(JSON.stringify((await app.graphToPrompt()).output))"


@dataclass
class Frontend:
    """One open page with ComfyUI's frontend in it."""

    page: Page
    comfy: ComfyUI
    version: str
    problems: list[str] = field(default_factory=list)
    """Errors in the console or of the page that have to do with this pack."""

    def tidied(self) -> bool:
        """Close what an earlier module may have left open; False if a dialog is still there."""
        self.page.unroute_all()
        self.page.evaluate(_CHANGE_SETTINGS, CLOSED)
        self.problems.clear()
        return self.page.get_by_role("dialog").count() == 0

    def load(self, workflow: Json) -> None:
        """Open a workflow in the only tab: each further open tab makes the page slower."""
        self.page.evaluate(_LOAD, workflow)
        self.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(workflow["nodes"]))

    def refresh_choices(self) -> None:
        """Make the page reload the lists of files and profiles."""
        self.page.evaluate("app.refreshComboInNodes()")

    def speak(self, locale: str) -> None:
        """Change the language, and wait until the page shows it.

        The frontend loads the words of a language when it is first chosen, and shows it then, even if another one was
        chosen meanwhile.
        """
        if self.page.evaluate(_LOCALE) == locale:
            return
        button = self.page.locator('[data-testid="queue-button"]').first
        words = button.inner_text()
        self.page.evaluate(_CHANGE_SETTINGS, {"Comfy.Locale": locale})
        expect(button).not_to_have_text(words, use_inner_text=True)

    def run(self) -> Json:
        """Click on Run and wait; returns the prompt's entry in /history."""
        self.comfy.forget_results()
        end, detail = self.page.evaluate(_RUN)
        assert end == "execution_success", detail
        return self.comfy.history(detail["prompt_id"])

    def graph(self) -> Json:
        """The workflow as it would be saved."""
        saved: Json = self.page.evaluate(_GRAPH)
        return saved

    def widget_values(self) -> dict[int, Any]:
        return {node["id"]: node.get("widgets_values") for node in self.graph()["nodes"]}

    def prompt(self) -> Json:
        """What the frontend would queue, without the titles that it adds for other tools."""
        nodes: Json = self.page.evaluate(_PROMPT)
        return {number: {key: node[key] for key in ("class_type", "inputs")} for number, node in nodes.items()}

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}-{self.version}.png")

    def watch(self) -> None:
        self.page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._note(f"{error.message}\n{error.stack}"))

    def _note(self, text: str) -> None:
        # With --disable-api-nodes the page's request to the registry about our nodes is blocked: the error names them.
        if any(word in text for word in _OUR_WORDS) and "Content Security Policy" not in text:
            self.problems.append(text)


def example_workflow(name: str) -> Json:
    loaded: Json = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return loaded

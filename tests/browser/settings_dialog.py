"""ComfyUI's settings dialog and the profiles in it, as a user works them."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, expect

from devtools.comfyui.host import ComfyUI
from tests.browser.frontend import Frontend, Json
from tests.host.buying import journal_folder

# 1.32.9 shows a pack's category in English whatever its language is.
_CATEGORY = re.compile(r"^\s*HiDream (&|与) ?(Volcengine|火山引擎)\s*$")
_OPEN = "() => app.extensionManager.command.execute('Comfy.ShowSettingsDialog')"
_CHOICES = """([id, wanted]) => {
    const { values } = app.graph.getNodeById(id).widgets.find(({ name }) => name === "profile").options;
    const names = typeof values === "function" ? values() : values;
    return names.join() === wanted.join();
}"""
WORDS: dict[str, dict[str, str]] = {
    "en": {
        "add": "Add a profile", "save": "Save", "rename": "Rename", "remove": "Remove", "cancel": "Cancel",
        "discard": "Discard changes", "stored": "stored", "not set": "not set", "added": "Added: ",
        "saved": "Saved.", "renamed": "Renamed to ", "removed": "Removed: ", "all right": "All right",
        "no key": "No key", "connection": "No connection", "save first": "Save first", "kept": "what you typed is kept",
        "gone": "is not there any more", "forgotten": "forgotten when you save", "not saved": "not saved",
        "environment": "Environment variables of the ComfyUI server hold the keys of HiDream",
        "unknown": "This server has no profile named",
        "old entry": "old entry", "remove the old entry": "Remove the old entry",
    },
    "zh": {
        "add": "添加配置", "save": "保存", "rename": "重命名", "remove": "删除", "cancel": "取消",
        "discard": "放弃更改", "stored": "已保存", "not set": "未设置", "added": "已添加：",
        "saved": "已保存。", "renamed": "已重命名为 ", "removed": "已删除：", "all right": "正常",
        "no key": "没有密钥", "connection": "无法连接", "save first": "请先保存", "kept": "您输入的内容仍保留",
        "gone": "已不存在", "forgotten": "保存时清除", "not saved": "未保存",
        "environment": "HiDream 的密钥由 ComfyUI 服务器的环境变量提供",
        "unknown": "此服务器没有名为",
        "old entry": "有旧条目", "remove the old entry": "删除旧条目",
    },
}  # fmt: skip


class Form:
    """One profile in the list; the name of the new one is ""."""

    def __init__(self, panel: Panel, name: str) -> None:
        self.words = panel.words
        self.root = panel.root.locator(f'[data-profile="{name}"]')
        self.head = self.root.locator(".head")
        self.told = self.root.locator(".body > .told")
        self.retired = self.root.locator(".body > div > .told[data-problem]")

    def field(self, name: str) -> Locator:
        return self.root.locator(f'[data-field="{name}"]')

    def state(self, key: str) -> Locator:
        return self.root.locator(f'.field:has([data-field="{key}"]) .state')

    def button(self, word: str) -> Locator:
        return self.root.get_by_role("button", name=self.words[word], exact=True)

    def check(self, provider: str) -> Locator:
        return self.root.locator(f'[data-check="{provider}"]')

    def checked(self, provider: str) -> Locator:
        """What the check of this provider told."""
        return self.root.locator(f'fieldset:has([data-check="{provider}"]) .told')

    def type(self, **values: str) -> None:
        for name, value in values.items():
            self.field(name).fill(value)

    def save(self) -> None:
        self.button("save").click()


class Panel:
    """The pack's category in the settings dialog."""

    def __init__(self, frontend: Frontend, language: str) -> None:
        self.frontend = frontend
        self.page = frontend.page
        self.words = WORDS[language]
        self.root = self.page.locator("hidream-volcengine-profiles")
        self.told = self.root.locator(":scope > .stack > .told")

    def open(self) -> None:
        self.page.evaluate(_OPEN)
        self.page.get_by_text(_CATEGORY).last.click()

    def close(self) -> None:
        self.page.keyboard.press("Escape")
        expect(self.root).to_have_count(0)

    def has(self, *names: str) -> None:
        """Wait for exactly these profiles."""
        expect(self.root.locator(".head > .row > span:first-child")).to_have_text(list(names))

    def form(self, name: str) -> Form:
        return Form(self, name)

    def opened(self, name: str) -> Form:
        """The form of a profile, unfolded."""
        form = self.form(name)
        form.head.click()
        return form

    def new(self) -> Form:
        self.root.get_by_role("button", name=self.words["add"]).click()
        return self.form("")

    def add(self, name: str, **values: str) -> Form:
        new = self.new()
        new.type(name=name, **values)
        new.save()
        added = self.form(name)
        expect(added.told).to_contain_text(self.words["added"] + name)
        return added


def nodes_offer(frontend: Frontend, node: int, *names: str) -> None:
    """Wait until the profile widget of a node has these choices."""
    frontend.page.wait_for_function(_CHOICES, arg=[node, list(names)])


def order(comfy: ComfyUI, action: str, **content: Any) -> Json:
    """Change a profile as another page would, whatever its revision is."""
    token = comfy.request("GET", "/hidream_volcengine/session").json()["token"]
    revision = comfy.request("GET", "/hidream_volcengine/profiles").json()["revision"]
    headers = {"X-Remote-Image-Token": token}
    content = {"revision": revision, **content}
    answer: Json = comfy.request(
        "POST", f"/hidream_volcengine/profiles/{action}", json=content, headers=headers
    ).json()
    return answer


def forget_profiles(comfy: ComfyUI) -> None:
    (journal_folder(comfy) / "profiles.json").unlink(missing_ok=True)

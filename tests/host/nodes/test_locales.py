"""Both languages name every node, widget and output, and the English file says what the schema says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from devtools.comfyui.host import ComfyUI

LOCALES = Path(__file__).resolve().parents[3] / "locales"
CATEGORY = "HiDream & Volcengine"


def inputs_of(node: dict[str, Any]) -> dict[str, Any]:
    return {**node["input"]["required"], **node["input"].get("optional", {})}


def node_definitions(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schemas(comfyui: ComfyUI) -> dict[str, Any]:
    return {node_id: node for node_id, node in comfyui.object_info().items() if node["category"] == CATEGORY}


def test_the_english_file_is_the_schema(schemas: dict[str, Any]) -> None:
    told = {
        node_id: {
            "display_name": node["display_name"],
            "description": node["description"],
            "inputs": {
                name: {"name": name, "tooltip": options[1]["tooltip"]} for name, options in inputs_of(node).items()
            },
            "outputs": {
                str(slot): {"name": name, "tooltip": tooltip}
                for slot, (name, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
            },
        }
        for node_id, node in schemas.items()
    }
    assert node_definitions("en") == told


def keys(tree: Any) -> Any:
    return {name: keys(branch) for name, branch in tree.items()} if isinstance(tree, dict) else None


def test_both_languages_have_the_same_files_and_keys() -> None:
    told = {
        language: {path.name: keys(json.loads(path.read_text(encoding="utf-8"))) for path in folder.iterdir()}
        for language, folder in ((language, LOCALES / language) for language in ("en", "zh"))
    }
    assert told["zh"] == told["en"]
    assert {"main.json", "nodeDefs.json", "settings.json"} <= told["en"].keys()


_SETTING = re.compile(r'id: "(\S+)",\s+category: \["(.+)", "(.+)"\],\s+name: "(.+)",')


def test_every_setting_is_named_as_in_the_page() -> None:
    """The frontend looks a setting up by its id, with other dots, and a category by its English name."""
    names = json.loads((LOCALES / "en" / "settings.json").read_text(encoding="utf-8"))
    categories = json.loads((LOCALES / "en" / "main.json").read_text(encoding="utf-8"))["settingsCategories"]
    scripts = [path.read_text(encoding="utf-8") for path in (LOCALES.parent / "web").rglob("*.*js")]
    settings = [found for script in scripts for found in _SETTING.findall(script)]
    assert len(settings) == sum(script.count("settings: [") for script in scripts) > 0
    assert {setting.replace(".", "_"): {"name": name} for setting, _, _, name in settings} == names
    used = {part for _, category, group, _ in settings for part in (category, group)}
    assert {part: part for part in used} == categories


def test_every_text_is_there_and_the_chinese_ones_are_chinese() -> None:
    for node_id, node in node_definitions("zh").items():
        texts = [node["display_name"], node["description"]]
        texts += [part["tooltip"] for group in ("inputs", "outputs") for part in node[group].values()]
        for text in texts:
            assert any("\u4e00" <= character <= "\u9fff" for character in text), (node_id, text)


def test_every_number_has_its_limits(schemas: dict[str, Any]) -> None:
    """Without a maximum of its own a number gets the frontend's, and a seed without `False` is randomised."""
    for node_id, node in schemas.items():
        for name, (kind, options) in ((name, spec[:2]) for name, spec in inputs_of(node).items()):
            if kind in ("INT", "FLOAT"):
                assert {"min", "max", "default", "step"} <= options.keys(), (node_id, name)
            if kind == "INT":
                assert options["control_after_generate"] is False, (node_id, name)
            assert options["tooltip"], (node_id, name)

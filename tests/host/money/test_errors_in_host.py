"""Every error class as ComfyUI shows it, and bad values in every widget: refused before anything is sent.

The ComfyUI of this file has short deadlines, a dead host for model photo sets, and a node that puts any JSON value on a
wire: such untyped outputs exist in many packs, and ComfyUI checks nothing that comes over a wire.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import psutil
import pytest
from hidream_volcengine.api import catalog
from PIL import Image

from devtools.comfyui.host import ComfyUI, PromptRejectedError, port_or_free
from emulator import Emulator
from tests.endpoints import PAID
from tests.host.buying import forget_purchases, start_over
from tests.host.prompts import WIDGETS, Graph, failed, photo, submits, until
from tests.thinned import every_case, thinned

PROBE = '''
import json
import torch

class AnyType(str):
    def __ne__(self, other):
        return False

class Anything:
    RETURN_TYPES = (AnyType("*"),)
    FUNCTION = "give"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {})}}

    def give(self, value):
        return (json.loads(value),)

class OddImage:
    """An IMAGE of any shape, all of one value; it takes no memory, however large it is."""
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "give"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"shape": ("STRING", {}), "value": ("STRING", {})}}

    def give(self, shape, value):
        tensor = torch.full([1], float(value)).expand(json.loads(shape))
        return (tensor, tensor)

NODE_CLASS_MAPPINGS = {"TestAnything": Anything, "TestOddImage": OddImage}
'''


@pytest.fixture(scope="module")
def strict_comfyui(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("strict")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(PROBE, encoding="utf-8")
    deadlines = {f"REMOTE_IMAGE_{name}_SECONDS": "1" for name in ("QUEUE", "RUN", "DOWNLOAD")}
    dead = {"HIDREAM_EC_BASE_URL": f"http://127.0.0.1:{port_or_free()}"}
    with ComfyUI(base, environment={**service_environment, **deadlines, **dead}, preloaded=True) as comfyui:
        yield comfyui


@pytest.fixture
def strict(strict_comfyui: ComfyUI, emulator: Emulator) -> Iterator[ComfyUI]:
    start_over(strict_comfyui, emulator)
    yield strict_comfyui
    forget_purchases(strict_comfyui)  # else its background poller asks for parked tasks while other tests count


@pytest.fixture
def refusing(strict_comfyui: ComfyUI, emulator: Emulator) -> ComfyUI:
    """For tests in which nothing succeeds, so that nothing of earlier ones can be cached."""
    emulator.clear()
    return strict_comfyui


def some(first: Any, *others: Any) -> tuple[Any, ...]:
    """All of them with --thorough: that one value of a widget is refused shows that it is checked at all."""
    return (first, *others) if every_case() else (first,)


def one_node(comfy: ComfyUI, class_type: str, **widgets: Any) -> Graph:
    """A graph of one remote node with a picture before it and SaveImage behind it."""
    graph = Graph(comfy)
    if class_type != "RemoteTaskResult":
        node = graph.paid(class_type, graph.image(photo(48, 64)), **widgets)
    else:
        node = graph.add(class_type, **widgets)
    graph.save(node[0])
    return graph


# ---- the error tree

OUTPAINT, UPSCALE, SIDES = "HiDreamAPIOutpaint", "HiDreamAPIUpscale", "VolcengineAPIOutpaint"


def on_submit(**action: Any) -> dict[str, Any]:
    return {"phase": "submit", "times": None, "do": action}


def answer(status: int, code: int, message: str) -> dict[str, Any]:
    body = {"code": code, "message": message, "request_id": "vendor-request-4711"}
    return on_submit(status=status, json=body)


ERRORS: list[Any] = [
    # node, fault, error, billed, what the message shows
    (UPSCALE, answer(200, 1051, "bad field"), "InvalidInputError", "no", ["HiDream code 1051", "bad field", "4711"]),
    (UPSCALE, on_submit(status=413), "InvalidInputError", "no", ["too large"]),
    (UPSCALE, answer(401, 401, "who are you"), "AuthenticationError", "no", ["code 401", "who are you"]),
    (UPSCALE, on_submit(status=403), "AuthenticationError", "no", ["code 403"]),
    (UPSCALE, answer(402, 4002, "no money"), "QuotaError", "no", ["code 4002", "no money", "balance"]),
    (UPSCALE, on_submit(status=429), "RateLimitError", "no", ["Wait a little"]),
    (SIDES, on_submit(vendor_code=50429), "RateLimitError", "no", ["Volcengine code 50429", "API QPS limit"]),
    (SIDES, on_submit(vendor_code=50430), "RateLimitError", "no", ["50430"]),
    (SIDES, on_submit(vendor_code=50411), "ModerationError", "no", ["50411", "Pre Img Risk Not Pass", "input image"]),
    (SIDES, on_submit(vendor_code=50412), "ModerationError", "no", ["50412", "prompt"]),
    (SIDES, on_submit(vendor_code=50413), "ModerationError", "no", ["50413"]),
    (SIDES, on_submit(vendor_code=50512), "ModerationError", "no", ["50512"]),
    (SIDES, on_submit(vendor_code=50518), "ModerationError", "no", ["50518", "copyright"]),
    (SIDES, on_submit(vendor_code=50511), "ModerationError", "unknown", ["50511", "take"]),
    (SIDES, on_submit(vendor_code=50519), "ModerationError", "unknown", ["50519"]),
    (UPSCALE, on_submit(task_status=[4]), "ModerationError", "unknown", ["emulated content review", "task_id="]),
    (UPSCALE, on_submit(task_status=[3]), "TaskFailedError", "unknown", ["emulated failure", "task_id="]),
    (UPSCALE, on_submit(task_status=[1004]), "TaskFailedError", "unknown", ["task_status 1004"]),
    (UPSCALE, on_submit(task_status=[77]), "TaskFailedError", "unknown", ["task_status 77", "does not know"]),
    (SIDES, on_submit(algorithm=1), "TaskFailedError", "unknown", ["code 1", "emulated failure"]),
    (UPSCALE, on_submit(status=500), "AmbiguousSubmitError", "unknown", ["pay twice"]),
    (UPSCALE, on_submit(status=502, html=True), "AmbiguousSubmitError", "unknown", ["502"]),
    (UPSCALE, on_submit(html=True), "AmbiguousSubmitError", "unknown", ["could not be understood"]),
    (UPSCALE, on_submit(reset="after"), "AmbiguousSubmitError", "unknown", ["no answer came"]),
    (UPSCALE, on_submit(cut=0.5), "AmbiguousSubmitError", "unknown", ["no answer came"]),
    (UPSCALE, on_submit(status=408), "AmbiguousSubmitError", "unknown", []),
    (SIDES, on_submit(vendor_code=50500), "AmbiguousSubmitError", "unknown", ["50500", "Internal Error"]),
    (SIDES, on_submit(reset="after"), "AmbiguousSubmitError", "unknown", ["no answer came"]),
    (SIDES, on_submit(no_image=True), "AmbiguousSubmitError", "unknown", []),
    (SIDES, on_submit(empty=True), "AmbiguousSubmitError", "unknown", []),
    (SIDES, on_submit(corrupt=True), "TaskFailedError", "yes", ["cannot be decoded"]),
    (UPSCALE, on_submit(never=True), "TaskTimeoutError", "unknown", ["Remote Task Result", "task_id="]),
    (UPSCALE, on_submit(empty=True), "TaskTimeoutError", "unknown", ["task_id="]),
    (UPSCALE, on_submit(no_image=True), "TaskTimeoutError", "unknown", ["task_id="]),
    (UPSCALE, {"phase": "image", "times": None, "do": {"status": 404}}, "TaskTimeoutError", "yes", ["HTTP 404"]),
    (UPSCALE, {"phase": "image", "times": None, "do": {"cut": 0.5}}, "TaskTimeoutError", "yes", ["not be downloaded"]),
    (UPSCALE, {"phase": "image", "times": None, "do": {"corrupt": True}}, "TaskTimeoutError", "yes", ["task_id="]),
    (UPSCALE, {"phase": "result", "times": None, "do": {"html": True}}, "TaskTimeoutError", "unknown", ["problem"]),
    (UPSCALE, answer(200, 2031, "no model"), "ServiceError", "no", ["2031", "no model", "not available"]),
    (UPSCALE, on_submit(status=400, html=True), "ServiceError", "no", ["HTTP 400"]),
    (UPSCALE, on_submit(status=404), "ServiceError", "no", ["404"]),
    (UPSCALE, on_submit(url="http://169.254.169.254/latest"), "ServiceError", "yes", ["not fetched", "task_id="]),
    (UPSCALE, on_submit(url="file:///etc/passwd"), "ServiceError", "yes", ["not fetched"]),
    (UPSCALE, on_submit(status=302, headers={"Location": "/x"}), "ConfigurationError", "no", ["redirect"]),
]  # fmt: skip


@thinned(
    ("class_type", "fault", "error", "billed", "shown"),
    ERRORS,
    ids=[f"{row[2]}-{json.dumps(row[1]['do'])[:60]}-{row[0]}" for row in ERRORS],
    kept=(0, 2, 4, 5, 8, 15, 16, 20, 26, 30, 31, 34, 38, 41, 43),
)
def test_an_error_as_comfyui_shows_it(
    strict: ComfyUI,
    emulator: Emulator,
    class_type: str,
    fault: dict[str, Any],
    error: str,
    billed: str,
    shown: list[str],
) -> None:
    emulator.add_fault(fault)
    told = failed(strict, one_node(strict, class_type).prompt, error)
    message = told["exception_message"]
    english, chinese = message.strip().split("\n")
    assert f"Billed: {billed}." in english
    assert {"no": "否", "yes": "是", "unknown": "未知"}[billed] in chinese.split("是否计费：")[1][:3]
    assert told["node_type"] == class_type
    for words in shown:
        assert words in english, english
    # What names the task or the request is in both languages.
    for name in ("task_id", "request_id"):
        assert re.findall(rf"{name}=(\S+?)[,\]]", english) == re.findall(rf"{name}=(\S+?)[,\]]", chinese)
    if class_type == UPSCALE:
        assert "request_id=" in english
    if billed != "no":
        assert len(submits(emulator)) == 1, "never sent again"
    if task := submits(emulator)[0].task_id:
        # With no usable answer to the submit, nobody knows of it.
        assert error == "AmbiguousSubmitError" or f"task_id={task}" in english


def test_an_unreachable_host(strict: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(strict)
    graph.save(graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(300, 400)))[0])
    told = failed(strict, graph.prompt, "ConnectionFailedError")["exception_message"]
    assert "The host refused the connection." in told
    assert "Billed: no." in told
    assert emulator.requests == []


def test_every_timed_out_task_of_a_batch_is_named(strict: ComfyUI, emulator: Emulator) -> None:
    """Three tasks were accepted and are still under way: each of them is paid, so each of them must be found again."""
    emulator.add_fault(on_submit(never=True))
    graph = Graph(strict)
    graph.save(graph.add(UPSCALE, image=graph.image(*(photo(32, 32, seed) for seed in range(3))))[0])
    told = failed(strict, graph.prompt, "TaskTimeoutError")["exception_message"]
    tasks = [submit.task_id for submit in submits(emulator)]
    assert len(tasks) == 3
    assert [task for task in tasks if task not in told] == []


def test_a_mapped_list_fails_with_the_error_of_its_item(strict: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "skip": 1, "do": {"status": 402}})
    graph = Graph(strict)
    batch = graph.image(*(photo(32, 32, seed) for seed in range(3)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    node = graph.add(UPSCALE, image=listed[0])
    graph.save(node[0])
    assert failed(strict, graph.prompt, "QuotaError")["node_id"] == node.id
    assert "never retrieved" not in strict.log()


# ---- fetching again


def test_a_timed_out_task_is_fetched_again(strict: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "result", "times": 2, "do": {"status": 503}})
    told = failed(strict, one_node(strict, UPSCALE).prompt, "TaskTimeoutError")["exception_message"]
    (task,) = re.findall(r"task_id=([\w-]+)", told.split("\n")[0])
    paid = emulator.billed
    graph = Graph(strict)
    saved = graph.save(graph.add("RemoteTaskResult", endpoint="hidream upscale", task_id=task)[0])
    (picture,) = strict.images(strict.run(graph.prompt), saved)
    assert picture.size == (96, 128)
    assert emulator.billed == paid == 1


def test_a_task_that_is_half_done_is_asked_for_again_when_queued_again(strict: ComfyUI, emulator: Emulator) -> None:
    """Fetching is free: what was missing at first must not stay missing because ComfyUI cached the half."""
    emulator.add_fault(on_submit(task_status=[1, 2]))
    failed(strict, one_node(strict, "HiDreamAPIImageToImage", img_count=2).prompt, "TaskTimeoutError")
    (submit,) = submits(emulator)
    again = one_node(strict, "RemoteTaskResult", endpoint="hidream image to image", task_id=submit.task_id)
    assert len(strict.run(again.prompt).files()) == 1
    asked = len(emulator.requests)
    strict.run(again.prompt)
    assert len(emulator.requests) > asked


def test_a_task_that_nobody_knows(strict: ComfyUI) -> None:
    graph = one_node(strict, "RemoteTaskResult", task_id="no-such-task")
    told = failed(strict, graph.prompt, "TaskTimeoutError")["exception_message"]
    assert "task not found" in told
    assert "no-such-task" in told


# ---- half characters, which ComfyUI's own log cannot write

HALF = "a lighthouse \ud83c"


def test_half_a_character_does_not_end_comfyui(make_comfyui: Callable[..., ComfyUI]) -> None:
    """Typed, and in a message that the service cut in the middle of an emoji: JSON can say it, the emulator cannot."""

    class Cutting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"code": 1051, "message": f"prompt not allowed: {HALF}"}).encode("ascii")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Cutting) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        # The other host is the emulator.
        comfy = make_comfyui(HIDREAM_BASE_URL=f"http://127.0.0.1:{service.server_port}")
        failed(comfy, one_node(comfy, "RemoteTaskResult", task_id=HALF).prompt, "InvalidInputError", timeout=10)
        for _ in range(2):
            told = failed(comfy, one_node(comfy, UPSCALE).prompt, "InvalidInputError", timeout=8)
            assert "prompt not allowed: a lighthouse" in told["exception_message"]
        assert len(comfy.run(one_node(comfy, SIDES).prompt, timeout=10).files()) == 1
        service.shutdown()


# ---- widgets

SAMPLING_INTS = [
    ("steps", 1, 100),
    ("seed", -1, 2**31 - 1),
    ("variants", 1, 4),
    ("max_width", 64, 4096),
    ("max_height", 64, 4096),
]
INTS: list[tuple[str, str, int, int]] = [
    ("HiDreamAPIOutpaint", "canvas_width", 64, 1024),
    ("HiDreamAPIOutpaint", "canvas_height", 64, 1024),
    ("HiDreamAPIOutpaint", "x_offset", 0, 1024),
    ("HiDreamAPIOutpaint", "y_offset", 0, 1024),
    ("HiDreamAPIOutpaint", "variants", 1, 4),
    ("HiDreamAPIImageToImage", "img_count", 1, 4),
    ("HiDreamAPIModelPhotoSet", "template_id", 0, 2**31 - 1),
    *(("VolcengineAPIOutpaint", *row) for row in SAMPLING_INTS),
    *(("VolcengineAPIOutpaintCanvas", *row) for row in SAMPLING_INTS),
    *((class_type, "take", 0, 2**31 - 1) for class_type, widgets in WIDGETS.items() if "take" in widgets),
]
SAMPLING_FLOATS = [("scale", 1.0, 20.0), ("strength", 0.1, 1.0)]
FLOATS: list[tuple[str, str, float, float]] = [
    ("HiDreamAPIOutpaint", "ratio", 0.05, 1.0),
    *(("VolcengineAPIOutpaint", side, 0.0, 1.0) for side in ("top", "bottom", "left", "right")),
    *(("VolcengineAPIOutpaint", *row) for row in SAMPLING_FLOATS),
    *(("VolcengineAPIOutpaintCanvas", *row) for row in SAMPLING_FLOATS),
]
COMBOS: list[tuple[str, str, str]] = [
    ("HiDreamAPIOutpaint", "position", "top left"),
    ("HiDreamAPIImageToImage", "aspect_ratio", "16:9"),
    ("HiDreamAPIImageToImage", "use_images", "all as references"),
    ("HiDreamAPIImageToImage", "on_partial", "return the rest"),
    ("HiDreamAPIUpscale", "upscale_ratio", "2, 4"),
    ("HiDreamAPIModelPhotoSet", "fit", "crop"),
    ("HiDreamAPIModelPhotoSet", "on_partial", "return the rest"),
    ("VolcengineAPIOutpaint", "upload", "jpeg 95"),
    ("VolcengineAPIOutpaintCanvas", "upload", "jpeg 95"),
    ("HiDreamAPIOutpaint", "on_partial", "return the rest"),
    ("HiDreamAPIUpscale", "on_partial", "return the rest"),
    ("VolcengineAPIOutpaint", "on_partial", "return the rest"),
    ("VolcengineAPIOutpaintCanvas", "on_partial", "return the rest"),
    ("RemoteTaskResult", "endpoint", "hidream model photo set"),
]
STRINGS: list[tuple[str, str, int]] = [
    ("HiDreamAPIImageToImage", "prompt", 10_000),
    ("HiDreamAPIImageToImage", "negative_prompt", 10_000),
    ("VolcengineAPIOutpaint", "prompt", 10_000),
    ("VolcengineAPIOutpaintCanvas", "prompt", 10_000),
    ("RemoteTaskResult", "task_id", 200),
]
SWITCHES: list[tuple[str, str]] = []
# The tables above hold the limits of the nodes in them. Those of later nodes are in their endpoint's file alone.
_LISTED = {row[0] for row in (*INTS, *FLOATS, *COMBOS, *STRINGS) if row[1] != "take"}
for _node, _widget in [(node, one) for node, paid in PAID.items() if node not in _LISTED for one in paid.node.widgets]:
    match _widget:
        case catalog.IntWidget() if _widget.id != "take":
            INTS.append((_node, _widget.id, _widget.minimum, _widget.maximum))
        case catalog.FloatWidget():
            FLOATS.append((_node, _widget.id, _widget.minimum, _widget.maximum))
        case catalog.StringWidget():
            STRINGS.append((_node, _widget.id, _widget.max_length))
        case catalog.ComboWidget():
            COMBOS.append((_node, _widget.id, str(_widget.options[-1])))
        case catalog.BooleanWidget():
            SWITCHES.append((_node, _widget.id))
NUMBERS = [*INTS, *FLOATS]
SOCKETS = {(node, one.id) for node, paid in PAID.items() for one in paid.node.inputs if isinstance(one, catalog.Socket)}
REMOTE = [class_type for class_type, widgets in WIDGETS.items() if "profile" in widgets]


def test_the_tables_know_every_widget(strict: ComfyUI) -> None:
    """And their limits are those that ComfyUI is told."""
    known = {(row[0], row[1]) for row in [*NUMBERS, *COMBOS, *STRINGS, *SWITCHES]}
    known |= {(node, "profile") for node in REMOTE}
    info = strict.object_info()
    told = {
        (class_type, name): spec
        for class_type in REMOTE
        for name, spec in {
            **info[class_type]["input"]["required"],
            **info[class_type]["input"].get("optional", {}),
        }.items()
        if (class_type, name) not in SOCKETS
    }
    assert set(told) == known
    for class_type, name, minimum, maximum in NUMBERS:
        assert (told[class_type, name][1]["min"], told[class_type, name][1]["max"]) == (minimum, maximum)
    for (class_type, name), spec in told.items():
        assert spec[1]["tooltip"], (class_type, name)
        assert "default" in spec[1] or spec[1].get("options"), (class_type, name)
        assert not spec[1].get("control_after_generate"), (class_type, name)
        assert not spec[1].get("dynamicPrompts"), (class_type, name)


def refused(comfy: ComfyUI, emulator: Emulator, graph: Graph, error: str = "InvalidInputError") -> str:
    """What the user reads, be it from ComfyUI's validation or from the node; nothing has been sent."""
    try:
        words = failed(comfy, graph.prompt, error)["exception_message"]
    except PromptRejectedError as rejected:
        words = json.dumps(rejected.node_errors, ensure_ascii=False)
    assert emulator.requests == []
    return words


def shows(limit: float, words: str) -> bool:
    return any(shown in words for shown in (str(limit), f"{limit:g}"))


@pytest.mark.parametrize(("class_type", "widget", "minimum", "maximum"), NUMBERS)
def test_a_number_out_of_range_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str, minimum: float, maximum: float
) -> None:
    step = 1 if isinstance(minimum, int) else 0.01
    for value, limit in some((maximum + step, maximum), (minimum - step, minimum)):
        words = refused(refusing, emulator, one_node(refusing, class_type, **{widget: value}))
        assert widget in words
        assert shows(limit, words), words


@pytest.mark.parametrize(("class_type", "widget", "minimum", "maximum"), NUMBERS)
def test_a_linked_number_out_of_range_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str, minimum: float, maximum: float
) -> None:
    whole = isinstance(minimum, int)
    step = 1 if whole else 0.01
    for value in some(2**63 - 1 if whole else "nan", minimum - step, maximum + step):
        graph = one_node(refusing, class_type)
        source = graph.add("PrimitiveInt" if whole else "PrimitiveFloat", value=value)
        node = next(node for node in graph.prompt.values() if node["class_type"] == class_type)
        node["inputs"][widget] = source[0]
        words = refused(refusing, emulator, graph)
        assert f"{widget}" in words
        assert shows(minimum, words), words
        assert shows(maximum, words), words


@pytest.mark.parametrize(("class_type", "widget", "minimum", "maximum"), FLOATS)
def test_nan_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str, minimum: float, maximum: float
) -> None:
    # As text: JSON has no NaN, and ComfyUI makes a float of it.
    for value in some("nan", "inf", "-inf"):
        words = refused(refusing, emulator, one_node(refusing, class_type, **{widget: value}))
        assert widget in words
        assert shows(minimum, words) or shows(maximum, words), words


@pytest.mark.parametrize(("class_type", "widget", "minimum", "maximum"), NUMBERS)
def test_what_is_no_number_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str, minimum: float, maximum: float
) -> None:
    assert widget in refused(refusing, emulator, one_node(refusing, class_type, **{widget: "many"}))
    for value in some(
        "1.5" if isinstance(minimum, int) else '"0.5"',
        "null",
        '"many"',
        "true",
        "[1]",
        "{}",
        "NaN",
        "1e400",
    ):
        words = refused(refusing, emulator, linked(refusing, class_type, widget, value))
        assert f"{widget}" in words, value
        assert shows(minimum, words), words
        assert shows(maximum, words), words


def linked(comfy: ComfyUI, class_type: str, widget: str, value: str) -> Graph:
    """The widget's value comes over an untyped wire."""
    graph = one_node(comfy, class_type)
    source = graph.add("TestAnything", value=value)
    node = next(node for node in graph.prompt.values() if node["class_type"] == class_type)
    node["inputs"][widget] = source[0]
    return graph


@pytest.mark.parametrize(("class_type", "widget", "option"), COMBOS)
def test_what_is_no_option_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str, option: str
) -> None:
    for value in some("no such option", "", 3, None, True, "5", 2.5):
        words = refused(refusing, emulator, one_node(refusing, class_type, **{widget: value}))
        assert widget in words, value
        assert option in words, value
    for value_on_wire in some('"no such option"', "null", "[2]", "{}", "3", "true"):
        words = refused(refusing, emulator, linked(refusing, class_type, widget, value_on_wire))
        assert f"{widget}" in words
        assert option in words


@pytest.mark.parametrize(("class_type", "widget", "longest"), STRINGS)
def test_what_is_no_text_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str, longest: int
) -> None:
    graph = one_node(refusing, class_type, **{widget: "x" * (longest + 1)})
    words = refused(refusing, emulator, graph)
    assert f"{widget}" in words
    assert str(longest) in words
    assert str(longest + 1) in words
    assert "x" * 200 not in words, "a long text is not repeated"
    for value in some("null", "5", "true", '["a"]', "{}"):
        words = refused(refusing, emulator, linked(refusing, class_type, widget, value))
        assert f"{widget}" in words, value


@pytest.mark.parametrize(("class_type", "widget"), [row[:2] for row in STRINGS if row[0] != "RemoteTaskResult"])
def test_half_a_character_is_refused(refusing: ComfyUI, emulator: Emulator, class_type: str, widget: str) -> None:
    """A browser can send a lone surrogate (an emoji cut in two): it has no UTF-8 and cannot go up."""
    words = refused(refusing, emulator, one_node(refusing, class_type, **{widget: HALF}))
    assert f"{widget}" in words, words


def test_an_empty_prompt_is_refused(refusing: ComfyUI, emulator: Emulator) -> None:
    """Of Image to Image, whose picture is made from it; blanks are no prompt. The other nodes have optional ones."""
    for prompt in ("", " \n\u3000\t"):
        words = refused(refusing, emulator, one_node(refusing, "HiDreamAPIImageToImage", prompt=prompt))
        assert "prompt is empty" in words


def test_primitive_strings_reach_the_service(strict: ComfyUI, emulator: Emulator) -> None:
    graph = one_node(strict, "HiDreamAPIImageToImage")
    source = graph.add("PrimitiveString", value="over a wire")
    node = next(node for node in graph.prompt.values() if node["class_type"] == "HiDreamAPIImageToImage")
    node["inputs"]["prompt"] = source[0]
    strict.run(graph.prompt)
    assert submits(emulator)[0].body["prompt"] == "over a wire"


@pytest.mark.parametrize("class_type", REMOTE)
def test_an_unknown_profile_is_explained(refusing: ComfyUI, emulator: Emulator, class_type: str) -> None:
    extra = {"task_id": "some-task"} if class_type == "RemoteTaskResult" else {}
    words = refused(refusing, emulator, one_node(refusing, class_type, profile="studio", **extra))
    for named in ("profile", "studio", "default", "sandbox", "配置"):
        assert named in words, words
    for value in some('"studio"', "null", "5", "[]"):
        graph = linked(refusing, class_type, "profile", value)
        next(node for node in graph.prompt.values() if node["class_type"] == class_type)["inputs"].update(extra)
        words = refused(refusing, emulator, graph, "ConfigurationError")
        assert "sandbox" in words


# ---- pictures that are none

IMAGE_NODES = [class_type for class_type, paid in PAID.items() if paid.image]


@pytest.mark.parametrize("class_type", IMAGE_NODES)
@thinned(
    ("shape", "value", "named"),
    [
        ([0, 64, 48, 3], 0.5, "(0, 64, 48, 3)"),
        ([1, 0, 48, 3], 0.5, "(1, 0, 48, 3)"),
        ([1, 64, 48, 2], 0.5, "(1, 64, 48, 2)"),
        ([64, 48], 0.5, "(64, 48)"),
        ([1, 1, 64, 48, 3], 0.5, "(1, 1, 64, 48, 3)"),
        ([1, 64, 48, 3], math.nan, "NaN"),
    ],
    kept=(0, 3, 5),
)
def test_an_odd_image_is_refused(
    refusing: ComfyUI, emulator: Emulator, class_type: str, shape: list[int], value: float, named: str
) -> None:
    graph = Graph(refusing)
    odd = graph.add("TestOddImage", shape=json.dumps(shape), value=str(value))
    wires = {PAID[class_type].image: odd[0]}
    if PAID[class_type].needs_mask:
        wires["mask"] = graph.add("SolidMask", value=1.0, width=48, height=64)[0]
    graph.save(graph.add(class_type, **wires)[0])
    words = refused(refusing, emulator, graph)
    assert named in words, words


@pytest.mark.parametrize(
    ("shape", "value", "named"),
    [
        ([64], 1.0, "(64,)"),
        ([1, 1, 64, 48], 1.0, "(1, 1, 64, 48)"),
        ([1, 64, 48], math.nan, "The mask contains"),
    ],
)
def test_an_odd_mask_is_refused(
    refusing: ComfyUI, emulator: Emulator, shape: list[int], value: float, named: str
) -> None:
    graph = Graph(refusing)
    odd = graph.add("TestOddImage", shape=json.dumps(shape), value=str(value))
    image = graph.image(photo(48, 64))
    graph.save(graph.add("VolcengineAPIOutpaintCanvas", image=image, mask=odd[1])[0])
    words = refused(refusing, emulator, graph)
    assert named in words
    assert "mask" in words.lower(), words


@pytest.mark.parametrize(("value", "level"), [(7.0, 255), (-1.0, 0), (math.inf, 255)])
def test_values_beyond_white_and_black_are_clipped(strict: ComfyUI, value: float, level: int) -> None:
    graph = Graph(strict)
    odd = graph.add("TestOddImage", shape="[1, 64, 64, 1]", value=str(value))
    node = graph.add("HiDreamAPIOutpaint", image=odd[0], canvas_width=128, canvas_height=128)
    saved = graph.save(node[0])
    (picture,) = strict.images(strict.run(graph.prompt), saved)
    assert picture.crop((32, 32, 96, 96)).getextrema() == ((level, level),) * 3
    assert picture.mode == "RGB"


def test_a_mask_without_a_batch_is_taken(strict: ComfyUI) -> None:
    graph = Graph(strict)
    odd = graph.add("TestOddImage", shape="[64, 48]", value="1")
    node = graph.add("VolcengineAPIOutpaintCanvas", image=graph.image(photo(48, 64)), mask=odd[1])
    graph.save(node[0])
    saved = graph.save_mask(node[1])
    assert [mask.size for mask in strict.images(strict.run(graph.prompt), saved)] == [(48, 64)]


def test_a_result_beyond_the_memory_is_refused_before_paying(refusing: ComfyUI, emulator: Emulator) -> None:
    """Four times 2048² is 67 megapixels, a gigabyte each; the originals take no memory before they are looked at."""
    enough = psutil.virtual_memory().available / (8192 * 8192 * 15)
    count = math.ceil(enough) + 4
    if count > 80:
        pytest.skip(f"the {count} originals alone would take {count * 12} MB here")
    graph = Graph(refusing)
    odd = graph.add("TestOddImage", shape=json.dumps([count, 2048, 2048, 3]), value="0.5")
    graph.save(graph.add("HiDreamAPIUpscale", image=odd[0], upscale_ratio=4)[0])
    words = refused(refusing, emulator, graph)
    assert f"{count} × 8192×8192" in words
    assert "GB" in words


def test_an_animated_picture_is_a_batch(strict: ComfyUI, emulator: Emulator) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    path = strict.base / "input" / "animated.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    graph = Graph(strict)
    loaded = graph.add("LoadImage", image="animated.webp")
    saved = graph.save(graph.add(UPSCALE, image=loaded[0])[0])
    pictures = strict.images(strict.run(graph.prompt), saved)
    assert [picture.getpixel((5, 5)) for picture in pictures] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_after_all_that_the_server_still_works(strict: ComfyUI) -> None:
    assert len(strict.run(one_node(strict, UPSCALE).prompt).files()) == 1
    until(strict.is_running, "ComfyUI runs")

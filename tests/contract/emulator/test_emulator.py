"""The emulator keeps to the vendors' pages, and its faults do what they say. Real sockets, no sleeping to be safe."""

import base64
import contextlib
import gzip
import hashlib
import hmac
import http.client
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image, ImageOps

import emulator as emulator_package
from emulator import Credentials, Emulator, Recorded, endpoints
from emulator.extension import extend, fill
from emulator.message import Call
from emulator.pace import Span
from emulator.pictures import odd_pictures
from emulator.pictures.images import Loader
from emulator.recording import Recording
from emulator.services.endpoint import ASYNC, Draw, ImagesBody, VolcengineEndpoint
from emulator.services.signature import SignatureError, canonical_request, sign, verify

OUTPAINT = "/api-pub/gw/v3/image/outpainting/async"
IMG2IMG = "/api-pub/gw/v2/image/img2img/async"
UPSCALE = "/api-pub/gw/v3/image/image_upscaler/async"
VARIATION = "/api-pub/ec/v3/image/variation/async"
TEMPLATES = "/api-pub/ec/v3/template/variation"
TOKEN = "/prod-api/user/apikey2token"
QUERY = {"Action": "CVProcess", "Version": "2022-08-31"}
SUBMIT_QUERY = {**QUERY, "Action": "CVSync2AsyncSubmitTask"}
RESULT_QUERY = {**QUERY, "Action": "CVSync2AsyncGetResult"}
KEYS = Credentials()
DEADLINE = 10.0

HTTP = requests.Session()
HTTP.trust_env = False


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with some noise: every pixel tells its place."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    noise = np.random.default_rng(seed).integers(0, 12, base.shape)
    return Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return base64.b64encode(buffer.getvalue()).decode()


SMALL = encoded(photo(64, 48))
PORTRAIT = encoded(photo(96, 128))
BODIES: dict[str, dict[str, Any]] = {
    OUTPAINT: {"image": SMALL, "x_offset": 30, "y_offset": 40, "version": "v1", "resolution": "160*128"},
    IMG2IMG: {"image": SMALL, "prompt": "a storm", "aspect_ratio": "16:9", "img_count": 1},
    UPSCALE: {"image": SMALL, "upsale_ratio": 2, "version": "v1"},
    VARIATION: {"image": PORTRAIT, "template_id": 20},
}
SIDES = {"req_key": "i2i_outpainting", "binary_data_base64": [SMALL], "top": 0.5, "bottom": 0.25, "left": 0.1,
         "right": 1.0, "scale": 7.0, "steps": 30, "strength": 0.8, "seed": 5, "max_width": 1920, "max_height": 1920}


def mask_of(width: int, height: int, keep: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, keep)
    return mask


def canvas_body(mask: Image.Image | None = None, **changes: Any) -> dict[str, Any]:
    canvas = Image.new("RGB", (120, 100), "white")
    canvas.paste(photo(64, 48), (20, 30))
    mask = mask or mask_of(120, 100, (20, 30, 84, 78))
    images = [encoded(canvas), encoded(mask)]
    return {"req_key": "i2i_outpainting", "binary_data_base64": images, "seed": -1, **changes}


def bearer(token: str = KEYS.hidream_token, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def submit(emulator: Emulator, path: str, changes: dict[str, Any] | None = None,
           headers: dict[str, str] | None = None) -> requests.Response:
    body = {**BODIES[path], **(changes or {})}
    return HTTP.post(emulator.url + path, json=body, headers=headers or bearer(), timeout=DEADLINE)


def task_of(response: requests.Response) -> str:
    answer = response.json()
    assert (response.status_code, answer["code"]) == (200, 0), answer
    return str(answer["result"]["task_id"])


def poll(emulator: Emulator, path: str, task_id: str) -> list[dict[str, Any]]:
    response = HTTP.get(f"{emulator.url}{path}/results", params={"task_id": task_id, "request_id": "r"},
                        headers=bearer(), timeout=DEADLINE)
    results = response.json()["result"]["sub_task_results"]
    assert isinstance(results, list)
    return results


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("the condition did not become true in time")


def finished(emulator: Emulator, path: str, task_id: str) -> list[dict[str, Any]]:
    def ended() -> list[dict[str, Any]]:
        results = poll(emulator, path, task_id)
        return results if all(result["task_status"] not in (0, 2) for result in results) else []

    results = until(ended)
    assert isinstance(results, list)
    return results


def download(url: str) -> Image.Image:
    response = HTTP.get(url, timeout=DEADLINE)
    assert response.status_code == 200
    assert int(response.headers["Content-Length"]) == len(response.content)
    return opened(response.content)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def address_of_a_picture(emulator: Emulator) -> str:
    (result,) = finished(emulator, UPSCALE, task_of(submit(emulator, UPSCALE)))
    return str(result["image"])


def pictures(emulator: Emulator, path: str, changes: dict[str, Any] | None = None) -> list[Image.Image]:
    results = finished(emulator, path, task_of(submit(emulator, path, changes)))
    return [download(result["image"]) for result in results]


def gateway(emulator: Emulator, body: Any, headers: dict[str, str] | None = None,
            query: dict[str, str] | None = None) -> requests.Response:
    return HTTP.post(f"{emulator.url}/volcv/v1", params=query or QUERY, json=body,
                     headers=headers or bearer(KEYS.gateway_api_key), timeout=DEADLINE)


def volcengine_picture(response: requests.Response) -> Image.Image:
    answer = response.json()
    assert (response.status_code, answer["code"], answer["status"]) == (200, 10000, 10000), answer
    assert answer["data"]["algorithm_base_resp"] == {"status_code": 0, "status_message": "Success"}
    assert answer["data"]["image_urls"] is None
    (text,) = answer["data"]["binary_data_base64"]
    return opened(base64.b64decode(text, validate=True))


def pixels(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(image.convert("RGB"))


# --- HiDream: good cases -----------------------------------------------------------------------------------------


def test_outpaint_keeps_the_original_byte_for_byte(emulator: Emulator) -> None:
    (picture,) = pictures(emulator, OUTPAINT)
    assert picture.size == (160, 128)
    assert np.array_equal(pixels(picture)[40:88, 30:94], pixels(photo(64, 48)))


def test_outpaint_defaults_to_the_whole_canvas_and_the_corner(emulator: Emulator) -> None:
    body = {"image": SMALL}
    response = HTTP.post(emulator.url + OUTPAINT, json=body, headers=bearer(), timeout=DEADLINE)
    (result,) = finished(emulator, OUTPAINT, task_of(response))
    picture = download(result["image"])
    assert picture.size == (1024, 1024)
    assert np.array_equal(pixels(picture)[:48, :64], pixels(photo(64, 48)))


@pytest.mark.parametrize(("ratio", "size"), [
    ("9:16", (576, 1024)), ("2:3", (672, 1008)), ("3:4", (768, 1024)), ("1:1", (1024, 1024)),
    ("4:3", (1024, 768)), ("3:2", (1008, 672)), ("16:9", (1024, 576)),
])
def test_img2img_makes_the_seven_ratios(emulator: Emulator, ratio: str, size: tuple[int, int]) -> None:
    assert [picture.size for picture in pictures(emulator, IMG2IMG, {"aspect_ratio": ratio})] == [size]


def test_img2img_pictures_of_a_set_and_of_other_prompts_differ(emulator: Emulator) -> None:
    made = pictures(emulator, IMG2IMG, {"img_count": 4}) + pictures(emulator, IMG2IMG, {"prompt": "calm"})
    assert len({picture.tobytes() for picture in made}) == 5


def test_img2img_blends_a_list_of_references(emulator: Emulator) -> None:
    black, white = (encoded(Image.new("RGB", (32, 32), colour)) for colour in ("black", "white"))
    (both,) = pictures(emulator, IMG2IMG, {"image": [black, white], "img_count": 1})
    assert both.size == (1024, 576)
    assert emulator.requests[0].body["image"][0].startswith("<image 32x32 RGB sha256:")


@pytest.mark.parametrize("ratio", [2, 4])
def test_upscale(emulator: Emulator, ratio: int) -> None:
    (picture,) = pictures(emulator, UPSCALE, {"upsale_ratio": ratio})
    assert picture.size == (64 * ratio, 48 * ratio)
    expected = pixels(photo(64, 48).resize(picture.size, Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(pixels(picture) - expected).mean() < 8


def test_variation_returns_four_pictures_of_two_sizes(emulator: Emulator) -> None:
    sizes = [picture.size for picture in pictures(emulator, VARIATION)]
    assert len(sizes) == 4
    assert len(set(sizes)) == 2
    assert all(width * 4 == height * 3 for width, height in sizes)
    assert emulator.billed == 4


def test_a_jpeg_and_the_url_of_an_own_result_are_taken(emulator: Emulator) -> None:
    task = task_of(submit(emulator, UPSCALE, {"image": encoded(photo(64, 48), "JPEG", quality=95)}))
    (result,) = finished(emulator, UPSCALE, task)
    (larger,) = pictures(emulator, UPSCALE, {"image": result["image"]})
    assert larger.size == (256, 192)


def test_the_optional_headers_and_fields_of_the_pages_are_taken(emulator: Emulator) -> None:
    more = {"X-accept-language": "en", "API-User-ID": "someone"}
    fields = {"request_id": "abc", "notify_url": "https://example.org/done?for=1"}
    for path, names in ((OUTPAINT, more), (UPSCALE, more), (IMG2IMG, {"API-User-ID": "someone"}), (VARIATION, {})):
        response = submit(emulator, path, fields, bearer(**names))
        task_of(response)
        assert response.json()["request_id"] == "abc"


def test_the_state_goes_from_queued_to_processing_to_done() -> None:
    with Emulator(latency=1.5) as emulator:
        task = task_of(submit(emulator, IMG2IMG, {"img_count": 3}))
        seen: list[list[dict[str, Any]]] = []

        def done() -> bool:
            seen.append(poll(emulator, IMG2IMG, task))
            return all(result["task_status"] == 1 for result in seen[-1])

        until(done)
    for index in range(3):
        states = [results[index]["task_status"] for results in seen]
        assert [state for state, before in zip(states, [None, *states], strict=False) if state != before] == [0, 2, 1]
        completions = [results[index]["task_completion"] for results in seen]
        assert completions == sorted(completions)
        assert all(("image" in results[index]) == (results[index]["task_status"] == 1) for results in seen)
    # One after another, not all at once.
    assert any({1, 2} <= {result["task_status"] for result in results} for results in seen)


def test_a_repeated_request_id_is_not_deduplicated(emulator: Emulator) -> None:
    tasks = {task_of(submit(emulator, UPSCALE, {"request_id": "same"})) for _ in range(2)}
    assert len(tasks) == 2
    assert [record.request_id for record in emulator.requests] == ["same", "same"]
    assert emulator.billed == 2


# --- HiDream: strictness and authorization -----------------------------------------------------------------------

NOISE = base64.b64encode(bytes(range(256))).decode()
CUT_PNG = encoded(photo(64, 48))[:4000]


@pytest.mark.parametrize(("path", "changes"), [
    (OUTPAINT, {"prompt": "no such key"}),
    (OUTPAINT, {"image": None}),
    (OUTPAINT, {"image": "data:image/png;base64," + SMALL}),
    (OUTPAINT, {"image": "not base64!"}),
    (OUTPAINT, {"image": SMALL[:40] + "\n" + SMALL[40:]}),
    (OUTPAINT, {"image": NOISE}),
    (OUTPAINT, {"image": CUT_PNG}),
    (OUTPAINT, {"image": ""}),
    (OUTPAINT, {"image": [SMALL]}),
    (OUTPAINT, {"image": "https://example.org/a.png"}),
    (OUTPAINT, {"x_offset": -1}),
    (OUTPAINT, {"x_offset": "30"}),
    (OUTPAINT, {"x_offset": 30.0}),
    (OUTPAINT, {"x_offset": True}),
    (OUTPAINT, {"x_offset": 97}),
    (OUTPAINT, {"y_offset": 81}),
    (OUTPAINT, {"version": "v2"}),
    (OUTPAINT, {"resolution": "160x128"}),
    (OUTPAINT, {"resolution": "160*128\n"}),
    (OUTPAINT, {"resolution": "1025*1024"}),
    (OUTPAINT, {"resolution": [160, 128]}),
    (OUTPAINT, {"request_id": 7}),
    (OUTPAINT, {"notify_url": 7}),
    (UPSCALE, {"notify_url": "http://example.org/"}),
    (IMG2IMG, {"notify_url": "example.org"}),
    (VARIATION, {"notify_url": ""}),
    (IMG2IMG, {"aspect_ratio": "21:9"}),
    (IMG2IMG, {"img_count": 0}),
    (IMG2IMG, {"img_count": 5}),
    (IMG2IMG, {"img_count": True}),
    (IMG2IMG, {"image": []}),
    (IMG2IMG, {"version": "v1"}),
    (IMG2IMG, {"resolution": "1024*1024"}),
    (UPSCALE, {"upsale_ratio": 3}),
    (UPSCALE, {"upsale_ratio": "2"}),
    (UPSCALE, {"upscale_ratio": 2}),
    (UPSCALE, {"version": 1}),
    (VARIATION, {"template_id": 0}),
    (VARIATION, {"template_id": 76}),
    (VARIATION, {"template_id": "20"}),
    (VARIATION, {"image": encoded(photo(100, 128))}),
    (VARIATION, {"image": encoded(Image.new("RGB", (1539, 2052)))}),
    (VARIATION, {"person": PORTRAIT}),
    (VARIATION, {"version": "v1"}),
])
def test_hidream_refuses(emulator: Emulator, path: str, changes: dict[str, Any]) -> None:
    response = submit(emulator, path, changes)
    answer = response.json()
    assert response.status_code == 200
    assert isinstance(answer["code"], int)
    assert answer["code"] != 0
    assert answer["message"]
    assert "result" not in answer
    assert len(response.content) < 1000, "an image must not come back in the message"
    assert emulator.billed == 0
    assert not emulator.requests[0].accepted


@pytest.mark.parametrize(("path", "missing"), [
    (OUTPAINT, "image"), (IMG2IMG, "image"), (UPSCALE, "upsale_ratio"), (VARIATION, "template_id"),
])
def test_hidream_refuses_a_missing_field(emulator: Emulator, path: str, missing: str) -> None:
    body = {key: value for key, value in BODIES[path].items() if key != missing}
    answer = HTTP.post(emulator.url + path, json=body, headers=bearer(), timeout=DEADLINE).json()
    assert answer["code"] != 0
    assert missing in answer["message"]


@pytest.mark.parametrize(("path", "name"), [
    (VARIATION, "API-User-ID"), (VARIATION, "X-accept-language"), (IMG2IMG, "X-accept-language"),
    (OUTPAINT, "X-Something"), (UPSCALE, "Cookie"),
])
def test_hidream_refuses_a_header_that_the_page_does_not_list(emulator: Emulator, path: str, name: str) -> None:
    answer = submit(emulator, path, headers=bearer(**{name: "zh"})).json()
    assert answer["code"] != 0
    assert name.lower() in answer["message"]


def test_hidream_refuses_other_languages_queries_and_media_types(emulator: Emulator) -> None:
    assert submit(emulator, OUTPAINT, headers=bearer(**{"X-accept-language": "fr"})).json()["code"] != 0
    url = emulator.url + UPSCALE
    body = json.dumps(BODIES[UPSCALE])
    for response in (
        HTTP.post(url, params={"a": "b"}, json=BODIES[UPSCALE], headers=bearer(), timeout=DEADLINE),
        HTTP.post(url, data=body, headers=bearer(**{"Content-Type": "text/plain"}), timeout=DEADLINE),
        HTTP.post(url, data="[1]", headers=bearer(**{"Content-Type": "application/json"}), timeout=DEADLINE),
        HTTP.post(url, data="{", headers=bearer(**{"Content-Type": "application/json"}), timeout=DEADLINE),
    ):
        assert (response.status_code, response.json()["code"] != 0) == (200, True)


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"Authorization": KEYS.hidream_token}, bearer("ключ")])
def test_hidream_wants_the_token(emulator: Emulator, headers: dict[str, str]) -> None:
    headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    for response in (
        HTTP.post(emulator.url + UPSCALE, json=BODIES[UPSCALE], headers=headers, timeout=DEADLINE),
        HTTP.get(f"{emulator.url}{UPSCALE}/results?task_id=x", headers=headers, timeout=DEADLINE),
    ):
        assert response.status_code == 401
        assert response.json()["code"] == 401
    assert emulator.billed == 0


def test_result_query_is_strict(emulator: Emulator) -> None:
    task = task_of(submit(emulator, UPSCALE))

    def code(path: str, query: dict[str, str], **headers: str) -> int:
        answer = HTTP.get(f"{emulator.url}{path}/results", params=query, headers=bearer(**headers), timeout=DEADLINE)
        return int(answer.json()["code"])

    assert code(UPSCALE, {"task_id": task}) == 0
    assert code(UPSCALE, {}) != 0
    assert code(UPSCALE, {"task_id": task, "id": "x"}) != 0
    assert code(OUTPAINT, {"task_id": task}) != 0
    assert code(UPSCALE, {"task_id": task}, **{"API-User-ID": "x"}) != 0


def test_an_unknown_task_of_hidream_is_told_from_a_bad_query(emulator: Emulator) -> None:
    task = task_of(submit(emulator, UPSCALE))

    def answer(path: str, **query: str) -> dict[str, Any]:
        response = HTTP.get(f"{emulator.url}{path}/results", params=query, headers=bearer(), timeout=DEADLINE)
        assert response.status_code == 200
        return dict(response.json())

    for unknown in (answer(UPSCALE, task_id="unknown", request_id="r"), answer(OUTPAINT, task_id=task, request_id="r")):
        assert unknown == {"code": 1001, "message": "task not found", "request_id": "r"}
    for bad in (answer(UPSCALE), answer(UPSCALE, task_id=""), answer(UPSCALE, task_id=task, id="x")):
        assert bad["code"] == 1001
        assert bad["message"] != "task not found"


def test_api_key_is_exchanged_for_tokens_that_can_expire(emulator: Emulator) -> None:
    def exchange(key: str) -> requests.Response:
        return HTTP.get(emulator.url + TOKEN, headers={"Api-Key": key}, timeout=DEADLINE)

    first, second = (exchange(KEYS.hidream_api_key).json()["result"]["token"] for _ in range(2))
    assert first != second
    assert submit(emulator, UPSCALE, headers=bearer(first)).status_code == 200
    emulator.expire_tokens()
    assert submit(emulator, UPSCALE, headers=bearer(second)).status_code == 401
    assert submit(emulator, UPSCALE).status_code == 200
    assert exchange("wrong").status_code == 401
    assert HTTP.get(emulator.url + TOKEN, timeout=DEADLINE).status_code == 401


def test_a_result_file_takes_no_key(emulator: Emulator) -> None:
    (result,) = finished(emulator, UPSCALE, task_of(submit(emulator, UPSCALE)))
    assert HTTP.get(result["image"], headers=bearer(), timeout=DEADLINE).status_code == 400
    assert HTTP.get(f"{emulator.url}/files/guessed.png", timeout=DEADLINE).status_code == 404


def test_a_result_link_may_have_a_query(emulator: Emulator) -> None:
    """As the storage of the services takes a signature, and a test may add one."""
    (result,) = finished(emulator, UPSCALE, task_of(submit(emulator, UPSCALE)))
    assert HTTP.get(f"{result['image']}?X-Tos-Signature=any", timeout=DEADLINE).status_code == 200


# --- HiDream: templates --------------------------------------------------------------------------------------------


def templates(emulator: Emulator, headers: dict[str, str] | None = None, **query: Any) -> dict[str, Any]:
    response = HTTP.get(emulator.url + TEMPLATES, params=query, headers=headers or bearer(), timeout=DEADLINE)
    answer = response.json()
    assert response.status_code == (200 if answer["code"] != 401 else 401)
    return dict(answer)


@pytest.mark.parametrize("first", [0, 1])
def test_the_templates_come_in_pages_whose_first_is_the_tests_choice(first: int) -> None:
    with Emulator(first_template_page=first) as emulator:
        pages = [templates(emulator, gender="woman", page_index=first + page)["result"] for page in range(4)]
        assert templates(emulator, gender="woman")["result"] == pages[0]
    assert [len(page["templates"]) for page in pages] == [20, 20, 5, 0]
    assert all((page["total_count"], page["total_page"]) == (45, 3) for page in pages)
    listed = [entry["id"] for page in pages for entry in page["templates"]]
    assert len(set(listed)) == 45


def test_templates_of_both_genders_have_pictures_and_can_be_bought(emulator: Emulator) -> None:
    women, men = (templates(emulator, gender=gender, page_size=100)["result"] for gender in ("woman", "man"))
    assert (women["total_count"], men["total_count"], men["total_page"]) == (45, 30, 1)
    assert {entry["gender"] for entry in men["templates"]} == {"man"}
    assert not {entry["id"] for entry in women["templates"]} & {entry["id"] for entry in men["templates"]}
    last = men["templates"][-1]
    assert download(last["show_image"]).size == (300, 400)
    assert HTTP.get(last["show_image"], headers=bearer(), timeout=DEADLINE).status_code == 400
    assert submit(emulator, VARIATION, {"template_id": last["id"]}).json()["code"] == 0
    assert [record.phase for record in emulator.requests if record.endpoint == "templates"] == [
        "list", "list", "image", "image"]


@pytest.mark.parametrize("query", [
    {}, {"gender": "men"}, {"gender": "man", "page_size": 0}, {"gender": "man", "page_size": 101},
    {"gender": "man", "page_index": 0}, {"gender": "man", "page_index": -1}, {"gender": "man", "page_index": "x"},
    {"gender": "man", "page_index": ""}, {"gender": "man", "page": 1}, {"gender": ["man", "woman"]},
])
def test_the_template_list_is_strict(emulator: Emulator, query: dict[str, Any]) -> None:
    assert templates(emulator, **query)["code"] == 1001


def test_the_template_list_wants_the_token_and_no_other_header(emulator: Emulator) -> None:
    assert templates(emulator, bearer("wrong"), gender="man")["code"] == 401
    assert templates(emulator, bearer(**{"X-accept-language": "en"}), gender="man")["code"] == 1001
    assert HTTP.get(f"{emulator.url}/template-pictures/76.jpg", timeout=DEADLINE).status_code == 404


def test_template_faults(emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "templates", "phase": "list", "do": {"empty": True}})
    emulator.add_fault({"endpoint": "templates", "phase": "list", "do": {"url": "https://example.org/x"}})
    emulator.add_fault({"endpoint": "templates", "phase": "image", "do": {"corrupt": True}})
    assert templates(emulator, gender="man")["result"]["templates"] == []
    assert templates(emulator, gender="man")["result"]["templates"][0]["show_image"] == "https://example.org/x"
    url = templates(emulator, gender="man")["result"]["templates"][0]["show_image"]
    data = HTTP.get(url, timeout=DEADLINE).content
    with pytest.raises(OSError, match=r"."):
        opened(data)
    assert download(url).size == (300, 400)


# --- Volcengine ----------------------------------------------------------------------------------------------------


def v4_headers(url: str, body: bytes, *, access_key: str = KEYS.access_key_id, secret: str = KEYS.secret_access_key,
               when: datetime | None = None, region: str = "cn-north-1", with_type: bool = True,
               action: str = "CVProcess") -> dict[str, str]:
    """Signed independently of the emulator's own code."""
    date = (when or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": url.split("/")[2], "x-content-sha256": digest, "x-date": date}
    if with_type:
        signed["content-type"] = "application/json"
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = f"POST\n/\nAction={action}&Version=2022-08-31\n{lines}\n{names}\n{digest}"
    scope = f"{date[:8]}/{region}/cv/request"
    text = f"HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json", "X-Date": date, "X-Content-Sha256": digest,
        "Authorization": f"HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}",
    }


def signed_post(emulator: Emulator, body: bytes, headers: dict[str, str], **query: str) -> requests.Response:
    return HTTP.post(f"{emulator.url}/", params={**QUERY, **query}, data=body, headers=headers, timeout=DEADLINE)


@pytest.mark.parametrize("with_type", [True, False])
def test_a_signed_request_is_answered(emulator: Emulator, with_type: bool) -> None:
    body = json.dumps(SIDES).encode()
    response = signed_post(emulator, body, v4_headers(emulator.url, body, with_type=with_type))
    assert volcengine_picture(response).size == (134, 84)


@pytest.mark.parametrize(("options", "code"), [
    ({"secret": "wrong"}, "SignatureDoesNotMatch"),
    ({"access_key": "AKLTother"}, "InvalidAccessKey"),
    ({"region": "cn-beijing"}, "InvalidCredential"),
    ({"when": datetime.now(timezone.utc) - timedelta(hours=1)}, "InvalidTimestamp"),
    ({"when": datetime.now(timezone.utc) + timedelta(hours=1)}, "InvalidTimestamp"),
])
def test_a_wrong_signature_is_refused(emulator: Emulator, options: dict[str, Any], code: str) -> None:
    body = json.dumps(SIDES).encode()
    response = signed_post(emulator, body, v4_headers(emulator.url, body, **options))
    assert response.status_code in (401, 403)
    answer = response.json()
    assert answer["ResponseMetadata"]["Error"]["Code"] == code
    assert answer["ResponseMetadata"]["RequestId"]
    assert "code" not in answer
    assert emulator.billed == 0


def test_the_body_and_the_query_are_under_the_signature(emulator: Emulator) -> None:
    body = json.dumps(SIDES).encode()
    headers = v4_headers(emulator.url, body)
    other_hash = {**headers, "X-Content-Sha256": hashlib.sha256(body + b" ").hexdigest()}
    for response in (
        signed_post(emulator, body + b" ", headers),
        signed_post(emulator, body + b" ", other_hash),
        signed_post(emulator, body, headers, Version="2020-08-26"),
        signed_post(emulator, body, {"Content-Type": "application/json"}),
        signed_post(emulator, body, bearer(KEYS.gateway_api_key, **{"Content-Type": "application/json"})),
    ):
        assert response.status_code == 401
        assert response.json()["ResponseMetadata"]["Error"]["Code"] in ("SignatureDoesNotMatch", "InvalidAuthorization")


def test_the_published_test_vector() -> None:
    body, date = b'{"req_key": "i2i_outpainting"}', "20260102T030405Z"
    digest = hashlib.sha256(body).hexdigest()
    assert digest == "4d29218a17a939c7b172eb384097eece3cbc23eee0b8de1705d8adf052321824"
    headers = {"content-type": "application/json", "host": "visual.volcengineapi.com", "x-content-sha256": digest,
               "x-date": date}
    canonical = canonical_request("POST", "/", QUERY.items(), headers, headers, digest)
    assert hashlib.sha256(canonical.encode()).hexdigest() == (
        "b25bf2313d64f958e72508659ea916bb662c9a857dd2f82b96f7b009b2409d86")
    signature = sign("testSecretKey==", date, canonical)
    assert signature == "baed40d0e8a5e24341f60adac526ce1856682fcbd90d446b02353d33c6bc2f78"
    headers["authorization"] = (f"HMAC-SHA256 Credential=AKLTtestAccessKey/20260102/cn-north-1/cv/request, "
                                f"SignedHeaders=content-type;host;x-content-sha256;x-date, Signature={signature}")
    call = Call("POST", "/", tuple(QUERY.items()), headers, body)
    verify(call, "AKLTtestAccessKey", "testSecretKey==", datetime(2026, 1, 2, 3, 14, tzinfo=timezone.utc))
    with pytest.raises(SignatureError, match="15 minutes"):
        verify(call, "AKLTtestAccessKey", "testSecretKey==", datetime(2026, 1, 2, 3, 20, tzinfo=timezone.utc))


def test_the_official_sdk_signs_what_the_emulator_accepts(emulator: Emulator) -> None:
    signer = pytest.importorskip("volcengine.auth.SignerV4").SignerV4
    request = pytest.importorskip("volcengine.base.Request").Request()
    credentials = pytest.importorskip("volcengine.Credentials").Credentials
    body = json.dumps(SIDES)
    request.set_method("POST")
    request.set_path("/")
    request.set_query(dict(QUERY))
    request.set_headers({"Content-Type": "application/json", "Host": emulator.url.removeprefix("http://")})
    request.set_body(body)
    signer.sign(request, credentials(KEYS.access_key_id, KEYS.secret_access_key, "cv", "cn-north-1"))
    response = signed_post(emulator, body.encode(), request.headers)
    assert volcengine_picture(response).size == (134, 84)


def test_gateway_sides(emulator: Emulator) -> None:
    picture = volcengine_picture(gateway(emulator, {**SIDES, "prompt": "sea", "custom_prompt": "sea"}))
    assert picture.size == (134, 84)
    assert np.array_equal(pixels(picture)[24:72, 6:70], pixels(photo(64, 48)))
    assert emulator.billed == 1


def test_sides_are_scaled_down_to_fit(emulator: Emulator) -> None:
    picture = volcengine_picture(gateway(emulator, {**SIDES, "max_width": 100, "max_height": 1000}))
    assert picture.size == (100, 63)


def test_a_seed_changes_new_pixels_only(emulator: Emulator) -> None:
    first, again, other = (pixels(volcengine_picture(gateway(emulator, {**SIDES, "seed": seed}))) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first[24:72, 6:70], other[24:72, 6:70])


def test_gateway_canvas(emulator: Emulator) -> None:
    picture = volcengine_picture(gateway(emulator, canvas_body()))
    assert picture.size == (120, 100)
    assert np.array_equal(pixels(picture)[30:78, 20:84], pixels(photo(64, 48)))
    assert (pixels(picture)[:10] < 250).mean() > 0.5, "the white of the canvas is still there"


def test_canvas_with_any_mask_keeps_what_is_black(emulator: Emulator) -> None:
    mask = mask_of(120, 100, (20, 30, 84, 78))
    mask.paste(255, (40, 40, 50, 50))
    picture = volcengine_picture(gateway(emulator, canvas_body(mask)))
    keep = np.asarray(mask) == 0
    canvas = np.full((100, 120, 3), 255, np.uint8)
    canvas[30:78, 20:84] = pixels(photo(64, 48))
    assert np.array_equal(pixels(picture)[keep], canvas[keep])
    smaller = volcengine_picture(gateway(emulator, canvas_body(mask, max_width=64)))
    assert smaller.size == (64, 53)


def test_return_url(emulator: Emulator) -> None:
    data = gateway(emulator, {**SIDES, "return_url": True}).json()["data"]
    assert data["binary_data_base64"] == []
    assert download(data["image_urls"][0]).size == (134, 84)


@pytest.mark.parametrize("body", [
    {**SIDES, "req_key": "i2i_inpainting"},
    {**SIDES, "unknown": 1},
    {**SIDES, "scale": 0.5},
    {**SIDES, "scale": 20.5},
    {**SIDES, "scale": "7"},
    {**SIDES, "scale": True},
    {**SIDES, "steps": 0},
    {**SIDES, "steps": 101},
    {**SIDES, "steps": 30.0},
    {**SIDES, "strength": 0.05},
    {**SIDES, "strength": 1.1},
    {**SIDES, "seed": -2},
    {**SIDES, "seed": 1.5},
    {**SIDES, "top": 0},
    {**SIDES, "top": 1.01},
    {**SIDES, "max_width": 63},
    {**SIDES, "max_height": 4097},
    {**SIDES, "return_url": 1},
    {**SIDES, "prompt": "a", "custom_prompt": "b"},
    {**SIDES, "binary_data_base64": []},
    {**SIDES, "binary_data_base64": SMALL},
    {**SIDES, "binary_data_base64": ["data:image/png;base64," + SMALL]},
    {**SIDES, "binary_data_base64": [NOISE]},
    {**SIDES, "binary_data_base64": [SMALL, SMALL, SMALL]},
    {**SIDES, "logo_info": {"text": "x"}},
    {"req_key": "i2i_outpainting", "binary_data_base64": [SMALL]},
    [SIDES],
    canvas_body(top=0.1),
    canvas_body(mask_of(121, 100, (20, 30, 84, 78))),
    canvas_body(Image.new("L", (120, 100), 0)),
    canvas_body(Image.new("L", (120, 100), 128)),
    canvas_body(Image.new("RGB", (120, 100), "white")),
    canvas_body(Image.new("1", (120, 100), 1)),
])
@pytest.mark.parametrize("query", [QUERY, SUBMIT_QUERY], ids=["sync", "async"])
def test_volcengine_refuses(emulator: Emulator, body: Any, query: dict[str, str]) -> None:
    response = gateway(emulator, body, query=query)
    answer = response.json()
    assert response.status_code == 400
    assert answer["code"] == answer["status"] != 10000
    assert answer["data"] is None
    assert answer["message"]
    assert len(response.content) < 1000
    assert emulator.billed == 0
    assert emulator.accepted == []


def test_a_mask_of_jpeg_or_few_bits_is_refused(emulator: Emulator) -> None:
    mask = mask_of(120, 100, (20, 30, 84, 78))
    for text in (encoded(mask, "JPEG"), encoded(mask.convert("P")), encoded(mask.convert("LA"))):
        body = canvas_body()
        body["binary_data_base64"][1] = text
        assert gateway(emulator, body).status_code == 400


def test_the_gateway_checks_key_query_and_headers(emulator: Emulator) -> None:
    denied = gateway(emulator, SIDES, bearer("wrong"))
    assert denied.status_code == 401
    assert denied.json()["error"]["message"]
    assert gateway(emulator, SIDES, query={"Action": "CVProcess"}).status_code == 400
    assert gateway(emulator, SIDES, query={**QUERY, "a": "b"}).status_code == 400
    assert gateway(emulator, SIDES, query={**QUERY, "Version": "2020-08-26"}).status_code == 400
    assert gateway(emulator, SIDES, bearer(KEYS.gateway_api_key, **{"X-Other": "1"})).status_code == 400


# --- Volcengine, asynchronous ----------------------------------------------------------------------------------------


def signed(emulator: Emulator, body: Any, query: dict[str, str]) -> requests.Response:
    data = json.dumps(body).encode()
    return signed_post(emulator, data, v4_headers(emulator.url, data, action=query["Action"]), **query)


def through_gateway(emulator: Emulator, body: Any, query: dict[str, str]) -> requests.Response:
    return gateway(emulator, body, query=query)


BOTH_ROUTES = pytest.mark.parametrize("send", [signed, through_gateway])


def async_submit(emulator: Emulator, send: Any = through_gateway, **changes: Any) -> str:
    response = send(emulator, {**SIDES, **changes}, SUBMIT_QUERY)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (200, 10000), answer
    return str(answer["data"]["task_id"])


def async_query(emulator: Emulator, task_id: str, send: Any = through_gateway, **more: Any) -> requests.Response:
    response = send(emulator, {"req_key": "i2i_outpainting", "task_id": task_id, **more}, RESULT_QUERY)
    assert isinstance(response, requests.Response)
    return response


def async_state(emulator: Emulator, task_id: str, send: Any = through_gateway, **more: Any) -> dict[str, Any]:
    response = async_query(emulator, task_id, send, **more)
    answer = response.json()
    assert (response.status_code, answer["code"], answer["status"]) == (200, 10000, 10000), answer
    return dict(answer["data"])


def async_done(emulator: Emulator, task_id: str, send: Any = through_gateway, **more: Any) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        data = async_state(emulator, task_id, send, **more)
        assert data["status"] in ("in_queue", "generating", "done")
        return data if data["status"] == "done" else None

    return dict(until(ended))


def async_picture(data: dict[str, Any]) -> Image.Image:
    (text,) = data["binary_data_base64"]
    return opened(base64.b64decode(text, validate=True))


@BOTH_ROUTES
def test_an_async_task_brings_the_same_picture_again_and_again(emulator: Emulator, send: Any) -> None:
    answer = send(emulator, SIDES, SUBMIT_QUERY).json()
    assert answer.keys() == {"code", "data", "message", "request_id", "status", "time_elapsed"}
    assert (answer["code"], answer["status"], answer["message"]) == (10000, 10000, "Success")
    assert answer["data"].keys() == {"task_id"}
    task = answer["data"]["task_id"]
    assert isinstance(task, str)
    # No float has room for it: who reads it as a number asks for another task.
    assert int(task) > 2**53
    data = async_done(emulator, task, send)
    assert data.keys() == {"algorithm_base_resp", "binary_data_base64", "image_urls", "status"}
    assert data["algorithm_base_resp"] == {"status_code": 0, "status_message": "Success"}
    assert data["image_urls"] is None
    picture = async_picture(data)
    assert picture.size == (134, 84)
    assert np.array_equal(pixels(picture)[24:72, 6:70], pixels(photo(64, 48)))
    assert async_state(emulator, task, send) == data
    assert emulator.billed == 1


def test_an_async_canvas_and_the_same_seed_as_sync(emulator: Emulator) -> None:
    task = str(gateway(emulator, canvas_body(), query=SUBMIT_QUERY).json()["data"]["task_id"])
    assert async_picture(async_done(emulator, task)).size == (120, 100)
    asynchronous = async_picture(async_done(emulator, async_submit(emulator)))
    assert np.array_equal(pixels(asynchronous), pixels(volcengine_picture(gateway(emulator, SIDES))))


def test_an_async_task_goes_from_the_queue_to_done() -> None:
    with Emulator(latency=0.6) as emulator:
        task = async_submit(emulator)
        seen: list[dict[str, Any]] = []

        def done() -> bool:
            seen.append(async_state(emulator, task))
            return bool(seen[-1]["status"] == "done")

        until(done)
    states = [data["status"] for data in seen]
    changes = [state for state, before in zip(states, [None, *states], strict=False) if state != before]
    assert changes == ["in_queue", "generating", "done"]
    for data in seen[:-1]:
        assert data == {"binary_data_base64": None, "image_urls": None, "status": data["status"]}


@pytest.mark.parametrize(("submitted", "asked", "as_url"), [
    (False, None, False), (True, None, True), (False, {"return_url": True}, True), (True, {"return_url": False}, False),
    (True, {}, True), (False, {"logo_info": {"add_logo": False}}, False),
    (False, {"logo_info": {"add_logo": True, "position": 3, "language": 1, "opacity": 1, "logo_text_content": "AI"},
             "aigc_meta": {"content_producer": "a", "producer_id": "b", "content_propagator": "c",
                           "propagate_id": "d"}}, False),
])
def test_the_query_says_whether_it_wants_a_url(emulator: Emulator, submitted: bool, asked: dict[str, Any] | None,
                                               as_url: bool) -> None:
    task = async_submit(emulator, return_url=submitted)
    more = {} if asked is None else {"req_json": json.dumps(asked)}
    data = async_done(emulator, task, **more)
    assert (data["binary_data_base64"] is None, data["image_urls"] is None) == (as_url, not as_url)
    if as_url:
        assert async_state(emulator, task, **more)["image_urls"] == data["image_urls"]
        assert download(data["image_urls"][0]).size == (134, 84)
        last = emulator.requests[-1]
        assert (last.endpoint, last.phase, last.task_id) == ("cvsync2async", "image", task)


@BOTH_ROUTES
def test_an_unknown_async_task_is_not_found(emulator: Emulator, send: Any) -> None:
    nothing = {"binary_data_base64": None, "image_urls": None, "status": "not_found"}
    assert async_state(emulator, "7491596536074305586", send) == nothing
    # The gateway has an account of its own.
    task = async_submit(emulator, send)
    assert async_state(emulator, task, through_gateway if send is signed else signed) == nothing
    assert async_done(emulator, task, send)["status"] == "done"
    emulator.clear()
    assert async_state(emulator, task, send) == nothing


def test_an_async_task_whose_file_had_to_go_is_expired(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.pictures.files.KEPT_BYTES", 1)
    first, second = async_submit(emulator), ""
    async_done(emulator, first)
    second = async_submit(emulator)
    async_done(emulator, second)
    assert async_state(emulator, first) == {"binary_data_base64": None, "image_urls": None, "status": "expired"}
    assert async_state(emulator, second)["status"] == "done"


@pytest.mark.parametrize("changes", [
    {"req_key": None},
    {"req_key": "jimeng_t2i_v40"},
    {"task_id": None},
    {"task_id": 7491596536074305586},
    {"task_id": ""},
    {"return_url": True},
    {"req_json": {"return_url": True}},
    {"req_json": ""},
    {"req_json": "return_url"},
    {"req_json": "[]"},
    {"req_json": '{"return_url": "true"}'},
    {"req_json": '{"return_url": NaN}'},
    {"req_json": '{"url": true}'},
    {"req_json": '{"logo_info": {"text": "x"}}'},
    {"req_json": '{"logo_info": {"position": 4}}'},
    {"req_json": '{"logo_info": {"opacity": 1.1}}'},
    {"req_json": '{"aigc_meta": {"content_producer": "a"}}'},
    {"req_json": '{"aigc_meta": {"producer_id": ""}}'},
    {"req_json": '{"aigc_meta": {"producer_id": "a", "producer": "b"}}'},
])
def test_an_async_query_is_strict(emulator: Emulator, changes: dict[str, Any]) -> None:
    task = async_submit(emulator)
    body = {"req_key": "i2i_outpainting", "task_id": task, **changes}
    response = gateway(emulator, {key: value for key, value in body.items() if value is not None}, query=RESULT_QUERY)
    answer = response.json()
    assert response.status_code == 400
    assert answer["code"] == answer["status"] == 50215
    assert answer["data"] is None
    assert answer["message"]


@pytest.mark.parametrize("query", [SUBMIT_QUERY, RESULT_QUERY], ids=["submit", "result"])
def test_async_requests_need_key_query_and_headers(emulator: Emulator, query: dict[str, str]) -> None:
    body = SIDES if query is SUBMIT_QUERY else {"req_key": "i2i_outpainting", "task_id": "1"}
    denied = gateway(emulator, body, bearer("wrong"), query)
    assert (denied.status_code, denied.json()["error"]["message"]) == (401, "Invalid API key")
    assert gateway(emulator, body, query={**query, "a": "b"}).status_code == 400
    assert gateway(emulator, body, query={**query, "Version": "2024-06-06"}).status_code == 400
    assert gateway(emulator, body, bearer(KEYS.gateway_api_key, **{"X-Other": "1"}), query).status_code == 400
    data = json.dumps(body).encode()
    for headers in (v4_headers(emulator.url, data, action=query["Action"], secret="wrong"),
                    v4_headers(emulator.url, data, action="CVProcess")):
        refused = signed_post(emulator, data, headers, **query)
        assert refused.status_code == 401
        assert refused.json()["ResponseMetadata"]["Error"]["Code"] == "SignatureDoesNotMatch"
        assert refused.json()["ResponseMetadata"]["Action"] == query["Action"]
    assert emulator.accepted == []


def test_an_action_that_nobody_knows(emulator: Emulator) -> None:
    query = {**QUERY, "Action": "CVGetResult"}
    response = signed(emulator, SIDES, query)
    assert response.status_code == 404
    assert response.json()["ResponseMetadata"]["Error"]["Code"] == "InvalidActionOrVersion"
    assert gateway(emulator, SIDES, query=query).status_code == 400
    assert emulator.accepted == []


def test_async_requests_are_recorded_with_their_task(emulator: Emulator) -> None:
    task = async_submit(emulator)
    async_query(emulator, task, req_json='{"return_url": true}')
    first, second = emulator.requests
    assert (first.endpoint, first.phase, first.task_id, first.accepted) == ("cvsync2async", "submit", task, True)
    assert first.body["binary_data_base64"][0].startswith("<image 64x48 RGB sha256:")
    assert (second.endpoint, second.phase, second.task_id, second.accepted) == ("cvsync2async", "result", task, False)
    assert second.body == {"req_key": "i2i_outpainting", "task_id": task, "req_json": '{"return_url": true}'}


# --- A new endpoint is one file --------------------------------------------------------------------------------------


class Doubled(ImagesBody):
    def draws(self, load: Loader, seed: int) -> list[Draw]:
        return [lambda: load.rgb(self.images[0])] * 2


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The body of an endpoint that is asynchronous only, takes options in the query only, and makes two pictures."""
    entry = VolcengineEndpoint(req_key="doubled", body=Doubled, actions=ASYNC, image_links=True)
    monkeypatch.setitem(endpoints.VOLCENGINE, entry.req_key, entry)
    return {"req_key": "doubled", "binary_data_base64": [SMALL]}


@BOTH_ROUTES
def test_an_action_answers_50402_to_a_req_key_that_it_does_not_know(emulator: Emulator, send: Any,
                                                                     doubled: dict[str, Any]) -> None:
    unknown = {**SIDES, "req_key": "x"}
    for body, query in ((doubled, QUERY), (unknown, QUERY), (unknown, SUBMIT_QUERY)):
        response = send(emulator, body, query)
        assert (response.status_code, response.json()["code"], response.json()["data"]) == (400, 50402, None)
    assert emulator.accepted == []


@pytest.mark.parametrize("option", [
    {"return_url": True}, {"return_url": False}, {"logo_info": {"add_logo": True}}, {"aigc_meta": {"producer_id": "a"}},
])
def test_options_that_belong_into_the_query_are_refused_in_the_submit(emulator: Emulator, doubled: dict[str, Any],
                                                                      option: dict[str, Any]) -> None:
    answer = gateway(emulator, {**doubled, **option}, query=SUBMIT_QUERY).json()
    assert answer["code"] == 50215 and next(iter(option)) in answer["message"]
    assert emulator.accepted == []


def test_a_task_of_several_pictures_whose_links_end_in_image(emulator: Emulator, doubled: dict[str, Any]) -> None:
    task = str(gateway(emulator, doubled, query=SUBMIT_QUERY).json()["data"]["task_id"])
    # A query that names another req_key asks for another task.
    assert async_state(emulator, task)["status"] == "not_found"
    data = async_done(emulator, task, req_key="doubled", req_json='{"return_url": true}')
    assert emulator.billed == len(data["image_urls"]) == 2
    for link in data["image_urls"]:
        assert re.search(r"/files/[^?]+\.image\?", link)
        assert download(link).size == (64, 48)
        assert HTTP.get(link.partition("?")[0], timeout=DEADLINE).status_code == 404, "the signature is missing"
        assert gateway(emulator, {**SIDES, "binary_data_base64": [], "image_urls": [link]}).status_code == 200
    assert len(async_state(emulator, task, req_key="doubled")["binary_data_base64"]) == 2


PROBE = """
from ..services.endpoint import HiDreamBody, HiDreamEndpoint

ENDPOINT = HiDreamEndpoint(name={name!r}, path={path!r}, body=HiDreamBody)
"""
USE = """
from emulator.endpoints import HIDREAM
from emulator.faults import Rule
from emulator.services.routes import target_of

assert "probed" in HIDREAM
assert target_of("POST", "/probed", "").endpoint == target_of("GET", "/probed/results", "").endpoint == "probed"
Rule.model_validate({"endpoint": "probed", "phase": "submit", "do": {"task_status": [3]}})
"""


@pytest.mark.parametrize(("name", "path", "error"), [
    ("probed", "/probed", ""), ("upscale", "/probed", "the same name"), ("probed", UPSCALE, "the same name, path"),
])
def test_a_new_file_is_an_endpoint(tmp_path: Path, name: str, path: str, error: str) -> None:
    shutil.copytree(next(iter(emulator_package.__path__)), tmp_path / "emulator")
    (tmp_path / "emulator" / "endpoints" / "probe.py").write_text(PROBE.format(name=name, path=path), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not error), done.stderr
    assert error in done.stderr


# --- The pictures ----------------------------------------------------------------------------------------------------


def test_watermarks_are_on_new_pixels_only(emulator: Emulator) -> None:
    flat = Image.new("RGB", (100, 80), (90, 120, 150))
    body = {"image": encoded(flat), "x_offset": 100, "y_offset": 60, "resolution": "400*300"}
    (picture,) = pictures(emulator, OUTPAINT, body)
    inside = np.zeros((300, 400), bool)
    inside[60:140, 100:200] = True
    # White letters stand out against the flat ground in which nothing else is bright.
    assert (pixels(picture)[~inside].min(axis=1) > 130).any()
    assert (pixels(picture)[inside] == (90, 120, 150)).all()


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_a_narrow_strip_is_watermarked_on_any_side(emulator: Emulator, side: str) -> None:
    flat = encoded(Image.new("RGB", (400, 400), (90, 120, 150)))
    body = {"req_key": "i2i_outpainting", "binary_data_base64": [flat], side: 0.05}
    assert (pixels(volcengine_picture(gateway(emulator, body))).min(axis=2) > 120).any()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (40, 1), (3, 200)])
def test_the_tiniest_original_is_extended(width: int, height: int) -> None:
    original = pixels(photo(width, height))
    canvas = extend(original, 300, 250, 17, 31, seed=1)
    assert canvas.shape == (250, 300, 3)
    assert np.array_equal(canvas[31 : 31 + height, 17 : 17 + width], original)


def test_there_is_no_seam_at_the_border() -> None:
    y, x = np.mgrid[0:200, 0:200]
    original = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    canvas = extend(original, 400, 400, 100, 100, seed=1).astype(int)
    assert np.abs(canvas[100:300, 99] - canvas[100:300, 100]).max() <= 6
    assert np.abs(canvas[300, 100:300] - canvas[299, 100:300]).max() <= 6


def test_nothing_kept_gives_a_picture_all_the_same() -> None:
    assert fill(np.full((33, 65, 3), 255, np.uint8), np.ones((33, 65), bool), seed=1).mean() < 200


def test_a_megapixel_takes_less_than_two_seconds_of_a_busy_core() -> None:
    started = time.thread_time()
    extend(pixels(photo(512, 512)), 1024, 1024, 256, 256, seed=1)
    assert time.thread_time() - started < 2


# --- Records, overlap, administration ------------------------------------------------------------------------------


def test_requests_overlap() -> None:
    with Emulator(latency=0.4) as emulator, ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: gateway(emulator, SIDES).status_code, range(2)))
        first, second = emulator.requests
    assert both == [200, 200]
    assert first.ended is not None
    assert second.started < first.ended


def test_a_record_tells_all_but_keys_and_pictures(emulator: Emulator) -> None:
    response = submit(emulator, OUTPAINT, {"request_id": "mine"})
    record: Recorded = emulator.requests[0]
    digest = hashlib.sha256(base64.b64decode(SMALL)).hexdigest()[:8]
    assert record.body == {**BODIES[OUTPAINT], "request_id": "mine", "image": f"<image 64x48 RGB sha256:{digest}>"}
    assert (record.endpoint, record.phase, record.method, record.path) == ("outpaint", "submit", "POST", OUTPAINT)
    assert record.headers["Authorization"] == "***"
    assert (record.status, record.task_id, record.request_id) == (200, task_of(response), "mine")
    assert record.accepted
    assert record.ended is not None
    assert record.ended >= record.started
    (result,) = finished(emulator, OUTPAINT, record.task_id)
    download(result["image"])
    last = emulator.requests[-1]
    assert (last.endpoint, last.phase, last.task_id, last.accepted) == ("outpaint", "image", record.task_id, False)
    HTTP.get(emulator.url + TOKEN, headers={"Api-Key": KEYS.hidream_api_key}, timeout=DEADLINE)
    everything = repr(emulator.requests) + repr(KEYS)
    for secret in (KEYS.hidream_token, KEYS.hidream_api_key, SMALL[:60]):
        assert secret not in everything


def test_clear_forgets_requests_faults_and_tasks(emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"status": 500}})
    submit(emulator, UPSCALE)
    emulator.clear()
    task = task_of(submit(emulator, UPSCALE))
    assert len(emulator.requests) == 1
    assert emulator.billed == 1
    (result,) = finished(emulator, UPSCALE, task)
    emulator.clear()
    assert emulator.billed == 0
    assert emulator.requests == []
    url = f"{emulator.url}{UPSCALE}/results?task_id={task}"
    assert HTTP.get(url, headers=bearer(), timeout=DEADLINE).json()["code"] != 0
    assert HTTP.get(result["image"], timeout=DEADLINE).status_code == 404


def test_accepted_submits_and_what_each_was_billed(emulator: Emulator) -> None:
    fault(emulator, "submit", {"status": 500}, endpoint="outpaint")
    submit(emulator, OUTPAINT)
    photo_set = task_of(submit(emulator, VARIATION))
    poll(emulator, VARIATION, photo_set)
    gateway(emulator, SIDES)
    gateway(emulator, {**SIDES, "scale": 0})
    task = async_submit(emulator)
    async_query(emulator, task)
    told = [(record.endpoint, record.phase, record.task_id, record.pictures) for record in emulator.accepted]
    assert told == [("variation", "submit", photo_set, 4), ("cvprocess", "submit", "", 1),
                    ("cvsync2async", "submit", task, 1)]
    assert emulator.accepted == [record for record in emulator.requests if record.accepted]
    assert sum(record.pictures for record in emulator.requests) == emulator.billed == 6
    emulator.clear()
    assert emulator.accepted == []


def test_accepted_submits_keep_their_order_and_outlive_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.recording.KEPT_RECORDS", 2)
    recording = Recording()
    first, second = (recording.open("upscale", "submit", "POST", UPSCALE, {}.items(), {}) for _ in range(2))
    recording.accept(second, 1, "two", Span(0.0, 0.0))
    recording.accept(first, 4, "one", Span(0.0, 0.0))
    for _ in range(3):
        recording.open("upscale", "result", "GET", UPSCALE, {}.items(), {})
    # An answer may go out long after.
    recording.update(second, status=200)
    assert [record.phase for record in recording.snapshot()] == ["result"] * 2
    assert [(record.task_id, record.status) for record in recording.accepted()] == [("two", 200), ("one", None)]
    assert recording.billed == 5


def test_tasks_vary_as_told_and_wait_for_a_place() -> None:
    with Emulator(latency=0.4, spread=0.15, at_once=2) as emulator:
        tasks = [task_of(submit(emulator, UPSCALE)) for _ in range(5)]
        accepted = emulator.accepted
        due = [record.span.ends for record in accepted if record.span is not None]
        first_two = [end - record.started for end, record in zip(due[:2], accepted[:2], strict=True)]
        assert first_two[0] != first_two[1] and min(first_two) >= 0.34
        # Two at a time: the fifth has to wait for two others.
        assert due[4] - accepted[0].started >= 3 * 0.34
        until(lambda: poll(emulator, UPSCALE, tasks[-1])[0]["task_status"] == 1)
        assert time.monotonic() >= due[4]


def test_pictures_are_named_at_the_address_that_was_asked(emulator: Emulator) -> None:
    """A client behind a proxy or a line gets all of it through there."""
    task = task_of(submit(emulator, UPSCALE))
    there = emulator.url.replace("127.0.0.1", "localhost")

    def picture() -> str:
        answer = HTTP.get(f"{there}{UPSCALE}/results", params={"task_id": task}, headers=bearer(), timeout=DEADLINE)
        return str(answer.json()["result"]["sub_task_results"][0].get("image", ""))

    assert str(until(picture)).startswith(f"{there}/files/")


def test_accepted_submits_and_the_bill_over_http(emulator: Emulator) -> None:
    base = f"{emulator.url}/__emulator__/"
    assert HTTP.get(base + "accepted", timeout=DEADLINE).json() == []
    task = task_of(submit(emulator, VARIATION))
    poll(emulator, VARIATION, task)
    (record,) = HTTP.get(base + "accepted", timeout=DEADLINE).json()
    assert (record["task_id"], record["accepted"], record["pictures"]) == (task, True, 4)
    assert HTTP.get(base + "requests", timeout=DEADLINE).json()[0] == record
    assert HTTP.get(base + "health", timeout=DEADLINE).json()["billed"] == 4
    assert HTTP.get(base + "accepted", headers={"Origin": "https://evil.example"}, timeout=DEADLINE).status_code == 403
    assert HTTP.post(base + "accepted", timeout=DEADLINE).status_code == 404


def test_administration_over_http(emulator: Emulator) -> None:
    base = f"{emulator.url}/__emulator__/"
    assert HTTP.get(base + "health", timeout=DEADLINE).json() == {"status": "ok", "billed": 0}
    rules = [{"endpoint": "upscale", "phase": "submit", "do": {"status": 503}}]
    assert HTTP.post(base + "faults", json=rules, timeout=DEADLINE).status_code == 200
    assert submit(emulator, UPSCALE).status_code == 503
    (record,) = HTTP.get(base + "requests", timeout=DEADLINE).json()
    assert (record["endpoint"], record["status"], record["accepted"]) == ("upscale", 503, False)
    assert HTTP.post(base + "faults", json=[{"phase": "submit"}], timeout=DEADLINE).status_code == 400
    assert HTTP.post(base + "faults", json={"phase": "submit"}, timeout=DEADLINE).status_code == 400
    assert HTTP.post(base + "clear", timeout=DEADLINE).status_code == 200
    assert emulator.requests == []
    assert HTTP.get(base + "health", headers={"Host": "evil.example"}, timeout=DEADLINE).status_code == 403
    assert HTTP.post(base + "clear", headers={"Origin": "https://evil.example"}, timeout=DEADLINE).status_code == 403


def test_an_unknown_path_is_recorded_and_not_found(emulator: Emulator) -> None:
    assert HTTP.get(emulator.url + OUTPAINT, timeout=DEADLINE).status_code == 404
    assert (emulator.requests[0].endpoint, emulator.requests[0].status) == ("unknown", 404)


def test_a_taken_port_is_an_error_and_stop_frees_it() -> None:
    with Emulator() as first:
        port = int(first.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=r"."):
            Emulator(port=port).start()
    with Emulator(port=port) as second:
        assert HTTP.get(f"{second.url}/__emulator__/health", timeout=DEADLINE).status_code == 200


# --- Faults ----------------------------------------------------------------------------------------------------------


def fault(emulator: Emulator, phase: str, do: dict[str, Any], **rule: Any) -> None:
    emulator.add_fault({"phase": phase, "do": do, **rule})


def test_canned_answers_come_in_the_order_of_the_rules(emulator: Emulator) -> None:
    fault(emulator, "submit", {"status": 429, "headers": {"Retry-After": "1"}, "json": {"code": 9}}, endpoint="upscale")
    fault(emulator, "submit", {"status": 500, "html": True}, skip=1)
    fault(emulator, "submit", {"json": {"code": 2031, "message": "no"}})
    answers = [submit(emulator, UPSCALE) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 200, 500, 200]
    assert (answers[0].headers["Retry-After"], answers[0].json()) == ("1", {"code": 9})
    assert answers[1].json()["code"] == 2031
    assert answers[2].headers["Content-Type"].startswith("text/html")
    assert emulator.billed == 1


def test_an_error_in_front_of_an_accepted_task(emulator: Emulator) -> None:
    fault(emulator, "submit", {"status": 502, "html": True, "accept": True}, times=None)
    assert submit(emulator, VARIATION).status_code == 502
    assert gateway(emulator, SIDES).status_code == 502
    assert [record.accepted for record in emulator.requests] == [True, True]
    assert emulator.billed == 5
    assert emulator.requests[0].task_id
    assert submit(emulator, VARIATION, {"template_id": 0}).status_code == 200, "what is refused is not accepted"


def test_hang_accepts_and_holds_the_answer_back(emulator: Emulator) -> None:
    fault(emulator, "submit", {"hang": 60}, times=None)
    hidream, volcengine = emulator.url + UPSCALE, f"{emulator.url}/volcv/v1?Action=CVProcess&Version=2022-08-31"
    for url, body, key in ((hidream, BODIES[UPSCALE], KEYS.hidream_token), (volcengine, SIDES, KEYS.gateway_api_key)):
        with pytest.raises(requests.ReadTimeout):
            HTTP.post(url, json=body, headers=bearer(key), timeout=0.3)
    until(lambda: emulator.billed == 2)
    assert [record.status for record in emulator.requests] == [None, None]


def test_stop_does_not_wait_for_a_hanging_request() -> None:
    with Emulator() as emulator, ThreadPoolExecutor(1) as pool:
        fault(emulator, "submit", {"hang": 60})
        waiting = pool.submit(submit, emulator, UPSCALE)
        until(lambda: emulator.billed)
        started = time.monotonic()
        emulator.stop()
        assert isinstance(waiting.exception(DEADLINE), requests.ConnectionError)
        assert time.monotonic() - started < 5


def test_release_ends_delays_and_hangs_of_requests_that_wait(emulator: Emulator) -> None:
    fault(emulator, "submit", {"delay": 60})
    fault(emulator, "submit", {"hang": 60}, times=2)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(submit, emulator, UPSCALE) for _ in range(2)]
        until(lambda: len(emulator.requests) == 2 and emulator.billed == 1)
        emulator.release()
        assert [one.result(DEADLINE).status_code for one in waiting] == [200, 200]
        assert emulator.billed == 2
        later = pool.submit(submit, emulator, UPSCALE)
        until(lambda: emulator.billed == 3)
        assert emulator.requests[-1].status is None, "a later request waits"
        emulator.release()
        assert later.result(DEADLINE).status_code == 200


def test_delay_comes_before_anything_else(emulator: Emulator) -> None:
    fault(emulator, "submit", {"delay": 0.2, "status": 500})
    started = time.monotonic()
    assert submit(emulator, UPSCALE).status_code == 500
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(("reset", "accepted"), [("headers", False), ("before", False), ("after", True)])
@pytest.mark.parametrize("send", [
    pytest.param(lambda emulator: submit(emulator, UPSCALE), id="hidream"),
    pytest.param(lambda emulator: gateway(emulator, SIDES), id="volcengine"),
])
def test_reset_drops_the_connection(emulator: Emulator, reset: str, accepted: bool,
                                    send: Callable[[Emulator], Any]) -> None:
    fault(emulator, "submit", {"reset": reset})
    with pytest.raises(requests.ConnectionError) as caught:
        send(emulator)
    if reset != "headers":
        # While the client still writes, it may notice in other ways.
        assert "reset" in str(caught.value).lower() or "10054" in str(caught.value)
    (record,) = emulator.requests
    assert (record.status, record.accepted, emulator.billed) == (None, accepted, int(accepted))
    assert record.ended is not None
    assert (record.body is None) == (reset == "headers")


def test_reset_of_polls_and_downloads(emulator: Emulator) -> None:
    task = task_of(submit(emulator, UPSCALE))
    fault(emulator, "result", {"reset": "before"})
    with pytest.raises(requests.ConnectionError):
        poll(emulator, UPSCALE, task)
    (result,) = finished(emulator, UPSCALE, task)
    fault(emulator, "image", {"reset": "after"})
    with pytest.raises(requests.ConnectionError):
        download(result["image"])
    assert download(result["image"]).size == (128, 96)


def test_cut_sends_a_share_under_the_full_length(emulator: Emulator) -> None:
    (result,) = finished(emulator, UPSCALE, task_of(submit(emulator, UPSCALE)))
    whole = HTTP.get(result["image"], timeout=DEADLINE).content
    fault(emulator, "image", {"cut": 0.5}, endpoint="upscale")
    response = HTTP.get(result["image"], stream=True, timeout=DEADLINE)
    assert int(response.headers["Content-Length"]) == len(whole)
    assert response.raw.read(len(whole) // 2, decode_content=False) == whole[: len(whole) // 2]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(response.iter_content(1000))
    fault(emulator, "submit", {"cut": 0.5})
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        submit(emulator, UPSCALE)
    assert emulator.billed == 2, "the cut answer was that of an accepted task"


def test_an_answer_whose_end_is_cut_is_all_there(emulator: Emulator) -> None:
    fault(emulator, "submit", {"cut_end": True})
    url = f"{emulator.url}{UPSCALE}"
    response = HTTP.post(url, json=BODIES[UPSCALE], headers=bearer(), stream=True, timeout=DEADLINE)
    whole = response.raw.read(int(response.headers["Content-Length"]) - 64, decode_content=False)
    assert json.loads(whole)["result"]["task_id"] and emulator.billed == 1
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(response.iter_content(1000))


@pytest.mark.parametrize("what", ["header", "body"])
def test_an_answer_drips_until_the_client_hangs_up(emulator: Emulator, what: str) -> None:
    fault(emulator, "submit", {"drip": what})
    with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])), DEADLINE) as line:
        body = json.dumps(BODIES[UPSCALE]).encode()
        head = f"POST {UPSCALE} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        line.sendall((head + length).encode() + body)
        came = b""
        while not came.endswith(b"   "):
            came += line.recv(65536)
    assert (b"\r\n\r\n" in came) == (what == "body")
    assert emulator.billed == 1


@pytest.mark.parametrize("encoding", ["", "aws-chunked", "gzip", "base64"])
def test_a_file_has_another_content_encoding(emulator: Emulator, encoding: str) -> None:
    path = "/" + address_of_a_picture(emulator).split("/", 3)[3]
    fault(emulator, "image", {"encoding": encoding})
    connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        data = response.read()
    assert response.headers["Content-Encoding"] == encoding
    assert {"gzip": gzip.decompress, "base64": base64.b64decode}.get(encoding, bytes)(data).startswith(b"\x89PNG")


def test_a_file_is_an_odd_picture(emulator: Emulator) -> None:
    url = address_of_a_picture(emulator)
    plain = Image.open(io.BytesIO(HTTP.get(url, timeout=DEADLINE).content))
    for kind in odd_pictures.KINDS:
        fault(emulator, "image", {"odd_pictures": kind})
        response = HTTP.get(url, timeout=DEADLINE)
        if kind in ("heic", "no_end"):
            # Pillow itself reads neither.
            assert response.content[4:12] == b"ftypheic" or not response.content.endswith(b"\xff\xd9")
            continue
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(response.content)))
        assert picture.size == plain.size, kind
        assert response.headers["Content-Type"] == Image.MIME[Image.open(io.BytesIO(response.content)).format]


def test_early_hints_come_first(emulator: Emulator) -> None:
    fault(emulator, "submit", {"early_hints": True})
    with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])), DEADLINE) as line:
        body = json.dumps(BODIES[UPSCALE]).encode()
        head = f"POST {UPSCALE} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        line.sendall((head + length).encode() + body)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    heads = re.findall(rb"HTTP/1.1 (\d+)", answer)
    assert heads == [b"102", b"103", b"200"] and emulator.billed == 1


@pytest.mark.parametrize("upstream", [50411, "request timeout"])
@pytest.mark.parametrize("accept", [False, True])
def test_a_gateway_tells_of_its_upstream(emulator: Emulator, upstream: int | str, accept: bool) -> None:
    fault(emulator, "submit", {"gateway": upstream, **({"accept": True} if accept else {})})
    response = gateway(emulator, SIDES)
    told = response.json()
    assert (response.status_code, told["code"], told["data"]) == (406, "upstream_error", None)
    message = json.loads(told["upsream_message"])["message"]
    if isinstance(upstream, int):
        assert json.loads(message.removeprefix("not ok match: "))["code"] == upstream
    else:
        assert message == upstream
    assert emulator.billed == int(accept)


def test_success_in_other_words(emulator: Emulator) -> None:
    fault(emulator, "submit", {"odd_words": True}, endpoint="*", times=2)
    for response, name in ((submit(emulator, UPSCALE), "result"), (gateway(emulator, SIDES), "data")):
        told = response.json()
        assert (response.status_code, told["code"], told["data"]["code"]) == (201, 200, "success")
        assert told["data"][name]
    assert emulator.billed == 2
    fault(emulator, "submit", {"odd_words": True})
    assert submit(emulator, UPSCALE, {"upsale_ratio": 3}).json()["code"] == 1001, "a refusal stays one"


def test_a_forgotten_task_is_not_known(emulator: Emulator) -> None:
    task = task_of(submit(emulator, UPSCALE))
    fault(emulator, "result", {"forgotten": True})
    url = f"{emulator.url}{UPSCALE}/results"
    response = HTTP.get(url, params={"task_id": task}, headers=bearer(), timeout=DEADLINE)
    assert (response.status_code, response.json()["message"]) == (200, "task not found")
    assert finished(emulator, UPSCALE, task)


def test_corrupt_pictures_are_complete_and_cannot_be_decoded(emulator: Emulator) -> None:
    (result,) = finished(emulator, UPSCALE, task_of(submit(emulator, UPSCALE)))
    whole = HTTP.get(result["image"], timeout=DEADLINE).content
    fault(emulator, "image", {"corrupt": True})
    damaged = HTTP.get(result["image"], timeout=DEADLINE).content
    assert len(damaged) == len(whole)
    fault(emulator, "submit", {"corrupt": True}, endpoint="cvprocess")
    text = gateway(emulator, SIDES).json()["data"]["binary_data_base64"][0]
    for data in (damaged, base64.b64decode(text)):
        with pytest.raises((OSError, SyntaxError)):
            opened(data)


def test_final_states_per_sub_task(emulator: Emulator) -> None:
    fault(emulator, "submit", {"task_status": [1, 3]})
    results = finished(emulator, VARIATION, task_of(submit(emulator, VARIATION)))
    assert [result["task_status"] for result in results] == [1, 3, 1, 3]
    assert ["image" in result for result in results] == [True, False, True, False]
    assert results[1]["description"]
    for status in (4, 1004, -1, 77):
        fault(emulator, "submit", {"task_status": [status]})
        (result,) = finished(emulator, UPSCALE, task_of(submit(emulator, UPSCALE)))
        assert result["task_status"] == status
    assert emulator.billed == 8


def test_a_state_of_one_poll(emulator: Emulator) -> None:
    task = task_of(submit(emulator, UPSCALE))
    finished(emulator, UPSCALE, task)
    fault(emulator, "result", {"task_status": [-3]})
    fault(emulator, "result", {"empty": True})
    fault(emulator, "result", {"no_image": True})
    fault(emulator, "result", {"url": "https://169.254.169.254/x.png"})
    assert poll(emulator, UPSCALE, task)[0]["task_status"] == -3
    assert poll(emulator, UPSCALE, task) == []
    (third,) = poll(emulator, UPSCALE, task)
    assert (third["task_status"], "image" in third) == (1, False)
    assert poll(emulator, UPSCALE, task)[0]["image"] == "https://169.254.169.254/x.png"
    assert download(poll(emulator, UPSCALE, task)[0]["image"]).size == (128, 96)


def test_never_empty_and_no_image_stay_with_the_task(emulator: Emulator) -> None:
    for do in ({"never": True}, {"empty": True}, {"no_image": True}):
        fault(emulator, "submit", do)
    never, empty, bare, normal = (task_of(submit(emulator, UPSCALE)) for _ in range(4))
    finished(emulator, UPSCALE, normal)
    finished(emulator, UPSCALE, bare)
    for _ in range(2):
        assert poll(emulator, UPSCALE, never)[0]["task_status"] == 2
        assert poll(emulator, UPSCALE, empty) == []
        (result,) = poll(emulator, UPSCALE, bare)
        assert (result["task_status"], "image" in result) == (1, False)


def test_results_of_another_size(emulator: Emulator) -> None:
    fault(emulator, "submit", {"size": [50, 40]}, times=2)
    fault(emulator, "submit", {"sizes": [[30, 40], [60, 80]]})
    assert [picture.size for picture in pictures(emulator, OUTPAINT)] == [(50, 40)]
    assert volcengine_picture(gateway(emulator, SIDES)).size == (50, 40)
    assert [picture.size for picture in pictures(emulator, VARIATION)] == [(30, 40), (60, 80)] * 2


@pytest.mark.parametrize(("code", "status", "message", "billed"), [
    (50411, 400, "Pre Img Risk Not Pass", 0), (50511, 400, "Post Img Risk Not Pass", 1),
    (50429, 429, "API QPS limit", 0), (50500, 500, "Internal Error", 0),
])
def test_vendor_codes(emulator: Emulator, code: int, status: int, message: str, billed: int) -> None:
    fault(emulator, "submit", {"vendor_code": code})
    response = gateway(emulator, SIDES)
    answer = response.json()
    assert (response.status_code, answer["code"], answer["status"]) == (status, code, code)
    assert (answer["message"], answer["data"]) == (message, None)
    assert emulator.billed == billed


def test_volcengine_success_without_a_picture(emulator: Emulator) -> None:
    for do in ({"algorithm": 7}, {"no_image": True}, {"empty": True}):
        fault(emulator, "submit", do, endpoint="cvprocess")
    failed, bare, empty = (gateway(emulator, SIDES).json() for _ in range(3))
    assert [answer["code"] for answer in (failed, bare, empty)] == [10000] * 3
    assert failed["data"]["algorithm_base_resp"]["status_code"] == 7
    assert failed["data"]["binary_data_base64"] == bare["data"]["binary_data_base64"] == []
    assert empty["data"] is None


@pytest.mark.parametrize(("do", "accepted"), [
    ({"reset": "headers"}, False), ({"reset": "before"}, False), ({"reset": "after"}, True),
    ({"hang": 60}, True), ({"cut": 0.5}, True),
])
def test_async_submits_that_get_no_answer(emulator: Emulator, do: dict[str, Any], accepted: bool) -> None:
    fault(emulator, "submit", do, endpoint="cvsync2async")
    with pytest.raises(requests.RequestException):
        HTTP.post(f"{emulator.url}/volcv/v1", params=SUBMIT_QUERY, json=SIDES, headers=bearer(KEYS.gateway_api_key),
                  timeout=0.5 if "hang" in do else DEADLINE)
    if accepted:
        (record,) = emulator.accepted
        assert async_done(emulator, record.task_id)["status"] == "done"
    assert emulator.billed == len(emulator.accepted) == int(accepted)


def test_canned_answers_to_async_requests(emulator: Emulator) -> None:
    fault(emulator, "submit", {"status": 429, "headers": {"Retry-After": "1"}}, endpoint="cvsync2async")
    fault(emulator, "submit", {"status": 502, "html": True, "accept": True}, endpoint="cvsync2async")
    fault(emulator, "submit", {"json": {"code": 10000, "data": {}}, "accept": True}, endpoint="cvsync2async")
    refused, lost, nameless = (gateway(emulator, SIDES, query=SUBMIT_QUERY) for _ in range(3))
    assert (refused.status_code, refused.headers["Retry-After"], lost.status_code) == (429, "1", 502)
    assert nameless.json()["data"] == {}
    assert emulator.billed == 2
    task = emulator.accepted[0].task_id
    async_done(emulator, task)
    for do in ({"status": 503}, {"json": {"code": 10000}}, {"reset": "before"}, {"cut": 0.5}):
        fault(emulator, "result", do, endpoint="cvsync2async")
    assert async_query(emulator, task).status_code == 503
    assert "data" not in async_query(emulator, task).json()
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            async_query(emulator, task)
    assert async_state(emulator, task)["status"] == "done"


def test_an_async_task_that_never_ends(emulator: Emulator) -> None:
    fault(emulator, "submit", {"never": True}, endpoint="cvsync2async")
    never, normal = async_submit(emulator), async_submit(emulator)
    async_done(emulator, normal)
    assert [async_state(emulator, never)["status"] for _ in range(2)] == ["generating"] * 2


@pytest.mark.parametrize("code", [50411, 50429, 50500])
def test_a_vendor_code_before_an_async_task_refuses_the_submit(emulator: Emulator, code: int) -> None:
    fault(emulator, "submit", {"vendor_code": code}, endpoint="cvsync2async")
    answer = gateway(emulator, SIDES, query=SUBMIT_QUERY).json()
    assert (answer["code"], answer["data"]) == (code, None)
    assert (emulator.billed, emulator.accepted) == (0, [])


def test_a_vendor_code_after_generation_is_what_an_async_task_ends_with() -> None:
    with Emulator(latency=0.6) as emulator:
        fault(emulator, "submit", {"vendor_code": 50511}, endpoint="cvsync2async")
        task = async_submit(emulator)
        assert async_state(emulator, task)["status"] in ("in_queue", "generating")
        until(lambda: async_query(emulator, task).status_code != 200)
        for _ in range(2):
            response = async_query(emulator, task)
            answer = response.json()
            assert (response.status_code, answer["code"], answer["status"]) == (400, 50511, 50511)
            assert (answer["message"], answer["data"]) == ("Post Img Risk Not Pass", None)
        assert emulator.billed == 1


def test_a_vendor_code_of_one_async_query(emulator: Emulator) -> None:
    task = async_submit(emulator)
    async_done(emulator, task)
    fault(emulator, "result", {"vendor_code": 50429})
    response = async_query(emulator, task)
    assert (response.status_code, response.json()["code"], response.json()["data"]) == (429, 50429, None)
    assert async_state(emulator, task)["status"] == "done"


def test_an_async_task_whose_algorithm_failed(emulator: Emulator) -> None:
    fault(emulator, "submit", {"algorithm": 7}, endpoint="cvsync2async")
    data = async_done(emulator, async_submit(emulator))
    assert data["algorithm_base_resp"] == {"status_code": 7, "status_message": "emulated failure"}
    assert (data["binary_data_base64"], data["image_urls"]) == ([], None)
    assert emulator.billed == 1


@pytest.mark.parametrize("status", ["not_found", "expired", "canceled", "over_max_retries"])
def test_async_status_of_a_task_and_of_one_query(emulator: Emulator, status: str) -> None:
    nothing = {"binary_data_base64": None, "image_urls": None, "status": status}
    # HiDream's requests are none of its business.
    fault(emulator, "submit", {"async_status": status})
    task_of(submit(emulator, UPSCALE))
    lost, task = async_submit(emulator), async_submit(emulator)
    async_done(emulator, task)
    assert [async_state(emulator, lost) for _ in range(2)] == [nothing] * 2
    fault(emulator, "result", {"async_status": status})
    assert async_state(emulator, task) == nothing
    assert async_state(emulator, task)["status"] == "done"
    assert emulator.billed == 3


def test_async_results_without_a_picture_or_with_another(emulator: Emulator) -> None:
    for do in ({"empty": True}, {"no_image": True}, {"size": [50, 40]}, {"corrupt": True}):
        fault(emulator, "submit", do, endpoint="cvsync2async")
    empty, bare, small, broken = (async_submit(emulator) for _ in range(4))
    assert async_query(emulator, empty).json()["data"] is None
    assert async_done(emulator, bare)["binary_data_base64"] == []
    assert async_state(emulator, bare, req_json='{"return_url": true}')["image_urls"] == []
    assert async_picture(async_done(emulator, small)).size == (50, 40)
    with pytest.raises((OSError, SyntaxError)):
        async_picture(async_done(emulator, broken))
    for do in ({"empty": True}, {"no_image": True}, {"url": "https://169.254.169.254/x.png"}):
        fault(emulator, "result", do, endpoint="cvsync2async")
    assert async_query(emulator, small).json()["data"] is None
    assert async_state(emulator, small)["binary_data_base64"] == []
    as_url = {"req_json": '{"return_url": true}'}
    assert async_state(emulator, small, **as_url)["image_urls"] == ["https://169.254.169.254/x.png"]
    (url,) = async_state(emulator, small, **as_url)["image_urls"]
    fault(emulator, "image", {"corrupt": True}, endpoint="cvsync2async")
    with pytest.raises((OSError, SyntaxError)):
        download(url)
    assert download(url).size == (50, 40)


def test_token_faults(emulator: Emulator) -> None:
    fault(emulator, "token", {"status": 503}, endpoint="token")
    statuses = [HTTP.get(emulator.url + TOKEN, headers={"Api-Key": KEYS.hidream_api_key}, timeout=DEADLINE).status_code
                for _ in range(2)]
    assert statuses == [503, 200]


@pytest.mark.parametrize("rule", [
    {"phase": "submit", "do": {}},
    {"phase": "submit", "do": {"explode": True}},
    {"phase": "poll", "do": {"status": 500}},
    {"phase": "submit", "do": {"status": "500"}},
    {"phase": "submit", "do": {"vendor_code": 1}},
    {"phase": "submit", "times": 0, "do": {"status": 500}},
    {"phase": "image", "do": {"never": True}},
    {"phase": "result", "do": {"corrupt": True}},
    {"endpoint": "upscale", "phase": "submit", "do": {"vendor_code": 50411}},
    {"endpoint": "upscale", "phase": "submit", "do": {"corrupt": True}},
    {"endpoint": "cvprocess", "phase": "submit", "do": {"never": True}},
    {"endpoint": "cvprocess", "phase": "result", "do": {"status": 500}},
    {"endpoint": "cvprocess", "phase": "submit", "do": {"async_status": "expired"}},
    {"endpoint": "cvsync2async", "phase": "submit", "do": {"task_status": [3]}},
    {"endpoint": "cvsync2async", "phase": "submit", "do": {"sizes": [[8, 8]]}},
    {"endpoint": "cvsync2async", "phase": "submit", "do": {"async_status": "done"}},
    {"endpoint": "cvsync2async", "phase": "result", "do": {"never": True}},
    {"endpoint": "cvsync2async", "phase": "result", "do": {"algorithm": 7}},
    {"endpoint": "cvsync2async", "phase": "result", "do": {"task_status": [3]}},
    {"endpoint": "cvsync2async", "phase": "image", "do": {"async_status": "expired"}},
    {"endpoint": "cvsync2async", "phase": "token", "do": {"status": 500}},
    {"endpoint": "upscale", "phase": "submit", "do": {"async_status": "expired"}},
    {"endpoint": "upscale", "phase": "result", "do": {"async_status": "expired"}},
    {"endpoint": "upscale", "phase": "result", "do": {"vendor_code": 50429}},
    {"phase": "result", "do": {"algorithm": 7}},
    {"phase": "result", "do": {"task_status": [3], "async_status": "expired"}},
    {"phase": "submit", "do": {"task_status": [3], "vendor_code": 50511}},
    {"phase": "submit", "do": {"accept": True}},
    {"phase": "submit", "do": {"headers": {"Retry-After": "1"}}},
    {"phase": "result", "do": {"status": 502, "accept": True}},
    {"endpoint": "token", "phase": "submit", "do": {"status": 500}},
    {"endpoint": "templates", "phase": "result", "do": {"status": 500}},
    {"endpoint": "templates", "phase": "list", "do": {"no_image": True}},
    {"phase": "submit", "do": {"encoding": "gzip"}},
    {"phase": "result", "do": {"odd_pictures": "gif"}},
    {"phase": "image", "do": {"odd_pictures": "unheard of"}},
    {"endpoint": "upscale", "phase": "list", "do": {"status": 500}},
    {"endpoint": "nowhere", "phase": "submit", "do": {"status": 500}},
])
def test_a_rule_that_could_never_act_is_an_error(emulator: Emulator, rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        emulator.add_fault(rule)


def test_many_threads_and_one_record_each(emulator: Emulator) -> None:
    barrier = threading.Barrier(8)

    def one(_: int) -> str:
        barrier.wait()
        return task_of(requests.post(emulator.url + UPSCALE, json=BODIES[UPSCALE], headers=bearer(), timeout=DEADLINE,
                                     proxies={"http": ""}))

    with ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(one, range(8)))
    assert {record.task_id for record in emulator.requests} == set(tasks)
    assert emulator.billed == len(emulator.requests) == 8

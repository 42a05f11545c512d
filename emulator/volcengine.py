"""Volcengine's CVProcess with i2i_outpainting: signed, and through a Bearer gateway."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import secrets
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime, timezone
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import pictures, signature
from .credentials import Credentials
from .endpoints import GATEWAY_PATH, ORDINARY_HEADERS
from .faults import Action
from .files import ResultFile, ResultFiles, damaged
from .hidream import first_problem
from .images import Loader, decode, is_grey8_png, png
from .message import Accept, Answer, Call, RefusedError
from .vendor_codes import VENDOR_CODES

# Not in the known table of codes: the emulator's own choice for a parameter that is refused.
PARAMETER_CODE = 50215
SUCCESS_CODE = 10000
QUERY = {"Action": "CVProcess", "Version": "2022-08-31"}
_SIGNED_HEADERS = frozenset({"authorization", "x-date", "x-content-sha256"})

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=64, le=4096)]


class LogoInfo(BaseModel):
    """Checked, but not drawn: the emulator's watermark is on every picture anyway."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    add_logo: bool = False
    position: int = Field(0, ge=0, le=3)
    language: int = Field(0, ge=0, le=1)
    opacity: float = Field(0.3, ge=0, le=1)
    logo_text_content: str = ""


class CVProcess(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    req_key: Literal["i2i_outpainting"]
    binary_data_base64: list[str] | None = None
    image_urls: list[str] | None = None
    prompt: str | None = None
    custom_prompt: str | None = None
    scale: float = Field(7.0, ge=1, le=20)
    steps: int = Field(30, ge=1, le=100)
    strength: float = Field(0.8, ge=0.1, le=1)
    seed: int = Field(0, ge=-1)
    top: Share | None = None
    bottom: Share | None = None
    left: Share | None = None
    right: Share | None = None
    max_width: Side = 1920
    max_height: Side = 1920
    return_url: bool = False
    logo_info: LogoInfo | None = None

    def draw(self, load: Loader, chance: int) -> Callable[[], Image.Image]:
        """Check what the types cannot, and return the function that makes the picture."""
        if None not in (self.prompt, self.custom_prompt) and self.prompt != self.custom_prompt:
            raise RefusedError("prompt and custom_prompt differ")
        texts = self.binary_data_base64 or self.image_urls or []
        limit = (self.max_width, self.max_height)
        seed = self._chance(chance if self.seed == -1 else self.seed)
        sides = (self.top, self.bottom, self.left, self.right)
        if len(texts) == 1:
            if not any(sides):
                raise RefusedError("one image needs the sides that are to be extended: top, bottom, left, right")
            # What the service makes of a side that is left out is unknown (0 or 0.1). Here it is not extended.
            top, bottom, left, right = (side or 0.0 for side in sides)
            return partial(pictures.outpaint_sides, load.rgb(texts[0]), top, bottom, left, right, limit, seed)
        if len(texts) != 2:
            raise RefusedError(f"one image or a canvas and its mask are needed, not {len(texts)} images")
        if any(sides):
            raise RefusedError("a canvas with a mask takes no top, bottom, left, right")
        canvas = load.rgb(texts[0])
        mask = _checked_mask(load.data(texts[1]), canvas.size)
        return partial(pictures.outpaint_canvas, canvas, mask, limit, seed)

    def _chance(self, seed: int) -> int:
        prompt = self.custom_prompt or self.prompt or ""
        return int.from_bytes(hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()[:4], "big")


def _checked_mask(data: bytes, size: tuple[int, int]) -> Image.Image:
    mask = decode(data)
    if not is_grey8_png(data):
        raise RefusedError("the mask must be a PNG with one 8-bit grey channel")
    if mask.size != size:
        raise RefusedError(f"the mask is {mask.width}*{mask.height}, the canvas {size[0]}*{size[1]}")
    levels = set(np.unique(np.asarray(mask)).tolist())
    if not levels <= {0, 255}:
        raise RefusedError("the mask must have no grey levels but 0 and 255")
    if levels == {0}:
        raise RefusedError("the mask is all black: nothing to generate")
    return mask


class Volcengine:
    def __init__(self, credentials: Credentials, latency: float, files: ResultFiles, executor: Executor) -> None:
        self._credentials, self._latency, self._files, self._executor = credentials, latency, files, executor
        # The service's choice where seed is -1: another picture each time, yet a run can be repeated.
        self._chances = itertools.count(1 << 40)

    async def process(self, call: Call, action: Action, accept: Accept, base_url: str) -> Answer:
        started, request_id = time.monotonic(), _request_id()
        denied = self._denied(call, request_id)
        if denied:
            return denied
        run = partial(asyncio.get_running_loop().run_in_executor, self._executor)
        try:
            _check_query_and_headers(call)
            body, draw = await run(_read, call, Loader(self._files, base_url), next(self._chances))
        except RefusedError as refusal:
            return _failure(PARAMETER_CODE, str(refusal), 400, request_id, started)
        vendor = VENDOR_CODES[action.vendor_code] if action.vendor_code else None
        if vendor is None or vendor.after_generation:
            accept(1, "")
        if vendor and not vendor.after_generation:
            return _failure(action.vendor_code or 0, vendor.message, vendor.status, request_id, started)
        await asyncio.sleep(self._latency)
        if vendor:
            return _failure(action.vendor_code or 0, vendor.message, vendor.status, request_id, started)
        data = await run(_picture, draw, action)
        return _envelope(SUCCESS_CODE, "Success", self._data(body, data, action, base_url), 200, request_id, started)

    def _denied(self, call: Call, request_id: str) -> Answer | None:
        if call.path == GATEWAY_PATH:
            expected = f"Bearer {self._credentials.gateway_api_key}"
            if hmac.compare_digest(call.headers.get("authorization", "").encode(), expected.encode()):
                return None
            # The gateway's real error body is unknown; its kind mostly answers in OpenAI's shape.
            return Answer.json({"error": {"message": "Invalid API key", "type": "invalid_request_error"}}, 401)
        try:
            signature.verify(call, self._credentials.access_key_id, self._credentials.secret_access_key)
            if dict(call.query) != {**dict(call.query), **QUERY}:
                raise signature.SignatureError("InvalidActionOrVersion", "Could not find operation.", 404)
        except signature.SignatureError as error:
            query = dict(call.query)
            return Answer.json({"ResponseMetadata": {
                "RequestId": request_id, "Action": query.get("Action", ""), "Version": query.get("Version", ""),
                "Service": signature.SERVICE, "Region": signature.REGION,
                "Error": {"Code": error.code, "Message": str(error)},
            }}, error.status)
        return None

    def _data(self, body: CVProcess, data: bytes, action: Action, base_url: str) -> dict[str, Any] | None:
        if action.empty:
            return None
        failed = action.algorithm != 0
        images: list[str] = []
        urls: list[str] | None = None
        if not failed and not action.no_image:
            if body.return_url:
                path = self._files.add(ResultFile(data, "cvprocess", ""))
                urls = [action.url or base_url + path]
            else:
                images = [base64.b64encode(data).decode()]
        return {
            "algorithm_base_resp": {"status_code": action.algorithm,
                                    "status_message": "emulated failure" if failed else "Success"},
            "binary_data_base64": images,
            "image_urls": urls,
            "request_id": hashlib.sha256(uuid.uuid4().bytes).hexdigest(),
        }


def _check_query_and_headers(call: Call) -> None:
    if call.single_query(frozenset(QUERY)) != QUERY:
        raise RefusedError("the query must be Action=CVProcess&Version=2022-08-31")
    allowed = {"authorization"} if call.path == GATEWAY_PATH else _SIGNED_HEADERS
    for name in call.headers:
        if name not in ORDINARY_HEADERS and name not in allowed:
            raise RefusedError(f"the page lists no header {name!r}")


def _read(call: Call, load: Loader, chance: int) -> tuple[CVProcess, Callable[[], Image.Image]]:
    try:
        body = CVProcess.model_validate(call.json_body())
    except ValidationError as error:
        raise RefusedError(first_problem(error)) from None
    return body, body.draw(load, chance)


def _picture(draw: Callable[[], Image.Image], action: Action) -> bytes:
    picture, size = draw(), action.sub_task_size(0)
    data = png(pictures.resized(picture, size) if size else picture)
    return damaged(data) if action.corrupt else data


def _failure(code: int, message: str, status: int, request_id: str, started: float) -> Answer:
    return _envelope(code, message, None, status, request_id, started)


def _envelope(code: int, message: str, data: Any, status: int, request_id: str, started: float) -> Answer:
    return Answer.json({"code": code, "data": data, "message": message, "request_id": request_id, "status": code,
                        "time_elapsed": f"{time.monotonic() - started:.7f}s"}, status)


def _request_id() -> str:
    return f"{datetime.now(timezone.utc):%Y%m%d%H%M%S}{secrets.token_hex(10).upper()}"

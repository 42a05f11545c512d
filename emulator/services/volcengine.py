"""Volcengine's i2i_outpainting, synchronous (CVProcess) or as a task (CVSync2Async…); signed, or with a gateway key."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from PIL import Image
from pydantic import ValidationError

from ..credentials import Credentials
from ..faults import Action
from ..message import Accept, Answer, Call, RefusedError
from ..pace import Pace, Span
from ..pictures import pictures
from ..pictures.files import ResultFile, ResultFiles, damaged
from ..pictures.images import Loader, png
from . import signature
from .endpoints import ASYNC_RESULT, ASYNC_SUBMIT, CVPROCESS, GATEWAY_PATH, ORDINARY_HEADERS
from .hidream import KEPT_TASKS, first_problem
from .vendor_codes import VENDOR_CODES
from .volcengine_bodies import Outpainting, ResultQuery

LOGGER = logging.getLogger("hidream_volcengine.emulator")
# For a parameter that is refused. No page has a code for that: this one is the emulator's own.
PARAMETER_CODE = 50215
SUCCESS_CODE, INTERNAL_CODE = 10000, 50500
VERSION = "2022-08-31"
IN_QUEUE, GENERATING, DONE, NOT_FOUND, EXPIRED = "in_queue", "generating", "done", "not_found", "expired"
_SIGNED_HEADERS = frozenset({"authorization", "x-date", "x-content-sha256"})


@dataclass(frozen=True)
class Task:
    route: str
    """The path of the submit. A poll on the other path does not find the task: the gateway has another account."""
    return_url: bool
    span: Span
    path: "Future[str]"
    """The path of the result file."""
    action: Action
    """The fault of the submit; some of them show in its polls only."""


class Envelope:
    """Makes the answers to one request, with what they have in common: request id and elapsed time."""

    def __init__(self) -> None:
        self.request_id = f"{datetime.now(timezone.utc):%Y%m%d%H%M%S}{secrets.token_hex(10).upper()}"
        self._started = time.monotonic()

    def success(self, data: dict[str, Any] | None) -> Answer:
        return self._answer(SUCCESS_CODE, "Success", data, 200)

    def refused(self, refusal: RefusedError) -> Answer:
        return self._answer(PARAMETER_CODE, str(refusal), None, 400)

    def vendor_code(self, code: int) -> Answer:
        return self._answer(code, VENDOR_CODES[code].message, None, VENDOR_CODES[code].status)

    def _answer(self, code: int, message: str, data: Any, status: int) -> Answer:
        return Answer.json({"code": code, "data": data, "message": message, "request_id": self.request_id,
                            "status": code, "time_elapsed": f"{time.monotonic() - self._started:.7f}s"}, status)


class Volcengine:
    """Each method for an action checks the key, the query, the headers and the body as the page has them.

    None raises: a refusal is an answer.
    """

    def __init__(self, credentials: Credentials, pace: Pace, files: ResultFiles, executor: Executor) -> None:
        self._credentials, self._pace, self._files, self._executor = credentials, pace, files, executor
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        # The seeds for seed -1: another picture each time, as at the service; a run can be repeated.
        self._chances = itertools.count(1 << 40)

    def clear(self) -> None:
        with self._lock:
            self._tasks.clear()

    async def process(self, call: Call, action: Action, accept: Accept, base_url: str) -> Answer:
        """Answer CVProcess with the picture, when the latency is over."""
        envelope = Envelope()
        denied = self._denied(call, CVPROCESS, envelope)
        if denied:
            return denied
        try:
            body, draw = await self._read(call, CVPROCESS, base_url)
        except RefusedError as refusal:
            return envelope.refused(refusal)
        if _refuses(action):
            return envelope.vendor_code(action.vendor_code or 0)
        span = self._pace.take()
        accept(1, "", span)
        await asyncio.sleep(span.ends - time.monotonic())
        if action.vendor_code:
            return envelope.vendor_code(action.vendor_code)
        data = await asyncio.get_running_loop().run_in_executor(self._executor, _picture, draw, action)
        return envelope.success(self._data(body, data, action, base_url))

    async def submit(self, call: Call, action: Action, accept: Accept, base_url: str) -> Answer:
        """Answer CVSync2AsyncSubmitTask: make a task, start to draw its picture, and return its id."""
        envelope = Envelope()
        denied = self._denied(call, ASYNC_SUBMIT, envelope)
        if denied:
            return denied
        try:
            body, draw = await self._read(call, ASYNC_SUBMIT, base_url)
        except RefusedError as refusal:
            return envelope.refused(refusal)
        if _refuses(action):
            return envelope.vendor_code(action.vendor_code or 0)
        span = self._pace.take()
        task_id = self._start(call.path, body, draw, action, span)
        accept(1, task_id, span)
        return envelope.success({"task_id": task_id})

    def result(self, call: Call, action: Action, base_url: str) -> Answer:
        """Answer CVSync2AsyncGetResult, a poll of a task."""
        envelope = Envelope()
        denied = self._denied(call, ASYNC_RESULT, envelope)
        if denied:
            return denied
        try:
            _check_query_and_headers(call, ASYNC_RESULT)
            query = ResultQuery.model_validate(call.json_body())
        except ValidationError as error:
            return envelope.refused(RefusedError(first_problem(error)))
        except RefusedError as refusal:
            return envelope.refused(refusal)
        if action.vendor_code:
            return envelope.vendor_code(action.vendor_code)
        with self._lock:
            task = self._tasks.get(query.task_id)
        if task is None or task.route != call.path or action.forgotten or task.action.forgotten:
            return envelope.success(None if action.empty else _no_picture(action.async_status or NOT_FOUND))
        if action.empty or task.action.empty:
            return envelope.success(None)
        status = action.async_status or self._status(task)
        if status != DONE:
            return envelope.success(_no_picture(status))
        if task.action.vendor_code:
            return envelope.vendor_code(task.action.vendor_code)
        if task.path.cancelled() or task.path.exception() is not None:
            return envelope.vendor_code(INTERNAL_CODE)
        as_url = task.return_url if query.return_url is None else query.return_url
        return envelope.success(self._finished(task, as_url, action, base_url))

    def _denied(self, call: Call, operation: str, envelope: Envelope) -> Answer | None:
        """Return the answer to a wrong key or signature, or None if the request may go on."""
        if call.path == GATEWAY_PATH:
            expected = f"Bearer {self._credentials.gateway_api_key}"
            if hmac.compare_digest(call.headers.get("authorization", "").encode(), expected.encode()):
                return None
            # The gateway's real error body is unknown; most gateways answer in OpenAI's shape.
            return Answer.json({"error": {"message": "Invalid API key", "type": "invalid_request_error"}}, 401)
        try:
            signature.verify(call, self._credentials.access_key_id, self._credentials.secret_access_key)
            if dict(call.query) != {**dict(call.query), "Action": operation, "Version": VERSION}:
                raise signature.SignatureError("InvalidActionOrVersion", "Could not find operation.", 404)
        except signature.SignatureError as error:
            query = dict(call.query)
            return Answer.json({"ResponseMetadata": {
                "RequestId": envelope.request_id,
                "Action": query.get("Action", ""), "Version": query.get("Version", ""),
                "Service": signature.SERVICE, "Region": signature.REGION,
                "Error": {"Code": error.code, "Message": str(error)},
            }}, error.status)
        return None

    async def _read(self, call: Call, operation: str, base_url: str) -> tuple[Outpainting, Callable[[], Image.Image]]:
        _check_query_and_headers(call, operation)
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, _read, call, Loader(self._files, base_url), next(self._chances))

    def _start(self, route: str, body: Outpainting, draw: Callable[[], Image.Image], action: Action,
               span: Span) -> str:
        # Ids like the service's: digits, too many for a float to hold exactly.
        task_id = str(7 * 10**18 + secrets.randbelow(10**18))
        path = self._executor.submit(self._draw, draw, action, task_id)
        with self._lock:
            self._tasks[task_id] = Task(route, body.return_url, span, path, action)
            while len(self._tasks) > KEPT_TASKS:
                del self._tasks[next(iter(self._tasks))]
        return task_id

    def _draw(self, draw: Callable[[], Image.Image], action: Action, task_id: str) -> str:
        try:
            return self._files.add(ResultFile(_picture(draw, action), "cvsync2async", task_id))
        except Exception:
            LOGGER.exception("emulator: a picture for %s could not be made", "cvsync2async")
            raise

    def _status(self, task: Task) -> str:
        if task.action.async_status:
            return task.action.async_status
        elapsed = time.monotonic() - task.span.begins
        if elapsed < task.span.seconds / 3:
            return IN_QUEUE
        return GENERATING if task.action.never or elapsed < task.span.seconds or not task.path.done() else DONE

    def _finished(self, task: Task, as_url: bool, poll: Action, base_url: str) -> dict[str, Any]:
        path = task.path.result()
        file = self._files.get(path)
        if file is None:
            # ResultFiles dropped it in favour of newer ones.
            return _no_picture(EXPIRED)
        images: list[str] = []
        if not (task.action.algorithm or task.action.no_image or poll.no_image):
            url = poll.url or task.action.url or base_url + path
            images = [url if as_url else base64.b64encode(file.data).decode()]
        return {
            "algorithm_base_resp": _algorithm(task.action),
            # The pages of similar Volcengine calls show null for the form that was not asked for.
            "binary_data_base64": None if as_url else images,
            "image_urls": images if as_url else None,
            "status": DONE,
        }

    def _data(self, body: Outpainting, data: bytes, action: Action, base_url: str) -> dict[str, Any] | None:
        if action.empty:
            return None
        images: list[str] = []
        urls: list[str] | None = None
        if not action.algorithm and not action.no_image:
            if body.return_url:
                path = self._files.add(ResultFile(data, "cvprocess", ""))
                urls = [action.url or base_url + path]
            else:
                images = [base64.b64encode(data).decode()]
        return {
            "algorithm_base_resp": _algorithm(action),
            "binary_data_base64": images,
            "image_urls": urls,
            "request_id": hashlib.sha256(uuid.uuid4().bytes).hexdigest(),
        }


def _refuses(action: Action) -> bool:
    """Whether the fault is a code that refuses the request before anything is generated."""
    return action.vendor_code is not None and not VENDOR_CODES[action.vendor_code].after_generation


def _algorithm(action: Action) -> dict[str, Any]:
    return {"status_code": action.algorithm, "status_message": "emulated failure" if action.algorithm else "Success"}


def _no_picture(status: str) -> dict[str, Any]:
    return {"binary_data_base64": None, "image_urls": None, "status": status}


def _check_query_and_headers(call: Call, operation: str) -> None:
    expected = {"Action": operation, "Version": VERSION}
    if call.single_query(frozenset(expected)) != expected:
        raise RefusedError(f"the query must be Action={operation}&Version={VERSION}")
    allowed = {"authorization"} if call.path == GATEWAY_PATH else _SIGNED_HEADERS
    for name in call.headers:
        if name not in ORDINARY_HEADERS and name not in allowed:
            raise RefusedError(f"the page lists no header {name!r}")


def _read(call: Call, load: Loader, chance: int) -> tuple[Outpainting, Callable[[], Image.Image]]:
    try:
        body = Outpainting.model_validate(call.json_body())
    except ValidationError as error:
        raise RefusedError(first_problem(error)) from None
    return body, body.draw(load, chance)


def _picture(draw: Callable[[], Image.Image], action: Action) -> bytes:
    picture, size = draw(), action.sub_task_size(0)
    data = png(pictures.resized(picture, size) if size else picture)
    return damaged(data) if action.corrupt else data

"""Volcengine's endpoints, synchronous (CVProcess) or as a task (CVSync2Async…); signed, or with a gateway key."""

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
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..credentials import Credentials
from ..endpoints import VOLCENGINE
from ..faults import Action
from ..message import Accept, Answer, Call, RefusedError
from ..pace import Pace, Span
from ..pictures import pictures
from ..pictures.files import ResultFile, ResultFiles, damaged
from ..pictures.images import Loader, png
from . import signature
from .endpoint import ASYNC_RESULT, ASYNC_SUBMIT, CVPROCESS, Draw, VolcengineBody, VolcengineEndpoint
from .hidream import KEPT_TASKS
from .routes import GATEWAY_PATH, ORDINARY_HEADERS
from .strict import checked
from .vendor_codes import VENDOR_CODES
from .volcengine_query import ResultQuery

LOGGER = logging.getLogger("hidream_volcengine.emulator")
# For a parameter that is refused. No page has a code for that: this one is the emulator's own.
PARAMETER_CODE = 50215
SUCCESS_CODE, INTERNAL_CODE, UNKNOWN_CODE = 10000, 50500, 50402
VERSION = "2022-08-31"
IN_QUEUE, GENERATING, DONE, NOT_FOUND, EXPIRED = "in_queue", "generating", "done", "not_found", "expired"
_SIGNED_HEADERS = frozenset({"authorization", "x-date", "x-content-sha256"})


class VendorError(RefusedError):
    """The answer is an error of Volcengine's table."""

    def __init__(self, code: int) -> None:
        super().__init__(VENDOR_CODES[code].message)
        self.code, self.status = code, VENDOR_CODES[code].status


@dataclass(frozen=True)
class Request:
    """A submit, or CVProcess, that the page allows."""

    endpoint: VolcengineEndpoint
    body: VolcengineBody
    draws: Sequence[Draw]


@dataclass(frozen=True)
class Task:
    req_key: str
    route: str
    """The path of the submit. A poll on the other path does not find the task: the gateway has another account."""
    return_url: bool
    span: Span
    paths: "Future[list[str]]"
    """The paths of the result files."""
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
        code, status = (refusal.code, refusal.status) if isinstance(refusal, VendorError) else (PARAMETER_CODE, 400)
        return self._answer(code, str(refusal), None, status)

    def _answer(self, code: int, message: str, data: Any, status: int) -> Answer:
        return Answer.json({"code": code, "data": data, "message": message, "request_id": self.request_id,
                            "status": code, "time_elapsed": f"{time.monotonic() - self._started:.7f}s"}, status)


class Volcengine:
    """Checks the key, the query, the headers and the body as the pages have them. A refusal is an answer."""

    def __init__(self, credentials: Credentials, pace: Pace, files: ResultFiles, executor: Executor) -> None:
        self._credentials, self._pace, self._files, self._executor = credentials, pace, files, executor
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        # The seeds for seed -1: another picture each time, as at the service; a run can be repeated.
        self._chances = itertools.count(1 << 40)

    def clear(self) -> None:
        with self._lock:
            self._tasks.clear()

    async def answer(self, operation: str, call: Call, action: Action, accept: Accept, base_url: str) -> Answer:
        """Answer CVProcess, or the submit or a poll of a task. `operation` is Volcengine's action, `action` a fault."""
        envelope = Envelope()
        denied = self._denied(call, operation, envelope)
        if denied:
            return denied
        answers = {CVPROCESS: self._process, ASYNC_SUBMIT: self._submit, ASYNC_RESULT: self._result}
        try:
            _check_query_and_headers(call, operation)
            return envelope.success(await answers[operation](call, action, accept, base_url))
        except RefusedError as refusal:
            return envelope.refused(refusal)

    async def _process(self, call: Call, action: Action, accept: Accept, base_url: str) -> dict[str, Any] | None:
        """Return the pictures, when the latency is over."""
        request = await self._read(call, CVPROCESS, base_url)
        _refuse_before_generation(action)
        span = self._pace.take()
        accept(len(request.draws), "", span)
        await asyncio.sleep(span.ends - time.monotonic())
        if action.vendor_code:
            raise VendorError(action.vendor_code)
        made = await asyncio.get_running_loop().run_in_executor(self._executor, _pictures, request.draws, action)
        return self._data(request, made, action, base_url)

    async def _submit(self, call: Call, action: Action, accept: Accept, base_url: str) -> dict[str, Any]:
        """Make a task, start to draw its pictures, and return its id."""
        request = await self._read(call, ASYNC_SUBMIT, base_url)
        _refuse_before_generation(action)
        span = self._pace.take()
        task_id = self._start(call.path, request, action, span)
        accept(len(request.draws), task_id, span)
        return {"task_id": task_id}

    async def _result(self, call: Call, action: Action, accept: Accept, base_url: str) -> dict[str, Any] | None:
        """Return the state of a task, and its pictures once it is done."""
        query = checked(ResultQuery, call.json_body())
        if query.req_key not in VOLCENGINE:
            raise RefusedError(f"req_key: there is no {query.req_key!r}")
        if action.vendor_code:
            raise VendorError(action.vendor_code)
        task = None if action.forgotten else self._task(query, call.path)
        if action.empty or (task is not None and task.action.empty):
            return None
        status = action.async_status or (NOT_FOUND if task is None else self._status(task))
        if task is None or status != DONE:
            return _no_picture(status)
        as_url = task.return_url if query.return_url is None else query.return_url
        return self._finished(task, as_url, action, base_url)

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

    async def _read(self, call: Call, operation: str, base_url: str) -> Request:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, _read, call, operation, Loader(self._files, base_url), next(self._chances))

    def _start(self, route: str, request: Request, action: Action, span: Span) -> str:
        # Ids like the service's: digits, too many for a float to hold exactly.
        task_id = str(7 * 10**18 + secrets.randbelow(10**18))
        paths = self._executor.submit(self._draw, request, action, task_id)
        with self._lock:
            self._tasks[task_id] = Task(request.body.req_key, route, request.body.return_url, span, paths, action)
            while len(self._tasks) > KEPT_TASKS:
                del self._tasks[next(iter(self._tasks))]
        return task_id

    def _draw(self, request: Request, action: Action, task_id: str) -> list[str]:
        try:
            made = _pictures(request.draws, action)
        except Exception:
            LOGGER.exception("emulator: a picture for %s could not be made", request.body.req_key)
            raise
        return [self._files.add(ResultFile(data, "cvsync2async", task_id), request.endpoint.image_links)
                for data in made]

    def _task(self, query: ResultQuery, route: str) -> Task | None:
        """Return the task that a query asks for, or None if its account has none with this id and req_key."""
        with self._lock:
            task = self._tasks.get(query.task_id)
        if task is None or task.action.forgotten or (task.req_key, task.route) != (query.req_key, route):
            return None
        return task

    def _status(self, task: Task) -> str:
        if task.action.async_status:
            return task.action.async_status
        elapsed = time.monotonic() - task.span.begins
        if elapsed < task.span.seconds / 3:
            return IN_QUEUE
        return GENERATING if task.action.never or elapsed < task.span.seconds or not task.paths.done() else DONE

    def _finished(self, task: Task, as_url: bool, poll: Action, base_url: str) -> dict[str, Any]:
        files = self._results(task)
        if files is None:
            return _no_picture(EXPIRED)
        if as_url:
            form, images = "image_urls", [poll.url or task.action.url or base_url + path for path in files]
        else:
            form, images = "binary_data_base64", [base64.b64encode(data).decode() for data in files.values()]
        if _shows_nothing(task.action) or poll.no_image:
            images = []
        # The pages of similar Volcengine calls show null for the form that was not asked for.
        return {**_no_picture(DONE), form: images, "algorithm_base_resp": _algorithm(task.action)}

    def _results(self, task: Task) -> dict[str, bytes] | None:
        """Return the files of an ended task by their paths, or None if they were dropped in favour of newer ones.

        Raises:
            VendorError: the task has failed.
        """
        if task.action.vendor_code:
            raise VendorError(task.action.vendor_code)
        try:
            paths = task.paths.result()
        except Exception:
            # They could not be drawn, which is logged, or the emulator stops.
            raise VendorError(INTERNAL_CODE) from None
        files = {path: file.data for path in paths if (file := self._files.get(path)) is not None}
        return files if len(files) == len(paths) else None

    def _data(self, request: Request, made: Sequence[bytes], action: Action, base_url: str) -> dict[str, Any] | None:
        if action.empty:
            return None
        images: list[str] = []
        urls: list[str] | None = None
        if not _shows_nothing(action):
            if request.body.return_url:
                urls = [action.url or base_url + self._files.add(ResultFile(data, "cvprocess", ""),
                                                                 request.endpoint.image_links) for data in made]
            else:
                images = [base64.b64encode(data).decode() for data in made]
        return {
            "algorithm_base_resp": _algorithm(action),
            "binary_data_base64": images,
            "image_urls": urls,
            "request_id": hashlib.sha256(uuid.uuid4().bytes).hexdigest(),
        }


def _refuse_before_generation(action: Action) -> None:
    if action.vendor_code is not None and not VENDOR_CODES[action.vendor_code].after_generation:
        raise VendorError(action.vendor_code)


def _shows_nothing(action: Action) -> bool:
    return bool(action.algorithm) or action.no_image


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


def _read(call: Call, operation: str, load: Loader, seed: int) -> Request:
    data = call.json_body()
    req_key = data.get("req_key")
    if not isinstance(req_key, str):
        raise RefusedError("req_key must be a string")
    endpoint = VOLCENGINE.get(req_key)
    if endpoint is None or operation not in endpoint.actions:
        raise VendorError(UNKNOWN_CODE)
    body = checked(endpoint.body, data)
    options = body.model_fields_set & {"return_url", "logo_info"}
    if options and operation == ASYNC_SUBMIT and not endpoint.options_in_submit:
        raise RefusedError(f"{sorted(options)} belong into req_json of the query")
    return Request(endpoint, body, body.draws(load, seed))


def _pictures(draws: Sequence[Draw], action: Action) -> list[bytes]:
    made = []
    for index, draw in enumerate(draws):
        picture, size = draw(), action.sub_task_size(index)
        data = png(pictures.resized(picture, size) if size else picture)
        made.append(damaged(data) if action.corrupt else data)
    return made

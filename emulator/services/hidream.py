"""HiDream: submit, result query, list of templates, and the exchange of an API key for a token."""

import asyncio
import hmac
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from ..credentials import Credentials
from ..faults import Action
from ..message import Accept, Answer, Call, ImageRefusedError, RefusedError
from ..pace import Pace, Span
from ..pictures import pictures
from ..pictures.files import ResultFile, ResultFiles
from ..pictures.images import Loader, png
from .endpoint import Draw, HiDreamBody, HiDreamEndpoint
from .routes import ORDINARY_HEADERS
from .strict import checked
from .templates import ListQuery, page_of

LOGGER = logging.getLogger("hidream_volcengine.emulator")
DAY = 24 * 60 * 60
KEPT_TASKS = 1_000

# 1051 is the only code for an image that a page names. The codes of a wrong parameter are unknown: 1001 is the
# emulator's own.
IMAGE_CODE, PARAMETER_CODE = 1051, 1001
QUEUED, DONE, PROCESSING, FAILED, REJECTED = 0, 1, 2, 3, 4
_WORDS = {FAILED: "emulated failure", REJECTED: "emulated content review: not passed",
          1004: "emulated: no result", 1005: "emulated: no result", 1006: "emulated: no result"}


@dataclass(frozen=True)
class SubTask:
    """One picture of a task."""

    id: str
    due: float
    """When it is finished, in seconds after the beginning of the task's span."""
    final_status: int
    path: "Future[str]"
    """The path of the result file."""


@dataclass(frozen=True)
class Task:
    id: str
    request_id: str
    endpoint: str
    span: Span
    subs: Sequence[SubTask]
    action: Action
    """The fault of the submit; some of them show in its polls only."""


class HiDream:
    """Each method for an endpoint checks the key, the query, the headers and the body as the page has them.

    None raises: a refusal is an answer.
    """

    def __init__(self, credentials: Credentials, pace: Pace, files: ResultFiles, executor: Executor) -> None:
        self._credentials, self._pace, self._files, self._executor = credentials, pace, files, executor
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._tokens: set[str] = set()
        self._token_numbers = itertools.count(1)
        # A new seed for each submit: as at the service, equal requests give different pictures; a run can be repeated.
        self._seeds = itertools.count()

    def clear(self) -> None:
        with self._lock:
            self._tasks.clear()

    def expire_tokens(self) -> None:
        """Refuse all tokens that `token` has issued."""
        with self._lock:
            self._tokens.clear()

    def token(self, call: Call) -> Answer:
        """Answer GET apikey2token: a new token for the API key in the header."""
        try:
            call.single_query(frozenset())
            _check_headers(call, {"api-key"})
        except RefusedError as refusal:
            return _refused(refusal, "")
        if not _same(call.headers.get("api-key", ""), self._credentials.hidream_api_key):
            return _unauthorized("the API key is missing or wrong")
        token = f"sandbox-hidream-token-{next(self._token_numbers)}"
        with self._lock:
            self._tokens.add(token)
        return _success({"token": token, "expire_time": int(time.time()) + DAY}, "")

    async def submit(self, endpoint: HiDreamEndpoint, call: Call, action: Action, accept: Accept,
                     base_url: str) -> Answer:
        """Make a task, start to draw its pictures, and answer with its ids."""
        if not self._authorized(call):
            return _unauthorized("the token is missing, wrong or expired")
        seed = next(self._seeds)
        try:
            call.single_query(frozenset())
            _check_headers(call, {"authorization", *endpoint.headers})
            loop = asyncio.get_running_loop()
            body, draws = await loop.run_in_executor(
                self._executor, _read, endpoint, call, Loader(self._files, base_url), seed)
        except RefusedError as refusal:
            return _refused(refusal, "")
        task = self._start(endpoint, body, draws, action)
        accept(len(draws), task.id, task.span)
        return _success({"task_id": task.id, "sub_task_ids": [sub.id for sub in task.subs]}, task.request_id)

    def result(self, endpoint: HiDreamEndpoint, call: Call, action: Action, base_url: str) -> Answer:
        """Answer a poll; the task must be one of the same endpoint."""
        if not self._authorized(call):
            return _unauthorized("the token is missing, wrong or expired")
        try:
            query = call.single_query(frozenset({"task_id", "request_id"}))
            _check_headers(call, {"authorization"})
            if not query.get("task_id"):
                # A message other than "task not found", which a client takes for a lost task.
                raise RefusedError("task_id is missing")
        except RefusedError as refusal:
            return _refused(refusal, "")
        with self._lock:
            task = self._tasks.get(query["task_id"])
        if task is None or task.endpoint != endpoint.name or action.forgotten or task.action.forgotten:
            return _refused(RefusedError("task not found"), query.get("request_id", ""))
        empty = task.action.empty or action.empty
        results = [] if empty else [_sub_result(task, index, action, base_url) for index in range(len(task.subs))]
        return _success({"task_id": task.id, "sub_task_results": results}, task.request_id)

    def templates(self, call: Call, action: Action, first_page: int, base_url: str) -> Answer:
        """Answer with one page of the templates; `first_page` is the number of the first one."""
        if not self._authorized(call):
            return _unauthorized("the token is missing, wrong or expired")
        try:
            asked = call.single_query(frozenset(ListQuery.model_fields))
            _check_headers(call, {"authorization"})
            query = checked(ListQuery, asked)
            if query.page_index is not None and query.page_index < first_page:
                raise RefusedError(f"page_index begins at {first_page}")
        except RefusedError as refusal:
            return _refused(refusal, "")
        page = page_of(query, first_page, base_url, action.url)
        return _success({**page, "templates": []} if action.empty else page, "")

    def _authorized(self, call: Call) -> bool:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        with self._lock:
            issued = token in self._tokens
        return scheme == "Bearer" and (issued or _same(token, self._credentials.hidream_token))

    def _start(self, endpoint: HiDreamEndpoint, body: HiDreamBody, draws: Sequence[Draw], action: Action) -> Task:
        task_id, count = str(uuid.uuid4()), len(draws)
        statuses = action.task_status or [DONE]
        span = self._pace.take()
        subs = [
            SubTask(
                id=str(uuid.uuid4()),
                # The pictures of a set are finished one after another, the last one when the latency is over.
                due=span.seconds * (0.7 + 0.3 * (index + 1) / count),
                final_status=statuses[index % len(statuses)],
                path=self._executor.submit(self._draw, draw, action.sub_task_size(index), endpoint.name, task_id),
            )
            for index, draw in enumerate(draws)
        ]
        task = Task(task_id, body.request_id or str(uuid.uuid4()), endpoint.name, span, subs, action)
        with self._lock:
            self._tasks[task_id] = task
            while len(self._tasks) > KEPT_TASKS:
                del self._tasks[next(iter(self._tasks))]
        return task

    def _draw(self, draw: Draw, size: tuple[int, int] | None, endpoint: str, task_id: str) -> str:
        try:
            picture = draw()
            data = png(pictures.resized(picture, size) if size else picture)
        except Exception:
            LOGGER.exception("emulator: a picture for %s could not be made", endpoint)
            raise
        return self._files.add(ResultFile(data, endpoint, task_id))


def _read(endpoint: HiDreamEndpoint, call: Call, load: Loader, seed: int) -> tuple[HiDreamBody, Sequence[Draw]]:
    body = checked(endpoint.body, call.json_body())
    return body, body.draws(load, seed)


def _sub_result(task: Task, index: int, poll: Action, base_url: str) -> dict[str, Any]:
    sub = task.subs[index]
    status, completion = _progress(task, sub)
    if poll.task_status:
        status = poll.task_status[index % len(poll.task_status)]
    result: dict[str, Any] = {"sub_task_id": sub.id, "task_status": status, "task_completion": completion}
    if status in _WORDS:
        result["description"] = _WORDS[status]
    made = sub.path.done() and not sub.path.cancelled() and sub.path.exception() is None
    if status == DONE and made and not (task.action.no_image or poll.no_image):
        result["image"] = poll.url or task.action.url or base_url + sub.path.result()
    return result


def _progress(task: Task, sub: SubTask) -> tuple[int, float]:
    """Return task_status and task_completion (0 to 1) of a sub-task now."""
    elapsed = time.monotonic() - task.span.begins
    if elapsed < task.span.seconds / 3:
        return QUEUED, 0.0
    share = round(min(elapsed / sub.due, 0.99), 2) if sub.due else 0.99
    if task.action.never or elapsed < sub.due or not sub.path.done():
        return PROCESSING, share
    if sub.path.cancelled() or sub.path.exception() is not None:
        return FAILED, share
    return sub.final_status, 1.0 if sub.final_status == DONE else share


def _check_headers(call: Call, allowed: Collection[str]) -> None:
    for name in call.headers:
        if name not in ORDINARY_HEADERS and name not in allowed:
            raise RefusedError(f"the page lists no header {name!r}")
    if call.headers.get("x-accept-language", "zh") not in ("en", "zh"):
        raise RefusedError("X-accept-language must be en or zh")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _success(result: dict[str, Any], request_id: str) -> Answer:
    return Answer.json({"code": 0, "message": "Success", "request_id": request_id or str(uuid.uuid4()),
                        "result": result})


def _refused(refusal: RefusedError, request_id: str) -> Answer:
    code = IMAGE_CODE if isinstance(refusal, ImageRefusedError) else PARAMETER_CODE
    return Answer.json({"code": code, "message": str(refusal), "request_id": request_id or str(uuid.uuid4())})


def _unauthorized(message: str) -> Answer:
    return Answer.json({"code": 401, "message": message, "request_id": str(uuid.uuid4())}, 401)

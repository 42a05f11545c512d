"""HiDream's answer to a result query, read as the sub tasks of a task.

Status words, and field names other than `image` and `error`, are those of public clients of HiDream and of gateways in
front of it: the result pages of this pack's endpoints were not found (see hidream.py).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..core import (
    PollError,
    RemoteImageError,
    SubTask,
    TaskFailedError,
    TaskRef,
    Text,
    UnknownTaskError,
    excerpt,
    json_value,
    pack_logger,
    words_of,
)
from .answers import Reply, begins_as_a_picture, id_of, is_address
from .outcome import TASK_STATUS, Meaning, Outcome, refusal

_IDS = ("sub_task_id", "id")
_STATUSES = ("task_status", "status", "state")
_PICTURES = ("image", "url", "image_url", "media", "images", "urls", "image_urls")
_REASONS = ("description", "error", "error_msg", "message", "fail_reason")
# An object with one of these fields is a sub task.
_ENTRY = frozenset({*_IDS, *_STATUSES, *_PICTURES, *_REASONS, "task_completion"})
# Numbers of `task_status`; from 3 on, the task has ended without a picture.
_WAITS, _DONE, _WORKS, _FAILED, _REJECTED = 0, 1, 2, 3, 4
_WORDS = {
    word: status
    for status, words in {
        _WAITS: "wait waiting queue queued in_queue pending created submitted",
        _DONE: "success successful succeed succeeded done finish finished complete completed ok",
        _WORKS: "run running process processing in_progress generating working started",
        _FAILED: "fail failed failure error",
        _REJECTED: "reject rejected moderated blocked",
    }.items()
    for word in words.split()
}
# The query of an address inside JSON text.
_QUERY = re.compile(r"(?<=[^\s\"])\?[^\s\"\\]*(?=[\s\"\\])")
# Levels of nested lists, objects and JSON texts that are looked into.
_DEEPEST = 3
# Characters of the service's words in an error.
_LONGEST_SHOWN = 500


def entries_of(reply: Reply) -> list[dict[str, Any]]:
    """The sub tasks of an answer, as the service's JSON objects: the value of the first ``sub_task_results`` with any.

    That may be a list, one object, an object of them by id, JSON in a text, or an address. Without such a field, the
    result of a successful answer is the only sub task, if it has a picture.
    """
    listing = [part.fields["sub_task_results"] for part in reply.parts if "sub_task_results" in part.fields]
    if not listing and not reply.succeeded:
        # An address in a failed answer is no picture for certain: it may be that of a help page.
        return []
    if not listing:
        return [part.fields for part in reply.parts if part.is_result and has_picture(part.fields)][:1]
    return next((entries for value in listing if (entries := list(_entries(value)))), [])


def _entries(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        if is_address(value):
            yield {"image": value}
        elif value.lstrip()[:1] in ("{", "["):
            yield from _entries(json_value(value), depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item, depth + 1)
    elif isinstance(value, dict):
        if _ENTRY & value.keys():
            yield value
        else:
            for name, inner in value.items():
                for entry in _entries(inner, depth + 1):
                    yield {"sub_task_id": name, **entry}


def sub_tasks_in(reply: Reply, task: TaskRef) -> list[SubTask]:
    """The sub tasks of an answer to a result query.

    Raises:
        UnknownTaskError: the service says that it has no such task, which may be wrong.
        PollError: the answer has no state of the task; the task may be fine.
    """
    entries = entries_of(reply)
    said = f"HTTP {reply.status} {excerpt(reply.answer.body, 120)}".strip()
    words = reply.message
    if not entries and _UNKNOWN.search(words) and not _OF_THE_CALLER.search(words):
        raise UnknownTaskError(said, certain=reply.status == 200 and reply.is_json)
    log = f"{task.endpoint}: task_id={task.task_id}"
    if not reply.is_json or not (reply.succeeded or any(map(has_picture, entries))):
        pack_logger().debug("%s no state: %s", log, excerpt(reply.answer.body))
        raise PollError(said)
    states = [(entry.get("task_status"), entry.get("task_completion")) for entry in entries]
    pack_logger().debug("%s (status, completion)=%s", log, states)
    return [sub_task for entry in entries for sub_task in sub_tasks_of(entry, task)]


# Words for a task that the service does not know; no page documents them. Words about a key, a parameter or a user
# (_OF_THE_CALLER) say nothing about the task.
_UNKNOWN = re.compile(
    r"\btask(?:s|[_ ]?ids?)?\b[\w\s'\"-]{0,40}?\b(?:not\s+(?:be\s+)?found|(?:not|doesn't)\s+exist|has\s+expired)"
    r"|\b(?:no\s+such|unknown|cannot\s+find|could\s+not\s+find|not\s+found:?)\s+(?:the\s+|this\s+)?task\b"
    r"|^\W*(?:record not found|not_found)\W*$"
    r"|任务\s*(?:ID|编号|号)?\s*已?(?:不存在|未找到|找不到|过期)|(?:不存在|未找到|找不到|查不到)(?:该|此|这个)?任务",
    re.IGNORECASE,
)
_OF_THE_CALLER = re.compile(
    r"token|\bkey\b|api_?key|signature|auth|permission|param|user|account|令牌|密钥|鉴权|签名|参数|权限|用户|账户",
    re.IGNORECASE,
)


def has_picture(entry: dict[str, Any]) -> bool:
    """Whether a sub task has an address or the base64 of a picture."""
    return bool(_pictures(entry))


def sub_tasks_of(entry: dict[str, Any], task: TaskRef) -> list[SubTask]:
    """One sub task as values: one for each of its pictures, or a single one with its state or error.

    Args:
        entry: the sub task as :func:`entries_of` returns it.
        task: the task that it belongs to, for an error.
    """
    pictures = _pictures(entry)
    status, reported = _status_of(entry, has_picture=bool(pictures))
    sub_task = SubTask(
        next(filter(None, (id_of(entry.get(name)) for name in _IDS)), ""),
        started=status not in (None, _WAITS),
        completion=_share(entry.get("task_completion")),
    )
    if status is not None and status > _WORKS:
        return [replace(sub_task, error=_error(entry, status, reported, task), final=status in TASK_STATUS)]
    if status not in (None, _DONE):
        return [sub_task]
    # Done, or without a known status: then a picture decides.
    if not pictures:
        return [replace(sub_task, empty=_shown(entry) if status == _DONE else "", said=_shown(entry))]
    return [_picture(sub_task, text, number) for number, text in enumerate(pictures, 1)]


def _picture(sub_task: SubTask, text: str, number: int) -> SubTask:
    """``sub_task`` with its picture ``number`` (from 1), an address or base64."""
    # All that is no base64 of a picture is fetched.
    has_address = is_address(text) or not begins_as_a_picture(text)
    made = replace(sub_task, started=True, image=text if has_address else "", base64="" if has_address else text)
    if number == 1:
        return made
    # Further pictures get ids of their own, if the sub task has one.
    return replace(made, sub_task_id=sub_task.sub_task_id and f"{sub_task.sub_task_id}#{number}", is_further=True)


def _status_of(entry: dict[str, Any], *, has_picture: bool) -> tuple[int | None, Any]:
    """The number of a sub task's status (``None`` if it is not known), and the status as the service put it."""
    told = ((name, value) for name in _STATUSES if (value := entry.get(name)) not in (None, ""))
    name, reported = next(told, ("", None))
    word = re.sub(r"[\s-]+", "_", reported.strip().lower()) if isinstance(reported, str) else ""
    if word in _WORDS:
        # Status words are not documented, so a picture counts for more.
        return _DONE if has_picture and _WORDS[word] not in (_WAITS, _WORKS) else _WORDS[word], reported
    # Only `task_status` has documented numbers.
    return _whole_number(reported) if name == _STATUSES[0] else None, reported


def _whole_number(value: Any) -> int | None:
    """A whole number, also in a text or as a float; ``None`` for anything else."""
    if isinstance(value, str):
        value = json_value(value) if re.fullmatch(r"[0-9]{1,9}(?:\.0+)?", value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value % 1:
        return None
    return int(value)


def _pictures(entry: dict[str, Any]) -> list[str]:
    """Addresses and base64 in the first field that has any: others may repeat the picture, or have a smaller one."""
    for name in _PICTURES:
        texts = dict.fromkeys(_texts(entry.get(name)))
        # Any text in `image`, the documented field, is taken: if it cannot be fetched, the error shows it.
        if found := [each for each in texts if name == "image" or is_address(each) or begins_as_a_picture(each)]:
            return found
    return []


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif depth < _DEEPEST and isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif depth < _DEEPEST and isinstance(value, dict):
        for name in _PICTURES:
            if found := list(_texts(value.get(name), depth + 1)):
                yield from found
                return


def _error(entry: dict[str, Any], status: int, reported: Any, task: TaskRef) -> RemoteImageError:
    reason = " ".join(dict.fromkeys(text for name in _REASONS if (text := _reason(entry.get(name)))))
    unknown = Text(
        f"The service ended the task with a status this pack does not know ({status}).",
        f"服务端以未知状态（{status}）结束了任务。",
    )
    return refusal(
        "HiDream",
        TASK_STATUS.get(status) or Meaning(TaskFailedError, Outcome.FAILED, unknown),
        code=words_of(f"task_status {reported}", 60),
        vendor_message=words_of(reason, _LONGEST_SHOWN) if status in TASK_STATUS and reason else _shown(entry),
        request_id=task.request_id,
        task_id=task.task_id,
    )


def _reason(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value, ensure_ascii=False) if value else ""


def _shown(entry: dict[str, Any]) -> str:
    """A sub task as the service put it, without pictures and without queries of addresses, which may be signatures."""
    shown = {name: value for name, value in entry.items() if name not in _PICTURES or not value}
    return words_of(_QUERY.sub("", json.dumps(shown, ensure_ascii=False)), _LONGEST_SHOWN)


def _share(completion: Any) -> float | None:
    """``task_completion`` as a share, 0–1; ``None`` if it is no such number.

    The page does not say whether it runs to 1 or to 100: anything above 1 is read as per cent.
    """
    if isinstance(completion, bool) or not isinstance(completion, (int, float)) or not 0 <= completion <= 100:
        return None
    return completion / 100 if completion > 1 else float(completion)

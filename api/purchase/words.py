"""The results of a batch as a node returns them: deliveries and notes, or one error for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..core import RemoteImageError, ServiceError, TaskTimeoutError, Text
from .batch import Result
from .collect import Delivery


@dataclass(frozen=True)
class Sources:
    """Numbers of pictures: bought now, resumed from tasks that were accepted before, and reused from the store."""

    bought: int
    resumed: int
    reused: int


def notes_of(results: Sequence[Result]) -> list[Text]:
    """The notes of a batch's deliveries, each once: what the services said that does not fit the pictures."""
    deliveries = [result.delivery for result in results if result.delivery is not None]
    return list(dict.fromkeys(delivery.note for delivery in deliveries if delivery.note is not None))


def sources_of(results: Sequence[Result]) -> Sources:
    """How many pictures of a batch came from where."""
    deliveries = [result.delivery for result in results if result.delivery is not None]
    count = Counter({"bought": 0, "resumed": 0, "reused": 0})
    for delivery in deliveries:
        count[delivery.source] += len(delivery.pictures)
    return Sources(**count)


def deliver(results: Sequence[Result], *, accept_partial: bool) -> tuple[list[Delivery], list[Text]]:
    """The deliveries of a batch in the order of its calls, and notes about what is missing.

    Args:
        accept_partial: return the pictures that came, if there is at least one, although others are missing.

    Raises:
        RemoteImageError: the first error, if something is missing and ``accept_partial`` does not allow it. It counts
            the rest of the batch, and names its accepted tasks, so that their pictures can be fetched.
    """
    deliveries = [result.delivery for result in results if result.delivery is not None]
    errors = [error for result in results for error in _errors_of(result)]
    pictures = sum(len(delivery.pictures) for delivery in deliveries)
    skipped = sum(1 for result in results if result.delivery is None and result.error is None)
    if not errors and skipped:
        # No call failed, so the explained attempt that kept these back is settled by now: by a late answer, or by
        # "submit again".
        errors = [
            ServiceError(
                Text(
                    "An earlier try was being settled, so that nothing was bought.",
                    "先前的请求刚刚有了结果，因此本次未购买。",
                ),
                advice=Text("Queue again.", "请重新运行。"),
            )
        ]
    if not errors:
        return deliveries, []
    if accept_partial and pictures:
        notes = [
            Text(f"Missing ({count}×): {what.en}", f"缺失（{count} 项）：{what.zh}")
            for what, count in Counter(error.text() for error in errors).items()
        ]
        if skipped:
            notes.append(Text(f"{skipped} calls were not submitted after that.", f"之后有 {skipped} 次调用未提交。"))
        return deliveries, notes
    first = errors[0]
    # A synchronous call has no task id; Remote Task Result takes its journal id instead.
    bought = [
        delivery.task.task_id if delivery.task and delivery.task.task_id else delivery.journal_id
        for delivery in deliveries
    ]
    accepted = bought + [error.task_id for error in errors]
    tasks = [task_id for task_id in dict.fromkeys(accepted) if task_id]
    if pictures or skipped or len(errors) > 1:
        first.add_context(_rest_of_batch(pictures, len(errors), skipped, tasks))
    raise first


def may_still_come(results: Sequence[Result]) -> bool:
    """Whether something is missing, no call was held back, and each missing picture is in a task that goes on."""
    missing = [error for result in results for error in _errors_of(result)]
    none_skipped = all(result.delivery is not None or result.error is not None for result in results)
    return bool(missing) and none_skipped and all(isinstance(e, TaskTimeoutError) and e.billed != "no" for e in missing)


def _errors_of(result: Result) -> Sequence[RemoteImageError]:
    if result.error is not None:
        return [result.error]
    return result.delivery.errors if result.delivery is not None else ()


def _rest_of_batch(pictures: int, failed: int, skipped: int, tasks: Sequence[str]) -> Text:
    en = f"In this node: {pictures} pictures came, {failed} failed, {skipped} calls were not submitted."
    zh = f"本节点共：已生成 {pictures} 张，失败 {failed} 项，未提交 {skipped} 次调用。"
    if tasks:
        listed = ", ".join(tasks)
        en += f" The node Remote Task Result fetches what these tasks made, free of charge: {listed}."
        zh += f"可用「取回远程任务」节点免费取回这些任务的图片：{listed}。"
    return Text(en, zh)

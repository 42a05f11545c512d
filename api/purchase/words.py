"""What became of the calls of one node, as the node returns it: deliveries and notes, or one error for all."""

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


@dataclass(frozen=True)
class BatchOutcome:
    """The results of a batch in the order of its calls.

    A node first asks :meth:`error`; if it brings none, the node returns ``deliveries`` with :meth:`notes`.
    """

    results: Sequence[Result]

    @property
    def deliveries(self) -> list[Delivery]:
        return [result.delivery for result in self.results if result.delivery is not None]

    @property
    def _skipped(self) -> int:
        """How many calls were not submitted because another one failed."""
        return sum(result.delivery is None and result.error is None for result in self.results)

    @property
    def _errors(self) -> list[RemoteImageError]:
        """An error for each call that failed and each picture that is missing; empty if nothing is."""
        errors: list[RemoteImageError] = []
        for result in self.results:
            errors += [result.error] if result.error else result.delivery.errors if result.delivery else ()
        if not errors and self._skipped:
            # No call failed, so the explained attempt that kept these back is settled by now: by a late answer, or by
            # "submit again".
            return [ServiceError(_WAS_SETTLED, advice=Text("Queue again.", "请重新运行。"))]
        return errors

    @property
    def sources(self) -> Sources:
        """How many pictures came from where."""
        count = Counter({"bought": 0, "resumed": 0, "reused": 0})
        for delivery in self.deliveries:
            count[delivery.source] += len(delivery.pictures)
        return Sources(**count)

    @property
    def may_still_come(self) -> bool:
        """Whether something is missing, no call was held back, and each missing picture is in a task that goes on."""
        errors = self._errors
        go_on = (isinstance(error, TaskTimeoutError) and error.billed != "no" for error in errors)
        return bool(errors) and not self._skipped and all(go_on)

    def notes(self) -> list[Text]:
        """What the services said that does not fit the pictures, and what is missing; each once."""
        notes = list(dict.fromkeys(delivery.note for delivery in self.deliveries if delivery.note is not None))
        errors, skipped = self._errors, self._skipped
        for what, count in Counter(error.text() for error in errors).items():
            notes.append(Text(f"Missing ({count}×): {what.en}", f"缺失（{count} 项）：{what.zh}"))
        if skipped:
            notes.append(Text(f"{skipped} calls were not submitted after that.", f"之后有 {skipped} 次调用未提交。"))
        return notes

    def error(self, *, accept_partial: bool) -> RemoteImageError | None:
        """The error to raise, if something is missing and ``accept_partial`` does not allow it.

        It is the first one. What became of the rest of the batch is added to it, with the accepted tasks, so that their
        pictures can be fetched.

        Args:
            accept_partial: return the pictures that came, if there is at least one, although others are missing.
        """
        errors, skipped = self._errors, self._skipped
        pictures = sum(len(delivery.pictures) for delivery in self.deliveries)
        if not errors or (accept_partial and pictures):
            return None
        if pictures or skipped or len(errors) > 1:
            errors[0].add_context(_rest_of_batch(pictures, len(errors), skipped, self._task_ids(errors)))
        return errors[0]

    def _task_ids(self, errors: Sequence[RemoteImageError]) -> list[str]:
        """The ids of the accepted tasks, each once.

        A synchronous call has no task id; Remote Task Result takes its journal id instead.
        """
        bought = [(each.task.task_id if each.task else "") or each.journal_id for each in self.deliveries]
        return [task_id for task_id in dict.fromkeys([*bought, *(error.task_id for error in errors)]) if task_id]


_WAS_SETTLED = Text(
    "An earlier try was being settled, so that nothing was bought.", "先前的请求刚刚有了结果，因此本次未购买。"
)


def _rest_of_batch(pictures: int, failed: int, skipped: int, tasks: Sequence[str]) -> Text:
    en = f"In this node: {pictures} pictures came, {failed} failed, {skipped} calls were not submitted."
    zh = f"本节点共：已生成 {pictures} 张，失败 {failed} 项，未提交 {skipped} 次调用。"
    if tasks:
        listed = ", ".join(tasks)
        en += f" The node Remote Task Result fetches what these tasks made, free of charge: {listed}."
        zh += f"可用「取回远程任务」节点免费取回这些任务的图片：{listed}。"
    return Text(en, zh)

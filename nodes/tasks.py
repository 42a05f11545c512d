"""The node that fetches the pictures of a paid task by its id."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from comfy_api.latest import io

from .. import api
from ..api import TASK_RESULT, ConfigurationError, InvalidInputError, Text, checked_values, endpoint_named
from .comfy import host
from .common import Notes, RemoteNode, pictures_of
from .schema import schema_of

# By the widget `task_id`.
_incomplete_fetches: Counter[str | None] = Counter()


class RemoteTaskResult(RemoteNode):
    """A task that was paid earlier: from the store, or from the service, which is asked again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(TASK_RESULT)

    @classmethod
    def fingerprint_inputs(cls, task_id: str | None, **_: object) -> int:
        """How many fetches of this task were incomplete.

        ComfyUI runs a node again if its fingerprint has changed: after an incomplete fetch, queueing again asks for the
        missing pictures, free of charge. After a complete fetch it stays the same: with a new fingerprint the paid
        nodes behind this one would run, and buy, again. For a ``task_id`` that comes over a wire ComfyUI passes
        ``None``, so its fingerprint never changes.
        """
        return _incomplete_fetches[task_id]

    @classmethod
    async def execute(cls, profile: str, endpoint: str, task_id: str) -> io.NodeOutput:
        values = checked_values(TASK_RESULT.widgets, {"endpoint": endpoint, "task_id": task_id})
        endpoint, wanted = values["endpoint"], _not_empty(values["task_id"].strip())
        journal = await host.off_loop(host.SERVER_JOURNAL.open)
        service = await host.off_loop(_service, journal, profile, endpoint, wanted)
        delivery = await host.fetch(journal, service, wanted)
        outcome = api.BatchOutcome([api.Result(delivery)])
        if (error := outcome.error(accept_partial=True)) is not None:
            raise error
        await host.off_loop(journal.mark_delivered, [delivery.journal_id])
        if delivery.errors:
            _incomplete_fetches[task_id] += 1
        pictures = pictures_of([delivery])
        known = await host.off_loop(journal.task_list.task, delivery.journal_id)
        labels = ["" if known is None else known.label] * len(pictures)
        images = await host.off_loop(api.tensors.image_tensors, pictures)
        return io.NodeOutput(images, labels, ui=Notes(outcome.notes()).ui())


def _service(journal: api.Journal, profile: str, endpoint: str, wanted: str) -> api.Service:
    """The service to ask for a task.

    In this order: the endpoint of the journal's task ``wanted``; the endpoint of a task of that id that the account of
    ``profile`` bought, the widget's endpoint first; the widget's endpoint.
    """
    known = journal.task_list.task(wanted)
    if known is not None:
        return _of_endpoint(profile, known.endpoint)
    for name, account in sorted(journal.task_list.places_of(wanted), key=lambda place: place[0] != endpoint):
        # A task of the same id of another account is another task. Suppressed: the profile has no key for the
        # endpoint's service, or a later version of the pack wrote the endpoint.
        with suppress(ConfigurationError):
            service = _of_endpoint(profile, name)
            if service.account.account_id == account:
                return service
    return _of_endpoint(profile, endpoint)


def _of_endpoint(profile: str, name: str) -> api.Service:
    return host.profiles().service(profile, endpoint_named(name))


def _not_empty(task_id: str) -> str:
    if not task_id:
        raise InvalidInputError(
            Text(
                "`task_id` is empty. Remote tasks in the sidebar lists the ids; a row dragged from there into the "
                "graph fills in everything.",
                "`task_id` 为空。侧边栏的「远程任务」中列有编号；从中将一行拖入画布即可自动填好。",
            )
        )
    return task_id

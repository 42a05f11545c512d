"""Fetching a paid task again by its id."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace

from comfy_api.latest import io

from .. import api
from ..api import ConfigurationError, InvalidInputError, Text, choices
from .comfy import host
from .common import CATEGORY, Notes, RemoteNode, pictures_of
from .widgets import PROFILE, ComboWidget, StringWidget

_PROFILE = replace(PROFILE, tooltip="The profile that bought the task.")
_ENDPOINT = ComboWidget(
    "endpoint",
    choices.ENDPOINTS,
    choices.HIDREAM_OUTPAINT,
    "The service that the task was given to; not needed for what this server's task list knows.",
)
_TASK_ID = StringWidget(
    "task_id",
    "The task_id that an error names, or a journal id (rv-…) of this server's task list.",
    multiline=False,
    max_length=200,
)

_incomplete_fetches: Counter[str | None] = Counter()


class RemoteTaskResult(RemoteNode):
    """A task that was paid earlier: from the store, or from the service, which is asked again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RemoteTaskResult",
            display_name="Remote Task Result",
            category=CATEGORY,
            description="Fetches the pictures of a task that was paid before. Free of charge.",
            inputs=[_PROFILE.input(), _ENDPOINT.input(), _TASK_ID.input()],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The pictures, each in its own size."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, task_id: str | None, **_: object) -> int:
        """Another one after each incomplete fetch of a task: what was missing is asked for again, and that is free.

        Never another one after a whole fetch: the paid nodes behind this one would buy again. So an id that comes over
        a wire, which ComfyUI does not know yet when it asks, always has the same.
        """
        return _incomplete_fetches[task_id]

    @classmethod
    async def execute(cls, profile: str, endpoint: str, task_id: str) -> io.NodeOutput:
        endpoint, wanted = _ENDPOINT.check(endpoint), _checked_task_id(task_id)
        journal = await host.off_loop(host.SERVER_JOURNAL.open)
        service = await host.off_loop(_service, journal, profile, endpoint, wanted)
        delivery = await host.fetch(journal, service, wanted)
        deliveries, missing = api.deliver([api.Result(delivery)], accept_partial=True)
        await host.off_loop(journal.mark_delivered, [delivery.journal_id])
        if missing:
            _incomplete_fetches[task_id] += 1
        pictures = pictures_of(deliveries)
        return io.NodeOutput(await host.off_loop(api.tensors.image_tensors, pictures), ui=Notes(missing).ui())


def _service(
    journal: api.Journal, profile: str, endpoint: str, wanted: str
) -> api.HiDreamService | api.VolcengineService:
    """Whom to ask: what the journal knows of a task counts more than the widget, unless it knows several of that id."""
    known = journal.task(wanted)
    if known is not None:
        return _of_endpoint(profile, known.endpoint)
    for name, account in sorted(journal.places_of(wanted), key=lambda place: place[0] != endpoint):
        # Another account's task of that id is another task; what has no key here, or was a later version's, is, too.
        with suppress(ConfigurationError):
            service = _of_endpoint(profile, name)
            if service.account.account_id == account:
                return service
    return _of_endpoint(profile, endpoint)


def _of_endpoint(profile: str, name: str) -> api.HiDreamService | api.VolcengineService:
    if name == choices.VOLCENGINE_OUTPAINT:
        return api.VolcengineService(host.profiles().volcengine(profile))
    return api.HiDreamService(host.profiles().hidream(profile), api.hidream.endpoint_named(name))


def _checked_task_id(task_id: object) -> str:
    chosen = _TASK_ID.check(task_id).strip()
    if not chosen:
        raise InvalidInputError(
            Text(
                "`task_id` is empty. Remote tasks in the sidebar lists the ids; a row dragged from there into the "
                "graph fills in everything.",
                "`task_id` 为空。侧边栏的「远程任务」中列有编号；从中将一行拖入画布即可自动填好。",
            )
        )
    return chosen

"""Fetching a paid task again by its id."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

from comfy_api.latest import io

from ..api import (
    Delivery,
    HiDreamService,
    InvalidInputError,
    Result,
    TaskRef,
    Text,
    Watch,
    collect,
    deliver,
    hidream,
    images,
)
from . import host
from .common import CATEGORY, Notes, RemoteNode, pictures_of
from .widgets import PROFILE, PROFILES, ComboWidget, StringWidget

_PROFILE = replace(PROFILE, tooltip="The profile that bought the task.")
_ENDPOINT = ComboWidget(
    "endpoint", tuple(hidream.ENDPOINTS), hidream.OUTPAINT.name, "The service that the task was given to."
)
_TASK_ID = StringWidget(
    "task_id", "The task_id that an error or the server's log names.", multiline=False, max_length=200
)
# What the task was is not known any more: a quarter of the largest result, as four times this is still delivered.
_ANY_PICTURE = 16384 * 16384 // 4

_incomplete_fetches: Counter[str | None] = Counter()


class RemoteTaskResult(RemoteNode):
    """A task that was accepted earlier: after a timeout, an interrupt, or pictures that form no batch."""

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
        chosen = hidream.ENDPOINTS[_ENDPOINT.check(endpoint)]
        task = TaskRef("HiDream", chosen.name, _checked_task_id(task_id))
        service = HiDreamService(await host.off_loop(PROFILES.hidream, profile), chosen)
        [delivery] = await host.run_jobs([partial(_collect, service, task)])
        deliveries, missing = deliver([Result(delivery)], accept_partial=True)
        if missing:
            _incomplete_fetches[task_id] += 1
        pictures = pictures_of(deliveries)
        return io.NodeOutput([images.image_tensor([picture]) for picture in pictures], ui=Notes(missing).ui())


def _collect(service: HiDreamService, task: TaskRef, watch: Watch) -> Delivery:
    return collect(service, task, _ANY_PICTURE, watch)


def _checked_task_id(task_id: object) -> str:
    chosen = _TASK_ID.check(task_id).strip()
    if not chosen:
        raise InvalidInputError(Text("`task_id` is empty.", "`task_id` 为空。"))
    return chosen

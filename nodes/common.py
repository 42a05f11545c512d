"""What the nodes share: category, profile check, lasting words, and how results become outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from comfy_api.latest import io

from .. import api
from ..api import InvalidInputError, ServiceError, Text, pack_logger, profile_names
from .comfy.host import PROFILE_FILE, Account, Bought, profiles

CATEGORY = "HiDream & Volcengine"

# This pack's own limit of a single picture: the services' are not published.
MAX_RESULT_PIXELS = 16384 * 16384


class RemoteNode(io.ComfyNode):
    """A node with a profile."""

    @classmethod
    def validate_inputs(cls, profile: str) -> bool | str:
        """Takes over ComfyUI's list check of this one input, so that an unknown name is explained."""
        if not isinstance(profile, str) or profile in profile_names(PROFILE_FILE):
            return True
        problem = profiles().check_name(profile)
        return True if problem is None else str(problem)


class PartialNode(RemoteNode):
    """A node that may return what came, and leave the rest for later."""

    @classmethod
    def fingerprint_inputs(cls, **known: object) -> int:
        """Another one after each run that left something that may still come: queued again, it is looked for, free.

        Never another one after a whole run: the paid nodes behind this one would buy again. What comes over a wire
        ComfyUI does not know yet when it asks.
        """
        left = _left_for_later.items()
        return sum(times for widgets, times in left if all(known.get(name) in (None, was) for name, was in widgets))


_left_for_later: Counter[frozenset[tuple[str, object]]] = Counter()


def leave_for_later(**widgets: object) -> None:
    """The rest may still come when a node with these values is queued again."""
    _left_for_later[frozenset(widgets.items())] += 1


class Notes:
    """Lasting words of one run of a node, shown below it; each is said once."""

    def __init__(self, notes: Sequence[Text] = ()) -> None:
        self._notes: list[Text] = list(notes)
        self._account: Account | None = None

    def add(self, note: Text) -> None:
        # Called by workers too: appending is atomic, and a note said twice is dropped on the way out.
        self._notes.append(note)

    def extend(self, notes: Sequence[Text]) -> None:
        self._notes.extend(notes)

    def close(self, bought: Bought) -> None:
        """Add the notes and the account of a purchase."""
        self.extend(bought.notes)
        self._account = bought.account

    def ui(self) -> dict[str, list[Any]]:
        """Always the same keys and lists, or ComfyUI fails on mapped lists. Each text has two lines: en, zh."""
        unique = list(dict.fromkeys(self._notes))
        for note in unique:
            pack_logger().info("%s", note.en)
        told: dict[str, list[Any]] = {"text": [str(note) for note in unique]}
        return told if self._account is None else {**told, "account": [asdict(self._account)]}


def pictures_of(deliveries: Sequence[api.Delivery]) -> list[api.tensors.Pixels]:
    """All pictures of a batch, in the order of its calls."""
    return [picture for delivery in deliveries for picture in delivery.pictures]


def size_of(pixels: api.tensors.Pixels) -> tuple[int, int]:
    """(width, height)"""
    height, width = pixels.shape[:2]
    return width, height


def check_one_size(deliveries: Sequence[api.Delivery]) -> None:
    """An IMAGE batch holds one size. What differs is not resized in silence.

    Raises:
        ServiceError: the sizes differ; it names the tasks, which RemoteTaskResult returns as a list.
    """
    sizes = sorted({size_of(picture) for picture in pictures_of(deliveries)})
    if len(sizes) <= 1:
        return
    listed = ", ".join(f"{width}×{height}" for width, height in sizes)
    tasks = ", ".join(delivery.task.task_id for delivery in deliveries if delivery.task is not None)
    raise ServiceError(
        Text(
            f"The pictures came in different sizes ({listed}) and cannot form one batch.",
            f"返回的图片尺寸不一（{listed}），无法组成一个批次。",
        ),
        advice=Text(
            f"Nothing is lost: the node Remote Task Result returns them as a list, free of charge. task_id: {tasks}.",
            f"图片没有丢失：可用「取回远程任务」节点免费取回为列表。task_id：{tasks}。",
        ),
        provider="HiDream",
        billed="yes",
    )


def note_other_size(notes: Notes, came: tuple[int, int], expected: tuple[int, int]) -> None:
    """Say that the service returned another size than it was asked for."""
    if came != expected:
        notes.add(
            Text(
                f"The service returned {came[0]}×{came[1]} instead of {expected[0]}×{expected[1]}.",
                f"服务端返回的尺寸为 {came[0]}×{came[1]}，而非 {expected[0]}×{expected[1]}。",
            )
        )


def check_result_fits_memory(width: int, height: int, count: int, available: int, max_pixels: int) -> None:
    """Refuse before paying what could not be held afterwards.

    Args:
        width, height, count: the expected pictures.
        available: bytes of free memory.
        max_pixels: the largest single picture.

    Raises:
        InvalidInputError: naming the limit and the actual value.
    """
    if width * height > max_pixels:
        raise InvalidInputError(
            Text(
                f"The result would be {width}×{height} ({width * height / 1e6:.1f} megapixels); "
                f"at most {max_pixels / 1e6:.1f} are allowed.",
                f"结果尺寸将为 {width}×{height}（{width * height / 1e6:.1f} 百万像素），"
                f"上限为 {max_pixels / 1e6:.1f}。",
            )
        )
    # Float pixels of all pictures in one tensor, and the decoded bytes they come from.
    needed = width * height * 3 * (4 + 1) * count
    if needed > available:
        raise InvalidInputError(
            Text(
                f"The result ({count} × {width}×{height}) needs {needed / 1e9:.1f} GB of memory, "
                f"but only {available / 1e9:.1f} GB are free.",
                f"结果（{count} × {width}×{height}）需要 {needed / 1e9:.1f} GB 内存，"
                f"当前仅剩 {available / 1e9:.1f} GB。",
            ),
            advice=Text("Use smaller or fewer images.", "请使用更小或更少的图片。"),
        )

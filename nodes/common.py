"""What the nodes share: base classes with the check of the profile, notes below a node, and checks of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from .. import api
from ..api import InvalidInputError, ServiceError, Text, pack_logger, profile_names
from .comfy import host

# This pack's own limit of a single picture; the services do not publish theirs.
_MAX_RESULT_PIXELS = 16384 * 16384


class RemoteNode(io.ComfyNode):
    """A node with a profile."""

    @classmethod
    def validate_inputs(cls, profile: str) -> bool | str:
        """``True``, or an explanation if the server has no such profile.

        ComfyUI leaves out its own list check of an input that this method names.
        """
        if not isinstance(profile, str) or profile in profile_names(host.PROFILE_FILE):
            return True
        problem = host.profiles().check_name(profile)
        return True if problem is None else str(problem)


class Notes:
    """The notes of one run of a node, shown below it until the next run; equal notes are shown once."""

    def __init__(self, notes: Sequence[Text] = ()) -> None:
        self._notes: list[tuple[Text | None, Text]] = []
        self.extend(notes)

    def add(self, note: Text) -> None:
        # Worker threads call this, too: list.append() is atomic, and ui() drops repetitions.
        self._notes.append((None, note))

    def extend(self, notes: Sequence[Text], about: Text | None = None) -> None:
        """Add notes. ``about``: the item of a list, shown before each; a label may be private, so it is not logged."""
        self._notes.extend((about, note) for note in notes)

    def ui(self) -> dict[str, list[Any]]:
        """The node's ``ui`` output: ``text``, each note with a line in English and one in Chinese.

        Each note is logged, too.

        ComfyUI merges the outputs of mapped lists, so the keys must be the same for each, and the values lists.
        """
        unique = list(dict.fromkeys(self._notes))
        for _, note in unique:
            pack_logger().info("%s", note.en)
        return {"text": [str(_about(item, note)) for item, note in unique]}


def _about(item: Text | None, note: Text) -> Text:
    return note if item is None else Text(f"{item.en}: {note.en}", f"{item.zh}：{note.zh}")


def pictures_of(deliveries: Sequence[api.Delivery]) -> list[api.tensors.Pixels]:
    """All pictures of a node's calls, in the order of the calls."""
    return [picture for delivery in deliveries for picture in delivery.pictures]


def size_of(pixels: api.tensors.Pixels) -> tuple[int, int]:
    """Width and height in pixels."""
    height, width = pixels.shape[:2]
    return width, height


def sizes_differ(deliveries: Sequence[api.Delivery]) -> ServiceError | None:
    """The error that the pictures have several sizes, so that they are no IMAGE batch; ``None`` if they have one.

    It names the tasks, whose pictures Remote Task Result returns as a list.
    """
    sizes = sorted({size_of(picture) for picture in pictures_of(deliveries)})
    if len(sizes) <= 1:
        return None
    listed = ", ".join(f"{width}×{height}" for width, height in sizes)
    tasks = ", ".join(delivery.task.task_id for delivery in deliveries if delivery.task is not None)
    return ServiceError(
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
    """Add a note if the service returned another size (width, height) than it was asked for."""
    if came != expected:
        notes.add(
            Text(
                f"The service returned {came[0]}×{came[1]} instead of {expected[0]}×{expected[1]}.",
                f"服务端返回的尺寸为 {came[0]}×{came[1]}，而非 {expected[0]}×{expected[1]}。",
            )
        )


def check_result_fits_memory(width: int, height: int, count: int) -> None:
    """Check, before anything is paid, that ``count`` pictures of this size fit into memory.

    Raises:
        InvalidInputError: naming the limit and the actual value.
    """
    if width * height > _MAX_RESULT_PIXELS:
        raise InvalidInputError(
            Text(
                f"The result would be {width}×{height} ({width * height / 1e6:.1f} megapixels); "
                f"at most {_MAX_RESULT_PIXELS / 1e6:.1f} are allowed.",
                f"结果尺寸将为 {width}×{height}（{width * height / 1e6:.1f} 百万像素），"
                f"上限为 {_MAX_RESULT_PIXELS / 1e6:.1f}。",
            )
        )
    # For each of three channels: 4 bytes in the float32 tensor of all pictures, and the decoded byte.
    available = host.available_memory()
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

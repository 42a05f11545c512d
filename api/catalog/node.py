"""What a node is called, takes, gives and buys, as data: ``nodes/`` makes ComfyUI's node classes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..core import RemoteImageError, Text
from .widgets import ON_PARTIAL, ProfileWidget, Widget, widgets_of
from .wire import WireRequest, checked

if TYPE_CHECKING:
    import torch

    from ..pixels import Pictures, Placement, Upload

Type = Literal["IMAGE", "MASK", "OUTPAINT_PLACEMENT", "INT", "STRING", "*"]


@dataclass(frozen=True)
class Socket:
    """An input that is connected. The type "*" takes any output and gets the link itself, without its value."""

    id: str
    type: Type
    label: Text
    help: Text
    optional: bool = False


def image_input(help: Text) -> Socket:
    """The input ``image``."""
    return Socket("image", "IMAGE", Text("image", "图片"), help)


@dataclass(frozen=True)
class Output:
    """An output; ComfyUI shows ``label`` as its name."""

    type: Type
    label: Text
    help: Text
    is_list: bool = False


LABEL = Socket(
    "label",
    "STRING",
    Text("label", "标签"),
    Text(
        "A name for this item (a file name, a SKU), shown in Remote tasks, errors and reports. The same request under "
        "another label is the same purchase.",
        "本项的名称（文件名、货号等），显示在远程任务、错误信息和报告中。相同请求换用其他标签仍是同一次购买。",
    ),
    optional=True,
)
LAST_INPUTS: tuple[Socket | Widget, ...] = (replace(ON_PARTIAL, optional=True), LABEL)
"""The last inputs of every paid node. Two nodes had ``on_partial`` before: they end with ``LABEL`` alone."""
LABELS = Output(
    "STRING",
    Text("label", "标签"),
    Text(
        "For each picture the label of its item; the images of a batch are numbered.",
        "每张图片所属项的标签；批次中的图片按序号区分。",
    ),
    is_list=True,
)
"""The last output of a node whose pictures are a list."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node: its id, which is final, its words, and its inputs and outputs in their order.

    ``aliases``: other words by which the node search finds it. ``is_output``: it runs although no node is behind it.
    """

    node_id: str
    title: Text
    says: Text
    inputs: Sequence[Socket | ProfileWidget | Widget]
    outputs: Sequence[Output]
    aliases: Sequence[str] = ()
    is_output: bool = False

    @property
    def widgets(self) -> list[Widget]:
        """The widgets except ``profile``."""
        return [one for one in self.inputs if not isinstance(one, (Socket, ProfileWidget))]


@dataclass(frozen=True)
class Given:
    """What one run of a node was given.

    Args:
        values: the checked values of its widgets, by id.
        sent: the images of its first input of the type IMAGE; ``None`` for a node without one.
        mask, placement: what is connected to these inputs, unchecked; ``None`` for nothing.
        note: shows the user a note below the node. Any thread may call it.
    """

    values: Mapping[str, Any]
    sent: Pictures | None = field(repr=False)
    mask: Any = field(default=None, repr=False)
    placement: object = None
    note: Callable[[Text], None] = lambda note: None

    @property
    def images(self) -> Pictures:
        """The images of a node that has such an input."""
        if self.sent is None:
            raise TypeError("this node has no input of the type IMAGE")
        return self.sent

    def request(self, model: type[_Request], **fields: Any) -> _Request:
        """A request with the widgets' values of the fields that ``model`` shows, and ``fields``, which win.

        Raises:
            InvalidInputError: the service's page does not allow it.
        """
        shown = {name: self.values[widget.id] for name, widget in widgets_of(model).items()}
        return checked(model, **{**shown, **fields})


_Request = TypeVar("_Request", bound=WireRequest)


@dataclass(frozen=True)
class PlannedCall:
    """One request to buy; see ``purchase.PaidCall`` for its parts."""

    request: WireRequest
    encode: Callable[[], Mapping[str, Any]]
    expected_pixels: int
    pictures: int = 1
    problem: RemoteImageError | None = None


def encoded(**uploads: Upload | Sequence[Upload]) -> Callable[[], dict[str, str | list[str]]]:
    """A function that returns the base64 of each field's upload, or of its list of uploads."""

    def encode() -> dict[str, str | list[str]]:
        return {
            name: [one.base64() for one in upload] if isinstance(upload, Sequence) else upload.base64()
            for name, upload in uploads.items()
        }

    return encode


def nothing_to_encode() -> dict[str, str]:
    """The ``encode`` of a request without a picture."""
    return {}


@dataclass(frozen=True)
class NodePlan:
    """What one run of a node buys.

    Args:
        calls: each makes the calls for one image, and may take long: it reads pixels.
        pictures: how many they bring at most.
        size: width and height of each picture; ``None``: the service chooses.
        frame: returns the outputs behind the picture, ``mask`` and ``placement``, for pictures of a width and height;
            its last argument has, for each picture, the index of its input image.
        no_placement: why ``frame`` returns no placement, for an error if that output is connected; ``None`` if it does.
        original: where the original lies in each input image, if these are padded; ``None``: an input image is the
            original.
    """

    calls: Sequence[Callable[[], Sequence[PlannedCall]]]
    pictures: int
    size: tuple[int, int] | None = None
    frame: Callable[[int, int, Sequence[int]], tuple[torch.Tensor, Placement | None]] | None = None
    no_placement: Text | None = None
    original: Placement | None = None


@dataclass(frozen=True, kw_only=True)
class PaidNode(Node):
    """A node that buys.

    Args:
        plan: raises InvalidInputError for what cannot be bought, before anything is paid.
        example: the name of its workflow in ``example_workflows/``.
        resizes: whether pictures of another size than the first one are resized to it, so that they form one batch.
        may_lack_placement: whether a plan may have ``no_placement``.
        shows_original: whether the first image is shown in an editor on the node.
    """

    plan: Callable[[Given], NodePlan]
    example: str
    resizes: bool = False
    may_lack_placement: bool = False
    shows_original: bool = False

    @property
    def needs_one_size(self) -> bool:
        """Whether pictures of several sizes are an error, which names their tasks."""
        return not self.resizes and not self.outputs[0].is_list

"""What the endpoints of HiDream that draw from a prompt share: fields, the rate, and the refusal of an empty prompt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..core import InvalidInputError, Text
from .endpoint import Rate
from .widgets import Shown
from .wire import PromptField

Prompt = Annotated[
    PromptField,
    Shown(Text("prompt", "提示词"), Text("What the picture should show.", "画面应呈现的内容。")),
]
NegativePrompt = Annotated[
    PromptField,
    Shown(Text("negative_prompt", "反向提示词"), Text("What it should not show.", "画面不应出现的内容。")),
]
ImageCount = Annotated[
    int,
    Field(ge=1, le=4),
    Shown(
        Text("img_count", "每次张数"),
        Text("Pictures per call; each one is paid.", "每次调用生成的张数，每张都会计费。"),
    ),
]
# hidreamai.com/doc: txt2img and img2img have one limit together.
FROM_PROMPTS = Rate(
    "hidream_img2img_per_minute",
    100,
    Text("HiDream: text- and image-to-image pictures a minute", "HiDream：每分钟文生图与图生图数"),
)


def problem_of_prompt(prompt: str) -> InvalidInputError | None:
    """The error for a prompt of white space alone; ``None`` for any other."""
    if prompt.strip():
        return None
    return InvalidInputError(
        Text("`prompt` is empty: it says what the picture should show.", "`prompt` 为空：请描述图片内容。"),
        advice=Text("Enter a prompt and queue again.", "请填写提示词后重新运行。"),
    )

"""What can be asked of each result of Volcengine, beside the request: a visible logo, and a label in the file.

Fields and ranges are those of ``req_json`` of ``CVSync2AsyncGetResult`` (volcengine.com/docs/6791/1399616 and the pages
of its siblings). The pages disagree about the default of ``opacity``, so that it is sent only if it was given.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _line(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("must be one line")
    return value.strip()


_Line = Annotated[str, AfterValidator(_line)]
# A sum, so that -0.0 and 0.0 are one value.
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), AfterValidator(lambda share: share + 0.0)]


class ResultOption(BaseModel):
    """An option as JSON; unknown fields, other types and values outside the documented ranges are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    def canonical(self) -> str:
        """The same JSON for every spelling of equal options: fields in the model's order, empty ones left out."""
        fields = {name: value for name, value in self.model_dump().items() if value not in (None, "")}
        return json.dumps(fields, ensure_ascii=False)


class LogoInfo(ResultOption):
    """A logo that the service draws on the picture.

    ``position``: 0 bottom right, 1 bottom left, 2 top left, 3 top right. ``language`` of the service's own text: 0
    Chinese, 1 English. ``add_logo`` has a default on the pages; here it is required, or a logo would be off unnoticed.
    """

    add_logo: bool
    position: int = Field(0, ge=0, le=3)
    language: int = Field(0, ge=0, le=1)
    opacity: _Share | None = None
    logo_text_content: _Line = ""


class AigcMeta(ResultOption):
    """The label "made by AI" that the service writes into the file, and not on the picture."""

    content_producer: _Line = ""
    producer_id: Annotated[_Line, Field(min_length=1)]
    content_propagator: _Line = ""
    propagate_id: _Line = ""

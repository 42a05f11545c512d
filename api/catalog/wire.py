"""What the request models of both services share: strict checks, and their JSON."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..core import InvalidInputError, Text


def _no_data_prefix(value: str) -> str:
    if value.lstrip()[:5].lower() == "data:":
        raise ValueError("the base64 of an image goes up without its data: prefix")
    return value


ImageField = Annotated[str, Field(min_length=1), AfterValidator(_no_data_prefix)]
"""An image on the wire: raw base64, or a URL."""


def _unicode(value: str) -> str:
    value.encode("utf-8")
    return value


PromptField = Annotated[str, AfterValidator(_unicode)]
"""A prompt; a lone surrogate, which UTF-8 cannot encode, is refused."""


class WireRequest(BaseModel):
    """Body of a submit. Creating one refuses unknown fields, other types and values outside the documented ranges."""

    # Built when first used: ComfyUI's start needs the fields only.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    def json_bytes(self) -> bytes:
        """The body as it is sent, in UTF-8; fields that are ``None`` are left out."""
        # To bytes at once: model_dump_json() would copy the body, mostly a picture, twice more.
        return TypeAdapter(type(self)).dump_json(self, exclude_none=True)


class HiDreamRequest(WireRequest):
    """Fields that every submit to HiDream may have."""

    request_id: str = ""
    notify_url: str | None = Field(None, repr=False)


_Request = TypeVar("_Request", bound=WireRequest)


def checked(model: type[_Request], **values: Any) -> _Request:
    """Return ``model(**values)``; what is wrong becomes one readable error that never repeats an image.

    Raises:
        InvalidInputError: it names each field that is wrong, and says how.
    """
    try:
        return model(**values)
    except ValidationError as problem:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in problem.errors(include_input=False, include_url=False)
        )
    # Outside of the handler, so that the ValidationError, which holds the image, is not chained to it.
    raise InvalidInputError(Text(f"The request is not valid: {faults}.", f"请求参数无效：{faults}。"))

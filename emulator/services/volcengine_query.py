"""The body of Volcengine's CVSync2AsyncGetResult, and the options of a result in it."""

from pydantic import Field, Json

from .strict import Strict


class LogoInfo(Strict):
    """Checked, but not drawn: the emulator's watermark is on every picture anyway."""

    add_logo: bool = False
    position: int = Field(0, ge=0, le=3)
    language: int = Field(0, ge=0, le=1)
    opacity: float = Field(0.3, ge=0, le=1)
    logo_text_content: str = ""


class AigcMeta(Strict):
    """The implicit label of a generated picture. Checked, but not written into the file."""

    content_producer: str = ""
    producer_id: str = Field(min_length=1)
    content_propagator: str = ""
    propagate_id: str = ""


class ResultOptions(Strict):
    return_url: bool | None = None
    logo_info: LogoInfo | None = None
    aigc_meta: AigcMeta | None = None


class ResultQuery(Strict):
    req_key: str
    task_id: str = Field(min_length=1)
    # The vendor takes JSON within a string here; an object is refused.
    req_json: Json[ResultOptions] | None = None

    @property
    def return_url(self) -> bool | None:
        """The query's own return_url; None if it has none, and that of the submit counts."""
        return self.req_json.return_url if self.req_json else None

"""HiDream's list of templates for model photo sets, and the picture of each."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..pictures import pictures

PICTURES = "/template-pictures/"
PICTURE_SIZE = (300, 400)
Gender = Literal["man", "woman"]


@dataclass(frozen=True)
class Template:
    id: int
    gender: Gender

    @property
    def path(self) -> str:
        return f"{PICTURES}{self.id}.jpg"


# 45 women and 30 men: each gender has more than one page of the default size (20).
TEMPLATES = {number: Template(number, "woman" if number % 5 < 3 else "man") for number in range(1, 76)}
_BY_PATH = {template.path: template for template in TEMPLATES.values()}


class ListQuery(BaseModel):
    """The query of a list, as the vendor's page has it: `gender=man|woman&page_size=20(<=100)&page_index=`.

    It is not strict: all values arrive as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gender: Gender
    page_size: Annotated[int, Field(ge=1, le=100)] = 20
    page_index: Annotated[int, Field(ge=0)] | None = None


def page_of(query: ListQuery, first_page: int, base_url: str, show_image: str | None) -> dict[str, Any]:
    """Return one page of the list.

    The vendor does not publish the number of the first page: `first_page` is 0 or 1. `show_image` replaces the address
    of each picture.
    """
    listed = [template for template in TEMPLATES.values() if template.gender == query.gender]
    index = first_page if query.page_index is None else query.page_index
    begin = (index - first_page) * query.page_size
    return {
        "templates": [
            {"gender": template.gender, "id": template.id, "show_image": show_image or base_url + template.path}
            for template in listed[begin : begin + query.page_size]
        ],
        "total_count": len(listed),
        "total_page": -(-len(listed) // query.page_size),
    }


def is_picture(path: str) -> bool:
    """Whether the path is that of a template's picture."""
    return path in _BY_PATH


@lru_cache(maxsize=len(TEMPLATES))
def picture(path: str) -> bytes:
    """Return the JPEG file at a path that is_picture accepts."""
    template = _BY_PATH[path]
    buffer = io.BytesIO()
    pictures.template(template.id, template.gender, PICTURE_SIZE).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()

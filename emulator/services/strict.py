"""Models that refuse what a vendor's page does not list."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..message import RefusedError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    # strict: a bool or "2" is no int. forbid: a misspelt name fails here, before it reaches the real service.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def checked(model: type[Model], data: Any) -> Model:
    """Return the data as a model.

    Raises:
        RefusedError: with the field and the rule of the first error, without the value, which may be an image of
            megabytes.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "body"
        raise RefusedError(f"{place}: {problem['msg']}") from None

"""A field of another type than documented hides none of its alternatives, as pydantic's ``AliasChoices`` would."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hidream_volcengine.api.services.answers import Reply
from hidream_volcengine.api.transport.received import Answer, Word
from pydantic import AliasChoices, AliasPath, BaseModel, Field

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode("ascii")


def reply(body: Any) -> Reply:
    return Reply("Volcengine", Answer(200, {}, json.dumps(body).encode()))


class ByAliases(BaseModel):
    """What the alternatives of Volcengine's answers would be."""

    task_id: Word = Field("", validation_alias=AliasChoices(AliasPath("data", "task_id"), "task_id"))
    picture: Word = Field(
        "",
        validation_alias=AliasChoices(
            AliasPath("data", "binary_data_base64", 0), AliasPath("data", "image_urls", 0), AliasPath("data", "image")
        ),
    )


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"task_id": None}, "task_id": "task-1"},
        {"data": {"task_id": []}, "task_id": "task-1"},
        {"data": {"task_id": ""}, "task_id": "task-1"},
        {"data": {"task_id": {"id": 7}}, "result": {"task_id": "task-1"}},
        {"data": json.dumps({"task_id": "task-1"})},
        {"data": {"code": 0, "data": {"task_id": "task-1"}}},
    ],
    ids=str,
)
def test_a_task_id_behind_a_field_of_another_type(body: Any) -> None:
    assert ByAliases.model_validate(body).task_id == "", "so that aliases would lose a paid task"
    assert reply(body).task_id == "task-1"


@pytest.mark.parametrize(
    "data",
    [
        {"binary_data_base64": [None, PNG]},
        {"binary_data_base64": [""], "image": PNG},
        {"binary_data_base64": [{"a": 1}], "image_urls": [PNG]},
        {"image_urls": ["", PNG]},
    ],
    ids=lambda data: " ".join(data),
)
def test_a_picture_behind_a_field_of_another_type(data: Any) -> None:
    assert ByAliases.model_validate({"data": data}).picture == "", "so that aliases would lose a paid picture"
    found = reply({"code": 10000, "data": data}).result
    assert found is not None and found.base64 == PNG


@pytest.mark.parametrize("odd", [None, [], {}, True, 1.5, ""], ids=repr)
def test_a_code_of_the_algorithm_behind_a_field_of_another_type(odd: Any) -> None:
    told = reply({"code": 10000, "data": {"algorithm_base_resp": {"status_code": odd}, "algo_status_code": 201304}})
    assert told.algorithm == (201304, "") and not told.succeeded


@pytest.mark.parametrize("odd", [None, [], {}, True, 1.5, ""], ids=repr)
def test_a_code_and_words_behind_fields_of_another_type(odd: Any) -> None:
    told = {"code": odd, "error_code": 50411, "message": odd, "msg": "words", "request_id": odd, "RequestId": "r-1"}
    found = reply(told)
    assert (found.code, found.message, found.request_id) == (50411, "words", "r-1")

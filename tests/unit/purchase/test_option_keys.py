"""The options of a result in a request's key: a logo changes the picture, a label in the file does not."""

from __future__ import annotations

import hashlib

import pytest

from tests.unit.purchase.test_keys import (
    CANVAS,
    GOLDEN,
    PRINT,
    SIDES,
    UPSCALE,
    call,
    hidream_service,
    key,
    volcengine_service,
)

LOGO = '{"add_logo": true, "opacity": 0.5, "logo_text_content": "画室"}'
META = '{"producer_id": "p-1", "content_producer": "studio"}'


def sides(**environment: str) -> str:
    return key(call(volcengine_service(**environment), *SIDES[1:2], **SIDES[2]))


@pytest.mark.parametrize("name", ["sides", "canvas"])
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"VOLCENGINE_LOGO_INFO": ""},
        {"VOLCENGINE_LOGO_INFO": '{"add_logo": false, "logo_text_content": "x"}'},
        {"VOLCENGINE_AIGC_META": META},
        {"VOLCENGINE_AIGC_META": META, "VOLCENGINE_RESUMABLE": "1"},
    ],
    ids=str,
)
def test_without_a_logo_the_key_is_what_it_always_was(name: str, environment: dict[str, str]) -> None:
    _, model, body = {"sides": SIDES, "canvas": CANVAS}[name]
    assert key(call(volcengine_service(**environment), model, **body)) == GOLDEN[name]


def test_a_logo_is_another_purchase_of_the_same_key_both_ways_and_for_ever() -> None:
    golden = "0075aac1fe1ee2f99e54ef8d1d3eac0aec146430678cdb1539058997270b4edd"
    for more in ({}, {"VOLCENGINE_RESUMABLE": "1"}, {"VOLCENGINE_AIGC_META": META}):
        assert sides(VOLCENGINE_LOGO_INFO=LOGO, **more) == golden


def test_what_the_key_with_a_logo_is_made_of() -> None:
    whole = (
        '{"account":"VOLCENGINE_ACCESS_KEY_ID","body":{"binary_data_base64":["' + PRINT + '"],"left":0.25,'
        '"logo_info":{"add_logo":true,"language":0,"logo_text_content":"\\u753b\\u5ba4","opacity":0.5,"position":0},'
        '"max_height":1920,"max_width":1920,"req_key":"i2i_outpainting","scale":7.0,"seed":7,"steps":30,'
        '"strength":0.8,"top":0.5},"endpoint":"volcengine outpaint","occurrence":0,"service":"volcengine",'
        '"take":0,"version":1}'
    )
    assert sides(VOLCENGINE_LOGO_INFO=LOGO) == hashlib.sha256(whole.encode("ascii")).hexdigest()


def test_every_field_of_a_logo_counts_and_no_spelling_does() -> None:
    logos = [
        LOGO,
        '{"add_logo": true, "opacity": 0.6, "logo_text_content": "画室"}',
        '{"add_logo": true, "opacity": 0.5}',
        '{"add_logo": true, "opacity": 0.5, "logo_text_content": "画室", "position": 1}',
        '{"add_logo": true, "opacity": 0.5, "logo_text_content": "画室", "language": 1}',
    ]
    keys = {sides(VOLCENGINE_LOGO_INFO=logo) for logo in logos}
    assert len(keys) == len(logos) and sides() not in keys
    respelled = ' {"logo_text_content":"\\u753b\\u5ba4","opacity":0.50,"position":0,"add_logo":true}'
    assert sides(VOLCENGINE_LOGO_INFO=respelled) == sides(VOLCENGINE_LOGO_INFO=LOGO)


def test_hidream_has_no_options() -> None:
    _, model, body = UPSCALE
    service = hidream_service(VOLCENGINE_LOGO_INFO=LOGO, VOLCENGINE_AIGC_META=META)
    assert key(call(service, model, **body)) == GOLDEN["upscale"]

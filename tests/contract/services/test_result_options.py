"""How the options of a result go up: in the query of a task, or the logo in the body of the synchronous call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import TaskRef
from hidream_volcengine.api.catalog.endpoints import volcengine_outpaint
from hidream_volcengine.api.services import VolcengineService
from pytest import LogCaptureFixture

from emulator import Recorded
from tests.contract import paying
from tests.contract import raw_servers as raw
from tests.contract.paying import A, Shop, cvprocess, delivery_of

LOGO = {"add_logo": True, "position": 1, "language": 1, "opacity": 0.5, "logo_text_content": "画室 canary"}
META = {"content_producer": "画室 canary", "producer_id": "canary-producer"}
BOTH = {"VOLCENGINE_LOGO_INFO": json.dumps(LOGO), "VOLCENGINE_AIGC_META": json.dumps(META)}
RESUMABLE = {"VOLCENGINE_RESUMABLE": "1"}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path) as running:
        yield running


def asked(shop: Shop) -> list[str]:
    """What the queries wanted, as it went up."""
    return [record.body["req_json"] for record in shop.emulator.requests if record.phase == "result"]


def submitted(shop: Shop) -> Recorded:
    [submit] = shop.submits
    return submit


@pytest.mark.parametrize("off", [{}, {"VOLCENGINE_LOGO_INFO": '{"add_logo": false}'}], ids=["none", "no logo"])
def test_off_both_ways_are_what_they_were(off: dict[str, str], shop: Shop) -> None:
    shop.settings.update(off)
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    shop.settings.update(RESUMABLE)
    delivery_of(shop.buy(cvprocess(shop.volcengine, A, 1)))
    for submit in shop.submits:
        assert list(submit.body) == [
            "req_key", "binary_data_base64", "steps", "strength", "scale", "seed", "top", "left", "max_height",
            "max_width",
        ]  # fmt: skip
    assert set(asked(shop)) == {'{"return_url": false}'}


def test_a_task_is_asked_with_both_and_submitted_with_neither(shop: Shop) -> None:
    shop.settings.update(RESUMABLE)
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    plain = submitted(shop).body
    shop.emulator.clear()
    shop.settings.update(BOTH)
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    assert submitted(shop).body == plain
    assert asked(shop)
    for wanted in asked(shop):
        assert json.loads(wanted) == {"return_url": False, "logo_info": LOGO, "aigc_meta": META}


def test_the_synchronous_call_has_the_logo_in_its_body_and_no_label(shop: Shop) -> None:
    """The label is documented for the query alone."""
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    plain = submitted(shop).body
    shop.emulator.clear()
    shop.settings.update(BOTH)
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    assert submitted(shop).body == {**plain, "logo_info": LOGO}
    assert asked(shop) == []


def test_an_endpoint_that_is_always_a_task_is_submitted_without_the_logo(shop: Shop) -> None:
    shop.settings.update(BOTH)
    call = cvprocess(shop.volcengine, A)
    endpoint = replace(volcengine_outpaint.ENDPOINT, is_synchronous=False)
    delivery_of(shop.buy(replace(call, service=replace(call.service, endpoint=endpoint))))
    assert not {"logo_info", "aigc_meta", "return_url"} & set(submitted(shop).body)
    assert asked(shop) and all(json.loads(wanted)["logo_info"] == LOGO for wanted in asked(shop))


def test_a_label_alone_changes_no_synchronous_call_and_buys_nothing_anew(shop: Shop) -> None:
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    shop.settings["VOLCENGINE_AIGC_META"] = json.dumps(META)
    with shop.sends_nothing():
        assert delivery_of(shop.buy(cvprocess(shop.volcengine, A))).source == "reused"


def test_both_ways_are_one_purchase(shop: Shop) -> None:
    shop.settings.update(BOTH)
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    shop.settings.update(RESUMABLE)
    with shop.sends_nothing():
        assert delivery_of(shop.buy(cvprocess(shop.volcengine, A))).source == "reused"


def test_another_logo_is_another_purchase(shop: Shop) -> None:
    with shop.buys(2):
        delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
        shop.settings["VOLCENGINE_LOGO_INFO"] = json.dumps(LOGO)
        delivery_of(shop.buy(cvprocess(shop.volcengine, A)))


def test_a_bad_value_buys_nothing(shop: Shop) -> None:
    shop.settings["VOLCENGINE_AIGC_META"] = "{}"
    with shop.sends_nothing(), pytest.raises(Exception, match="VOLCENGINE_AIGC_META"):
        cvprocess(shop.volcengine, A)


@pytest.mark.parametrize("stored", ["", "{", "[]", "null", "1", "\0"], ids=ascii)
def test_options_that_a_damaged_journal_has_do_not_keep_a_paid_picture(stored: str) -> None:
    done = {"code": 10000, "data": {"status": "done", "binary_data_base64": [raw.SMALL]}}
    with raw.RawServer(raw.answering(200, done)) as server:
        service = VolcengineService(raw.resumable_account(server.url), volcengine_outpaint.ENDPOINT)
        [found] = service.query(TaskRef("Volcengine", service.name, "task-1", options=stored))
        assert found.base64 == raw.SMALL
        assert [one.json["req_json"] for one in server.connections] == ['{"return_url": false}']


def test_no_log_and_no_representation_has_them(shop: Shop, caplog: LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    shop.settings.update(BOTH, **RESUMABLE)
    call = cvprocess(shop.volcengine, A)
    delivery = delivery_of(shop.buy(call))
    about: tuple[Any, ...] = (delivery, call, call.order("", 0), shop.journal.task_list.overview(9))
    assert delivery.task is not None and "canary" in delivery.task.options
    assert "画室" not in caplog.text + repr(about)
    assert "canary-producer" not in caplog.text + repr(about)

"""What an interrupt leaves of a batch, as the journal has it: `Batch.abandoned`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hidream_volcengine.api import AbandonedCalls, CallCancelled

from tests.contract import paying
from tests.contract.paying import ANY_CALL, PATIENCE, A, B, Buying, Shop, both_providers, upscale
from tests.contract.raw_servers import until


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal") as running:
        yield running


def interrupted(buying: Buying) -> None:
    buying.interrupt()
    with pytest.raises(CallCancelled):
        buying.wait()


def test_an_accepted_task(shop: Shop) -> None:
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    until(lambda: [record for record in shop.emulator.requests if record.phase == "result"], PATIENCE)
    interrupted(buying)
    assert buying.batch.abandoned(PATIENCE) == AbandonedCalls(accepted=1)


@both_providers
def test_a_submit_whose_answer_is_still_awaited(service: str, shop: Shop) -> None:
    """After the given time it is told as it stands; the answer settles it later."""
    with shop.answers_held() as may_answer:
        buying = shop.buying(ANY_CALL[service](shop, A))
        until(lambda: shop.accepted == 1, PATIENCE)
        buying.interrupt()
        assert buying.batch.abandoned(0.05) == AbandonedCalls(sending=1)
        may_answer.set()
        assert buying.batch.abandoned(PATIENCE) == AbandonedCalls(accepted=1)
    with shop.buys(0):
        shop.buy(ANY_CALL[service](shop, A))


def test_what_failed_is_unclear_or_was_never_sent(shop: Shop) -> None:
    shop.fault("submit", status=502, accept=True)
    unclear = shop.buying(upscale(shop.hidream, A))
    unclear.wait()
    assert unclear.batch.abandoned(PATIENCE) == AbandonedCalls(unclear=1)
    shop.fault("result", task_status=[3])
    failed = shop.buying(upscale(shop.hidream, B))
    failed.wait()
    assert failed.batch.abandoned(PATIENCE) == AbandonedCalls(failed=1)
    shop.fault("submit", None, status=429, headers={"Retry-After": "30"})
    waiting = shop.buying(upscale(shop.hidream, A, 1))
    until(lambda: len(shop.submits) == 3, PATIENCE)
    interrupted(waiting)
    assert waiting.batch.abandoned(PATIENCE) == AbandonedCalls(unsent=1)


def test_what_the_store_has_comes_free(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    both = Buying(shop.journal, [upscale(shop.hidream, A), upscale(shop.hidream, A, 5)])
    both.wait()
    assert both.batch.abandoned(PATIENCE) == AbandonedCalls(accepted=2)

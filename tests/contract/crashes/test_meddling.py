"""Random nodes and task list buttons at once on two servers, and a service with faults: nothing is bought twice."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hidream_volcengine.api import AmbiguousSubmitError, BackgroundPoller, CallCancelled, PaidCall
from pytest import MonkeyPatch

from emulator import Recorded
from tests.contract import paying
from tests.contract.paying import PATIENCE, A, B, Buying, C, Shop, cvprocess, img2img, pictures
from tests.contract.raw_servers import until
from tests.thinned import thinned

DEEDS = 60
FAULTS: list[dict[str, Any]] = [
    {"phase": "submit", "do": {"reset": "after"}},
    {"phase": "submit", "do": {"cut": 0.4}},
    {"phase": "submit", "do": {"status": 502, "accept": True}},
    {"phase": "submit", "do": {"status": 429, "headers": {"Retry-After": "0"}}},
    {"phase": "submit", "do": {"delay": 0.2}},
    {"phase": "submit", "do": {"status": 400}},
    {"phase": "result", "times": 3, "do": {"task_status": [2]}},
    {"phase": "result", "times": 2, "do": {"status": 503}},
    {"phase": "image", "do": {"status": 503}},
    {"phase": "image", "do": {"delay": 0.3}},
    {"phase": "image", "do": {"cut": 0.5}},
]
UNSETTLED = {"prepared", "submitting", "submitted", "parked", "done"}


class Day:
    """Wishes have numbers, which the service sees as prompt or seed, and the journal as take."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.servers = [shop.journal, shop.open()]
        self.collectors = [BackgroundPoller(journal, shop.profiles) for journal in self.servers]
        self.submitted_again: Counter[int] = Counter()
        self.problems: list[BaseException] = []
        self.did: list[str] = []

    @property
    def is_over(self) -> bool:
        return len(self.did) >= DEEDS or bool(self.problems)

    def hand(self, work: Callable[[random.Random], None], seed: int) -> threading.Thread:
        chance = random.Random(seed)

        def go() -> None:
            try:
                while not self.is_over:
                    work(chance)
            except BaseException as problem:
                self.problems.append(problem)

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        return thread

    def wish(self, number: int) -> PaidCall:
        if number % 2:
            return cvprocess(self.shop.volcengine, (A, B, C)[number % 3], number, seed=number)
        return img2img(self.shop.hidream, (A, B, C)[number % 3], number, prompt=f"wish {number}")

    @property
    def bought(self) -> Counter[int]:
        return Counter(map(wish_of, self.shop.emulator.accepted))

    # ---- the hands

    def queue(self, chance: random.Random) -> None:
        """One or two wishes of one service, old ones and new ones."""
        first = len(self.did) // 6 + chance.randrange(6)
        numbers = [first, first + 2][: chance.choice([1, 1, 2])]
        buying = Buying(chance.choice(self.servers), [self.wish(number) for number in numbers])
        if chance.random() < 0.2:
            moment = chance.randrange(1, 6)
            until(lambda: not buying.alive or len(buying.stages()) >= moment, PATIENCE)
            buying.interrupt()
        with suppress(CallCancelled):
            buying.wait()
        self.did.append("queue")

    def press(self, chance: random.Random) -> None:
        """A button of the task list, one that it offers; on what was sent rather than on what was not."""
        server = chance.randrange(2)
        journal = self.servers[server]
        offered = [(task, what) for task in journal.task_list.tasks() for what in task.can]
        sent = [(task, what) for task, what in offered if task.state != "prepared"]
        chosen = (sent if chance.random() < 0.9 else offered) or [(None, "")]
        task, what = chance.choice(chosen)
        if task is None or (what == "submit-again" and chance.random() < 0.5):
            journal.wait_for_change(0.05)
        elif what == "submit-again":
            # Allowed before it may be bought.
            self.submitted_again[task.take] += 1
            done = journal.submit_again(task.journal_id)
            self.submitted_again[task.take] -= not done
        elif what == "collect":
            self.collectors[server].ask_now(task.journal_id)
        else:
            journal.stop_registry.stop(task.journal_id)
        self.did += [what] if task else []

    def disturb(self, chance: random.Random) -> None:
        self.shop.emulator.add_fault(chance.choice(FAULTS))
        self.servers[0].wait_for_change(0.2)

    # ---- in the evening

    def settle(self) -> None:
        self.shop.mend()
        for journal in self.servers:
            until(lambda journal=journal: not journal.stop_registry._calls and not journal._claims.ids(), PATIENCE)
        for number in sorted(self.bought):
            [result] = self.shop.buy(self.wish(number))
            assert pictures([result]) or isinstance(result.error, AmbiguousSubmitError), result.error
        for number, times in self.bought.items():
            assert times <= 1 + self.submitted_again[number], f"wish {number} was bought {times} times"
        for task in self.shop.journal.task_list.tasks():
            if "collect" in task.can:
                self.collectors[0].ask_now(task.journal_id)
        until(lambda: not UNSETTLED & set(self.shop.states), PATIENCE)
        tasks = self.shop.journal.task_list.tasks()
        kept = [task for task in tasks if task.state in ("stored", "delivered")]
        unclear = Counter(task.take for task in tasks if task.state == "ambiguous")
        # Each accepted request is in the store, or the journal says that it may have been accepted.
        assert self.bought <= Counter(task.take for task in kept) + unclear
        known = {task.task_id for task in kept}
        images = [record for record in self.shop.emulator.accepted if record.endpoint == "img2img"]
        assert Counter(wish_of(record) for record in images if record.task_id not in known) <= unclear


def wish_of(record: Recorded) -> int:
    return int(record.body.get("seed") or re.sub(r"\D", "", record.body["prompt"]) or 0)


@thinned("resumable", ["1", "0"], ids=["resumable", "cvprocess"])
@thinned("seed", [1, 2])
def test_many_hands_buy_nothing_twice_and_lose_nothing(
    tmp_path: Path, monkeypatch: MonkeyPatch, seed: int, resumable: str
) -> None:
    paying.brisk(monkeypatch)
    with Shop(tmp_path, latency=0.1, VOLCENGINE_RESUMABLE=resumable) as shop:
        day = Day(shop)
        works = [day.queue, day.queue, day.queue, day.press, day.press, day.disturb]
        hands = [day.hand(work, 100 * seed + number) for number, work in enumerate(works)]
        for hand in hands:
            hand.join(2 * PATIENCE)
            assert not hand.is_alive()
        assert day.problems == []
        day.settle()

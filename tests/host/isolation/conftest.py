"""One ComfyUI with the nodes of `sets.PROBE` and the profile `shop`, whose budget and limits each test sets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import collector_kept_away, forget_purchases, start_over
from tests.host.conftest import CANARY
from tests.host.isolation.sets import PROBE, Shop


@pytest.fixture(scope="session")
def open_shop(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str], emulator: Emulator
) -> Iterator[Shop]:
    base = tmp_path_factory.mktemp("shop")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(PROBE, encoding="utf-8")
    with ComfyUI(base, environment=service_environment, preloaded=True) as comfy:
        shop = Shop(comfy)
        shop.found(emulator.url, hidream_token=f"token-{CANARY}", volcengine_gateway_api_key=f"gateway-{CANARY}")
        yield shop


@pytest.fixture
def shop(open_shop: Shop, emulator: Emulator) -> Iterator[Shop]:
    """Nothing is bought, cached or counted yet, and nothing is limited."""
    start_over(open_shop.comfy, emulator)
    open_shop.forget_counts()
    open_shop.allow()
    with collector_kept_away(open_shop.comfy):
        yield open_shop
        emulator.release()
        forget_purchases(open_shop.comfy)

"""A real ComfyUI with the pack in its custom_nodes and the emulator as both services.

`comfy` is one ComfyUI for the whole run, with nothing cached, bought or recorded when a test begins; `make_comfyui`
starts another one with an environment of its own, about 10 s each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Credentials, Emulator
from tests.host.buying import collector_kept_away, forget_purchases, start_over

CANARY = "canary-5up3r-s3cr3t-k3y"
"""Part of every key that ComfyUI gets here. It may leave ComfyUI in the headers for the services only."""


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    keys = Credentials(
        hidream_token=f"token-{CANARY}",
        hidream_api_key=f"hidream-{CANARY}",
        gateway_api_key=f"gateway-{CANARY}",
        access_key_id=f"access-{CANARY}",
        secret_access_key=f"secret-{CANARY}",
    )
    with Emulator(port=0, latency=0.2, credentials=keys) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def service_environment(emulator: Emulator) -> dict[str, str]:
    """The pack's variables, pointing at the emulator."""
    return {
        "HIDREAM_TOKEN": f"token-{CANARY}",
        "HIDREAM_BASE_URL": emulator.url,
        "HIDREAM_EC_BASE_URL": emulator.url,
        "VOLCENGINE_GATEWAY_API_KEY": f"gateway-{CANARY}",
        "VOLCENGINE_GATEWAY_BASE_URL": emulator.url,
        "REMOTE_IMAGE_PICTURES_PER_RUN": "0",
        "REMOTE_IMAGE_HIDREAM_AT_ONCE": "0",
        "REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE": "0",
        "REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE": "0",
        "REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "0",
        "REMOTE_IMAGE_POLLS_PER_SECOND": "0",
    }


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[ComfyUI]:
    with ComfyUI(tmp_path_factory.mktemp("comfyui"), environment=service_environment, preloaded=True) as comfyui:
        yield comfyui


@pytest.fixture
def comfy(comfyui: ComfyUI, emulator: Emulator) -> Iterator[ComfyUI]:
    start_over(comfyui, emulator)
    with collector_kept_away(comfyui):
        yield comfyui
    emulator.release()  # forget_purchases waits for calls that hang
    forget_purchases(comfyui)  # else its background poller asks for parked tasks while other tests count requests


@pytest.fixture
def make_comfyui(tmp_path: Path, service_environment: dict[str, str]) -> Iterator[Callable[..., ComfyUI]]:
    """`make_comfyui(NAME="value", ...)` starts another ComfyUI with these variables beyond `service_environment`."""
    with ExitStack() as running:

        def make(*arguments: str, **environment: str) -> ComfyUI:
            base = tmp_path / f"comfyui-{len(list(tmp_path.iterdir()))}"
            return running.enter_context(
                ComfyUI(base, environment=service_environment | environment, arguments=arguments, preloaded=True)
            )

        yield make

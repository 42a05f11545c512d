"""A real ComfyUI as a child process: started with the pack in its custom_nodes, driven over its own HTTP interface.

    with ComfyUI(base_directory, environment={"HIDREAM_TOKEN": "..."}) as comfy:
        result = comfy.run(prompt)
        pictures = comfy.images(result)

Nothing here uses the proxies of the environment, and the keys of the environment reach ComfyUI only if asked for.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import requests
from PIL import Image

from devtools.comfyui import checkout
from devtools.comfyui.child import AVAILABLE as PRELOADING
from devtools.comfyui.child import NewProcess, PreloadedProcess
from devtools.comfyui.events import Event, EventStream
from devtools.environment import ROOT, tail

Prompt = dict[str, Any]
"""ComfyUI's API format: node number -> {"class_type", "inputs"}."""
Status = Literal["success", "error", "interrupted"]

PACK_FOLDER = "ComfyUI-HiDream-Volcengine"
SHIPPED = (
    "__init__.py", "api", "nodes", "emulator", "web", "locales", "example_workflows", "pyproject.toml",
    "requirements.txt",
)  # fmt: skip
# Newer ComfyUIs begin each line with its level, in colour: "\x1b[1m\x1b[33m[WARNING]\x1b[0m ".
_LEVEL = re.compile(r"^(?:\x1b\[\d+m)+\[[A-Z]+\]\x1b\[0m ", re.MULTILINE)
_KEY_PREFIXES = ("HIDREAM_", "VOLCENGINE_", "REMOTE_IMAGE_")
_FINAL: dict[str, Status] = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


class HostError(Exception):
    """ComfyUI did not start, died, or did not answer as it should."""


class PromptRejectedError(HostError):
    """ComfyUI's validation refused the prompt; `node_errors` says why, by node number."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer, indent=1, ensure_ascii=False))
        self.error: dict[str, Any] = answer.get("error") or {}
        self.node_errors: dict[str, Any] = answer.get("node_errors") or {}


@dataclass(frozen=True)
class OutputFile:
    node: str
    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True)
class Result:
    prompt_id: str
    status: Status
    history: dict[str, Any]
    """The prompt's entry in /history."""
    events: tuple[Event, ...]
    """The events from just before queueing to the last one of this prompt; those of other prompts are left out."""

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return self.history.get("outputs", {})

    @property
    def seconds(self) -> float:
        """From the start of the execution to its end."""
        started = next(event.at for event in self.events if event.type == "execution_start")
        return self.events[-1].at - started

    @property
    def error(self) -> dict[str, Any]:
        """`exception_type`, `exception_message`, `node_id`, `traceback`, ... of a failed prompt; else empty."""
        return next((event.data for event in self.events if event.type == "execution_error"), {})

    def of_type(self, *types: str) -> list[Event]:
        return [event for event in self.events if event.type in types]

    def texts(self, node: str) -> list[str]:
        """The lines of text that a node shows."""
        return self.outputs.get(node, {}).get("text", [])

    def accounts(self, node: str) -> list[str]:
        """The account of what a paid node's run cost, as JSON, one for each ``execute`` of the node."""
        return [json.dumps(account) for account in self.outputs.get(node, {}).get("account", [])]

    def files(self, node: str | None = None) -> list[OutputFile]:
        """The pictures that a node (default: each node) has saved."""
        return [
            OutputFile(number, file["filename"], file["subfolder"], file["type"])
            for number, output in self.outputs.items()
            for file in output.get("images", [])
            if node in (None, number)
        ]


class ComfyUI:
    """One ComfyUI on 127.0.0.1. It starts with the `with` block, is stopped at its end, and dies with this process.

    Args:
        base_directory: for its input, output, models, settings and log; it may be used again.
        environment: variables beyond those of this process.
        arguments: of ComfyUI's command line, beyond the usual ones.
        port: 0 = any free one, another for each start.
        pack: a folder whose shipped files are copied into custom_nodes at each start; None = no pack.
        pack_folder: the name of that copy.
        keep_keys: pass on the keys and settings of this process's environment; otherwise they are removed.
        comfyui: another ComfyUI than that of `dev.py host`.
        preloaded: fork it from a process that has its libraries (devtools/comfyui/child.py) where the system can.
    """

    def __init__(
        self,
        base_directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        port: int = 0,
        pack: Path | None = ROOT,
        pack_folder: str = PACK_FOLDER,
        keep_keys: bool = False,
        comfyui: Path | None = None,
        preloaded: bool = False,
    ) -> None:
        self.base = base_directory
        self.log_file = base_directory / "comfyui.log"
        self._chosen_port = port
        self._choose_port()
        self._environment = _clean_environment(keep_keys) | dict(environment or {})
        self._arguments = arguments
        self._pack = pack
        self._pack_folder = pack_folder
        self._comfyui = comfyui or checkout.ensure()
        self._preloaded = preloaded
        self._process: NewProcess | PreloadedProcess | None = None
        self._started = False

    def __enter__(self) -> ComfyUI:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # The process

    def start(self, timeout: float = 180) -> None:
        """Start, and return when ComfyUI answers. A later start uses the same base directory and appends to the log.

        Raises:
            HostError: it runs already, ended while starting, or does not answer within ``timeout`` seconds.
        """
        if self._process is not None:
            raise HostError("ComfyUI is running already")
        again, self._started = self._started, True
        if again:
            self._choose_port()
        self._lay_out_base_directory()
        command = [
            str(self._comfyui / "main.py"), "--cpu", "--listen=127.0.0.1", f"--port={self.port}",
            "--disable-auto-launch", "--disable-api-nodes", f"--base-directory={self.base}",
            "--database-url=sqlite:///:memory:", *self._arguments,
        ]  # fmt: skip
        if not again:
            self.log_file.write_bytes(b"")
        kind = PreloadedProcess if self._preloaded and PRELOADING else NewProcess
        self._process = kind(command, self.base, self._environment, self.log_file)
        try:
            self._wait_until_up(timeout)
            self._tell_it_is_up()
            self.events.open()
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = 20) -> None:
        """End the process as Ctrl-C does, or kill it if it still runs after ``timeout`` seconds."""
        self.events.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.close_stdin()
        if process.wait(timeout) is None:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kill the process at once (SIGKILL), so that it can write nothing more."""
        process, self._process = self._process, None
        if process is None:
            raise HostError("ComfyUI is not running")
        process.kill()
        process.wait()
        process.close_stdin()
        self.events.close()

    def set_environment(self, **variables: str) -> None:
        """Set variables for the next start."""
        self._environment |= variables

    def log(self) -> str:
        """What ComfyUI has written so far, without the levels of the lines."""
        return _LEVEL.sub("", self.log_file.read_text(encoding="utf-8", errors="replace"))

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise HostError("ComfyUI is not running")
        return self._process.pid

    # Prompts

    def queue(self, prompt: Prompt, *, workflow: dict[str, Any] | None = None) -> str:
        """Queue a prompt, and return its id. `workflow` is the UI format that ComfyUI writes into its PNGs.

        Raises:
            PromptRejectedError: the validation refused the prompt or a part of it.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        answer = self.request("POST", "/prompt", json=body, check=False)
        if answer.status_code == 400:
            raise PromptRejectedError(answer.json())
        answer.raise_for_status()
        accepted = answer.json()
        if accepted.get("node_errors"):  # ComfyUI would run the rest of the graph only
            raise PromptRejectedError(accepted)
        return accepted["prompt_id"]

    def run(
        self,
        prompt: Prompt,
        *,
        timeout: float = 60,
        expect: Status | None = "success",
        workflow: dict[str, Any] | None = None,
    ) -> Result:
        """Queue a prompt, and return its result when it has ended.

        Raises:
            HostError: it ended otherwise than `expect` says (None: any end will do), or not within ``timeout`` seconds.
        """
        start = self.events.count()
        result = self.wait(self.queue(prompt, workflow=workflow), timeout=timeout, start=start)
        if expect not in (None, result.status):
            details = result.error or {"log": tail(self.log_file, 20)}
            raise HostError(f"the prompt ended with {result.status}: {json.dumps(details, indent=1, default=str)}")
        return result

    def wait(self, prompt_id: str, *, timeout: float = 60, start: int = 0) -> Result:
        """Wait for a queued prompt; return its result. `start` is the number of the first event that may be its own.

        Raises:
            HostError: it did not end within ``timeout`` seconds, or ComfyUI died.
        """
        try:
            final = self.events.wait_for(
                lambda event: event.type in _FINAL and event.data.get("prompt_id") == prompt_id, timeout, start
            )
        except (TimeoutError, ConnectionError) as problem:
            raise HostError(f"{problem}. The end of {self.log_file}:\n{tail(self.log_file, 20)}") from problem
        events = [
            event
            for event in self.events.since(start)
            if event.at <= final.at and event.data.get("prompt_id") in (None, prompt_id)
        ]
        return Result(prompt_id, _FINAL[final.type], self.history(prompt_id), tuple(events))

    def history(self, prompt_id: str) -> dict[str, Any]:
        """Return the prompt's entry in /history."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # ComfyUI writes it a moment after the last event
            entry = self.request("GET", f"/history/{prompt_id}").json().get(prompt_id)
            if entry:
                return entry
            time.sleep(0.01)
        raise HostError(f"no history of prompt {prompt_id}")

    def interrupt(self) -> None:
        self.request("POST", "/interrupt", json={})

    def forget_results(self) -> None:
        """Empty ComfyUI's cache of node outputs, so that the next prompt runs every node."""
        self.request("POST", "/free", json={"unload_models": True, "free_memory": True})
        time.sleep(0.1)  # ComfyUI's worker thread does it later, and nothing tells when

    def object_info(self) -> dict[str, Any]:
        return self.request("GET", "/object_info", timeout=30).json()

    # Pictures

    def upload(self, image: Image.Image | bytes | Path, name: str = "image.png") -> str:
        """Put a picture into the input folder; return the value for LoadImage's `image`."""
        if isinstance(image, Path):
            image = image.read_bytes()
        if isinstance(image, Image.Image):
            encoded = io.BytesIO()
            image.save(encoded, "PNG", compress_level=1, compress_type=3)  # 3: runs only, three times as fast
            image = encoded.getvalue()
        files = {"image": (name, image), "overwrite": (None, "true")}
        return self.request("POST", "/upload/image", files=files).json()["name"]

    def view(self, file: OutputFile) -> bytes:
        where = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        return self.request("GET", "/view", params=where).content

    def images(self, result: Result, node: str | None = None) -> list[Image.Image]:
        """Return the decoded pictures of a result: of one node, or of all."""
        pictures: list[Image.Image] = [Image.open(io.BytesIO(self.view(file))) for file in result.files(node)]
        for picture in pictures:
            picture.load()
        return pictures

    def request(
        self, method: str, path: str, *, timeout: float = 10, check: bool = True, **arguments: Any
    ) -> requests.Response:
        """Call any route of ComfyUI. Raises: requests.HTTPError for a status from 400 on, unless ``check`` is off."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy on the way to 127.0.0.1
            answer = session.request(method, self.url + path, timeout=timeout, **arguments)
        if check:
            answer.raise_for_status()
        return answer

    # Inside

    def _choose_port(self) -> None:
        # Another free port for each start: another process may have taken the last one while ComfyUI did not run.
        self.port = self._chosen_port or port_or_free()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client_id = uuid.uuid4().hex
        self.events = EventStream(f"{self.url}/ws?clientId={self.client_id}")

    def _lay_out_base_directory(self) -> None:
        for folder in ("custom_nodes", "input", "output", "models"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        settings = self.base / "user" / "default" / "comfy.settings.json"
        if not settings.exists():
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")
        if self._pack:
            copy_pack(self._pack, self.base / "custom_nodes" / self._pack_folder)

    def _wait_until_up(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise HostError(f"ComfyUI ended while starting. The end of {self.log_file}:\n{tail(self.log_file, 40)}")
            try:
                self.request("GET", "/system_stats", timeout=2)
                return
            except requests.RequestException:
                time.sleep(0.1)
        raise HostError(f"ComfyUI is not up after {timeout:.0f} s:\n{tail(self.log_file, 40)}")

    def _tell_it_is_up(self) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.write(b"up")


def copy_pack(source: Path, target: Path) -> None:
    """Copy the shipped files of the pack, as a user gets them: without tests, tools and bytecode."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in SHIPPED:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copyfile(path, target / name)


def _clean_environment(keep_keys: bool) -> dict[str, str]:
    """Return this process's environment without what slows ComfyUI down (no bytecode), changes its imports (PYTHONPATH)
    or lets a test spend money (keys, unless ``keep_keys``)."""
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    if keep_keys:
        return kept
    return {name: value for name, value in kept.items() if not name.startswith(_KEY_PREFIXES)}


def port_or_free(port: int = 0) -> int:
    """Return ``port`` if it is free on 127.0.0.1, or else another free one; 0 = any."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return port_or_free()
        return probe.getsockname()[1]

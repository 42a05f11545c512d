"""`dev.py report NODE [--yes]`: one real call of one service, and its redacted wire log in a file under out/.

The keys come from the environment, as the pack takes them; the picture that goes up is made up here. What was bought
stays in a journal of its own beside the reports: the same report once more costs nothing and says "reused".
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import requests
from PIL import Image

import api
from api.core import redaction
from api.transport import received
from api.transport.time_limit import TimeLimit
from devtools.demo_parts.planned import planned
from devtools.environment import ROOT

NODES = {node.node_id: (endpoint, node) for endpoint in api.ENDPOINTS for node in endpoint.nodes}
_PLAIN_HEADERS = re.compile("content-.*|date|expires|retry-after|transfer-encoding|x-accept-language", re.IGNORECASE)
# What is masked: logins, queries and long path segments in URLs; base64 of pictures; tokens; and in JSON the values of
# fields with the name of a secret.
_UNSHOWN = re.compile(
    r"(?<=://)[^\s\"'<>/]*@|\?[^\s()\"'<>]*=[^\s()\"'<>]*|(?<=[\w-]/)[\w.~%-]{17,}|[a-z0-9+/=]{60,}|[\w-]{40,}"
    r"|(\"[^\"]*(?:token|secret|passw|credential|authori[sz]|signature|cookie|(?<!req_)key)[^\"]*\": )"
    r"(?:\"(?:[^\"\\]|\\.)*\"|\[[^\]]*\])",
    re.IGNORECASE | re.ASCII,
)
_PART = 8  # mask every piece of a secret of this many characters: error messages repeat the first or last of a key
_read = received.read_answer


def main(argv: Sequence[str] | None = None, env: Mapping[str, str] = os.environ, out: Path = ROOT / "out") -> int:
    parser = argparse.ArgumentParser(prog="dev.py report", description=__doc__)
    parser.add_argument("node", choices=NODES)
    parser.add_argument("--yes", action="store_true", help="the picture may be paid for; do not ask")
    parser.add_argument("--template-id", type=int, help="of the model photo set, which needs it")
    parser.add_argument("--take", type=int, default=0, help="another number buys once more")
    options, log = parser.parse_args(argv), io.StringIO()
    try:
        call = _call(options, api.Profiles(env, lambda: parser.error("no sandbox")))
        with closing(api.Journal(api.JournalSettings(directory=out / "report-journal"))) as journal:
            batch = api.Batch(journal, [call], api.Run("report").node().item())
            if batch.plan.buy:
                print(scrub(f"{call.service.base_url}: 1 picture will be paid, or a whole set.", env), flush=True)
                if not options.yes and input("Send it? [y/N] ").strip().lower() not in ("y", "yes"):
                    sys.exit("nothing was sent")
            succeeded, outcome = _run(batch, log)
    except (api.RemoteImageError, EOFError) as problem:
        sys.exit(scrub(str(problem), env))
    pack = re.findall('^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    made = f"Pack {pack[0]}, Python {sys.version} on {sys.platform}, requests {requests.__version__}"
    text = "\n\n".join([f"# {options.node}, {time.strftime('%Y-%m-%d')}", made, *outcome, f"~~~\n{log.getvalue()}~~~"])
    path = out / f"report-{options.node}-{time.strftime('%Y%m%d-%H%M%S')}.md"
    path.write_text(re.sub("(.{3000}).+", r"\1…", scrub(text, env)), "utf-8")
    print(f"{path}\nPlease read it through, and send that file only: report-journal/ beside it keeps the picture.")
    return 0 if succeeded else 1


def _call(options: argparse.Namespace, profiles: api.Profiles) -> api.PaidCall:
    """Return the first call that the chosen node plans for a picture that is made up here.

    Its widgets have their defaults; what is to be shown is a lighthouse.
    """
    endpoint, node = NODES[options.node]
    y, x = np.mgrid[0:512, 0:384]
    picture = np.stack([120 + y // 5, 170 + y // 10, 235 - y // 7], axis=-1).astype(np.uint8)
    picture[(x - 280) ** 2 + (y - 110) ** 2 < 45**2] = (250, 220, 120)
    chosen = {"prompt": "a lighthouse", "take": options.take, "template_id": options.template_id or 0}
    service = profiles.service("default", endpoint)
    call = planned(node, chosen, Image.fromarray(picture)).calls[0]()[0]
    return api.PaidCall(
        service, call.request, call.encode, call.expected_pixels, options.take, call.pictures, call.problem
    )


def _run(batch: api.Batch, log: io.StringIO) -> tuple[bool, list[str]]:
    """Run the call; return whether all pictures came, and the paragraphs for the report. The wire log goes to ``log``.

    The call runs in a thread, so that Ctrl-C can interrupt it as ComfyUI's interrupt does.
    """
    handler, logger, cancel = logging.StreamHandler(log), api.pack_logger().logger, api.CancelToken()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    with patch.object(received, "read_answer", _recorded):
        ended = api.DaemonPool(1).start(lambda: batch.run(0, api.CallHandle(cancel, lambda progress: None)))
        try:
            while not wait([ended], 0.2).done:  # Windows does not interrupt a wait without a limit
                pass
        except KeyboardInterrupt:
            cancel.cancel()
            api.wait_for_submits(5)
            wait([ended], 5)
    logger.removeHandler(handler)
    if not ended.done() or ended.exception():
        return False, ["Interrupted, or failed: " + (repr(ended.exception()) if ended.done() else "not ended in 5 s")]
    result = ended.result()
    batch.end([result], delivered=True)
    errors = [*filter(None, [result.error]), *(result.delivery.errors if result.delivery else ())]
    paragraphs = [f"{type(error).__name__}, billed: {error.billed}: {error.text().en}" for error in errors]
    if result.delivery:
        paragraphs.append(f"{result.delivery.source}: {[picture.shape for picture in result.delivery.pictures]}")
    return not errors, paragraphs


def _recorded(response: requests.Response, limit: TimeLimit, *, is_paid: bool) -> received.Answer:
    """Read and return an answer, and log the request and the answer; `scrub` removes the secrets later."""
    answer, sent = _read(response, limit, is_paid=is_paid), response.request
    for headers, body in ((sent.headers, getattr(sent.body, "data", sent.body)), (answer.headers, answer.body)):
        shown: Any = body and body[:300]
        with suppress(ValueError, TypeError, RecursionError):
            shown = json.dumps(json.loads(body or b""), ensure_ascii=False)
        plain = (f"{name}: {value}" if _PLAIN_HEADERS.fullmatch(name) else name for name, value in headers.items())
        api.pack_logger().debug("%s | %s", "; ".join(plain), shown)
    return answer


def scrub(text: str, env: Mapping[str, str]) -> str:
    """Return ``text`` without the secrets of the pack and of the environment, and without anything like a picture."""
    text = _UNSHOWN.sub(lambda found: f"{found[1] or ''}({len(found[0])} characters)", redaction.redact(text))
    keys = (value for name, value in env.items() if re.match("(HIDREAM|VOLCENGINE)_.*(TOKEN|KEY|USER_ID)", name))
    logins = ":".join(login for value in env.values() for login in re.findall("(?://|^)([^@/]*:[^@/]*)@", value))
    secrets = {one for one in (*keys, *redaction._known, *logins.split(":")) if len(one) >= 4}
    parts = {one[at : at + _PART] for one in secrets for at in range(max(1, len(one) - _PART + 1))}
    starts = [(at, n) for n in {len(part) for part in parts} for at in range(len(text)) if text[at : at + n] in parts]
    hidden = {at + step for at, length in starts for step in range(length)}
    return re.sub("\0+", redaction.MASK, "".join("\0" if at in hidden else c for at, c in enumerate(text)))


if __name__ == "__main__":
    sys.exit(main())

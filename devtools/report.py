"""`dev.py report NODE [--yes]`: one real call of one service, told in a redacted file under out/ for a bug report.

The keys come from the environment, as the pack takes them; the picture that goes up is made up here. What was bought
stays in a journal of its own beside the reports: the same report once more costs nothing and says "reused".
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from api import (
    Batch,
    CancelToken,
    Journal,
    JournalSettings,
    Profiles,
    Progress,
    RemoteImageError,
    Result,
    Run,
    Sandbox,
    Watch,
    wait_for_submits,
)
from devtools.environment import ROOT
from devtools.report_calls import CALLS, Call, Story
from devtools.report_scrub import Scrub
from devtools.report_text import report
from devtools.report_wire import recording

OUT = ROOT / "out"
SECONDS_AFTER_INTERRUPT = 5.0


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ, out: Path = OUT) -> int:
    options = _parser().parse_args(arguments)
    if options.node == "HiDreamAPIModelPhotoSet" and options.template_id is None:
        print("HiDreamAPIModelPhotoSet needs --template-id N: a template of the service's list", file=sys.stderr)
        return 2
    scrub = Scrub(environment)
    try:
        call = CALLS[options.node](Profiles(environment, _no_sandbox), options.take, options.template_id or 0)
    except RemoteImageError as problem:
        print(scrub.text(problem.what.en), file=sys.stderr)
        print(f"A report takes its key from this shell's environment: {_key_of(options.node)}.", file=sys.stderr)
        return 2
    journal = Journal(JournalSettings(directory=out / "report-journal"))
    try:
        batch = Batch(journal, [call.paid], Run("report"))
        if not _may_go(options, call, batch, scrub):
            return 2
        story = _buy(Story(options.node, call), batch, journal)
    except RemoteImageError as problem:
        print(scrub.text(str(problem)), file=sys.stderr)
        return 1
    finally:
        journal.close()
    path = _write(story, scrub, environment, out)
    print(f"{path}\nPlease read it through, and send that file only: report-journal/ beside it keeps the picture.")
    return 0 if story.delivery is not None and not story.errors else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("node", choices=CALLS, metavar="NODE", help=", ".join(CALLS))
    parser.add_argument("--yes", action="store_true", help="the picture may be paid for; do not ask")
    parser.add_argument("--template-id", type=int, help="of the model photo set")
    parser.add_argument("--take", type=int, default=0, help="another number buys once more")
    return parser


def _key_of(node: str) -> str:
    if node.startswith("HiDream"):
        return "HIDREAM_TOKEN or HIDREAM_API_KEY"
    gateway = "VOLCENGINE_GATEWAY_API_KEY and VOLCENGINE_GATEWAY_BASE_URL"
    return f"VOLCENGINE_ACCESS_KEY_ID and VOLCENGINE_SECRET_ACCESS_KEY, or {gateway}"


def _no_sandbox() -> Sandbox:
    raise AssertionError("a report is never about the sandbox")


def _may_go(options: argparse.Namespace, call: Call, batch: Batch, scrub: Scrub) -> bool:
    if not batch.plan.buy:
        print("This was bought before: nothing is paid now (--take 1 would buy it once more).")
        return True
    pictures = "every picture of the set" if options.node == "HiDreamAPIModelPhotoSet" else "1 picture"
    service = call.paid.service
    print(
        f"{options.node}: {call.asked}, from {scrub.url(service.base_url)}. This will be paid: {pictures}.", flush=True
    )
    if options.yes:
        return True
    try:
        agreed = input("Send it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        agreed = False
    if not agreed:
        print("nothing was sent")
    return agreed


def _buy(story: Story, batch: Batch, journal: Journal) -> Story:
    """Run it in a thread, so that Ctrl-C ends it as an interrupt in ComfyUI does."""
    cancel, began = CancelToken(), time.monotonic()
    ended: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()

    def told(progress: Progress) -> None:
        if not story.stages or story.stages[-1][1] != progress:
            story.stages.append((time.monotonic() - began, progress))
            print(f"  {progress.stage}", flush=True)

    def work() -> None:
        try:
            ended.put(batch.run(0, Watch(cancel, told)))
        except BaseException as problem:
            ended.put(problem)

    with recording() as story.exchanges:
        thread = threading.Thread(target=work, daemon=True, name="report")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)  # a join without end would not hear Ctrl-C on Windows
        except KeyboardInterrupt as interrupt:
            story.trouble = interrupt
            cancel.cancel()
            wait_for_submits(SECONDS_AFTER_INTERRUPT)
            thread.join(SECONDS_AFTER_INTERRUPT)
    story.seconds = time.monotonic() - began
    if not ended.empty():
        _heard(story, ended.get(), batch, journal)
    return story


def _heard(story: Story, end: Result | BaseException, batch: Batch, journal: Journal) -> None:
    if isinstance(end, BaseException):
        story.trouble = story.trouble or end
        return
    if end.error is not None:
        story.errors = [end.error]
    if end.delivery is not None:
        story.delivery = end.delivery
        story.errors = list(end.delivery.errors)
        story.stored = journal.store.side_cars_of(end.delivery.journal_id)
        batch.delivered([end])


def _write(story: Story, scrub: Scrub, environment: Mapping[str, str], out: Path) -> Path:
    path = out / f"report-{story.node}-{time.strftime('%Y%m%d-%H%M%S')}.md"
    path.write_text(report(story, scrub, environment), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())

"""The local node that writes a report of the run that it belongs to."""

from __future__ import annotations

from comfy_api.latest import io

from .. import api
from ..api import ConfigurationError, Text, local
from .comfy import host
from .comfy.buying import current_run_id
from .comfy.display import PreviewFile
from .comfy.reports import save_report
from .outpaint import without_billing
from .schema import schema_of

_NO_ROWS = Text(
    "No paid node ran: everything came from ComfyUI's cache. No report was written.",
    "没有付费节点运行：全部结果来自 ComfyUI 的缓存。未写报告。",
)


class RemoteSetReport(io.ComfyNode):
    """What became of each item of this run, as a CSV file, and in one sentence."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(local.SET_REPORT)

    @classmethod
    @without_billing
    async def execute(cls, after: object) -> io.NodeOutput:
        account, files = await host.off_loop(_report, current_run_id())
        api.pack_logger().info("%s", account.en)
        return io.NodeOutput(ui={"text": [str(account)], "report": files})


def _report(run: str) -> tuple[Text, list[PreviewFile]]:
    """The sentence for the node, and the file that was written, if the run has rows.

    Raises:
        ConfigurationError: it could not be written.
    """
    rows = host.SERVER_JOURNAL.rows_of_run(run)
    if not rows:
        return _NO_ROWS, []
    try:
        file = save_report(api.report.csv_of(rows, host.user_language() or "en"))
    except OSError as problem:
        raise ConfigurationError(
            Text(f"The report could not be written: {problem}.", f"无法写入报告：{problem}。"),
            advice=Text(
                "Make room, or give ComfyUI the right to write into its output folder, and queue again. The report is "
                "in Remote tasks in the sidebar, too.",
                "请腾出空间，或允许 ComfyUI 写入其输出文件夹，然后重新运行。侧边栏的「远程任务」中也有报告。",
            ),
        ) from problem
    account, name = api.report.account(rows), file["filename"]
    return Text(f"{account.en}: {name}", f"{account.zh}：{name}"), [file]

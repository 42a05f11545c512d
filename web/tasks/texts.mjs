// The texts of the Tasks tab, in English and Chinese. `states`: a word, what it means for money, and an explanation.
import { money } from "../money.mjs";
import { chinese } from "../pack.js";

function moment(seconds, locale) {
  return new Date(seconds * 1000).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
}

const EN = {
  locale: "en",
  states: {
    prepared: ["Not sent yet", "not billed", "Written down; nothing was sent, or it was certainly not accepted."],
    submitting: ["Being sent", "may be billed", "The request is on its way; its answer is not here yet."],
    unanswered: [
      "Unclear",
      "may be billed",
      "It ended while the request was being sent. Nobody knows whether the service accepted it: look at the account's " +
        "task list or bill. Queueing it again only explains.",
    ],
    submitted: ["In progress", "accepted, may be billed", "A node waits for its pictures."],
    parked: [
      "Waiting to be collected",
      "accepted, may be billed",
      "No node waits for it now. It is collected in the background, and queueing the workflow again resumes it. " +
        "Neither costs anything.",
    ],
    done: ["Being downloaded", "billed", "The service has finished; the pictures are being fetched."],
    stored: [
      "Ready",
      "billed",
      "The pictures are in the store, and no node has taken them yet. Queueing the workflow again brings them for free.",
    ],
    partly: [
      "Ready in part",
      "billed at least in part",
      "The service failed at some of the pictures; the others are in the store. Queueing the workflow again brings " +
        "them for free if on_partial is “return the rest”. Remote Task Result brings them, too.",
    ],
    delivered: ["Delivered", "billed", "A node has taken the pictures. Fetching them again costs nothing."],
    refused: ["Refused", "not billed", "The service certainly did not accept it. Queueing it again submits it."],
    ambiguous: [
      "Unclear",
      "may be billed",
      "It was sent, and nobody knows whether the service accepted it: look at the account's task list or bill. " +
        "Queueing it again only explains.",
    ],
    failed: [
      "Failed",
      "may be billed",
      "The service accepted it, but no picture will come. Queueing it again only explains.",
    ],
    cancelled: ["Cancelled", "not billed", "It was given up before it was sent."],
  },
  inSandbox: {
    parked:
      "No node waits for it now. Collect fetches its pictures, and queueing the workflow again resumes it. " +
      "Neither costs anything. When ComfyUI ends, the sandbox forgets it.",
  },
  settled: "It was decided: the request is bought anew when it is queued again, or that was done already.",
  free: "sandbox, free",
  facts: ({ profile, take, pictures, stored }) =>
    `${profile} · take ${take} · ${stored && stored < pictures ? `${stored} of ` : ""}${pictures} picture${pictures === 1 ? "" : "s"}`,
  count: (count) => `${count} pictures`,
  labels: { label: "Label", journal_id: "Journal id", task_id: "task_id", request_id: "request_id" },
  more: "Details",
  wholeList: "Remote tasks, newest first",
  row: (name, word) => `${name}: ${word}`,
  picture: (number, total) => `Picture ${number} of ${total}`,
  dragPicture: "Drag into the graph: Load Image",
  dragTask: "Drag into the graph: Remote Task Result",
  open: "Open",
  save: "Save",
  addPicture: "Add as Load Image",
  addTask: "Add as Remote Task Result",
  copy: "Copy ids",
  copied: "The ids were copied.",
  copyYourself: "This browser copies on https and localhost only. Copy them from here:",
  added: (what) => `${what} was added to the graph.`,
  uploading: "The picture is being copied to ComfyUI's input folder.",
  notRead: "The picture could not be read.",
  notUploaded: (why) => `ComfyUI did not take the picture (${why}).`,
  noNode: (type) => `This ComfyUI has no node ${type}.`,
  working: "One moment.",
  actions: {
    collect: { name: "Collect", done: "The service is being asked." },
    "submit-again": {
      name: "Submit again",
      yes: "Submit again",
      no: "Leave it",
      done: "Decided. Queue the workflow again: this request is bought anew then, once.",
      ask: ({ pictures, sandbox }) =>
        (sandbox
          ? "Sandbox: this costs nothing. "
          : `This may pay a second time, for ${pictures} picture${pictures === 1 ? "" : "s"}. `) +
        "Nothing is sent now: the next time this request is queued, it is bought anew, once.",
    },
    "stop-waiting": {
      name: "Stop waiting",
      yes: "Stop waiting",
      no: "Go on waiting",
      done: "The node stops waiting.",
      ask: ({ state, sandbox }) =>
        (state === "prepared"
          ? "It was not sent yet: it is cancelled, and nothing is billed. "
          : sandbox
            ? "Sandbox: this costs nothing. Collect fetches its pictures later, until ComfyUI ends. "
            : "The task was submitted: it is parked, not unpaid. It goes on at the service and is collected later. ") +
        "The workflow's run ends with an error that says so.",
    },
  },
  budget: ({ profile, pictures_today: today, per_day: most }) =>
    most ? `${profile}: ${today} of ${most} pictures today` : `${profile}: ${today} picture${today === 1 ? "" : "s"} today`,
  perRun: (most) => `At most ${most} in one run`,
  spent: ({ profile, currency, certain_today: today, certain_this_month: month, unclear_this_month: unclear }) =>
    `${profile}: ≈ ${money(today, currency)} today, ≈ ${money(month, currency)} this month` +
    (Number(unclear) ? `; unclear ≈ ${money(unclear, currency)}` : ""),
  report: "Report",
  days: [(day) => `Today (${day})`, (day) => `Yesterday (${day})`],
  run: ({ began_at: at, pictures, missing }) =>
    `${moment(at, "en")} · ${pictures} picture${pictures === 1 ? "" : "s"}${missing ? ` · ${missing} missing` : ""}`,
  noRuns: "No run is known yet.",
  forget: {
    name: "Forget these rows",
    ask: "The labels and outcomes of this run are deleted; no report can be made of it any more. Its pictures and purchases stay.",
    yes: "Forget",
    no: "Keep them",
    done: "The rows of that run are forgotten.",
  },
  damaged:
    "The journal was damaged or missing. It was replaced by a new one with every readable row and every picture of " +
    "the store. Until this is confirmed the paid nodes buy nothing. A request that could not be read would be bought " +
    "again: compare with the bill first.",
  acknowledge: "Confirm: buy again",
  group: "State",
  groups: { all: "All", open: "Open", attention: "Needs attention", finished: "Finished" },
  profile: "Profile",
  allProfiles: "All profiles",
  search: "Search labels, prompts and ids",
  none: "No remote task yet. What the nodes of HiDream and Volcengine buy appears here.",
  noMatch: "No task matches the filter.",
  loading: "Loading.",
  shown: (shown, total) => `${shown} of ${total} tasks`,
  newest: (count) => `The newest ${count} tasks are listed; there may be older ones.`,
  showMore: "Show more",
};

const ZH = {
  locale: "zh",
  states: {
    prepared: ["尚未发送", "未计费", "已记录；尚未发送，或确定未被受理。"],
    submitting: ["发送中", "可能计费", "请求已发出，尚未收到应答。"],
    unanswered: [
      "结果不明",
      "可能计费",
      "发送过程中被中断，无法得知服务是否已受理：请查看账户的任务列表或账单。重新运行只会给出说明。",
    ],
    submitted: ["进行中", "已受理，可能计费", "有节点正在等待图片。"],
    parked: ["等待取回", "已受理，可能计费", "目前没有节点等待。后台会自动取回，重新运行工作流也会继续，均不产生费用。"],
    done: ["下载中", "已计费", "服务已完成，正在下载图片。"],
    stored: ["可取用", "已计费", "图片已存入图片库，尚无节点取用。重新运行工作流即可免费取得。"],
    partly: [
      "部分可取用",
      "至少部分计费",
      "服务端有部分图片失败，其余已存入图片库。将“部分失败时”（on_partial）设为 return the rest 后重新运行工作流，" +
        "或使用“取回远程任务”，即可免费取得。",
    ],
    delivered: ["已交付", "已计费", "图片已交给节点。再次获取不产生费用。"],
    refused: ["被拒绝", "未计费", "服务确定没有受理。重新运行会再次提交。"],
    ambiguous: [
      "结果不明",
      "可能计费",
      "请求已发送，但无法得知服务是否已受理：请查看账户的任务列表或账单。重新运行只会给出说明。",
    ],
    failed: ["失败", "可能计费", "服务已受理，但不会有图片。重新运行只会给出说明。"],
    cancelled: ["已取消", "未计费", "发送之前已放弃。"],
  },
  inSandbox: {
    parked: "目前没有节点等待。点击“取回”可取得图片，重新运行工作流也会继续，均不产生费用。ComfyUI 退出后，沙盒不再保留该任务。",
  },
  settled: "已决定：该请求在下次运行时重新购买，或已重新购买。",
  free: "沙盒，免费",
  facts: ({ profile, take, pictures, stored }) =>
    `${profile} · take ${take} · ${stored && stored < pictures ? `${stored} / ` : ""}${pictures} 张`,
  count: (count) => `${count} 张图片`,
  labels: { label: "标签", journal_id: "付费日志编号", task_id: "task_id", request_id: "request_id" },
  more: "详情",
  wholeList: "远程任务，最新的在前",
  row: (name, word) => `${name}：${word}`,
  picture: (number, total) => `第 ${number} 张，共 ${total} 张`,
  dragPicture: "拖入画布：加载图像",
  dragTask: "拖入画布：取回远程任务",
  open: "打开",
  save: "保存",
  addPicture: "添加为“加载图像”",
  addTask: "添加为“取回远程任务”",
  copy: "复制编号",
  copied: "编号已复制。",
  copyYourself: "此浏览器仅在 https 和 localhost 下允许复制，请从此处手动复制：",
  added: (what) => `已将${what}添加到画布。`,
  uploading: "正在将图片复制到 ComfyUI 的输入文件夹。",
  notRead: "无法读取图片。",
  notUploaded: (why) => `ComfyUI 未接收图片（${why}）。`,
  noNode: (type) => `此 ComfyUI 没有节点 ${type}。`,
  working: "请稍候。",
  actions: {
    collect: { name: "取回", done: "正在询问服务。" },
    "submit-again": {
      name: "重新提交",
      yes: "重新提交",
      no: "保持原样",
      done: "已决定。请重新运行工作流：届时该请求会重新购买一次。",
      ask: ({ pictures, sandbox }) =>
        (sandbox ? "沙盒：不产生费用。" : `可能会再次付费，共 ${pictures} 张图片。`) +
        "现在不会发送任何请求：下次运行该请求时会重新购买一次。",
    },
    "stop-waiting": {
      name: "停止等待",
      yes: "停止等待",
      no: "继续等待",
      done: "节点已停止等待。",
      ask: ({ state, sandbox }) =>
        (state === "prepared"
          ? "尚未发送：任务会被取消，不计费。"
          : sandbox
            ? "沙盒：不产生费用。在 ComfyUI 退出之前，可点击“取回”取得图片。"
            : "任务已提交：停止等待只会将其挂起，并不免除费用。任务会在服务端继续，稍后取回。") +
        "本次工作流运行会以说明此情况的错误结束。",
    },
  },
  budget: ({ profile, pictures_today: today, per_day: most }) =>
    most ? `${profile}：今日 ${today} / ${most} 张` : `${profile}：今日 ${today} 张`,
  perRun: (most) => `单次运行最多 ${most} 张`,
  spent: ({ profile, currency, certain_today: today, certain_this_month: month, unclear_this_month: unclear }) =>
    `${profile}：今日 ≈ ${money(today, currency)}，本月 ≈ ${money(month, currency)}` +
    (Number(unclear) ? `；结果不明 ≈ ${money(unclear, currency)}` : ""),
  report: "报告",
  days: [(day) => `今日（${day}）`, (day) => `昨日（${day}）`],
  run: ({ began_at: at, pictures, missing }) =>
    `${moment(at, "zh")} · ${pictures} 张${missing ? ` · 缺 ${missing} 项` : ""}`,
  noRuns: "暂无运行记录。",
  forget: {
    name: "忘记这些记录",
    ask: "将删除此次运行的标签和结果，之后无法再生成其报告。图片和购买记录保留。",
    yes: "忘记",
    no: "保留",
    done: "已忘记该次运行的记录。",
  },
  damaged:
    "付费日志已损坏或丢失，现已重建，其中包含所有可读取的记录和图片库中的全部图片。确认之前，付费节点不会购买。" +
    "无法读取的请求可能会被再次购买：请先核对账单。",
  acknowledge: "确认：恢复购买",
  group: "状态",
  groups: { all: "全部", open: "未完成", attention: "需要处理", finished: "已结束" },
  profile: "配置",
  allProfiles: "全部配置",
  search: "搜索标签、提示词和编号",
  none: "暂无远程任务。HiDream 和火山引擎节点购买的内容会显示在这里。",
  noMatch: "没有符合筛选条件的任务。",
  loading: "正在加载。",
  shown: (shown, total) => `${shown} / ${total} 个任务`,
  newest: (count) => `仅列出最新的 ${count} 个任务，可能还有更早的任务。`,
  showMore: "显示更多",
};

export function texts() {
  return chinese() ? ZH : EN;
}

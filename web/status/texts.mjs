// The texts of the status below a node, in English and Chinese.

const EN = {
  language: "en",
  label: "What this node is doing, and what its last run had to say",
  noKey: (profile, services) =>
    `The profile “${profile}” has no key for ${services.join(" or ")}. Enter one in Settings → HiDream & Volcengine` +
    (services.length === 1 ? ", or choose “sandbox”, which needs none and costs nothing." : "."),
  bar: "Progress",
  percent: (share, isEstimate) => (isEstimate ? `about ${share} %, estimated from earlier calls` : `${share} %`),
  seconds: (elapsed) => `${elapsed} s`,
  usual: (seconds) => `usually ~${seconds} s`,
  done: (done, total) => (total === null ? counted(done, "picture") : `${done} of ${counted(total, "picture")}`),
  buys: (count) => `buys ${count}`,
  reused: (count) => `${count} reused`,
  resumes: (count) => `${counted(count, "earlier task")} resumed`,
  failed: (count) => `${count} failed`,
  picture: (number) => `Finished picture ${number}`,
  more: (count) => `+${count}`,
  account: ({ bought, resumed, reused, seconds, free }) =>
    [
      [
        bought > 0 && `${bought} bought`,
        resumed > 0 && `${resumed} resumed`,
        reused > 0 && (bought + resumed > 0 ? `${reused} reused` : `${reused} reused, 0 calls`),
      ]
        .filter(Boolean)
        .join(", ") || "nothing bought",
      `${Math.round(seconds)} s`,
      ...(free ? ["free"] : []),
    ].join(" · "),
  left: ({ accepted, sending, unclear, failed, unsent }) =>
    `Stopped: ${listed([
      accepted > 0 && `${accepted} accepted: queue again, free`,
      sending > 0 && `${sending} still being sent: queue again later, nothing is bought twice`,
      unclear > 0 && `${unclear} unclear: will be explained`,
      failed > 0 && `${failed} failed`,
      unsent > 0 && `${unsent} not sent`,
    ])}`,
  parked: (count) =>
    `Stopped. ${count === 1 ? "One request was" : `${count} requests were`} sent before and may be billed. ` +
    "Queue again to fetch what comes: nothing is bought twice.",
};

const ZH_NAMES = { HiDream: " HiDream ", Volcengine: "火山引擎" };

const ZH = {
  language: "zh",
  label: "本节点的运行状态和上次运行的说明",
  noKey: (profile, services) =>
    `配置“${profile}”没有${services.map((service) => ZH_NAMES[service]).join("或")}的密钥。` +
    "请在“设置 → HiDream 与火山引擎”中填写" +
    (services.length === 1 ? "，或选择无需密钥且免费的“sandbox”。" : "。"),
  bar: "进度",
  percent: (share, isEstimate) => (isEstimate ? `约 ${share}%，按以往调用估计` : `${share}%`),
  seconds: (elapsed) => `${elapsed} 秒`,
  usual: (seconds) => `通常约 ${seconds} 秒`,
  done: (done, total) => (total === null ? `${done} 张` : `${done} / ${total} 张`),
  buys: (count) => `购买 ${count} 张`,
  reused: (count) => `复用 ${count} 张`,
  resumes: (count) => `恢复 ${count} 个先前的任务`,
  failed: (count) => `失败 ${count} 张`,
  picture: (number) => `已完成的第 ${number} 张图片`,
  more: (count) => `+${count}`,
  account: ({ bought, resumed, reused, seconds, free }) =>
    [
      [
        bought > 0 && `购买 ${bought} 张`,
        resumed > 0 && `恢复 ${resumed} 张`,
        reused > 0 && (bought + resumed > 0 ? `复用 ${reused} 张` : `复用 ${reused} 张，0 次调用`),
      ]
        .filter(Boolean)
        .join("，") || "未购买",
      `${Math.round(seconds)} 秒`,
      ...(free ? ["免费"] : []),
    ].join(" · "),
  left: ({ accepted, sending, unclear, failed, unsent }) =>
    `已停止：${listed([
      accepted > 0 && `${accepted} 项已受理：重新运行即可免费取回`,
      sending > 0 && `${sending} 项仍在提交：稍后重新运行，不会重复购买`,
      unclear > 0 && `${unclear} 项结果不明：重新运行时给出说明`,
      failed > 0 && `${failed} 项失败`,
      unsent > 0 && `${unsent} 项未提交`,
    ])}`,
  parked: (count) => `已停止。有 ${count} 个请求此前已发出，可能计费。再次运行即可取回结果，不会重复购买。`,
};

function listed(parts) {
  return parts.filter(Boolean).join(" · ");
}

/** Return one account for those of all items of a list: the sums, and the longest time, since they run side by side. */
export function together(accounts) {
  const sum = (name) => accounts.reduce((total, account) => total + (Number(account?.[name]) || 0), 0);
  return {
    bought: sum("bought"),
    resumed: sum("resumed"),
    reused: sum("reused"),
    seconds: Math.max(...accounts.map((account) => Number(account?.seconds) || 0)),
    free: accounts.every((account) => account?.free === true),
  };
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export function textsFor(inChinese) {
  return inChinese ? ZH : EN;
}

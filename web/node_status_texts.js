// What a node says of its run, in the user's language.

const EN = {
  language: "en",
  label: "What this node is doing, and what its last run had to say",
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
  parked: (count) =>
    `Stopped. ${count === 1 ? "One request was" : `${count} requests were`} sent before and may be billed. ` +
    "Queue again to fetch what comes: nothing is bought twice.",
};

const ZH = {
  language: "zh",
  label: "本节点的运行状态和上次运行的说明",
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
  parked: (count) => `已停止。有 ${count} 个请求此前已发出，可能计费。再次运行即可取回结果，不会重复购买。`,
};

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export function textsFor(inChinese) {
  return inChinese ? ZH : EN;
}

// The texts of the status below a node, in English and Chinese.

import { money } from "../money.mjs";

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
  account: (account) =>
    listed([
      [
        account.bought > 0 && `${account.bought} bought`,
        account.resumed > 0 && `${account.resumed} resumed`,
        account.reused > 0 && `${account.reused} reused${hasCalled(account) ? "" : ", 0 calls"}`,
        account.refused > 0 && `${account.refused} refused`,
        account.failed > 0 && `${account.failed} failed`,
        account.unclear > 0 && `${account.unclear} unclear`,
        account.waiting > 0 && `${account.waiting} awaited`,
        account.notSubmitted > 0 && `${account.notSubmitted} not submitted`,
      ]
        .filter(Boolean)
        .join(", ") || "nothing bought",
      estimated(account.prices),
      `${Math.round(account.seconds)} s`,
      account.free && "free",
    ]),
  without: (items) => `without a picture: ${firstOf(items, ", ", (count) => ` and ${count} more`)}`,
  incomplete: (items) => `with some pictures missing: ${firstOf(items, ", ", (count) => ` and ${count} more`)}`,
  price: (price, count) => `${price} for ${count}`,
  allowed: (wanted, allowed) =>
    `${wanted} wanted, ${allowed} allowed by the budget: taken in list order; what is in the store costs none`,
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
  account: (account) =>
    listed([
      [
        account.bought > 0 && `购买 ${account.bought} 张`,
        account.resumed > 0 && `恢复 ${account.resumed} 张`,
        account.reused > 0 && `复用 ${account.reused} 张${hasCalled(account) ? "" : "，0 次调用"}`,
        account.refused > 0 && `被拒绝 ${account.refused} 张`,
        account.failed > 0 && `失败 ${account.failed} 张`,
        account.unclear > 0 && `结果不明 ${account.unclear} 张`,
        account.waiting > 0 && `待取回 ${account.waiting} 张`,
        account.notSubmitted > 0 && `未提交 ${account.notSubmitted} 张`,
      ]
        .filter(Boolean)
        .join("，") || "未购买",
      estimated(account.prices),
      `${Math.round(account.seconds)} 秒`,
      account.free && "免费",
    ]),
  without: (items) => `没有图片的项：${firstOf(items, "、", (count) => ` 等，另有 ${count} 项`)}`,
  incomplete: (items) => `缺少部分图片的项：${firstOf(items, "、", (count) => ` 等，另有 ${count} 项`)}`,
  price: (price, count) => `${count} 张 ${price}`,
  allowed: (wanted, allowed) =>
    `需要 ${wanted} 张，预算允许 ${allowed} 张：按列表顺序购买；图片库中已有的不占用`,
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

/** Whether the service was asked for anything in this run. */
function hasCalled({ bought, resumed, refused, failed, unclear, waiting }) {
  return bought + resumed + refused + failed + unclear + waiting > 0;
}

/** How many items are named; the others are counted. */
const NAMED = 10;

function firstOf(items, comma, andMore) {
  const more = items.length - NAMED;
  return items.slice(0, NAMED).join(comma) + (more > 0 ? andMore(more) : "");
}

/** Return "≈ ¥4.40", with several currencies "≈ ¥4.40 + $1.00"; "" without a price.
 * @param {{price: string?, currency: string?}[]} prices  decimal numbers; those of one currency are summed */
export function estimated(prices) {
  const byCurrency = new Map();
  for (const { price, currency } of prices) {
    if (!price || !currency || !Number.isFinite(Number(price))) continue;
    byCurrency.set(currency, (byCurrency.get(currency) ?? 0) + Number(price));
  }
  const amounts = [...byCurrency].map(([currency, sum]) => money(sum, currency));
  return amounts.length ? `≈ ${amounts.join(" + ")}` : "";
}

const MISSING = ["refused", "failed", "unclear", "waiting", "not_submitted"];

/** Return one account for those of all items of a list. `seconds` is the longest time, since they run side by side.
 * `without` and `incomplete` number the items, from 1, of which no picture came, and only some; a single item is not
 * numbered. `stopped`: why submits ended, each sentence once. Accounts of older versions lack most fields. */
export function together(accounts) {
  const number = (account, name) => Number(account?.[name]) || 0;
  const sum = (name) => accounts.reduce((total, account) => total + number(account, name), 0);
  const hasAny = (account, names) => names.some((name) => number(account, name) > 0);
  const items = accounts.map((account, place) => ({
    number: (account?.index ?? place) + 1,
    came: hasAny(account, ["bought", "resumed", "reused"]),
    lacks: accounts.length > 1 && hasAny(account, MISSING),
  }));
  const numbers = (came) => items.filter((item) => item.lacks && item.came === came).map((item) => item.number);
  return {
    bought: sum("bought"),
    resumed: sum("resumed"),
    reused: sum("reused"),
    refused: sum("refused"),
    failed: sum("failed"),
    unclear: sum("unclear"),
    waiting: sum("waiting"),
    notSubmitted: sum("not_submitted"),
    prices: accounts.filter(Boolean),
    seconds: Math.max(...accounts.map((account) => number(account, "seconds"))),
    free: accounts.every((account) => account?.free === true),
    without: numbers(false),
    incomplete: numbers(true),
    stopped: [...new Set(accounts.flatMap((account) => account?.stopped ?? []))],
  };
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export function textsFor(inChinese) {
  return inChinese ? ZH : EN;
}

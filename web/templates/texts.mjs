// The texts of the template picker, in English and Chinese.

const EN = {
  language: "en",
  title: "Choose a template",
  close: "Close",
  genders: { woman: "Women", man: "Men" },
  whose: "Whose templates",
  number: "Number",
  find: "Go to",
  reload: "Reload",
  reloading: "Asks the service for the list anew",
  list: "Templates: arrow keys to look around, Enter to choose",
  template: (id) => `Template ${id}`,
  chosen: (id) => `Template ${id}, chosen now`,
  noPicture: "no picture",
  previous: "Previous",
  next: "Next",
  page: (page, pages, total) => `Page ${page} of ${pages} · ${total} templates`,
  loading: "The list is being fetched…",
  empty: "The service has no templates here.",
  notListed: (id) => `The service's list has no template ${id}.`,
  noNumber: "Enter a whole number from 1 on.",
  linked: "A link decides template_id, so nothing can be chosen here. Choose at its other end, or remove the link.",
  byHand: "A number can be entered in the node without the list.",
};

const ZH = {
  language: "zh",
  title: "选择模板",
  close: "关闭",
  genders: { woman: "女", man: "男" },
  whose: "模特性别",
  number: "编号",
  find: "转到",
  reload: "重新加载",
  reloading: "重新向服务端获取列表",
  list: "模板：方向键浏览，回车选用",
  template: (id) => `模板 ${id}`,
  chosen: (id) => `模板 ${id}，当前选用`,
  noPicture: "无图片",
  previous: "上一页",
  next: "下一页",
  page: (page, pages, total) => `第 ${page} / ${pages} 页 · 共 ${total} 个模板`,
  loading: "正在获取列表…",
  empty: "服务端此处没有模板。",
  notListed: (id) => `服务端的列表中没有模板 ${id}。`,
  noNumber: "请输入不小于 1 的整数。",
  linked: "template_id 由连线决定，无法在此选择。请在连线的另一端选择，或断开连线。",
  byHand: "没有列表也可以在节点中直接填写编号。",
};

export function textsFor(chinese) {
  return chinese ? ZH : EN;
}

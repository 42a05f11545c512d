// The texts of the placement editor, in English and Chinese.

const EN = {
  label: "Placement editor: where the original lies in the new canvas",
  help:
    "Arrow keys move the original by one pixel, with Shift by ten. Plus and minus change its size. " +
    "Escape leaves the editor.",
  sentences: (said) => said.join(" "),
  list: (names) => names.join(", "),
  canvas: (size) => `Canvas ${size}`,
  original: (size, x, y) => `Original ${size} at ${x}, ${y}`,
  source: (size) => `Image ${size}`,
  scale: (percent) => `${percent} %`,
  sides: ({ left, top, right, bottom }) => `L ${left}  T ${top}  R ${right}  B ${bottom}`,
  decided: "The connected placement decides. This editor has no effect.",
  outside: "The offset leads out of the canvas. Shown: the nearest place inside.",
  linked: (names) => `From a link, read-only here: ${names}.`,
  unseen: (names) => `Known only when it runs: ${names}. The picture shows the widget's own value.`,
  unreadable: (name) => `This browser cannot show ${name}.`,
  assumed: (size) => `No picture yet. Assumed: an original of ${size}.`,
  loading: "The picture is being loaded.",
  lastRun: "Picture of the last run.",
  unfocused: "Click to move and scale.",
  focused: "Drag to move, corners or wheel to scale, arrows 1 px (Shift 10), Alt: no snapping.",
};

const ZH = {
  label: "布局编辑器：原图在新画布中的位置",
  help: "方向键移动原图 1 像素，按住 Shift 移动 10 像素。加号和减号调整大小。Esc 离开编辑器。",
  sentences: (said) => said.join(""),
  list: (names) => names.join("、"),
  canvas: (size) => `画布 ${size}`,
  original: (size, x, y) => `原图 ${size}，位于 ${x}, ${y}`,
  source: (size) => `图片 ${size}`,
  scale: (percent) => `${percent}%`,
  sides: ({ left, top, right, bottom }) => `左 ${left}  上 ${top}  右 ${right}  下 ${bottom}`,
  decided: "由已连接的 placement 决定，此编辑器不起作用。",
  outside: "偏移超出画布，图中显示画布内最近的位置。",
  linked: (names) => `来自连线，此处只读：${names}。`,
  unseen: (names) => `运行时才能得知：${names}。图中使用控件自身的值。`,
  unreadable: (name) => `此浏览器无法显示 ${name}。`,
  assumed: (size) => `尚无图片，假定原图为 ${size}。`,
  loading: "正在加载图片。",
  lastRun: "上次运行的图片。",
  unfocused: "点击后可移动和缩放。",
  focused: "拖动移动，拖角点或滚轮缩放，方向键 1 像素（Shift 为 10），Alt 不吸附。",
};

export function textsFor(chinese) {
  return chinese ? ZH : EN;
}

// Runs in every page before the frontend does.

// Ten pictures a second are enough: drawing the graph without a pause costs every open page a tenth of a core.
const frame = window.requestAnimationFrame.bind(window);
const drop = window.cancelAnimationFrame.bind(window);
const asked = new Map();
window.requestAnimationFrame = (draw) => {
  const draws = (time) => {
    asked.delete(turn);
    draw(time);
  };
  const turn = setTimeout(() => asked.set(turn, frame(draws)), 100);
  return turn;
};
window.cancelAnimationFrame = (turn) => {
  clearTimeout(turn);
  drop(asked.get(turn));
  asked.delete(turn);
};

// The pictures of 1.32.9's template browser look at the first of several entries only. On a busy machine "out of sight"
// and "in sight" come together, and the picture would never be asked for: here each element has its latest entry alone.
window.IntersectionObserver = class extends IntersectionObserver {
  constructor(callback, options) {
    super((entries, observer) => {
      const latest = new Map(entries.map((entry) => [entry.target, entry]));
      callback([...latest.values()], observer);
    }, options);
  }
};

// Nothing moves on its own: what is drawn of a dialog that opens slowly costs a fifth of all. `:root` is there to win
// over `.disable-animations *`, which leaves a duration above 0: 1.48.7 would wait for the end of no animation.
const still = new CSSStyleSheet();
const all = ":root *, :root ::before, :root ::after";
still.replaceSync(`${all} { animation: none !important; transition: none !important; }`);
document.adoptedStyleSheets.push(still);

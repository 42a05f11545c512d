// The groups of a profile's fields, and the button of the free check of each service.
import { button, enable, made, Told } from "./elements.mjs";
import { ChoiceSetting, Key, NumberSetting, TextSetting } from "./fields.mjs";

const HIDREAM = {
  provider: "HiDream",
  parts: [
    ["hidream_token", "hidream_api_key", "hidream_base_url", "hidream_ec_base_url", "hidream_user_id", "language"],
    ["notify_url"],
  ],
};
const VOLCENGINE = {
  provider: "Volcengine",
  parts: [
    "signed",
    ["volcengine_access_key_id", "volcengine_secret_access_key", "volcengine_base_url"],
    "gateway",
    ["volcengine_gateway_api_key", "volcengine_gateway_base_url"],
    ["volcengine_resumable", "volcengine_logo_info", "volcengine_aigc_meta"],
  ],
};
const NETWORK = { parts: [["proxy"]] };
/** Return the names of the limits; those in `declared` ({name, provider}) come after their provider's own. */
function limitNames(declared) {
  const of = (wanted) => declared.filter(({ provider }) => provider === wanted).map(({ name }) => name);
  return [
    "pictures_per_day",
    "pictures_per_run",
    "hidream_at_once",
    ...of(HIDREAM.provider),
    "volcengine_at_once",
    ...of(VOLCENGINE.provider),
    "polls_per_second",
  ];
}

const KEYS = new Set([
  "hidream_token", "hidream_api_key", "volcengine_gateway_api_key", "volcengine_access_key_id",
  "volcengine_secret_access_key",
]);

/** Whether the field is taken from the environment if that has the provider's key. */
const comesWithTheKey = (name) => KEYS.has(name) || name.endsWith("_base_url") || name === "hidream_user_id";

/** Return the names, in the user's language, of the services for which a profile itself has keys. */
export function keyedServices(profile, texts) {
  const { keys, environment } = profile;
  const hidream = keys.hidream_token || keys.hidream_api_key;
  const signed = keys.volcengine_access_key_id && keys.volcengine_secret_access_key;
  const has = { HiDream: hidream, Volcengine: keys.volcengine_gateway_api_key || signed };
  return providersNamed(texts, (provider) => has[provider] && !environment.includes(provider));
}

/** Return the names, in the user's language, of the services for whose provider `passes(provider)` holds. */
export function providersNamed(texts, passes) {
  const services = [[HIDREAM.provider, texts.groups.hidream], [VOLCENGINE.provider, texts.groups.volcengine]];
  return services.filter(([provider]) => passes(provider)).map(([, name]) => name);
}

function fieldOf(name, texts, defaults) {
  if (KEYS.has(name)) return new Key(name, texts);
  if (name === "language") {
    const server = texts.serverDefault(texts.languages[defaults.language] ?? defaults.language);
    return new ChoiceSetting(name, texts, [["", server], ...Object.entries(texts.languages)]);
  }
  if (name === "volcengine_resumable") {
    const server = texts.serverDefault(defaults.volcengine_resumable ? texts.on : texts.off);
    return new ChoiceSetting(name, texts, [[null, server], [true, texts.on], [false, texts.off]]);
  }
  return new TextSetting(name, texts, defaults);
}

/** A service's free check: a button, and the result. */
class Check {
  told = new Told();
  #hint = made("small");

  /** `ask(provider)` runs the check, and returns a promise of {sentences, isProblem}. */
  constructor(provider, service, texts, ask) {
    this.provider = provider;
    this.texts = texts;
    this.ask = ask;
    this.button = button(texts.check(service), () => this.#run());
    this.button.dataset.check = provider;
    this.row = made("div", { className: "row" }, this.button, this.#hint);
  }

  /** Allow the check if everything is saved: it uses the stored values. */
  allow(isSaved) {
    enable(this.button, isSaved);
    // The last result was about other values.
    if (!isSaved) this.told.say([]);
    this.#hint.textContent = isSaved ? this.texts.free : this.texts.saveFirst;
  }

  async #run() {
    const { texts, told } = this;
    enable(this.button, false);
    told.say([texts.checking]);
    const { sentences, isProblem } = await this.ask(this.provider);
    told.say(sentences, isProblem);
    enable(this.button, true);
  }
}

/** All groups of a profile's fields. If the environment has a provider's key, the fields that come with the key are not
 * editable.
 *
 * `limits`: those that endpoints declare; `prices`: those that can be entered; `environment`: those providers; `ask`: as
 * of Check. */
export class Groups {
  fields = [];
  checks = [];
  elements = [];

  #limits;

  constructor(texts, defaults, limits, prices, environment, ask) {
    this.#limits = limitNames(limits);
    const groups = {
      hidream: HIDREAM,
      volcengine: VOLCENGINE,
      network: NETWORK,
      limits: { parts: [this.#limits] },
      prices: { parts: [[...prices.map(({ name }) => name), "prices_currency", "prices_date"]], isFolded: true },
    };
    for (const [title, group] of Object.entries(groups)) {
      const decided = environment.includes(group.provider);
      const place = made("div", { className: "fields" });
      if (decided) place.append(made("p", { textContent: texts.environment(texts.groups[title]) }));
      for (const part of group.parts) this.#addPart(part, place, texts, defaults, decided);
      const { hosts, limitsHint, pricesHint } = texts;
      const hint = { hidream: hosts, volcengine: hosts, limits: limitsHint, prices: pricesHint }[title];
      if (hint && !decided) place.append(made("p", { className: "quiet", textContent: hint }));
      if (ask && group.provider) this.#addCheck(group.provider, texts.groups[title], place, texts, ask);
      const [box, head] = group.isFolded ? ["details", "summary"] : ["fieldset", "legend"];
      this.elements.push(made(box, {}, made(head, { textContent: texts.groups[title] }), place));
    }
  }

  #addPart(part, place, texts, defaults, decided) {
    if (typeof part === "string") {
      if (!decided) place.append(made("h4", { textContent: texts.parts[part] }));
      return;
    }
    for (const name of part) {
      const isShownOnly = decided && comesWithTheKey(name);
      if (isShownOnly && KEYS.has(name)) continue;
      const isLimit = this.#limits.includes(name);
      const field = isLimit ? new NumberSetting(name, texts, defaults) : fieldOf(name, texts, defaults);
      place.append(field.element);
      if (isShownOnly) field.control.disabled = true;
      else this.fields.push(field);
    }
  }

  #addCheck(provider, service, place, texts, ask) {
    const check = new Check(provider, service, texts, ask);
    place.append(check.row, check.told.element);
    this.checks.push(check);
  }
}

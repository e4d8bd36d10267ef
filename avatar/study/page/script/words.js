// Words: the page's language, elements that follow it, and what screen readers are told.

const WORDS = JSON.parse(document.getElementById("words").textContent);
let language = "en";
const inWords = new WeakMap(); // element -> {text, label, args}

/** The words for a key in the page's language, with {names} filled in; an argument may be a function. */
function words(key, args = {}) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  // isolated, so that a date or an address stays in its own order within a line from right to left
  const isolated = (value) => (WORDS[language]._dir === "rtl" && typeof value === "string" ? `\u2068${value}\u2069` : value);
  return text.replace(/\{(\w+)\}/g, (_, name) => isolated(typeof args[name] === "function" ? args[name]() : args[name]));
}

/** What the study file says in the page's language; its English where there is none. */
function localized(texts) {
  return texts[language] ?? texts.en ?? Object.values(texts)[0] ?? "";
}

/** A day as the page's language writes it; as it stands if it is no ISO date. */
function dayInWords(text) {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return text;
  const day = new Date(`${text}T12:00:00Z`);
  const style = { year: "numeric", month: "long", day: "numeric", timeZone: "UTC" };
  return new Intl.DateTimeFormat(`${language}-u-nu-latn`, style).format(day);
}

/**
 * An element. Of its properties `text` and `label` are keys of words (or functions) that follow the language, `args` fills them,
 * `on` holds listeners, `then` is called with the element; the others are attributes (null, undefined and false: left out).
 */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { text, label, args, on = {}, then, ...attributes } = properties;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  if (text || label) {
    inWords.set(element, { text, label, args });
    element.dataset.words = "";
    translate(element);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  if (then) then(element);
  return element;
}

function translate(element) {
  const { text, label, args } = inWords.get(element);
  const said = (what) => (typeof what === "function" ? what() : words(what, args));
  if (text) element.textContent = said(text);
  if (label) element.setAttribute("aria-label", said(label));
}

/** Gives an element other words. */
function say(element, text, args) {
  inWords.set(element, { ...inWords.get(element), text, args });
  element.dataset.words = "";
  translate(element);
}

/** Turns the whole page to another language, as it stands. */
function speak(wanted) {
  language = WORDS[wanted] ? wanted : "en";
  document.documentElement.lang = language;
  document.documentElement.dir = WORDS[language]._dir;
  document.title = localized(STUDY.title);
  for (const element of document.querySelectorAll("[data-words]")) if (inWords.has(element)) translate(element);
}

/** The language to begin with: the reader's own if the study has it. */
function preferredLanguage() {
  const wanted = (navigator.languages ?? [navigator.language]).map((tag) => tag.toLowerCase().split("-")[0]);
  return wanted.find((tag) => STUDY.languages.includes(tag)) ?? STUDY.languages[0];
}

let announcer = null;
/** Tells screen readers, without moving the focus. */
function announce(key, args) {
  announcer ??= document.body.appendChild(h("div", { class: "unseen", role: "status", "aria-live": "polite" }));
  announcer.textContent = "";
  setTimeout(() => (announcer.textContent = typeof key === "function" ? key() : words(key, args)), 60); // said again even if the words are the same
}

const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M6 5h4v14H6zM14 5h4v14h-4z",
  replay: "M12 5V1L7 6l5 5V7a6 6 0 1 1-6 6H4a8 8 0 1 0 8-8z",
};
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function button(text, act, { kind = "", image = null, ...more } = {}) {
  return h("button", { type: "button", class: `button ${kind}`, on: { click: act }, ...more }, image && icon(image), h("span", { text }));
}

// Steps: the pages of words before, between and after the clips.

/** Replaces what the page shows; the heading gets the focus, so that screen readers begin there. */
function show(heading, ...children) {
  const title = h("h1", { tabindex: "-1", ...heading });
  fill("", h("div", { class: "page" }, title, ...children));
  title.focus({ preventScroll: true });
}

const paragraph = (text, args, kind) => h("p", { text, args, class: kind });
const actions = (...buttons) => h("div", { class: "actions" }, ...buttons);
const mainButton = (text, act, more = {}) => button(text, act, { kind: "main", ...more });

function field({ id, label, hint, args, kind = "", control = "input", ...attributes }) {
  const input = h(control, { id, "aria-describedby": `${id}-hint`, ...attributes });
  return h("div", { class: `field ${kind}`, then: (element) => (element.input = input) },
    h("label", { for: id, text: label }), input, h("span", { class: "hint", id: `${id}-hint`, text: hint, args }));
}

function tick(id, text) {
  const box = h("input", { type: "checkbox", id });
  return h("label", { class: "tick", then: (element) => (element.box = box) }, box, h("span", { text }));
}

function showWelcome() {
  const adult = tick("adult", "consent_age");
  const agreed = tick("agreed", "consent_agree");
  const entry = entryField();
  const wrong = h("p", { class: "error", role: "alert", hidden: true });
  const refuse = (key, args) => {
    say(wrong, key, args);
    wrong.hidden = false;
  };
  const begin = mainButton("begin", async () => {
    wrong.hidden = true;
    if (!adult.box.checked || !agreed.box.checked) return refuse("consent_needed");
    begin.disabled = true;
    const problem = await enter(entry?.input.value.trim() ?? "");
    begin.disabled = false;
    if (problem) return refuse(problem, { n: STUDY.num_slots });
    render();
  });
  show({ text: () => localized(STUDY.title) },
    h("p", { class: "lead", text: () => localized(STUDY.about) || words("welcome_lead") }),
    h("ul", { class: "facts" },
      h("li", { text: "fact_clips", args: { n: STUDY.num_trials } }), h("li", { text: "fact_minutes", args: { n: STUDY.minutes } }),
      h("li", { text: "fact_sound" }), h("li", { text: "fact_pause" })),
    h("section", {}, h("h2", { text: "consent_title" }),
      h("p", { class: "notice", text: "notice_long" }),
      h("div", { class: "prose" }, paragraph("consent_voluntary"), paragraph("consent_data"), paragraph("consent_delete"),
        STUDY.data_until && paragraph("consent_until", { date: () => dayInWords(STUDY.data_until) }),
        STUDY.pay && paragraph("consent_pay", { pay: STUDY.pay }),
        STUDY.contact && paragraph("consent_contact", { contact: STUDY.contact }))),
    h("section", {}, h("div", {}, adult, agreed), entry, wrong, actions(begin)));
}

/** What tells which clips are this rater's: an invitation code with a server that asks for one, a number without a server. */
function entryField() {
  if (COLLECTED) {
    const code = { id: "invite", label: "invite_label", hint: "invite_hint", kind: "short", autocomplete: "off", spellcheck: "false", autocapitalize: "none" };
    return STUDY.invited ? field({ ...code, value: QUERY.get("invite") ?? "", maxlength: 64 }) : null;
  }
  if (slotFrom(QUERY.get("participant")) !== null || STUDY.num_slots === 1) return null;
  return field({ id: "slot", label: "slot_label", hint: "slot_hint", args: { n: STUDY.num_slots }, kind: "short", inputmode: "numeric", maxlength: 6 });
}

/** Participants count from 1, slots from 0. */
function slotFrom(text) {
  const number = /^\d+$/.test(text ?? "") ? Number(text) : 0;
  return number >= 1 && number <= STUDY.num_slots ? number - 1 : null;
}

/** Begins the session; the key of an error in words, or null. */
async function enter(text) {
  if (COLLECTED) return join(text);
  const slot = slotFrom(QUERY.get("participant")) ?? (STUDY.num_slots === 1 ? 0 : slotFrom(text));
  if (slot === null) return "slot_wrong";
  const trials = [...STUDY.practice, ...STUDY.slots[slot]];
  state = newState({ rater: `r-${randomName(8)}`, slot, trials, practice: STUDY.practice.length });
  save();
  return null;
}

function showResume() {
  show({ text: "resume_title" }, paragraph("resume_lead", { done: numRated(), n: numTrials() }, "lead"),
    actions(mainButton("resume_go", render), button("resume_fresh", askFresh, { kind: "plain" })));
}

function askFresh() {
  const asked = dialog("resume_fresh", paragraph("resume_fresh_ask"), actions(
    mainButton("begin", () => {
      asked.close();
      forget();
      render();
    }),
    button("download_copy", download), button("close", () => asked.close(), { kind: "plain" })));
}

function showAbout() {
  if (STUDY.ask.length === 0) return go("sound");
  const given = state.attributes;
  const culture = STUDY.ask.includes("culture") &&
    field({ id: "culture", label: "culture_label", hint: "culture_hint", maxlength: 100, value: given.culture ?? "", autocomplete: "off" });
  const natives = STUDY.ask.includes("native_languages") &&
    field({ id: "natives", label: "natives_label", hint: "natives_hint", maxlength: 200, value: (given.native_languages ?? []).join(", "), autocomplete: "off" });
  const take = () => {
    const attributes = {};
    const said = culture && culture.input.value.trim();
    const spoken = natives ? natives.input.value.split(/[,;،、，；/]/).map((name) => name.trim()).filter(Boolean) : [];
    if (said) attributes.culture = said;
    if (spoken.length) attributes.native_languages = spoken.slice(0, 10);
    state.attributes = attributes;
    tell();
    go("sound");
  };
  show({ text: "about_title" }, paragraph("about_lead", {}, "lead"), culture, natives, actions(mainButton("continue", take)));
}

function showSound(tries = 1) {
  const tones = [0, 1, 2].map((i) =>
    button(() => words("sound_tone", { i: i + 1 }), () => choose(i), { disabled: true }));
  const told = h("p", { class: "hint", role: "status" });
  const onwards = h("div", { class: "actions", hidden: true });
  const play = button("sound_play", playRound, { image: "play" });
  let round = drawRound();
  let done = 0;
  let right = 0;
  const count = () => say(told, "sound_round", { i: done + 1, n: ROUNDS });

  async function playRound() {
    play.disabled = true;
    tones.forEach((tone) => (tone.disabled = true));
    const played = await playThreeTones(round, (i) => tones.forEach((tone, j) => tone.classList.toggle("sounding", i === j)));
    play.disabled = false;
    if (!played) return finish("sound_none", null);
    say(play.querySelector("span"), "sound_again");
    tones.forEach((tone) => (tone.disabled = false));
    tones[0].focus();
  }
  function choose(i) {
    right += Number(i === round.quiet);
    done += 1;
    round = drawRound();
    if (done === ROUNDS) return finish(right >= ROUNDS_TO_PASS ? "sound_passed" : tries === 1 ? "sound_failed" : "sound_failed_twice", right);
    count();
    playRound();
  }
  function finish(key, score) {
    const passed = score === null ? null : score >= ROUNDS_TO_PASS;
    Object.assign(state.environment, { headphones: passed, headphone_score: score, headphone_tries: tries });
    tell();
    play.hidden = true;
    tones.forEach((tone) => (tone.hidden = true));
    say(told, key);
    told.className = passed === false ? "error" : "";
    const again = key === "sound_failed" && mainButton("sound_retry", () => showSound(tries + 1));
    const on = button(passed === false ? "sound_anyway" : "continue", () => go("screen"), { kind: again ? "" : "main" });
    onwards.append(...[again, on].filter(Boolean));
    onwards.hidden = false;
    onwards.firstElementChild.focus();
  }

  count();
  show({ text: "sound_title" }, paragraph("sound_lead", {}, "lead"), actions(button("sound_test", playTestSound, { image: "play" })),
    h("section", {}, h("h2", { text: "sound_task" }), told, actions(play), h("div", { class: "choices" }, tones), onwards));
}

function showScreen() {
  const dark = 1 + Math.floor(Math.random() * 3);
  const light = 1 + Math.floor(Math.random() * 3);
  const answers = [0, 1, 2, 3, 4, 5, 6].map((seen) => button(() => String(seen), () => {
    state.environment.window = [innerWidth, innerHeight];
    state.environment.screen_check = { shown: dark + light, seen };
    tell();
    go("guide");
  }));
  show({ text: "screen_title" }, h("p", { class: "lead", id: "circles", text: "screen_lead" }),
    Math.min(innerWidth, innerHeight) < 340 && paragraph("screen_small", {}, "notice"),
    h("div", { class: "fields" }, circles("#1a1a1a", "#2a2a2a", dark, "screen_dark"), circles("#f2f2f2", "#e2e2e2", light, "screen_light")),
    h("div", { class: "choices", role: "group", "aria-labelledby": "circles" }, answers), paragraph("screen_hint", {}, "hint"));
}

function circles(ground, colour, count, label) {
  const svg = h("div", { role: "img", label });
  const draw = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const picture = draw("svg", { viewBox: "0 0 300 150", "aria-hidden": "true" });
  picture.append(draw("rect", { width: 300, height: 150, fill: ground }));
  for (let i = 0; i < count; i++) {
    const cx = 50 + 100 * i + 20 * (Math.random() - 0.5) + (3 - count) * 50 * Math.random();
    picture.append(draw("circle", { cx, cy: 55 + 40 * Math.random(), r: 24, fill: colour }));
  }
  svg.append(picture);
  return svg;
}

function showGuide() {
  const rows = (pairs) => pairs.flatMap(([term, text]) => [h("dt", {}, term), h("dd", { text })]);
  const key = (text) => (text.startsWith("key_") ? h("kbd", { text }) : h("kbd", {}, text));
  const steps = ["guide_watch", "guide_rate", "guide_each", ...(STUDY.scales.includes("LS") ? ["guide_silent"] : [])];
  show({ text: "guide_title" },
    h("ol", { class: "steps" }, steps.map((text) => h("li", {}, h("span", { text })))),
    h("section", {}, h("h2", { text: "guide_questions" }),
      h("dl", { class: "questions" }, STUDY.scales.flatMap((scale) => [h("dt", { text: `scale_${scale}` }), h("dd", { text: `ask_${scale}` })]))),
    h("section", { class: "for-keyboards" }, h("h2", { text: "guide_keys" }),
      h("dl", { class: "keys" }, rows([[key("key_space_name"), "key_space"], [key("1 – 5"), "key_digits"], [key("key_arrows_name"), "key_arrows"], [key("key_enter_name"), "key_enter"]]))),
    actions(mainButton(state.practice ? "guide_start" : "begin", () => go("trials"))));
}

function showBetween(title, lead, args, on) {
  show({ text: title }, paragraph(lead, args, "lead"), actions(mainButton("continue", on)));
}

function showComment() {
  const comment = field({ id: "comment", label: "finish_comment", hint: "finish_comment_hint", control: "textarea", rows: 4, maxlength: 2000 });
  show({ text: "finish_title" }, comment, actions(mainButton("finish", () => {
    const said = comment.input.value.trim();
    if (said) state.attributes = { ...state.attributes, comment: said };
    state.finished_at = now();
    tell();
    go("done");
  })));
}

function showDone() {
  const told = h("p", { class: "lead", role: "status" });
  const saving = h("div", { class: "actions" });
  const refresh = () => {
    if (!state) return;
    const stuck = { gone: "error_gone", refused: "error_refused" }[connection];
    const arrived = COLLECTED && !hasWork() && !stuck;
    if (!COLLECTED) say(told, state.savedAs ? "done_saved" : "done_file", { name: state.savedAs });
    else say(told, stuck ?? (arrived ? "done_sent" : "done_waiting"));
    saving.replaceChildren(button(COLLECTED ? "download_copy" : "download", () => { download(); refresh(); }, { kind: COLLECTED ? "" : "main" }));
  };
  refreshDone = refresh;
  refresh();
  show({ text: "done_title" }, told, saving, !COLLECTED && STUDY.contact && paragraph("consent_contact", { contact: STUDY.contact }),
    h("section", {}, h("h2", { text: "your_code" }), h("p", { class: "code" }, state.rater), paragraph("your_code_hint", {}, "hint")),
    h("details", {}, h("summary", { text: "show_text" }),
      h("textarea", { class: "raw", readonly: true, label: "show_text", then: (area) => (area.value = JSON.stringify(sessionJson(), null, 1)) })),
    actions(button("resume_fresh", askFresh, { kind: "plain" }), button("withdraw", askWithdraw, { kind: "plain" })));
}
let refreshDone = () => {};

/** Saves the session as a file. */
function download() {
  const name = `ratings-${state.rater}.json`;
  const address = URL.createObjectURL(new Blob([JSON.stringify(sessionJson(), null, 1)], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  state.savedAs = name;
  save();
}

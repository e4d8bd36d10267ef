// Rating: the scales beside a clip, by mouse, touch or keyboard.

const MARKS = [1, 2, 3, 4, 5];
const scaleName = (scale) => words(`scale_${scale}`);

/**
 * The form with a fieldset for each scale.
 *
 * `scores` is what was chosen so far and is kept up to date; `changed()` is called after each choice, `next()` when all is answered.
 */
function ratingForm(trial, scores, changed, next) {
  const missing = h("p", { class: "error", role: "alert", hidden: true });
  const confirm = h("button", { type: "submit", class: "button main" }, h("span", { text: "next" }));
  const scales = STUDY.scales.map((scale) => scaleField(scale, trial, scores, () => refresh(true)));
  const form = h("form", { novalidate: true, label: "rating" }, scales, h("div", { class: "go" }, missing, confirm));
  const unanswered = () => STUDY.scales.filter((scale) => !(scale in scores));

  function refresh(chosen = false) {
    const left = unanswered();
    confirm.setAttribute("aria-disabled", String(left.length > 0 || form.locked));
    scales.forEach((field) => field.classList.toggle("current", !form.locked && field.dataset.scale === left[0]));
    if (left.length === 0 || form.locked) missing.hidden = true;
    if (chosen) changed();
  }
  form.lock = (locked) => {
    form.locked = locked;
    form.toggleAttribute("data-locked", locked);
    scales.forEach((field) => field.lock(locked));
    refresh();
  };
  /** Answers the scale with the focus, else the first unanswered one, and goes on to the next. */
  form.mark = (score) => {
    if (form.locked) return;
    const here = scales.find((field) => field.contains(document.activeElement));
    const field = here ?? scales.find((other) => other.dataset.scale === unanswered()[0]);
    if (!field) return;
    field.choose(score);
    announce(() => `${scaleName(field.dataset.scale)}: ${score}, ${words(`anchor_${score}`)}`);
    const after = scales.slice(scales.indexOf(field) + 1).find((other) => !(other.dataset.scale in scores));
    const goal = after ?? scales.find((other) => !(other.dataset.scale in scores));
    (goal ?? confirm).focus(); // the group, not its first mark: Space there still plays the clip
  };
  form.submitRating = () => {
    if (form.locked) return;
    const left = unanswered();
    if (left.length === 0) return next();
    missing.hidden = false;
    say(missing, "missing", { names: () => left.map(scaleName).join(language === "zh" ? "、" : language === "ar" ? "، " : ", ") });
    scales.find((field) => field.dataset.scale === left[0]).focus();
  };
  /** Moves the focus into the marks of a scale. */
  form.enter = () => {
    const here = scales.find((field) => field === document.activeElement);
    const field = here ?? scales.find((other) => other.dataset.scale === unanswered()[0]) ?? scales[0];
    (field.querySelector("input:checked") ?? field.querySelector("input")).focus();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.submitRating();
  });
  refresh();
  return form;
}

function scaleField(scale, trial, scores, chosen) {
  const inputs = MARKS.map((score) =>
    h("input", { type: "radio", name: scale, value: score, checked: scores[scale] === score, on: { change: () => take(score) } })
  );
  const marks = inputs.map((input, i) =>
    h("label", { class: "mark" }, input,
      h("span", { class: "face" }, h("span", { class: "digit" }, String(MARKS[i])), h("span", { class: "word", text: `anchor_${MARKS[i]}` })))
  );
  function take(score) {
    scores[scale] = score;
    chosen();
  }
  const portrait = scale === "IP" && trial.portrait ? portraitButton(trial.portrait) : null;
  const field = h("fieldset", { class: `scale${portrait ? " with-portrait" : ""}`, "data-scale": scale, tabindex: "-1" },
    h("legend", {}, h("span", { class: "name", text: `scale_${scale}` }), " ", h("span", { class: "ask", text: `ask_${scale}` })),
    portrait, h("div", { class: "marks" }, marks));
  field.lock = (locked) => inputs.forEach((input) => (input.disabled = locked)); // not the fieldset: the portrait stays open
  field.choose = (score) => {
    inputs[score - 1].checked = true;
    take(score);
  };
  return field;
}

/** The portrait, small; a press shows it large. */
function portraitButton(file) {
  const picture = () => h("img", { alt: "", then: (image) => addressOf(file).then((address) => (image.src = address), () => {}) });
  const show = () => {
    const window_ = dialog("portrait", h("img", { then: (image) => {
      image.alt = words("portrait_alt");
      addressOf(file).then((address) => (image.src = address), () => {});
    } }), h("div", { class: "actions" }, button("close", () => window_.close(), { kind: "main", autofocus: true })));
    window_.classList.add("picture");
  };
  return h("button", { type: "button", class: "portrait", label: "portrait_larger", on: { click: show } }, picture());
}

/** A window over the page, which Escape closes; gone when it is closed. */
function dialog(label, ...children) {
  const element = h("dialog", { label }, h("div", { class: "inside" }, ...children));
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}

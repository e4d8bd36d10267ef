// Session: the bar, the clips one after another, pausing, and where the page begins. What is shown follows from `state.step`.

const BREAK_EVERY = 20; // clips
const main = h("main", { id: "content", tabindex: "-1" });
const bar = { count: h("span", { class: "count" }), progress: h("progress", { max: 1, value: 0 }), state: h("span", { class: "state", role: "status" }) };
let trialShown = null; // {player, form, watch, keep} while a clip is shown

function fill(kind, ...children) {
  trialShown?.player.pause();
  trialShown = null;
  main.className = kind;
  main.replaceChildren(...children);
  scrollTo(0, 0);
  refreshBar();
}

function go(step) {
  state.step = step;
  save();
  render();
}

function render() {
  if (!state) return showWelcome();
  const steps = { about: showAbout, sound: showSound, screen: showScreen, guide: showGuide, trials: nextTrial, comment: showComment, done: showDone };
  steps[state.step]();
  deliver();
}

/** What is known of the session has changed: keep it, and let the server know. */
function tell() {
  state.changes += 1;
  save();
  deliver();
}

// ---- the clips ----

function nextTrial() {
  const index = currentIndex();
  if (index < 0) return go("comment");
  const left = state.trials.length - index;
  if (index >= state.practice && !state.practised) {
    return showBetween("practice_done_title", "practice_done_lead", { n: numTrials() }, () => {
      state.practised = true;
      go("trials");
    });
  }
  if (numRated() - state.rested >= BREAK_EVERY && left > BREAK_EVERY / 4) {
    return showBetween("break_title", "break_lead", { done: numRated(), n: numTrials() }, () => {
      state.rested = numRated();
      go("trials");
    });
  }
  showTrial(index);
}

function showTrial(index) {
  const trial = state.trials[index];
  const fresh = { trial: trial.id, scores: {}, replays: 0, played_s: 0, ended: false, thought_s: 0 };
  const draft = (state.draft = state.draft?.trial === trial.id ? state.draft : fresh);
  const watch = stopwatch(draft.thought_s);
  const player = clipPlayer(trial, draft, () => changed());
  const form = ratingForm(trial, draft.scores, () => keep(), () => answer(trial, player, draft, watch));
  const view = trialView(player, index < state.practice, () => leaveOut(trial));
  function keep() {
    Object.assign(draft, { replays: player.replays, played_s: player.playedSeconds(), ended: player.ended, thought_s: watch.read() });
    save();
  }
  function changed() {
    if (player.ended && !document.hidden) watch.start();
    if (form.locked !== !player.ended) {
      form.lock(!player.ended);
      if (player.status === "ended") announce("rate_now");
    }
    view.refresh();
    keep();
  }
  fill("trial", h("h1", { class: "unseen", text: countWords() }), h("div", { class: "trial-grid" }, view.element, h("div", { class: "panel" }, form)));
  trialShown = { player, form, watch, keep };
  form.lock(!player.ended);
  player.load();
  prepare(state.trials.slice(index));
  view.toggle.focus({ preventScroll: true });
  refreshBar();
}

/** The picture with its buttons. The round button is for the pointer; the one below keeps the keyboard's focus. */
function trialView(player, isPractice, leaveOut) {
  const round = h("button", { type: "button", class: "play", tabindex: "-1", "aria-hidden": "true", on: { click: player.toggle } });
  const message = h("p");
  const again = button("try_again", player.load, { kind: "small" });
  const skip = button("skip_clip", leaveOut, { kind: "small plain" });
  const notice = h("div", { class: "words", role: "status" }, message, h("div", { class: "actions" }, again, skip));
  const cover = h("div", { class: "cover" }, round, notice);
  const toggle = button("play", player.toggle, { kind: "small" });
  const told = h("span", { class: "told" });
  const shown = { loading: "loading_clip", failed: location.protocol !== "file:" && !navigator.onLine ? "clip_waiting" : "clip_failed" };
  player.video.addEventListener("click", () => player.status !== "ended" && player.toggle());

  function refresh() {
    const { status } = player;
    const waits = status === "loading" || status === "failed";
    const picture = status === "ended" ? "replay" : status === "playing" ? "pause" : "play";
    cover.hidden = status === "playing" || status === "ended";
    round.hidden = waits;
    round.replaceChildren(icon("play"));
    notice.hidden = !waits;
    if (waits) say(message, status === "failed" && !navigator.onLine ? "clip_waiting" : shown[status]);
    again.hidden = status !== "failed";
    skip.hidden = status !== "failed" || player.failures < 3;
    toggle.firstElementChild.replaceWith(icon(picture));
    say(toggle.lastElementChild, { ended: "replay", playing: "pause_clip", paused: "resume_clip" }[status] ?? "play");
    toggle.setAttribute("aria-disabled", String(waits));
    say(told, player.ended ? "rate_now" : "rate_after");
    told.classList.toggle("now", player.ended);
  }
  toggle.prepend(icon("play"));
  const flag = isPractice && h("p", { class: "practice-flag", text: "practice_note" });
  const element = h("section", { class: "stage", label: "clip" }, flag, h("div", { class: "screen" }, player.video, cover), h("div", { class: "under" }, toggle, told));
  return { element, toggle, refresh };
}

function answer(trial, player, draft, watch) {
  const scores = Object.fromEntries(STUDY.scales.map((scale) => [scale, draft.scores[scale]]));
  const played = { replays: player.replays, played_s: player.playedSeconds(), rt_s: rounded(watch.read()) };
  state.answers[trial.id] = { trial: trial.id, scores, ...played, at: now() };
  state.unsent.push(trial.id);
  if (!state.environment.clip_px) state.environment.clip_px = [player.video.clientWidth, player.video.clientHeight];
  state.draft = null;
  go("trials");
}

/** A clip that this browser cannot play stays without an answer, and is named in the result. */
function leaveOut(trial) {
  state.skipped.push(trial.id);
  state.draft = null;
  tell();
  go("trials");
}

/** Seconds between start and stop, on top of those counted before a reload. */
function stopwatch(before_s) {
  let since = null;
  const read = () => before_s + (since === null ? 0 : (performance.now() - since) / 1000);
  return {
    read,
    start: () => (since ??= performance.now()),
    stop: () => {
      before_s = read();
      since = null;
    },
  };
}

// ---- pausing ----

function pause() {
  const shown = trialShown;
  shown?.player.pause();
  shown?.watch.stop();
  shown?.keep();
  const paused = dialog("paused_title", h("h2", { text: "paused_title" }), paragraph(storeWorks ? "paused_lead" : "paused_unkept"),
    actions(mainButton("resume_go", () => paused.close(), { autofocus: true }), button("download_copy", download),
      button("withdraw", () => { paused.close(); askWithdraw(); }, { kind: "plain" })));
  paused.addEventListener("close", () => shown?.player.ended && shown === trialShown && shown.watch.start());
}

function askWithdraw() {
  const wrong = h("p", { class: "error", role: "alert", hidden: true });
  const asked = dialog("withdraw", h("h2", { text: "withdraw" }), paragraph("withdraw_ask"), wrong, actions(
    button("withdraw_yes", async () => {
      const code = state.rater;
      const problem = await withdraw();
      if (problem) {
        wrong.hidden = false;
        return say(wrong, problem);
      }
      asked.close();
      show({ text: "withdrawn_title" }, paragraph("withdrawn_lead", {}, "lead"), !COLLECTED && paragraph("withdrawn_copy", { code }));
    }, { kind: "danger" }),
    button("withdraw_no", () => asked.close(), { autofocus: true })));
}

// ---- the bar, the keys, the beginning ----

/** "Clip 3 of 60", in whatever language the page turns to. */
function countWords() {
  const index = currentIndex();
  const practising = index < state.practice;
  const [i, n] = practising ? [index + 1, state.practice] : [index - state.practice + 1, numTrials()];
  return () => (practising ? `${words("practice")} · ` : "") + words("clip_of", { i, n });
}

function refreshBar() {
  const inClips = trialShown !== null;
  bar.title.hidden = inClips;
  bar.count.hidden = bar.progress.hidden = !inClips;
  bar.pause.hidden = !state || state.step === "done";
  if (inClips) {
    say(bar.count, countWords());
    bar.progress.value = numRated() / numTrials();
  }
  if (!state) return say(bar.state, () => "");
  const lost = connection === "offline";
  bar.state.classList.toggle("offline", lost);
  if (!COLLECTED || connection === "gone") say(bar.state, () => (storeWorks ? words("kept_here") : ""));
  else if (lost) say(bar.state, "offline", { n: () => Math.max(1, numWaiting()) });
  else say(bar.state, hasWork() ? "sending" : "saved");
}

function buildPage() {
  const languages = h("select", { label: "language", on: { change: () => {
    speak(languages.value);
    if (state) tell();
  } } }, STUDY.languages.map((tag) => h("option", { value: tag, lang: tag, selected: tag === language }, WORDS[tag]._name)));
  bar.title = h("span", { class: "title", text: () => localized(STUDY.title) });
  bar.pause = button("pause", pause, { kind: "small" });
  say(bar.count, () => "");
  bar.progress.setAttribute("aria-hidden", "true"); // the count beside it says the same
  document.body.append(h("a", { class: "skip-link", href: "#content", text: "skip" }),
    h("header", { class: "bar" }, h("div", { class: "where" }, bar.title, bar.count, bar.progress), bar.state, bar.pause, STUDY.languages.length > 1 && languages),
    main, h("footer", { class: "foot", text: "notice" }));
}

function onKey(event) {
  const shown = trialShown;
  if (!shown || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const here = document.activeElement;
  if (here !== document.body && !main.contains(here)) return;
  const digit = /^(?:Digit|Numpad)([1-5])$/.exec(event.code)?.[1] ?? /^[1-5]$/.exec(event.key)?.[0];
  const onButton = here.closest("button, a, textarea, input[type=text]");
  const onRadio = here.matches("input[type=radio]");
  if (digit && !event.shiftKey) shown.form.mark(Number(digit));
  else if (event.key === " " && !onButton && (!onRadio || here.checked)) shown.player.toggle();
  else if (event.key === "Enter" && !onButton && !onRadio) shown.form.submitRating();
  else if (event.key.startsWith("Arrow") && !onRadio && shown.player.ended) shown.form.enter();
  else return;
  event.preventDefault();
}

let toldGone = false;
/** The server has lost the session: what was rated is still here. */
function tellGone() {
  toldGone = true;
  const told = dialog("error_gone", paragraph("error_gone"), actions(
    mainButton("download_copy", download), button("close", () => told.close(), { autofocus: true })));
}

function takenOver() {
  trialShown?.player.pause();
  state = null; // nothing is written here any more
  show({ text: "elsewhere_title" }, paragraph("elsewhere_lead", {}, "lead"), actions(mainButton("elsewhere_go", () => {
    state = readStore();
    save();
    render();
  })));
}

function start() {
  state = readStore();
  speak(STUDY.languages.includes(state?.language) ? state.language : preferredLanguage());
  buildPage();
  const sameWindow = state?.tab === TAB;
  whenConnectionChanges = () => {
    refreshBar();
    if (state?.step === "done") refreshDone();
    else if (connection === "gone" && !toldGone) tellGone();
  };
  whenTakenOver(takenOver);
  document.addEventListener("keydown", onKey);
  addEventListener("pagehide", () => trialShown?.keep());
  addEventListener("online", () => trialShown?.player.status === "failed" && trialShown.player.load());
  document.addEventListener("visibilitychange", () => {
    if (!trialShown) return;
    if (document.hidden) {
      trialShown.player.pause();
      trialShown.watch.stop();
      trialShown.keep();
    } else if (trialShown.player.ended) trialShown.watch.start();
  });
  if (state && state.step !== "done" && !sameWindow) {
    save();
    showResume();
    deliver();
  } else render();
}

start();

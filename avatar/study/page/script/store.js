// Store: what this device keeps of a session, so that a reload or a closed window loses nothing.

const STUDY = JSON.parse(document.getElementById("study").textContent);
const QUERY = new URLSearchParams(location.search);
const COLLECTED = STUDY.collected === true; // a server behind the page hands out slots and collects answers
const STORE_KEY = ["avatar-study", STUDY.id, STUDY.version, QUERY.get("participant") ?? QUERY.get("invite") ?? ""].join(":");
const TAB = tabName();
let state = null; // the session; null before the consent
let storeWorks = true;

function tabName() {
  try {
    return (sessionStorage["avatar-tab"] ??= randomName(12));
  } catch {
    return randomName(12);
  }
}

/** Letters and digits that are not mistaken for one another, drawn by the browser's cryptographic generator. */
function randomName(length) {
  const signs = "23456789abcdefghjkmnpqrstuvwxyz"; // 31: bytes from 248 on are left out, so that each is as likely
  let name = "";
  while (name.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      if (byte < 248 && name.length < length) name += signs[byte % 31];
    }
  }
  return name;
}

const now = () => new Date().toISOString();
const rounded = (seconds) => Math.round(seconds * 100) / 100;

function newState({ rater, slot, token = null, trials, practice }) {
  return {
    rater, slot, token, trials, practice, // practice: how many of the trials, the first ones, are practice
    language, step: "about", tab: TAB,
    consent: { given: true, adult: true, at: now() },
    attributes: {}, environment: environment(),
    started_at: now(), finished_at: null,
    answers: {}, unsent: [], changes: 1, changesSent: 0, // changes: of all but the answers
    skipped: [], draft: null, rested: 0, practised: practice === 0, savedAs: null,
  };
}

/** What may bear on the ratings, and nothing that tells who it is. */
function environment() {
  return {
    screen: [screen.width, screen.height],
    window: [innerWidth, innerHeight],
    pixel_ratio: devicePixelRatio,
    touch: matchMedia("(pointer: coarse)").matches,
  };
}

function readStore() {
  try {
    return JSON.parse(localStorage.getItem(STORE_KEY));
  } catch {
    return null; // storage is switched off, or somebody else's text is there
  }
}

function save() {
  if (!state) return;
  state.tab = TAB;
  state.language = language;
  try {
    localStorage.setItem(STORE_KEY, JSON.stringify(state));
    storeWorks = true;
  } catch {
    storeWorks = false; // private window, or full: the pause window says so
  }
}

function forget() {
  state = null;
  try {
    localStorage.removeItem(STORE_KEY);
  } catch {
    storeWorks = false;
  }
}

/** Calls back when another window of this browser takes the session over. */
function whenTakenOver(act) {
  addEventListener("storage", (event) => {
    if (event.key !== STORE_KEY || !state || !event.newValue) return;
    if (JSON.parse(event.newValue).tab !== TAB) act();
  });
}

/** The session as `avatar study analyze` reads it (avatar/study/results.py). */
function sessionJson() {
  const { rater, slot, consent, attributes, started_at, finished_at } = state;
  const answers = state.trials.map((trial) => state.answers[trial.id]).filter(Boolean);
  return {
    format: STUDY.format, study_id: STUDY.id, study_version: STUDY.version, rater, slot, language, consent, attributes,
    environment: { ...state.environment, skipped: state.skipped }, started_at, finished_at, answers,
  };
}

const isDone = (trial) => trial.id in state.answers || state.skipped.includes(trial.id);
const currentIndex = () => state.trials.findIndex((trial) => !isDone(trial)); // -1: none is left
const numRated = () => state.trials.slice(state.practice).filter(isDone).length;
const numTrials = () => state.trials.length - state.practice;

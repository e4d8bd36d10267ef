// Clip: shows one clip, which cannot be skipped through, and counts how it was played.

const KEEP_AHEAD = 2; // clips fetched before they are needed; only where there is a connection to lose
const READY_ANYWAY_MS = 4000;
const fetched = new Map(); // file -> promise of an address to play from

/** Where to play a file from: fetched whole, so that a clip never stalls; from file:// as it stands. */
function addressOf(file) {
  if (location.protocol === "file:") return Promise.resolve(file);
  if (!fetched.has(file)) {
    const address = fetch(new URL(file, document.baseURI), { credentials: "omit" })
      .then((reply) => (reply.ok ? reply.blob() : Promise.reject(new Error(`status ${reply.status}`))))
      .then((blob) => URL.createObjectURL(blob));
    address.catch(() => fetched.delete(file));
    fetched.set(file, address);
  }
  return fetched.get(file);
}

/** Fetches what comes next and lets go of what is over. */
function prepare(trials) {
  const wanted = new Set(trials.slice(0, KEEP_AHEAD + 1).flatMap((trial) => [trial.clip, trial.portrait]).filter(Boolean));
  for (const [file, address] of fetched) {
    if (!wanted.has(file)) {
      fetched.delete(file);
      address.then(URL.revokeObjectURL, () => {});
    }
  }
  for (const file of wanted) addressOf(file).catch(() => {}); // asked for again when it is needed
}

/**
 * A clip's picture and what is known of its playing.
 *
 * `draft` ({replays, played_s, ended}) is what was counted before a reload. Calls `changed()` whenever something is to be shown.
 */
function clipPlayer(trial, draft, changed) {
  const video = h("video", { playsinline: true, preload: "auto", disablepictureinpicture: true, disableremoteplayback: true, label: "clip" });
  const player = {
    video, status: "loading", // loading, ready, playing, paused, ended, failed
    replays: draft.replays, ended: draft.ended, failures: 0, load, toggle, pause, playedSeconds,
  };
  let before_s = draft.played_s; // of passes that are over
  let reached_s = 0; // within this pass
  let atEnd = draft.ended;
  let ours = false; // a jump under way is the page's own

  function to(status) {
    player.status = status;
    changed();
  }
  function playedSeconds() {
    return rounded(before_s + (atEnd ? 0 : reached_s));
  }
  async function load() {
    to("loading");
    try {
      video.src = await addressOf(trial.clip);
      video.load();
      setTimeout(ready, READY_ANYWAY_MS); // some phones load nothing before the first press
    } catch {
      failed();
    }
  }
  function ready() {
    if (player.status === "loading" && video.getAttribute("src")) to(player.ended ? "ended" : "ready");
  }
  function failed() {
    player.failures += 1;
    to("failed");
  }
  async function toggle() {
    if (!video.paused) return video.pause(); // also between the press and the first picture
    if (!["ready", "paused", "ended"].includes(player.status)) return;
    if (atEnd) {
      atEnd = false;
      reached_s = 0;
      if (player.ended) player.replays += 1;
      jump(0);
    }
    try {
      await video.play();
    } catch (err) {
      if (err.name !== "AbortError") failed(); // paused before it began
    }
  }
  function pause() {
    if (!video.paused) video.pause();
  }
  function jump(to_s) {
    ours = true;
    video.currentTime = to_s;
  }

  video.addEventListener("canplaythrough", ready);
  video.addEventListener("playing", () => to("playing"));
  video.addEventListener("pause", () => !video.ended && player.status === "playing" && to("paused"));
  video.addEventListener("timeupdate", () => {
    if (!atEnd && !video.seeking) reached_s = Math.max(reached_s, video.currentTime);
  });
  video.addEventListener("seeking", () => !ours && jump(reached_s)); // media keys and extensions can jump; a rater is to see it all
  video.addEventListener("seeked", () => (ours = false));
  video.addEventListener("ratechange", () => {
    if (video.playbackRate !== 1) video.playbackRate = 1;
  });
  video.addEventListener("error", () => video.getAttribute("src") && failed());
  video.addEventListener("ended", () => {
    before_s += video.duration;
    atEnd = true;
    player.ended = true;
    to("ended");
  });
  video.addEventListener("contextmenu", (event) => event.preventDefault());
  return player;
}

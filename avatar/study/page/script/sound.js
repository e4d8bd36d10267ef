// Sound: a test sound for the volume, and tones that tell headphones from loudspeakers. Nothing is fetched: tones are computed.

const ROUNDS = 6;
const ROUNDS_TO_PASS = 5;
const TEST_AMPLITUDE = 0.071; // of sines in both channels: -23 LUFS, as loud as the clips
let audio = null;

function openAudio() {
  const Context = window.AudioContext ?? window.webkitAudioContext;
  if (!Context) return null;
  audio ??= new Context();
  if (audio.state === "suspended") audio.resume();
  return audio;
}

/** A tone with soft ends; `channels` are the two amplitudes, of which a negative one is in opposite phase. */
function playTone(frequency_hz, start_s, length_s, channels, ramp_s = 0.1) {
  const sine = new OscillatorNode(audio, { frequency: frequency_hz });
  const merger = new ChannelMergerNode(audio, { numberOfInputs: 2 });
  channels.forEach((amplitude, channel) => {
    const gain = new GainNode(audio, { gain: 0 });
    gain.gain.setValueAtTime(0, start_s);
    gain.gain.linearRampToValueAtTime(amplitude, start_s + ramp_s);
    gain.gain.setValueAtTime(amplitude, start_s + length_s - ramp_s);
    gain.gain.linearRampToValueAtTime(0, start_s + length_s);
    sine.connect(gain).connect(merger, 0, channel);
  });
  merger.connect(audio.destination);
  sine.start(start_s);
  sine.stop(start_s + length_s);
}

/** Three quiet chords, as loud as the speech in the clips. */
function playTestSound() {
  if (!openAudio()) return;
  [262, 330, 392, 523].forEach((frequency_hz, i) => {
    playTone(frequency_hz, audio.currentTime + 0.1 + i * 0.45, 0.9, [TEST_AMPLITUDE, TEST_AMPLITUDE], 0.15);
  });
}

/**
 * One round of three 200 Hz tones: one is 6 dB quieter, and one of the others is in opposite phase in the two ears, so that over
 * loudspeakers, where it cancels, it seems the quietest. Calls `sounding(0..2 or null)` along.
 *
 * Source: Woods, Siegel, Traer, McDermott (2017), Headphone screening to facilitate web-based auditory experiments.
 */
function playThreeTones({ quiet, opposite }, sounding) {
  if (!openAudio()) return Promise.resolve(false);
  const amplitude = 0.25;
  const start_s = audio.currentTime + 0.15;
  for (let i = 0; i < 3; i++) {
    const level = i === quiet ? amplitude / 2 : amplitude;
    playTone(200, start_s + i * 1.5, 1.0, [level, i === opposite ? -level : level]);
    setTimeout(() => sounding(i), (0.15 + i * 1.5) * 1000);
    setTimeout(() => sounding(null), (1.15 + i * 1.5) * 1000);
  }
  return new Promise((resolve) => setTimeout(() => resolve(true), 4300));
}

function drawRound() {
  const quiet = Math.floor(Math.random() * 3);
  return { quiet, opposite: (quiet + 1 + Math.floor(Math.random() * 2)) % 3 };
}

// Formats numbers and times for people. All times are in UTC, as in the tables.

const whole = new Intl.NumberFormat("en-US");
const tenth = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const utc = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hourCycle: "h23", ...options });
const clock = utc({ hour: "2-digit", minute: "2-digit" });
const seconds = utc({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = utc({ day: "numeric", month: "short", year: "numeric" });
const moment = utc({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const MINUTE = 60_000;

export const count = (number) => whole.format(number);
export const decimal = (number) => tenth.format(number);
export const percent = (share) => `${tenth.format(share * 100)} %`;
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const time = (ms) => clock.format(ms);
export const timeWithSeconds = (ms) => seconds.format(ms);
export const date = (ms) => day.format(ms);
export const dateAndTime = (ms) => moment.format(ms);

// Control characters, direction marks, separators and zero-width characters: they could hide in an id or reverse it. They
// are escaped in the same way as in `hot top`.
const HIDDEN = new RegExp(
  "[\\p{Cc}\\u{ad}\\u{61c}\\u{180e}\\u{200b}-\\u{200f}\\u{2028}-\\u{202e}\\u{2060}-\\u{206f}" +
    "\\u{feff}\\u{fff9}-\\u{fffb}\\u{e0000}-\\u{e007f}]",
  "gu",
);
const SHORT = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** A product's id with all of its characters visible. */
export const visible = (id) => id.replace(HIDDEN, (hidden) => SHORT[hidden] ?? escape(hidden));
const escape = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** A duration in the largest unit that fits: `12 s`, `4 min`, `3 h`, `2 days`. */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  if (s < 36 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

/** The most topic partitions that are named as quiet or behind; `hot top` names as many. */
const NAMED = 5;

/** Whether a snapshot may still change, and which topic partitions have counted nothing for longer than `longest`. */
export function completeness(snapshot, longest) {
  const end = Date.parse(snapshot.window_end);
  const quiet = Object.entries(snapshot.counted_through ?? {})
    .map(([partition, minute]) => [partition, Date.parse(minute) + MINUTE])
    .filter(([, since]) => end - since > longest);
  const parts = [snapshot.final ? "Final: no more clicks can join." : "May still grow: late clicks can join."];
  for (const [partition, since] of quiet.slice(0, NAMED)) {
    parts.push(`${visible(partition)}: nothing counted since ${time(since)}, quiet or behind.`);
  }
  if (quiet.length > NAMED) parts.push(`The same for ${plural(quiet.length - NAMED, "more partition")}.`);
  return parts.join(" ");
}

/** A window as `15:50 – 16:50 UTC`. */
export const window = (snapshot) =>
  `${time(Date.parse(snapshot.window_start))} – ${time(Date.parse(snapshot.window_end))} UTC`;

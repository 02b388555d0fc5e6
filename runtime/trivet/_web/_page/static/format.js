// Numbers, ages and words, as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });

/** A count: 1,234 in full, and 1.23M from a million on. */
export const count = (value) => ((value ?? 0) < 1e6 ? whole : short).format(value ?? 0);

/** A rate per second. */
export const rate = (value) => {
  if (!value) return "0";
  return value < 0.01 ? "<0.01" : short.format(value);
};

/** A share of 1, in percent. */
export const share = (value) => {
  if (!value) return "0 %";
  const percent = value * 100;
  return percent < 0.1 ? "<0.1 %" : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
};

/** A short time: 0.4 ms, 12 ms, 1.3 s. */
export const seconds = (value) =>
  value < 0.9995 ? `${Number((value * 1000).toPrecision(2))} ms` : `${Number(value.toPrecision(2))} s`;

/** Seconds, in the two largest units at most. */
export function duration(seconds) {
  if (seconds < 1) return "<1 s";
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => seconds >= size);
  const [size, name] = units[first];
  const amount = Math.floor(seconds / size);
  const next = units[first + 1];
  if (!next || amount >= 10) return `${amount} ${name}`;
  const rest = Math.floor((seconds - amount * size) / next[0]);
  return rest ? `${amount} ${name} ${rest} ${next[1]}` : `${amount} ${name}`;
}

export const bytes = (value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${value >= 100 || index === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[index]}`;
};

/** A moment of the browser's day and zone, from seconds since 1970, or from a text. */
export const moment = (value) =>
  new Date(typeof value === "number" ? value * 1000 : value).toLocaleString("en-GB", {
    dateStyle: "medium",
    timeStyle: "medium",
  });

/** `backing_off` as words. */
export const words = (name) => name.replaceAll("_", " ");

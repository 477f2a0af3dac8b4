// Numbers and times for people.

const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

export const count = (value: number): string => COUNT.format(value);
export const short = (value: number): string => SHORT.format(value);
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** Four significant digits; very small numbers as powers of ten. */
export function precise(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(2);
  return Math.abs(value) >= 1e5 ? short(value) : String(Number(value.toPrecision(4)));
}

export const moment = (us: number): string => new Date(us / 1000).toLocaleString();

/** A length of time in its largest fitting unit. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// What the page knows of a run is a fold of its event stream: a pure function of what arrived.
import type { Metrics, RunDetail, TimelineEntry, Validation } from './types';

export interface RunView {
  detail: RunDetail | null;
  metrics: Metrics;
  validations: Validation[];
  timeline: TimelineEntry[];
}

export type Message =
  | { name: 'open' }
  | { name: 'run'; data: RunDetail }
  | { name: 'metrics'; data: Metrics }
  | { name: 'validations'; data: Validation[] }
  | { name: 'timeline'; data: TimelineEntry[] };

// Beyond this many points neighbours are joined: a screen shows no more.
const POINTS_MAX = 8000;
const ENTRIES_MAX = 1000;

const NO_METRICS: Metrics = {
  attempt: 0, span: 1, steps: [], loss: [], domain_losses: [], shares: [],
  gradient_norm: [], learning_rate: [], tokens_per_second: [],
};

export const NOTHING: RunView = { detail: null, metrics: NO_METRICS, validations: [], timeline: [] };

/** The view after one more message. */
export function fold(view: RunView, message: Message): RunView {
  switch (message.name) {
    case 'open': // A connection tells everything from its beginning.
      return { ...NOTHING, detail: view.detail };
    case 'run':
      return { ...view, detail: message.data };
    case 'metrics':
      return { ...view, metrics: thin(append(view.metrics, message.data)) };
    case 'validations':
      return { ...view, validations: message.data };
    case 'timeline':
      return { ...view, timeline: [...view.timeline, ...message.data].slice(-ENTRIES_MAX) };
  }
}

function append(old: Metrics, more: Metrics): Metrics {
  const last = old.steps.at(-1);
  if (last === undefined || old.attempt !== more.attempt) return more;
  const from = more.steps.findIndex((step) => step > last);
  if (from < 0) return old;
  const join = <T>(a: T[], b: T[]) => a.concat(from ? b.slice(from) : b);
  const joinAll = <T>(a: T[][], b: T[][]) => a.map((list, i) => join(list, b[i] ?? []));
  return {
    attempt: more.attempt,
    span: more.span,
    steps: join(old.steps, more.steps),
    loss: join(old.loss, more.loss),
    domain_losses: joinAll(old.domain_losses, more.domain_losses),
    shares: joinAll(old.shares, more.shares),
    gradient_norm: join(old.gradient_norm, more.gradient_norm),
    learning_rate: join(old.learning_rate, more.learning_rate),
    tokens_per_second: join(old.tokens_per_second, more.tokens_per_second),
  };
}

function thin(metrics: Metrics): Metrics {
  if (metrics.steps.length <= POINTS_MAX) return metrics;
  const pairs = <T extends number | null>(list: T[]): T[] =>
    Array.from({ length: Math.ceil(list.length / 2) }, (_, i) => mean(list[2 * i]!, list[2 * i + 1]));
  return {
    ...metrics,
    // The last step must stay the last, so that what comes next is not taken for known.
    steps: metrics.steps.filter((_, i) => i % 2 === 1 || i === metrics.steps.length - 1),
    loss: pairs(metrics.loss),
    domain_losses: metrics.domain_losses.map(pairs),
    shares: metrics.shares.map(pairs),
    gradient_norm: pairs(metrics.gradient_norm),
    learning_rate: pairs(metrics.learning_rate),
    tokens_per_second: pairs(metrics.tokens_per_second),
  };
}

function mean<T extends number | null>(a: T, b: T | undefined): T {
  if (a === null || a === undefined) return b ?? a;
  if (b === null || b === undefined) return a;
  return ((a + b) / 2) as T;
}

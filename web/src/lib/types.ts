// What the API says. The server's words are in core/serve/src/views.rs.

export type Maybe = number | null;

export interface RunSummary {
  id: string;
  name: string;
  status: string;
  worker: { standing: 'none' | 'working' | 'waiting' | 'dead'; holder: string | null; heard_at_us: number | null };
  ending: string | null;
  reason: string | null;
  step: number;
  steps: number;
  tokens: number;
  loss: Maybe;
  started_at_us: number;
  last_at_us: number;
}

export interface Binding {
  id: string;
  plugin: string;
  name: string;
  version: string;
  world: string;
  role: 'active' | 'shadow';
  state: string;
  config: unknown;
}

export interface RunDetail extends RunSummary {
  attempt: number;
  spec: { label: string; value: string }[];
  domains: string[];
  mixture: number[];
  mixture_version: number;
  bindings: Binding[];
}

export interface Metrics {
  attempt: number;
  span: number;
  steps: number[];
  loss: Maybe[];
  domain_losses: Maybe[][];
  shares: number[][];
  gradient_norm: Maybe[];
  learning_rate: number[];
  tokens_per_second: Maybe[];
}

export interface Validation {
  step: number;
  loss: Maybe;
  domain_losses: Maybe[];
}

export type TimelineKind = 'decision' | 'finding' | 'binding' | 'command' | 'checkpoint' | 'run';

export interface TimelineEntry {
  seq: number;
  step: number | null;
  kind: TimelineKind;
  severity: 'info' | 'warning' | 'critical' | null;
  title: string;
  detail: string;
}

export interface Plugin {
  digest: string;
  name: string;
  version: string;
  world: string;
  documentation: string;
  config_schema: unknown;
}

export interface Verdict {
  accepted: boolean;
  digest: string;
  name: string | null;
  version: string | null;
  checks: { name: string; passed: boolean; message: string }[];
  note: string | null;
}

export type Command =
  | { command: 'pause' | 'resume' | 'stop' }
  | { command: 'set-mixture'; shares: number[] }
  | { command: 'release'; binding: number }
  | { command: 'bind'; plugin: string; config: unknown; role: 'active' | 'shadow' };

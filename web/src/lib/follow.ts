// Follows a run over server-sent events and connects again after a loss.
import { lookFor } from './api';
import type { Message } from './fold';

export type Link = 'connecting' | 'live' | 'lost';
const NAMES = ['run', 'metrics', 'validations', 'timeline'] as const;
const RETRY_MS = 2000;

/** Tells `onMessage` everything and then what is new, `onLink` how it goes and why not. Returns how to stop. */
export function follow(
  run: string,
  onMessage: (message: Message) => void,
  onLink: (link: Link, why: string) => void,
): () => void {
  let source: EventSource;
  let over = false;
  let retry: ReturnType<typeof setTimeout> | undefined;

  function connect(): void {
    source = new EventSource(`/api/v1/runs/${encodeURIComponent(run)}/events`);
    source.onopen = () => {
      onLink('live', '');
      onMessage({ name: 'open' });
    };
    source.onerror = () => {
      onLink('lost', 'The connection is lost.');
      // The browser tries again by itself only after a broken connection, not after a refusal.
      if (source.readyState === EventSource.CLOSED) void explain();
    };
    for (const name of NAMES) {
      source.addEventListener(name, (event) =>
        onMessage({ name, data: JSON.parse((event as MessageEvent<string>).data) }),
      );
    }
  }

  // A stream that is refused does not say why; the same question as a request does.
  async function explain(): Promise<void> {
    const why = await lookFor(run).then(() => '', (error: Error) => error.message);
    if (over) return;
    onLink('lost', why);
    retry = setTimeout(connect, RETRY_MS);
  }

  onLink('connecting', '');
  connect();
  return () => {
    over = true;
    clearTimeout(retry);
    source.close();
  };
}

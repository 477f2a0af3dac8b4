// Follows a run over server-sent events and connects again after a loss.
import type { Message } from './fold';

export type Link = 'connecting' | 'live' | 'lost';
const NAMES = ['run', 'metrics', 'validations', 'timeline'] as const;
const RETRY_MS = 2000;

/** Tells `onMessage` everything and then what is new. Returns how to stop. */
export function follow(
  run: string,
  onMessage: (message: Message) => void,
  onLink: (link: Link) => void,
): () => void {
  let source: EventSource;
  let retry: ReturnType<typeof setTimeout> | undefined;

  function connect(): void {
    source = new EventSource(`/api/v1/runs/${encodeURIComponent(run)}/events`);
    source.onopen = () => {
      onLink('live');
      onMessage({ name: 'open' });
    };
    source.onerror = () => {
      onLink('lost');
      // The browser tries again by itself only after a broken connection, not after a refusal.
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY_MS);
    };
    for (const name of NAMES) {
      source.addEventListener(name, (event) =>
        onMessage({ name, data: JSON.parse((event as MessageEvent<string>).data) }),
      );
    }
  }

  onLink('connecting');
  connect();
  return () => {
    clearTimeout(retry);
    source.close();
  };
}

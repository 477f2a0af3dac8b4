// The start-up token: taken from the address once, kept for this tab only, and never left in the
// address, where it would end up in history and screenshots.

const KEY = 'heurimentor-token';

/** Moves a token from `#token=` or `?token=` into the tab's storage. */
export function keepToken(): void {
  const address = new URL(location.href);
  const fragment = new URLSearchParams(address.hash.replace(/^#/, ''));
  const found = fragment.get('token') ?? address.searchParams.get('token');
  if (!found) return;
  sessionStorage.setItem(KEY, found);
  address.searchParams.delete('token');
  if (fragment.has('token')) address.hash = '';
  history.replaceState(null, '', address);
}

/** The token, if this tab was opened with one. */
export function token(): string | null {
  return sessionStorage.getItem(KEY);
}

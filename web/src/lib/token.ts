// The start-up token: taken from the address, kept for this tab only, and never left in the address,
// where it would end up in history and screenshots.

const KEY = 'heurimentor-token';

/** Moves a token from `#token=` or `?token=` into the tab's storage; whether there was one. */
export function keepToken(): boolean {
  const address = new URL(location.href);
  const fragment = new URLSearchParams(address.hash.replace(/^#/, ''));
  const found = fragment.get('token') ?? address.searchParams.get('token');
  if (!found) return false;
  sessionStorage.setItem(KEY, found);
  address.searchParams.delete('token');
  if (fragment.has('token')) address.hash = '';
  history.replaceState(null, '', address);
  return true;
}

/** The token, if this tab was opened with one. */
export function token(): string | null {
  return sessionStorage.getItem(KEY);
}

/** Forgets a token that the server does not take. */
export function dropToken(): void {
  sessionStorage.removeItem(KEY);
}

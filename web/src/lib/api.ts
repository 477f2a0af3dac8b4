// Asks the server. Every failure becomes an Error whose message is a sentence for people.
import { token } from './token';
import type { Command, Plugin, RunSummary, Verdict } from './types';

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(`/api/v1${path}`, init);
  } catch {
    throw new Error('The server does not answer. Is hm serve still running?');
  }
}

async function failure(response: Response): Promise<Error> {
  const body = await response.json().catch(() => null);
  return new Error(body?.error ?? `The server answered ${response.status}.`);
}

async function read<T>(path: string): Promise<T> {
  const response = await ask(path);
  if (!response.ok) throw await failure(response);
  return response.json();
}

function write(path: string, type: string, body: BodyInit): Promise<Response> {
  const headers = { 'content-type': type, authorization: `Bearer ${token() ?? ''}` };
  return ask(path, { method: 'POST', headers, body });
}

export const runs = (): Promise<RunSummary[]> => read('/runs');
export const plugins = (): Promise<Plugin[]> => read('/plugins');

/** Whether the server takes this tab's token. */
export async function tokenHolds(): Promise<boolean> {
  const response = await write('/token', 'text/plain', '');
  if (!response.ok && response.status !== 401) throw await failure(response);
  return response.ok;
}

/** Looks for a run; throws the server's sentence where there is none. */
export async function lookFor(run: string): Promise<void> {
  await read(`/runs/${encodeURIComponent(run)}`);
}

/** Puts a wish in a run's inbox; returns its number there and who answers it, for a sentence. */
export async function command(run: string, wish: Command): Promise<string> {
  const path = `/runs/${encodeURIComponent(run)}/commands`;
  const response = await write(path, 'application/json', JSON.stringify(wish));
  if (!response.ok) throw await failure(response);
  const { command: number, note } = await response.json();
  return `(command ${number}): ${note}.`;
}

/** Uploads a component. A refusal by a check is a verdict, not an error. */
export async function upload(file: Blob): Promise<Verdict> {
  const response = await write('/plugins', 'application/wasm', file);
  if (!response.ok && response.status !== 422) throw await failure(response);
  return response.json();
}

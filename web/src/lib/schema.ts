// A first configuration from a plugin's JSON Schema: its defaults, for people to edit.

type Schema = { default?: unknown; properties?: Record<string, Schema> };

/** The schema's defaults as JSON text. The server checks what is sent. */
export function startingConfig(schema: unknown): string {
  return JSON.stringify(defaults(schema as Schema) ?? {}, null, 2);
}

function defaults(schema: Schema | null | undefined): unknown {
  if (schema?.default !== undefined) return schema.default;
  if (!schema?.properties) return undefined;
  const known = Object.entries(schema.properties)
    .map(([name, property]) => [name, defaults(property)] as const)
    .filter(([, value]) => value !== undefined);
  return Object.fromEntries(known);
}

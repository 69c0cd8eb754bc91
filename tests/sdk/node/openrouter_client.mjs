// The stock `@openrouter/sdk` client for this market, and what its lenient side would let through.
//
// The client validates every answer against its own schemas, but takes an event or item that it does not know, or
// that does not fit the type it names, as `isUnknown`; `known` refuses those. It repeats a 5xx for up to an hour,
// so it is told not to.
import { apiKey, baseUrl, client, withinMs } from "./market.mjs";

const { OpenRouter } = await client("@openrouter/sdk");
export const errors = await client("@openrouter/sdk/models/errors");

export const connect = (key = apiKey) =>
  new OpenRouter({ apiKey: key, serverURL: baseUrl, retryConfig: { strategy: "none" }, timeoutMs: withinMs });

/** The value itself; an error when anything in it is of no known type. */
export function known(value, path = "answer") {
  if (value === null || typeof value !== "object") return value;
  if (value.isUnknown) throw new Error(`${path} is of no type that the client knows: ${JSON.stringify(value.raw)}`);
  for (const [name, item] of Object.entries(value)) known(item, `${path}.${name}`);
  return value;
}

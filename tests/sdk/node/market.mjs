// What every script here shares: the market under test, its books as a buyer sees them, and the runner.
//
// A check passes unless it throws. The market is named by the environment; `BOURSE_TEST_MARKET` is a JSON object
// of what it sells. The clients come from the folder that `BOURSE_NODE_CLIENT` names.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { resolve } = createRequire(process.env.BOURSE_NODE_CLIENT);
export const baseUrl = process.env.OPENAI_BASE_URL;
export const apiKey = process.env.OPENAI_API_KEY;
/** Administers keys, and buys nothing. */
export const managementKey = process.env.BOURSE_TEST_MANAGEMENT_KEY;
export const sold = JSON.parse(process.env.BOURSE_TEST_MARKET);
export const { local, short, long, dying, parallel, thinking, shared, sellers } = sold;
export const dialects = Object.keys(short).sort();
export const longTokens = 300;
export const withinMs = 30_000;
export const hello = [{ role: "user", content: "Say hello to a sailor in one short sentence." }];
export const city = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const checks = [];

/** A module of the clients' folder. */
export const client = (name) => import(pathToFileURL(resolve(name)));

export const check = (name, run) => checks.push([name, run]);

/** One check per dialect of the seller; the function takes its name. */
export const eachDialect = (name, run) =>
  dialects.forEach((dialect) => check(`${name} (seller speaks ${dialect})`, () => run(dialect)));

// ---- the books as a buyer sees them ----------------------------------------------------------------------
/** JSON of a GET; undefined when the market knows no such thing. */
export async function get(path) {
  const headers = { Authorization: `Bearer ${apiKey}` };
  const answer = await fetch(baseUrl + path, { headers, signal: AbortSignal.timeout(withinMs) });
  if (answer.status === 404) return undefined;
  assert.equal(answer.status, 200, path);
  return (await answer.json()).data;
}

/** The record of a generation; it appears when the books have it. */
export async function settled(generation) {
  assert.ok(generation, "the answer carries no id");
  const deadline = Date.now() + withinMs;
  while (Date.now() < deadline) {
    const record = await get(`/generation?id=${generation}`);
    if (record) return record;
  }
  throw new Error(`${generation} was not settled within ${withinMs} ms`);
}

/** Tokens in and out and the cost, whatever the client calls them. */
export function counts(usage) {
  const prompt = usage.prompt_tokens ?? usage.promptTokens ?? usage.input_tokens ?? usage.inputTokens;
  const completion = usage.completion_tokens ?? usage.completionTokens ?? usage.output_tokens ?? usage.outputTokens;
  assert.ok(prompt > 0 && completion > 0 && usage.cost > 0, JSON.stringify(usage));
  return [prompt, completion, usage.cost];
}

/** The record of an answer agrees with the usage that came with it. */
export async function assertRecorded(generation, usage, expected = {}) {
  const record = await settled(generation);
  assert.deepEqual([record.tokens_prompt, record.tokens_completion, record.total_cost], counts(usage));
  for (const [field, value] of Object.entries(expected)) assert.equal(record[field], value, field);
  return record;
}

/** A cancelled answer is charged for what was delivered. */
export async function assertCutShort(generation) {
  const record = await settled(generation);
  assert.equal(record.cancelled, true, JSON.stringify(record));
  assert.ok(record.tokens_completion >= 5 && record.tokens_completion < longTokens / 2, JSON.stringify(record));
}

/** The message names each of these and says what to do: it is a sentence, not a code. */
export function assertTold(error, ...words) {
  const text = error.message ?? String(error);
  for (const word of words) assert.ok(text.includes(word), `"${text}" does not tell "${word}"`);
  assert.ok(text.split(/\s+/).length >= 5, `"${text}" does not tell what to do`);
}

/** The error of this class that the call throws. */
export async function raised(kind, call) {
  try {
    await call();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`no ${kind.name} was thrown`);
}

// ---- the runner ------------------------------------------------------------------------------------------
/** Runs every check in the order written; gives the number that failed. */
export async function run() {
  let failed = 0;
  for (const [name, body] of checks) {
    try {
      await body();
      console.log(`ok   ${name}`);
    } catch (error) {
      failed += 1;
      const frame = /(with_\w+|market|\w+_client)\.mjs:\d+/.exec(error.stack ?? "")?.[0] ?? "in the client";
      const reason = [error.message ?? error, error.cause?.message ?? ""].join(" ").replace(/\s+/g, " ").slice(0, 600);
      console.log(`FAIL ${name}\n     ${frame}: ${error.constructor?.name}: ${reason}`);
    }
  }
  console.log(`${checks.length - failed} passed, ${failed} failed`);
  return failed;
}

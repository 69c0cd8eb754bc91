// The stock `openai` client against a running market: what a Node buyer relies on.
//
// Run by `cargo xtask test`, which starts the market and names it in the environment. A check passes unless it
// throws. The last line is `N passed, N failed`.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const OpenAI = createRequire(process.env.BOURSE_NODE_CLIENT)("openai");
const local = process.env.BOURSE_TEST_LOCAL_MODEL;
const simulated = process.env.BOURSE_TEST_SIMULATED_MODEL;
const long = 300;
const withinMs = 30_000;
const hello = [{ role: "user", content: "Say hello to a sailor in one short sentence." }];
const weather = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "Weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const client = new OpenAI();

/** JSON of a GET that the SDK does not cover; undefined when the market knows no such thing. */
async function get(path) {
  const headers = { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` };
  const answer = await fetch(process.env.OPENAI_BASE_URL + path, { headers });
  if (answer.status === 404) return undefined;
  assert.equal(answer.status, 200, path);
  return (await answer.json()).data;
}

/** The record of a generation; it appears when the books have it. */
async function settled(generation) {
  const deadline = Date.now() + withinMs;
  while (Date.now() < deadline) {
    const record = await get(`/generation?id=${generation}`);
    if (record) return record;
  }
  throw new Error(`${generation} was not settled within ${withinMs} ms`);
}

function assertUsage(usage) {
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0, JSON.stringify(usage));
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.ok(usage.cost > 0, JSON.stringify(usage));
}

const checks = {
  "models are listed": async () => {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    assert.ok(listed.includes(local) && listed.includes(simulated), listed.join(", "));
  },

  "a plain answer of the real model": async () => {
    const answer = await client.chat.completions.create({ model: local, messages: hello, max_tokens: 24 });
    assert.ok(answer.choices[0].message.content.trim());
    assertUsage(answer.usage);
  },

  "a streamed answer of the real model": async () => {
    const stream = await client.chat.completions.create({
      model: local,
      messages: hello,
      max_tokens: 24,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage;
    let finish;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.ok(text.trim());
    assert.ok(["stop", "length"].includes(finish), finish);
    assertUsage(usage);
  },

  "tools reach the seller and calls come back": async () => {
    const answer = await client.chat.completions.create({ model: simulated, messages: hello, tools: weather });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    assert.equal(call.function.name, "weather");
    assert.ok("city" in JSON.parse(call.function.arguments));
  },

  "tools stream": async () => {
    const stream = client.chat.completions.stream({ model: simulated, messages: hello, tools: weather });
    const answer = await stream.finalChatCompletion();
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "weather");
    assert.ok("city" in JSON.parse(call.function.arguments));
  },

  "a wrong key is told": async () => {
    const stranger = new OpenAI({ apiKey: "sk-bourse-nobody" });
    const asked = stranger.chat.completions.create({ model: local, messages: hello });
    await assert.rejects(asked, (error) => error instanceof OpenAI.AuthenticationError && error.status === 401);
  },

  "an unknown model is told": async () => {
    const asked = client.chat.completions.create({ model: "no/such-model", messages: hello });
    await assert.rejects(asked, (error) => error instanceof OpenAI.NotFoundError && error.status === 404);
  },

  "bad requests name the field": async () => {
    for (const [field, wrong] of Object.entries({ messages: [], temperature: -1, max_tokens: -5 })) {
      const asked = client.chat.completions.create({ model: simulated, messages: hello, [field]: wrong });
      await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.message.includes(field));
    }
  },

  "a receipt is named in the headers": async () => {
    const asked = client.chat.completions.create({ model: simulated, messages: hello, max_tokens: 8 });
    const { data, response } = await asked.withResponse();
    assert.ok(response.headers.get("x-bourse-receipt"));
    assertUsage(data.usage);
  },

  "an aborted stream is charged for what was delivered": async () => {
    const asked = client.chat.completions.create({
      model: simulated,
      messages: hello,
      max_tokens: long,
      stream: true,
    });
    const { data: stream, response } = await asked.withResponse();
    let seen = 0;
    for await (const chunk of stream) {
      seen += chunk.choices[0]?.delta?.content ? 1 : 0;
      if (seen === 5) stream.controller.abort();
    }
    const record = await settled(response.headers.get("x-generation-id"));
    assert.equal(record.cancelled, true);
    assert.ok(record.tokens_completion >= 5 && record.tokens_completion < long / 2, JSON.stringify(record));
  },
};

let failed = 0;
for (const [name, run] of Object.entries(checks)) {
  try {
    await run();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack ?? error}`);
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;

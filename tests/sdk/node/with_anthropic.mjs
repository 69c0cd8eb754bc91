// The stock `@anthropic-ai/sdk` client on `/messages`, whichever dialect the seller speaks.
import assert from "node:assert/strict";

import * as market from "./market.mjs";

const { check, eachDialect, local, short, long, dying, parallel, thinking } = market;
const { default: Anthropic } = await market.client("@anthropic-ai/sdk");
const { zodOutputFormat } = await market.client("@anthropic-ai/sdk/helpers/zod");
const { z } = await market.client("zod");

const { messages } = new Anthropic({ timeout: market.withinMs, maxRetries: 0 });
const asked = { max_tokens: 64, messages: market.hello };
const tool = (name) => ({ name, description: `The ${name} of a city`, input_schema: market.city });
const both = {
  tools: [tool("weather"), tool("clock")],
  tool_choice: { type: "auto", disable_parallel_tool_use: false },
};
const Person = z.object({ name: z.string(), age: z.number().int() });

/** Prompt tokens with those of the cache, which this shape counts apart; then the answer's, then the cost. */
const counts = (usage) => [
  usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0),
  usage.output_tokens,
  usage.cost,
];

async function plain(body) {
  const { data, response } = await messages.create({ ...asked, ...body }).withResponse();
  return { answer: data, generation: response.headers.get("x-generation-id") };
}

async function assertInBooks(generation, usage) {
  const record = await market.settled(generation);
  assert.deepEqual([record.tokens_prompt, record.tokens_completion, record.total_cost], counts(usage));
}

/** A stream read to its end, with the grammar that every stream must have. */
async function streamed(body) {
  const { data, response } = await messages.create({ ...asked, ...body, stream: true }).withResponse();
  const events = [];
  for await (const event of data) events.push(event);
  assert.equal(events[0].type, "message_start");
  assert.deepEqual(events.slice(-2).map((event) => event.type), ["message_delta", "message_stop"]);
  const starts = events.filter((event) => event.type === "content_block_start").map((event) => event.index);
  assert.deepEqual(starts, [...starts.keys()]);
  const indices = events.slice(1, -2).map((event) => event.index);
  assert.deepEqual(indices, [...indices].sort((a, b) => a - b), "blocks are mixed");
  const text = events.map((event) => event.delta?.text ?? "").join("");
  return { text, last: events.at(-2), generation: response.headers.get("x-generation-id") };
}

check("a message of the real model, plain and streamed", async () => {
  const { answer, generation } = await plain({ model: local, max_tokens: 24 });
  assert.ok(answer.content[0].text.trim());
  await assertInBooks(generation, answer.usage);
  assert.ok((await streamed({ model: local, max_tokens: 24 })).text.trim());
});

eachDialect("a streamed message equals the plain one", async (dialect) => {
  const { answer, generation } = await plain({ model: short[dialect] });
  const stream = await streamed({ model: short[dialect] });
  assert.deepEqual([stream.text, stream.last.delta.stop_reason], [answer.content[0].text, "end_turn"]);
  assert.deepEqual([stream.last.usage.output_tokens, stream.last.usage.cost], [answer.usage.output_tokens, answer.usage.cost]);
  await assertInBooks(generation, answer.usage);
  const record = await market.settled(stream.generation);
  assert.deepEqual([record.streamed, record.total_cost], [true, stream.last.usage.cost]);
});

eachDialect("the stream helper gives the message", async (dialect) => {
  const stream = messages.stream({ ...asked, model: short[dialect] });
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const answer = await stream.finalMessage();
  assert.ok(text && text === answer.content[0].text, text);
  assert.ok(answer.usage.output_tokens > 0 && answer.stop_reason === "end_turn", JSON.stringify(answer));
});

eachDialect("tokens are counted", async (dialect) => {
  const counted = await messages.countTokens({ model: short[dialect], messages: market.hello });
  assert.ok(counted.input_tokens > 0, JSON.stringify(counted));
});

function called(answer) {
  const calls = answer.content.filter((block) => block.type === "tool_use");
  assert.deepEqual(calls.map((call) => call.name).sort(), ["clock", "weather"]);
  assert.equal(new Set(calls.map((call) => call.id)).size, 2, "two calls have one id");
  for (const call of calls) assert.equal(typeof call.input.city, "string");
  return calls;
}

eachDialect("tools are used and told", async (dialect) => {
  const { answer } = await plain({ model: parallel[dialect], ...both });
  assert.equal(answer.stop_reason, "tool_use");
  const told = called(answer).map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "sunny" }));
  const turns = [...market.hello, { role: "assistant", content: answer.content }, { role: "user", content: told }];
  const after = await plain({ model: parallel[dialect], messages: turns, ...both });
  assert.ok(after.answer.content[0].text.trim());
  await assertInBooks(after.generation, after.answer.usage);
});

eachDialect("tool input streams", async (dialect) => {
  called(await messages.stream({ ...asked, model: parallel[dialect], ...both }).finalMessage());
});

eachDialect("thinking is a block, plain and streamed", async (dialect) => {
  const body = { model: thinking[dialect], max_tokens: 2048, thinking: { type: "enabled", budget_tokens: 1024 } };
  const { answer } = await plain(body);
  // Gemini signs the end of its answer: on a stream the thoughts are closed by then, and the signature stands alone.
  const signedApart = dialect === "gemini";
  const bare = ({ signature, ...block }) => block;
  const shown = ({ content }) => signedApart ? content.filter((block) => block.type !== "redacted_thinking").map(bare) : content;
  assert.deepEqual(shown(answer).map((block) => block.type), ["thinking", "text"]);
  assert.equal(typeof answer.content[0].signature, "string");
  const streamed = await messages.stream({ ...asked, ...body }).finalMessage();
  assert.deepEqual(shown(streamed), shown(answer));
});

eachDialect("a structure is parsed from a message", async (dialect) => {
  const output_config = { format: zodOutputFormat(Person) };
  Person.parse((await messages.parse({ ...asked, model: short[dialect], output_config })).parsed_output);
});

check("errors of messages are typed", async () => {
  const told = async (kind, type, ask, ...words) => {
    const error = await market.raised(kind, ask);
    assert.deepEqual([error.error.type, error.type], ["error", type]);
    market.assertTold(error.error.error, ...words);
  };
  const stranger = new Anthropic({ apiKey: "sk-bourse-nobody" }).messages;
  await told(Anthropic.AuthenticationError, "authentication_error", () => stranger.create({ ...asked, model: local }), "key");
  const unknown = () => messages.create({ ...asked, model: "no/such-model" });
  await told(Anthropic.NotFoundError, "not_found_error", unknown, "no/such-model");
  for (const [field, wrong] of Object.entries({ messages: [], temperature: -1, max_tokens: -5 })) {
    const bad = () => messages.create({ ...asked, model: short.chat, [field]: wrong });
    await told(Anthropic.BadRequestError, "invalid_request_error", bad, field);
  }
});

eachDialect("a message that breaks off is told and free", async (dialect) => {
  const { data, response } = await messages.create({ ...asked, model: dying[dialect], stream: true }).withResponse();
  const read = async () => {
    for await (const event of data) void event;
  };
  const error = await market.raised(Anthropic.APIError, read);
  market.assertTold(error.error.error);
  const record = await market.settled(response.headers.get("x-generation-id"));
  assert.deepEqual([record.total_cost, record.cancelled], [0, false]);
});

eachDialect("an aborted message is charged for what was delivered", async (dialect) => {
  const body = { ...asked, model: long[dialect], max_tokens: market.longTokens, stream: true };
  const { data: stream, response } = await messages.create(body).withResponse();
  let seen = 0;
  for await (const event of stream) {
    seen += event.type === "content_block_delta" ? 1 : 0;
    if (seen === 5) stream.controller.abort();
  }
  await market.assertCutShort(response.headers.get("x-generation-id"));
});

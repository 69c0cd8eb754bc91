// The stock `openai` client on `/chat/completions`, whichever dialect the seller speaks.
import assert from "node:assert/strict";

import * as market from "./market.mjs";

const { check, eachDialect, hello, local, short, long, dying, parallel, counts } = market;
const { default: OpenAI } = await market.client("openai");
const { zodResponseFormat } = await market.client("openai/helpers/zod");
const { z } = await market.client("zod");

const chat = new OpenAI({ timeout: market.withinMs, maxRetries: 0 }).chat.completions;
const tool = (name) => ({ type: "function", function: { name, description: `The ${name} of a city`, parameters: market.city } });
const both = { tools: [tool("weather"), tool("clock")], parallel_tool_calls: true };
const Person = z.object({ name: z.string(), age: z.number().int() });

async function plain(body) {
  const { data, response } = await chat.create(body).withResponse();
  return { answer: data, generation: response.headers.get("x-generation-id") };
}

/** A stream read to its end, with the grammar that every stream must have. */
async function streamed(body) {
  const { data, response } = await chat.create({ ...body, stream: true }).withResponse();
  const chunks = [];
  for await (const chunk of data) chunks.push(chunk);
  const withUsage = chunks.flatMap((chunk, at) => (chunk.usage ? [at] : []));
  assert.deepEqual(withUsage, [chunks.length - 1], "usage stands in the last chunk and nowhere else");
  const finishes = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.finish_reason).filter(Boolean));
  assert.equal(finishes.length, 1, finishes.join());
  const text = chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
  return { text, finish: finishes[0], usage: chunks.at(-1).usage, generation: response.headers.get("x-generation-id") };
}

check("the real model chats, plain and streamed", async () => {
  const { answer, generation } = await plain({ model: local, messages: hello, max_tokens: 24 });
  assert.ok(answer.choices[0].message.content.trim());
  await market.assertRecorded(generation, answer.usage);
  const stream = await streamed({ model: local, messages: hello, max_tokens: 24 });
  assert.ok(stream.text.trim() && ["stop", "length"].includes(stream.finish), stream.finish);
  await market.assertRecorded(stream.generation, stream.usage);
});

eachDialect("a streamed chat equals the plain one", async (dialect) => {
  const { answer, generation } = await plain({ model: short[dialect], messages: hello });
  const stream = await streamed({ model: short[dialect], messages: hello });
  assert.deepEqual([stream.text, stream.finish], [answer.choices[0].message.content, "stop"]);
  assert.deepEqual(counts(stream.usage), counts(answer.usage));
  await market.assertRecorded(generation, answer.usage, { streamed: false });
  await market.assertRecorded(stream.generation, stream.usage, { streamed: true });
});

eachDialect("the stream helper gives the chat", async (dialect) => {
  const stream = chat.stream({ model: short[dialect], messages: hello });
  let text = "";
  stream.on("content", (piece) => (text += piece));
  const answer = await stream.finalChatCompletion();
  assert.ok(text && text === answer.choices[0].message.content, text);
});

function assertCalled(message) {
  const calls = message.tool_calls;
  assert.deepEqual(calls.map((call) => call.function.name).sort(), ["clock", "weather"]);
  assert.equal(new Set(calls.map((call) => call.id)).size, 2, "two calls have one id");
  for (const call of calls) assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
  return calls;
}

eachDialect("tools are called and told", async (dialect) => {
  const { answer } = await plain({ model: parallel[dialect], messages: hello, ...both });
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
  const { message } = answer.choices[0];
  const told = assertCalled(message).map((call) => ({ role: "tool", tool_call_id: call.id, content: "sunny" }));
  const after = await plain({ model: parallel[dialect], messages: [...hello, message, ...told], ...both });
  assert.ok(after.answer.choices[0].message.content);
  await market.assertRecorded(after.generation, after.answer.usage);
});

eachDialect("tool calls stream", async (dialect) => {
  const answer = await chat.stream({ model: parallel[dialect], messages: hello, ...both }).finalChatCompletion();
  assertCalled(answer.choices[0].message);
});

eachDialect("a runner calls the tools by itself", async (dialect) => {
  let asked = 0;
  const weather = tool("weather");
  weather.function.function = () => {
    asked += 1;
    return "sunny";
  };
  weather.function.parse = JSON.parse;
  const runner = chat.runTools({ model: short[dialect], messages: hello, tools: [weather] });
  assert.ok(await runner.finalContent());
  assert.equal(asked, 1);
});

eachDialect("a structure is parsed", async (dialect) => {
  const format = zodResponseFormat(Person, "person");
  const answer = await chat.parse({ model: short[dialect], messages: hello, response_format: format });
  Person.parse(answer.choices[0].message.parsed);
});

check("a wrong key is told", async () => {
  const stranger = new OpenAI({ apiKey: "sk-bourse-nobody" });
  const ask = () => stranger.chat.completions.create({ model: local, messages: hello });
  const error = await market.raised(OpenAI.AuthenticationError, ask);
  assert.equal(error.status, 401);
  market.assertTold(error, "key");
});

check("an unknown model is told", async () => {
  const ask = () => chat.create({ model: "no/such-model", messages: hello });
  market.assertTold(await market.raised(OpenAI.NotFoundError, ask), "no/such-model");
});

eachDialect("bad requests name the field", async (dialect) => {
  for (const [field, wrong] of Object.entries({ messages: [], temperature: -1, max_tokens: -5 })) {
    const ask = () => chat.create({ model: short[dialect], messages: hello, [field]: wrong });
    const error = await market.raised(OpenAI.BadRequestError, ask);
    market.assertTold(error, field);
    assert.ok(error.param?.includes(field), error.param);
  }
});

eachDialect("an answer that breaks off is told and free", async (dialect) => {
  const body = { model: dying[dialect], messages: hello, stream: true };
  const { data, response } = await chat.create(body).withResponse();
  const read = async () => {
    for await (const chunk of data) void chunk;
  };
  market.assertTold(await market.raised(OpenAI.APIError, read));
  const record = await market.settled(response.headers.get("x-generation-id"));
  assert.deepEqual([record.total_cost, record.cancelled], [0, false]);
});

check("a receipt is named in the headers", async () => {
  const { data, response } = await chat.create({ model: short.chat, messages: hello }).withResponse();
  assert.ok(response.headers.get("x-bourse-receipt"));
  counts(data.usage);
});

eachDialect("an aborted stream is charged for what was delivered", async (dialect) => {
  const body = { model: long[dialect], messages: hello, max_tokens: market.longTokens, stream: true };
  const { data: stream, response } = await chat.create(body).withResponse();
  let seen = 0;
  for await (const chunk of stream) {
    seen += chunk.choices[0]?.delta?.content ? 1 : 0;
    if (seen === 5) stream.controller.abort();
  }
  await market.assertCutShort(response.headers.get("x-generation-id"));
});

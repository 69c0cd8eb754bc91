// The stock `openai` client on `/responses`, whichever dialect the seller speaks.
import assert from "node:assert/strict";

import * as market from "./market.mjs";

const { check, eachDialect, local, short, long, dying, counts } = market;
const { default: OpenAI } = await market.client("openai");
const { zodTextFormat } = await market.client("openai/helpers/zod");
const { z } = await market.client("zod");

const { responses } = new OpenAI({ timeout: market.withinMs, maxRetries: 0 });
const input = market.hello[0].content;
const weather = { type: "function", name: "weather", description: "Weather of a city", parameters: market.city, strict: true };
const Person = z.object({ name: z.string(), age: z.number().int() });

async function plain(body) {
  const { data, response } = await responses.create({ input, ...body }).withResponse();
  return { answer: data, generation: response.headers.get("x-generation-id") };
}

/** A stream read to its end, with the grammar that every stream must have. */
async function streamed(body) {
  const { data, response } = await responses.create({ input, ...body, stream: true }).withResponse();
  const events = [];
  for await (const event of data) events.push(event);
  assert.deepEqual(events.slice(0, 2).map((event) => event.type), ["response.created", "response.in_progress"]);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()], "sequence numbers have gaps");
  const last = events.at(-1);
  assert.ok(["response.completed", "response.incomplete", "response.failed"].includes(last.type), last.type);
  const of = (type) => events.filter((event) => event.type === type);
  const added = of("response.output_item.added").map((event) => event.output_index);
  const done = of("response.output_item.done").map((event) => event.output_index);
  assert.deepEqual(added, [...added.keys()]);
  assert.deepEqual([...done].sort(), added);
  const text = of("response.output_text.delta").map((event) => event.delta).join("");
  return { events, text, answer: last.response, generation: response.headers.get("x-generation-id") };
}

check("the real model responds, plain and streamed", async () => {
  const { answer, generation } = await plain({ model: local, max_output_tokens: 24 });
  assert.ok(answer.output_text.trim());
  await market.assertRecorded(generation, answer.usage);
  const stream = await streamed({ model: local, max_output_tokens: 24 });
  assert.ok(stream.text.trim());
  await market.assertRecorded(stream.generation, stream.answer.usage);
});

eachDialect("a streamed response equals the plain one", async (dialect) => {
  const { answer, generation } = await plain({ model: short[dialect] });
  const stream = await streamed({ model: short[dialect] });
  assert.deepEqual([answer.status, stream.answer.status], ["completed", "completed"]);
  assert.ok(answer.output_text && stream.text === answer.output_text, stream.text);
  assert.deepEqual(counts(stream.answer.usage), counts(answer.usage));
  await market.assertRecorded(generation, answer.usage, { streamed: false });
  await market.assertRecorded(stream.generation, stream.answer.usage, { streamed: true });
});

eachDialect("the stream helper gives the response", async (dialect) => {
  const answer = await responses.stream({ model: short[dialect], input }).finalResponse();
  assert.ok(answer.status === "completed" && answer.output_text, JSON.stringify(answer));
});

eachDialect("tools are called and told in responses", async (dialect) => {
  const { answer } = await plain({ model: short[dialect], tools: [weather] });
  const call = answer.output.find((item) => item.type === "function_call");
  assert.equal(typeof JSON.parse(call.arguments).city, "string");
  const told = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
  const turns = [{ role: "user", content: input }, ...answer.output, told];
  const after = await plain({ model: short[dialect], input: turns, tools: [weather] });
  assert.ok(after.answer.output_text.trim());
  await market.assertRecorded(after.generation, after.answer.usage);
});

eachDialect("tool arguments stream in responses", async (dialect) => {
  const { events, answer } = await streamed({ model: short[dialect], tools: [weather] });
  const pieces = events.filter((event) => event.type === "response.function_call_arguments.delta");
  const call = answer.output.find((item) => item.type === "function_call");
  assert.equal(pieces.map((event) => event.delta).join(""), call.arguments);
});

eachDialect("a structure is parsed from a response", async (dialect) => {
  const text = { format: zodTextFormat(Person, "person") };
  Person.parse((await responses.parse({ model: short[dialect], input, text })).output_parsed);
});

check("errors of responses are typed", async () => {
  const stranger = new OpenAI({ apiKey: "sk-bourse-nobody" }).responses;
  const wrongKey = await market.raised(OpenAI.AuthenticationError, () => stranger.create({ model: local, input }));
  market.assertTold(wrongKey, "key");
  const unknown = await market.raised(OpenAI.NotFoundError, () => responses.create({ model: "no/such-model", input }));
  market.assertTold(unknown, "no/such-model");
  const bad = await market.raised(OpenAI.BadRequestError, () => responses.create({ model: short.chat, input, temperature: -1 }));
  market.assertTold(bad, "temperature");
});

eachDialect("a response that breaks off is told and free", async (dialect) => {
  const { data, response } = await responses.create({ model: dying[dialect], input, stream: true }).withResponse();
  const read = async () => {
    let last;
    for await (const event of data) last = event;
    // The client throws what comes as `error` and hands out what comes as `response.failed`.
    assert.equal(last.type, "response.failed");
    throw new OpenAI.APIError(undefined, last.response.error, undefined, undefined);
  };
  market.assertTold(await market.raised(OpenAI.APIError, read));
  const record = await market.settled(response.headers.get("x-generation-id"));
  assert.deepEqual([record.total_cost, record.cancelled], [0, false]);
});

eachDialect("an aborted response is charged for what was delivered", async (dialect) => {
  const body = { model: long[dialect], input, max_output_tokens: market.longTokens, stream: true };
  const { data: stream, response } = await responses.create(body).withResponse();
  let seen = 0;
  for await (const event of stream) {
    seen += event.type === "response.output_text.delta" ? 1 : 0;
    if (seen === 5) stream.controller.abort();
  }
  await market.assertCutShort(response.headers.get("x-generation-id"));
});

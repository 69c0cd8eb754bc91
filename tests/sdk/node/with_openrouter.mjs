// The stock `@openrouter/sdk` client, strict by itself: chat, responses, embeddings, rerank, images and audio.
import assert from "node:assert/strict";

import * as market from "./market.mjs";
import { connect, errors, known } from "./openrouter_client.mjs";

const { apiKey, check, eachDialect, hello, local, short, dying, sold, counts } = market;
const client = connect();
const weather = { type: "function", function: { name: "weather", description: "Weather of a city", parameters: market.city } };

const ask = async (chatRequest) => known(await client.chat.send({ chatRequest }));

async function streamed(chatRequest) {
  const chunks = [];
  for await (const chunk of await client.chat.send({ chatRequest: { ...chatRequest, stream: true } })) {
    chunks.push(known(chunk, `chunk ${chunks.length}`));
  }
  return { chunks, text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("") };
}

/** The typed error, its envelope checked. */
async function told(kind, status, call, ...words) {
  const error = await market.raised(kind, call);
  assert.deepEqual([error.statusCode, error.error.code], [status, status]);
  market.assertTold(error, ...words);
}

check("the real model chats with types", async () => {
  const answer = await ask({ model: local, messages: hello, maxTokens: 24 });
  assert.ok(answer.choices[0].message.content.trim());
  await market.assertRecorded(answer.id, answer.usage);
  assert.ok((await streamed({ model: local, messages: hello, maxTokens: 24 })).text.trim());
});

eachDialect("chat is typed and its stream equal", async (dialect) => {
  const plain = await ask({ model: short[dialect], messages: hello });
  const { chunks, text } = await streamed({ model: short[dialect], messages: hello });
  assert.equal(text, plain.choices[0].message.content);
  const finishes = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.finishReason).filter(Boolean));
  assert.deepEqual(finishes, ["stop"]);
  assert.deepEqual(counts(chunks.at(-1).usage), counts(plain.usage));
  await market.assertRecorded(plain.id, plain.usage);
});

eachDialect("tools are called and told with types", async (dialect) => {
  const { choices } = await ask({ model: short[dialect], messages: hello, tools: [weather] });
  const [call] = choices[0].message.toolCalls;
  assert.ok("city" in JSON.parse(call.function.arguments));
  const turns = [...hello, choices[0].message, { role: "tool", toolCallId: call.id, content: "sunny" }];
  assert.ok((await ask({ model: short[dialect], messages: turns, tools: [weather] })).choices[0].message.content);
});

eachDialect("tool calls stream with types", async (dialect) => {
  const { chunks } = await streamed({ model: short[dialect], messages: hello, tools: [weather] });
  const pieces = chunks.flatMap((chunk) => chunk.choices.flatMap((choice) => choice.delta.toolCalls ?? []));
  assert.equal(pieces[0].function.name, "weather");
  assert.ok("city" in JSON.parse(pieces.map((piece) => piece.function?.arguments ?? "").join("")));
});

eachDialect("reasoning is told with types", async (dialect) => {
  const body = { model: market.thinking[dialect], messages: hello, reasoning: { effort: "low" } };
  const { message } = (await ask(body)).choices[0];
  assert.ok(message.reasoning && message.content, JSON.stringify(message));
  const { chunks } = await streamed(body);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.reasoning ?? "").join(""), message.reasoning);
});

check("a seller can be chosen and the choice is told", async () => {
  for (const seller of Object.values(market.sellers)) {
    const chatRequest = { model: market.shared, messages: hello, provider: { only: [seller] } };
    const answer = known(await client.chat.send({ chatRequest, xOpenRouterMetadata: "enabled" }));
    assert.equal((await market.settled(answer.id)).provider_name, seller);
    assert.equal(answer.openrouterMetadata.requested, market.shared);
  }
});

check("a refusal tells the choice and what would help", async () => {
  const ask = (only) => client.chat.send({
    chatRequest: { model: market.shared, messages: hello, provider: { only } },
    xOpenRouterMetadata: "enabled",
  });
  const refused = await market.raised(errors.NotFoundResponseError, () => ask(["nobody"]));
  assert.deepEqual([refused.openrouterMetadata.requested, refused.openrouterMetadata.attempt], [market.shared, 0]);
  const { availability } = JSON.parse(refused.body).error;
  const [change] = availability.smallest_relaxation.changes;
  assert.deepEqual([availability.code, change.action, change.field], ["constraint_filtered", "add", "provider.only"]);
  assert.ok(known(await ask(["nobody", change.value])).choices[0].message.content);
});

eachDialect("a chat that breaks off ends in an error chunk", async (dialect) => {
  const { chunks, text } = await streamed({ model: dying[dialect], messages: hello });
  const last = chunks.find((chunk) => chunk.error);
  assert.ok(text && last, "no chunk carries an error");
  assert.equal(last.choices[0].finishReason, "error");
  market.assertTold(last.error);
});

check("errors are typed", async () => {
  const chat = (key, chatRequest) => () => connect(key).chat.send({ chatRequest: { model: local, messages: hello, ...chatRequest } });
  await told(errors.UnauthorizedResponseError, 401, chat("sk-bourse-nobody", {}), "key");
  await told(errors.NotFoundResponseError, 404, chat(apiKey, { model: "no/such-model" }), "no/such-model");
  await told(errors.BadRequestResponseError, 400, chat(apiKey, { temperature: -1 }), "temperature");
});

eachDialect("responses are typed and their stream equal", async (dialect) => {
  const responsesRequest = { model: short[dialect], input: hello[0].content };
  const plain = known(await client.beta.responses.send({ responsesRequest }));
  const events = [];
  for await (const event of await client.beta.responses.send({ responsesRequest: { ...responsesRequest, stream: true } })) {
    events.push(known(event, `event ${events.length}`));
  }
  const last = events.at(-1).response;
  assert.deepEqual([plain.status, last.status], ["completed", "completed"]);
  assert.equal(last.output[0].content[0].text, plain.output[0].content[0].text);
  assert.deepEqual(counts(last.usage), counts(plain.usage));
  await market.assertRecorded(plain.id, plain.usage);
});

eachDialect("responses with tools are typed", async (dialect) => {
  const tools = [{ type: "function", strict: true, ...weather.function }];
  const responsesRequest = { model: short[dialect], input: hello[0].content, tools };
  const plain = known(await client.beta.responses.send({ responsesRequest }));
  assert.deepEqual(plain.output.map((item) => item.type), ["function_call"]);
  let at = 0;
  for await (const event of await client.beta.responses.send({ responsesRequest: { ...responsesRequest, stream: true } })) {
    known(event, `event ${at++}`);
  }
});

check("embeddings are typed", async () => {
  const requestBody = { model: sold.embeddings, input: ["a sailor", "a market"] };
  const answer = known(await client.embeddings.generate({ requestBody }));
  assert.ok(answer.data.length === 2 && answer.data[0].embedding.length > 1 && answer.usage.cost > 0, JSON.stringify(answer.usage));
});

check("rerank orders the documents", async () => {
  const documents = ["a market of ships", "rain in the hills", "a sailor in the harbour"];
  const requestBody = { model: sold.rerank, query: "a sailor", documents, topN: 2 };
  const { results, usage } = known(await client.rerank.rerank({ requestBody }));
  assert.ok(results.length === 2 && results[0].relevanceScore >= results[1].relevanceScore && usage.cost > 0);
  for (const result of results) assert.equal(result.document.text, documents[result.index]);
});

check("images are typed", async () => {
  const answer = known(await client.images.generate({ imageGenerationRequest: { model: sold.images, prompt: "a ship" } }));
  assert.ok(Buffer.from(answer.data[0].b64Json, "base64").length > 0 && answer.usage.cost > 0, JSON.stringify(answer.usage));
});

check("images are streamed in events", async () => {
  const imageGenerationRequest = { model: sold.images, prompt: "a ship", stream: true, n: 2 };
  const events = [];
  for await (const event of await client.images.generate({ imageGenerationRequest })) events.push(known(event));
  assert.deepEqual(events.map((event) => event.type), ["image_generation.completed", "image_generation.completed"]);
  for (const event of events) assert.ok(Buffer.from(event.b64Json, "base64").length > 0);
  assert.deepEqual(events.map((event) => event.usage.cost > 0), [false, true], JSON.stringify(events));
});

check("speech is sound", async () => {
  const speechRequest = { model: sold.speech, input: "Ahoy there, sailor!", voice: "alloy" };
  const sound = await client.tts.createSpeech({ speechRequest });
  assert.ok((await new Response(sound).arrayBuffer()).byteLength > 0);
});

check("a recording inside JSON is written down", async () => {
  const inputAudio = { data: Buffer.alloc(800, 0x80).toString("base64"), format: "wav" };
  const answer = known(await client.stt.createTranscription({ sttRequest: { model: sold.transcriptions, inputAudio } }));
  assert.ok(answer.text.trim() && answer.usage.cost > 0, JSON.stringify(answer));
});

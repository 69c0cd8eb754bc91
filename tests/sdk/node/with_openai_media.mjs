// The stock `openai` client on everything that is not a conversation.
import assert from "node:assert/strict";

import * as market from "./market.mjs";

const { check, local, short, sold } = market;
const { default: OpenAI, toFile } = await market.client("openai");
const client = new OpenAI({ timeout: market.withinMs, maxRetries: 0 });

/** What the books say that this answer cost. */
async function charged(response, apiType) {
  const record = await market.settled(response.headers.get("x-generation-id"));
  assert.ok(record.total_cost > 0, JSON.stringify(record));
  assert.equal(record.api_type, apiType);
  return record.total_cost;
}

check("models are listed", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  for (const slug of [local, market.shared, sold.embeddings, ...Object.values(short)]) assert.ok(listed.includes(slug), slug);
});

check("one model is found by its slug", async () => {
  assert.equal((await client.models.retrieve(local)).id, local);
});

check("a text is completed, plain and streamed", async () => {
  const body = { model: local, prompt: "One, two, three,", max_tokens: 12, temperature: 0, seed: 1 };
  const plain = await client.completions.create(body);
  let text = "";
  for await (const chunk of await client.completions.create({ ...body, stream: true })) text += chunk.choices[0]?.text ?? "";
  assert.ok(text && text === plain.choices[0].text, text);
});

check("embeddings come as numbers either way", async () => {
  const body = { model: sold.embeddings, input: ["a sailor", "a market"] };
  const { data: packed, response } = await client.embeddings.create(body).withResponse();
  const plain = await client.embeddings.create({ ...body, encoding_format: "float" });
  for (const at of [0, 1]) {
    const [one, other] = [packed.data[at].embedding, plain.data[at].embedding];
    assert.ok(one.length > 1 && one.length === other.length, `${one.length} and ${other.length} numbers`);
    assert.ok(one.every((value, index) => Math.abs(value - other[index]) < 1e-6), "base64 and floats differ");
  }
  assert.equal(await charged(response, "embeddings"), packed.usage.cost);
});

check("an image is made and charged", async () => {
  const body = { model: sold.images, prompt: "a ship", response_format: "b64_json" };
  const { data, response } = await client.images.generate(body).withResponse();
  assert.ok(Buffer.from(data.data[0].b64_json, "base64").length > 0);
  await charged(response, "image");
});

check("speech is spoken and charged", async () => {
  const body = { model: sold.speech, input: "Ahoy there, sailor!", voice: "alloy", response_format: "wav" };
  const answer = await client.audio.speech.create(body);
  assert.ok((await answer.arrayBuffer()).byteLength > 0);
  assert.match(answer.headers.get("content-type"), /^audio\//);
  await charged(answer, "tts");
});

check("a recording is written down and charged", async () => {
  const file = await toFile(Buffer.alloc(800, 0x80), "ahoy.wav", { type: "audio/wav" });
  const { data, response } = await client.audio.transcriptions.create({ model: sold.transcriptions, file }).withResponse();
  assert.ok(data.text.trim());
  await charged(response, "stt");
});

check("an image is streamed with its previews", async () => {
  const body = { model: sold.images, prompt: "a ship", stream: true, partial_images: 2 };
  const { data, response } = await client.images.generate(body).withResponse();
  const events = [];
  for await (const event of data) events.push(event);
  assert.deepEqual(events.map((event) => event.type.split(".")[1]), ["partial_image", "partial_image", "completed"]);
  for (const event of events) assert.ok(Buffer.from(event.b64_json, "base64").length > 0);
  assert.equal(await charged(response, "image"), events.at(-1).usage.cost);
});

check("the usages of several streamed images add up", async () => {
  const body = { model: sold.images, prompt: "a ship", stream: true, n: 2 };
  const { data, response } = await client.images.generate(body).withResponse();
  const usages = [];
  for await (const event of data) usages.push(event.usage);
  assert.equal(usages.length, 2);
  assert.equal(await charged(response, "image"), usages[0].cost + usages[1].cost);
});

check("a transcript is streamed", async () => {
  const file = await toFile(Buffer.alloc(800, 0x80), "ahoy.wav", { type: "audio/wav" });
  const body = { model: sold.transcriptions, file, stream: true };
  const { data, response } = await client.audio.transcriptions.create(body).withResponse();
  const events = [];
  for await (const event of data) events.push(event);
  const done = events.pop();
  assert.equal(done.type, "transcript.text.done");
  assert.equal(events.map((event) => event.delta).join(""), done.text);
  assert.equal(await charged(response, "stt"), done.usage.cost);
});

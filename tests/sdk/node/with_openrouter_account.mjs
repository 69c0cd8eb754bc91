// The stock `@openrouter/sdk` client on the catalogue, the books and the keys.
import assert from "node:assert/strict";

import * as market from "./market.mjs";
import { connect, errors, known } from "./openrouter_client.mjs";

const { apiKey, check, hello, local, short, shared, sold } = market;
const client = connect();
const keeper = connect(market.managementKey);

function slug(model) {
  const [author, ...rest] = model.split("/");
  return { author, slug: rest.join("/") };
}

async function listed(filters) {
  const models = [];
  for await (const page of await client.models.list(filters)) models.push(...known(page.result).data.map((model) => model.id));
  return models;
}

check("every model is listed, in pages too", async () => {
  const everything = await listed();
  for (const model of [local, shared, ...Object.values(short)]) assert.ok(everything.includes(model), model);
  assert.deepEqual(await listed({ limit: 2 }), everything);
  assert.equal(known(await client.models.count()).data.count, everything.length);
});

check("models are filtered", async () => {
  assert.ok((await listed({ supportedParameters: "tools" })).includes(short.chat));
  assert.deepEqual(await listed({ outputModalities: "embeddings" }), [sold.embeddings]);
  assert.deepEqual(await listed({ q: "smollm2" }), [local]);
});

check("an alias is listed with what it stands for", async () => {
  const [found] = known((await client.models.list({ q: "latest" })).result).data;
  assert.deepEqual([found.id, found.canonicalSlug, found.aliasTarget.slug], [market.sold.alias, shared, shared]);
  assert.deepEqual(known(await client.models.get(slug(market.sold.alias))).data, found);
});

check("own models, one model, its sellers", async () => {
  const own = known((await client.models.listForUser({ bearer: apiKey })).result);
  assert.ok(own.data.length > 0);
  assert.equal(known(await client.models.get(slug(local))).data.id, local);
  const { endpoints } = known(await client.endpoints.list(slug(shared))).data;
  const sellers = endpoints.map((endpoint) => endpoint.providerName).sort();
  assert.deepEqual(sellers, Object.values(market.sellers).sort());
  await market.raised(errors.NotFoundResponseError, () => client.endpoints.list({ author: "no", slug: "such-model" }));
});

check("sellers are listed, those that keep nothing too", async () => {
  const slugs = known(await client.providers.list()).data.map((provider) => provider.slug);
  for (const seller of Object.values(market.sellers)) assert.ok(slugs.includes(seller), seller);
  const kept = known(await client.endpoints.listZdrEndpoints()).data.map((endpoint) => endpoint.modelId);
  assert.ok(kept.includes(local), kept.join());
});

check("a generation, the credits and the key agree", async () => {
  const before = known(await client.credits.getCredits()).data;
  const answer = await client.chat.send({ chatRequest: { model: short.chat, messages: hello } });
  await market.settled(answer.id);
  const record = known(await client.generations.getGeneration({ id: answer.id })).data;
  assert.deepEqual([record.totalCost, record.usage, record.model], [answer.usage.cost, answer.usage.cost, short.chat]);
  const after = known(await client.credits.getCredits()).data;
  assert.ok(Math.abs(after.totalUsage - before.totalUsage - answer.usage.cost) < 1e-9);
  assert.ok(known(await client.apiKeys.getCurrentKeyMetadata()).data.usage > 0);
  await market.raised(errors.NotFoundResponseError, () => client.generations.getGeneration({ id: "gen-nobody" }));
});

check("activity is told by day", async () => {
  assert.ok(Array.isArray(known(await client.analytics.getUserActivity()).data));
});

check("a key lives from its making to its end", async () => {
  const ask = (key) => connect(key).chat.send({ chatRequest: { model: short.chat, messages: hello } });
  const { key, data } = known(await keeper.apiKeys.create({ requestBody: { name: "lives", limit: 1, limitReset: "monthly" } }));
  assert.deepEqual([data.name, data.limit, data.limitReset, data.disabled], ["lives", 1, "monthly", false]);
  const { usage } = await ask(key);
  const { hash } = data;
  assert.equal(known(await keeper.apiKeys.get({ hash })).data.usage, usage.cost);
  const update = (requestBody) => keeper.apiKeys.update({ hash, requestBody });
  assert.equal(known(await update({ name: "renamed", disabled: true })).data.name, "renamed");
  await market.raised(errors.UnauthorizedResponseError, () => ask(key));
  await update({ disabled: false });
  await ask(key);
  assert.ok(known(await keeper.apiKeys.list()).data.some((item) => item.hash === hash));
  assert.equal(known(await keeper.apiKeys.delete({ hash })).deleted, true);
  await market.raised(errors.UnauthorizedResponseError, () => ask(key));
  await market.raised(errors.NotFoundResponseError, () => keeper.apiKeys.get({ hash }));
});

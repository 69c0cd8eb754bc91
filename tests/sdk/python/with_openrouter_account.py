"""The stock `openrouter` client on the catalogue, the books and the keys."""
import datetime

from openrouter import errors

from market import *
from openrouter_client import connect, known

client = connect()
keeper = connect(MANAGEMENT_KEY)


def slug(model):
    author, name = model.split("/", 1)
    return {"author": author, "slug": name}


def pages(page):
    models = []
    while page:
        models += known(page.result).data
        page = page.next()
    return models


# ---- the catalogue -----------------------------------------------------------------------------------------
@check
def every_model_is_listed_with_its_price():
    models = {model.id: model for model in pages(client.models.list())}
    assert {LOCAL, SHARED, *SHORT.values(), *LONG.values()} <= set(models), sorted(models)
    sold = models[SHORT["chat"]]
    assert (Decimal(sold.pricing.prompt), Decimal(sold.pricing.completion)) == (PRICE_PROMPT, PRICE_COMPLETION), sold
    assert "text" in sold.architecture.input_modalities and sold.architecture.output_modalities == ["text"], sold
    assert models[SOLD["embeddings"]].architecture.output_modalities == ["embeddings"]
    assert models[SOLD["rerank"]].architecture.output_modalities == ["rerank"]


@check
def models_come_in_pages():
    everything = [model.id for model in pages(client.models.list())]
    first = client.models.list(limit=2)
    assert len(first.result.data) == 2 and first.result.total_count == len(everything), first.result
    assert [model.id for model in pages(first)] == everything
    assert client.models.count().data.count == len(everything)


@check
def models_are_filtered():
    def found(**filters):
        return {model.id for model in pages(client.models.list(**filters))}

    everything = found()
    assert SHORT["chat"] in found(supported_parameters="tools")
    assert found(output_modalities="embeddings") == {SOLD["embeddings"]}
    assert found(q="smollm2") == {LOCAL}
    assert found(q="no such model") == set()
    assert found(providers=SELLERS["chat"]) < everything and SHORT["chat"] in found(providers=SELLERS["chat"])
    cheap = [model for model in pages(client.models.list(sort="pricing-low-to-high"))]
    prices = [Decimal(model.pricing.prompt) for model in cheap]
    # Who sells no tokens, only images or searches, is not cheap but last.
    tokens = [price for price in prices if price > 0]
    assert prices[: len(tokens)] == sorted(tokens) and len(cheap) == len(everything), prices


@check
def a_bad_filter_is_told():
    error = raised(errors.BadRequestResponseError, lambda: client.models.list(limit=-1))
    assert_told(error, "limit")


@check
def own_models_are_those_that_the_key_may_use():
    own = {model.id for model in pages(client.models.list_for_user(security={"bearer": API_KEY}))}
    assert own and own <= {model.id for model in pages(client.models.list())}, own


@check
def an_alias_is_listed_with_what_it_stands_for():
    [listed] = [model for model in pages(client.models.list(q="latest"))]
    assert (listed.id, listed.canonical_slug, listed.alias_target.slug) == (ALIAS, SHARED, SHARED), listed
    assert known(client.models.get(**slug(ALIAS))).data == listed
    assert known(client.endpoints.list(**slug(ALIAS))).data.id == SHARED


@check
def one_model_is_found():
    assert known(client.models.get(**slug(LOCAL))).data.id == LOCAL
    raised(errors.NotFoundResponseError, lambda: client.models.get(author="no", slug="such-model"))


@check
def who_sells_a_model_is_told():
    found = known(client.endpoints.list(**slug(SHARED))).data
    assert found.id == SHARED and {endpoint.provider_name for endpoint in found.endpoints} == set(SELLERS.values()), found
    assert all(endpoint.model_id == SHARED and endpoint.tag for endpoint in found.endpoints), found
    raised(errors.NotFoundResponseError, lambda: client.endpoints.list(author="no", slug="such-model"))


@check
def sellers_that_keep_nothing_are_listed():
    models = {endpoint.model_id for endpoint in known(client.endpoints.list_zdr_endpoints()).data}
    assert LOCAL in models, f"the own node keeps nothing, yet only {models} are listed"


@check
def sellers_are_listed():
    providers = {provider.slug for provider in known(client.providers.list()).data}
    assert set(SELLERS.values()) <= providers, providers


# ---- the books ---------------------------------------------------------------------------------------------
@check
def a_generation_is_recorded():
    answer = client.chat.send(model=SHORT["chat"], messages=HELLO, session_id="a-session", user="a-user")
    settled(answer.id)
    record = known(client.generations.get_generation(id=answer.id)).data
    assert record.model == SHORT["chat"] and record.provider_name == SELLERS["chat"], record
    assert (record.tokens_prompt, record.tokens_completion) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert exact(record.total_cost) == exact(record.usage) == exact(answer.usage.cost), record
    assert (record.session_id, record.external_user, record.api_type) == ("a-session", "a-user", "completions"), record
    assert [attempt.status for attempt in record.provider_responses] == [200], record
    raised(errors.NotFoundResponseError, lambda: client.generations.get_generation(id="gen-nobody"))


@check
def credits_fall_by_what_was_used():
    before = known(client.credits.get_credits()).data
    cost = exact(client.chat.send(model=SHORT["chat"], messages=HELLO).usage.cost)
    after = client.credits.get_credits().data
    assert exact(after.total_usage) - exact(before.total_usage) == cost, (before, after, cost)
    assert exact(after.total_credits) == exact(before.total_credits), (before, after)


@check
def the_key_tells_of_itself():
    before = known(client.api_keys.get_current_key_metadata()).data
    cost = exact(client.chat.send(model=SHORT["chat"], messages=HELLO).usage.cost)
    after = client.api_keys.get_current_key_metadata().data
    assert exact(after.usage) - exact(before.usage) == cost, (before.usage, after.usage, cost)
    assert after.is_management_key is False and API_KEY not in after.label, after


@check
def activity_is_told_by_day():
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    days = known(client.analytics.get_user_activity()).data
    # Completed days only, and this market was opened today.
    assert all(item.date[:10] < today for item in days), days
    error = raised(errors.BadRequestResponseError, lambda: client.analytics.get_user_activity(request={"date_": "yesterday"}))
    assert_told(error, "date")


# ---- keys --------------------------------------------------------------------------------------------------
def made(**fields):
    created = known(keeper.api_keys.create(**{"name": "sdk check", **fields}))
    assert created.key.startswith("sk-bourse-") and created.key not in created.data.model_dump_json(), created.data
    return created.key, created.data


def asks(key, **other):
    return connect(key).chat.send(**{"model": SHORT["chat"], "messages": HELLO, **other})


@check
def a_key_lives_from_its_making_to_its_end():
    key, data = made(name="lives")
    asks(key)
    renamed = known(keeper.api_keys.update(hash=data.hash, name="renamed")).data
    assert (renamed.name, renamed.hash) == ("renamed", data.hash), renamed
    assert known(keeper.api_keys.get(hash=data.hash)).data.name == "renamed"
    assert data.hash in {item.hash for item in known(keeper.api_keys.list()).data}
    assert known(keeper.api_keys.delete(hash=data.hash)).model_dump(by_alias=True) == {"deleted": True}
    error = raised(errors.UnauthorizedResponseError, lambda: asks(key))
    assert_told(error, "key")
    raised(errors.NotFoundResponseError, lambda: keeper.api_keys.get(hash=data.hash))
    assert data.hash not in {item.hash for item in keeper.api_keys.list().data}


@check
def a_key_counts_what_it_used():
    key, data = made()
    cost = exact(asks(key).usage.cost)
    found = known(keeper.api_keys.get(hash=data.hash)).data
    used = [exact(value) for value in (found.usage, found.usage_daily, found.usage_weekly, found.usage_monthly)]
    assert used == [cost] * 4 and found.last_used_at, found
    assert exact(connect(key).api_keys.get_current_key_metadata().data.usage) == cost
    keeper.api_keys.delete(hash=data.hash)


@check
def a_key_cannot_pass_its_limit():
    key, data = made(limit=0.000001, limit_reset="daily")
    assert (exact(data.limit), exact(data.limit_remaining), data.limit_reset) == (exact(1e-6), exact(1e-6), "daily"), data
    error = raised(errors.PaymentRequiredResponseError, lambda: asks(key, model=LONG["chat"], max_tokens=200))
    assert_told(error, "limit")
    assert exact(keeper.api_keys.get(hash=data.hash).data.usage) == 0
    assert keeper.api_keys.update(hash=data.hash, limit=None).data.limit is None
    asks(key)
    keeper.api_keys.delete(hash=data.hash)


@check
def a_disabled_key_is_refused_until_it_is_enabled():
    key, data = made()
    assert keeper.api_keys.update(hash=data.hash, disabled=True).data.disabled is True
    raised(errors.UnauthorizedResponseError, lambda: asks(key))
    assert data.hash not in {item.hash for item in keeper.api_keys.list().data}
    assert data.hash in {item.hash for item in keeper.api_keys.list(include_disabled=True).data}
    assert keeper.api_keys.update(hash=data.hash, disabled=False).data.disabled is False
    asks(key)
    keeper.api_keys.delete(hash=data.hash)


@check
def an_expired_key_is_refused():
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    key, data = made(expires_at=soon)
    assert abs(data.expires_at - soon) < datetime.timedelta(seconds=1), data
    asks(key)
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            asks(key, max_tokens=1)
        except errors.UnauthorizedResponseError:
            break
    else:
        raise AssertionError("the key still works after its end")
    keeper.api_keys.delete(hash=data.hash)


@check
def a_plain_key_manages_no_keys():
    key, data = made()
    plain = connect(key)
    for call in (lambda: plain.api_keys.list(), lambda: plain.api_keys.create(name="another")):
        error = raised((errors.UnauthorizedResponseError, errors.ForbiddenResponseError, errors.OpenRouterDefaultError), call)
        assert error.status_code in (401, 403), error
    keeper.api_keys.delete(hash=data.hash)


@check
def bad_keys_are_told():
    for field, wrong in {"limit": -1, "name": "x" * 10_000}.items():
        error = raised(errors.BadRequestResponseError, lambda: keeper.api_keys.create(**{"name": "bad", field: wrong}))
        assert_told(error, field)
    raised(errors.NotFoundResponseError, lambda: keeper.api_keys.update(hash="0" * 64, name="nobody"))
    raised(errors.NotFoundResponseError, lambda: keeper.api_keys.delete(hash="0" * 64))

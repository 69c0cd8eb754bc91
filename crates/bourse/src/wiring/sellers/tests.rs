//! Every field of an offer, what is assumed without it, and what cannot be.

use super::super::gateway;
use super::*;
use crate::config::{Config, Layers};
use bourse_market::Free;
use bourse_types::Giver;

fn parsed(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bourse.toml");
    std::fs::write(&file, text).unwrap();
    let environment = Environment::default();
    Layers { file: Some(file), environment: &environment, flags: Vec::new() }.load().unwrap().config
}

const MAPLE: &str = "[[provider]]\nname = \"maple\"\nkind = \"openai\"\nbase_url = \"http://m/v1\"\n";
const MODEL: &str = "[[provider.model]]\nid = \"a/b\"\n";
const PRICES: &str = "price_prompt = \"0.1\"\nprice_completion = \"0.2\"\n";

fn wired(provider: &str, model: &str) -> Result<ProviderModel, WiringError> {
    let text = format!("{MAPLE}{provider}{MODEL}{model}");
    let config = gateway(&parsed(&text), &Environment::default())?;
    Ok(config.providers[0].models[0].clone())
}

fn refusal(provider: &str, model: &str) -> String {
    let error = wired(provider, model).unwrap_err();
    crate::report::render(&error).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn every_field_of_an_offer_is_taken() {
    let model = wired(
        "region = \"eu\"\nretains_prompts = false\nsupports = [\"+top_k\"]\n",
        "upstream_id = \"b-2\"\nvariant = \"turbo\"\ntier = \"priority\"\nprice_prompt = \"0.1\"\n\
         price_completion = \"0.2\"\nprice_unit = \"0.04\"\nunit = \"search\"\ncontext_tokens = 9\n\
         completion_tokens = 5\ncapacity = 3\noperations = [\"chat\", \"embeddings\"]\nsupports = [\"-seed\", \"-n\"]\n\
         quantization = \"fp8\"\nregion = \"us-east5\"\ntrains_on_prompts = false\nis_distillable = true\n",
    )
    .unwrap();
    assert_eq!(model.seller.as_ref().map(SellerName::as_str), Some("maple/turbo"));
    assert_eq!(
        (&*model.upstream_id, model.tier, model.tier_word),
        ("b-2", ServiceTier::Priority, Some("priority"))
    );
    let prices = model.prices.unwrap();
    assert_eq!((prices.unit.to_usd_per_unit_string().as_str(), model.unit), ("0.04", Some(Unit::Search)));
    assert_eq!(
        (model.context_tokens_max, model.completion_tokens_max, model.capacity),
        (9, Some(5), Some(3))
    );
    assert_eq!(model.operations, Operations::CHAT.with(Operations::EMBEDDINGS));
    assert_eq!(
        Supports::ALL.without(model.supports).to_string(),
        "n, seed, min_p, repetition_penalty, hidden_reasoning, top_a, reasoning_replay"
    );
    assert_eq!((model.quantization, model.region.as_deref()), (Quantization::Fp8, Some("us-east5")));
    assert_eq!((model.data, model.is_distillable), (DataPolicy::NO_COLLECTION, true));
}

#[test]
fn what_is_not_said_is_what_the_kind_does_and_promises_nothing() {
    let model = wired("", PRICES).unwrap();
    let kind = adapter_of_kind("openai").unwrap().kind();
    assert_eq!((model.supports, model.operations), (kind.supports, kind.operations));
    assert_eq!((model.seller, model.tier, model.tier_word), (None, ServiceTier::Default, None));
    assert_eq!((model.data, model.free, model.unit), (DataPolicy::NONE, Free::No, None));
    assert_eq!(
        wired("retains_prompts = true\ntrains_on_prompts = true\n", PRICES).unwrap().data,
        DataPolicy::NONE
    );
    assert_eq!(wired("zdr = true\n", PRICES).unwrap().data, DataPolicy::ALL);
    let flex = wired("", &format!("tier = \"flex\"\n{PRICES}")).unwrap();
    assert_eq!(flex.seller.unwrap().as_str(), "maple/flex", "a base name never means another tier");
}

#[test]
fn prices_of_caches_and_requests_are_optional() {
    let prices = |more: &str| wired("", &format!("{PRICES}{more}")).unwrap().prices.unwrap();
    let plain = prices("");
    assert_eq!((plain.cached_prompt, plain.cache_write), (plain.prompt, plain.prompt));
    assert_eq!(plain.request, NanoUsd::ZERO);
    let full = prices("price_cached = \"0.01\"\nprice_cache_write = \"0.125\"\nprice_request = \"0.5\"\n");
    assert_eq!(full.cached_prompt.to_usd_per_token_string(), "0.01");
    assert_eq!(full.cache_write.to_usd_per_token_string(), "0.125");
    assert_eq!((full.prompt, full.request), (plain.prompt, NanoUsd(500_000_000)));
}

#[test]
fn no_price_is_no_price_and_free_is_said() {
    assert_eq!(wired("", "").unwrap().prices, None, "visible, and nobody is sent there");
    let free = wired("", "free = true\n").unwrap();
    assert_eq!((free.prices, free.free), (Some(PriceSchedule::per_token(ZERO, ZERO)), Free::Unvalued));
    let place = "error: provider `maple`: model `a/b`";
    assert_eq!(refusal("", &format!("free = true\n{PRICES}")), format!("{place} is free and has a price"));
    let check = |model: &str, want: &str| assert_eq!(refusal("", model), format!("{place}{want}"));
    check("price_prompt = \"0.1\"\n", ".price_completion is missing, as other prices are known");
    check("price_completion = \"0.1\"\n", ".price_prompt is missing, as other prices are known");
    check("price_request = \"0.1\"\n", ".price_prompt is missing, as other prices are known");
    check("unit = \"image\"\n", ".price_unit is missing, as it names a unit");
    check(&format!("{PRICES}price_unit = \"1\"\n"), ".unit is missing, as it has a price_unit");
}

#[test]
fn what_generates_nothing_needs_no_price_for_it() {
    let check = |operation: &str, prices: &str, unit: Option<Unit>| {
        let model = wired("", &format!("operations = [\"{operation}\"]\n{prices}")).unwrap();
        assert_eq!((model.prices.unwrap().completion, model.unit), (ZERO, unit), "{operation}");
    };
    check("embeddings", "price_prompt = \"0.1\"\n", None);
    check("images", "price_unit = \"0.04\"\n", Some(Unit::Image));
    check("speech", "price_unit = \"0.000015\"\n", Some(Unit::Character));
    check("transcription", "price_unit = \"0.0001\"\n", Some(Unit::Second));
    check("rerank", "price_unit = \"0.002\"\n", Some(Unit::Search));
    check("rerank", "price_request = \"0.002\"\n", None);
}

#[test]
fn what_cannot_be_is_named() {
    let check = |provider: &str, model: &str, want: &str| {
        assert_eq!(
            refusal(provider, &format!("{model}{PRICES}")),
            format!("error: provider `maple`: model `a/b`{want}")
        );
    };
    check("", "tier = \"fast\"\n", ".tier knows no `fast`");
    check("", "quantization = \"q4\"\n", ".quantization knows no `q4`");
    check("", "operations = [\"talk\"]\n", ".operations knows no `talk`");
    check("", "operations = []\n", ".operations is missing");
    check("", "supports = [\"tool\"]\n", ".supports knows no `tool`");
    check("", "supports = [\"+seed\", \"tools\"]\n", ".supports mixes names with changes");
    check("", "unit = \"mile\"\nprice_unit = \"1\"\n", ".unit knows no `mile`");
    check("", "variant = \"\"\n", ".variant `` is not a name");
    check("zdr = true\n", "retains_prompts = true\n", " promises zero data retention and retains or trains");
    let gemini = MAPLE.replace("openai", "gemini");
    let config = parsed(&format!("{gemini}{MODEL}operations = [\"text_completion\"]\n"));
    let error = gateway(&config, &Environment::default()).unwrap_err();
    assert_eq!(error.to_string(), "provider `maple` of kind `gemini` cannot be asked for `text_completion`");
    let nowhere =
        MAPLE.replace("base_url = \"http://m/v1\"", "").replace("\"openai\"", "\"openai-compatible\"");
    let error = gateway(&parsed(&nowhere), &Environment::default()).unwrap_err();
    assert_eq!(error.to_string(), "provider `maple`: base_url is missing");
    let twice = gateway(&parsed(&format!("{MAPLE}{MODEL}{MODEL}")), &Environment::default()).unwrap_err();
    assert_eq!(twice.to_string(), "`maple` offers `a/b` twice");
    let apart = format!("{MAPLE}{MODEL}variant = \"eu\"\n{MODEL}variant = \"us\"\n{MODEL}");
    assert!(gateway(&parsed(&apart), &Environment::default()).is_ok());
}

#[test]
fn the_number_of_models_is_bounded() {
    let check = |count: usize| {
        let mut config = parsed(&format!("{MAPLE}{MODEL}"));
        let one = config.provider[0].model.remove(0);
        let model = |n: usize| ProviderModelSection { id: format!("a/b{n}"), ..one.clone() };
        config.provider[0].model = (0..count).map(model).collect();
        gateway(&config, &Environment::default()).is_ok()
    };
    assert!(check(MODELS_MAX));
    assert!(!check(MODELS_MAX + 1));
}

#[test]
fn a_star_is_a_rule_about_the_sellers_list() {
    let rules = |provider: &str, model: &str| {
        let text = format!("{MAPLE}{provider}[[provider.model]]\n{model}");
        gateway(&parsed(&text), &Environment::default())
            .map(|config| (config.providers[0].models.len(), config.lists[0].clone()))
    };
    let (fixed, maple) =
        rules("list_minutes = 5\n", "id = \"acme/*\"\nexcept = [\"*-preview\"]\nmarkup_bps = 500\n").unwrap();
    assert_eq!((fixed, maple.rules.len(), maple.every.as_secs()), (0, 1, 300));
    assert_eq!(maple.provider.as_str(), "maple");
    let rule = &maple.rules[0];
    assert_eq!(
        (&rule.names, &rule.slug),
        (&Pattern::parse("*").unwrap(), &Pattern::parse("acme/*").unwrap())
    );
    assert_eq!((rule.template.prices, rule.markup_bps, rule.has_context), (None, 500, false));
    let (_, fixed) =
        rules("", &format!("id = \"*\"\nupstream_id = \"a/*\"\ncontext_tokens = 9\n{PRICES}")).unwrap();
    assert!(fixed.rules[0].template.prices.is_some() && fixed.rules[0].has_context);
    let refused = |provider: &str, model: &str, want: &str| {
        assert_eq!(rules(provider, model).unwrap_err().to_string(), want);
    };
    let place = "provider `maple`: model";
    refused(
        "",
        "id = \"*/*\"\n",
        &format!("{place} `*/*`.id `*/*` cannot be used: a name has one * at most"),
    );
    refused(
        "",
        "id = \"*\"\nupstream_id = \"a\"\n",
        &format!(
            "{place} `*`.upstream_id cannot be used: one model has one slug: write a * here, or none in the slug"
        ),
    );
    refused(
        "",
        &format!("id = \"*\"\nmarkup_bps = 1\n{PRICES}"),
        &format!(
            "{place} `*`.markup_bps cannot be used: the rule has prices of its own, so the list's are not used: keep one"
        ),
    );
    let alone = "cannot be used: only names with a * follow a list";
    refused("", &format!("id = \"a\"\nmarkup_bps = 1\n{PRICES}"), &format!("{place} `a`.markup_bps {alone}"));
    let minutes = |n: u64| rules(&format!("list_minutes = {n}\n"), "id = \"*\"\n").is_ok();
    assert!(minutes(1) && minutes(LIST_MINUTES_MAX) && !minutes(0) && !minutes(LIST_MINUTES_MAX + 1));
    let markup = |bps: u32| rules("", &format!("id = \"*\"\nmarkup_bps = {bps}\n")).is_ok();
    assert!(markup(MARKUP_BPS_MAX) && !markup(MARKUP_BPS_MAX + 1));
}

/// One more seller that speaks the OpenAI dialect is one table, and needs no line of code.
#[test]
fn one_more_seller_is_one_table() {
    let table = "[[provider]]\nname = \"birch\"\nkind = \"openai-compatible\"\nbase_url = \"https://api.birch.example/v1\"\n\
                 [[provider.model]]\nid = \"acme/one\"\nprice_prompt = \"0.000001\"\nprice_completion = \"0.000002\"\n";
    let config = gateway(&parsed(table), &Environment::default()).unwrap();
    let offered =
        |config: &bourse_gateway::ProviderConfig| (config.name.as_str().to_owned(), config.models.len());
    assert_eq!(config.providers.iter().map(offered).collect::<Vec<_>>(), [("birch".to_owned(), 1)]);
}

#[test]
fn what_is_free_may_have_a_list_price_and_somebody_who_gives_it() {
    let free = |model: &str| wired("", &format!("free = true\n{model}")).unwrap().free;
    let list = "list_price_prompt = \"0.1\"\nlist_price_completion = \"0.2\"\n";
    let per_token =
        PriceSchedule::per_token(PicoUsdPerToken(100_000_000_000), PicoUsdPerToken(200_000_000_000));
    assert_eq!(free(list), Free::Listed { list: per_token, giver: Giver::Seller });
    let all = format!("{list}list_price_request = \"1\"\nlist_price_unit = \"2\"\ngiven_by = \"market\"\n");
    let request = PriceSchedule {
        request: NanoUsd(1_000_000_000),
        unit: PicoUsdPerUnit(2_000_000_000_000),
        ..per_token
    };
    assert_eq!(free(&all), Free::Listed { list: request, giver: Giver::Market });
    let unit = PriceSchedule { unit: request.unit, ..PriceSchedule::per_token(ZERO, ZERO) };
    assert_eq!(free("list_price_unit = \"2\"\n"), Free::Listed { list: unit, giver: Giver::Seller });
    let place = "error: provider `maple`: model `a/b`";
    let check = |model: &str, want: &str| assert_eq!(refusal("", model), format!("{place}{want}"));
    let belongs = " cannot be used: list prices and `given_by` belong to what is free: say `free = true`, or remove them";
    check(&format!("{PRICES}{list}"), belongs);
    check(&format!("{PRICES}given_by = \"market\"\n"), belongs);
    let lacks = ".list_price_completion is missing, as other list prices are known";
    check("free = true\nlist_price_prompt = \"0.1\"\n", lacks);
    check(
        "free = true\ngiven_by = \"market\"\n",
        ".list_price_prompt is missing, as `given_by` says who bears the list price",
    );
    check("free = true\ngiven_by = \"me\"\n", ".given_by knows no `me`");
    let nothing = " cannot be used: a list price of nothing says nothing: write what the same costs elsewhere, or leave it out";
    check("free = true\nlist_price_prompt = \"0\"\nlist_price_completion = \"0\"\n", nothing);
}

#[test]
fn a_node_that_asks_nothing_may_say_what_it_gives() {
    let node = |text: &str| {
        let config = parsed(&format!("[node]\n{text}"));
        super::super::node_free(&config).map_err(|error| error.to_string())
    };
    let zero = "price_prompt = \"0\"\nprice_completion = \"0\"\n";
    let list = "list_price_prompt = \"0.1\"\nlist_price_completion = \"0.2\"\n";
    assert_eq!((node(""), node(zero)), (Ok(Free::No), Ok(Free::Unvalued)));
    let per_token =
        PriceSchedule::per_token(PicoUsdPerToken(100_000_000_000), PicoUsdPerToken(200_000_000_000));
    assert_eq!(node(&format!("{zero}{list}")), Ok(Free::Listed { list: per_token, giver: Giver::Seller }));
    assert!(node(list).unwrap_err().contains("the node asks a price"));
    assert!(
        node(&format!("{zero}list_price_prompt = \"0.1\"\n"))
            .unwrap_err()
            .contains("node.list_price_completion")
    );
}

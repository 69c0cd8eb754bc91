use super::*;
use crate::config::NodeAdmission;
use bourse_market::{DataPolicy, Offer};
use bourse_types::{Digest32, NodeId, PicoUsdPerToken, PriceSchedule};
use bourse_wire::dialect::{Api, front};
use bourse_wire::node::NodeCard;
use bytes::Bytes;

const NOW: UnixMs = UnixMs(5);

fn node(n: usize, model: &str, jobs: u32) -> Arc<NodeHandle> {
    let price = PicoUsdPerToken(1);
    let admission = NodeAdmission {
        node: NodeId([n as u8; 32]),
        seller: SellerName::parse(&format!("s{n}")).unwrap(),
        prices: PriceSchedule::per_token(price, price),
        free: bourse_market::Free::No,
        data: DataPolicy::NONE,
    };
    let card = NodeCard {
        model: ModelSlug::parse(model).unwrap(),
        model_commitment: Digest32([5; 32]),
        context_tokens_max: 131_072,
        jobs_in_flight_max: jobs,
        bytes_per_token_min: 1,
        template_tokens_max: 16,
        gpus: None,
        engine: "fake".into(),
    };
    NodeHandle::new(admission, card).0
}

fn job(api: Api, body: &str) -> Job {
    front::parse(api, Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn chat(model: &str, texts: &[&str]) -> Job {
    let roles = ["user", "assistant"].into_iter().cycle();
    let messages = texts.iter().zip(roles);
    let messages: Vec<String> =
        messages.map(|(text, role)| format!(r#"{{"role":"{role}","content":"{text}"}}"#)).collect();
    job(Api::Chat, &format!(r#"{{"model":"{model}","messages":[{}]}}"#, messages.join(",")))
}

/// Text of so many blocks.
fn long(word: &str, blocks: usize) -> String {
    word.repeat(blocks * BLOCK_BYTES / word.len())
}

#[test]
fn where_there_is_no_choice_nothing_is_hashed() {
    let prefixes = Prefixes::default();
    let chat = chat("m", &[&long("a", 3)]);
    let is_looked_at = |nodes: &[Arc<NodeHandle>], job: &Job| {
        prefixes.set_nodes(nodes);
        prefixes.look(job, NOW).is_some()
    };
    assert!(!is_looked_at(&[], &chat));
    assert!(!is_looked_at(&[node(1, "m", 1)], &chat));
    assert!(!is_looked_at(&[node(1, "m", 1), node(2, "n", 1), node(3, "n", 1)], &chat));
    let two = [node(1, "m", 1), node(2, "m", 1)];
    assert!(is_looked_at(&two, &chat));
    let vectors = job(Api::Embeddings, r#"{"model":"m","input":"x"}"#);
    assert!(!is_looked_at(&two, &vectors));
    let fallback = job(Api::Chat, r#"{"models":["n","m"],"messages":[{"role":"user","content":"x"}]}"#);
    assert!(is_looked_at(&two, &fallback));
}

/// The blocks of a conversation and of the same gone on with.
fn check_goes_on(api: Api, first: &str, second: &str) {
    let (first, second) = (blocks_of(&job(api, first)), blocks_of(&job(api, second)));
    assert!(first.len() >= 3 && second.len() > first.len(), "{api:?}: {} {}", first.len(), second.len());
    assert_eq!(second[..first.len()], first, "{api:?}");
}

#[test]
fn a_conversation_that_goes_on_begins_with_the_same_blocks() {
    let (a, b, c) = (long("a", 3), long("b", 3), long("c", 3));
    let turns = |name: &str, more: &str| {
        let more =
            if more.is_empty() { String::new() } else { format!(r#",{{"role":"user","content":"{more}"}}"#) };
        format!(
            r#""{name}":[{{"role":"user","content":"{a}"}},{{"role":"assistant","content":"{b}"}}{more}]"#
        )
    };
    let chat = |more: &str| format!(r#"{{"model":"m",{}}}"#, turns("messages", more));
    check_goes_on(Api::Chat, &chat(""), &chat(&c));
    let messages =
        |more: &str| format!(r#"{{"model":"m","max_tokens":9,{},"system":"{c}"}}"#, turns("messages", more));
    check_goes_on(Api::Messages, &messages(""), &messages(&c));
    let responses = |more: &str| format!(r#"{{"model":"m","instructions":"{c}",{}}}"#, turns("input", more));
    check_goes_on(Api::Responses, &responses(""), &responses(&c));
    let text = |more: &str| format!(r#"{{"model":"m","prompt":"{a}{more}"}}"#);
    check_goes_on(Api::Text, &text(""), &text(&c));
}

#[test]
fn what_stands_before_a_prompt_names_all_its_blocks() {
    let a = long("a", 4);
    let with = |tools: &str| {
        let tools = format!(r#""tools":[{{"type":"function","function":{{"name":"{tools}"}}}}]"#);
        let messages = format!(r#""messages":[{{"role":"user","content":"{a}"}}]"#);
        blocks_of(&job(Api::Chat, &format!(r#"{{"model":"m",{messages},{tools}}}"#)))
    };
    let (one, other) = (with("one"), with("two"));
    assert_eq!(one, with("one"));
    assert!(one.len() >= 4 && one.iter().all(|block| !other.contains(block)));
    assert_ne!(blocks_of(&chat("m", &[&a]))[..4], one[..4]);
}

#[test]
fn prompts_and_memory_are_bounded() {
    let text = |bytes: usize| job(Api::Text, &format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(bytes)));
    // The opening quote is one of its bytes.
    let most = PREFIX_BYTES_MAX / BLOCK_BYTES;
    assert_eq!(blocks_of(&text(PREFIX_BYTES_MAX - 2)).len(), most - 1);
    assert_eq!(blocks_of(&text(PREFIX_BYTES_MAX - 1)).len(), most);
    assert_eq!(blocks_of(&text(PREFIX_BYTES_MAX + BLOCK_BYTES)).len(), most);

    let prefixes = Prefixes::default();
    let model = ModelSlug::parse("m").unwrap();
    let nodes: Vec<_> = (0..NODES_MAX).map(|n| node(n, "m", 64)).collect();
    prefixes.set_nodes(&nodes);
    let share = (PREFIX_BLOCKS_HELD_MAX / NODES_MAX) as u64;
    for (n, node) in (0u64..).zip(&nodes) {
        let blocks: Vec<_> = (0..=share).map(|block| BlockHash(n << 32 | block)).collect();
        prefixes.answered(&model, &node.seller, &blocks);
    }
    assert_eq!(prefixes.blocks_held(), PREFIX_BLOCKS_HELD_MAX);
    // A node's cache is no larger than its card tells, though there were room for more.
    prefixes.set_nodes(&[node(1, "m", 1), node(2, "m", 1)]);
    let blocks: Vec<_> = (0..2_000).map(BlockHash).collect();
    prefixes.answered(&model, &SellerName::parse("s1").unwrap(), &blocks);
    assert_eq!(prefixes.blocks_held(), 131_072 / BLOCK_TOKENS as usize);
}

/// What is said of the nodes: by how many tokens each is ahead.
fn savings(prefixes: &Prefixes, job: &Job) -> Vec<(String, u32)> {
    let found = prefixes.look(job, NOW).unwrap();
    found.savings.iter().map(|(_, seller, tokens)| (seller.to_string(), *tokens)).collect()
}

#[test]
fn a_node_that_leaves_is_forgotten_and_so_is_one_that_comes_back() {
    let prefixes = Prefixes::default();
    let (a, b, c) = (node(1, "m", 1), node(2, "m", 1), node(3, "m", 1));
    prefixes.set_nodes(&[Arc::clone(&a), Arc::clone(&b), Arc::clone(&c)]);
    let chat = chat("m", &[&long("a", 3)]);
    let blocks = prefixes.look(&chat, NOW).unwrap().blocks;
    assert_eq!(blocks.len(), 3);
    for node in [&a, &b] {
        prefixes.answered(node.model(), &node.seller, &blocks);
    }
    let three = 3 * BLOCK_TOKENS;
    assert_eq!(savings(&prefixes, &chat), [("s1".to_owned(), three), ("s2".to_owned(), three)]);
    prefixes.set_nodes(&[Arc::clone(&b), Arc::clone(&c)]);
    assert_eq!((savings(&prefixes, &chat), prefixes.blocks_held()), (vec![("s2".to_owned(), three)], 3));
    // The same node by a new link.
    prefixes.set_nodes(&[node(2, "m", 1), c]);
    assert_eq!((savings(&prefixes, &chat), prefixes.blocks_held()), (Vec::new(), 0));
}

#[test]
fn a_plan_is_told_where_the_offers_are_in_its_book() {
    let prefixes = Prefixes::default();
    let nodes = [node(1, "m", 1), node(2, "m", 1)];
    prefixes.set_nodes(&nodes);
    let chat = chat("m", &[&long("a", 3)]);
    let blocks = prefixes.look(&chat, NOW).unwrap().blocks;
    prefixes.answered(nodes[1].model(), &nodes[1].seller, &blocks);
    let found = prefixes.look(&chat, NOW).unwrap();
    let warmth = |offers: Vec<Offer>| {
        let book = MarketSnapshot::new(offers, Digest32::default()).unwrap();
        found.warmth(&book).map(|warmth| (warmth.offer.0, warmth.tokens, warmth.saving)).collect::<Vec<_>>()
    };
    let tokens = 3 * BLOCK_TOKENS;
    assert_eq!(warmth(nodes.iter().map(|node| node.offer()).collect()), [(1, tokens, Saving::Work)]);
    assert_eq!(warmth(vec![nodes[1].offer()]), [(0, tokens, Saving::Work)]);
    assert_eq!(warmth(vec![nodes[0].offer()]), []);
}

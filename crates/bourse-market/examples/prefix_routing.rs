//! Replays a trace of prompts over several nodes and prints how much of their prefixes was cached where
//! they were sent, for random, sticky and prefix-cost routing and for the market's own plans.
//!
//! `cargo run --release -p bourse-market --example prefix_routing -- --trace FILE [--nodes N] [--blocks N]`
//!
//! The trace is the Mooncake form: one JSON object a line with `timestamp` (ms), `input_length` and
//! `hash_ids` (hashes of prefixes in blocks of 512 tokens). Each node's cache holds `--blocks` blocks and
//! forgets the least recently used. The bound is one infinite cache. Sticky routing keys a conversation
//! by its first three blocks, as a gateway would by the first messages, and starts it at the node with the
//! least load.
#![expect(clippy::disallowed_methods, reason = "an example reads its arguments and its trace")]

use bourse_market::{
    BlockHash, Demand, HealthTable, MarketSnapshot, Offer, Preferences, PrefixIndex, Served, Session,
    StickyKey, StickyTable, plan,
};
use bourse_types::{Digest32, ModelSlug, PicoUsdPerToken, PriceSchedule, SellerName, UnixMs};
use std::collections::HashSet;
use std::error::Error;

/// Tokens in one block of the trace.
const BLOCK_TOKENS: u32 = 512;
/// Blocks that tell conversations apart.
const KEY_BLOCKS: usize = 3;

struct Prompt {
    now: UnixMs,
    blocks: Vec<BlockHash>,
}

struct Arguments {
    trace: String,
    nodes: usize,
    blocks: usize,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut found = Arguments { trace: String::new(), nodes: 16, blocks: 4_000 };
    let mut rest = std::env::args().skip(1);
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--trace" => found.trace = value,
            "--nodes" => found.nodes = value.parse()?,
            "--blocks" => found.blocks = value.parse()?,
            _ => return Err(format!("unknown argument {name}; there are --trace, --nodes, --blocks").into()),
        }
    }
    if found.trace.is_empty() {
        return Err("--trace FILE is missing".into());
    }
    Ok(found)
}

fn prompts(path: &str) -> Result<Vec<Prompt>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let now = row["timestamp"].as_u64().ok_or("a line without timestamp")?;
            let hashes = row["hash_ids"].as_array().ok_or("a line without hash_ids")?;
            let blocks = hashes.iter().filter_map(serde_json::Value::as_u64).map(BlockHash).collect();
            Ok(Prompt { now: UnixMs(now), blocks })
        })
        .collect()
}

/// What a policy is asked: the caches, the prompt; it answers with the node.
type Policy<'a> = dyn FnMut(&PrefixIndex, &Prompt) -> Option<SellerName> + 'a;

/// Sends every prompt where the policy says and prints what came of it.
fn replay(
    title: &str,
    prompts: &[Prompt],
    nodes: &[SellerName],
    blocks: usize,
    bound: u64,
    policy: &mut Policy,
) {
    let mut caches = PrefixIndex::default();
    for node in nodes {
        if let Err(full) = caches.set_seller(node, blocks) {
            println!("{title}: {full}");
            return;
        }
    }
    let mut hit = 0u64;
    let mut work = vec![0u64; nodes.len()];
    for prompt in prompts {
        let Some(chosen) = policy(&caches, prompt) else { continue };
        let Some(at) = nodes.iter().position(|node| *node == chosen) else { continue };
        let held = u64::from(caches.matches(&prompt.blocks, prompt.now)[at].blocks);
        hit += held;
        work[at] += prompt.blocks.len() as u64 - held;
        caches.on_dispatch(&chosen, &prompt.blocks, prompt.now);
    }
    let total: usize = prompts.iter().map(|prompt| prompt.blocks.len()).sum();
    let sum: u64 = work.iter().sum();
    let peak = work.iter().max().copied().unwrap_or_default() as f64;
    println!(
        "{title:<12} hit rate {:.3}  of the bound {:5.1} %  blocks computed {sum:>7}  peak/mean work {:.2}",
        hit as f64 / total as f64,
        100.0 * hit as f64 / bound as f64,
        peak * nodes.len() as f64 / sum as f64,
    );
}

fn offer(model: &ModelSlug, seller: &SellerName) -> Offer {
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(1),
        ..PriceSchedule::per_token(PicoUsdPerToken(2), PicoUsdPerToken(2))
    };
    Offer::new(model.clone(), seller.clone(), Some(prices), 1 << 20)
}

fn least_loaded(caches: &PrefixIndex, now: UnixMs) -> Option<SellerName> {
    caches.cheapest(&[], now).map(|found| found.seller)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { trace, nodes, blocks } = arguments()?;
    let prompts = prompts(&trace)?;
    let nodes: Vec<SellerName> =
        (0..nodes).map(|n| SellerName::parse(&format!("node-{n}"))).collect::<Result<_, _>>()?;
    let total: usize = prompts.iter().map(|prompt| prompt.blocks.len()).sum();
    let mut seen = HashSet::new();
    let bound: usize = prompts
        .iter()
        .map(|prompt| {
            let hit = prompt.blocks.iter().take_while(|block| seen.contains(*block)).count();
            seen.extend(prompt.blocks.iter().copied());
            hit
        })
        .sum();
    let rate = bound as f64 / total as f64;
    println!("{} prompts, {total} blocks, {} nodes of {blocks} blocks", prompts.len(), nodes.len());
    println!("infinite     hit rate {rate:.3}");
    let bound = bound as u64;

    let mut seed = 1u64;
    replay("random", &prompts, &nodes, blocks, bound, &mut |_, _| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        nodes.get((seed >> 33) as usize % nodes.len()).cloned()
    });
    replay("least load", &prompts, &nodes, blocks, bound, &mut |caches, prompt| {
        least_loaded(caches, prompt.now)
    });
    let mut stays = StickyTable::default();
    let model = ModelSlug::parse("m")?;
    replay("sticky", &prompts, &nodes, blocks, bound, &mut |caches, prompt| {
        let hash = |key: u128, block: &BlockHash| {
            (key ^ u128::from(block.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
        };
        let conversation = prompt.blocks.iter().take(KEY_BLOCKS).fold(1, hash);
        let key = StickyKey { account: Digest32::default(), model: model.clone(), conversation };
        let node = stays.seller(&key, prompt.now).cloned().or_else(|| least_loaded(caches, prompt.now))?;
        let prompt_tokens = prompt.blocks.len() as u32 * BLOCK_TOKENS;
        let served = Served { prompt_tokens, ..Served::default() };
        stays.on_success(&key, Session::Explicit, &offer(&model, &node), &served, prompt.now);
        Some(node)
    });
    replay("prefix cost", &prompts, &nodes, blocks, bound, &mut |caches, prompt| {
        caches.cheapest(&prompt.blocks, prompt.now).map(|found| found.seller)
    });
    let book =
        MarketSnapshot::new(nodes.iter().map(|node| offer(&model, node)).collect(), Digest32::default())?;
    let health = HealthTable::new(&book);
    let wishes = Preferences::default();
    let mut seed = 0;
    replay("plan", &prompts, &nodes, blocks, bound, &mut |caches, prompt| {
        seed += 1;
        let warmth = caches.warmth(&prompt.blocks, BLOCK_TOKENS, model.as_str(), &book, prompt.now);
        let prompt_bytes = prompt.blocks.len() as u64 * u64::from(BLOCK_TOKENS) * 4;
        let demand = Demand { prompt_bytes, warmth: &warmth, ..Demand::new(model.as_str(), &wishes) };
        let made = plan(&book, &health, &demand, prompt.now, seed).ok()?;
        Some(book.offer(*made.attempts.first()?)?.seller.clone())
    });
    Ok(())
}

use super::*;
use proptest::prelude::*;

fn name(n: usize) -> SellerName {
    SellerName::parse(&format!("node-{n}")).unwrap()
}

fn index(sellers: usize, cache_blocks: usize) -> PrefixIndex {
    let mut index = PrefixIndex::default();
    for n in 0..sellers {
        index.set_seller(&name(n), cache_blocks).unwrap();
    }
    index
}

fn blocks(hashes: &[u64]) -> Vec<BlockHash> {
    hashes.iter().map(|hash| BlockHash(*hash)).collect()
}

fn hits(index: &PrefixIndex, hashes: &[u64]) -> Vec<u32> {
    index.matches(&blocks(hashes), UnixMs(0)).iter().map(|found| found.blocks).collect()
}

#[test]
fn it_finds_the_longest_prefix_of_every_seller() {
    let mut index = index(3, 100);
    index.on_dispatch(&name(0), &blocks(&[1, 2, 3]), UnixMs(0));
    index.on_dispatch(&name(1), &blocks(&[1, 2, 9]), UnixMs(0));
    assert_eq!(hits(&index, &[1, 2, 3, 4]), [3, 2, 0]);
    assert_eq!(hits(&index, &[1, 2, 9]), [2, 3, 0]);
    assert_eq!(hits(&index, &[]), [0, 0, 0]);
}

#[test]
fn a_full_memory_forgets_leaves_before_roots() {
    let mut index = index(1, 3);
    index.on_dispatch(&name(0), &blocks(&[1, 2, 3]), UnixMs(0));
    index.on_dispatch(&name(0), &blocks(&[1, 7]), UnixMs(0));
    assert_eq!((hits(&index, &[1, 2, 3]), index.blocks_held()), (vec![2], 3));
    index.on_dispatch(&name(0), &blocks(&[4, 5, 6, 7, 8]), UnixMs(0));
    assert_eq!(hits(&index, &[4, 5, 6, 7, 8]), [3], "a prompt beyond the memory is held as far as it fits");
    index.set_seller(&name(0), 1).unwrap();
    assert_eq!((hits(&index, &[4, 5, 6]), index.blocks_held()), (vec![1], 1));
    index.remove_seller(&name(0));
    assert!(index.owners.is_empty() && index.matches(&[], UnixMs(0)).is_empty());
}

#[test]
fn load_moves_a_prompt_away_and_is_forgotten() {
    let mut index = index(2, 1_000);
    let shared = blocks(&[1]);
    index.on_dispatch(&name(0), &shared, UnixMs(0));
    assert_eq!(index.cheapest(&shared, UnixMs(0)).unwrap().seller, name(0));
    let long: Vec<u64> = (100..130).collect();
    index.on_dispatch(&name(0), &blocks(&long), UnixMs(0));
    assert_eq!(index.cheapest(&shared, UnixMs(0)).unwrap().seller, name(1), "3.1 of load against 1 block");
    assert_eq!(index.cheapest(&shared, UnixMs(2 * LOAD_HALF_LIFE_MS)).unwrap().seller, name(0));
    assert!(PrefixIndex::default().cheapest(&shared, UnixMs(0)).is_none());
}

#[test]
fn warmth_orders_offers_as_prefix_cost_does() {
    let offers = (0..40).map(|n| crate::snapshot::tests::offer("m", name(n).as_str())).collect();
    let book = MarketSnapshot::new(offers, bourse_types::Digest32::default()).unwrap();
    let mut index = index(40, 1_000);
    index.set_seller(&SellerName::parse("gone").unwrap(), 9).unwrap();
    assert!(index.warmth(&blocks(&[1]), 512, "m", &book, UnixMs(0)).is_empty(), "all alike: nobody is warm");
    let prompt = blocks(&[1, 2, 3, 4]);
    index.on_dispatch(&name(7), &prompt, UnixMs(0));
    index.on_dispatch(&name(9), &prompt[..2], UnixMs(0));
    let warmth = index.warmth(&prompt, 512, "m", &book, UnixMs(0));
    assert_eq!(warmth.len(), 2);
    let tokens = |n: usize| {
        let offer = book.index_of("m", name(n).as_str());
        warmth.iter().find(|warmth| Some(warmth.offer) == offer).map(|warmth| warmth.tokens)
    };
    // 4 blocks less 0.4 of load, and 2 less 0.2.
    assert_eq!((tokens(7), tokens(9)), (Some(1_843), Some(921)));
    for n in 0..30 {
        index.on_dispatch(&name(n), &blocks(&[1, 100 + n as u64]), UnixMs(0));
    }
    assert_eq!(index.warmth(&prompt, 512, "m", &book, UnixMs(0)).len(), WARMTHS_MAX);
}

#[test]
fn work_counts_at_once_and_blocks_when_they_were_answered() {
    let mut index = index(2, 100);
    let prompt = blocks(&[1, 2, 3]);
    index.on_start(&name(0), &prompt, UnixMs(0));
    let found = index.matches(&prompt, UnixMs(0));
    assert_eq!((found[0].blocks, found[0].load_blocks.to_bits()), (0, 3.0f64.to_bits()));
    assert_eq!(index.savings(&prompt, 512, UnixMs(0)), [(name(1), 153)], "a tenth of the load");
    index.on_success(&name(0), &prompt);
    assert_eq!(hits(&index, &[1, 2, 3]), [3, 0]);
    assert_eq!(index.savings(&prompt, 512, UnixMs(0)), [(name(0), 1_382)]);
    index.on_start(&name(2), &prompt, UnixMs(0));
    index.on_success(&name(2), &prompt);
    assert_eq!(index.blocks_held(), 3, "a stranger is not taken in");
}

/// Nodes ask the same for cached tokens as for others: there is no money to save, but work.
#[test]
fn a_plan_asks_the_node_first_that_holds_the_prompt() {
    let per_token = |pico| {
        let price = bourse_types::PicoUsdPerToken(pico);
        Some(bourse_types::PriceSchedule::per_token(price, price))
    };
    let node = |n: usize, pico| crate::Offer {
        prices: per_token(pico),
        ..crate::snapshot::tests::offer("m", name(n).as_str())
    };
    let wishes = crate::Preferences::default();
    let prompt = blocks(&[1, 2, 3, 4]);
    let mut index = index(3, 100);
    index.on_success(&name(1), &prompt);
    let first = |prices: [u64; 3]| {
        let offers = prices.iter().enumerate().map(|(n, pico)| node(n, *pico)).collect();
        let book = MarketSnapshot::new(offers, bourse_types::Digest32::default()).unwrap();
        let warmth = index.warmth(&prompt, 512, "m", &book, UnixMs(0));
        let demand =
            crate::Demand { prompt_bytes: 8_192, warmth: &warmth, ..crate::Demand::new("m", &wishes) };
        let health = crate::HealthTable::new(&book);
        let asked = |seed| crate::plan(&book, &health, &demand, UnixMs(0), seed).unwrap().attempts[0];
        (0..100).filter(|seed| asked(*seed) == crate::OfferIndex(1)).count()
    };
    assert_eq!(first([1_000_000; 3]), 100);
    assert_eq!(first([1_000_000, 1_200_000, 1_000_000]), 100, "it is worth up to a quarter of the prompt");
    assert!(first([1_000_000, 1_500_000, 1_000_000]) < 40, "and no more");
}

#[test]
fn sellers_and_prompts_are_bounded() {
    let mut index = index(PREFIX_SELLERS_MAX, 1);
    assert_eq!(index.set_seller(&name(PREFIX_SELLERS_MAX), 1), Err(PrefixIndexFull));
    assert_eq!(index.set_seller(&name(0), PREFIX_BLOCKS_MAX + 1), Ok(()));
    let long: Vec<u64> = (0..=PROMPT_BLOCKS_MAX as u64).collect();
    index.on_dispatch(&name(0), &blocks(&long), UnixMs(0));
    assert_eq!(hits(&index, &long)[0], PROMPT_BLOCKS_MAX as u32);
    assert_eq!(index.holders[&0].blocks.capacity(), PREFIX_BLOCKS_MAX);
}

proptest! {
    /// Against a plain list of what was touched, per seller.
    #[test]
    fn hits_are_what_a_plain_cache_holds(
        capacity in 1usize..12,
        prompts in proptest::collection::vec((0usize..3, proptest::collection::vec(0u64..3, 1..6)), 1..60),
    ) {
        let mut index = index(3, capacity);
        let mut caches = vec![Vec::<u64>::new(); 3];
        for (seller, path) in prompts {
            // A chained hash: the path read as a number in base 4, with a leading 1.
            let chain: Vec<u64> = path
                .iter()
                .scan(1u64, |hash, digit| {
                    *hash = *hash * 4 + digit;
                    Some(*hash)
                })
                .collect();
            let want: Vec<u32> = caches
                .iter()
                .map(|cache| chain.iter().take_while(|hash| cache.contains(hash)).count() as u32)
                .collect();
            prop_assert_eq!(hits(&index, &chain), want);
            index.on_dispatch(&name(seller), &blocks(&chain), UnixMs(0));
            for hash in chain[..chain.len().min(capacity)].iter().rev() {
                caches[seller].retain(|held| held != hash);
                caches[seller].push(*hash);
                if caches[seller].len() > capacity {
                    caches[seller].remove(0);
                }
            }
        }
        prop_assert_eq!(index.blocks_held(), caches.iter().map(Vec::len).sum::<usize>());
    }
}

/// Conversations that go on, in the mix that chat has: a shared start, growing turns, many at once.
fn conversations(turns: usize) -> Vec<Vec<BlockHash>> {
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut open: Vec<Vec<BlockHash>> = Vec::new();
    let mut next_hash = 1_000;
    (0..turns)
        .map(|_| {
            if open.len() < 60 || random(6) == 0 {
                open.push(vec![BlockHash(random(5))]);
            }
            let at = random(open.len() as u64) as usize;
            for _ in 0..2 + random(8) {
                next_hash += 1;
                open[at].push(BlockHash(next_hash));
            }
            let prompt = open[at].clone();
            if random(8) == 0 {
                open.swap_remove(at);
            }
            prompt
        })
        .collect()
}

#[test]
fn with_eight_nodes_most_of_an_infinite_cache_is_hit() {
    let prompts = conversations(4_000);
    let mut one = index(1, PREFIX_BLOCKS_MAX);
    let mut eight = index(8, 4_000);
    let (mut bound, mut hit) = (0u64, 0u64);
    let mut given = BTreeMap::<String, u64>::new();
    for (n, prompt) in (0u64..).zip(&prompts) {
        let now = UnixMs(n * 1_000);
        bound += u64::from(one.matches(prompt, now)[0].blocks);
        one.on_dispatch(&name(0), prompt, now);
        let best = eight.cheapest(prompt, now).unwrap();
        hit += u64::from(best.blocks);
        *given.entry(best.seller.to_string()).or_default() += prompt.len() as u64 - u64::from(best.blocks);
        eight.on_dispatch(&best.seller, prompt, now);
    }
    let share = hit as f64 / bound as f64;
    assert!(share >= 0.8, "{share} of an infinite cache");
    let mean = given.values().sum::<u64>() as f64 / 8.0;
    let peak = given.values().copied().max().unwrap_or_default() as f64;
    assert!(given.len() == 8 && peak < 1.6 * mean, "uneven: {given:?}");
}

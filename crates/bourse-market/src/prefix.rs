//! Which node holds which prefix of a prompt, and where a prompt should go for it.
//!
//! A prompt is a row of blocks of equal length; the hash of a block covers everything before it, so that
//! one hash names a whole prefix (the gateway makes them). Each seller has a bounded memory of blocks,
//! as large as its cache, from which what was used least recently goes first, as it does in the cache
//! itself. Blocks of one prompt are touched from the last to the first, so that a prefix outlives what
//! hangs on it.
//!
//! The choice is the least [`prefix_cost`]: blocks to compute, plus [`LOAD_WEIGHT`] times the blocks that
//! the node has been given lately. Longest match alone piles everything on one node, because many prompts
//! share a first block; load alone finds hardly any prefix. One additive cost comes near the hit rate of
//! one infinite cache with nearly even load (measured on the Mooncake traces; see
//! `examples/prefix_routing.rs`).
//!
//! The index is a guess about caches that nobody reports; a wrong one costs a recomputation. What is given
//! counts as load at once, and as held when it was answered. One index per model.

use crate::effective::Saving;
use crate::lru::Lru;
use crate::snapshot::MarketSnapshot;
use crate::sticky::Warmth;
use bourse_types::{SellerName, UnixMs};
use std::collections::{BTreeMap, HashMap};

/// Most sellers of one index.
pub const PREFIX_SELLERS_MAX: usize = 4_096;
/// Most blocks remembered for one seller: 32 million tokens in blocks of 512.
pub const PREFIX_BLOCKS_MAX: usize = 65_536;
/// Most blocks of one prompt that are looked at: 2 million tokens in blocks of 512.
pub const PROMPT_BLOCKS_MAX: usize = 4_096;
/// What a block that a node was given lately weighs, against one to compute.
pub const LOAD_WEIGHT: f64 = 0.1;
/// Time in which given work counts half, in milliseconds.
pub const LOAD_HALF_LIFE_MS: u64 = 60_000;

/// Most sellers that a plan is told to be warm.
pub const WARMTHS_MAX: usize = 16;

/// Hash of a block and of everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(pub u64);

/// What a seller holds of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefixMatch {
    /// The seller.
    pub seller: SellerName,
    /// Blocks from the start of the prompt that it holds.
    pub blocks: u32,
    /// Blocks that it was given lately, older ones counting less.
    pub load_blocks: f64,
}

impl PrefixMatch {
    /// The cost of sending a prompt of so many blocks there; see [`prefix_cost`].
    pub fn cost(&self, prompt_blocks: u32) -> f64 {
        prefix_cost(prompt_blocks, self.blocks, self.load_blocks)
    }
}

/// Blocks to compute plus [`LOAD_WEIGHT`] times the load: smaller is better.
pub fn prefix_cost(prompt_blocks: u32, hit_blocks: u32, load_blocks: f64) -> f64 {
    f64::from(prompt_blocks.saturating_sub(hit_blocks)) + LOAD_WEIGHT * load_blocks
}

/// Why a seller was not taken into the index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an index holds at most {PREFIX_SELLERS_MAX} sellers")]
pub struct PrefixIndexFull;

#[derive(Debug, Clone)]
struct Holder {
    seller: SellerName,
    blocks: Lru<BlockHash, ()>,
    load_blocks: f64,
    load_at: UnixMs,
}

impl Holder {
    /// The load at `now`: halved for every half-life that passed, and linear in between, which needs no
    /// exponential function.
    fn load(&self, now: UnixMs) -> f64 {
        let passed = now.since(self.load_at).0;
        let halvings = passed / LOAD_HALF_LIFE_MS;
        if halvings >= 64 {
            return 0.0;
        }
        let rest = (passed % LOAD_HALF_LIFE_MS) as f64 / LOAD_HALF_LIFE_MS as f64;
        self.load_blocks / (1u64 << halvings) as f64 * (1.0 - rest / 2.0)
    }
}

/// Prefixes by seller, for one model.
#[derive(Debug, Clone, Default)]
pub struct PrefixIndex {
    holders: BTreeMap<u32, Holder>,
    slots: HashMap<SellerName, u32>,
    /// Slots of the sellers that hold a block, sorted.
    owners: HashMap<BlockHash, Vec<u32>>,
    next_slot: u32,
}

impl PrefixIndex {
    /// Takes a seller in, or changes how many blocks its cache can hold (1 to [`PREFIX_BLOCKS_MAX`]).
    /// What it holds beyond that is forgotten.
    pub fn set_seller(&mut self, seller: &SellerName, cache_blocks: usize) -> Result<(), PrefixIndexFull> {
        let capacity = cache_blocks.min(PREFIX_BLOCKS_MAX);
        if let Some(holder) = self.slots.get(seller).and_then(|slot| self.holders.get_mut(slot)) {
            let slot = self.slots[seller];
            for (block, ()) in holder.blocks.set_capacity(capacity) {
                disown(&mut self.owners, block, slot);
            }
            return Ok(());
        }
        if self.holders.len() >= PREFIX_SELLERS_MAX {
            return Err(PrefixIndexFull);
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        let holder = Holder {
            seller: seller.clone(),
            blocks: Lru::new(capacity),
            load_blocks: 0.0,
            load_at: UnixMs(0),
        };
        self.holders.insert(slot, holder);
        self.slots.insert(seller.clone(), slot);
        Ok(())
    }

    /// Forgets a seller, such as a node that left or was restarted.
    pub fn remove_seller(&mut self, seller: &SellerName) {
        let Some(slot) = self.slots.remove(seller) else { return };
        let Some(holder) = self.holders.remove(&slot) else { return };
        for block in holder.blocks.keys() {
            disown(&mut self.owners, *block, slot);
        }
    }

    /// A prompt of these blocks was given to the seller: it has the work of those that it does not hold.
    pub fn on_start(&mut self, seller: &SellerName, blocks: &[BlockHash], now: UnixMs) {
        let blocks = &blocks[..blocks.len().min(PROMPT_BLOCKS_MAX)];
        let Some(holder) = self.slots.get(seller).and_then(|slot| self.holders.get_mut(slot)) else { return };
        let hit = blocks.iter().take_while(|block| holder.blocks.peek(*block).is_some()).count();
        holder.load_blocks = holder.load(now) + (blocks.len() - hit) as f64;
        holder.load_at = now.max(holder.load_at);
    }

    /// The seller answered a prompt of these blocks: it holds them. Blocks beyond [`PROMPT_BLOCKS_MAX`] and beyond
    /// the seller's memory are not remembered.
    pub fn on_success(&mut self, seller: &SellerName, blocks: &[BlockHash]) {
        let Some(slot) = self.slots.get(seller).copied() else { return };
        let Some(holder) = self.holders.get_mut(&slot) else { return };
        let kept = blocks.len().min(PROMPT_BLOCKS_MAX).min(holder.blocks.capacity());
        for block in blocks[..kept].iter().rev() {
            if holder.blocks.touch(block).is_some() {
                continue;
            }
            if let Some((gone, ())) = holder.blocks.insert(*block, ()) {
                disown(&mut self.owners, gone, slot);
            }
            let owners = self.owners.entry(*block).or_default();
            if let Err(at) = owners.binary_search(&slot) {
                owners.insert(at, slot);
            }
        }
    }

    /// Both at once.
    pub fn on_dispatch(&mut self, seller: &SellerName, blocks: &[BlockHash], now: UnixMs) {
        self.on_start(seller, blocks, now);
        self.on_success(seller, blocks);
    }

    /// What every seller holds of this prompt, in the order in which they came.
    pub fn matches(&self, blocks: &[BlockHash], now: UnixMs) -> Vec<PrefixMatch> {
        let hits = self.hits(blocks);
        let hit = |slot: u32| hits.binary_search_by_key(&slot, |(s, _)| *s).map_or(0, |at| hits[at].1);
        let holders = self.holders.iter();
        holders
            .map(|(slot, holder)| PrefixMatch {
                seller: holder.seller.clone(),
                blocks: hit(*slot),
                load_blocks: holder.load(now),
            })
            .collect()
    }

    /// The seller where the prompt costs least; the first that came, of several. None without sellers.
    pub fn cheapest(&self, blocks: &[BlockHash], now: UnixMs) -> Option<PrefixMatch> {
        let count = blocks.len().min(PROMPT_BLOCKS_MAX) as u32;
        let by_cost = |a: &PrefixMatch, b: &PrefixMatch| a.cost(count).total_cmp(&b.cost(count));
        self.matches(blocks, now).into_iter().min_by(by_cost)
    }

    /// For the [`WARMTHS_MAX`] sellers where the prompt costs least, how many tokens less than at the dearest one;
    /// those that save none are left out.
    pub fn savings(&self, blocks: &[BlockHash], block_tokens: u32, now: UnixMs) -> Vec<(SellerName, u32)> {
        let count = blocks.len().min(PROMPT_BLOCKS_MAX) as u32;
        let mut hits = self.hits(blocks).into_iter().peekable();
        let cost = |(slot, holder): (&u32, &Holder)| {
            // Both are sorted by slot.
            let hit = hits.next_if(|(hit, _)| hit == slot).map_or(0, |(_, blocks)| blocks);
            (prefix_cost(count, hit, holder.load(now)), *slot)
        };
        let mut costs: Vec<(f64, u32)> = self.holders.iter().map(cost).collect();
        let dearest = costs.iter().fold(0.0f64, |most, (cost, _)| most.max(*cost));
        if costs.len() > WARMTHS_MAX {
            costs.select_nth_unstable_by(WARMTHS_MAX, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            costs.truncate(WARMTHS_MAX);
        }
        let saving = |(cost, slot): (f64, u32)| {
            let tokens = ((dearest - cost) * f64::from(block_tokens)) as u32;
            (tokens > 0).then(|| (self.holders[&slot].seller.clone(), tokens))
        };
        costs.into_iter().filter_map(saving).collect()
    }

    /// What a plan takes: [`PrefixIndex::savings`] in the order of their offers. Among offers of one price the
    /// order of their costs is then that of [`PrefixMatch::cost`], load included.
    pub fn warmth(
        &self,
        blocks: &[BlockHash],
        block_tokens: u32,
        model: &str,
        snapshot: &MarketSnapshot,
        now: UnixMs,
    ) -> Vec<Warmth> {
        let warmth = |(seller, tokens): (SellerName, u32)| {
            let offer = snapshot.index_of(model, seller.as_str())?;
            Some(Warmth { offer, tokens, saving: Saving::Work })
        };
        let mut warmth: Vec<Warmth> =
            self.savings(blocks, block_tokens, now).into_iter().filter_map(warmth).collect();
        warmth.sort_by_key(|warmth| warmth.offer);
        warmth
    }

    /// Blocks remembered, of all sellers together.
    pub fn blocks_held(&self) -> usize {
        self.holders.values().map(|holder| holder.blocks.len()).sum()
    }

    /// Slots that hold at least the first block, sorted, with how many blocks from the start they hold.
    fn hits(&self, blocks: &[BlockHash]) -> Vec<(u32, u32)> {
        let mut alive: Vec<u32> = Vec::new();
        let mut ended = Vec::new();
        for (depth, block) in (0u32..).zip(blocks.iter().take(PROMPT_BLOCKS_MAX)) {
            let owners = self.owners.get(block).map_or(&[][..], Vec::as_slice);
            if depth == 0 {
                alive.extend_from_slice(owners);
            }
            // Who holds a block holds all before it, because roots outlive what hangs on them: as many holders are
            // the same holders.
            if owners.len() == alive.len() && depth > 0 {
                continue;
            }
            alive.retain(|slot| {
                let holds = owners.binary_search(slot).is_ok();
                if !holds {
                    ended.push((*slot, depth));
                }
                holds
            });
            if alive.is_empty() {
                break;
            }
        }
        let whole = blocks.len().min(PROMPT_BLOCKS_MAX) as u32;
        ended.extend(alive.into_iter().map(|slot| (slot, whole)));
        ended.sort_unstable();
        ended
    }
}

fn disown(owners: &mut HashMap<BlockHash, Vec<u32>>, block: BlockHash, slot: u32) {
    let Some(list) = owners.get_mut(&block) else { return };
    if let Ok(at) = list.binary_search(&slot) {
        list.remove(at);
    }
    if list.is_empty() {
        owners.remove(&block);
    }
}

#[cfg(test)]
mod tests;

//! Which node holds the beginning of a prompt, so that what one has computed is not computed again by another.
//!
//! The index is the market's ([`PrefixIndex`]); here prompts become blocks. A node's cache counts tokens, and the gateway
//! has no tokenizer: its blocks are of [`BLOCK_BYTES`] bytes, hashed in a chain over the prompt as the buyer wrote it
//! ([`Job::prompt_texts`]). A conversation that goes on is the same bytes and some more, which is what matters; the same
//! tokens in other bytes are taken for another prompt, and cost what they would cost anyway.
//!
//! Only nodes are looked after, for what a hosted API caches shows in its bill (see `conversation`), and only models that
//! two or more of them sell: with one there is nothing to choose, and nothing is hashed. Work counts when a node is
//! asked, blocks when it has answered. A node that leaves is forgotten with what it held, for it comes back empty.

use crate::config::NODES_MAX;
use crate::node::NodeHandle;
use bourse_market::{
    BlockHash, MarketSnapshot, PREFIX_SELLERS_MAX, PROMPT_BLOCKS_MAX, PrefixIndex, Saving, WARMTHS_MAX,
    Warmth,
};
use bourse_types::{ModelSlug, SellerName, UnixMs};
use bourse_wire::dialect::Job;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of one block.
const BLOCK_BYTES: usize = 512;
/// Tokens that a block stands for, for weighing.
const BLOCK_TOKENS: u32 = 128;
/// Bytes of a prompt that are looked at: more say nothing new, and hashing them would hold other requests up.
pub(crate) const PREFIX_BYTES_MAX: usize = 256 * 1024;
/// Most blocks that are remembered, of all nodes together: some 30 MB for 128 MiB of prompts.
pub(crate) const PREFIX_BLOCKS_HELD_MAX: usize = 256 * 1024;
/// Ends a text: a byte that is in none.
const END: u8 = 0xFF;

const _: () = {
    assert!(PREFIX_BYTES_MAX / BLOCK_BYTES <= PROMPT_BLOCKS_MAX);
    assert!(NODES_MAX <= PREFIX_SELLERS_MAX && NODES_MAX <= PREFIX_BLOCKS_HELD_MAX);
};

/// What is known of the nodes' caches.
#[derive(Default)]
pub(crate) struct Prefixes {
    /// Whether there are pools at all: most markets have none, and take no lock to see it.
    is_used: AtomicBool,
    /// By model.
    pools: Mutex<Vec<Pool>>,
}

/// The nodes that sell one model.
struct Pool {
    model: ModelSlug,
    nodes: Vec<Arc<NodeHandle>>,
    index: PrefixIndex,
}

/// A prompt that nodes may have seen the beginning of.
#[derive(Debug)]
pub(crate) struct Prefix {
    pub(crate) blocks: Arc<Vec<BlockHash>>,
    /// Where it costs less than at the dearest node of the model, and by how many tokens.
    savings: Vec<(ModelSlug, SellerName, u32)>,
}

impl Prefix {
    /// What a plan takes.
    pub(crate) fn warmth(&self, snapshot: &MarketSnapshot) -> impl Iterator<Item = Warmth> {
        self.savings.iter().filter_map(|(model, seller, tokens)| {
            let offer = snapshot.index_of(model.as_str(), seller.as_str())?;
            Some(Warmth { offer, tokens: *tokens, saving: Saving::Work })
        })
    }
}

impl Prefixes {
    /// Takes over who is connected. A node with a new link has a new cache.
    pub(crate) fn set_nodes(&self, nodes: &[Arc<NodeHandle>]) {
        let mut pools = self.pools.lock();
        let is_in =
            |list: &[Arc<NodeHandle>], node: &Arc<NodeHandle>| list.iter().any(|n| Arc::ptr_eq(n, node));
        for pool in &mut *pools {
            let Pool { nodes: known, index, .. } = pool;
            for gone in known.extract_if(.., |node| !is_in(nodes, node)) {
                index.remove_seller(&gone.seller);
            }
        }
        for node in nodes {
            let at = match pools.binary_search_by(|pool| pool.model.cmp(node.model())) {
                Ok(at) => at,
                Err(at) => {
                    let model = node.model().clone();
                    pools.insert(at, Pool { model, nodes: Vec::new(), index: PrefixIndex::default() });
                    at
                }
            };
            if !is_in(&pools[at].nodes, node) {
                pools[at].nodes.push(Arc::clone(node));
            }
        }
        pools.retain(|pool| !pool.nodes.is_empty());
        let share = PREFIX_BLOCKS_HELD_MAX / nodes.len().max(1);
        for Pool { nodes, index, .. } in &mut *pools {
            for node in nodes {
                let held = node.cache_tokens_max().div_ceil(u64::from(BLOCK_TOKENS));
                let held = usize::try_from(held).unwrap_or(usize::MAX).min(share);
                // The index has room for more nodes than may connect.
                let _ = index.set_seller(&node.seller, held);
            }
        }
        self.is_used.store(!pools.is_empty(), Ordering::Relaxed);
    }

    /// What nodes hold of a job's prompt; none where there is nothing to choose.
    pub(crate) fn look(&self, job: &Job, now: UnixMs) -> Option<Prefix> {
        let is_read_by_nodes = job.passed.is_none() && job.needs.media_parts == 0;
        if !self.is_used.load(Ordering::Relaxed) || !is_read_by_nodes {
            return None;
        }
        let models = || std::iter::once(&job.model).chain(&job.fallbacks);
        let has_choice = |pool: &Pool| pool.nodes.len() > 1;
        let pools = self.pools.lock();
        if !models().any(|model| find(&pools, model).is_some_and(has_choice)) {
            return None;
        }
        // Other requests do not wait while this one is hashed.
        drop(pools);
        let blocks = blocks_of(job);
        let pools = self.pools.lock();
        let of_model = |model| {
            let pool = find(&pools, model).filter(|pool| has_choice(pool))?;
            let savings = pool.index.savings(&blocks, BLOCK_TOKENS, now).into_iter();
            Some(savings.map(|(seller, tokens)| (model.clone(), seller, tokens)))
        };
        let savings = models().filter_map(of_model).flatten().take(WARMTHS_MAX).collect();
        Some(Prefix { blocks: Arc::new(blocks), savings })
    }

    /// A node was asked.
    pub(crate) fn started(&self, model: &ModelSlug, seller: &SellerName, blocks: &[BlockHash], now: UnixMs) {
        let mut pools = self.pools.lock();
        if let Ok(at) = pools.binary_search_by(|pool| pool.model.cmp(model)) {
            pools[at].index.on_start(seller, blocks, now);
        }
    }

    /// A node has answered.
    pub(crate) fn answered(&self, model: &ModelSlug, seller: &SellerName, blocks: &[BlockHash]) {
        let mut pools = self.pools.lock();
        if let Ok(at) = pools.binary_search_by(|pool| pool.model.cmp(model)) {
            pools[at].index.on_success(seller, blocks);
        }
    }

    /// Blocks that are remembered.
    #[cfg(test)]
    pub(crate) fn blocks_held(&self) -> usize {
        self.pools.lock().iter().map(|pool| pool.index.blocks_held()).sum()
    }
}

fn find<'a>(pools: &'a [Pool], model: &ModelSlug) -> Option<&'a Pool> {
    pools.binary_search_by(|pool| pool.model.cmp(model)).ok().and_then(|at| pools.get(at))
}

/// The whole blocks of a prompt, each named by the hash of everything up to its end.
fn blocks_of(job: &Job) -> Vec<BlockHash> {
    let mut hasher = blake3::Hasher::new();
    let (mut blocks, mut read) = (Vec::new(), 0);
    for text in job.prompt_texts() {
        let mut rest = text.as_bytes();
        while !rest.is_empty() && read < PREFIX_BYTES_MAX {
            let (piece, after) = rest.split_at(rest.len().min(BLOCK_BYTES - read % BLOCK_BYTES));
            hasher.update(piece);
            (rest, read) = (after, read + piece.len());
            if read % BLOCK_BYTES == 0 {
                let hash = hasher.finalize();
                blocks.push(BlockHash(u64::from_le_bytes(std::array::from_fn(|n| hash.as_bytes()[n]))));
            }
        }
        hasher.update(&[END]);
    }
    blocks
}

#[cfg(test)]
mod tests;

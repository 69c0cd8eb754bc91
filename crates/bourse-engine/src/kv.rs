//! Which block of the KV cache belongs to whom, and which can be found again.
//!
//! A block holds 32 positions. Running sequences hold blocks by reference; a full block is published under
//! the hash of all tokens up to its end, so that another sequence with the same beginning takes it over
//! instead of computing it. A published block that nobody holds stays until room is needed; then the one
//! that was let go longest ago is evicted. Keys and values are a function of the tokens before them alone
//! (the engine's bits do not depend on anything else), so a block found again is the block computed again.

use std::collections::{BTreeMap, HashMap};

use crate::kernels::KV_BLOCK_TOKENS;

const CHAIN_DOMAIN: &[u8] = b"bourse/kv-chain/1";

/// Names the tokens from a sequence's start to the end of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChainHash([u8; 32]);

impl ChainHash {
    /// The hash of no tokens.
    pub(crate) const START: Self = Self([0; 32]);

    /// The hash after one more block of tokens.
    pub(crate) fn next(self, tokens: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CHAIN_DOMAIN);
        hasher.update(&self.0);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    holders: u32,
    published: Option<ChainHash>,
    /// When it was last let go; its key among the idle ones.
    idle_since: u64,
}

/// All blocks of one cache.
#[derive(Debug)]
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<u32>,
    published: HashMap<ChainHash, u32>,
    /// Published blocks without holders, the one let go longest ago first.
    idle: BTreeMap<u64, u32>,
    clock: u64,
}

impl BlockPool {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); blocks],
            free: (0..blocks as u32).rev().collect(),
            published: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Blocks in all.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that nobody holds, published ones included.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// The published blocks with which these full blocks of tokens begin, and how many of them are idle.
    pub(crate) fn find(&self, tokens: &[u32]) -> (Vec<u32>, usize) {
        let mut chain = ChainHash::START;
        let found: Vec<u32> = tokens
            .as_chunks::<KV_BLOCK_TOKENS>()
            .0
            .iter()
            .map_while(|tokens| {
                chain = chain.next(tokens);
                self.published.get(&chain).copied()
            })
            .collect();
        let idle = found.iter().filter(|&&block| self.blocks[block as usize].holders == 0).count();
        (found, idle)
    }

    /// Holds a published block.
    pub(crate) fn hold(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        if entry.holders == 0 {
            self.idle.remove(&entry.idle_since);
        }
        entry.holders += 1;
    }

    /// Holds a fresh block, evicting an idle one if there is no other. None if all are held.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        let block = self.free.pop().or_else(|| {
            let (_, block) = self.idle.pop_first()?;
            if let Some(hash) = self.blocks[block as usize].published.take() {
                self.published.remove(&hash);
            }
            Some(block)
        })?;
        self.blocks[block as usize].holders = 1;
        Some(block)
    }

    /// Lets others find a full block that is held. If they find another one already, nothing changes.
    pub(crate) fn publish(&mut self, block: u32, hash: ChainHash) {
        let entry = &mut self.blocks[block as usize];
        if entry.published.is_none() && !self.published.contains_key(&hash) {
            entry.published = Some(hash);
            self.published.insert(hash, block);
        }
    }

    /// Lets go of a sequence's blocks. The last ones become idle first, so that they are evicted first: a
    /// beginning is of use without its continuation, but not the other way round.
    pub(crate) fn release(&mut self, table: &[u32]) {
        for &block in table.iter().rev() {
            self.clock += 1;
            let entry = &mut self.blocks[block as usize];
            entry.holders -= 1;
            if entry.holders > 0 {
                continue;
            }
            if entry.published.is_some() {
                entry.idle_since = self.clock;
                self.idle.insert(self.clock, block);
            } else {
                self.free.push(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(seed: u32, blocks: usize) -> Vec<u32> {
        (0..blocks * KV_BLOCK_TOKENS).map(|i| seed * 1000 + i as u32).collect()
    }

    fn publish(pool: &mut BlockPool, tokens: &[u32]) -> Vec<u32> {
        let mut chain = ChainHash::START;
        let mut table = Vec::new();
        for tokens in tokens.chunks(KV_BLOCK_TOKENS) {
            chain = chain.next(tokens);
            let block = pool.allocate().unwrap();
            pool.publish(block, chain);
            table.push(block);
        }
        table
    }

    #[test]
    fn a_published_beginning_is_found_by_its_tokens_alone() {
        let mut pool = BlockPool::new(8);
        let table = publish(&mut pool, &tokens(1, 3));
        assert_eq!(pool.find(&tokens(1, 3)), (table.clone(), 0));
        assert_eq!(pool.find(&tokens(1, 3)[..70]), (table[..2].to_vec(), 0));
        assert_eq!(pool.find(&tokens(2, 3)), (vec![], 0));
        // The second block alone is not a beginning.
        assert_eq!(pool.find(&tokens(1, 3)[32..]), (vec![], 0));
    }

    #[test]
    fn the_end_of_what_was_let_go_first_is_evicted_first() {
        let mut pool = BlockPool::new(4);
        let old = publish(&mut pool, &tokens(1, 2));
        let new = publish(&mut pool, &tokens(2, 2));
        assert_eq!(pool.allocate(), None);
        pool.release(&old);
        pool.release(&new);
        assert_eq!(pool.available(), 4);
        assert_eq!(pool.allocate(), Some(old[1]));
        assert_eq!(pool.find(&tokens(1, 2)).0, vec![old[0]]);
        assert_eq!(pool.allocate(), Some(old[0]));
        assert_eq!(pool.allocate(), Some(new[1]));
        assert_eq!(pool.find(&tokens(2, 2)), (vec![new[0]], 1));
    }

    #[test]
    fn a_shared_block_stays_until_the_last_holder_lets_go() {
        let mut pool = BlockPool::new(1);
        let table = publish(&mut pool, &tokens(1, 1));
        pool.hold(table[0]);
        pool.release(&table);
        assert_eq!(pool.allocate(), None);
        pool.release(&table);
        pool.hold(table[0]);
        assert_eq!(pool.allocate(), None);
        pool.release(&table);
        assert_eq!(pool.allocate(), Some(table[0]));
    }
}

//! The append-only receipts log: bounded memory, roots at any time, proofs for any leaf.
//!
//! The tree is stored in *tiles*: 256 neighbouring hashes of one of the levels 0, 8, 16 …. A full tile
//! never changes, so the keeper stores it once (8 KiB per 256 receipts, plus 1/255 for the levels above)
//! and the log itself keeps only the partial tile of each level, at most 8 × 255 hashes. Every hash of the
//! tree is recomputed from one tile, which makes a proof a handful of reads and a few hundred hashes.
//! [`MerkleLog::append`] is amortised constant; [`MerkleLog::root`] takes at most 63 hashes.
//!
//! After a restart the log comes back from [`MerkleLog::to_state_bytes`]; or, without them, by appending
//! the leaf hashes again.

use crate::merkle::{Frontier, ProofError, node_hash};
use bourse_types::Digest32;

/// Hashes in a full tile.
pub const TILE_HASHES: usize = 256;
/// Levels of the tree that one tile spans.
const TILE_HEIGHT: u32 = 8;
/// Levels of tiles: 256⁸ leaves are more than a `u64` counts.
const TILE_LEVELS: usize = 8;

/// 256 neighbouring hashes, complete for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Tiles of level *k* hold hashes of subtrees of 256ᵏ leaves.
    pub level: u8,
    /// Position among the tiles of its level.
    pub index: u64,
    /// The hashes, left to right.
    pub hashes: Box<[Digest32; TILE_HASHES]>,
}

impl Tile {
    /// The hashes as 8 KiB.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| hash.0).collect()
    }

    /// Reads [`Tile::to_bytes`]; none unless there are exactly 8 KiB.
    pub fn from_bytes(level: u8, index: u64, bytes: &[u8]) -> Option<Self> {
        let hashes: Box<[Digest32]> = read_hashes(bytes)?.into();
        Some(Self { level, index, hashes: hashes.try_into().ok()? })
    }
}

/// Where full tiles are kept.
pub trait TileSource {
    /// The tile, if it is there. A store that fails returns none and remembers why.
    fn tile(&self, level: u8, index: u64) -> Option<Tile>;
}

/// Full tiles in memory: for tests and simulations.
#[derive(Debug, Clone, Default)]
pub struct MemoryTiles {
    levels: Vec<Vec<Tile>>,
}

impl MemoryTiles {
    /// Keeps a tile. Tiles of a level come in order, as [`MerkleLog::append`] hands them out.
    pub fn keep(&mut self, tile: Tile) {
        let level = usize::from(tile.level);
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Vec::new());
        }
        self.levels[level].push(tile);
    }
}

impl TileSource for MemoryTiles {
    fn tile(&self, level: u8, index: u64) -> Option<Tile> {
        let at = usize::try_from(index).ok()?;
        self.levels.get(usize::from(level))?.get(at).filter(|tile| tile.index == index).cloned()
    }
}

/// Why state bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state of the log is malformed")]
pub struct StateError;

/// The log: its newest edge, and proofs with the help of stored tiles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MerkleLog {
    frontier: Frontier,
    /// The partial tile of each level; `partial[k].len()` is digit *k* of the size in base 256.
    partial: [Vec<Digest32>; TILE_LEVELS],
}

impl MerkleLog {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Root over all leaves.
    pub fn root(&self) -> Digest32 {
        self.frontier.root()
    }

    /// Appends a leaf's hash. Returns the tiles that became full, lowest level first; they must be kept
    /// for proofs, in the same transaction as the leaf. Usually none, every 256th time one.
    pub fn append(&mut self, leaf: Digest32) -> Vec<Tile> {
        let size = self.size();
        let mut full = Vec::new();
        let Self { frontier, partial } = self;
        frontier.append(leaf, |height, hash| {
            let level = (height / TILE_HEIGHT) as usize;
            if !height.is_multiple_of(TILE_HEIGHT) || level >= TILE_LEVELS {
                return;
            }
            partial[level].push(*hash);
            if partial[level].len() == TILE_HASHES {
                let hashes = std::mem::take(&mut partial[level]).into_boxed_slice();
                let index = full_tiles(size, level);
                if let Ok(hashes) = hashes.try_into() {
                    full.push(Tile { level: level as u8, index, hashes });
                }
            }
        });
        full
    }

    /// The path that proves leaf `index` in the tree of the first `size` leaves, lowest first.
    pub fn inclusion(
        &self,
        tiles: &impl TileSource,
        index: u64,
        size: u64,
    ) -> Result<Vec<Digest32>, ProofError> {
        if size > self.size() {
            return Err(ProofError::OutOfRange { index: size, size: self.size() });
        }
        if index >= size {
            return Err(ProofError::OutOfRange { index, size });
        }
        let mut reader = Reader { log: self, tiles, cached: Vec::new() };
        let (mut begin, mut end) = (0, size);
        let mut siblings = Vec::new();
        while end - begin > 1 {
            let middle = begin + split(end - begin);
            let (sibling, rest) = if index < middle {
                ((middle, end), (begin, middle))
            } else {
                ((begin, middle), (middle, end))
            };
            siblings.push(sibling);
            (begin, end) = rest;
        }
        siblings.iter().rev().map(|(begin, end)| reader.range(*begin, *end)).collect()
    }

    /// The path that proves the tree of `old_size` leaves to be a prefix of the tree of `new_size`.
    pub fn consistency(
        &self,
        tiles: &impl TileSource,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Digest32>, ProofError> {
        if new_size > self.size() {
            return Err(ProofError::OutOfRange { index: new_size, size: self.size() });
        }
        if old_size > new_size {
            return Err(ProofError::OutOfRange { index: old_size, size: new_size });
        }
        if old_size == 0 || old_size == new_size {
            return Ok(Vec::new());
        }
        let mut reader = Reader { log: self, tiles, cached: Vec::new() };
        let (mut begin, mut end) = (0, new_size);
        let mut ranges = Vec::new();
        while end != old_size {
            let middle = begin + split(end - begin);
            if old_size <= middle {
                ranges.push((middle, end));
                end = middle;
            } else {
                ranges.push((begin, middle));
                begin = middle;
            }
        }
        // A complete old tree is known to the verifier; a part of it has to be told.
        if begin != 0 {
            ranges.push((begin, end));
        }
        ranges.iter().rev().map(|(begin, end)| reader.range(*begin, *end)).collect()
    }

    /// Everything needed to go on after a restart: the size and the partial tiles, at most 64 KiB.
    pub fn to_state_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size().to_le_bytes().to_vec();
        bytes.extend(self.partial.iter().flatten().flat_map(|hash| hash.0));
        bytes
    }

    /// Reads [`MerkleLog::to_state_bytes`]; every byte is accounted for.
    pub fn from_state_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(StateError)?;
        let size = u64::from_le_bytes(*size);
        if size == u64::MAX {
            // No leaf could be appended any more.
            return Err(StateError);
        }
        let mut hashes = read_hashes(rest).ok_or(StateError)?.into_iter();
        let mut partial: [Vec<Digest32>; TILE_LEVELS] = Default::default();
        for (level, tile) in partial.iter_mut().enumerate() {
            let count = digit(size, level);
            *tile = hashes.by_ref().take(count).collect();
            if tile.len() != count {
                return Err(StateError);
            }
        }
        if hashes.next().is_some() {
            return Err(StateError);
        }
        let peaks = partial.iter().rev().flat_map(|tile| peaks_of(tile)).collect();
        Ok(Self { frontier: Frontier::from_peaks(size, peaks), partial })
    }
}

/// Recomputes hashes of the tree from tiles, reading each tile once per proof.
struct Reader<'a, S> {
    log: &'a MerkleLog,
    tiles: &'a S,
    cached: Vec<Tile>,
}

impl<S: TileSource> Reader<'_, S> {
    /// Root of the subtree over leaves `begin..end`, which starts where a subtree of that size can start.
    fn range(&mut self, begin: u64, end: u64) -> Result<Digest32, ProofError> {
        let length = end - begin;
        if length.is_power_of_two() {
            let height = length.trailing_zeros();
            return self.complete(height, begin >> height);
        }
        let middle = begin + split(length);
        let right = self.range(middle, end)?;
        Ok(node_hash(&self.range(begin, middle)?, &right))
    }

    /// Hash of the complete subtree of 2^`height` leaves at `position` among its like.
    fn complete(&mut self, height: u32, position: u64) -> Result<Digest32, ProofError> {
        let level = (height / TILE_HEIGHT) as usize;
        let within = height % TILE_HEIGHT;
        let (count, first) = (1usize << within, position << within);
        let (index, offset) = (first / TILE_HASHES as u64, (first % TILE_HASHES as u64) as usize);
        let missing = ProofError::MissingTile { level: level as u8, index };
        let is_partial = index == full_tiles(self.log.size(), level);
        let hashes: &[Digest32] = if is_partial {
            self.log.partial.get(level).ok_or(missing)?
        } else {
            let known = self.cached.iter().position(|t| usize::from(t.level) == level && t.index == index);
            let at = if let Some(at) = known {
                at
            } else {
                self.cached.push(self.tiles.tile(level as u8, index).ok_or(missing)?);
                self.cached.len() - 1
            };
            self.cached[at].hashes.as_slice()
        };
        let mut hashes = hashes.get(offset..offset + count).ok_or(missing)?.to_vec();
        while hashes.len() > 1 {
            hashes = hashes.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        hashes.first().copied().ok_or(missing)
    }
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

/// Full tiles at `level` in a log of `size` leaves: the position of its partial tile.
fn full_tiles(size: u64, level: usize) -> u64 {
    size.checked_shr(TILE_HEIGHT * (level as u32 + 1)).unwrap_or(0)
}

/// Digit `level` of `size` in base 256.
fn digit(size: u64, level: usize) -> usize {
    (size >> (TILE_HEIGHT as usize * level) & 0xff) as usize
}

/// Roots of the complete subtrees over a partial tile's hashes, largest first.
fn peaks_of(hashes: &[Digest32]) -> Vec<Digest32> {
    let mut frontier = Frontier::default();
    for hash in hashes {
        frontier.append(*hash, |_, _| {});
    }
    frontier.into_peaks()
}

fn read_hashes(bytes: &[u8]) -> Option<Vec<Digest32>> {
    let chunks = bytes.chunks_exact(32);
    if !chunks.remainder().is_empty() {
        return None;
    }
    chunks.map(|chunk| chunk.try_into().ok().map(Digest32)).collect()
}

#[cfg(test)]
mod tests;

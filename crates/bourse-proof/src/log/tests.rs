use super::*;
use crate::merkle::{empty_root, leaf_hash, verify_consistency, verify_inclusion};
use proptest::prelude::*;

fn leaf(n: u64) -> Digest32 {
    leaf_hash(&n.to_le_bytes())
}

/// RFC 6962 §2.1, word for word: the reference that everything is compared with.
fn reference_root(leaves: &[Digest32]) -> Digest32 {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(split(more.len() as u64) as usize);
            node_hash(&reference_root(left), &reference_root(right))
        }
    }
}

/// RFC 6962 §2.1.1.
fn reference_path(index: usize, leaves: &[Digest32]) -> Vec<Digest32> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
    let (mut path, sibling) = if index < left.len() {
        (reference_path(index, left), reference_root(right))
    } else {
        (reference_path(index - left.len(), right), reference_root(left))
    };
    path.push(sibling);
    path
}

/// RFC 6962 §2.1.2.
fn reference_consistency(old: usize, leaves: &[Digest32], is_whole: bool) -> Vec<Digest32> {
    if old == leaves.len() {
        return if is_whole { Vec::new() } else { vec![reference_root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
    let (mut path, sibling) = if old <= left.len() {
        (reference_consistency(old, left, is_whole), reference_root(right))
    } else {
        (reference_consistency(old - left.len(), right, false), reference_root(left))
    };
    path.push(sibling);
    path
}

fn filled(size: u64) -> (MerkleLog, MemoryTiles, Vec<Digest32>) {
    let (mut log, mut tiles) = (MerkleLog::default(), MemoryTiles::default());
    for n in 0..size {
        for tile in log.append(leaf(n)) {
            tiles.keep(tile);
        }
    }
    (log, tiles, (0..size).map(leaf).collect())
}

#[test]
fn small_trees_match_the_reference_in_every_position() {
    for size in 0..40 {
        let (log, tiles, leaves) = filled(size);
        assert_eq!(log.root(), reference_root(&leaves));
        for old in 0..=size {
            let old_root = reference_root(&leaves[..old as usize]);
            let path = log.consistency(&tiles, old, size).unwrap();
            if old > 0 {
                assert_eq!(path, reference_consistency(old as usize, &leaves, true));
            }
            assert_eq!(verify_consistency(old, &old_root, size, &log.root(), &path), Ok(()), "{old} {size}");
            for index in 0..old {
                let path = log.inclusion(&tiles, index, old).unwrap();
                assert_eq!(path, reference_path(index as usize, &leaves[..old as usize]));
                assert_eq!(verify_inclusion(&leaf(index), index, old, &path, &old_root), Ok(()));
            }
        }
    }
}

#[test]
fn proofs_reach_across_tiles_and_tile_levels() {
    // Three tiles of the second level and more: 256 × 256 leaves fill one tile of level 1.
    let size = 65_536 + 700;
    let (log, tiles, leaves) = filled(size);
    assert_eq!(log.root(), reference_root(&leaves));
    for tree in [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, size] {
        let root = reference_root(&leaves[..tree as usize]);
        for index in [0, 1, 254, 255, 256, 65_535, 65_536, tree - 1].into_iter().filter(|i| *i < tree) {
            let path = log.inclusion(&tiles, index, tree).unwrap();
            assert_eq!(verify_inclusion(&leaf(index), index, tree, &path, &root), Ok(()), "{index} {tree}");
        }
        let path = log.consistency(&tiles, tree, size).unwrap();
        assert_eq!(verify_consistency(tree, &root, size, &log.root(), &path), Ok(()), "{tree}");
    }
}

#[test]
fn memory_is_bounded_by_partial_tiles() {
    let (log, ..) = filled(65_536 + 255);
    assert_eq!(log.partial.each_ref().map(Vec::len), [255, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(log.to_state_bytes().len(), 8 + 256 * 32);
}

#[test]
fn a_missing_tile_is_named() {
    let (log, ..) = filled(600);
    let refused = log.inclusion(&MemoryTiles::default(), 300, 600);
    assert_eq!(refused, Err(ProofError::MissingTile { level: 0, index: 1 }));
    assert!(
        log.inclusion(&MemoryTiles::default(), 599, 600).is_ok(),
        "the newest leaves need no stored tile"
    );
    let out = Err(ProofError::OutOfRange { index: 600, size: 600 });
    assert_eq!(log.inclusion(&MemoryTiles::default(), 600, 600), out);
    assert!(log.consistency(&MemoryTiles::default(), 1, 601).is_err());
}

#[test]
fn tiles_round_trip_as_bytes() {
    let (_, tiles, _) = filled(256);
    let tile = tiles.tile(0, 0).unwrap();
    let bytes = tile.to_bytes();
    assert_eq!(bytes.len(), TILE_HASHES * 32);
    assert_eq!(Tile::from_bytes(0, 0, &bytes), Some(tile));
    assert_eq!(Tile::from_bytes(0, 0, &bytes[1..]), None);
    assert_eq!(Tile::from_bytes(0, 0, &bytes[32..]), None);
    assert_eq!(tiles.tile(0, 1), None);
    assert_eq!(tiles.tile(9, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_state_restores_the_log(size in 0u64..1_500, more in 0u64..600) {
        let (log, ..) = filled(size);
        let mut restored = MerkleLog::from_state_bytes(&log.to_state_bytes()).unwrap();
        prop_assert_eq!(&restored, &log);
        for n in size..size + more {
            restored.append(leaf(n));
        }
        prop_assert_eq!(restored.root(), filled(size + more).0.root());
    }

    #[test]
    fn foreign_state_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..400) {
        if let Ok(log) = MerkleLog::from_state_bytes(&bytes) {
            prop_assert_eq!(log.to_state_bytes(), bytes);
        }
        let good = filled(10).0.to_state_bytes();
        prop_assert!(cut >= good.len() || MerkleLog::from_state_bytes(&good[..cut]).is_err());
    }

    #[test]
    fn changed_inclusion_proofs_fail(
        size in 1u64..600, index in 0u64..600, at in 0usize..70, bit in 0usize..256, kind in 0usize..6,
    ) {
        let index = index % size;
        let (log, tiles, _) = filled(size);
        let root = log.root();
        let mut path = log.inclusion(&tiles, index, size).unwrap();
        let (mut claimed_leaf, mut claimed_index, mut claimed_size) = (leaf(index), index, size);
        match kind {
            0 if !path.is_empty() => {
                let at = at % path.len();
                path[at].0[bit / 8] ^= 1 << (bit % 8);
            }
            1 if !path.is_empty() => drop(path.remove(at % path.len())),
            2 => path.insert(at.min(path.len()), root),
            3 => claimed_leaf = leaf(index + 1),
            4 if size > 1 => claimed_index = (index + 1 + at as u64 % (size - 1)) % size,
            _ => claimed_size = size + 1 + index,
        }
        // Another size can have the same shape around a leaf only where the path length tells nothing;
        // the signed checkpoint binds the size. So only a changed size may still verify.
        let verdict = verify_inclusion(&claimed_leaf, claimed_index, claimed_size, &path, &root);
        prop_assert!(verdict.is_err() || claimed_size != size);
    }

    #[test]
    fn changed_consistency_proofs_fail(
        new in 2u64..600, old in 1u64..600, at in 0usize..70, bit in 0usize..256, kind in 0usize..4,
    ) {
        let old = 1 + old % (new - 1);
        let (log, tiles, leaves) = filled(new);
        let mut old_root = reference_root(&leaves[..old as usize]);
        let mut new_root = log.root();
        let mut path = log.consistency(&tiles, old, new).unwrap();
        prop_assert_eq!(verify_consistency(old, &old_root, new, &new_root, &path), Ok(()));
        match kind {
            0 => {
                let at = at % path.len();
                path[at].0[bit / 8] ^= 1 << (bit % 8);
            }
            1 => drop(path.remove(at % path.len())),
            2 => old_root.0[bit / 8] ^= 1 << (bit % 8),
            _ => new_root.0[bit / 8] ^= 1 << (bit % 8),
        }
        prop_assert!(verify_consistency(old, &old_root, new, &new_root, &path).is_err());
    }

    #[test]
    fn foreign_proofs_never_panic(
        index: u64, size: u64, length in 0usize..80, hash: [u8; 32],
    ) {
        let path = vec![Digest32(hash); length];
        prop_assert!(verify_inclusion(&Digest32(hash), index, size, &path, &Digest32([0; 32])).is_err());
        prop_assert!(verify_consistency(index, &Digest32(hash), size, &Digest32([0; 32]), &path).is_err());
    }
}

#[test]
fn the_largest_tree_is_still_provable() {
    use crate::merkle::PATH_LENGTH_MAX;
    let path = vec![Digest32([1; 32]); 64];
    let refused = verify_inclusion(&leaf(0), 0, u64::MAX, &path, &Digest32([0; 32]));
    assert_eq!(refused, Err(ProofError::Root), "64 elements fit");
    let long = vec![Digest32([1; 32]); PATH_LENGTH_MAX + 1];
    let refused = verify_inclusion(&leaf(0), 0, u64::MAX, &long, &Digest32([0; 32]));
    assert_eq!(refused, Err(ProofError::PathLength(PATH_LENGTH_MAX + 1)));
}

#[test]
fn an_empty_tree_is_a_prefix_of_every_tree() {
    let (log, ..) = filled(3);
    assert_eq!(verify_consistency(0, &empty_root(), 3, &log.root(), &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty_root(), 0, &empty_root(), &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty_root(), 0, &log.root(), &[]), Err(ProofError::Root));
    assert_eq!(verify_consistency(0, &log.root(), 3, &log.root(), &[]), Err(ProofError::Root));
    assert_eq!(verify_consistency(3, &log.root(), 3, &log.root(), &[]), Ok(()));
    assert_eq!(verify_consistency(3, &leaf(1), 3, &log.root(), &[]), Err(ProofError::Root));
    assert!(verify_consistency(4, &log.root(), 3, &log.root(), &[]).is_err());
    assert!(verify_consistency(3, &log.root(), 3, &log.root(), &[leaf(1)]).is_err());
}

/// The test vectors of Certificate Transparency: whoever checks their logs can check ours.
#[test]
fn roots_are_those_of_certificate_transparency() {
    let leaves: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        b"@ABC",
        b"PQRSTUVW",
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut log = MerkleLog::default();
    for (leaf, root) in leaves.into_iter().zip(roots) {
        log.append(leaf_hash(leaf));
        assert_eq!(log.root().to_string(), root);
    }
}

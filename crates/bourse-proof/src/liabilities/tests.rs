//! Totals, proofs of every leaf, and the ways to cheat.

use super::*;
use crate::receipt::Outcome;
use crate::sign::Signer;
use bourse_types::UnixMs;
use bourse_wire::liability::{Epoch, LiabilityProof, SignedEpoch};
use proptest::prelude::*;

const SEED: [u8; 32] = [3; 32];

fn of(amounts: &[u128]) -> Liabilities {
    let amounts = amounts.iter().enumerate().map(|(n, amount)| (AccountId(n as u64 + 1), *amount));
    Liabilities::new(amounts.collect()).expect("few and small")
}

fn root_of(liabilities: &Liabilities) -> SumNode {
    let hash = liabilities.tree(&SEED).root();
    SumNode { hash, sum_nano_usd: liabilities.total_nano_usd() }
}

/// Everything that an account shows, and what it is checked against.
#[derive(Clone)]
struct Shown {
    leaf: Liability,
    index: u64,
    path: Vec<SumNode>,
    count: u64,
    root: SumNode,
}

impl Shown {
    fn of(liabilities: &Liabilities, account: u64) -> Self {
        let proof = liabilities.tree(&SEED).prove(AccountId(account));
        let (leaf, index, path) = proof.expect("an account of these");
        Self { leaf, index, path, count: liabilities.count(), root: root_of(liabilities) }
    }

    fn check(&self) -> Result<(), InclusionError> {
        verify_inclusion(&self.leaf, self.index, &self.path, self.count, &self.root)
    }
}

/// A change to what is shown that leaves it as it was does not count as one.
fn check_refused(honest: &Shown, change: impl FnOnce(&mut Shown)) {
    let mut changed = honest.clone();
    change(&mut changed);
    assert!(changed.check().is_err());
}

proptest! {
    #[test]
    fn the_total_is_the_sum_and_every_leaf_proves(
        amounts in proptest::collection::vec(0u128..u128::from(u64::MAX), 1..70),
    ) {
        let liabilities = of(&amounts);
        prop_assert_eq!(liabilities.total_nano_usd(), amounts.iter().sum::<u128>());
        for (n, amount) in amounts.iter().enumerate() {
            let shown = Shown::of(&liabilities, n as u64 + 1);
            prop_assert_eq!(shown.leaf.amount_nano_usd, *amount);
            prop_assert!(shown.path.len() <= PATH_LENGTH_MAX);
            prop_assert_eq!(shown.check(), Ok(()));
        }
        prop_assert!(liabilities.tree(&SEED).prove(AccountId(0)).is_none());
    }

    #[test]
    fn whatever_is_changed_the_proof_fails(
        amounts in proptest::collection::vec(1u128..1_000, 1..40), which in any::<u64>(),
        by in 1u128..500, bit in 0usize..256,
    ) {
        let liabilities = of(&amounts);
        let honest = Shown::of(&liabilities, 1 + which % amounts.len() as u64);
        let flip = |digest: &mut Digest32| digest.0[bit / 8] ^= 1 << (bit % 8);
        check_refused(&honest, |shown| shown.leaf.amount_nano_usd += by);
        check_refused(&honest, |shown| flip(&mut shown.leaf.salt));
        check_refused(&honest, |shown| flip(&mut shown.leaf.account_digest));
        check_refused(&honest, |shown| flip(&mut shown.root.hash));
        check_refused(&honest, |shown| shown.root.sum_nano_usd += by);
        check_refused(&honest, |shown| shown.path.push(SumNode { hash: Digest32([0; 32]), sum_nano_usd: 0 }));
        for index in (0..honest.count).filter(|index| *index != honest.index) {
            check_refused(&honest, |shown| shown.index = index);
        }
        check_refused(&honest, |shown| shown.index = shown.count);
        for at in 0..honest.path.len() {
            check_refused(&honest, |shown| flip(&mut shown.path[at].hash));
            check_refused(&honest, |shown| shown.path[at].sum_nano_usd += by);
            check_refused(&honest, |shown| { shown.path.remove(at); });
            // More for the leaf, less for the sibling: the total stays, the root does not.
            check_refused(&honest, |shown| {
                let taken = shown.path[at].sum_nano_usd.min(by);
                shown.path[at].sum_nano_usd -= taken;
                shown.leaf.amount_nano_usd += taken.max(1);
            });
        }
    }
}

/// Two customers are owed 10 each, and the prover signs for 10. Where a node hashes its total and its children's
/// hashes only, `h(10 ‖ left ‖ right)` serves both: each is shown the other as one who is owed nothing.
#[test]
fn the_classic_attack_on_sums_convinces_one_of_two_at_most() {
    let honest = of(&[10, 10]);
    let shown = [1, 2].map(|account| Shown::of(&honest, account));
    let owing_nothing = |node: SumNode| SumNode { sum_nano_usd: 0, ..node };
    let believes = |victim: &Shown, root: SumNode| {
        let path = vec![owing_nothing(victim.path[0])];
        Shown { path, root, ..victim.clone() }.check()
    };
    for truth in &shown {
        // The root that this one believes.
        let (own, other) = (leaf_node(&truth.leaf), owing_nothing(truth.path[0]));
        let root = if truth.index == 0 { join(&own, &other) } else { join(&other, &own) };
        let root = root.expect("a small sum");
        assert_eq!(root.sum_nano_usd, 10);
        let convinced = shown.iter().filter(|victim| believes(victim, root).is_ok());
        assert_eq!(convinced.map(|victim| victim.index).collect::<Vec<_>>(), [truth.index]);
    }
    // What both believe is what both are owed.
    assert!(shown.iter().all(|shown| shown.check().is_ok() && shown.root.sum_nano_usd == 20));
}

#[test]
fn an_overflowing_sum_is_refused() {
    let of = |amounts: Vec<u128>| {
        let amounts = amounts.into_iter().enumerate().map(|(n, amount)| (AccountId(n as u64), amount));
        Liabilities::new(amounts.collect())
    };
    assert_eq!(of(vec![u128::MAX, 0]).unwrap().total_nano_usd(), u128::MAX);
    assert_eq!(of(vec![u128::MAX, 1]), Err(LiabilitiesError::Overflow));
    // A sibling so large that the sum would wrap to the total.
    let mut shown =
        Shown::of(&super::Liabilities::new(vec![(AccountId(1), 5), (AccountId(2), 6)]).unwrap(), 1);
    shown.path[0].sum_nano_usd = u128::MAX - 4;
    shown.root.sum_nano_usd = 0;
    assert_eq!(shown.check(), Err(InclusionError::Overflow));
}

#[test]
fn a_leaf_is_no_node_and_no_leaf_of_the_receipts_log() {
    let tree = of(&[1, 2]);
    let shown = Shown::of(&tree, 1);
    // A node's hash given as a leaf of a smaller tree.
    let (index, count) = (0, 1);
    assert_eq!(verify_inclusion(&shown.leaf, index, &[], count, &shown.root).unwrap_err().to_string(), {
        let found = shown.leaf.amount_nano_usd;
        format!("the sums of the path add up to {found} nano-USD, the total is 3")
    });
    let leaf = &shown.leaf;
    let bytes: Vec<u8> =
        [&leaf.salt.0[..], &leaf.account_digest.0, &leaf.amount_nano_usd.to_le_bytes()].concat();
    assert_ne!(leaf_node(leaf).hash, crate::merkle::leaf_hash(&bytes));
}

/// Made again from the words at the head of the module by another program (Python's hashlib).
#[test]
fn hashes_are_as_they_are_written_down() {
    let root = of(&[4, 5, 6]).tree(&SEED).root();
    assert_eq!(root.to_string(), "bc6ddc243b3db49c48b4499a2e1a2ee6f8ed1b836a571e9fa350d4d4b5985db4");
}

#[test]
fn places_and_hashes_change_with_every_epoch() {
    let liabilities = of(&[7; 64]);
    let places = |seed: u8| -> Vec<u64> {
        let tree = liabilities.tree(&[seed; 32]);
        (1..=64).map(|n| tree.prove(AccountId(n)).unwrap().1).collect()
    };
    assert_ne!(places(1), places(2));
    let mut all = places(1);
    assert_ne!(all, (0..64).collect::<Vec<_>>(), "not in the order of accounts");
    all.sort_unstable();
    assert_eq!(all, (0..64).collect::<Vec<_>>());
    assert_ne!(liabilities.tree(&[1; 32]).root(), liabilities.tree(&[2; 32]).root());
}

#[test]
fn nobody_is_owed_anything() {
    let none = of(&[]);
    assert_eq!((none.count(), none.total_nano_usd()), (0, 0));
    assert_eq!(none.tree(&SEED).root(), empty_root());
    let leaf = Shown::of(&of(&[0]), 1).leaf;
    let root = SumNode { hash: empty_root(), sum_nano_usd: 0 };
    let refused = verify_inclusion(&leaf, 0, &[], 0, &root);
    assert_eq!(refused, Err(InclusionError::OutOfRange { index: 0, count: 0 }));
}

#[test]
fn the_largest_tree_proves_and_one_leaf_more_is_refused() {
    let amounts = |count: usize| (0..count as u64).map(|n| (AccountId(n), 1)).collect();
    let largest = Liabilities::new(amounts(LEAVES_MAX)).unwrap();
    assert_eq!(largest.total_nano_usd(), LEAVES_MAX as u128);
    let tree = largest.tree(&SEED);
    let (leaf, index, path) = tree.prove(AccountId(5)).unwrap();
    assert_eq!(path.len(), PATH_LENGTH_MAX);
    let root = SumNode { hash: tree.root(), sum_nano_usd: LEAVES_MAX as u128 };
    let count = LEAVES_MAX as u64;
    assert_eq!(verify_inclusion(&leaf, index, &path, count, &root), Ok(()));
    let one_more = verify_inclusion(&leaf, index, &path, count + 1, &root);
    assert_eq!(one_more, Err(InclusionError::OutOfRange { index, count: count + 1 }));
    assert_eq!(Liabilities::new(amounts(LEAVES_MAX + 1)), Err(LiabilitiesError::TooMany(LEAVES_MAX + 1)));
}

fn signed_proof() -> LiabilityProof {
    let shown = Shown::of(&of(&[4, 5, 6]), 2);
    let epoch = Epoch {
        number: 1,
        closed_at: UnixMs(9),
        root: shown.root.hash,
        total_nano_usd: shown.root.sum_nano_usd,
        count: shown.count,
        previous: Digest32([0; 32]),
    };
    let signed = Signer::from_bytes(&[7; 32]).sign_epoch(epoch);
    LiabilityProof { signed, leaf: shown.leaf, leaf_index: shown.index, path: shown.path }
}

/// The names of the checks that ended so.
fn names(proof: &LiabilityProof, policy: &ProofPolicy, outcome: Outcome) -> Vec<&'static str> {
    let verdict = verify_liability_proof(proof, policy);
    verdict.checks.iter().filter(|check| check.outcome == outcome).map(|check| check.name).collect()
}

#[test]
fn a_document_is_checked_word_by_word() {
    let proof = signed_proof();
    let nothing = ProofPolicy::default();
    let known = ProofPolicy {
        expected_exchange: Some(proof.signed.exchange),
        expected_account: Some(Receipt::digest_of_account(AccountId(2))),
    };
    assert_eq!(names(&proof, &nothing, Outcome::Skipped), ["exchange_key", "account"]);
    assert_eq!(
        names(&proof, &known, Outcome::Passed),
        ["exchange_key", "account", "epoch_signature", "inclusion"]
    );
    let failed = |proof: &LiabilityProof, policy| names(proof, &policy, Outcome::Failed);
    let other = Some(Digest32([1; 32]));
    assert_eq!(failed(&proof, ProofPolicy { expected_exchange: other, ..known }), ["exchange_key"]);
    assert_eq!(failed(&proof, ProofPolicy { expected_account: other, ..known }), ["account"]);
    let epoch = Epoch { total_nano_usd: 14, ..proof.signed.epoch };
    let less = LiabilityProof { signed: SignedEpoch { epoch, ..proof.signed }, ..proof.clone() };
    assert_eq!(failed(&less, known), ["epoch_signature", "inclusion"]);
    let mut more = proof.clone();
    more.leaf.amount_nano_usd += 1;
    assert_eq!(failed(&more, known), ["inclusion"]);
}

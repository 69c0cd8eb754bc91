use super::*;
use proptest::prelude::*;

/// Weights laid into blocks, a block for each list.
fn laid(lists: &[Vec<f64>]) -> Vec<Weights> {
    let block = |list: &Vec<f64>| std::array::from_fn(|lane| list.get(lane).copied().unwrap_or(0.0));
    lists.iter().map(block).collect()
}

fn lottery(blocks: &[Weights]) -> Lottery {
    let mut lottery = Lottery::new(blocks.len(), BLOCK);
    for weights in blocks {
        lottery.push(weights, weights.iter().filter(|weight| **weight > 0.0).count() as u32);
    }
    lottery.close();
    lottery
}

/// Draws with these units from a lottery and by the definition, and counts how many draws were near.
fn check(blocks: &[Weights], units: impl IntoIterator<Item = f64>) -> usize {
    let mut lottery = lottery(blocks);
    let by_definition = |unit: f64, taken: &[u32]| defined(unit, &mut blocks.to_vec(), taken);
    let weights = |block: usize| blocks[block];
    let mut near = 0;
    for unit in units.into_iter().take(ATTEMPTS_MAX) {
        if lottery.members_left() == 0 {
            break;
        }
        let want = by_definition(unit, lottery.taken());
        near += usize::from(lottery.near(unit, &weights).is_some());
        let slot = lottery.slot(unit, &weights, &by_definition);
        assert_eq!(slot, want, "{unit} after {:?}", lottery.taken());
        lottery.take(slot, &weights);
    }
    near
}

/// Weights of one price, of many, of many magnitudes, and holes.
fn any_weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => Just(2.5e-17),
        3 => (1.0f64..9.0).prop_map(|w| w * 1e-17),
        2 => (-60.0f64..0.0).prop_map(f64::exp2),
        1 => Just(0.0),
    ]
}

/// One block or a few, the last of any length.
fn any_blocks() -> impl Strategy<Value = Vec<Weights>> {
    let lists = proptest::collection::vec(proptest::collection::vec(any_weight(), 1..=BLOCK), 1..4);
    lists.prop_map(|lists| laid(&lists))
}

proptest! {
    #[test]
    fn a_near_draw_is_the_defined_one(
        blocks in any_blocks(), units in proptest::collection::vec(0.0f64..1.0, ATTEMPTS_MAX),
    ) {
        check(&blocks, units);
    }

    /// On the edges of shares, and a few of the least steps beside them, where float error decides.
    #[test]
    fn on_the_edge_the_definition_is_asked(blocks in any_blocks(), place: u16, steps in -4i64..=4) {
        let lottery = lottery(&blocks);
        let members: Vec<f64> = blocks.iter().flatten().copied().filter(|weight| *weight > 0.0).collect();
        prop_assume!(!members.is_empty());
        let (left, even) = match &lottery {
            Lottery::One(one) => (one.left, one.even.whole()),
            Lottery::Many(many) => (many.left, many.even.whole()),
        };
        let edge = members.iter().take(usize::from(place) % (members.len() + 1)).sum::<f64>() / (left + even);
        let unit = f64::from_bits(edge.to_bits().saturating_add_signed(steps)).clamp(0.0, 1.0 - f64::EPSILON);
        prop_assert_eq!(check(&blocks, [unit]), 0);
    }
}

#[test]
fn nearly_all_draws_are_near() {
    let mut random = Random::new(5);
    for lists in [vec![vec![3.0; 20]], vec![vec![3.0; 64], vec![1.0; 64], vec![2.0; 9]]] {
        let blocks = laid(&lists);
        let near: usize = (0..100).map(|_| check(&blocks, (0..ATTEMPTS_MAX).map(|_| random.unit()))).sum();
        assert_eq!(near, 1_600);
    }
}

/// An offer that is nearly free hides the others until it is taken: what is left is a trillionth of the total.
#[test]
fn who_outweighs_all_others_leaves_exact_sums_behind() {
    let mut random = Random::new(6);
    let light = |n: usize| 1e-13 * (1.0 + n as f64 / 7.0);
    let mut lists = vec![(0..40).map(light).collect::<Vec<_>>(), (0..64).map(light).collect()];
    lists[0][17] = 1.0;
    let near: usize = (0..100).map(|_| check(&laid(&lists), (0..ATTEMPTS_MAX).map(|_| random.unit()))).sum();
    assert!(near > 1_500, "{near} of 1,600");
}

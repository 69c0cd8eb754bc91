//! Every kernel against the portable one, bit by bit.

use std::sync::atomic::{AtomicU32, Ordering};

use super::attention::{KV_BLOCK_TOKENS, RUN_ROWS_MAX};
use super::vector::{LANES, Portable, Vector, float_to_half, half_to_float};
use super::*;
use crate::gguf::TensorType;
use crate::testing::Random;

/// Names the kernels under test and, plainly, those that this CPU lacks.
fn others() -> Vec<Kernel> {
    let available = Kernel::available();
    println!("kernels compared: {available:?}");
    #[cfg(target_arch = "x86_64")]
    for kernel in [Kernel::Avx2, Kernel::Avx512Vnni] {
        if !available.contains(&kernel) {
            println!("NOT compared, because this CPU lacks it: {kernel:?}");
        }
    }
    available.into_iter().filter(|&kernel| kernel != Kernel::Scalar).collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn floats(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.float() * (1.0 + 30.0 * random.float().powi(8))).collect()
}

/// Q8_0 rows; every eighth block has only the extreme codes −128 and 127.
fn matrix(random: &mut Random, rows: usize, columns: usize) -> TileMatrix {
    let mut bytes = Vec::new();
    for block in 0..rows * columns / BLOCK {
        bytes.extend(float_to_half(random.float() * 0.01).to_le_bytes());
        for _ in 0..BLOCK {
            let code = random.bits() as u8;
            bytes.push(if block % 8 == 0 { 0x7F + (code & 1) } else { code });
        }
    }
    let mut matrix = TileMatrix::zeros(rows, columns);
    let source = SourceRows { tensor_type: TensorType::Q8_0, bytes: &bytes };
    matrix.encode(Kernel::Scalar, 1, 0, source).unwrap();
    matrix
}

fn product(kernel: Kernel, threads: usize, weights: &TileMatrix, numbers: &[f32]) -> Vec<u32> {
    let mut crew = Crew::new(threads);
    let mut activations = Activations::default();
    quantise(kernel, &mut crew, numbers, weights.columns(), &mut activations);
    let mut out = vec![0.0; activations.rows() * weights.padded_rows()];
    multiply(kernel, &mut crew, weights, &activations, &mut out);
    bits(&out)
}

#[test]
fn products_have_equal_bits() {
    let mut random = Random(7);
    for (rows, columns) in [(16, 32), (48, 576), (40, 96), (16, 1536)] {
        let weights = matrix(&mut random, rows, columns);
        for count in [1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 130] {
            let mut numbers = floats(&mut random, count * columns);
            // Activations that round to ±127 throughout meet the extreme weights.
            numbers[..columns].iter_mut().for_each(|number| *number = number.signum());
            let expected = product(Kernel::Scalar, 1, &weights, &numbers);
            for kernel in others() {
                for threads in [1, 3] {
                    let found = product(kernel, threads, &weights, &numbers);
                    assert_eq!(
                        found, expected,
                        "{kernel:?}, {rows} by {columns}, {count} rows, {threads} threads"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_of_a_product_is_the_dot_product() {
    let mut random = Random(8);
    let weights = matrix(&mut random, 20, 64);
    let numbers: Vec<f32> = (0..64).map(|_| random.float()).collect();
    let found = product(Kernel::Scalar, 1, &weights, &numbers);
    let mut decoded = vec![0.0; 64];
    for row in 0..20 {
        weights.decode_row(row, &mut decoded);
        let exact: f32 = decoded.iter().zip(&numbers).map(|(a, b)| a * b).sum();
        let found = f32::from_bits(found[row]);
        assert!((found - exact).abs() < 0.05, "row {row}: {found}, not {exact}");
    }
    // The rows that fill the last tile are zero.
    assert!(found[20..].iter().all(|&bits| f32::from_bits(bits).abs() < f32::MIN_POSITIVE));
}

#[test]
fn rows_have_equal_bits() {
    let mut random = Random(9);
    let (width, rows) = (96, 5);
    let (hidden, add) = (floats(&mut random, width * rows), floats(&mut random, 112 * rows));
    let weight = floats(&mut random, width);
    let gate_up = floats(&mut random, 208 * rows);
    let run = |kernel| {
        let mut crew = Crew::new(2);
        let mut hidden = hidden.clone();
        let mut normed = Activations::default();
        let addend = Some((&add[..], 112));
        add_norm_quantise(kernel, &mut crew, &mut hidden, addend, &weight, 1e-5, &mut normed);
        let mut gated = Activations::default();
        gate_quantise(kernel, &mut crew, &mut gate_up.clone(), 208, 96, &mut gated);
        let parts = |a: Activations| (a.codes, bits(&a.scales), a.excess);
        (bits(&hidden), parts(normed), parts(gated))
    };
    let expected = run(Kernel::Scalar);
    for kernel in others() {
        assert!(run(kernel) == expected, "{kernel:?}");
    }
}

#[test]
fn rounding_keeps_each_number_within_half_a_step() {
    let mut random = Random(10);
    for kernel in Kernel::available() {
        let numbers = floats(&mut random, 320);
        let mut activations = Activations::default();
        quantise(kernel, &mut Crew::new(1), &numbers, 320, &mut activations);
        for (i, number) in numbers.iter().enumerate() {
            let scale = activations.scales[i / BLOCK];
            let code = f32::from(activations.codes[i]);
            assert!((code * scale - number).abs() <= scale * 0.5001, "{kernel:?}: {number} became {code}");
        }
        let sum: i32 = activations.codes[..BLOCK].iter().map(|&code| i32::from(code)).sum();
        assert_eq!(activations.excess[0], 128 * sum);
    }
}

#[test]
fn attention_has_equal_bits_however_rows_are_grouped() {
    let mut random = Random(11);
    for (heads, kv_heads, head_width) in [(6, 2, 16), (9, 3, 64), (2, 2, 80)] {
        let shape = AttentionShape { heads, kv_heads, head_width };
        let tokens = 75;
        let stride = (heads + 2 * kv_heads) * head_width;
        let qkv = floats(&mut random, tokens * stride);
        let table = [4, 1, 3];
        let run = |kernel: Kernel, group: usize, threads: usize| {
            let numbers = 5 * shape.block_numbers();
            let (mut keys, mut values) = (vec![0x3C00; numbers], vec![0x3C00; numbers]);
            for (position, row) in qkv.chunks_exact(stride).enumerate() {
                let place = (table[position / KV_BLOCK_TOKENS] as usize, position % KV_BLOCK_TOKENS);
                let (key, value) = row[heads * head_width..].split_at(kv_heads * head_width);
                store_key_value(kernel, shape, place, (key, value), (&mut keys, &mut values));
            }
            let runs: Vec<_> = (0..tokens)
                .step_by(group)
                .map(|first| QueryRun {
                    first_row: first,
                    rows: group.min(tokens - first),
                    first_position: first,
                    table: &table,
                })
                .collect();
            let mut out = vec![f32::NAN; tokens * heads * head_width];
            attend(kernel, &mut Crew::new(threads), shape, &runs, (&qkv, stride), (&keys, &values), &mut out);
            bits(&out)
        };
        let expected = run(Kernel::Scalar, 1, 1);
        // The first position sees itself alone, so its output is its value, rounded to half precision.
        let value = (heads + kv_heads) * head_width;
        assert_eq!(f32::from_bits(expected[0]).to_bits(), half_to_float(float_to_half(qkv[value])).to_bits());
        for kernel in Kernel::available() {
            for group in [1, 3, RUN_ROWS_MAX] {
                assert!(run(kernel, group, 2) == expected, "{kernel:?} in groups of {group}");
            }
        }
    }
}

/// Every operation of a vector, on the same numbers.
struct AllOperations<'a>(&'a [[f32; LANES]]);

impl VectorTask for AllOperations<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Vec<u32> {
        let mut results = Vec::new();
        let mut put = |vector: V| {
            let mut lanes = [0.0; LANES];
            vector.store(&mut lanes);
            results.extend(lanes.map(f32::to_bits));
        };
        for three in self.0.windows(3) {
            let [a, b, c] = [V::load(&three[0]), V::load(&three[1]), V::load(&three[2])];
            let results = [
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.mul_add(b, c),
                a.max(b),
                a.min(b),
                a.abs(),
                a.exp(),
            ];
            results.into_iter().for_each(&mut put);
            put(V::splat(a.sum()));
            put(V::splat(a.largest()));
            let mut half = [0; LANES];
            a.store_half(&mut half);
            put(V::load_half(&half));
        }
        results
    }
}

#[test]
fn vectors_have_equal_bits() {
    let mut random = Random(12);
    let awkward = [0.0, -0.0, 1e-42, -1e-38, 65_519.9, 65_520.0, 3e38, f32::INFINITY];
    let mut numbers = vec![awkward, awkward.map(|number| -number), [1.0; LANES]];
    for exponent in -20..20 {
        numbers.push(std::array::from_fn(|_| random.float() * 2.0_f32.powi(exponent)));
    }
    // Infinity less infinity is not a number, whose bits IEEE 754 leaves open; the sums skip it.
    numbers[0][7] = 3.3e38;
    numbers[1][7] = -3.3e38;
    let expected = dispatch(Kernel::Scalar, AllOperations(&numbers));
    for kernel in others() {
        let found = dispatch(kernel, AllOperations(&numbers));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let same =
                found == expected || (f32::from_bits(*found).is_nan() && f32::from_bits(*expected).is_nan());
            assert!(same, "{kernel:?}: result {at} is {found:#x}, not {expected:#x}");
        }
    }
}

#[test]
fn halves_survive_the_way_through_floats() {
    for half in 0..=u16::MAX {
        let float = half_to_float(half);
        if float.is_nan() {
            assert_eq!(half & 0x7C00, 0x7C00);
        } else {
            assert_eq!(float_to_half(float), half, "{float}");
        }
    }
    // A number half-way between two halves goes to the even one.
    assert_eq!(float_to_half(1.0 + 1.0 / 2048.0), 0x3C00);
    assert_eq!(float_to_half(1.0 + 3.0 / 2048.0), 0x3C02);
    assert_eq!(float_to_half(65_519.0), 0x7BFF);
    assert_eq!(float_to_half(65_520.0), 0x7C00);
}

#[test]
fn exponential_is_within_its_error() {
    for i in -8_600..8_700 {
        let x = i as f32 * 0.01;
        let mut lanes = [0.0; LANES];
        Portable::splat(x).exp().store(&mut lanes);
        let exact = f64::from(x).exp();
        assert!((f64::from(lanes[0]) / exact - 1.0).abs() < 2e-7, "e^{x} = {}", lanes[0]);
    }
}

#[test]
fn formats_become_the_numbers_that_they_stand_for() {
    let half = |number: f32| float_to_half(number).to_le_bytes();
    let nibbles: Vec<u8> = (0..16).map(|i| i | ((15 - i) << 4)).collect();
    let code = |i: usize| if i < 16 { i as f32 } else { (31 - i) as f32 };
    let q4_0 = [&half(0.5)[..], &nibbles].concat();
    let q4_1 = [&half(0.5)[..], &half(-2.0), &nibbles].concat();
    let f16: Vec<u8> = (0..32).flat_map(|i| half(i as f32 * 0.25)).collect();
    let f32s: Vec<u8> = (0..32).flat_map(|i| (i as f32 * -0.25).to_le_bytes()).collect();
    for kernel in Kernel::available() {
        let check = |tensor_type, bytes: &[u8], expected: &dyn Fn(usize) -> f32| {
            let mut matrix = TileMatrix::zeros(1, 32);
            matrix.encode(kernel, 1, 0, SourceRows { tensor_type, bytes }).unwrap();
            let mut decoded = [0.0; 32];
            matrix.decode_row(0, &mut decoded);
            let numbers = SourceRows { tensor_type, bytes }.numbers();
            for i in 0..32 {
                assert!((decoded[i] - expected(i)).abs() < 0.04, "{tensor_type:?} {i}: {}", decoded[i]);
                assert!((numbers[i] - expected(i)).abs() < 1e-6, "{tensor_type:?} {i}: {}", numbers[i]);
            }
        };
        check(TensorType::Q4_0, &q4_0, &|i| (code(i) - 8.0) * 0.5);
        check(TensorType::Q4_1, &q4_1, &|i| code(i) * 0.5 - 2.0);
        check(TensorType::F16, &f16, &|i| i as f32 * 0.25);
        check(TensorType::F32, &f32s, &|i| i as f32 * -0.25);
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e10] {
        let mut bytes = vec![0; 128];
        bytes[64..68].copy_from_slice(&bad.to_le_bytes());
        let source = SourceRows { tensor_type: TensorType::F32, bytes: &bytes };
        let outcome = TileMatrix::zeros(1, 32).encode(Kernel::Scalar, 1, 0, source);
        assert_eq!(outcome, Err(EncodeError::NotFinite), "{bad}");
    }
    let mut bytes = vec![0; 34];
    bytes[..2].copy_from_slice(&0x7C00_u16.to_le_bytes());
    let source = SourceRows { tensor_type: TensorType::Q8_0, bytes: &bytes };
    assert_eq!(TileMatrix::zeros(1, 32).encode(Kernel::Scalar, 1, 0, source), Err(EncodeError::NotFinite));
}

#[test]
fn a_crew_does_every_task_once_job_after_job() {
    for threads in [1, 2, 5] {
        let mut crew = Crew::new(threads);
        for tasks in [0, 1, 2, 3, 100, 1000] {
            let done: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
            crew.run(tasks, &|task| {
                done[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_leaves_the_crew_usable() {
    let mut crew = Crew::new(3);
    for _ in 0..20 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            crew.run(64, &|task| assert!(task != 40, "planted"));
        }));
        assert!(outcome.is_err());
        let count = AtomicU32::new(0);
        crew.run(64, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 64);
    }
}

//! Temporary look.
use bourse_engine::*;
use std::sync::Arc;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let t = std::time::Instant::now();
    let model = Arc::new(Model::load(path.as_ref(), &LoadOptions::default(), &mut |_| {}).unwrap());
    println!("{:?} {:?} load {:?}", model.info(), model.commitment(), t.elapsed());
    let mut stage = Stage::new(model.clone(), 1, 1024);
    let tokens: Vec<u32> = (0..512).map(|i| (i * 7919 + 13) % 49152).collect();
    let rows: Vec<_> = (0..512).map(|position| StageRow { sequence: 0, position }).collect();
    for _ in 0..3 {
        let t = std::time::Instant::now();
        for c in 0..4 {
            stage
                .run(&rows[c * 128..c * 128 + 128], StageInput::Tokens(&tokens[c * 128..c * 128 + 128]))
                .unwrap();
        }
        println!("prompt {:.1} tok/s", 512.0 / t.elapsed().as_secs_f64());
        let t = std::time::Instant::now();
        for i in 0..64 {
            let h = stage
                .run(&[StageRow { sequence: 1, position: i }], StageInput::Tokens(&tokens[i..i + 1]))
                .unwrap();
            stage.logits(&h).unwrap();
        }
        println!("decode {:.1} tok/s", 64.0 / t.elapsed().as_secs_f64());
        for n in [8, 32] {
            let t = std::time::Instant::now();
            for i in 0..16 {
                let rows: Vec<_> = (0..n).map(|s| StageRow { sequence: s + 10, position: i }).collect();
                let h = stage.run(&rows, StageInput::Tokens(&tokens[..n as usize])).unwrap();
                stage.logits(&h).unwrap();
            }
            println!("batch {n} {:.1} tok/s", 16.0 * n as f64 / t.elapsed().as_secs_f64());
        }
    }
    let mut h = stage.run(&rows[..1], StageInput::Tokens(&[1])).unwrap();
    let mut out = vec![];
    let text = [
        9690u32, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712,
        8182, 2, 198, 1, 4093, 198, 504, 3575, 282, 4649, 314,
    ];
    for (i, &t) in text.iter().enumerate() {
        h = stage.run(&[StageRow { sequence: 0, position: i + 1 }], StageInput::Tokens(&[t])).unwrap();
    }
    for i in 0..12 {
        let l = stage.logits(&h).unwrap();
        let best = (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap();
        out.push(model.vocabulary().tokens[best].clone());
        h = stage
            .run(
                &[StageRow { sequence: 0, position: text.len() + 1 + i }],
                StageInput::Tokens(&[best as u32]),
            )
            .unwrap();
    }
    println!("{out:?}");
}

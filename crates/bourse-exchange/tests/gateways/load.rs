//! Buyers behind two gateways: they hold, extend, settle, repeat and wait for the disk.

use super::clock;
use crate::support::{block_on, hold, request, settlement};
use bourse_link::RemoteFunds;
use bourse_types::{KeyHash, NanoUsd, RequestId};
use bourse_wire::funds::{Funds as _, HoldExtension, KeyGrant};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

/// Buyers of one gateway.
const BUYERS: u64 = 4;
const PER_BUYER: u64 = 1_000_000;

/// A request that its buyer was told is settled and on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) request: RequestId,
    pub(crate) charge: u64,
    pub(crate) at: Instant,
}

/// Buys through both until `is_enough` of the number of acknowledgements so far.
pub(crate) fn run(
    clients: &[RemoteFunds; 2],
    keys: &[KeyHash],
    mut is_enough: impl FnMut(u64) -> bool,
) -> Vec<Ack> {
    let is_over = AtomicBool::new(false);
    let (told, acks) = channel();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        for (client, buyer) in
            (0..).zip(clients).flat_map(|(n, c)| (0..BUYERS).map(move |b| (c, n * BUYERS + b)))
        {
            let (told, is_over) = (told.clone(), &is_over);
            let key = keys[(buyer % 2) as usize];
            scope.spawn(move || buy(client, buyer, key, &told, is_over));
        }
        drop(told);
        for ack in acks {
            all.push(ack);
            if is_enough(all.len() as u64) {
                is_over.store(true, Ordering::Relaxed);
            }
        }
    });
    all
}

fn buy(funds: &RemoteFunds, buyer: u64, key: KeyHash, told: &Sender<Ack>, is_over: &AtomicBool) {
    let grant = funds.authenticate(&key, clock()).expect("a good key");
    for n in (buyer * PER_BUYER..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
        let ack = serve(funds, n, grant);
        if told.send(ack).is_err() {
            return;
        }
    }
}

fn serve(funds: &RemoteFunds, n: u64, grant: KeyGrant) -> Ack {
    let now = clock();
    let (id, charge) = (request(n, now), 100 + n % 4_000);
    funds.hold(&hold(id, grant, 1_000, now)).expect("a hold");
    for step in 1..=4 {
        let more =
            HoldExtension { request: id, step, amount: NanoUsd(1_000), byok: NanoUsd::ZERO, tokens: 0, now };
        funds.extend(&more).expect("an extension");
    }
    let ended = settlement(id, grant, charge, now);
    if n % 3 == 1 {
        funds.metered(settlement(id, grant, charge / 2, now)).expect("nobody waits for it");
    }
    let mut settled = funds.settle(ended.clone()).expect("a settlement");
    if n % 4 == 1 {
        settled = funds.settle(ended).expect("the same once more");
    }
    assert_eq!(settled.cost, NanoUsd(charge));
    block_on(funds.durable(settled.ticket)).expect("it is on disk");
    Ack { request: id, charge, at: Instant::now() }
}

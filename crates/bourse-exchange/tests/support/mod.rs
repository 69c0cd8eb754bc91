//! Requests and receipts for tests and benches: small, valid, made from a number.

#![allow(dead_code, unreachable_pub, missing_docs)]

use bourse_types::{Charge, Digest32, ModelSlug, NanoUsd, RequestId, SellerName, UnixMs, Usage};
use bourse_wire::funds::{CommitTicket, Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, Settlement};
use bourse_wire::receipt::{AttemptRecord, Finish, Receipt, Recount};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// The time at which tests begin: so late that the exchange's own clock, today's, never ends a hold. 2083 has the
/// weekdays of 2027.
pub const START: UnixMs = UnixMs(3_567_225_600_000);

/// The `n`-th request, made at `now`.
pub fn request(n: u64, now: UnixMs) -> RequestId {
    let mut random = [0u8; 10];
    random[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    random[8..].copy_from_slice(&(n as u16).to_le_bytes());
    RequestId::new(now, random)
}

pub fn hold(request: RequestId, grant: KeyGrant, amount: u64, now: UnixMs) -> HoldRequest {
    let (amount, expires) = (NanoUsd(amount), UnixMs(now.0 + 60_000));
    HoldRequest { request, grant, amount, byok: NanoUsd(0), tokens: Some(0), expires, now, claim: None }
}

/// The `step`-th extension of a hold by `amount`.
pub fn extension(request: RequestId, step: u16, amount: u64, now: UnixMs) -> HoldExtension {
    HoldExtension { request, step, amount: NanoUsd(amount), byok: NanoUsd(0), tokens: 0, now }
}

/// A charge of `total` of which up to two nano-dollars are rounding.
pub fn charge(total: u64) -> Charge {
    let rounding = total.min(2);
    Charge {
        prompt: NanoUsd(total - rounding),
        rounding: NanoUsd(rounding),
        total: NanoUsd(total),
        ..Charge::ZERO
    }
}

pub fn settlement(request: RequestId, grant: KeyGrant, total: u64, now: UnixMs) -> Settlement {
    let seller = SellerName::parse("local").expect("a name");
    let digest = |n: u8| Digest32([n; 32]);
    let usage = Usage::of_tokens(9, 0, 3);
    let receipt = Receipt {
        request,
        account_digest: grant.account_digest,
        key_digest: grant.key_digest,
        model: ModelSlug::parse("huggingfacetb/smollm2-135m-instruct").expect("a name"),
        constraints_digest: digest(1),
        price_snapshot_digest: digest(2),
        plan_digest: digest(3),
        attempts: vec![AttemptRecord { seller: seller.clone(), status: 200 }],
        seller: Some(seller),
        node: None,
        usage_claimed: Some(usage),
        usage_billed: usage,
        recount: None,
        charge: charge(total),
        fee: NanoUsd(0),
        request_hash: digest(4),
        response_hash: digest(5),
        finish: Finish::Stop,
        streamed: false,
        created: request.time(),
        first_content_ms: Some(12),
        total_ms: 34,
    };
    Settlement::new(receipt, now)
}

/// The same where the seller claims twice what the market counted and allows; what is billed is what was counted.
pub fn inflated(request: RequestId, grant: KeyGrant, total: u64, now: UnixMs) -> Settlement {
    let mut settlement = settlement(request, grant, total, now);
    let Usage { prompt, completion, .. } = settlement.receipt.usage_billed;
    settlement.receipt.usage_claimed = Some(Usage::of_tokens(9, 0, 6));
    settlement.receipt.recount = Some(Recount {
        tokenizer: Digest32([7; 32]),
        prompt: Some(prompt),
        prompt_allowed: prompt,
        completion: Some(completion),
        completion_allowed: completion,
    });
    settlement
}

/// Holds and settles one request.
pub fn serve(funds: &impl Funds, n: u64, grant: KeyGrant, now: UnixMs) -> Result<CommitTicket, FundsError> {
    let id = request(n, now);
    funds.hold(&hold(id, grant, 5_000, now))?;
    Ok(funds.settle(settlement(id, grant, 1_234, now))?.ticket)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Random numbers from a seed: splitmix64, Steele and others, 2014.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A time from zero to `bound`, to the microsecond.
    pub fn time_below(&mut self, bound: Duration) -> Duration {
        Duration::from_micros(self.draw() % (bound.as_micros() as u64).max(1))
    }
}

//! What is between gateways, exchange and sellers: bytes that may not arrive, and clocks that may be wrong.

use crate::plan::{Bug, GATEWAYS};
use bourse_exchange::{Exchange, FundsSession};
use bourse_gateway::{Clock, Connect, Io, Target};
use bourse_link::{Courier, RemoteFunds};
use bourse_sim::upstream::Seller;
use bourse_types::{AccountId, Digest32, DurationMs, KeyHash, NanoUsd, RequestId, UnixMs, UtcDay};
use bourse_wire::funds::{
    ActivityQuery, ActivityRow, BoxFuture, CommitTicket, Funds, FundsError, Generation, HoldExtension,
    HoldRequest, KeyGrant, KeyStatus, PolicyId, Records, Settled, Settlement,
};
use bourse_wire::receipt::{Checkpoint, ReceiptDocument};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::time::Instant;

pub(crate) const EPOCH: UnixMs = UnixMs(1_790_000_000_000);

/// How a connection to the exchange breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// What was sent is lost.
    NothingArrives,
    /// Its second half is.
    HalfArrives,
    /// It was done, and no answer comes.
    NothingComesBack,
    /// Half of the answers come.
    HalfComesBack,
}

/// A clock that is off by so much.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    born: Instant,
    skew_ms: AtomicI64,
}

impl SkewedClock {
    pub(crate) fn new(born: Instant) -> Self {
        Self { born, skew_ms: AtomicI64::new(0) }
    }

    pub(crate) fn set(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> UnixMs {
        let true_now = EPOCH.plus(DurationMs(self.born.elapsed().as_millis() as u64));
        UnixMs(true_now.0.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed)))
    }
}

/// The way from one gateway.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) cut: Option<Cut>,
    pub(crate) apart_until: Option<Instant>,
    /// Changes when the gateway dies: nothing of an earlier life gets through.
    pub(crate) life: u64,
}

/// The exchange that runs, and the ways to it.
pub(crate) struct Network {
    pub(crate) exchange: Mutex<Option<(u128, Arc<Exchange>)>>,
    pub(crate) clock: SkewedClock,
    pub(crate) ways: Mutex<[Way; GATEWAYS]>,
    pub(crate) cuts: AtomicU64,
}

/// Carries one gateway's bytes.
pub(crate) struct Carrier {
    pub(crate) network: Arc<Network>,
    pub(crate) gateway: usize,
    pub(crate) life: u64,
    pub(crate) session: Option<(u128, FundsSession)>,
}

impl Carrier {
    /// Where the exchange is now, and what befalls what is sent there.
    fn way(&self) -> Option<(u128, Arc<Exchange>)> {
        let way = self.network.ways.lock()[self.gateway];
        let is_open = way.life == self.life && way.apart_until.is_none_or(|until| Instant::now() >= until);
        self.network.exchange.lock().clone().filter(|_| is_open)
    }

    fn carried(&mut self, out: &[u8], back: &mut Vec<u8>) -> Option<()> {
        let (incarnation, _) = self.way()?;
        let (known, session) = self.session.as_mut()?;
        if *known != incarnation {
            return None;
        }
        // A turn without anything to say leaves the cut for one that has.
        let cut = if out.is_empty() { None } else { self.network.ways.lock()[self.gateway].cut.take() };
        self.network.cuts.fetch_add(u64::from(cut.is_some()), Ordering::Relaxed);
        let arrives = match cut {
            Some(Cut::NothingArrives) => 0,
            Some(Cut::HalfArrives) => out.len() / 2,
            _ => out.len(),
        };
        let before = back.len();
        let served = session.exchange(&out[..arrives], self.network.clock.now(), back);
        match cut {
            Some(Cut::HalfComesBack) => back.truncate(before + (back.len() - before) / 2),
            Some(_) => back.truncate(before),
            None => {}
        }
        (served.is_ok() && cut.is_none()).then_some(())
    }
}

impl Courier for Carrier {
    fn connect(&mut self) -> Option<u128> {
        let (incarnation, exchange) = self.way()?;
        self.session = Some((incarnation, FundsSession::new(exchange)));
        Some(incarnation)
    }

    fn carry(&mut self, out: &[u8], back: &mut Vec<u8>) -> bool {
        let is_whole = self.carried(out, back).is_some();
        if !is_whole {
            self.session = None;
        }
        is_whole
    }
}

/// Connects to sellers by pipes; the port is a seller's number.
pub(crate) struct Pipes(pub(crate) Vec<Arc<Seller>>);

impl Connect for Pipes {
    fn connect(&self, target: &Target) -> BoxFuture<'static, io::Result<Io>> {
        let seller = self.0.get(usize::from(target.port) - 1).cloned();
        Box::pin(async move {
            let seller = seller.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            // Ends by itself when the gateway lets its end go.
            tokio::spawn(async move { seller.serve(theirs).await });
            Ok(Io::Other(Box::new(ours)))
        })
    }
}

/// A gateway's money: the connection, or one with a bug.
pub(crate) struct Till {
    pub(crate) remote: Arc<RemoteFunds>,
    pub(crate) bug: Option<Bug>,
    pub(crate) raises: Arc<AtomicU64>,
    pub(crate) metered: Arc<AtomicU64>,
    pub(crate) grants: Mutex<Vec<KeyGrant>>,
}

impl Funds for Till {
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        let grant = self.remote.authenticate(key, now)?;
        self.grants.lock().push(grant);
        Ok(grant)
    }

    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        self.remote.hold(request)
    }

    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        let extended = self.remote.extend(extension);
        self.raises.fetch_add(u64::from(extended.is_ok()), Ordering::Relaxed);
        extended
    }

    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError> {
        let cost = settlement.receipt.charge.total;
        if self.bug == Some(Bug::ForgetsWhatItOwes) && cost.0 > 0 {
            return Ok(Settled { cost, ticket: CommitTicket(0) });
        }
        if self.bug == Some(Bug::SettlesTwice) && cost.0 > 0 {
            self.settle_again(settlement.clone());
        }
        self.remote.settle(settlement)
    }

    fn metered(&self, so_far: Settlement) -> Result<(), FundsError> {
        self.metered.fetch_add(1, Ordering::Relaxed);
        self.remote.metered(so_far)
    }

    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        match self.bug {
            Some(Bug::TellsBeforeTheDisk | Bug::ForgetsWhatItOwes) => Box::pin(async { Ok(()) }),
            _ => self.remote.durable(ticket),
        }
    }

    fn lost(&self, ticket: CommitTicket) -> Option<FundsError> {
        self.remote.lost(ticket)
    }
}

impl Till {
    /// The same charge once more, under another request.
    fn settle_again(&self, mut settlement: Settlement) {
        let (now, amount) = (settlement.now, settlement.receipt.charge.total);
        let grants = self.grants.lock();
        let Some(grant) = grants.iter().find(|grant| grant.key_digest == settlement.receipt.key_digest)
        else {
            return;
        };
        let (request, expires) = (RequestId::new(now, [77; 10]), now.plus(DurationMs(60_000)));
        let hold = HoldRequest {
            request,
            grant: *grant,
            amount,
            byok: NanoUsd::ZERO,
            tokens: Some(0),
            expires,
            now,
            claim: None,
        };
        settlement.receipt.request = request;
        // A bug that does not come off is none.
        let _ = self.remote.hold(&hold).and_then(|()| self.remote.settle(settlement));
    }
}

/// Gateways elsewhere have no records of their own.
pub(crate) struct NoRecords;

impl Records for NoRecords {
    fn receipt(&self, _: RequestId) -> Result<Option<ReceiptDocument>, FundsError> {
        Err(FundsError::Away)
    }
    fn generation(&self, _: RequestId) -> Result<Option<Generation>, FundsError> {
        Err(FundsError::Away)
    }
    fn key_status(&self, _: &KeyHash, _: UnixMs) -> Result<KeyStatus, FundsError> {
        Err(FundsError::Away)
    }
    fn activity(&self, _: AccountId, _: &ActivityQuery, _: UnixMs) -> Result<Vec<ActivityRow>, FundsError> {
        Err(FundsError::Away)
    }
    fn figures(&self, _: UtcDay, _: UnixMs) -> Result<Option<Arc<str>>, FundsError> {
        Err(FundsError::Away)
    }
    fn policy(&self, _: &PolicyId) -> Result<Option<Arc<str>>, FundsError> {
        Err(FundsError::Away)
    }
    fn checkpoint(&self) -> Result<Checkpoint, FundsError> {
        Err(FundsError::Away)
    }
    fn consistency(&self, _: u64) -> Result<Vec<Digest32>, FundsError> {
        Err(FundsError::Away)
    }
}

//! Fakes: money in a map, sellers as scripts, a buyer that reads everything.

mod accounts;
mod claims;
mod workspaces;

pub(super) use accounts::FakeAccounts;
pub(crate) use claims::Keeps;
pub(super) use workspaces::FakeWorkspaces;

use crate::{
    Clock, Connect, Entropy, Gateway, GatewayConfig, Io, Ports, ProviderConfig, ProviderModel, Target,
    Timeouts,
};
use bourse_types::{
    AccountId, Charge, Digest32, Gift, KeyHash, ModelSlug, NanoUsd, PicoUsdPerToken, PriceSchedule,
    RequestId, SellerName, UnixMs, UtcDay,
};
use bourse_wire::funds::{
    ActivityQuery, ActivityRow, Attendance, Billing, BoxFuture, CommitTicket, Funds, FundsError, Generation,
    GenerationNote, HoldExtension, HoldRequest, KeyGrant, KeyRecord, KeyRole, KeyStatus, LimitReset,
    PolicyId, PolicyText, Records, Settled, Settlement, SpendWindows,
};
use bourse_wire::receipt::{Checkpoint, Finish, Receipt, ReceiptDocument};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::time::Instant;

pub(crate) const KEY: &str = "sk-test";
/// A management key of the same account.
pub(crate) const MANAGEMENT_KEY: &str = "sk-manage";
/// Another inference key of the same account.
pub(crate) const TWIN_KEY: &str = "sk-twin";
/// An inference key of another account.
pub(crate) const OTHER_KEY: &str = "sk-other";
pub(crate) const MODEL: &str = "acme/one";
/// The market's fee where an own key served.
pub(crate) const BYOK_FEE_BPS: u32 = 500;

/// One account, kept exactly.
pub(crate) struct FakeFunds {
    state: Mutex<FundsState>,
    pub(crate) durable_after: Duration,
    /// The policy of [`KEY`], and what it says.
    policy: Mutex<Option<PolicyId>>,
    policy_text: Mutex<Option<PolicyText>>,
    /// What is answered to whoever asks for public figures, and of which days somebody asked.
    pub(crate) figures: Mutex<Option<Arc<str>>>,
    pub(crate) figures_asked: Mutex<Vec<UtcDay>>,
    /// When which nodes were there, as it was told; and why it is not heard.
    pub(crate) attended: Mutex<Vec<Attendance>>,
    pub(crate) is_deaf: AtomicBool,
}

#[derive(Default)]
struct FundsState {
    /// What each hold said of its tokens.
    tokens: Vec<Option<u64>>,
    /// Why nothing is held any more.
    no_holds: Option<FundsError>,
    /// Why no hold is extended any more.
    no_more: Option<FundsError>,
    /// What becomes of settlements, and of waiting for the disk.
    at_settlement: Option<FundsError>,
    at_disk: Option<FundsError>,
    available: u64,
    holds: HashMap<RequestId, u64>,
    receipts: Vec<Receipt>,
    /// What was held at each settlement: the most that ever was.
    peaks: Vec<NanoUsd>,
    /// What requests in flight would have settled as.
    metered: Vec<Receipt>,
    /// List prices that buyers' own sellers billed.
    byok: Vec<NanoUsd>,
    /// What settlements and what was metered told of gifts.
    gifts: Vec<Option<Gift>>,
    policies: HashMap<PolicyId, Arc<str>>,
    /// Those of the one account.
    account_policy: Option<PolicyId>,
    claims: claims::FakeClaims,
}

impl FundsState {
    fn held(&self) -> NanoUsd {
        NanoUsd(self.holds.values().sum())
    }
}

impl FakeFunds {
    /// Refuses every hold from now on.
    pub(crate) fn hold_no_more(&self, why: FundsError) {
        self.state.lock().no_holds = Some(why);
    }

    /// Refuses every extension of a hold from now on.
    pub(crate) fn extend_no_more(&self, why: FundsError) {
        self.state.lock().no_more = Some(why);
    }

    /// Fails every settlement from now on, or every wait for the disk.
    pub(crate) fn fail_books(&self, at_settlement: Option<FundsError>, at_disk: Option<FundsError>) {
        let mut state = self.state.lock();
        (state.at_settlement, state.at_disk) = (at_settlement, at_disk);
    }

    pub(crate) fn with(available: u64) -> Arc<Self> {
        let state = Mutex::new(FundsState { available, ..FundsState::default() });
        let durable_after = Duration::from_millis(3);
        Arc::new(Self {
            state,
            durable_after,
            policy: Mutex::default(),
            policy_text: Mutex::default(),
            figures: Mutex::default(),
            figures_asked: Mutex::default(),
            attended: Mutex::default(),
            is_deaf: AtomicBool::default(),
        })
    }

    pub(super) fn set_policy(&self, text: &str) {
        let text = PolicyText::parse(text).unwrap();
        *self.policy.lock() = Some(text.id());
        *self.policy_text.lock() = Some(text);
    }

    /// List prices that buyers' own sellers billed.
    pub(crate) fn byok(&self) -> Vec<NanoUsd> {
        self.state.lock().byok.clone()
    }

    /// What settlements and what was metered told of gifts, in order.
    pub(crate) fn gifts(&self) -> Vec<Option<Gift>> {
        self.state.lock().gifts.clone()
    }

    /// Keeps a policy for whoever asks for it.
    pub(crate) fn keep_policy(&self, text: PolicyText) {
        self.state.lock().policies.insert(text.id(), text.into_text());
    }

    /// Keeps a policy and binds the account by it.
    pub(crate) fn bind(&self, text: &str) {
        let text = PolicyText::parse(text).unwrap();
        self.state.lock().account_policy = Some(text.id());
        self.keep_policy(text);
    }

    pub(crate) fn available(&self) -> u64 {
        self.state.lock().available
    }

    /// What each hold said of its tokens.
    pub(crate) fn tokens(&self) -> Vec<Option<u64>> {
        self.state.lock().tokens.clone()
    }

    pub(crate) fn open_holds(&self) -> usize {
        self.state.lock().holds.len()
    }

    /// What requests in flight would have settled as, as it was said.
    pub(crate) fn metered(&self) -> Vec<Receipt> {
        self.state.lock().metered.clone()
    }

    /// The most that was held for each receipt's request.
    pub(crate) fn peaks(&self) -> Vec<NanoUsd> {
        self.state.lock().peaks.clone()
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.state.lock().receipts.clone()
    }
}

impl Funds for FakeFunds {
    fn authenticate(&self, key: &KeyHash, _: UnixMs) -> Result<KeyGrant, FundsError> {
        let is = |text: &str| *key == KeyHash(Sha256::digest(text.as_bytes()).into());
        let account_policy = self.state.lock().account_policy;
        let own = KeyGrant { account_policy, ..KeyGrant::new(*key, AccountId(7)) };
        match () {
            () if is(KEY) => Ok(KeyGrant { key_policy: *self.policy.lock(), ..own }),
            () if is(TWIN_KEY) => Ok(own),
            () if is(MANAGEMENT_KEY) => Ok(KeyGrant { role: KeyRole::Management, ..own }),
            () if is(OTHER_KEY) => Ok(KeyGrant::new(*key, AccountId(8))),
            () => Err(FundsError::UnknownKey),
        }
    }

    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.no_holds {
            return Err(why.clone());
        }
        let (available, needed) = (NanoUsd(state.available), request.amount);
        if needed > available {
            return Err(FundsError::InsufficientFunds { available, needed, held: state.held() });
        }
        if let Some(claim) = &request.claim {
            state.claims.begin(claim, request.request, request.now)?;
        }
        state.available -= needed.0;
        state.tokens.push(request.tokens);
        assert!(state.holds.insert(request.request, needed.0).is_none(), "held twice");
        Ok(())
    }

    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.no_more {
            return Err(why.clone());
        }
        let (available, needed) = (NanoUsd(state.available), extension.amount);
        if needed > available {
            return Err(FundsError::InsufficientFunds { available, needed, held: state.held() });
        }
        state.available -= needed.0;
        *state.holds.get_mut(&extension.request).ok_or(FundsError::NoHold)? += needed.0;
        Ok(())
    }

    fn metered(&self, so_far: Settlement) -> Result<(), FundsError> {
        let mut state = self.state.lock();
        let held = state.holds.get(&so_far.receipt.request).ok_or(FundsError::NoHold)?;
        let cost = so_far.receipt.charge.total;
        assert!(cost.0 <= *held, "{cost} metered of {held} held");
        state.metered.push(so_far.receipt);
        state.gifts.push(so_far.note.gift);
        Ok(())
    }

    fn attended(&self, attendance: Attendance, _: UnixMs) -> Result<(), FundsError> {
        if self.is_deaf.load(Ordering::Relaxed) {
            return Err(FundsError::Away);
        }
        self.attended.lock().push(attendance);
        Ok(())
    }

    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.at_settlement {
            return Err(why.clone());
        }
        state.gifts.push(settlement.note.gift);
        let mut receipt = settlement.receipt;
        if settlement.billing == Billing::Byok {
            let list = receipt.charge.total;
            state.byok.push(list);
            let fee = list.share_bps_floor(BYOK_FEE_BPS).unwrap();
            receipt.charge = Charge { request: fee, total: fee, ..Charge::ZERO };
        }
        let held = state.holds.remove(&receipt.request).ok_or(FundsError::NoHold)?;
        let cost = receipt.charge.total;
        assert!(cost.0 <= held, "charged {cost} of {held} held");
        let parts = receipt.charge;
        assert_eq!(parts.sum_of_parts(), Some(cost));
        let is_whole = matches!(receipt.finish, Finish::Stop | Finish::Length | Finish::ToolCalls);
        state.claims.end(receipt.request, cost > NanoUsd::ZERO || is_whole);
        state.available += held - cost.0;
        state.receipts.push(receipt);
        state.peaks.push(NanoUsd(held));
        Ok(Settled { cost, ticket: CommitTicket(state.receipts.len() as u64) })
    }

    fn durable(&self, _: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        let (after, failed) = (self.durable_after, self.state.lock().at_disk.clone());
        Box::pin(async move {
            tokio::time::sleep(after).await;
            failed.map_or(Ok(()), Err)
        })
    }
}

impl Records for FakeFunds {
    fn receipt(&self, request: RequestId) -> Result<Option<ReceiptDocument>, FundsError> {
        let found = self.receipts().into_iter().find(|r| r.request == request);
        Ok(found.map(|receipt| ReceiptDocument {
            receipt,
            exchange_signature: [0; 64],
            leaf_index: 0,
            inclusion: Vec::new(),
            checkpoint: checkpoint(),
        }))
    }

    fn generation(&self, request: RequestId) -> Result<Option<Generation>, FundsError> {
        let found = self.receipts().into_iter().find(|r| r.request == request);
        Ok(found.map(|receipt| Generation { receipt, note: GenerationNote::default() }))
    }

    fn activity(&self, _: AccountId, _: &ActivityQuery, _: UnixMs) -> Result<Vec<ActivityRow>, FundsError> {
        Ok(Vec::new())
    }

    fn figures(&self, day: UtcDay, _: UnixMs) -> Result<Option<Arc<str>>, FundsError> {
        self.figures_asked.lock().push(day);
        Ok(self.figures.lock().clone())
    }

    fn policy(&self, id: &PolicyId) -> Result<Option<Arc<str>>, FundsError> {
        let text = self.policy_text.lock().clone();
        let of_key = text.filter(|text| text.id() == *id).map(PolicyText::into_text);
        Ok(of_key.or_else(|| self.state.lock().policies.get(id).cloned()))
    }

    fn key_status(&self, key: &KeyHash, now: UnixMs) -> Result<KeyStatus, FundsError> {
        self.authenticate(key, now)?;
        let spent = NanoUsd(1_234);
        let usage = SpendWindows { total: spent, daily: spent, weekly: spent, monthly: spent };
        Ok(KeyStatus {
            key: KeyRecord {
                hash: *key,
                name: "test".into(),
                role: KeyRole::Inference,
                is_disabled: false,
                limit: Some(NanoUsd(5_000_000_000)),
                limit_reset: LimitReset::Never,
                limit_remaining: Some(NanoUsd(4_999_998_766)),
                includes_byok_in_limit: false,
                expires: None,
                usage,
                byok_usage: SpendWindows::default(),
                creator: None,
                created: UnixMs(0),
                updated: UnixMs(0),
                last_used: None,
                policy: None,
                workspace: None,
                held: NanoUsd(77),
            },
            budgets: Vec::new(),
            rates: Vec::new(),
            held: NanoUsd(99),
            account_credited: NanoUsd::from_usd(10),
            account_spent: NanoUsd(1_234),
            account_available: NanoUsd(self.available()),
        })
    }

    fn checkpoint(&self) -> Result<Checkpoint, FundsError> {
        Ok(checkpoint())
    }

    fn consistency(&self, _: u64) -> Result<Vec<Digest32>, FundsError> {
        Ok(vec![Digest32([3; 32])])
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        size: 4,
        root: Digest32([1; 32]),
        time: UnixMs(9),
        exchange: Digest32([2; 32]),
        signature: [4; 64],
    }
}

/// A clock that goes with tokio's.
pub(crate) struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> UnixMs {
        UnixMs(1_790_000_000_000 + self.0.elapsed().as_millis() as u64)
    }
}

/// What a scripted seller does with a connection.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Reads one whole request.
    Read,
    /// Writes bytes.
    Write(String),
    /// Writes raw bytes.
    Raw(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Waits for ever, or until the gateway closes; then counts a cancellation.
    Hang,
    /// Closes.
    Close,
    /// Tears the connection down, as a reset does.
    Reset,
}

/// Scripted sellers, by host name. Each connection plays the next script of its host; the last repeats.
#[derive(Default)]
pub(crate) struct FakeNet {
    scripts: Mutex<HashMap<String, Vec<Vec<Act>>>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) cancelled: Arc<AtomicUsize>,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

impl FakeNet {
    pub(crate) fn script(&self, host: &str, script: Vec<Act>) {
        self.scripts.lock().entry(host.to_owned()).or_default().push(script);
    }

    /// From now on that script alone, on new connections.
    pub(crate) fn only(&self, host: &str, script: Vec<Act>) {
        self.scripts.lock().insert(host.to_owned(), vec![[script, vec![Act::Close]].concat()]);
    }
}

impl Connect for FakeNet {
    fn connect(&self, target: &Target) -> BoxFuture<'static, io::Result<Io>> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        assert_ne!(target.host, "boom", "a bug, planted for the test of panics");
        let mut scripts = self.scripts.lock();
        let list = scripts.get_mut(&target.host);
        let Some(list) = list else {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        };
        let script = if list.len() > 1 { list.remove(0) } else { list[0].clone() };
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let torn = Arc::default();
        let ours = Wire { io: ours, torn: Arc::clone(&torn) };
        tokio::spawn(play((theirs, torn), script, Arc::clone(&self.requests), Arc::clone(&self.cancelled)));
        Box::pin(async move { Ok(Io::Other(Box::new(ours))) })
    }
}

/// The gateway's end of a connection, which the seller can tear down.
struct Wire {
    io: DuplexStream,
    torn: Arc<AtomicBool>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let is_over = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if is_over && self.torn.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn play(
    (mut io, torn): (DuplexStream, Arc<AtomicBool>),
    script: Vec<Act>,
    requests: Arc<Mutex<Vec<String>>>,
    cancelled: Arc<AtomicUsize>,
) {
    // An open connection takes the next request the same way.
    for act in script.iter().cycle() {
        match act {
            Act::Read => match read_request(&mut io).await {
                Some(request) => requests.lock().push(request),
                None => return,
            },
            Act::Write(text) => {
                let _ = io.write_all(text.as_bytes()).await;
            }
            Act::Raw(bytes) => {
                let _ = io.write_all(bytes).await;
            }
            Act::Wait(span) => tokio::time::sleep(*span).await,
            Act::Hang => {
                let mut rest = [0; 64];
                while io.read(&mut rest).await.is_ok_and(|n| n > 0) {}
                cancelled.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Act::Close => return,
            Act::Reset => return torn.store(true, Ordering::Release),
        }
    }
}

async fn read_request(io: &mut DuplexStream) -> Option<String> {
    let mut all = Vec::new();
    loop {
        let mut buf = [0; 4096];
        let n = io.read(&mut buf).await.ok().filter(|n| *n > 0)?;
        all.extend_from_slice(&buf[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length =
            text.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if all.len() >= end + 4 + length.unwrap_or(0) {
            return Some(text);
        }
    }
}

/// A plain answer with a length.
pub(crate) fn json_answer(status: u16, headers: &str, body: &str) -> Act {
    let n = body.len();
    Act::Write(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {n}\r\n\r\n{body}"
    ))
}

/// The head of a stream.
pub(crate) fn stream_head() -> Act {
    Act::Write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".into(),
    )
}

/// Events as one chunk.
pub(crate) fn events(data: &[&str]) -> Act {
    let text: String = data.iter().map(|d| format!("data: {d}\n\n")).collect::<Vec<_>>().concat();
    Act::Write(format!("{:x}\r\n{text}\r\n", text.len()))
}

/// The end of a chunked body.
pub(crate) fn stream_end() -> Act {
    Act::Write("0\r\n\r\n".into())
}

pub(crate) fn role() -> String {
    chunk(r#"{"role":"assistant","content":""}"#, "null")
}

pub(crate) fn text(content: &str) -> String {
    chunk(&format!(r#"{{"content":"{content}"}}"#), "null")
}

pub(crate) fn stop() -> String {
    chunk("{}", "\"stop\"")
}

pub(crate) fn chunk(delta: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"up-1","object":"chat.completion.chunk","created":5,"model":"one-up","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
    )
}

pub(crate) fn usage(prompt: u64, completion: u64) -> String {
    format!(
        r#"{{"id":"up-1","object":"chat.completion.chunk","created":5,"model":"one-up","choices":[],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}}}"#,
        prompt + completion
    )
}

/// A good stream of `pieces`.
pub(crate) fn good_stream(pieces: &[&str]) -> Vec<Act> {
    let mut data = vec![role()];
    data.extend(pieces.iter().map(|p| text(p)));
    data.extend([stop(), usage(9, pieces.len() as u64), "[DONE]".to_owned()]);
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    vec![Act::Read, stream_head(), events(&data), stream_end()]
}

/// A good plain answer.
pub(crate) fn good_plain() -> Vec<Act> {
    vec![Act::Read, json_answer(200, "", PLAIN)]
}

pub(crate) const PLAIN: &str = r#"{"id":"up-1","object":"chat.completion","created":5,"model":"one-up","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;

/// A gateway with providers `a`, `b`, … at hosts of the same names, the first the cheapest by far.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) funds: Arc<FakeFunds>,
    pub(crate) net: Arc<FakeNet>,
}

pub(crate) fn prices(pico: u64) -> PriceSchedule {
    PriceSchedule::per_token(PicoUsdPerToken(pico), PicoUsdPerToken(2 * pico))
}

pub(crate) fn provider(name: &str, pico: u64) -> ProviderConfig {
    ProviderConfig {
        name: SellerName::parse(name).unwrap(),
        kind: "openai".into(),
        base_url: format!("http://{name}/v1"),
        api_key: Some(crate::Secret::new("sk-upstream")),
        gathers: None,
        models: vec![ProviderModel::new(ModelSlug::parse(MODEL).unwrap(), "one-up", prices(pico))],
    }
}

impl House {
    pub(crate) fn new(providers: &[&str]) -> Self {
        Self::build(providers, 10_000_000_000, |_| {})
    }

    pub(crate) fn build(providers: &[&str], available: u64, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let providers = providers
            .iter()
            .enumerate()
            .map(|(n, name)| provider(name, 1_000_000 * 10u64.pow(n as u32)))
            .collect();
        let mut config = GatewayConfig { providers, ..GatewayConfig::default() };
        config.timeouts = Timeouts { idle: Duration::from_secs(20), ..Timeouts::default() };
        change(&mut config);
        Self::over(config, FakeFunds::with(available), Arc::default(), Arc::new(TokioClock(Instant::now())))
    }

    /// Another gateway over the same money and the same sellers.
    pub(crate) fn beside(&self) -> Self {
        let shared = &self.gateway.0;
        let (config, clock) = (shared.config.clone(), Arc::clone(&shared.ports.clock));
        Self::over(config, Arc::clone(&self.funds), Arc::clone(&self.net), clock)
    }

    fn over(config: GatewayConfig, funds: Arc<FakeFunds>, net: Arc<FakeNet>, clock: Arc<dyn Clock>) -> Self {
        // Of two gateways each draws its own ids.
        let seed = [6 + u8::try_from(Arc::strong_count(&net)).unwrap(); 32];
        let ports = Ports {
            funds: funds.clone(),
            records: funds.clone(),
            outcomes: Some(funds.clone()),
            accounts: Some(Arc::new(FakeAccounts::default())),
            workspaces: Some(Arc::new(FakeWorkspaces::default())),
            admin: None,
            clock,
            entropy: Arc::new(Entropy::seeded(seed)),
            connect: net.clone(),
        };
        Self { gateway: Gateway::new(config, ports).unwrap(), funds, net }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let bearer = format!("Bearer {KEY}");
        self.call_as(Some(&bearer), method, path, headers, body).await
    }

    pub(crate) async fn call_as(
        &self,
        authorization: Option<&str>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let response = self.gateway.handle(request).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn chat(&self, rest: &str) -> Reply {
        self.call("POST", "/v1/chat/completions", &[], &chat_body(rest)).await
    }

    /// Every hold is gone and there is one receipt for each request.
    pub(crate) fn check_books(&self, before: u64, receipts: usize) {
        let list = self.funds.receipts();
        assert_eq!(self.funds.open_holds(), 0, "a hold was left behind");
        assert_eq!(list.len(), receipts);
        let spent: u64 = list.iter().map(|r| r.charge.total.0).sum();
        assert_eq!(self.funds.available() + spent, before);
    }
}

pub(crate) fn chat_body(rest: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]{rest}}}"#)
}

/// What a buyer got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn error_type(&self) -> String {
        self.json()["error"]["metadata"]["error_type"].as_str().unwrap_or("none").to_owned()
    }

    /// The payloads of a stream, which must end with exactly one `[DONE]`.
    pub(crate) fn payloads(&self) -> Vec<Value> {
        let lines: Vec<&str> = self.text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        assert_eq!(lines.last(), Some(&"[DONE]"), "{}", self.text);
        assert_eq!(lines.iter().filter(|l| **l == "[DONE]").count(), 1);
        lines[..lines.len() - 1]
            .iter()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
            .collect()
    }

    pub(crate) fn content(&self) -> String {
        self.payloads()
            .iter()
            .filter_map(|p| p["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect::<Vec<_>>()
            .concat()
    }
}

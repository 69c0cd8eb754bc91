//! Gateways on other machines: two clients of one exchange over connections that are cut at random, and over an active
//! and a standby exchange of which the active one is killed.

#![expect(clippy::unwrap_used, reason = "a test binary, helpers included")]

#[expect(dead_code, reason = "these processes are never let go on")]
mod child;
#[expect(dead_code, reason = "this test kills exchanges and no database")]
mod cluster;
mod gateways;
mod support;

use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, FundsServer, FundsServerConfig, Holds, NewKey, check, hash_key,
};
use bourse_link::{KEEPS_MAX, RemoteFunds, RemoteFundsConfig};
use bourse_types::{Digest32, KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::port::PortSecret;
use bourse_wire::funds::{
    Accounts as _, AccountsError, ActivityQuery, CLAIM_AGE_MAX, Change, Claim, CommitTicket, Funds as _,
    FundsError, HoldRequest, KeyDraft, KeyPage, KeyPatch, LimitReset, LimitsPatch, Outcome, Outcomes as _,
    PolicyId, PolicyText, Records as _, SEALED_BYTES_MAX, ScopeName, WorkspaceDraft, Workspaces as _,
};
use cluster::Cluster;
use gateways::{Proxy, begin, client, clock, config, load, process, secret};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Random, block_on, hold, request, settlement};

/// What is killed: a no-op in an ordinary test run.
#[test]
fn exchange_process() {
    process::run();
}

#[test]
fn connections_that_are_cut_lose_nothing_and_charge_nothing_twice() {
    const REQUESTS: u64 = 1_500;
    let dir = tempfile::tempdir().unwrap();
    let keys = begin(dir.path());
    let exchange = Arc::new(Exchange::open(dir.path(), config(Holds::OutliveExchange), clock()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server =
        FundsServer::start(Arc::clone(&exchange), listener, FundsServerConfig::of(secret())).unwrap();
    let proxies = [1, 2].map(|seed| Proxy::start(server.address(), seed, 40_000));
    let clients = [0, 1].map(|n: usize| client(&[proxies[n].address()]));
    let acknowledged = load::run(&clients, &keys, |done| done >= REQUESTS);
    let cuts: u64 = proxies.iter().map(Proxy::cuts).sum();
    println!("{} acknowledged over {cuts} cuts", acknowledged.len());
    assert!(cuts > 20, "{cuts} cuts");
    assert_eq!(clients.each_ref().map(RemoteFunds::kept), [0, 0], "all of it is known to be durable");
    drop((clients, proxies, server));
    exchange.close().unwrap();
    drop(exchange);
    audit(dir.path(), &keys, &acknowledged);
}

/// Kills in an ordinary run.
const KILLS: u64 = 30;

/// Beside cuts of its connections, the exchange is killed again and again and starts anew over the same books, each time
/// as an incarnation that knows what the journal got. `BOURSE_KILLS=1000` makes so many kills.
#[test]
fn an_exchange_that_is_killed_again_and_again_loses_nothing_its_gateways_live_to_tell() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let kills = number("BOURSE_KILLS").unwrap_or(KILLS);
    let seed = number("BOURSE_KILLS_SEED").unwrap_or_else(|| clock().0);
    println!("BOURSE_KILLS_SEED={seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let keys = begin(dir.path());
    let mut server = process::Server::start(dir.path());
    server.wait_until_it_serves();
    let proxies = [1, 2].map(|n| Proxy::start(server.address, seed ^ n, 400_000));
    let clients = [0, 1].map(|n: usize| client(&[proxies[n].address()]));
    let (mut killed, mut next) = (0, 1);
    let acknowledged = load::run(&clients, &keys, |done| {
        if killed < kills && done >= next {
            server.process.kill();
            server = process::Server::start(dir.path());
            server.wait_until_it_serves();
            for proxy in &proxies {
                proxy.turn_to(server.address);
            }
            killed += 1;
            next = done + 1 + random.draw() % 60;
        }
        killed == kills && done >= next
    });
    let cuts: u64 = proxies.iter().map(Proxy::cuts).sum();
    println!("{} acknowledged over {killed} kills and {cuts} ends of connections", acknowledged.len());
    assert_eq!(clients.each_ref().map(RemoteFunds::kept), [0, 0]);
    drop((clients, proxies));
    server.process.close();
    audit(dir.path(), &keys, &acknowledged);
}

/// What was acknowledged is there, once, for its charge, and nothing else is.
fn audit(dir: &Path, keys: &[KeyHash], acknowledged: &[load::Ack]) {
    let exchange = Exchange::open(dir, config(Holds::OutliveExchange), clock()).unwrap();
    let mut once = BTreeMap::new();
    for ack in acknowledged {
        let found = exchange.generation(ack.request).unwrap().expect("what was acknowledged is there");
        assert_eq!(found.receipt.charge.total, NanoUsd(ack.charge));
        assert_eq!(once.insert(ack.request, ack.charge), None);
    }
    let status = exchange.key_status(&keys[0], clock()).unwrap();
    let spent = once.values().sum();
    assert_eq!(
        (status.account_spent, status.held),
        (NanoUsd(spent), NanoUsd::ZERO),
        "nobody is charged twice"
    );
    assert_eq!(exchange.open_holds(), 0, "every hold was settled");
    drop(exchange);
    let report = check(dir, clock()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.facts.unwrap().receipts, once.len() as u64);
}

#[test]
fn a_gateway_that_dies_leaves_holds_that_expire_and_no_money_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let keys = begin(dir.path());
    let exchange = Arc::new(Exchange::open(dir.path(), config(Holds::OutliveExchange), clock()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server =
        FundsServer::start(Arc::clone(&exchange), listener, FundsServerConfig::of(secret())).unwrap();
    let [dies, lives] = [client(&[server.address()]), client(&[server.address()])];
    // A hold of a minute, and one of a day whose gateway lives on.
    let (now, grant) = (clock(), dies.authenticate(&keys[0], clock()).unwrap());
    let [lost, kept] = [1, 2].map(|n| hold(request(n, now), grant, 700, now));
    let kept = HoldRequest { expires: UnixMs(now.0 + 86_400_000), ..kept };
    dies.hold(&lost).unwrap();
    lives.hold(&kept).unwrap();
    dies.metered(settlement(lost.request, grant, 250, now)).unwrap();
    dies.authenticate(&keys[0], now).unwrap();
    drop(dies);
    let held = || exchange.key_status(&keys[0], clock()).unwrap().held;
    assert_eq!(held(), NanoUsd(1_400));
    exchange.tick(UnixMs(lost.expires.0 - 1)).unwrap();
    assert_eq!(held(), NanoUsd(1_400));
    exchange.tick(lost.expires).unwrap();
    assert_eq!(held(), NanoUsd(700), "what the dead one held is free again");
    let spent = exchange.key_status(&keys[0], clock()).unwrap().account_spent;
    assert_eq!(spent, NanoUsd(250), "but for what it had delivered");
    let settled = lives.settle(settlement(kept.request, grant, 300, now)).unwrap();
    block_on(lives.durable(settled.ticket)).unwrap();
    let status = exchange.key_status(&keys[0], clock()).unwrap();
    assert_eq!((status.account_spent, status.held), (NanoUsd(550), NanoUsd::ZERO));
}

#[test]
fn calls_to_an_exchange_that_is_away_fail_in_their_time_on_a_reactor_too() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let within = Duration::from_millis(100);
    let config =
        RemoteFundsConfig { addresses: vec![free.to_string()], secret: secret(), call_within: within };
    let away = Arc::new(RemoteFunds::start(config).unwrap());
    let ask = || {
        let since = Instant::now();
        assert_eq!(away.authenticate(&KeyHash([1; 32]), clock()), Err(FundsError::Away));
        assert!(since.elapsed() >= within);
    };
    ask();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { ask() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async { ask() });
    assert_eq!(block_on(away.durable(CommitTicket(1))), Err(FundsError::Conflict), "a ticket of nobody");
    let nowhere = RemoteFundsConfig { addresses: Vec::new(), secret: secret(), call_within: within };
    assert!(RemoteFunds::start(nowhere).is_err());
}

/// The lease of the dead one ends three seconds after its last word; what a slow machine adds is not the point here.
const RESUMES_WITHIN: Duration = Duration::from_secs(10);

/// How the active exchange goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    /// It stands still, as on a machine that swaps, is taken for dead, and goes on.
    Stopped,
}

#[test]
fn killing_the_active_exchange_under_load_loses_nothing_and_service_resumes() {
    take_over(End::Killed);
}

#[test]
fn an_active_exchange_that_stood_still_and_goes_on_harms_nobody() {
    take_over(End::Stopped);
}

fn take_over(end: End) {
    const AFTER: u64 = 400;
    let cluster = Cluster::start();
    let [active, standby] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    bourse_exchange::migrate(active.path(), &cluster.url(), |_, _| {}).unwrap();
    let keys = begin(active.path());
    for file in ["exchange.key", "exchange.journal"] {
        std::fs::copy(active.path().join(file), standby.path().join(file)).unwrap();
    }
    let mut first = process::Server::start(active.path());
    first.wait_until_it_serves();
    let second = process::Server::start(standby.path());
    let addresses = [first.address, second.address];
    let clients = [client(&addresses), client(&addresses)];
    let mut killed = None;
    let mut acknowledged = load::run(&clients, &keys, |done| {
        if killed.is_none() && done >= AFTER {
            match end {
                End::Killed => first.process.kill(),
                End::Stopped => first.process.signal("STOP"),
            }
            killed = Some((Instant::now(), done));
        }
        killed.is_some_and(|(_, at)| done >= at + AFTER)
    });
    let (killed, _) = killed.unwrap();
    second.wait_until_it_serves();
    if end == End::Stopped {
        first.process.signal("CONT");
        // Gateways find out by themselves which of the two has the books.
        let others = [client(&addresses), client(&[addresses[1], addresses[0]])];
        let until = acknowledged.len() as u64 + AFTER;
        let more = load::run(&others, &keys, |done| acknowledged.len() as u64 + done >= until);
        acknowledged.extend(more);
        assert_eq!(others.each_ref().map(RemoteFunds::kept), [0, 0]);
    }
    let before = acknowledged.iter().filter(|ack| ack.at < killed).count();
    let resumed = acknowledged.iter().filter(|ack| ack.at > killed).map(|ack| ack.at - killed);
    // Answers that the dead one had sent are read for a moment more.
    let resumed = resumed.filter(|after| *after > Duration::from_millis(300)).min().unwrap();
    println!(
        "{before} acknowledged before the kill, {} in all; service resumed after {resumed:?}",
        acknowledged.len()
    );
    assert!(resumed < RESUMES_WITHIN, "{resumed:?}");
    assert_eq!(clients.each_ref().map(RemoteFunds::kept), [0, 0]);
    drop(clients);
    second.process.close();
    audit(standby.path(), &keys, &acknowledged);
}

/// A market that serves gateways, a key of it, and a management key of the same account.
struct Served {
    exchange: Arc<Exchange>,
    server: FundsServer,
    key: KeyHash,
    manager: KeyHash,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = begin(dir.path());
        let exchange = Exchange::open(dir.path(), config(Holds::OutliveExchange), clock()).unwrap();
        let manager = NewKey { label: "team".to_owned(), management: true, ..NewKey::default() };
        let made = exchange.admin(AdminRequest::CreateKey(manager), clock()).unwrap();
        let AdminReply::KeyCreated { secret: text, .. } = made else { panic!("{made:?}") };
        let exchange = Arc::new(exchange);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server =
            FundsServer::start(Arc::clone(&exchange), listener, FundsServerConfig::of(secret())).unwrap();
        Self { exchange, server, key: keys[0], manager: hash_key(&text.0), _dir: dir }
    }

    fn client(&self) -> RemoteFunds {
        client(&[self.server.address()])
    }
}

#[test]
fn the_past_is_the_same_from_afar() {
    let served = Served::start();
    let (near, far) = (&*served.exchange, served.client());
    let now = clock();
    let grant = far.authenticate(&served.key, now).unwrap();
    let ids: Vec<_> = (0..3).map(|n| request(n, now)).collect();
    for id in &ids {
        far.hold(&hold(*id, grant, 1_000, now)).unwrap();
        let settled = far.settle(settlement(*id, grant, 700, now)).unwrap();
        block_on(far.durable(settled.ticket)).unwrap();
    }
    for id in &ids {
        assert!(far.receipt(*id).unwrap().is_some());
        assert_eq!(far.receipt(*id), near.receipt(*id));
        assert_eq!(far.generation(*id), near.generation(*id));
    }
    let nothing = request(9, now);
    assert_eq!((far.receipt(nothing), far.generation(nothing)), (Ok(None), Ok(None)));
    assert_eq!(far.key_status(&served.key, now), near.key_status(&served.key, now));
    assert_eq!(far.key_status(&served.key, now).unwrap().account_spent, NanoUsd(2_100));
    assert_eq!(far.key_status(&KeyHash([9; 32]), now), Err(FundsError::UnknownKey));
    assert_eq!(far.checkpoint(), near.checkpoint());
    assert_eq!(far.consistency(1), near.consistency(1));
    assert_eq!(far.consistency(99), Err(FundsError::Conflict), "of a log that there is not");
    assert_eq!(far.account("operator"), Ok(near.account("operator")));
    assert_eq!(far.account("nobody"), Ok(None));
    // Yesterday is over tomorrow.
    let tomorrow = UnixMs(now.0 + 86_400_000);
    let rows = near.activity(grant.account, &ActivityQuery::default(), tomorrow).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(far.activity(grant.account, &ActivityQuery::default(), now), Ok(Vec::new()));
}

#[test]
fn keys_are_administered_from_afar_as_by_the_exchange_itself() {
    let served = Served::start();
    let (near, far, by) = (&*served.exchange, served.client(), &served.manager);
    let text = PolicyText::of_owner(r#"{"zdr":true}"#).unwrap();
    let policy = text.id();
    let draft = KeyDraft { name: "one".to_owned(), policy: Some(text), ..KeyDraft::default() };
    let (made, secret) = far.create_key(by, draft, clock()).unwrap();
    assert_eq!((hash_key(&secret.0), made.policy), (made.hash, Some(policy)));
    let now = clock();
    assert_eq!(far.get_key(by, &made.hash, now), near.get_key(by, &made.hash, now));
    let page = KeyPage { offset: 0, limit: 9, include_disabled: true };
    assert_eq!(far.list_keys(by, page, now), near.list_keys(by, page, now));
    let patch = KeyPatch { limit: Change::Set(Some(NanoUsd(5))), ..KeyPatch::default() };
    assert_eq!(far.update_key(by, &made.hash, patch, now).unwrap().limit, Some(NanoUsd(5)));
    let nameless = far.create_key(by, KeyDraft::default(), now).unwrap_err();
    assert_eq!(nameless.to_string(), "`name` needs 1 to 128 bytes, no control characters");
    assert_eq!(far.get_key(by, &KeyHash([9; 32]), now), Err(AccountsError::NotFound));
    let not_management = AccountsError::Funds(FundsError::NotManagement);
    assert_eq!(far.list_keys(&served.key, page, now), Err(not_management));

    // A policy's text is read once: it is there when the exchange is not.
    let grant = far.authenticate(&made.hash, now).unwrap();
    assert_eq!(grant.key_policy, Some(policy));
    assert_eq!(far.policy(&policy).unwrap().as_deref(), Some(r#"{"zdr":true}"#));
    assert_eq!(far.policy(&PolicyId(Digest32([9; 32]))), Ok(None));
    far.delete_key(by, &made.hash, clock()).unwrap();
    assert_eq!(far.authenticate(&made.hash, clock()), Err(FundsError::RevokedKey));
    drop(served.server);
    assert_eq!(far.policy(&policy).unwrap().as_deref(), Some(r#"{"zdr":true}"#));
}

#[test]
fn workspaces_and_limits_are_administered_from_afar_as_by_the_exchange_itself() {
    let served = Served::start();
    let (near, far, by) = (&*served.exchange, served.client(), &served.manager);
    let draft = |slug: &str| WorkspaceDraft { name: "Team".to_owned(), slug: slug.to_owned() };
    let made = far.create_workspace(by, draft("team"), clock()).unwrap();
    let now = clock();
    assert_eq!(far.list_workspaces(by, 0, now), Ok(vec![made.clone()]));
    assert_eq!(far.list_workspaces(by, 1, now), Ok(Vec::new()));
    for (slug, why) in
        [("team", "another workspace of this organisation"), ("Team", "1 to 64 lower-case letters")]
    {
        let refused = far.create_workspace(by, draft(slug), now).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(Err(refused), near.create_workspace(by, draft(slug), now));
    }
    let team = ScopeName::Workspace("team".to_owned());
    let limit = Some(NanoUsd::from_usd(3));
    let budget = LimitsPatch::Budget { reset: LimitReset::Daily, limit, includes_byok: Change::Keep };
    let set = far.set_limits(by, &team, budget.clone(), now).unwrap();
    assert_eq!((set.workspace.unwrap().id, set.budgets[0].limit), (made.id, NanoUsd::from_usd(3)));
    let rates = LimitsPatch::Rates { requests: Change::Set(Some(7)), tokens: Change::Keep };
    far.set_limits(by, &ScopeName::Organisation, rates, now).unwrap();
    for of in [team, ScopeName::Organisation, ScopeName::Key(served.key)] {
        assert_eq!(far.limits(by, &of, now), near.limits(by, &of, now), "{of:?}");
    }
    assert_eq!(far.limits(by, &ScopeName::Organisation, now).unwrap().rates[0].limit, 7);
    let nowhere = ScopeName::Workspace("nowhere".to_owned());
    assert_eq!(far.limits(by, &nowhere, now), Err(AccountsError::NoWorkspace));
    let of_key = far.set_limits(by, &ScopeName::Key(served.key), budget, now).unwrap_err();
    assert!(of_key.to_string().contains("change the key"), "{of_key}");
}

#[test]
fn sealed_answers_are_kept_from_afar_up_to_their_bound() {
    let served = Served::start();
    let [far, other] = [served.client(), served.client()];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let now = clock();
    let answer = |n: u8, bytes: usize| Outcome {
        name: Digest32([n; 32]),
        request: request(n.into(), now),
        sealed: (0..bytes).map(|at| (at / 7) as u8).collect::<Vec<_>>().into(),
        now,
    };
    for (n, bytes) in [(1, 1), (2, 16 * 1024), (3, 16 * 1024 + 1), (4, SEALED_BYTES_MAX)] {
        let kept = answer(n, bytes);
        runtime.block_on(far.keep(kept.clone())).unwrap();
        let found = runtime.block_on(other.outcome(kept.name, kept.request)).unwrap();
        assert!(found.as_ref() == Some(&kept.sealed), "{bytes} bytes, at another gateway");
        assert_eq!(runtime.block_on(other.outcome(kept.name, request(99, now))), Ok(None));
    }
    let too_long = runtime.block_on(far.keep(answer(5, SEALED_BYTES_MAX + 1)));
    assert_eq!(too_long, Err(FundsError::TooMany("bytes of answers")));
    let (one, two) = (answer(6, 300_000), answer(7, 300_000));
    let both = [far.keep(one.clone()), far.keep(two.clone())];
    for kept in both {
        runtime.block_on(kept).unwrap();
    }
    for kept in [one, two] {
        assert!(runtime.block_on(far.outcome(kept.name, kept.request)).unwrap() == Some(kept.sealed));
    }
    let grant = far.authenticate(&served.key, now).unwrap();
    let first = request(8, now);
    let digest = Digest32([8; 32]);
    let claim = Claim { name: digest, fingerprint: digest, first, kept_for: CLAIM_AGE_MAX };
    assert_eq!(far.claimed(&claim, now), Ok(()));
    far.hold(&HoldRequest { claim: Some(claim), ..hold(first, grant, 700, now) }).unwrap();
    let again = Claim { first: request(9, now), ..claim };
    assert_eq!(other.claimed(&again, now), Err(FundsError::ClaimOpen));
    let settled = far.settle(settlement(first, grant, 300, now)).unwrap();
    block_on(far.durable(settled.ticket)).unwrap();
    assert_eq!(other.claimed(&again, now), Err(FundsError::ClaimPaid(first)));
}

#[test]
fn answers_that_wait_to_be_kept_have_their_bound() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = client(&[silent.local_addr().unwrap()]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let now = clock();
    let answer =
        || Outcome { name: Digest32([1; 32]), request: request(1, now), sealed: vec![1].into(), now };
    let waiting: Vec<_> = (0..KEEPS_MAX).map(|_| far.keep(answer())).collect();
    let refused = runtime.block_on(far.keep(answer()));
    assert_eq!(refused, Err(FundsError::TooMany("bytes of answers")), "one past the bound");
    drop(far);
    for kept in waiting {
        assert_eq!(runtime.block_on(kept), Err(FundsError::Closing), "it was let in");
    }
}

/// Its clock is a minute and more ahead of this machine's.
fn ahead() -> UnixMs {
    UnixMs(clock().0 + 61_000)
}

#[test]
fn a_gateway_whose_clock_is_a_minute_behind_holds_for_as_long_as_it_asks() {
    let dir = tempfile::tempdir().unwrap();
    let keys = begin(dir.path());
    let exchange = Arc::new(Exchange::open(dir.path(), config(Holds::OutliveExchange), clock()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = FundsServerConfig { clock: ahead, ..FundsServerConfig::of(secret()) };
    let server = FundsServer::start(Arc::clone(&exchange), listener, config).unwrap();
    let behind = client(&[server.address()]);
    let held = || exchange.key_status(&keys[0], ahead()).unwrap().held;
    let (now, asked) = (clock(), ahead());
    let grant = behind.authenticate(&keys[0], now).unwrap();
    let one = HoldRequest { expires: UnixMs(now.0 + 30_000), ..hold(request(1, now), grant, 700, now) };
    behind.hold(&one).unwrap();
    exchange.tick(UnixMs(asked.0 + 29_000)).unwrap();
    assert_eq!(held(), NanoUsd(700), "half a minute is not over by the exchange's clock");
    exchange.tick(UnixMs(ahead().0 + 31_000)).unwrap();
    assert_eq!(held(), NanoUsd::ZERO, "now it is");
    drop(server);
}

#[test]
fn whoever_knows_another_secret_is_not_served_and_says_so_in_time() {
    let served = Served::start();
    let within = Duration::from_millis(300);
    let secret = PortSecret::of("another secret of these tests").unwrap();
    let addresses = vec![served.server.address().to_string()];
    let stranger = RemoteFunds::start(RemoteFundsConfig { addresses, secret, call_within: within }).unwrap();
    assert_eq!(stranger.authenticate(&served.key, clock()), Err(FundsError::Away));
    assert_eq!(stranger.checkpoint(), Err(FundsError::Away));
    let many = vec!["127.0.0.1:1".to_owned(); 9];
    assert!(RemoteFunds::start(RemoteFundsConfig { addresses: many, secret, call_within: within }).is_err());
}

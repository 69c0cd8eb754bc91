//! A run: the items of a plan carried out at their times, the market's own turns between them, and an end.

use crate::buyer::{Buyer, Diary, Heard, Knowledge, MODEL, Told};
use crate::disk::Store;
use crate::laws;
use crate::network::{Carrier, EPOCH, Network, NoRecords, Pipes, SkewedClock, Till};
use crate::plan::{Ask, BUYERS, GATEWAYS, Item, Plan};
use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, Holds, NewKey};
use bourse_gateway::{
    Clock as _, Durability, Entropy, Gateway, GatewayConfig, Ports, ProviderConfig, ProviderModel, Timeouts,
};
use bourse_link::RemoteFunds;
use bourse_sim::seed::mix;
use bourse_sim::upstream::{FaultScript, Seller, SellerConfig, SpeedLaw};
use bourse_types::{DurationMs, ModelSlug, NanoUsd, PicoUsdPerToken, PriceSchedule, SellerName};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Between two turns of the market.
const TURN_MS: u64 = 10;
const SELLERS: u64 = 3;
/// How long answers may take after the last item.
const DRAIN_MS: u64 = 30_000;
/// After this, with the worst clocks, no hold is in time.
const EVERYTHING_EXPIRES: DurationMs = DurationMs(600_000);
/// Between a failed write and the next exchange.
const REPAIR_MS: u64 = 200;

/// The law that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

impl<T: std::error::Error> From<T> for Broken {
    fn from(error: T) -> Self {
        Self(error.to_string())
    }
}

/// What a run met, so that a simulation in which nothing happens is noticed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) left: u64,
    pub(crate) unheard: u64,
    pub(crate) raises: u64,
    pub(crate) metered: u64,
    pub(crate) exchanges_died: u64,
    pub(crate) gateways_died: u64,
    pub(crate) cuts: u64,
    pub(crate) disk_faults: u64,
    pub(crate) expired: u64,
    pub(crate) receipts: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.refused += other.refused;
        self.left += other.left;
        self.unheard += other.unheard;
        self.raises += other.raises;
        self.metered += other.metered;
        self.exchanges_died += other.exchanges_died;
        self.gateways_died += other.gateways_died;
        self.cuts += other.cuts;
        self.disk_faults += other.disk_faults;
        self.expired += other.expired;
        self.receipts += other.receipts;
    }
}

/// What came of a run.
pub(crate) struct Run {
    pub(crate) trace: Vec<String>,
    pub(crate) result: Result<Tally, Broken>,
}

/// Plays items of a plan in a runtime of their own.
pub(crate) fn play(plan: &Plan, items: &[(u64, Item)]) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let diary = Diary { born: Instant::now(), lines: Arc::default() };
        let result = match World::open(plan, diary.clone()) {
            Ok(mut world) => world.play(items).await,
            Err(broken) => Err(broken),
        };
        let trace = std::mem::take(&mut *diary.lines.lock());
        Run { trace, result }
    })
}

/// An account with a key.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) credit: u64,
}

/// A gateway that lives.
struct Living {
    gateway: Gateway,
    remote: Arc<RemoteFunds>,
    callers: JoinSet<()>,
}

/// Where a gateway runs.
struct Place {
    living: Option<Living>,
    returns_at: u64,
    clock: Arc<SkewedClock>,
}

pub(crate) struct World<'a> {
    pub(crate) plan: &'a Plan,
    diary: Diary,
    pub(crate) disk: Store,
    network: Arc<Network>,
    places: Vec<Place>,
    sellers: Vec<Arc<Seller>>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) known: Knowledge,
    /// Openings of the books so far.
    life: u64,
    exchange_returns_at: u64,
    raises: Arc<AtomicU64>,
    metered: Arc<AtomicU64>,
    tally: Tally,
}

impl<'a> World<'a> {
    fn open(plan: &'a Plan, diary: Diary) -> Result<Self, Broken> {
        let clock = SkewedClock::new(diary.born);
        let (cuts, ways) = (AtomicU64::new(0), Mutex::default());
        let network = Arc::new(Network { exchange: Mutex::new(None), clock, ways, cuts });
        let asks = plan.items.iter().filter(|(_, item)| matches!(item, Item::Ask(_))).count();
        let mut world = Self {
            plan,
            disk: Store::default(),
            places: Vec::new(),
            sellers: (0..SELLERS).map(|n| Arc::new(seller(plan, n))).collect(),
            accounts: Vec::new(),
            known: Arc::new(Mutex::new(vec![Told::default(); asks])),
            life: 0,
            exchange_returns_at: 0,
            raises: Arc::default(),
            metered: Arc::default(),
            tally: Tally::default(),
            network,
            diary,
        };
        let exchange = world.open_exchange()?;
        for number in 0..BUYERS {
            let account = account(&exchange, number, plan.credits[number])?;
            world.accounts.push(account);
        }
        for place in 0..GATEWAYS {
            let clock = Arc::new(SkewedClock::new(world.diary.born));
            world.places.push(Place { living: None, returns_at: 0, clock });
            world.open_gateway(place)?;
        }
        Ok(world)
    }

    async fn play(&mut self, items: &[(u64, Item)]) -> Result<Tally, Broken> {
        let mut due: VecDeque<_> = items.iter().cloned().collect();
        let last = items.last().map_or(0, |(at, _)| *at);
        let mut at = 0;
        while at <= last + DRAIN_MS && (!due.is_empty() || at <= last || self.is_busy()) {
            sleep_until(self.diary.born + Duration::from_millis(at)).await;
            while let Some((_, item)) = due.pop_front_if(|(when, _)| *when <= at) {
                self.happens(item, at).await?;
            }
            self.turn(at)?;
            at += TURN_MS;
        }
        if self.is_busy() {
            return Err(Broken("an answer has no end".to_owned()));
        }
        self.quieten(at).await?;
        self.end()
    }

    fn is_busy(&self) -> bool {
        self.places.iter().filter_map(|place| place.living.as_ref()).any(|living| !living.callers.is_empty())
    }

    async fn happens(&mut self, item: Item, at: u64) -> Result<(), Broken> {
        match item {
            Item::Ask(ask) => self.asks(ask),
            Item::ExchangeDies { away_ms, skew_ms } => {
                self.network.clock.set(skew_ms);
                self.exchange_dies(at + away_ms);
            }
            Item::GatewayDies { gateway, away_ms } => self.gateway_dies(gateway, at + away_ms).await?,
            Item::Disk(fault) => {
                self.diary.note(format!("the disk will say: {fault:?}"));
                self.disk.arm(Some(fault));
            }
            Item::Cut { gateway, cut } => {
                self.diary.note(format!("gateway {gateway} will be cut off: {cut:?}"));
                self.network.ways.lock()[gateway].cut = Some(cut);
            }
            Item::Apart { gateway, for_ms } => {
                self.diary.note(format!("gateway {gateway} is cut off for {for_ms} ms"));
                let until = Instant::now() + Duration::from_millis(for_ms);
                self.network.ways.lock()[gateway].apart_until = Some(until);
            }
            Item::Clock { gateway, skew_ms } => {
                self.diary.note(format!("gateway {gateway} is off by {skew_ms} ms"));
                self.places[gateway].clock.set(skew_ms);
            }
        }
        Ok(())
    }

    fn asks(&mut self, ask: Ask) {
        let Ask { number, buyer, gateway, is_stream, .. } = ask;
        self.tally.requests += 1;
        self.known.lock()[number].buyer = buyer;
        let places = (0..GATEWAYS).map(|n| (gateway + n) % GATEWAYS);
        let Some(place) = places.into_iter().find(|place| self.places[*place].living.is_some()) else {
            return self.diary.note(format!("#{number}: no gateway lives"));
        };
        self.diary.note(format!("#{number}: buyer {buyer} asks gateway {place}, stream {is_stream}"));
        self.known.lock()[number].heard = Heard::Asked;
        let Some(living) = self.places[place].living.as_mut() else { return };
        let buyer = Buyer {
            gateway: living.gateway.clone(),
            key: self.accounts[buyer].key.clone(),
            known: self.known.clone(),
            diary: self.diary.clone(),
        };
        living.callers.spawn(buyer.ask(ask));
    }

    /// What the market does all the time.
    fn turn(&mut self, at: u64) -> Result<(), Broken> {
        let running = self.network.exchange.lock().clone();
        match running {
            Some((_, exchange)) => {
                if let Err(error) = exchange.flush() {
                    self.tally.disk_faults += 1;
                    self.diary.note(format!("the exchange cannot write: {error}"));
                    self.exchange_dies(at + REPAIR_MS);
                } else if at.is_multiple_of(1_000) {
                    self.tally.expired += exchange.tick(self.network.clock.now())? as u64;
                }
            }
            None if at >= self.exchange_returns_at => drop(self.open_exchange()?),
            None => {}
        }
        for place in 0..GATEWAYS {
            let Place { living, returns_at, .. } = &mut self.places[place];
            match living {
                Some(living) => {
                    living.remote.turn();
                    while let Some(ended) = living.callers.try_join_next() {
                        ended?;
                    }
                }
                None if at >= *returns_at => self.open_gateway(place)?,
                None => {}
            }
        }
        Ok(())
    }

    fn exchange_dies(&mut self, returns_at: u64) {
        let Some((_, exchange)) = self.network.exchange.lock().take() else { return };
        self.diary.note("the exchange dies");
        exchange.kill();
        self.exchange_returns_at = returns_at;
        self.tally.exchanges_died += 1;
    }

    fn open_exchange(&mut self) -> Result<Arc<Exchange>, Broken> {
        let config = ExchangeConfig {
            holds: Holds::OutliveExchange,
            snapshot_events: self.plan.snapshot_events,
            ..ExchangeConfig::default()
        };
        self.disk.arm(None);
        let seed = *blake3::hash(&self.plan.seed.to_le_bytes()).as_bytes();
        let now = self.network.clock.now();
        let exchange = Arc::new(Exchange::over(self.disk.clone(), config, (seed, self.life), now)?);
        self.life += 1;
        *self.network.exchange.lock() = Some((u128::from(self.life), exchange.clone()));
        self.diary.note(format!("exchange {} opens the books", self.life));
        Ok(exchange)
    }

    async fn gateway_dies(&mut self, place: usize, returns_at: u64) -> Result<(), Broken> {
        let Some(mut living) = self.places[place].living.take() else { return Ok(()) };
        self.diary.note(format!("gateway {place} dies"));
        // First nobody hears it any more, then everybody in it is gone.
        self.network.ways.lock()[place].life += 1;
        living.callers.abort_all();
        while let Some(ended) = living.callers.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                return Err(error.into());
            }
        }
        self.places[place].returns_at = returns_at;
        self.tally.gateways_died += 1;
        Ok(())
    }

    fn open_gateway(&mut self, place: usize) -> Result<(), Broken> {
        let life = self.network.ways.lock()[place].life;
        let network = self.network.clone();
        let remote =
            Arc::new(RemoteFunds::carried_by(Carrier { network, gateway: place, life, session: None }));
        let till = Till {
            remote: remote.clone(),
            bug: self.plan.bug,
            raises: self.raises.clone(),
            metered: self.metered.clone(),
            grants: Mutex::default(),
        };
        let drawn = mix(self.plan.seed ^ mix(place as u64 ^ (life << 8)));
        let ports = Ports {
            funds: Arc::new(till),
            records: Arc::new(NoRecords),
            outcomes: None,
            accounts: None,
            workspaces: None,
            admin: None,
            clock: self.places[place].clock.clone(),
            entropy: Arc::new(Entropy::seeded(*blake3::hash(&drawn.to_le_bytes()).as_bytes())),
            connect: Arc::new(Pipes(self.sellers.clone())),
        };
        let providers = self.sellers.iter().zip(1..).map(|(seller, port)| provider(seller, port));
        let config = GatewayConfig {
            durability: Durability::Strict,
            timeouts: timeouts(),
            providers: providers.collect::<Result<_, _>>()?,
            ..GatewayConfig::default()
        };
        let gateway = Gateway::new(config, ports)?;
        self.diary.note(format!("gateway {place} opens"));
        self.places[place].living = Some(Living { gateway, remote, callers: JoinSet::new() });
        Ok(())
    }

    /// Everything works again, until nobody owes anything.
    async fn quieten(&mut self, mut at: u64) -> Result<(), Broken> {
        self.disk.arm(None);
        for way in self.network.ways.lock().iter_mut() {
            (way.cut, way.apart_until) = (None, None);
        }
        let until = at + DRAIN_MS;
        let owes = |place: &Place| place.living.as_ref().is_none_or(|living| living.remote.kept() > 0);
        while self.network.exchange.lock().is_none() || self.places.iter().any(owes) || at + DRAIN_MS == until
        {
            if at > until {
                return Err(Broken("a settlement is owed for ever".to_owned()));
            }
            at += TURN_MS;
            sleep_until(self.diary.born + Duration::from_millis(at)).await;
            self.turn(at)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Tally, Broken> {
        let exchange = self.network.exchange.lock().clone().map(|(_, exchange)| exchange);
        let exchange = exchange.ok_or_else(|| Broken("no exchange is left".to_owned()))?;
        self.network.clock.set(0);
        let now = self.network.clock.now().plus(EVERYTHING_EXPIRES);
        self.tally.expired += exchange.tick(now)? as u64;
        self.tally.raises = self.raises.load(Ordering::Relaxed);
        self.tally.metered = self.metered.load(Ordering::Relaxed);
        self.tally.cuts = self.network.cuts.load(Ordering::Relaxed);
        self.tally.receipts = laws::check(self, &exchange, now)?;
        for told in self.known.lock().iter() {
            match told.heard {
                Heard::Whole if told.status == 200 && !told.has_failed => self.tally.answered += 1,
                Heard::Whole => self.tally.refused += 1,
                Heard::Left => self.tally.left += 1,
                Heard::Asked | Heard::Nothing => self.tally.unheard += 1,
            }
        }
        Ok(self.tally)
    }
}

/// Short, so that virtual time is.
fn timeouts() -> Timeouts {
    Timeouts {
        first_content: Duration::from_secs(2),
        plain_answer: Duration::from_secs(2),
        idle: Duration::from_secs(1),
        total: Duration::from_secs(8),
        ..Timeouts::default()
    }
}

fn seller(plan: &Plan, number: u64) -> Seller {
    let speed = SpeedLaw {
        first_token: Duration::from_millis(20 + 30 * number),
        per_token: Duration::from_millis(2 + number),
    };
    let seed = mix(plan.seed ^ mix(0x5E11 ^ number));
    let faults = FaultScript::Seeded { seed, permille: plan.fault_permille };
    let config =
        SellerConfig { speed, completion_words: 110, ..SellerConfig::new(format!("s{number}"), MODEL) };
    Seller::without_port(config.with_faults(faults))
}

/// Each seller asks a little more than the one before.
fn provider(seller: &Seller, port: u64) -> Result<ProviderConfig, Broken> {
    let prices = PriceSchedule {
        request: NanoUsd(100),
        ..PriceSchedule::per_token(
            PicoUsdPerToken(900_000 + port),
            PicoUsdPerToken(3_600_000 + 100_000 * port),
        )
    };
    Ok(ProviderConfig {
        name: SellerName::parse(&seller.config().name)?,
        kind: "openai".to_owned(),
        base_url: format!("http://seller:{port}/v1"),
        api_key: None,
        gathers: None,
        models: vec![ProviderModel::new(ModelSlug::parse(MODEL)?, MODEL, prices)],
    })
}

fn account(exchange: &Exchange, number: usize, credit: u64) -> Result<Account, Broken> {
    let name = format!("buyer-{number}");
    let new = NewKey { label: name.clone(), account: Some(name.clone()), ..NewKey::default() };
    let AdminReply::KeyCreated { secret, .. } = exchange.admin(AdminRequest::CreateKey(new), EPOCH)? else {
        return Err(Broken("no key was made".to_owned()));
    };
    let amount_usd = NanoUsd(credit).to_usd_string();
    exchange
        .admin(AdminRequest::Credit { account: name.clone(), amount_usd, idempotency_key: None }, EPOCH)?;
    Ok(Account { name, key: secret.0, credit })
}

//! Standing by: the books lie in a database, another exchange writes them, and this one takes over when it is gone.
//!
//! The lease decides who writes; it ends by itself some seconds after its owner said nothing more, and a fencing token keeps
//! an owner that was only slow from writing on. Until then nothing listens here, so that whoever spreads buyers over both
//! sees at once which of them serves. Holds of the one that died are given back at the start, as after any crash, unless
//! gateways elsewhere (`exchange.listen`) go on with theirs.
//!
//! A database that goes away while this one waits is waited for: when it restarts or moves, the active exchange has lost its
//! connection and writes nothing more, and whoever stands by must be there when it is back. One that has not answered yet
//! is more likely named wrongly, and ends the wait at once.

use crate::admin::cannot_open;
use crate::market::MarketConfig;
use crate::report::{Failure, Plain};
use crate::wiring;
use bourse_exchange::{Exchange, JournalError, OpenError, are_in_a_database, are_in_reach};
use bourse_gateway::{Clock as _, SystemClock};
use std::time::Duration;

/// How often a database that is away is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Opens the books as soon as nobody else writes them.
pub(super) async fn books(config: &MarketConfig) -> Result<Exchange, Failure> {
    let data_dir = &config.data_dir;
    let is_shared = are_in_a_database(data_dir.root()).map_err(|error| cannot_open(data_dir, error))?;
    if !is_shared {
        return Err(Plain::new("--standby needs books in a database that two exchanges can reach")
            .hint("`bourse migrate --to URL` moves them; the standby's folder has the same exchange.key and exchange.journal")
            .boxed());
    }
    if config.config.exchange.listen.is_some() {
        // Gateways know the active exchange's; one made here would keep them out just when they need this one.
        let file = wiring::secret_file(&config.config, data_dir);
        if !file.exists() {
            return Err(Plain::new(format!("there is no secret of gateways at {}", file.display()))
                .hint("copy exchange.secret from the active exchange's data folder, for its owner only (chmod 600)")
                .boxed());
        }
        wiring::secret(&config.config, data_dir)?;
    }
    let root = data_dir.root().to_owned();
    // The lease is waited for below, for seconds: a database that goes away meanwhile has answered before.
    let mut has_answered = tokio::task::spawn_blocking(move || are_in_reach(&root)).await.unwrap_or(false);
    if has_answered {
        eprintln!("standing by until nobody else writes these books");
    }
    let mut away = None;
    loop {
        let exchange_config = wiring::exchange(&config.config, data_dir.root())?;
        let root = data_dir.root().to_owned();
        let open = tokio::task::spawn_blocking(move || {
            // The time of the take-over, not of the wait.
            Exchange::open(&root, exchange_config, SystemClock.now())
        });
        match open.await {
            Ok(Ok(exchange)) => return Ok(exchange),
            Ok(Err(OpenError::Journal(JournalError::InUse))) => {
                if away.take().is_some() {
                    eprintln!("the database is back; another exchange writes these books");
                }
                has_answered = true;
            }
            Ok(Err(OpenError::Journal(JournalError::Store(why)))) if has_answered => {
                if away.as_ref() != Some(&why) {
                    eprintln!("the database is away; waiting until it is back: {why}");
                }
                away = Some(why);
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Ok(Err(error)) => return Err(cannot_open(data_dir, error).into()),
            Err(error) => return Err(Plain::new("the books were not opened").because(error).boxed()),
        }
    }
}

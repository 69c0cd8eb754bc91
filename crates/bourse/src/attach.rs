//! Finding the market that runs on this machine.
//!
//! A running market leaves its address in the data directory (see [`crate::data_dir`]); the operator's key
//! lies beside it. `BOURSE_API_KEY` stands in for the key, so that a budgeted key can be used instead.

use crate::client::Client;
use crate::config::Environment;
use crate::data_dir::{DataDir, Runtime};
use crate::report::{Failure, Plain};

/// The journal, as the exchange names it.
const JOURNAL_FILES: [&str; 2] = ["exchange.db", "exchange.journal"];

/// The market's address, or a failure that says how to start one.
pub fn running(data_dir: &DataDir) -> Result<Runtime, Failure> {
    data_dir.runtime()?.ok_or_else(|| not_running(data_dir))
}

/// A client for the public API of the running market, with the operator's key.
pub fn public(data_dir: &DataDir, environment: &Environment) -> Result<Client, Failure> {
    let runtime = running(data_dir)?;
    let given = environment.get("BOURSE_API_KEY").map(str::to_owned);
    let key = match given {
        Some(key) => Some(key),
        None => data_dir.operator_key()?,
    };
    let Some(key) = key else {
        return Err(Plain::new(format!("there is no key in {}", data_dir.root().display()))
            .hint("set BOURSE_API_KEY to a key of this market; `bourse key create` makes one")
            .boxed());
    };
    Ok(Client::new(&runtime.base_url, Some(key))?)
}

fn not_running(data_dir: &DataDir) -> Failure {
    Plain::new(format!("no market runs in {}", data_dir.root().display()))
        .hint("`bourse up` starts one; --data-dir DIR looks elsewhere")
        .boxed()
}

/// Makes sure that a market has ever been started here, so that no command begins one by mistake.
pub fn books(data_dir: &DataDir) -> Result<(), Failure> {
    if JOURNAL_FILES.iter().any(|name| data_dir.root().join(name).is_file()) {
        return Ok(());
    }
    Err(Plain::new(format!("there are no books in {}", data_dir.root().display()))
        .hint("`bourse up` begins a market; --data-dir DIR looks elsewhere")
        .boxed())
}

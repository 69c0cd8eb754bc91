//! The control plane: the ledger's owner, its journal in SQLite, keys, the receipts log, the books.
//!
//! [`Exchange`] is one market's money and memory. Gateways use it through
//! [`Funds`](bourse_wire::funds::Funds): authenticate, hold, extend, settle. Whoever asks about the past
//! uses [`Records`](bourse_wire::funds::Records), whoever administers keys
//! [`Accounts`](bourse_wire::funds::Accounts). Operators use [`Exchange::admin`]; [`check`],
//! [`balances`], [`statement`] and [`prove`] read a data directory whether its market runs or not.
//!
//! The journal is the only truth: one row per commit group, each group a list of records (ledger events,
//! account names, keys, policies, receipts and their notes, cases in suspense, payouts, attendances, checkpoints, epochs)
//! bound by a hash chain. Memory, snapshots, the receipts index with its sums of activity and the figures follow from it and
//! can be made again.
//!
//! Files in the data directory: `exchange.db` (journal and snapshot), `exchange.tail` (where it ends),
//! `exchange.key` (the signing key, 0600), `exchange.lock`, `index.db` (the receipts index),
//! `answers.db` (sealed answers for who asks again; free to lose).

mod accounts;
mod admin;
mod answers;
mod books;
mod check;
mod claims;
mod config;
mod core;
mod csv;
mod data_dir;
mod epoch;
mod exchange;
mod export;
mod figures;
mod funds;
mod index;
mod invoice;
mod keys;
mod limits;
mod look_through;
mod memory;
mod migrate;
mod names;
mod open;
mod paper;
mod payouts;
mod policies;
mod postings;
mod project;
mod prove;
mod record;
mod replay;
mod serve;
mod spend;
mod statements;
mod store;
mod suspense;
mod workspaces;

#[cfg(test)]
mod tests;

pub use admin::{
    AdminError, AdminReply, AdminRequest, BudgetInfo, KeyInfo, LimitsInfo, NewKey, NewWorkspace,
    PayoutRefusal, RateInfo, ScopeText, SecretText, WorkspaceInfo,
};
pub use books::{AccountLine, STATEMENT_LINES_MAX, StatementLine, StatementPage, balances, statement};
pub use bourse_ledger::JournalError;
pub use check::{BooksFacts, CheckReport, RELEASE_GRACE, check};
pub use claims::CLAIMS_MAX;
pub use config::{
    BYOK_FEE_BPS, ByokTerms, COMMIT_WINDOW, EARLY_COMMIT_BYTES, ExchangeConfig, FEE_BPS, Holds,
    LAZY_COMMIT_WINDOW, SNAPSHOT_EVENTS, STARTING_CREDIT,
};
pub use core::{CloseError, WAITING_BYTES_MAX};
pub use data_dir::DataDirError;
pub use epoch::{EPOCH_PERIOD, EpochError, EpochLine};
pub use exchange::Exchange;
pub use export::{ExportError, ExportFormat, ExportTable, export};
pub use figures::{
    DayFigures, Days, FIGURES_AFTER, FIGURES_DAYS_MAX, FIGURES_ROWS_MAX, FiguresError, figures,
};
pub use invoice::{
    INVOICE_CREDITS_MAX, INVOICE_LINES_MAX, Invoice, InvoiceCredit, InvoiceError, InvoiceLine, invoice,
};
pub use keys::{KEY_PREFIX, KEYS_MAX, KEYS_PER_ACCOUNT_MAX, LABEL_BYTES_MAX, hash_key, key_id};
pub use migrate::{MigrateError, migrate};
pub use names::{
    ACCOUNT_NAME_BYTES_MAX, ALLOWANCES, CLEARING, ESCROW, FEE, FREE, MEMO, OPERATOR, OPERATOR_NAME, ROUNDING,
    SELLER_PREFIX, SUBSIDY, SUSPENSE, seller_account_name,
};
pub use open::{OpenError, are_in_a_database, are_in_reach};
pub use payouts::{
    OwedLine, PAYOUT_MINIMUM, PAYOUTS_FAILED_KEPT_MAX, PAYOUTS_OPEN_MAX, PAYOUTS_PAID_KEPT_MAX, PayoutLine,
    PayoutTerms, PayoutsError,
};
pub use policies::POLICIES_MAX;
pub use postings::Period;
pub use project::{PROJECTION_GROUPS_MAX, PROJECTION_LAYOUT, ProjectError, Projected, Projection, project};
pub use prove::{ProveError, prove};
pub use replay::{ReplayReport, replay};
pub use serve::{FundsServer, FundsServerConfig, FundsSession, GATEWAYS_MAX, SILENT_AFTER, SessionEnd};
pub use statements::{
    AccountStatement, DayOrMonth, KindLine, MarketStatement, StatementMovements, StatementSection,
    StatementSort, account_statement, market_statement,
};
pub use store::SqliteJournal;
pub use store::{LEASE_TTL, PostgresJournal};
pub use suspense::{CASES_MAX, CaseLine, Party};

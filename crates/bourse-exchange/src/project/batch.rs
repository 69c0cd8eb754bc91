//! What some groups of the journal change in the tables, gathered before anything is written.

use super::payouts::PayoutRows;
use super::rows::{Rows, Table, bytes, moment, text, word};
use crate::index::{ActivityKey, Sale, add_sale};
use crate::keys::{KeyRow, key_id};
use crate::open::OpenError;
use crate::postings::{Entry, Held, Told};
use crate::record::EpochRecord;
use bourse_ledger::Account;
use bourse_types::{AccountId, KeyHash, NanoUsd, TransferId, UnixMs, UtcDay};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::{ActivitySums, GenerationNote, KeyRole, LimitReset};
use bourse_wire::receipt::Receipt;
use postgres::Transaction;
use std::collections::BTreeMap;

const ACCOUNTS: Table<7> = Table {
    name: "accounts",
    columns: [
        ("id", "bigint"),
        ("name", "text"),
        ("kind", "text"),
        ("balance_limit", "text"),
        ("unit", "text"),
        ("opened_at", "timestamptz"),
        ("digest", "bytea"),
    ],
    conflict: "ON CONFLICT DO NOTHING",
};
const NAMES: Table<2> = Table { name: "", columns: [("id", "bigint"), ("name", "text")], conflict: "" };
const BALANCES: Table<5> = Table {
    name: "balances",
    columns: [
        ("account", "bigint"),
        ("debits_pending", "numeric"),
        ("debits_posted", "numeric"),
        ("credits_pending", "numeric"),
        ("credits_posted", "numeric"),
    ],
    conflict: "",
};
const TRANSFERS: Table<8> = Table {
    name: "transfers",
    columns: [
        ("group_seq", "bigint"),
        ("place", "int"),
        ("id", "text"),
        ("at", "timestamptz"),
        ("request", "text"),
        ("debit", "bigint"),
        ("credit", "bigint"),
        ("amount", "numeric"),
    ],
    conflict: "",
};
const HOLDS: Table<5> = Table {
    name: "holds",
    columns: [
        ("id", "text"),
        ("debit", "bigint"),
        ("credit", "bigint"),
        ("amount", "numeric"),
        ("expires_at", "timestamptz"),
    ],
    conflict: "ON CONFLICT (id) DO UPDATE SET amount = EXCLUDED.amount, expires_at = EXCLUDED.expires_at",
};
const FREED: Table<1> = Table { name: "", columns: [("id", "text")], conflict: "" };
const RECEIPTS: Table<24> = Table {
    name: "receipts",
    columns: [
        ("leaf", "bigint"),
        ("group_seq", "bigint"),
        ("request", "text"),
        ("account_digest", "bytea"),
        ("key_digest", "bytea"),
        ("model", "text"),
        ("seller", "text"),
        ("finish", "text"),
        ("is_streamed", "boolean"),
        ("is_byok", "boolean"),
        ("attempts", "int"),
        ("prompt_tokens", "numeric"),
        ("cached_prompt_tokens", "numeric"),
        ("completion_tokens", "numeric"),
        ("units", "numeric"),
        ("charge", "numeric"),
        ("fee", "numeric"),
        ("byok_cost", "numeric"),
        ("request_hash", "bytea"),
        ("response_hash", "bytea"),
        ("created_at", "timestamptz"),
        ("settled_at", "timestamptz"),
        ("first_content_ms", "numeric"),
        ("total_ms", "numeric"),
    ],
    conflict: "",
};
const ACTIVITY: Table<11> = Table {
    name: "activity",
    columns: [
        ("day", "date"),
        ("account_digest", "bytea"),
        ("key_digest", "bytea"),
        ("model", "text"),
        ("seller", "text"),
        ("requests", "numeric"),
        ("prompt_tokens", "numeric"),
        ("completion_tokens", "numeric"),
        ("reasoning_tokens", "numeric"),
        ("cost", "numeric"),
        ("byok_cost", "numeric"),
    ],
    conflict: "ON CONFLICT (day, account_digest, key_digest, model, seller) DO UPDATE SET
        requests = activity.requests + EXCLUDED.requests,
        prompt_tokens = activity.prompt_tokens + EXCLUDED.prompt_tokens,
        completion_tokens = activity.completion_tokens + EXCLUDED.completion_tokens,
        reasoning_tokens = activity.reasoning_tokens + EXCLUDED.reasoning_tokens,
        cost = activity.cost + EXCLUDED.cost,
        byok_cost = activity.byok_cost + EXCLUDED.byok_cost",
};
const EPOCHS: Table<8> = Table {
    name: "epochs",
    columns: [
        ("number", "bigint"),
        ("closed_at", "timestamptz"),
        ("root", "bytea"),
        ("total", "numeric"),
        ("accounts", "bigint"),
        ("previous", "bytea"),
        ("exchange", "bytea"),
        ("signature", "bytea"),
    ],
    conflict: "",
};
const KEYS: Table<14> = Table {
    name: "keys",
    columns: [
        ("digest", "bytea"),
        ("id", "text"),
        ("account", "bigint"),
        ("role", "text"),
        ("label", "text"),
        ("is_disabled", "boolean"),
        ("spend_limit", "numeric"),
        ("limit_reset", "text"),
        ("includes_byok", "boolean"),
        ("creator", "text"),
        ("created_at", "timestamptz"),
        ("updated_at", "timestamptz"),
        ("expires_at", "timestamptz"),
        ("revoked_at", "timestamptz"),
    ],
    conflict: "ON CONFLICT (digest) DO UPDATE SET label = EXCLUDED.label, is_disabled = EXCLUDED.is_disabled,
        spend_limit = EXCLUDED.spend_limit, limit_reset = EXCLUDED.limit_reset,
        includes_byok = EXCLUDED.includes_byok, updated_at = EXCLUDED.updated_at,
        expires_at = EXCLUDED.expires_at, revoked_at = EXCLUDED.revoked_at",
};

/// What is added to the four sums of an account.
#[derive(Default, Clone, Copy)]
struct Change {
    debits_pending: i128,
    debits_posted: i128,
    credits_pending: i128,
    credits_posted: i128,
}

/// What some groups change.
pub(super) struct Batch {
    /// Receipts in the log so far.
    pub(super) receipts: u64,
    group_seq: u64,
    place: u32,
    accounts: Rows<7>,
    opened: Rows<1>,
    names: BTreeMap<AccountId, String>,
    changes: BTreeMap<AccountId, Change>,
    transfers: Rows<8>,
    /// None: not set aside any more.
    holds: BTreeMap<TransferId, Option<Held>>,
    receipt_rows: Rows<24>,
    activity: BTreeMap<ActivityKey, ActivitySums>,
    epochs: Rows<8>,
    keys: BTreeMap<KeyHash, KeyRow>,
    payouts: PayoutRows,
}

const OPENED: Table<1> =
    Table { name: "balances", columns: [("account", "bigint")], conflict: "ON CONFLICT DO NOTHING" };

impl Batch {
    pub(super) fn new(receipts: u64) -> Self {
        Self {
            receipts,
            group_seq: 0,
            place: 0,
            accounts: Rows::of(&ACCOUNTS),
            opened: Rows::of(&OPENED),
            names: BTreeMap::new(),
            changes: BTreeMap::new(),
            transfers: Rows::of(&TRANSFERS),
            holds: BTreeMap::new(),
            receipt_rows: Rows::of(&RECEIPTS),
            activity: BTreeMap::new(),
            epochs: Rows::of(&EPOCHS),
            keys: BTreeMap::new(),
            payouts: PayoutRows::new(),
        }
    }

    /// What follows is of this group.
    pub(super) fn begin(&mut self, group_seq: u64) {
        (self.group_seq, self.place) = (group_seq, 0);
    }

    pub(super) fn take(&mut self, told: Told<'_>) -> Result<(), OpenError> {
        match told {
            Told::Opened { at, account } => self.open(account, at),
            Told::Named { account, name } => drop(self.names.insert(account, name.to_owned())),
            Told::Held { id, held, .. } => {
                self.pending(&held, 1);
                self.holds.insert(id, Some(held));
            }
            Told::Freed { id, held, .. } => {
                self.pending(&held, -1);
                self.holds.insert(id, None);
            }
            Told::Entry(entry) => self.entry(entry),
            Told::Receipt { at, receipt, note } => {
                let last_good = self.group_seq.saturating_sub(1);
                let what = format!("receipt {} cannot be read", self.receipts);
                let unreadable =
                    |error: CanonicalError| OpenError::Replay { last_good, what: format!("{what}: {error}") };
                self.receipt(at, receipt, note).map_err(unreadable)?;
            }
            Told::Key(row) => drop(self.keys.insert(row.hash, row.clone())),
            Told::Epoch(epoch) => self.epoch(epoch),
            Told::Payout(record) => self.payouts.take(record),
            // The movements of suspense are entries like any other.
            Told::Suspense { .. } | Told::Attended(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, account: &Account, at: UnixMs) {
        self.opened.push([text(account.id.0)]);
        self.accounts.push([
            text(account.id.0),
            // Until it is named.
            text(format!("account {}", account.id.0)),
            text(account.kind.name()),
            text(account.limit.name()),
            text(account.unit),
            moment(at),
            bytes(&Receipt::digest_of_account(account.id).0),
        ]);
    }

    fn pending(&mut self, held: &Held, sign: i128) {
        let amount = sign * i128::from(held.amount.0);
        self.changes.entry(held.debit).or_default().debits_pending += amount;
        self.changes.entry(held.credit).or_default().credits_pending += amount;
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        for posting in entry.postings {
            let amount = i128::from(posting.amount.0);
            self.changes.entry(posting.debit).or_default().debits_posted += amount;
            self.changes.entry(posting.credit).or_default().credits_posted += amount;
            self.transfers.push([
                text(self.group_seq),
                text(self.place),
                text(format!("{:032x}", posting.transfer.0)),
                moment(entry.at),
                entry.request.and_then(text),
                text(posting.debit.0),
                text(posting.credit.0),
                text(posting.amount.0),
            ]);
            self.place += 1;
        }
    }

    fn receipt(&mut self, at: UnixMs, receipt: &[u8], note: &[u8]) -> Result<(), CanonicalError> {
        let (receipt, note) = (Receipt::from_canonical_bytes(receipt)?, GenerationNote::read(note)?);
        if let Some(sale) = Sale::of(&receipt, &note) {
            add_sale(&mut self.activity, &sale.on(UtcDay::of(at)));
        }
        let usage = &receipt.usage_billed;
        self.receipt_rows.push([
            text(self.receipts),
            text(self.group_seq),
            text(receipt.request),
            bytes(&receipt.account_digest.0),
            bytes(&receipt.key_digest.0),
            word(receipt.model.as_str()),
            receipt.seller.as_ref().and_then(|seller| word(seller.as_str())),
            text(receipt.finish.as_str()),
            text(receipt.streamed),
            text(note.is_byok()),
            text(receipt.attempts.len()),
            text(usage.prompt.0),
            text(usage.cached_prompt.0),
            text(usage.completion.0),
            text(usage.units),
            text(receipt.charge.total.0),
            text(receipt.fee.0),
            note.byok_cost.and_then(|cost| text(cost.0)),
            bytes(&receipt.request_hash.0),
            bytes(&receipt.response_hash.0),
            moment(receipt.created),
            moment(at),
            receipt.first_content_ms.and_then(text),
            text(receipt.total_ms),
        ]);
        self.receipts += 1;
        Ok(())
    }

    fn epoch(&mut self, EpochRecord { signed, .. }: &EpochRecord) {
        let epoch = &signed.epoch;
        self.epochs.push([
            text(epoch.number),
            moment(epoch.closed_at),
            bytes(&epoch.root.0),
            text(epoch.total_nano_usd),
            text(epoch.count),
            bytes(&epoch.previous.0),
            bytes(&signed.exchange.0),
            bytes(&signed.signature),
        ]);
    }

    /// Writes it all; the head is the caller's.
    pub(super) fn write(&self, work: &mut Transaction<'_>) -> Result<(), postgres::Error> {
        self.accounts.write(work)?;
        self.opened.write(work)?;
        let mut names = Rows::of(&NAMES);
        self.names.iter().for_each(|(account, name)| names.push([text(account.0), word(name)]));
        names.run(
            work,
            &format!(
                "UPDATE bourse_read.accounts a SET name = r.name FROM {} WHERE a.id = r.id",
                NAMES.rows()
            ),
        )?;
        self.write_balances(work)?;
        self.transfers.write(work)?;
        self.write_holds(work)?;
        self.receipt_rows.write(work)?;
        self.write_activity(work)?;
        self.epochs.write(work)?;
        let mut keys = Rows::of(&KEYS);
        self.keys.values().for_each(|key| keys.push(key_row(key)));
        keys.write(work)?;
        self.payouts.write(work)
    }

    fn write_balances(&self, work: &mut Transaction<'_>) -> Result<(), postgres::Error> {
        let mut changes = Rows::of(&BALANCES);
        for (account, c) in &self.changes {
            let sums = [c.debits_pending, c.debits_posted, c.credits_pending, c.credits_posted];
            let [debits_pending, debits_posted, credits_pending, credits_posted] = sums.map(text);
            changes.push([text(account.0), debits_pending, debits_posted, credits_pending, credits_posted]);
        }
        let update = format!(
            "UPDATE bourse_read.balances b SET debits_pending = b.debits_pending + r.debits_pending,
                debits_posted = b.debits_posted + r.debits_posted,
                credits_pending = b.credits_pending + r.credits_pending,
                credits_posted = b.credits_posted + r.credits_posted
             FROM {} WHERE b.account = r.account",
            BALANCES.rows()
        );
        changes.run(work, &update)
    }

    fn write_holds(&self, work: &mut Transaction<'_>) -> Result<(), postgres::Error> {
        let (mut open, mut freed) = (Rows::of(&HOLDS), Rows::of(&FREED));
        for (id, held) in &self.holds {
            let id = text(format!("{:032x}", id.0));
            match held {
                None => freed.push([id]),
                Some(held) => open.push([
                    id,
                    text(held.debit.0),
                    text(held.credit.0),
                    text(held.amount.0),
                    moment(held.expires_at),
                ]),
            }
        }
        let delete = format!("DELETE FROM bourse_read.holds h USING {} WHERE h.id = r.id", FREED.rows());
        freed.run(work, &delete)?;
        open.write(work)
    }

    fn write_activity(&self, work: &mut Transaction<'_>) -> Result<(), postgres::Error> {
        let mut rows = Rows::of(&ACTIVITY);
        for (key, sums) in &self.activity {
            rows.push([
                text(key.day),
                bytes(&key.account.0),
                bytes(&key.key.0),
                word(key.model.as_str()),
                word(key.seller.as_str()),
                text(sums.requests),
                text(sums.prompt_tokens),
                text(sums.completion_tokens),
                text(sums.reasoning_tokens),
                text(sums.cost.0),
                text(sums.byok_cost.0),
            ]);
        }
        rows.write(work)
    }
}

fn key_row(key: &KeyRow) -> [Option<String>; 14] {
    let role = match key.role {
        KeyRole::Inference => "inference",
        KeyRole::Management => "management",
    };
    let reset = match key.budget.reset {
        LimitReset::Never => "never",
        LimitReset::Daily => "daily",
        LimitReset::Weekly => "weekly",
        LimitReset::Monthly => "monthly",
    };
    [
        bytes(&Receipt::digest_of_key(&key.hash).0),
        text(key.id()),
        text(key.account.0),
        text(role),
        word(&key.label),
        text(key.is_disabled),
        key.budget.limit.and_then(|NanoUsd(limit)| text(limit)),
        text(reset),
        text(key.budget.includes_byok),
        key.creator.as_ref().and_then(|creator| text(key_id(creator))),
        moment(key.created),
        moment(key.updated),
        key.expires.and_then(moment),
        key.revoked.and_then(moment),
    ]
}

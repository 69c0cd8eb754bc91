//! The receipts index in SQLite: its own file, cheap to write, free to lose.
//!
//! A row for each receipt would cost more CPU than the receipt's settlement. So a step writes one row for
//! each second in which its requests were made: the entries of that second, 40 bytes each. A look-up reads
//! the rows of the request's own second and scans them; there are few rows, as most requests of a second
//! are settled in the same step.

use super::{
    ACTIVITY_ROWS_MAX, ActivityKey, ActivityRange, IndexBatch, IndexError, IndexHead, IndexStore, Place,
    first_kept,
};
use crate::data_dir::make_private;
use bourse_ledger::{Position, Reader};
use bourse_proof::log::{MerkleLog, Tile, TileSource};
use bourse_types::{Digest32, ModelSlug, NanoUsd, RequestId, SellerName, UnixMs, UtcDay};
use bourse_wire::funds::ActivitySums;
use bourse_wire::receipt::Checkpoint;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::collections::BTreeMap;
use std::path::Path;

/// File name of the index.
pub(crate) const INDEX_FILE: &str = "index.db";

/// `synchronous=OFF`: what a power cut destroys is made again from the journal.
const SETTINGS: &str = "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
    PRAGMA cache_size = -2048;";
/// Bytes of one entry: the request, its leaf, the group before, offset and length.
const ENTRY_BYTES: usize = 40;
const LAYOUT: &str = "
    CREATE TABLE IF NOT EXISTS second(second INTEGER NOT NULL, entries BLOB NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS second_second ON second(second);
    CREATE TABLE IF NOT EXISTS link(seq INTEGER PRIMARY KEY, chain BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS tile(level INTEGER NOT NULL, place INTEGER NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (level, place)) STRICT;
    CREATE TABLE IF NOT EXISTS head(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
        chain BLOB NOT NULL, log BLOB NOT NULL, size INTEGER, root BLOB, time INTEGER, exchange BLOB,
        signature BLOB) STRICT;
    CREATE TABLE IF NOT EXISTS activity(day INTEGER NOT NULL, account BLOB NOT NULL, key BLOB NOT NULL,
        model TEXT NOT NULL, seller TEXT NOT NULL, requests INTEGER NOT NULL, prompt INTEGER NOT NULL,
        completion INTEGER NOT NULL, reasoning INTEGER NOT NULL, cost INTEGER NOT NULL, byok INTEGER NOT NULL,
        PRIMARY KEY (day, account, key, model, seller)) STRICT, WITHOUT ROWID;
";

/// The index in a SQLite database.
pub(crate) struct SqliteIndex {
    db: Connection,
}

impl SqliteIndex {
    /// Opens or creates the index in a directory; one that cannot be read is replaced.
    pub(crate) fn open(dir: &Path) -> Result<Self, IndexError> {
        let path = dir.join(INDEX_FILE);
        Self::open_file(&path).or_else(|_| {
            for suffix in ["", "-wal", "-shm"] {
                let file = dir.join(format!("{INDEX_FILE}{suffix}"));
                if file.exists() {
                    std::fs::remove_file(&file).map_err(|error| IndexError::Store(error.to_string()))?;
                }
            }
            Self::open_file(&path)
        })
    }

    fn open_file(path: &Path) -> Result<Self, IndexError> {
        make_private(path).map_err(|error| IndexError::Store(error.to_string()))?;
        let db = Connection::open(path).map_err(store)?;
        db.execute_batch(SETTINGS).map_err(store)?;
        db.execute_batch(LAYOUT).map_err(store)?;
        Ok(Self { db })
    }

    fn insert(&mut self, batch: &IndexBatch, head: &IndexHead) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        {
            let mut seconds: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
            let mut links = BTreeMap::new();
            for (request, place) in &batch.places {
                put_entry(seconds.entry(second_of(*request)).or_default(), *request, place);
                links.insert(place.after.seq, place.after.chain);
            }
            let mut add =
                transaction.prepare_cached("INSERT INTO second(second, entries) VALUES (?1, ?2)")?;
            for (second, entries) in &seconds {
                add.execute(params![second, entries])?;
            }
            let mut add =
                transaction.prepare_cached("INSERT OR REPLACE INTO link(seq, chain) VALUES (?1, ?2)")?;
            for (seq, chain) in &links {
                add.execute(params![seq.cast_signed(), chain.0])?;
            }
            let sql = "INSERT OR REPLACE INTO tile(level, place, hashes) VALUES (?1, ?2, ?3)";
            let mut add = transaction.prepare_cached(sql)?;
            for tile in &batch.tiles {
                add.execute(params![tile.level, tile.index.cast_signed(), tile.to_bytes()])?;
            }
            let mut set = transaction.prepare_cached(
                "INSERT OR REPLACE INTO head(one, seq, chain, log, size, root, time, exchange, signature)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let c = head.checkpoint.as_ref();
            set.execute(params![
                head.position.seq.cast_signed(),
                head.position.chain.0,
                head.log.to_state_bytes(),
                c.map(|c| c.size.cast_signed()),
                c.map(|c| c.root.0),
                c.map(|c| c.time.0.cast_signed()),
                c.map(|c| c.exchange.0),
                c.map(|c| c.signature),
            ])?;
        }
        add_activity(&transaction, batch)?;
        transaction.commit()
    }
}

impl IndexStore for SqliteIndex {
    fn head(&self) -> Result<IndexHead, IndexError> {
        let sql = "SELECT seq, chain, log, size, root, time, exchange, signature FROM head WHERE one = 1";
        let row = self.db.query_row(sql, [], |row| {
            let position =
                Position { seq: row.get::<_, i64>(0)?.cast_unsigned(), chain: Digest32(row.get(1)?) };
            Ok((position, row.get::<_, Vec<u8>>(2)?, read_checkpoint(row)?))
        });
        match row.optional().map_err(store)? {
            None => Ok(IndexHead::default()),
            Some((position, log, checkpoint)) => {
                let log = MerkleLog::from_state_bytes(&log).map_err(|e| IndexError::Store(e.to_string()))?;
                Ok(IndexHead { position, log, checkpoint })
            }
        }
    }

    fn commit(&mut self, batch: &IndexBatch, head: &IndexHead) -> Result<(), IndexError> {
        self.insert(batch, head).map_err(store)
    }

    fn find(&self, request: RequestId) -> Result<Option<Place>, IndexError> {
        let sql = "SELECT entries FROM second WHERE second = ?1";
        let mut statement = self.db.prepare_cached(sql).map_err(store)?;
        let mut rows = statement.query(params![second_of(request)]).map_err(store)?;
        while let Some(row) = rows.next().map_err(store)? {
            let entries = row.get_ref(0).map_err(store)?;
            let entries = entries.as_blob().map_err(|error| IndexError::Store(error.to_string()))?;
            if let Some(mut place) = find_entry(entries, request) {
                let sql = "SELECT chain FROM link WHERE seq = ?1";
                let chain = self.db.query_row(sql, params![place.after.seq.cast_signed()], |row| row.get(0));
                place.after.chain = Digest32(chain.map_err(store)?);
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn activity(&self, range: &ActivityRange) -> Result<Vec<(ActivityKey, ActivitySums)>, IndexError> {
        let sql =
            "SELECT day, account, key, model, seller, requests, prompt, completion, reasoning, cost, byok
                   FROM activity WHERE account = ?1 AND day BETWEEN ?2 AND ?3 AND (?4 IS NULL OR key = ?4)";
        let mut statement = self.db.prepare_cached(sql).map_err(store)?;
        let key = range.key.map(|key| key.0);
        let rows = statement
            .query_map(params![range.account.0, range.first.0, range.last.0, key], |row| {
                let key = (row.get(0)?, Digest32(row.get(1)?), Digest32(row.get(2)?));
                Ok((key, row.get::<_, String>(3)?, row.get::<_, String>(4)?, read_sums(row, 5)?))
            })
            .map_err(store)?;
        let mut found = Vec::new();
        for row in rows {
            let ((day, account, key), model, seller, sums) = row.map_err(store)?;
            let (Ok(model), Ok(seller)) = (ModelSlug::parse(&model), SellerName::parse(&seller)) else {
                return Err(IndexError::Store("a row of activity has names that are none".to_owned()));
            };
            found.push((ActivityKey { day: UtcDay(day), account, key, model, seller }, sums));
        }
        Ok(found)
    }

    fn reset(&mut self) -> Result<(), IndexError> {
        let drop = "DROP TABLE IF EXISTS second; DROP TABLE IF EXISTS link; DROP TABLE IF EXISTS tile;
            DROP TABLE IF EXISTS head; DROP TABLE IF EXISTS activity;";
        self.db.execute_batch(&format!("BEGIN; {drop} {LAYOUT} COMMIT;")).map_err(store)
    }
}

impl TileSource for SqliteIndex {
    fn tile(&self, level: u8, index: u64) -> Option<Tile> {
        let sql = "SELECT hashes FROM tile WHERE level = ?1 AND place = ?2";
        let mut statement = self.db.prepare_cached(sql).ok()?;
        let row = statement.query_row(params![level, index.cast_signed()], |row| row.get::<_, Vec<u8>>(0));
        Tile::from_bytes(level, index, &row.ok()?)
    }
}

fn add_activity(transaction: &Transaction<'_>, batch: &IndexBatch) -> rusqlite::Result<()> {
    for (key, sums) in &batch.activity {
        if add_to_row(transaction, key, sums)? {
            continue;
        }
        let sql = "SELECT count(*) FROM activity WHERE day = ?1 AND account = ?2";
        let mut count = transaction.prepare_cached(sql)?;
        let rows: i64 = count.query_row(params![key.day.0, key.account.0], |row| row.get(0))?;
        let is_full = rows >= ACTIVITY_ROWS_MAX as i64;
        let Some(place) = (if is_full { key.other() } else { Some(key.clone()) }) else { continue };
        if !is_full || !add_to_row(transaction, &place, sums)? {
            insert_row(transaction, &place, sums)?;
        }
    }
    if let Some((newest, _)) = batch.activity.last_key_value() {
        let mut forget = transaction.prepare_cached("DELETE FROM activity WHERE day < ?1")?;
        forget.execute(params![first_kept(newest.day).0])?;
    }
    Ok(())
}

/// False when there is no such row.
fn add_to_row(
    transaction: &Transaction<'_>,
    key: &ActivityKey,
    more: &ActivitySums,
) -> rusqlite::Result<bool> {
    let sql = "SELECT requests, prompt, completion, reasoning, cost, byok FROM activity
               WHERE day = ?1 AND account = ?2 AND key = ?3 AND model = ?4 AND seller = ?5";
    let place = params![key.day.0, key.account.0, key.key.0, key.model.as_str(), key.seller.as_str()];
    let found = transaction.prepare_cached(sql)?.query_row(place, |row| read_sums(row, 0)).optional()?;
    let Some(mut sums) = found else { return Ok(false) };
    sums.add(more);
    insert_row(transaction, key, &sums)?;
    Ok(true)
}

fn insert_row(transaction: &Transaction<'_>, key: &ActivityKey, sums: &ActivitySums) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR REPLACE INTO activity(day, account, key, model, seller, requests, prompt, completion,
               reasoning, cost, byok) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let stored = |sum: u64| i64::try_from(sum).unwrap_or(i64::MAX);
    let row = params![
        key.day.0,
        key.account.0,
        key.key.0,
        key.model.as_str(),
        key.seller.as_str(),
        stored(sums.requests),
        stored(sums.prompt_tokens),
        stored(sums.completion_tokens),
        stored(sums.reasoning_tokens),
        stored(sums.cost.0),
        stored(sums.byok_cost.0),
    ];
    transaction.prepare_cached(sql)?.execute(row).map(drop)
}

fn read_sums(row: &Row<'_>, first: usize) -> rusqlite::Result<ActivitySums> {
    let sum = |at: usize| row.get::<_, i64>(first + at).map(i64::cast_unsigned);
    Ok(ActivitySums {
        requests: sum(0)?,
        prompt_tokens: sum(1)?,
        completion_tokens: sum(2)?,
        reasoning_tokens: sum(3)?,
        cost: NanoUsd(sum(4)?),
        byok_cost: NanoUsd(sum(5)?),
    })
}

fn second_of(request: RequestId) -> i64 {
    (request.time().0 / 1_000).cast_signed()
}

fn put_entry(entries: &mut Vec<u8>, request: RequestId, place: &Place) {
    entries.extend_from_slice(&request.0.to_le_bytes());
    entries.extend_from_slice(&place.leaf.to_le_bytes());
    entries.extend_from_slice(&place.after.seq.to_le_bytes());
    entries.extend_from_slice(&place.offset.to_le_bytes());
    entries.extend_from_slice(&place.len.to_le_bytes());
}

/// The place of a request among entries; its chain hash is still to be filled in.
fn find_entry(entries: &[u8], request: RequestId) -> Option<Place> {
    let wanted = request.0.to_le_bytes();
    let entry = entries.chunks_exact(ENTRY_BYTES).find(|entry| entry.starts_with(&wanted))?;
    let mut reader = Reader::new(&entry[wanted.len()..]);
    let leaf = reader.u64().ok()?;
    let after = Position { seq: reader.u64().ok()?, chain: Digest32::default() };
    Some(Place { leaf, after, offset: reader.u32().ok()?, len: reader.u32().ok()? })
}

fn read_checkpoint(row: &Row<'_>) -> rusqlite::Result<Option<Checkpoint>> {
    let Some(size) = row.get::<_, Option<i64>>(3)? else { return Ok(None) };
    Ok(Some(Checkpoint {
        size: size.cast_unsigned(),
        root: Digest32(row.get(4)?),
        time: UnixMs(row.get::<_, i64>(5)?.cast_unsigned()),
        exchange: Digest32(row.get(6)?),
        signature: row.get(7)?,
    }))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn store(error: rusqlite::Error) -> IndexError {
    IndexError::Store(error.to_string())
}

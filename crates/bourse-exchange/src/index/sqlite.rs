//! The receipts index in SQLite: its own file, cheap to write, free to lose.

use super::{IndexBatch, IndexError, IndexHead, IndexStore, Place};
use bourse_ledger::Position;
use bourse_proof::log::{MerkleLog, Tile, TileSource};
use bourse_types::{Digest32, RequestId, UnixMs};
use bourse_wire::receipt::Checkpoint;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;

/// File name of the index.
pub(crate) const INDEX_FILE: &str = "index.db";

/// `synchronous=OFF`: what a power cut destroys is made again from the journal.
const SETTINGS: &str = "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
    PRAGMA cache_size = -2048;";
const LAYOUT: &str = "
    CREATE TABLE IF NOT EXISTS receipt(request BLOB PRIMARY KEY, leaf INTEGER NOT NULL,
        after_seq INTEGER NOT NULL, after_chain BLOB NOT NULL, offset INTEGER NOT NULL,
        len INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS tile(level INTEGER NOT NULL, place INTEGER NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (level, place)) STRICT;
    CREATE TABLE IF NOT EXISTS head(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
        chain BLOB NOT NULL, log BLOB NOT NULL, size INTEGER, root BLOB, time INTEGER, exchange BLOB,
        signature BLOB) STRICT;
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
        let db = Connection::open(path).map_err(store)?;
        db.execute_batch(SETTINGS).map_err(store)?;
        db.execute_batch(LAYOUT).map_err(store)?;
        Ok(Self { db })
    }

    fn insert(&mut self, batch: &IndexBatch, head: &IndexHead) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        {
            let mut add = transaction.prepare_cached(
                "INSERT OR REPLACE INTO receipt(request, leaf, after_seq, after_chain, offset, len)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (request, place) in &batch.places {
                let (seq, chain) = (place.after.seq.cast_signed(), place.after.chain.0);
                let leaf = place.leaf.cast_signed();
                add.execute(params![request.0.to_be_bytes(), leaf, seq, chain, place.offset, place.len])?;
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
        let sql = "SELECT leaf, after_seq, after_chain, offset, len FROM receipt WHERE request = ?1";
        let mut statement = self.db.prepare_cached(sql).map_err(store)?;
        let row = statement.query_row(params![request.0.to_be_bytes()], |row| {
            let seq = row.get::<_, i64>(1)?.cast_unsigned();
            Ok(Place {
                leaf: row.get::<_, i64>(0)?.cast_unsigned(),
                after: Position { seq, chain: Digest32(row.get(2)?) },
                offset: row.get(3)?,
                len: row.get(4)?,
            })
        });
        row.optional().map_err(store)
    }

    fn reset(&mut self) -> Result<(), IndexError> {
        let drop = "DROP TABLE IF EXISTS receipt; DROP TABLE IF EXISTS tile; DROP TABLE IF EXISTS head;";
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

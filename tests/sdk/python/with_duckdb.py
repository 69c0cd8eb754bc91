"""DuckDB reads the exported tables and comes to the same sums as the market, to the nano-dollar.

Run alone, after the market has closed: `with_duckdb.py PROGRAM DATA_DIR`.
"""
import json
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import duckdb


def ledger(*args):
    program, folder = sys.argv[1:3]
    command = [program, "ledger", *args, "--data-dir", folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def nano(usd):
    return int(Decimal(usd) * 10**9)


with tempfile.TemporaryDirectory() as folder:
    sql = duckdb.connect().execute
    for table in ("transfers", "accounts", "receipts"):
        file = Path(folder) / f"{table}.parquet"
        ledger("export", "--format", "parquet", "--table", table, "--out", file)
        sql(f"CREATE TABLE {table} AS SELECT * FROM '{file}'")
    types = {name: kind for name, kind, *_ in sql("DESCRIBE accounts").fetchall()}
    assert types["credits_posted"] == "DECIMAL(38,0)" and types["opened_at"].startswith("TIMESTAMP"), types
    told = {line["name"]: line for line in json.loads(ledger("balance", "--json"))}
    sums = sql("SELECT name, credits_posted - debits_posted, debits_pending FROM accounts").fetchall()
    assert {name: (int(balance), int(held)) for name, balance, held in sums} == {
        name: (nano(line["balance_usd"]), nano(line["held_usd"])) for name, line in told.items()
    }
    assert sql("SELECT sum(credits_posted) - sum(debits_posted) FROM accounts").fetchone() == (0,)
    # The transfers come to the same by another way, and the receipts to what the operator spent.
    moved = sql("SELECT name, sum(amount) FROM (SELECT credit AS name, amount FROM transfers UNION ALL"
                " SELECT debit, -amount FROM transfers) GROUP BY name").fetchall()
    assert {name: int(sum) for name, sum in moved} == {
        name: int(balance) for name, balance, _ in sums if name in dict(moved)
    } and len(moved) > 3, moved
    [charged] = sql("SELECT sum(charge) FROM receipts").fetchone()
    [spent] = sql("SELECT sum(amount) FROM transfers WHERE debit_kind = 'customer'").fetchone()
    assert charged == spent > 0, (charged, spent)
    rows = ledger("export", "--format", "csv").splitlines()
    assert sql("SELECT count(*) FROM transfers").fetchone() == (len(rows) - 1,)

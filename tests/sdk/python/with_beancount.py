"""Beancount reads the exported books, finds nothing wrong and comes to the same balance of every account.

Run alone, after the market has closed: `with_beancount.py PROGRAM DATA_DIR`.
"""
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from decimal import Decimal

from beancount import loader
from beancount.core import data


def ledger(*args):
    program, folder = sys.argv[1:3]
    command = [program, "ledger", *args, "--data-dir", folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


with tempfile.NamedTemporaryFile("w", suffix=".beancount") as file:
    file.write(ledger("export", "--format", "beancount"))
    file.flush()
    entries, errors, _ = loader.load_file(file.name)
assert not errors, errors[:3]
names = {entry.account: entry.meta["name"] for entry in entries if isinstance(entry, data.Open)}
sums = defaultdict(Decimal)
for entry in entries:
    for posting in entry.postings if isinstance(entry, data.Transaction) else ():
        sums[names[posting.account]] += posting.units.number
# The market counts what it owes as positive, accountants as negative.
told = {
    line["name"]: -Decimal(line["balance_usd"])
    for line in json.loads(ledger("balance", "--json"))
    if line["kind"] not in ("allowance", "control")
}
assert len(sums) > 3, "the books hold something"
assert {name: sums[name] for name in told} == told, [name for name in told if sums[name] != told[name]]

"""A stock reader of PDF finds in an invoice what the books say.

Run alone, after the market has closed: `with_pypdf.py PROGRAM DATA_DIR`.
"""
import json
import subprocess
import sys
import tempfile
from decimal import Decimal

from pypdf import PdfReader


def ledger(*args):
    program, folder = sys.argv[1:3]
    command = [program, "ledger", *args, "--data-dir", folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
    ledger("invoice", "--format", "pdf", "--out", file.name)
    reader = PdfReader(file.name, strict=True)
    assert reader.metadata.title == "Invoice of operator", reader.metadata
    lines = [line for page in reader.pages for line in page.extract_text().splitlines()]
told = json.loads(ledger("invoice", "--json"))
balance = next(line for line in json.loads(ledger("balance", "--json")) if line["name"] == "operator")


def total(what):
    [line] = [line for line in lines if line.startswith(what)]
    return line.split()[-1]


assert total("Spent, USD") == told["spent_usd"], lines[-4:]
assert total("Balance after, USD") == told["closing_usd"] == balance["balance_usd"], (lines[-4:], balance)
days = {use["day"] for use in told["usage"]}
uses = [line.split()[-1] for line in lines if line.split() and line.split()[0] in days]
assert uses == [use["cost_usd"] for use in told["usage"]] and len(uses) > 3, uses
assert sum(map(Decimal, uses)) == Decimal(told["spent_usd"]) > 0, uses

"""Stock clients against a running market: what a Python buyer relies on.

Run by `cargo xtask test`, which starts the market and names it in the environment. With arguments only the named
suites run, as in `run.py openai_chat`. The last line is `N passed, N failed`.
"""
import importlib, sys

import market

SUITES = ["openai_chat", "openai_responses", "openai_media", "anthropic", "openrouter", "openrouter_account", "schema"]


def unusable(suite, error):
    """A suite that cannot even be imported is one failed check, not a crash of the run."""
    def fail():
        raise error
    market.CHECKS.append((f"the suite {suite} can be loaded", fail))


for suite in sys.argv[1:] or SUITES:
    try:
        importlib.import_module(f"with_{suite}")
    except Exception as error:
        unusable(suite, error)
sys.exit(market.run())

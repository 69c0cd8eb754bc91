"""What is asked, and what may be spent on it."""
from typing import NamedTuple, Optional


class Scenario(NamedTuple):
    clients: int
    deltas: int  # of a stream; 0: an answer in one piece
    gap_us: int  # between two deltas
    most: Optional[float]  # CPU of bourse, times nginx's
    most_strict: Optional[float]  # the same with durability = "strict"


SCENARIOS = {
    "plain c1": Scenario(1, 0, 0, None, None),
    "plain c16": Scenario(16, 0, 0, 1.4, 3.0),
    "plain c64": Scenario(64, 0, 0, 1.4, 2.0),
    "stream20 c16": Scenario(16, 20, 0, 1.2, 1.4),
    "stream200 c16": Scenario(16, 200, 0, 1.2, 1.4),
    "paced20 c32": Scenario(32, 20, 5000, 1.2, 1.4),
}
# Before the first round every gateway serves these for a while: just-in-time compilers need it.
PRIMES = ("plain c16", "stream20 c16")
READY_MAX_S, IDLE_RSS_MAX_MB = 0.3, 30

"""The stock `openrouter` client for this market, and what its lenient side would let through.

The client validates every answer against its own types, but takes an event or item that it does not know, or that does
not fit the type it names, as `Unknown…`; `known` refuses those. It repeats a 5xx for up to an hour, so it is
told not to.
"""
from openrouter import OpenRouter, utils
from pydantic import BaseModel

from market import API_KEY, BASE_URL, WITHIN_S


def connect(key=API_KEY):
    never = utils.RetryConfig("none", utils.BackoffStrategy(1, 1, 1, 1), False)
    return OpenRouter(api_key=key, server_url=BASE_URL, retry_config=never, timeout_ms=WITHIN_S * 1000)


def known(value, path="answer"):
    """The value itself; an error when anything in it is of no known type."""
    if isinstance(value, BaseModel):
        assert not getattr(value, "is_unknown", False), f"{path} is of no type that the client knows: {value}"
        for name in type(value).model_fields:
            known(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            known(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            known(item, f"{path}.{name}")
    return value

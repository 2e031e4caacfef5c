"""What the clients' tests share: which server they talk to, and what they ask it.

THIMBLE_URL is the server's address, THIMBLE_KEY its API key. check.sh starts a server and sets both.
"""

import os
import sys

URL = os.environ.get("THIMBLE_URL", "").rstrip("/")
KEY = os.environ.get("THIMBLE_KEY", "")
if not URL:
    sys.exit("expected THIMBLE_URL, the address of a running `thimble serve`: see check.sh")

QUESTION = [{"role": "user", "content": "Name three colors of the rainbow."}]
GREEDY = {"temperature": 0, "max_tokens": 24}

# Every value of it is short, so that even a model with random weights ends.
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Paris", "Lima"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

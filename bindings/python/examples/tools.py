"""A tool that the model may call: `python tools.py MODEL`."""

import sys
from typing import Literal

from thimble import Model


def temperature(city: str, unit: Literal["C", "F"] = "C") -> float:
    """The temperature in a city, now."""
    return 21.5 if unit == "C" else 70.7


with Model.open(sys.argv[1]) as model:
    chat = model.chat(tools=[temperature])
    reply = chat.send("How warm is it in Paris?").reply
    for _ in range(3):
        if not reply.tool_calls:
            break
        results = [chat.run_tool(call) for call in reply.tool_calls]
        reply = chat.send_tool_results(results).reply
    print(reply.text)

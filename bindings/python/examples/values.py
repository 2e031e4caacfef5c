"""Answers as values: `python values.py MODEL`."""

import sys
from dataclasses import dataclass
from typing import Optional

from thimble import Model


@dataclass
class City:
    name: str
    country: str
    inhabitants: Optional[int]


with Model.open(sys.argv[1]) as model:
    chat = model.chat()
    city = chat.ask("Tell me about the city with the Eiffel Tower.", schema=City)
    print(city.name, city.country, city.inhabitants)
    print(chat.ask("Is it in Europe?", choices=["yes", "no"]))
    print(chat.ask("When was the tower built?", regex=r"\d{4}"))

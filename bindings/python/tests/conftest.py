"""The model that the tests talk to.

THIMBLE_MODEL names a .thimble file, best the real SmolLM2-135M-Instruct; without it a tiny model with random weights is
made by the repository's own code, which takes cargo. THIMBLE names the command `thimble`, to compare with. Where one is
missing its tests are skipped, or fail if THIMBLE_REQUIRE has `model` among its names.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from thimble import Model, Sampling

REPOSITORY = Path(__file__).parents[3]


def missing(why: str) -> NoReturn:
    """Skips the test, or fails it where nothing may be skipped."""
    if {"model", "all"} & set(os.environ.get("THIMBLE_REQUIRE", "").split(",")):
        pytest.fail(f"THIMBLE_REQUIRE names model, but {why}")
    if counted := os.environ.get("THIMBLE_SKIPPED"):
        with open(counted, "a", encoding="utf-8") as file:
            file.write(f"model: {os.environ.get('PYTEST_CURRENT_TEST', 'a Python test')} ({why})\n")
    pytest.skip(why)


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model file."""
    named = os.environ.get("THIMBLE_MODEL")
    if named:
        return Path(named)
    if not shutil.which("cargo"):
        missing("THIMBLE_MODEL names no model, and there is no cargo to make one with")
    made = tmp_path_factory.mktemp("model") / "tiny.thimble"
    command = ["cargo", "run", "--quiet", "-p", "conformance", "--example", "tiny_model", "--", str(made), "2048"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return made


@pytest.fixture
def model(path: Path) -> Iterator[Model]:
    """The model, opened."""
    with Model.open(path, threads=2) as model:
        yield model


@pytest.fixture
def thimble() -> str:
    """The command."""
    named = os.environ.get("THIMBLE") or shutil.which("thimble")
    if not named:
        missing("THIMBLE does not name the command to compare with")
    return named


def greedy() -> Sampling:
    """Always the likeliest token."""
    return Sampling(temperature=0.0, top_k=None, top_p=None, repetition_penalty=1.0, seed=None)


def lively(seed: int = 7) -> Sampling:
    """Answers that go on, and are the same each time."""
    return Sampling(temperature=1.2, top_k=None, top_p=1.0, repetition_penalty=1.1, seed=seed)

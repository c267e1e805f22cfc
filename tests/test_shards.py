"""One run, several processes: the same items in the same order, and nothing lost when one of them dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from refine import cli, shards, store
from refine.commands import run as command
from refine.errors import RefineError
from refine.shards import Shard
from refine.stilllife.oracle import Oracle
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Critique, Image

ROOT = Path(__file__).parent.parent
ARGUMENTS = ("--preset", "painter", "--set", "batch=1")


class Mortal:
    """The oracle; the process whose rank DYING_RANK names dies at its next look once an image of its own is finished."""

    def __init__(self) -> None:
        self._oracle = Oracle()

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        rank = os.environ.get("RANK", "")
        if rank and os.environ.get("DYING_RANK") == rank and Path(f"broken/ledger.{rank}.jsonl").exists():
            os._exit(7)
        return self._oracle.inspect(images)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stories(folder: Path) -> dict[str, object]:
    """Every record of a run without its times, every picture's bytes, and the ledger in its order."""
    found: dict[str, object] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("items/**/*.png")}
    for path in folder.glob("items/*/record.json"):
        found[path.parent.name] = json.loads(path.read_text(encoding="utf-8")) | {"seconds": 0}
    lines = (folder / store.LEDGER).read_text(encoding="utf-8").splitlines()
    return found | {"ledger": [json.loads(line) | {"seconds": 0} for line in lines]}


def test_a_process_that_was_launched_alone_is_the_only_one() -> None:
    assert shards.here({}) == Shard(0, 1, 0)
    assert shards.here({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Shard(3, 4, 1)
    assert shards.here({"PMI_RANK": "1", "PMI_SIZE": "2"}) == Shard(1, 2, 0)
    assert not shards.here({"RANK": "3", "WORLD_SIZE": "4"}).first


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("items", [0, 1, 5, 8])
def test_every_item_is_some_process_s_and_shares_differ_by_one_at_most(count: int, items: int) -> None:
    shares = [shards.shard(range(items), Shard(rank, count)) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_waits_and_failures_are_one_s_own() -> None:
    with shards.together() as place:
        shards.wait(place)
        assert shards.agree(place, lambda: "yes") == "yes"
        with pytest.raises(RefineError, match="mine"):
            shards.agree(place, fail)


def fail() -> str:
    raise RefineError("mine")


def test_shares_computed_apart_make_the_same_run() -> None:
    assert cli.main(["run", *ARGUMENTS, "--out", "whole"]) == 0
    assert cli.main(["run", *ARGUMENTS, "--out", "shared", DEFAULT_PROMPTS[0]]) == 0
    (line,) = store.ledger(Path("shared"))
    store.keep_jobs(*store.reopen(Path("shared"))[:1], store.reopen(Path("whole"))[1])
    finished = frozenset({line["key"]})
    for rank in (1, 0):
        command.compute(Path("shared"), finished, Shard(rank, 2))
    assert (Path("shared") / "ledger.1.jsonl").exists()
    assert [line["prompt"] for line in store.ledger(Path("shared"))] == list(DEFAULT_PROMPTS)
    Path("shared/items/.left-by-a-crash").mkdir()
    command.conclude(Path("shared"))
    assert {path.name for path in Path("shared").iterdir()} == {path.name for path in Path("whole").iterdir()}
    assert not list(Path("shared/items").glob(".*"))
    assert stories(Path("shared")) == stories(Path("whole"))


def launched(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``refine run`` in two processes. On a machine without accelerators, ``accelerate launch --cpu`` starts one process only."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", port, "-m", "refine", "run"]
    found = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run([sys.executable, *launch, *arguments], env=found, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_two_launched_processes_give_what_one_gives() -> None:
    assert cli.main(["run", *ARGUMENTS, "--out", "one"]) == 0
    done = launched(*ARGUMENTS, "--out", "two")
    assert done.returncode == 0, done.stderr
    assert "this process has 2 of 4 images" in done.stderr
    assert done.stdout.count("report:") == 1
    assert stories(Path("one")) == stories(Path("two"))


@pytest.mark.slow
def test_a_wrong_request_is_said_once() -> None:
    done = launched("--preset", "painter", "--set", "budget.round=1", "--out", "two")
    assert done.returncode != 0
    assert done.stderr.count("Did you mean 'budget.rounds'?") == 1
    assert not Path("two").exists()


@pytest.mark.slow
def test_what_a_dead_process_left_is_whole_and_resume_completes_it() -> None:
    mortal = (*ARGUMENTS, "--set", f"controller={__name__}:Mortal")
    assert cli.main(["run", *mortal, "--out", "whole"]) == 0
    done = launched(*mortal, "--out", "broken", DYING_RANK="1")
    assert done.returncode != 0
    lines = store.ledger(Path("broken"))
    assert 0 < len(lines) < len(DEFAULT_PROMPTS)
    assert all((Path("broken/items") / line["key"] / "record.json").exists() for line in lines)
    assert launched("--out", "broken", "--resume").returncode == 0
    assert stories(Path("broken")) == stories(Path("whole"))

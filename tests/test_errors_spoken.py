"""The commands behind ``python -m``: what the user can mend is one message, and only that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refine.errors import CheckpointError, InputError, spoken


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("--n is 1; give 2 or more."), 2, "error: --n is 1; give 2 or more."),
        (CheckpointError("No weights."), 4, "error: No weights."),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
)
def test_what_the_user_can_mend_is_one_message(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        spoken(raising(error))
    assert left.value.code == code
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        spoken(lambda: (tmp_path / "gone.npz").read_bytes())
    assert f"{tmp_path / 'gone.npz'}: No such file or directory" in capsys.readouterr().err


def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    for fault in (KeyError("x"), OSError("a library's own words")):
        with pytest.raises(type(fault)):
            spoken(raising(fault))

"""Every error that refine raises for a user.

RefineError
├── ConfigError          the configuration has faults (all of them are listed)
├── UnknownName          no preset, plugin or key of that name (with the nearest one)
├── InputError           an image, a prompt or a file that cannot be used
├── OutputError          the run folder cannot be written or must not be overwritten
├── CheckpointError      weights that are missing, foreign, unsafe or incomplete
├── AnswerError          a model, here or behind a server, that gives no answer that can be used
└── MissingDependency    an optional package is needed; says the pip line

A message gives the wrong value, the rule, and what to do next. Bugs of our own are ``assert``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class RefineError(Exception):
    """Something the user can mend."""

    exit_code = 1


class ConfigError(RefineError, ValueError):
    """The configuration has faults; ``faults`` lists them all. ``advice``, what to do about them, is said below the list."""

    exit_code = 2

    def __init__(self, faults: Iterable[str] | str, advice: str = "") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        count = len(self.faults)
        head = "The configuration has a fault" if count == 1 else f"The configuration has {count} faults"
        said = f"{head}:\n" + "\n".join(f"  - {fault}" for fault in self.faults) if count > 1 else f"{head}: {self.faults[0]}"
        super().__init__(f"{said}\n{advice}" if advice else said)


class UnknownName(ConfigError, LookupError):
    """No preset, plugin, key or field of that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(unknown(kind, name, known))


class InputError(RefineError, ValueError):
    """An image, a prompt or a file that cannot be used."""

    exit_code = 2


class OutputError(RefineError, OSError):
    """The run folder cannot be written, or holds something that must not be overwritten."""

    exit_code = 3

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.args)


class CheckpointError(RefineError, ValueError):
    """Weights that are missing, foreign, unsafe or incomplete."""

    exit_code = 4


class AnswerError(RefineError, RuntimeError):
    """A model, here or behind a server, that gives no answer that can be used."""

    exit_code = 6


class MissingDependency(RefineError, ImportError):
    """An optional package is needed for what was asked."""

    exit_code = 5

    def __init__(self, package: str, purpose: str, extra: str | None = None) -> None:
        target = f'"legion-refine[{extra}]"' if extra else package
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed. Install it with: pip install {target}")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist: what was asked, the nearest, and all there are."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}."


def going_on(folder: object) -> str:
    """The options that go on with a folder, as a shell reads them."""
    return f"--out {shlex.quote(str(folder))} --resume"


@contextmanager
def loading(what: str, advice: str = "Give a folder, or a hub name.") -> Iterator[None]:
    """For calls of others' loaders: whatever they stumble over becomes one CheckpointError, "Cannot load ``what``: reason ``advice``".

    They raise anything where a file is cut short or belongs to another model (safetensors has an error class of its own). Our own errors
    go on as they are, and so does a full accelerator, which is no fault of the file.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, RefineError) or type(error).__name__ == "OutOfMemoryError":  # torch is not imported here
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"Cannot load {what}: {reason} {advice}") from error


def spoken(main: Callable[[], object]) -> None:
    """Run the ``main`` of a ``python -m`` command; what the user can mend, a file or folder that is not there too, is one message."""
    try:
        main()
    except RefineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}. Give another path, or make it first.", file=sys.stderr)
        sys.exit(OutputError.exit_code)
    except KeyboardInterrupt:
        print("\ninterrupted. What is finished is kept; the same command goes on.", file=sys.stderr)
        sys.exit(130)

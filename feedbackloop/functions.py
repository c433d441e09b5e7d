"""Functions of one's own, named in a spec as `PATH.py:NAME` or `package.module:NAME`: variants and graders alike."""

from __future__ import annotations

import hashlib
import importlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from feedbackloop.errors import SettingsError
from feedbackloop.registry import near


@dataclass(frozen=True)
class Loaded:
    """A function and where it came from."""

    function: Callable[..., Any]
    file: Path | None
    """None for a module without a file."""
    modified: int
    """When the file was changed, in nanoseconds."""
    source: str
    """Hash of the source file; of a module without one, its name."""

    def changed(self) -> bool:
        """Whether the file was edited since."""
        return self.modified != _modified(self.file)


_importing = threading.RLock()
_neighbours: dict[str, Path] = {}
"""Modules that files brought in from their own folder, so that another folder's of the same name can take their place."""


def load(reference: str, base: Path, *, reload: bool = False) -> Loaded:
    """Import a function.

    Args:
        reference: `PATH.py:NAME`, the path from `base`, or `package.module:NAME`. A file may import its neighbours at its top.
        base: folder that paths and modules are looked for in.
        reload: import it anew, and its neighbours too.

    Raises:
        SettingsError: there is no such file, module or function, or importing it fails.
    """
    target, _, name = reference.rpartition(":")
    with _importing:
        if target.endswith(".py"):
            module = _from_file((base / Path(target).expanduser()).resolve(), reload=reload)
        else:
            module = _from_name(target, base.resolve(), reload=reload)
    function = getattr(module, name, None)
    if function is None:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise SettingsError(f"{target} has no function '{name}'{near(name, known)}")
    if not callable(function):
        raise SettingsError(f"'{name}' in {target} is no function, but a value of type {type(function).__name__}")
    file = Path(module.__file__) if module.__file__ else None
    source = file.read_bytes() if file else target.encode()
    return Loaded(function, file, _modified(file), hashlib.sha256(source).hexdigest()[:32])


def _modified(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file else 0
    except OSError:
        return 0


def _from_file(path: Path, *, reload: bool) -> ModuleType:
    if not path.is_file():
        others = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise SettingsError(f"There is no file {path}{near(path.name, others)}")
    folder = path.parent
    for name, place in list(_neighbours.items()):
        shadowed = place != folder and ((folder / f"{name}.py").exists() or (folder / name).is_dir())
        if shadowed or (reload and place == folder):
            for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[loaded]
            del _neighbours[name]
    # Named by its whole path, so that files of one name in several folders stay apart.
    private = f"_feedbackloop_own_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    module = ModuleType(private)
    module.__file__ = str(path)
    before = set(sys.modules)
    sys.modules[private] = module
    importlib.invalidate_caches()
    try:
        with _folder_on_path(folder), _as_settings_error(str(path)):
            # Compiled here and not by a loader, which takes an edit within one second for the cached bytecode.
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - the file is the user's own, named in a spec of theirs
    except SettingsError:
        del sys.modules[private]
        raise
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if name.partition(".")[0] == name and file and folder in Path(file).parents:
            _neighbours[name] = folder
    return module


def _from_name(target: str, base: Path, *, reload: bool) -> ModuleType:
    with _folder_on_path(base), _as_settings_error(target):
        importlib.invalidate_caches()
        module = importlib.import_module(target)
        return importlib.reload(module) if reload else module


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _as_settings_error(target: str) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise SettingsError(f"{error.filename}:{error.lineno}: this is not valid Python: {error.msg}") from error
    except ModuleNotFoundError as error:
        if error.name and (target == error.name or target.startswith(f"{error.name}.")):
            raise SettingsError(f"There is no module '{error.name}' to import {target} from") from error
        raise SettingsError(f"{target} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        raise SettingsError(f"{target} cannot be imported: {message}") from error

"""A run as a process of its own: it goes on when whoever started it is gone, and is watched and stopped by its events alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from feedbackloop.errors import StoreError
from feedbackloop.identity import content_id, new_id, utcnow
from feedbackloop.models import RunEvent
from feedbackloop.queries import RunStatus
from feedbackloop.spec import RunSpec, VariantSpec
from feedbackloop.store import Store

_ALLOWED = "--allow-unknown-price"

LOG_TAIL = 20_000
"""Bytes of a log that are looked through for the error at its end."""


class Launched:
    """A process that was started here; gone after a restart of this program, while the run itself is known to the store.

    Attributes:
        pid: of the process; the run's events carry it too.
        began: when it was started.
        log: what it prints.
    """

    def __init__(self, store: Store, words: Sequence[str], log: Path, *, passing: tuple[Path, ...] = ()) -> None:
        self.log = log
        self.began = utcnow()
        self._passing = passing
        self._error: str | None = None
        self._ended = threading.Event()
        try:
            with log.open("wb") as stream:
                # A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    _command(store, *words),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=_environment(store),
                    start_new_session=True,
                )
        except OSError as error:
            raise StoreError(f"{log.parent}: a run cannot be started here ({error.strerror})") from error
        self.pid = self._process.pid
        # Somebody must ask for its end, or it stays in the process table and passes for living.
        threading.Thread(target=self._wait, name=f"feedbackloop-run-{self.pid}", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return self._ended.is_set()

    @property
    def error(self) -> str | None:
        """The sentence that it ended with; None while it goes on, or if all is well."""
        return self._error if self.ended else None

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; false if it still goes on after so many seconds."""
        return self._ended.wait(timeout_s)

    def _wait(self) -> None:
        code = self._process.wait()
        if code < 0:
            self._error = f"the run's process was ended from outside (signal {-code})"
        elif code not in (0, 100):  # 100: the answers are in, and a check that was required failed on one
            self._error = _last_sentence(self.log) or f"the run's process ended with code {code}"
        for file in self._passing:
            file.unlink(missing_ok=True)
        self._ended.set()


def start(spec: Path, store: Store, *, allow_unknown_price: bool = False) -> Launched:
    """Run a spec as `feedbackloop run SPEC` does, in the background; its log lies beside it.

    Whether it came to a run shows in the store (`queries.overview.run_of_process`), or in `error` if it ended before.

    Args:
        spec: the file.
        store: where everything goes.
        allow_unknown_price: ask models too whose price nobody knows.

    Raises:
        StoreError: no process can be started, or its log not be written.
    """
    words = ["run", str(spec), *([_ALLOWED] if allow_unknown_price else [])]
    return Launched(store, words, spec.with_suffix(".log"))


def attempt(spec: RunSpec, store: Store, rows: int = 3) -> Launched:
    """Try a spec on its first rows, as `feedbackloop run SPEC --limit 3` does; leaves the answers in the store and no file.

    They are asked call by call also where the run is to be by batch: somebody waits for them.

    Raises:
        StoreError: no process can be started, or its files not be written.
    """
    file = store.folder / f".try-{new_id()[:8]}.yaml"
    _write(file, spec_text(spec.model_copy(update={"executor": "async"}), file.parent))
    log = file.with_suffix(".log")
    # What a few rows cost is what one tries them for, too.
    return Launched(store, ["run", str(file), "--limit", str(rows), _ALLOWED], log, passing=(file, log))


def resume(store: Store, run_id: str) -> Launched:
    """Go on with a run that was stopped or interrupted, in the background.

    Raises:
        StoreError: no process can be started, or its log not be written.
    """
    return Launched(store, ["resume", run_id], store.folder / f"resume-{run_id[:8]}.log")


def stop(store: Store, run_id: str) -> None:
    """Ask a run to stop, whatever process it is in: it looks every few seconds, and calls in flight are waited for."""
    store.append([RunEvent(run_id=run_id, kind="stop_asked", pid=os.getpid())])


def cannot_resume(status: RunStatus) -> str | None:
    """Why a run cannot be gone on with from here, as a sentence; None if it can."""
    kept = status.run.settings
    if "imported" in kept:
        return "Its answers were made elsewhere: import the file again to complete it."
    if kept.get("own_graders") or kept.get("source") is None:
        return "It was begun from Python with data or checks of its own: go on with it there, by fl.resume(...)."
    if not Path(str(kept["source"])).exists():
        return f"Its dataset {kept['source']} is not there any more."
    return None


def save_spec(spec: RunSpec, folder: Path, name: str) -> Path:
    """Write a spec so that `feedbackloop run` says the same with it later; equal content, equal file.

    Args:
        folder: where paths in the spec start from, the file's own.
        name: what the file is called, besides some digits of its content.

    Raises:
        StoreError: the folder cannot be written.
    """
    text = spec_text(spec, folder)
    file = folder / f"{name}-{content_id(text)[:6]}.yaml"
    _write(file, text)
    return file


def spec_text(spec: RunSpec, folder: Path | None = None) -> str:
    """A spec as YAML, with what it leaves at its default left out.

    Args:
        folder: where the file will lie; the dataset's path is written from there.
    """
    values: dict[str, Any] = {"task": spec.task.name}
    described = spec.task.model_dump(exclude_none=True)
    if len(described) > 1:
        values["task"] = described
    dataset = spec.dataset_path
    values["dataset"] = spec.dataset if folder is None else os.path.relpath(dataset, folder)
    if spec.id_column:
        values["id_column"] = spec.id_column
    values["variants"] = [_variant(variant) for variant in spec.variants]
    rest = spec.model_dump(
        mode="json", exclude_defaults=True, exclude={"task", "dataset", "id_column", "variants", "base"}
    )
    return yaml.dump(values | rest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _variant(variant: VariantSpec) -> dict[str, Any]:
    return variant.model_dump(mode="json", exclude_defaults=True)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, which is how people write prompts."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{file}: cannot be written ({error.strerror})") from error


def _command(store: Store, *words: str) -> list[str]:
    # A shared store's address holds a password, which every user of the machine could read from a command line.
    where = [] if store.is_shared else ["--store", store.address]
    return [sys.executable, "-m", "feedbackloop", *words, *where]


def _environment(store: Store) -> dict[str, str]:
    """Ours, with the store and this very package to be found in it: `streamlit run` of a checkout puts that on its own path alone."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "FEEDBACKLOOP_STORE": store.address}
    found = importlib.util.find_spec("feedbackloop")
    root = Path(found.origin).parents[1] if found and found.origin else None
    # Where it is installed it is found anyway, and site-packages must not go before Python's own modules.
    if root is not None and str(root) not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        paths = [str(root), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


def _last_sentence(log: Path) -> str | None:
    """The error that a log ends with, as the command line wrote it."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return None
    if not lines:
        return None
    said = next((line for line in reversed(lines) if line.startswith("Error: ")), lines[-1])
    return said.removeprefix("Error: ")

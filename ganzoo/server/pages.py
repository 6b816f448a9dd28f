"""The pages of `ganzoo serve` and `ganzoo explore`, for the command line and for Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import is_directory
from ganzoo.registry.guard import print_to_stderr
from ganzoo.server.running import address_of, guarded, listen, make_server, require_packages, run_server

#: the ports that are tried first
REPORT_PORT, EXPLORE_PORT = 8420, 8430
#: seconds that a server may take to answer or to end
_PATIENCE = 10.0


class HasPath(Protocol):
    """A run that has been loaded, such as `ganzoo.load(path)`."""

    path: Path


class Page:
    """A page that this process serves. `address` opens it in a browser. As a context manager it ends with the block."""

    def __init__(self, app: Any, host: str, port: int | None, first_port: int, names: Sequence[str], stop: Any) -> None:
        self._listener = listen(host, port, first_port)
        self._app, self._stop = guarded(app, host, names), stop
        self._server: Any = None
        self._thread: threading.Thread | None = None
        #: the address for a browser on this machine
        self.address = address_of(self._listener)

    def run(self, announce: Callable[[str], None], open_browser: bool) -> None:
        """Serve the page in this thread until Ctrl-C or SIGTERM; `announce` gets the address when it is up."""
        run_server(self._app, self._listener, announce, open_browser, self._stop)

    def start(self, open_browser: bool = False) -> Page:
        """Serve the page in a thread of its own. Returns when it answers."""
        up = threading.Event()
        self._server = make_server(self._app, self._listener, lambda address: up.set(), open_browser, self._stop)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        if not up.wait(_PATIENCE):
            self.stop()
            raise GanzooError(f"The server at {self.address} does not answer.")
        return self

    def wait(self) -> None:
        """Wait until the page is stopped, or until Ctrl-C, which stops it."""
        try:
            while self._thread is not None and self._thread.is_alive():
                time.sleep(0.1)
        finally:
            self.stop()

    def stop(self) -> None:
        """End the page. It may be called again."""
        self._stop()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)
        self._listener.close()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<page {self.address}>"

    def _repr_html_(self) -> str:
        return f'<a href="{self.address}" target="_blank" rel="noopener">{self.address}</a>'


def report_page(
    directory: Path, host: str, port: int | None, names: Sequence[str], note: Callable[[str], None]
) -> Page:
    """The page of `ganzoo serve`, not yet up. Raises UsageError where there is no directory."""
    if not is_directory(directory):
        raise UsageError(f"There is no directory {directory}: name a run or a folder of runs.")
    require_packages("serve")
    from ganzoo.reports.page import content_security_policy, page_data, render
    from ganzoo.server.live import LiveReport

    report = LiveReport(directory, page_data, render, content_security_policy, note)
    return Page(report.starlette(), host, port, REPORT_PORT, names, report.stop)


def explore_page(
    run: Path,
    device: str,
    extractor: Choice | None,
    host: str,
    port: int | None,
    names: Sequence[str],
    changed_code: bool,
    note: Callable[[str], None],
) -> Page:
    """The page of `ganzoo explore`, not yet up. Raises GanzooError where the run has no generator."""
    require_packages("explore")
    from ganzoo.engine.device import find_device
    from ganzoo.registry.zoo import zoo
    from ganzoo.server.explore import ExploreApp
    from ganzoo.server.explorer import Explorer

    explorer = Explorer(run, zoo(), find_device(device), changed_code, note)
    return Page(ExploreApp(explorer, extractor).starlette(), host, port, EXPLORE_PORT, names, lambda: None)


def serve(
    directory: str | Path | HasPath,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_host: Sequence[str] = (),
    open: bool = False,
) -> Page:
    """Serve the page of `ganzoo.report` on a run or a folder, which follows the runs; returns at once.

    `with ganzoo.serve("runs") as page:` ends it with the block, `page.stop()` at any time, and `page.wait()` keeps a
    script alive until Ctrl-C. `page.address` opens it. `port` 0 takes any free one; by default 8420 or the next free
    one. `allow_host` are other names by which browsers may ask for the page, and `open` opens it in a browser. Only
    this machine can reach it, unless `host` is another address.
    Raises UsageError without such a directory or for a port that is taken, GanzooError without the extra `serve`.
    """
    return report_page(_path(directory), host, port, allow_host, print_to_stderr).start(open)


def explore(
    run: str | Path | HasPath,
    *,
    extractor: str | Choice | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_host: Sequence[str] = (),
    open: bool = False,
    device: str = "auto",
    accept_changed_code: bool = False,
) -> Page:
    """Serve the page of `ganzoo explore` on a run, where a person moves through its latents; returns at once.

    With an `extractor` such as "domain" the nearest training images are also found by its features. `device` draws the
    images. The other arguments and the result are those of `serve`; the port is 8430 or the next free one.
    Raises UsageError for a run that is not there or a port that is taken, GanzooError without a generator.
    """
    chosen = Choice.parse(extractor) if isinstance(extractor, str) else extractor
    path = _path(run)
    return explore_page(path, device, chosen, host, port, allow_host, accept_changed_code, print_to_stderr).start(open)


def _path(given: str | Path | HasPath) -> Path:
    return Path(given) if isinstance(given, str | Path) else given.path

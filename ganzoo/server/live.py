"""ganzoo serve: the page of a report that follows the runs below a folder."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ganzoo.contract.errors import GanzooError
from ganzoo.server.watch import Snapshot, Watch

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

#: seconds between two looks at the files, at least, and as a multiple of what a look takes
_INTERVAL, _LOOKS = 0.5, 20
#: seconds between two readings of the runs, as a multiple of what a reading takes
_READINGS = 2
#: seconds after which a stream without news says that it is still there
_SILENCE = 15.0
_TICK = 0.1
_NOTHING_YET = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="color-scheme" content="light dark"><title>ganzoo serve</title>
<p>There is no run here yet. This page looks again every two seconds.</p></html>
"""

_Result = TypeVar("_Result")
ReadRuns = Callable[[Sequence[Path]], dict[str, Any]]


class LiveReport:
    """The page of the runs below a folder, its data, and a stream of events that says when these have changed.

    Only names, sizes and times of files are looked at until somebody asks for data that have changed.
    """

    def __init__(
        self,
        root: Path,
        page_data: ReadRuns,
        render: Callable[[Mapping[str, Any], bool], str],
        policy: Callable[[str, bool], str],
        note: Callable[[str], None],
    ) -> None:
        """`page_data`, `render` and `policy` (the Content-Security-Policy of a page) are those of `reports.page`."""
        self.watch = Watch(root)
        self.page_data, self.render, self.policy, self.note = page_data, render, policy, note
        #: counts the changes of the files
        self.version = 0
        self.stopped = False
        self._seen = self.watch.look()
        self._noted: set[Path] = set()
        self._data: dict[str, Any] | None = None
        self._data_version = -1
        self._next_look = self._next_reading = 0.0
        self._reading = ThreadPoolExecutor(1, "read")

    def stop(self) -> None:
        """End all streams, within a tenth of a second."""
        self.stopped = True

    def starlette(self) -> Starlette:
        """The application, without the checks of `guard`."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/data.json", self._data_json),
                Route("/events", self._events),
            ]
        )

    # --- answers ------------------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        data = await self._newest()
        if data is None:
            return HTMLResponse(_NOTHING_YET)
        html = await self._in_thread(self.render, data, True)
        return HTMLResponse(html, headers={"Content-Security-Policy": self.policy(html, True)})

    async def _data_json(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        data = await self._newest()
        if data is None:
            return JSONResponse({"error": "There is no run here any more."}, 404)
        return JSONResponse(data)

    async def _events(self, request: Request) -> Response:
        from starlette.responses import Response, StreamingResponse

        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events: the version now, and each later one as soon as its data may be asked for."""
        sent, last = -1, time.monotonic()
        while not self.stopped:
            await self._look()
            now = time.monotonic()
            if self.version != sent and (sent < 0 or now >= self._next_reading):
                sent, last = self.version, now
                yield f"data: {json.dumps({'version': sent})}\n\n"
            elif now - last > _SILENCE:
                last = now
                yield ": nothing new\n\n"
            await asyncio.sleep(_TICK)

    # --- files --------------------------------------------------------------------------------------------------

    async def _look(self, now: bool = False) -> None:
        """Compare the files with the last look, if it is time, or `now`."""
        began = time.monotonic()
        if not now and began < self._next_look:
            return
        self._next_look = began + _INTERVAL
        seen = await self._in_thread(self.watch.look)
        self._next_look = time.monotonic() + max(_INTERVAL, _LOOKS * (time.monotonic() - began))
        if seen.state != self._seen.state or seen.refused != self._seen.refused:
            self._seen = seen
            self.version += 1

    async def _newest(self) -> dict[str, Any] | None:
        """The data of the page as the files are now; None where there is no run."""
        await self._look(now=True)
        return await self._in_thread(self._read)

    def _read(self) -> dict[str, Any] | None:
        version, seen = self.version, self._seen
        if version != self._data_version:
            began = time.monotonic()
            paths = self._shown(seen)
            try:
                self._data = self.page_data(paths) if paths else None
            except GanzooError:  # the runs were removed in the meantime
                self._data = None
            # the first reading tells nothing of the next one: what it read is remembered
            pause = _READINGS * (time.monotonic() - began) if self._data_version >= 0 else 0.0
            self._data_version = version
            self._next_reading = time.monotonic() + pause
        return self._data

    def _shown(self, seen: Snapshot) -> list[Path]:
        """The paths of the page: the folder, or, where a run must not be shown, the other runs one by one."""
        for path in seen.refused:
            if path not in self._noted:
                self._noted.add(path)
                self.note(f"{path} is not shown: a link in it leads out of {self.watch.root}.")
        if not seen.refused:
            return [self.watch.root] if seen.runs else []
        above = {parent for path in seen.refused for parent in path.parents}
        return [path for path in seen.runs if path not in seen.refused and path not in above]

    async def _in_thread(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """The result of a call in the thread that reads files."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, functools.partial(function, *arguments))

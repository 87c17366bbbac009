"""One process that serves a release: its socket, its signals, its log."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lib.errors import UserError
from lib.files import project_path
from lib.progress import to_stdout
from lib.serving.app import LIMIT_S, create_app
from lib.serving.engine import Engine, Served
from lib.serving.metrics import Metrics

HEAD_S = 10.0  # for the head of a request to arrive
KEEP_ALIVE_S = 30  # between two requests of a connection
BACKLOG = 2048
LOOK_S = 1.0  # between two looks at where the release's link leads


class _Impatient(HttpToolsProtocol):
    """Closes a connection whose request head does not arrive: uvicorn limits only the time between two requests."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_S, transport.close)

    def on_message_begin(self) -> None:
        self._head.cancel()
        self._head = self.loop.call_later(HEAD_S, self.transport.close)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        super().connection_lost(exc)


def serve(path: str, host: str, port: int, num_threads: int, window_size: int = 0) -> None:
    """Serve a release until SIGTERM or SIGINT, which let finish what is in flight. SIGHUP loads `path` again, and so
    does a link that leads elsewhere.

    Args:
        path: a release folder, or a link to one.
        port: 0 = any that is free; the first line of output says which.
        num_threads: as of `Served.load`.
        window_size: as of `create_app`.

    Raises:
        UserError: the release cannot be served, or the address is not free.
    """
    engine = Engine(Served.load(path, num_threads), Metrics())
    listening = _listen(host, port)
    app = create_app(engine, window_size)
    started = app.routed.router.lifespan_context

    @asynccontextmanager
    async def lifespan(scope: object) -> AsyncIterator[None]:
        async with started(scope):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, reload.set)
            tasks = [asyncio.create_task(work()) for work in (reloading, following)]
            to_stdout(f"serving {_words(engine.served)}")
            to_stdout(f"listening on http://{shown}:{address[1]} (SIGTERM ends it, SIGHUP loads the release again)")
            yield
            for task in tasks:
                task.cancel()

    async def following() -> None:
        """A link is looked at, as `promote` turns it: its place, and not the files behind it."""
        before = link.resolve()
        while True:
            await asyncio.sleep(LOOK_S)
            if (now := link.resolve()) != before:
                before = now
                reload.set()

    async def reloading() -> None:
        """One after the other, and each in a thread of its own: the event loop goes on answering."""
        while await reload.wait():
            reload.clear()
            try:
                engine.serve(await asyncio.to_thread(Served.load, path, num_threads))
            except UserError as error:
                to_stdout(f"kept {_words(engine.served)}: {error}")
            except Exception as error:  # a damaged release can fail in any way, and the next one may be whole
                log.error("the release at %s cannot be loaded", path, exc_info=error)
                to_stdout(f"kept {_words(engine.served)}: the release at {path} cannot be loaded ({error!r:.200})")
            else:
                to_stdout(f"serving {_words(engine.served)}")

    link = project_path(path)
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.WARNING)
    reload = asyncio.Event()
    app.routed.router.lifespan_context = lifespan
    address = listening.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    config = uvicorn.Config(
        app,
        http=_Impatient,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(LIMIT_S) + 5,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn takes them while it runs, and raises them again at its end
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])
    to_stdout("ended: what was in flight is answered")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on port {port} of {host}: {reason}; choose another with --port") from None
    # Connections inherit it. asyncio sets it only on sockets that name TCP as their protocol, and this one does not:
    # the body of an answer would wait 40 ms until the client acknowledges the head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _words(served: Served) -> str:
    release = served.release
    return f"{release.name} {release.version} (digest {release.digest[:12]})"

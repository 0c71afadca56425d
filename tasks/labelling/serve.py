"""The labelling page on a port of this machine, until Ctrl-C."""

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping, Sequence

import uvicorn

from posttrain.errors import RequestError
from tasks.labelling.app import label_app
from tasks.labelling.desk import Desk

LOOPBACK = "127.0.0.1"
LONGEST_GOODBYE = 5
"""Seconds that requests may take to end after Ctrl-C."""
EVERY = 0.5
"""Seconds between two looks at whether the batch is over."""


class _Server(uvicorn.Server):
    """uvicorn's server, which besides ends by itself where it is told to, and says when it listens."""

    def __init__(self, config: uvicorn.Config, *, begun: Callable[[], None], ended: Callable[[], bool]) -> None:
        super().__init__(config)
        self._begun, self._ended = begun, ended

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._begun()

    async def main_loop(self) -> None:
        """Answer until a signal comes, or the page has no more to do."""
        watcher = asyncio.create_task(self._watch())
        try:
            await super().main_loop()
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        while not await asyncio.to_thread(self._ended):
            await asyncio.sleep(EVERY)
        self.should_exit = True


def serve_page(
    desk: Desk,
    *,
    port: int,
    host: str = LOOPBACK,
    hosts: Sequence[str] = (),
    verdicts: Mapping[str, float] | None = None,
    begun: Callable[[], None] = lambda: None,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Serve a batch's page until Ctrl-C, SIGTERM or `ended`, and close the desk.

    Nothing of a request is logged but an error in our own code, and that without its headers and body: they hold tokens.

    Args:
        desk: of the batch.
        port: to listen at.
        host: address to listen at.
        hosts: names by which the page is called, beside those of this machine; `host` is one of them.
        verdicts: of a judge, shown after each answer; None: none is.
        begun: called once the page can be opened.
        ended: tells whether the page has no more to do; asked twice a second, in a thread.

    Raises:
        RequestError: the port is taken, or one cannot listen at the address.
    """
    try:
        with _listening(host, port) as listener:
            own = [] if host in (LOOPBACK, "localhost", "0.0.0.0") else [host]
            app = label_app(desk, port=port, hosts=[*hosts, *own], verdicts=verdicts)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=LONGEST_GOODBYE,
            )
            _Server(config, begun=begun, ended=ended).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn has answered what was asked, closed, and then repeats the signal
    finally:
        desk.close()


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; made here, so that a port that is taken is told in a sentence.

    Raises:
        RequestError: the port is taken, or the address is not one of this machine.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise RequestError(
                f"port {port} must be free for the labelling page, but another program listens there, perhaps a page that is "
                f"still open. End that, or take another port: make label PORT={port + 1}"
            ) from None
        if error.errno == errno.EACCES:
            raise RequestError(f"port {port} is for the system alone. Take one from 1024 on: make label PORT=8010") from None
        raise RequestError(
            f"labelling.host={host}: no program can listen there ({error.strerror}). Give an address of this machine"
        ) from None
    return listener

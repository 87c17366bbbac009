"""The routes: `/predict` for images, the Open Inference Protocol for tensors, metrics, health, and a page to try it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from lib.release.page import page, page_part
from lib.release.reader import OUTPUT, Release
from lib.serving import protocol
from lib.serving.decoding import FORMATS, MAX_BYTES, Refused
from lib.serving.engine import MAX_BATCH, RETRY_AFTER_S, Answer, Engine, Upload
from lib.serving.window import SEQUENCE, Window
from lib.signs import artwork_svg, sign_named

LIMIT_S = 15.0  # for a request: its body to arrive, and its answer
MAX_HELD = 64 * 1024 * 1024  # bytes of bodies of all requests that are being read or answered
PIECE = 64 * 1024  # bytes of a multipart body that are parsed at once
LINGER_S = 2.0  # for the rest of a body that is no longer needed: a client that still sends would lose its answer
MULTIPART = "multipart/form-data"
_HEAD = """<link rel="icon" href="artwork/stop" type="image/svg+xml">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
<script src="answer.js" defer></script>"""
_PAGE = {
    "": (page(_HEAD), "text/html"),
    "page.css": (page_part("page.css"), "text/css"),
    "page.js": (page_part("page.js"), "text/javascript"),
    "answer.js": (Path(__file__).with_name("answer.js").read_text(encoding="utf-8"), "text/javascript"),
}
_SAFE = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
T = TypeVar("T")
_log = logging.getLogger("uvicorn.error")


def create_app(engine: Engine, window_size: int = 0) -> Application:
    """The application. It starts the engine's threads and ends them.

    Args:
        window_size: answers that `GET /window` has; 0: none is kept.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.stop)

    app = FastAPI(
        title="German traffic signs",
        description="Which of the classes of GTSRB an image shows. Errors are JSON: one sentence in `error`.",
        version=engine.served.release.version,
        lifespan=lifespan,
        docs_url=None,  # both pages of documentation load scripts from elsewhere
        redoc_url=None,
    )
    routes = _Routes(engine, Window(window_size) if window_size else None)
    app.add_api_route("/predict", routes.predict, methods=["POST"], openapi_extra=_PREDICT, responses=_RESPONSES)
    app.add_api_route("/v2", routes.server, response_model=None)
    app.add_api_route("/v2/health/live", routes.healthy)
    app.add_api_route("/v2/health/ready", routes.healthy)
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.add_api_route(model, routes.model, responses=_UNKNOWN)
        app.add_api_route(f"{model}/ready", routes.model_ready, responses=_UNKNOWN)
        app.add_api_route(
            f"{model}/infer", routes.infer, methods=["POST"], openapi_extra=_INFER, responses=_RESPONSES | _UNKNOWN
        )
    app.add_api_route("/metrics", routes.metrics)
    app.add_api_route("/window", routes.outputs, responses=_UNKNOWN)
    app.add_api_route("/artwork/{label:path}", routes.artwork, include_in_schema=False)
    for name in _PAGE:
        app.add_api_route(f"/{name}", routes.page, include_in_schema=False)
    app.add_exception_handler(HTTPException, routes.not_found)
    for kind in (Refused, ClientDisconnect, Exception):
        app.add_exception_handler(kind, routes.failure)
    return Application(app, routes)


class Application:
    """The routes of FastAPI behind a shorter way for one image as it is, which costs half as much.

    Counts every answer by route and status.
    """

    def __init__(self, routed: FastAPI, routes: _Routes) -> None:
        self.routed, self._routes = routed, routes
        self._requests = routes.engine.metrics.requests
        self._answered = self._requests.labels("/predict", 200)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = _Exchange(scope, receive, send)
            receive, send = exchange.receive, exchange.send
        if scope["type"] == "http" and scope["path"] == "/predict" and scope["method"] == "POST":
            headers = dict(scope["headers"])
            media_type = _media_type(headers.get(b"content-type", b"").decode("latin-1"))
            if media_type in FORMATS:
                await self._image(scope, receive, send, media_type, headers.get(b"content-length", b""))
                return

        async def counting(message: Scope) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                self._requests.labels(route, message["status"]).inc()
            await send(message)

        await self.routed(scope, receive, counting)

    async def _image(self, scope: Scope, receive: Receive, send: Send, media_type: str, length: bytes) -> None:
        engine = self._routes.engine
        try:
            answer = await self._routes.within_limits(
                receive, length.decode("latin-1"), lambda body: engine.infer(Upload(body, media_type))
            )
            self._routes.keep([answer], scope)
            content = json.dumps(_answered([answer])).encode()
        except Exception as error:
            response = await self._routes.failure(scope, error)
            self._requests.labels("/predict", response.status_code).inc()
            await response(scope, receive, send)
            return
        self._answered.inc()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class _Exchange:
    """A request and its answer. An answer before the body is complete ends the connection: it may never be complete."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._complete = not {b"content-length", b"transfer-encoding"}.intersection(dict(scope["headers"]))
        self._dropped = 0  # bytes

    async def receive(self) -> Scope:
        message = await self._receive()
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Scope) -> None:
        if not self._complete and message["type"] == "http.response.start":
            await self._drop_rest(0)  # the body of most is here already, and their connection stays
            if not self._complete:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        elif not self._complete and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drop_rest(LINGER_S)
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _drop_rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._complete and self._dropped < MAX_BYTES:
                    self._dropped += len((await self.receive()).get("body", b""))


class _Routes:
    def __init__(self, engine: Engine, window: Window | None) -> None:
        self.engine, self._window = engine, window
        self._held = 0  # bytes of bodies

    async def predict(self, request: Request) -> Response:
        """The five most likely classes of an image (the body), or of each of several (multipart)."""
        media_type = _media_type(request.headers.get("content-type", ""))
        if media_type != MULTIPART:  # one image has been answered before it comes here
            allowed = ", ".join([*FORMATS, MULTIPART])
            raise Refused(415, "media_type", f"content type {media_type[:80]!r} is not taken; send one of {allowed}")

        async def answers(body: bytes) -> list[Answer]:
            return await self._all(await _parts(request, body))

        found = await self.within_limits(request.receive, _length(request), answers)
        self.keep(found, request.scope)
        return _json(_answered(found))

    def keep(self, answers: list[Answer], scope: Scope) -> None:
        """Add answers to the window, where there is one."""
        if self._window is not None:
            sequence = Headers(scope=scope).get(SEQUENCE, "")
            for answer in answers:
                self._window.add(answer, sequence, self.engine.served.release)

    async def _all(self, uploads: list[Upload]) -> list[Answer]:
        """Answers in the order of the images; the first that cannot be answered stops the others."""
        self.engine.check_room(len(uploads))
        tasks = [asyncio.ensure_future(self.engine.infer(upload)) for upload in uploads]
        try:
            return await asyncio.gather(*tasks)
        except Refused as error:
            number = next(n for n, task in enumerate(tasks, 1) if task.done() and task.exception() is error)
            where = f"image {number} of {len(tasks)}: " if len(tasks) > 1 else ""
            raise Refused(error.status, error.reason, where + error.sentence) from None
        finally:
            for task in tasks:
                task.cancel()

    async def infer(self, request: Request, name: str, version: str = "") -> Response:
        """Logits and probabilities of a tensor of pixels; see the Open Inference Protocol."""
        self._known(name, version)
        header_length = request.headers.get(protocol.HEADER_LENGTH)

        def image_shape() -> tuple[int, ...]:
            return self.engine.served.release.preprocessing.image_shape

        async def answered(body: bytes) -> tuple[bytes, int | None]:
            # The release may change until the body is here; from here on, the engine takes the one that was parsed for.
            question = protocol.parse(body, header_length, image_shape())
            found = await self.engine.infer(question.pixels)
            self.keep([found], request.scope)
            tensors = {OUTPUT: found.logits, protocol.PROBABILITIES: found.probabilities}
            return protocol.answer(question, tensors, found.release)

        most = protocol.max_bytes(image_shape())
        content, length = await self.within_limits(request.receive, _length(request), answered, most)
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={protocol.HEADER_LENGTH: str(length)})

    async def within_limits(
        self, receive: Receive, length: str, answer: Callable[[bytes], Awaitable[T]], max_bytes: int = MAX_BYTES
    ) -> T:
        """Read a body and answer it. Its bytes count as held until then.

        Args:
            length: what the client says that the body has; not digits: it does not say.

        Raises:
            Refused: more bytes than are allowed, or than there is room for now, or out of time.
        """
        self.engine.check_room()
        if (protocol.num_bytes(length) or 0) > max_bytes:
            raise _too_large(max_bytes)
        body, complete = bytearray(), False
        try:
            async with asyncio.timeout(LIMIT_S):
                while not complete:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk = message.get("body", b"")
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > max_bytes:
                        raise _too_large(max_bytes)
                    if self._held > MAX_HELD:
                        raise Refused(429, "bytes", f"too many bytes are being received; wait {RETRY_AFTER_S} s")
                    complete = not message.get("more_body", False)
                return await answer(bytes(body))
        except TimeoutError:
            if complete:
                raise Refused(503, "late", f"there was no answer within {LIMIT_S:g} s; try again later") from None
            raise Refused(408, "slow", f"the body did not arrive within {LIMIT_S:g} s") from None
        finally:
            self._held -= len(body)

    def _known(self, name: str, version: str = "") -> Release:
        release = self.engine.served.release
        if name != protocol.MODEL or version not in ("", release.version):
            asked = f"{name}, version {version}" if version else name
            raise Refused(404, "unknown", f"no model {asked[:120]!r}; there is {protocol.MODEL!r} {release.version}")
        return release

    async def server(self) -> Response:
        """Name and version of this server."""
        return _json({**protocol.SERVER, "version": self.engine.served.release.version})

    async def healthy(self) -> Response:
        """It listens only once its model has run, so it is alive and ready as long as it answers."""
        return Response()

    async def model(self, name: str, version: str = "") -> Response:
        """Inputs and outputs of the model."""
        return _json(protocol.metadata(self._known(name, version)))

    async def model_ready(self, name: str, version: str = "") -> Response:
        """200 for the model that is served."""
        self._known(name, version)
        return Response()

    async def metrics(self) -> Response:
        """For Prometheus."""
        return Response(self.engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def outputs(self) -> Response:
        """The last answers without their images, a file for `python -m lib drift`."""
        if self._window is None:
            raise Refused(404, "unknown", "no window is kept; start the server with --window N")
        content = self._window.outputs(self.engine.served.release).to_bytes()
        return Response(content, media_type="application/octet-stream")

    async def page(self, request: Request) -> Response:
        content, media_type = _PAGE[request.url.path.removeprefix("/")]
        return Response(content, media_type=media_type, headers=_SAFE)

    async def artwork(self, label: str) -> Response:
        sign = sign_named(label)
        if sign is None:
            raise Refused(404, "unknown", f"there is no drawing of {label[:80]!r}")
        return Response(artwork_svg(sign.class_id), media_type="image/svg+xml", headers=_SAFE)

    async def failure(self, _request: object, error: Exception) -> Response:
        """What the client gets for an error: a sentence, and never the text of a fault of ours, which the log has."""
        if isinstance(error, ClientDisconnect):
            self.engine.metrics.refusals.labels("gone").inc()
            return Response(status_code=400)
        if not isinstance(error, Refused):
            _log.error("a request failed", exc_info=error)
            return _json({"error": "the server failed; its log says why"}, 500)
        self.engine.metrics.refusals.labels(error.reason).inc()
        wait = {"Retry-After": str(RETRY_AFTER_S)} if error.status in (429, 503) else None
        return _json({"error": error.sentence}, error.status, wait)

    async def not_found(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json({"error": str(error.detail)}, error.status_code, error.headers)


async def _parts(request: Request, body: bytes) -> list[Upload]:
    """The files of a multipart body.

    Raises:
        Refused: damaged, without a file, or with more than a batch.
    """

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]
            await asyncio.sleep(0)  # the event loop answers others: what looks like boundaries takes long

    parser = MultiPartParser(request.headers, stream(), max_files=MAX_BATCH, max_fields=MAX_BATCH)  # type: ignore[arg-type]
    parser.spool_max_size = MAX_BYTES + 1  # nothing is written to a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, "multipart", f"the multipart body cannot be read: {error.message}") from None
    uploads = []
    for _, part in form.multi_items():
        if isinstance(part, str):
            raise Refused(400, "multipart", "a part has no file name; send images as files, as `curl -F image=@FILE`")
        declared = _media_type(part.content_type or "")
        uploads.append(Upload(await part.read(), "" if declared == "application/octet-stream" else declared))
    await form.close()
    if not uploads:
        raise Refused(400, "multipart", "the multipart body has no file; send images as `curl -F image=@FILE`")
    return uploads


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, "bytes", f"the body has more than the {max_bytes:,} bytes that are allowed; make it smaller")


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _length(request: Request) -> str:
    return str(request.headers.get("content-length", ""))


def _answered(answers: list[Answer]) -> dict[str, Any]:
    """The answer to a client, of images of one request."""
    release = answers[0].release
    return {
        "model": {"name": protocol.MODEL, "version": release.version, "digest": release.digest},
        "results": [{"sign": _is_sign(answer), "top": _top(answer), "notes": answer.notes} for answer in answers],
    }


def _is_sign(answer: Answer) -> bool:
    """False where the network is less sure than it is of nearly all signs."""
    return bool(answer.probabilities.max() >= answer.release.metadata.least_confidence)


def _top(answer: Answer) -> list[dict[str, Any]]:
    labels = answer.release.labels
    best, shares = answer.best[0].tolist(), answer.probabilities[0].tolist()
    return [{"class_id": k, "label": labels[k], "probability": round(shares[k], 6)} for k in best]


def _json(content: object, status: int = 200, headers: Any = None) -> Response:
    return Response(json.dumps(content), status, headers, "application/json")


_ERROR: dict[str, Any] = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    }
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such model", **_ERROR}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "Damaged or not understood", **_ERROR},
    408: {"description": "The body arrived too slowly", **_ERROR},
    413: {"description": "Too many bytes or pixels", **_ERROR},
    415: {"description": "Not a format that is taken", **_ERROR},
    429: {"description": "Too much is waiting; see Retry-After", **_ERROR},
    503: {"description": "No answer in time; see Retry-After", **_ERROR},
}
_FILE = {"type": "string", "format": "binary"}
_PREDICT = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _FILE} for media_type in FORMATS},
            MULTIPART: {
                "schema": {"type": "object", "properties": {"image": {"type": "array", "items": _FILE, "minItems": 1}}}
            },
        },
    }
}
_INFER = {"requestBody": {"required": True, "content": {"application/json": {"schema": protocol.REQUEST}}}}

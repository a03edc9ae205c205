"""Before anything of a request is read: the token, the protocol's major version and the size of the body."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import PROTOCOL_VERSION
from ..errors import EngineError, InputError
from ..wire.npz import MAX_BYTES
from .answers import error_response

MAX_BODY = MAX_BYTES + 2**20


class Gate:
    """Middleware that lets nothing through but what the module's heading says."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Shapewright-Protocol"] = PROTOCOL_VERSION
            await send(message)

        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise _body_too_large()
            return message

        try:
            self._check(Headers(scope=scope))
        except EngineError as error:
            await error_response(error)(scope, receive, send_with_version)
            return
        await self._app(scope, receive_counted, send_with_version)

    def _check(self, headers: Headers) -> None:
        given = headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            raise InputError(
                "unauthorized",
                "The engine refuses the request.",
                "It carries no token, or not the one of this engine.",
                "Send 'Authorization: Bearer TOKEN' with the token from the engine's token file.",
            )
        protocol = headers.get("shapewright-protocol")
        if protocol is not None and protocol.split(".")[0] != PROTOCOL_VERSION.split(".")[0]:
            raise InputError(
                "protocol_mismatch",
                "The client and the engine do not speak the same language.",
                f"The client speaks protocol {protocol[:20]}, this engine {PROTOCOL_VERSION}.",
                "Update the older of the two; extension and engine of one release fit together.",
            )
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > MAX_BODY:
            raise _body_too_large()


def _body_too_large() -> InputError:
    return InputError(
        "arrays_too_large",
        "The input is too large.",
        f"A request may hold at most {MAX_BODY // 2**20} MB.",
        "Reduce the number of points.",
    )

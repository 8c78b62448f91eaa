"""Who is let in: requests of the page itself, at its own address, with a token where others can reach it.

A page from elsewhere, open in the same browser, can send requests to this machine, too: by its own name, which it lets
point here (DNS rebinding), by ours, or by showing our page in a frame and having the user click on it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from re import sub
from secrets import compare_digest
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iin_lightning.disk import in_units
from iin_lightning.explorer.pictures import MOST_BYTES

MOST_AT_ONCE = MOST_BYTES + 1_000_000  # bytes of a request: a file, and what stands around it
MOST_TOGETHER = 500_000_000  # bytes of all uploads at a time; gradio deletes each after some minutes
OPEN = "/gradio_api/startup-events"  # which gradio asks itself, without the token; nothing comes of it
ADDED = {
    "content-security-policy": "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
SESSIONS = 100  # each has about a megabyte: gradio keeps what all components of a page last showed
STYLE = Path(__file__).parent / "look.css"


class Door:
    """Stands in front of a server, and knows the folder of uploads.

    The address, or the cookie that comes of it, must have the token; it is "" where the server listens at this
    machine's own address, and must be asked by that.
    """

    def __init__(self, app: ASGIApp, token: str, uploads: Path) -> None:
        self.app, self.token, self.uploads = app, token, uploads
        self.cookie = f"iin_{token[:8]}"  # two servers of one machine share their cookies
        self._coming = 0  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def own(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                headers.update(ADDED)
            await send(message)

        headers = Headers(scope=scope)
        if (answer := self._answer(scope, headers)) is not None:
            await answer(scope, receive, own)
            return
        length = int(headers.get("content-length", 0))
        self._coming += length
        try:
            await self.app(scope, receive, own)
        finally:
            self._coming -= length

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """Return what to say to a request that the server does not get; None for all others."""
        if scope["type"] != "http" or not self._is_own(scope, headers):
            return PlainTextResponse(
                "This page answers no other one: open the address that the command has printed.", 403
            )
        if self.token and (answer := self._without_token(scope)) is not None:
            return answer
        length = headers.get("content-length", "")
        unknown = scope["method"] not in ("GET", "HEAD") and not length.isdecimal()
        if unknown or "transfer-encoding" in headers:  # which would go before the length
            return PlainTextResponse("The length of this request is not known: send it with a content-length.", 411)
        if length and int(length) > MOST_AT_ONCE:
            return PlainTextResponse(f"This file is too large: send at most {in_units(MOST_BYTES)}.", 413)
        if scope["path"].endswith("/upload") and self._bytes() + self._coming + int(length or 0) > MOST_TOGETHER:
            most = in_units(MOST_TOGETHER)
            return PlainTextResponse(f"All uploads together may have {most}: wait ten minutes for old ones to go.", 413)
        return None

    def _is_own(self, scope: Scope, headers: Headers) -> bool:
        """Whether the page itself asks, or the user, who types its address or follows a link to it."""
        host = headers.get("host", "")
        if not self.token and not is_loopback(sub(r":\d*$", "", host)):
            return False
        if "origin" in headers and headers["origin"].partition("://")[2].lower() != host.lower():
            return False
        follows = scope["method"] == "GET" and headers.get("sec-fetch-dest", "document") == "document"
        return follows or headers.get("sec-fetch-site", "none") in ("same-origin", "none")

    def _without_token(self, scope: Scope) -> Response | None:
        """Refuse a request without the token; a token in the address goes into a cookie."""
        asked = parse_qsl(scope["query_string"].decode("latin-1"))
        if self._is_token(dict(asked).get("token", "")):
            rest = urlencode([(name, value) for name, value in asked if name != "token"])
            answer = RedirectResponse(f"/?{rest}" if rest else "/", 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
            return answer
        if scope["path"] == OPEN or self._is_token(HTTPConnection(scope).cookies.get(self.cookie, "")):
            return None
        return PlainTextResponse(
            "The address of this page ends in ?token=...: take all of what the command has printed.", 401
        )

    def _is_token(self, came: str) -> bool:
        return compare_digest(came.encode(), self.token.encode())

    def _bytes(self) -> int:
        """Of all uploads."""
        found = 0
        for folder, _, files in os.walk(self.uploads):
            for name in files:
                with suppress(OSError):  # gradio has deleted it meanwhile
                    found += os.path.getsize(os.path.join(folder, name))
        return found


def is_loopback(host: str) -> bool:
    """Say whether a name or an address can only mean this machine.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "127.0.0.1.evil.com")]
        [True, True, True, False, False]
    """
    try:
        return host.lower() == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def settings(token: str, uploads: Path) -> dict[str, Any]:
    """Return how the page is launched: behind a ``Door``; nothing leaves this machine, and no file of it is served."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        assert app.middleware_stack is not None
        app.middleware_stack = Door(app.middleware_stack, token, uploads)  # in front of gradio's own middleware, too
        yield

    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="gray", font=FONT, font_mono=MONO, radius_size=gr.themes.sizes.radius_sm
    )
    return {
        "prevent_thread_lock": True,
        "quiet": True,
        "app_kwargs": {"lifespan": lifespan},
        "share": False,
        "show_error": False,
        "footer_links": [],
        "allowed_paths": [],
        "max_file_size": MOST_BYTES,
        "ssr_mode": False,
        "mcp_server": False,
        "run_history": False,
        "state_session_capacity": SESSIONS,
        "theme": theme,
        "css_paths": STYLE,
    }

"""The control door of the local providers: what they received, and which faults are in force.

    GET    /received[?provider=NAME]   every row, as JSON lines
    GET    /summary                    counts per provider
    GET    /faults                     what is in force
    POST   /faults                     a JSON list of faults, added to those in force
    DELETE /faults                     none any more

Loopback only and without a password: it speaks of addresses.
"""

from aiohttp import web

from connectors.sandbox.desk import Desk
from connectors.sandbox.faults import BadFaults, from_json, to_json
from connectors.sandbox.http import HttpServer, serve


async def start(desk: Desk, port: int = 0) -> HttpServer:
    """Listen for commands on 127.0.0.1. Raises OSError when the port is taken."""
    control = _Control(desk)
    routes = [
        web.get("/received", control.received),
        web.get("/summary", control.summary),
        web.get("/faults", control.faults),
        web.post("/faults", control.add_faults),
        web.delete("/faults", control.clear_faults),
    ]
    return await serve(routes, port)


class _Control:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def received(self, request: web.Request) -> web.Response:
        rows = self._desk.recorder.rows(request.query.get("provider"))
        lines = "".join(row.to_json() + "\n" for row in rows)
        return web.Response(text=lines, content_type="application/x-ndjson")

    async def summary(self, _request: web.Request) -> web.Response:
        return web.json_response(self._desk.recorder.summary())

    async def faults(self, _request: web.Request) -> web.Response:
        return web.json_response(text=to_json(self._desk.script.faults()))

    async def add_faults(self, request: web.Request) -> web.Response:
        try:
            faults = from_json(await request.read())
        except BadFaults as error:
            return web.json_response({"error": str(error)}, status=400)
        self._desk.script.extend(faults, self._desk.steady())
        return web.json_response({"added": len(faults)})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._desk.script.clear()
        return web.Response(status=204)

"""The answers."""

from aiohttp import web

from towline_broker.domain.together import Together
from towline_broker.server.http.watched import NotYet, Watched
from towline_broker.server.metrics.rendering import CONTENT_TYPE

#: Bytes from which on an answer is compressed in a thread.
LARGE = 64 * 1024

INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Towline broker</title>
<h1>Towline broker</h1>
<ul>
<li><a href="metrics">metrics</a>: figures, for Prometheus
<li><a href="livez">livez</a>: whether the process is alive
<li><a href="readyz">readyz</a>: whether it takes work, and if not, why
</ul>
</html>
"""


def routes(watched: Watched) -> list[web.RouteDef]:
    async def index(_: web.Request) -> web.Response:
        return web.Response(text=INDEX, content_type="text/html")

    scrapes = Together(watched.metrics)

    async def metrics(_: web.Request) -> web.Response:
        try:
            text = await scrapes.result()
        except NotYet:
            raise web.HTTPServiceUnavailable(text="the broker is starting\n") from None
        answer = web.Response(
            body=text,
            headers={"Content-Type": CONTENT_TYPE},
            zlib_executor_size=LARGE,
        )
        answer.enable_compression()
        return answer

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        health = await watched.health()
        return web.Response(text=str(health), status=200 if health.ready else 503)

    return [
        web.get("/", index),
        web.get("/metrics", metrics),
        web.get("/livez", livez),
        web.get("/readyz", readyz),
    ]

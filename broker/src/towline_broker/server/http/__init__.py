"""What the broker answers over HTTP, to Prometheus, to probes and to people with a browser.

aiohttp serves it, on the event loop of the broker. ``endpoint`` is the server, ``pages`` its
answers, ``watched`` where they come from.
"""

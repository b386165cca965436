"""What ``make bench`` measures: a module for each part. Its docstring is its text on the page, and
its ``run(part, options)`` adds figures to the part."""

PARTS = {
    "calls": "bench.parts.calls",
    "streams": "bench.parts.streams",
    "dispatch": "bench.parts.dispatching",
    "libraries": "bench.parts.libraries",
    "brokers": "bench.parts.brokers",
    "start": "bench.parts.starting",
    "scale": "bench.parts.scale",
    "room": "bench.parts.room",
    "profile": "bench.parts.profile",
}

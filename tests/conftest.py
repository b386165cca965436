"""Settings for all tests: how Hypothesis behaves on a shared, slow machine."""

from hypothesis import HealthCheck, settings

# No deadline per example: how fast a busy machine answers is not what these tests promise, and a
# hang is caught by pytest-timeout. A failure prints the blob that replays it.
settings.register_profile(
    "towline",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("towline")

"""What the SDK knows of limits and defaults is what the broker holds to by default."""

import pytest
from google.protobuf.duration_pb2 import Duration

from towline import Exponential, context, options, requests
from towline.transport.sync import admission, backoff
from towline.v1 import job_pb2
from towline.worker import heartbeat, reserver, settler
from towline.worker import options as worker_options
from towline_broker.core.retrying import base_delay
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.retry import DelayList, ExponentialBackoff, RetryPolicy
from towline_broker.domain.time import SECOND
from towline_broker.services import views
from towline_broker.services.limits import Limits


def test_limits_are_those_of_the_broker() -> None:
    broker = Limits()
    assert requests.MAX_JOBS == settler.MAX_ITEMS == heartbeat.MAX_ITEMS == broker.batch
    assert broker.batch == reserver.MAX_JOBS
    assert requests.MAX_BYTES + broker.job_bytes < broker.message_bytes
    assert broker.checkpoint_bytes == context.MAX_CHECKPOINT
    assert broker.progress_message_bytes == context.MAX_PROGRESS_MESSAGE
    assert broker.result_bytes == context.MAX_RESULT
    assert broker.payload_bytes == admission.MAX_PAYLOAD
    assert broker.headers_bytes == admission.MAX_HEADERS
    assert broker.header_key_bytes == admission.MAX_HEADER_KEY
    assert broker.content_type_bytes == admission.MAX_CONTENT_TYPE
    assert broker.unique_key_bytes == admission.MAX_UNIQUE_KEY
    assert broker.start_delay == admission.MAX_DELAY.total_seconds() * SECOND
    assert broker.period == admission.MAX_PERIOD.total_seconds() * SECOND
    assert broker.max_attempts == admission.MAX_ATTEMPTS
    assert broker.retry_multiplier == admission.MAX_MULTIPLIER
    assert broker.retry_delays == admission.MAX_RETRY_DELAYS
    assert CoreSettings().default_lease == worker_options.USUAL_LEASE * SECOND
    assert options.DISPLAY_NAME_HEADER == views.DISPLAY_NAME_HEADER


def test_a_job_that_names_no_policy_has_that_of_the_broker() -> None:
    policy, growth = RetryPolicy(), ExponentialBackoff()
    assert policy.max_attempts == context.DEFAULT_MAX_ATTEMPTS
    for own in (
        (backoff.INITIAL, backoff.MULTIPLIER, backoff.MAXIMUM),
        (Exponential().initial, Exponential().multiplier, Exponential().maximum),
    ):
        initial, multiplier, maximum = own
        assert isinstance(initial, float)
        assert isinstance(maximum, float)
        assert (initial * SECOND, multiplier, maximum * SECOND) == (
            growth.initial,
            growth.multiplier,
            growth.maximum,
        )


def seconds(value: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(value * 10**9))
    return duration


@pytest.mark.parametrize("failures", [1, 2, 3, 11, 999, 5000])
@pytest.mark.parametrize("growth", [(1.0, 2.0, 600.0), (0.0, 100.0, 5.0), (0.5, 1.0, 9.0)])
def test_growing_delays_are_those_of_the_broker(
    growth: tuple[float, float, float], failures: int
) -> None:
    initial, multiplier, maximum = growth
    theirs = base_delay(
        RetryPolicy(
            backoff=ExponentialBackoff(round(initial * SECOND), multiplier, round(maximum * SECOND))
        ),
        failures,
    )
    ours = backoff.retry_delay(
        job_pb2.RetryPolicy(
            exponential=job_pb2.ExponentialBackoff(
                initial=seconds(initial), multiplier=multiplier, max=seconds(maximum)
            )
        ),
        failures,
    )
    assert ours * SECOND == theirs


@pytest.mark.parametrize("failures", [1, 2, 3, 4, 999])
def test_listed_delays_are_those_of_the_broker(failures: int) -> None:
    delays = (10.0, 0.0, 60.5)
    theirs = base_delay(
        RetryPolicy(backoff=DelayList(tuple(round(delay * SECOND) for delay in delays))), failures
    )
    listed = job_pb2.DelayList(delays=[seconds(delay) for delay in delays])
    assert backoff.retry_delay(job_pb2.RetryPolicy(delays=listed), failures) * SECOND == theirs

"""Calls of SQS, in threads: boto3 knows no event loop."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.sqs.url import Options

T = TypeVar("T")

#: Calls under way at the same time.
THREADS = 16
#: Messages in one call.
BATCH = 10
#: An outage is told within twice their sum.
CONNECT_SECONDS: float = 2
READ_SECONDS: float = 5

_GONE = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")
_DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)


class QueueGone(Exception):
    """SQS knows no such queue: not yet, or no longer."""


class Denied(StoreUnavailable):
    """SQS does not take these credentials, or there are none."""


class Connection:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="towline-sqs")
        self._once: Any = None
        self._repeating: Any = None

    async def open(self) -> None:
        """Raises StoreRefused."""
        await self._in_thread(self._make_clients)

    async def close(self) -> None:
        """Waits for calls that are under way; later ones raise StoreUnavailable."""
        clients, self._once, self._repeating = (self._once, self._repeating), None, None
        await asyncio.to_thread(self._threads.shutdown)
        for client in clients:
            if client is not None:
                client.close()

    def _make_clients(self) -> None:
        """Two, because a repeated send may store a job twice, while all else may be repeated."""
        session = boto3.session.Session()
        try:
            self._once = self._client(session, attempts=1)
            self._repeating = self._client(session, attempts=2)
        except NoRegionError:
            raise StoreRefused(
                "SQS: no region is set; write sqs:///?region=eu-west-1 or set AWS_DEFAULT_REGION"
            ) from None
        except (BotoCoreError, ValueError) as error:
            raise StoreRefused(f"SQS: {type(error).__name__}: {error}") from None

    def _client(self, session: Any, attempts: int) -> Any:
        return session.client(
            "sqs",
            region_name=self._options.region,
            endpoint_url=self._options.endpoint,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                max_pool_connections=THREADS,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                user_agent_extra="towline-broker",
            ),
        )

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Raises QueueGone, StoreUnavailable."""
        return await self._call(self._repeating, operation, arguments)

    async def call_once(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The same, never repeated by the library."""
        return await self._call(self._once, operation, arguments)

    async def _call(self, client: Any, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if client is None:
            raise StoreUnavailable("the connection to SQS is closed")
        try:
            answer: dict[str, Any] = await self._in_thread(
                partial(getattr(client, operation), **arguments)
            )
        except (NoCredentialsError, PartialCredentialsError):
            raise Denied(
                "SQS: no AWS credentials were found; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, a profile, or a role of this machine"
            ) from None
        except ClientError as error:
            raise _meaning(operation, error) from None
        except (NoConnection, HTTPClientError, BotoCoreError) as error:
            raise StoreUnavailable(f"SQS: {operation} failed: {type(error).__name__}") from None
        return answer

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _meaning(operation: str, error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _GONE:
        return QueueGone(code)
    if code in _DENIED:
        return Denied(
            f"SQS: {operation} was refused with {code}: see the credentials and their policy"
        )
    return StoreUnavailable(f"SQS: {operation} was answered with {code}")


def in_batches(items: Sequence[T], size: int = BATCH) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

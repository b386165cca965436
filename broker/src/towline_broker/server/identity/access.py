"""Who may call, and what they may do: the room that the broker asks, if it asks anybody."""

import asyncio
from collections.abc import Callable, Sequence

from towline_broker.interceptors.authentication import Authentication
from towline_broker.interceptors.authorization import Authorization, rules
from towline_broker.interceptors.guarding import Allowance, Guards
from towline_broker.interceptors.intake import RequestIntake
from towline_broker.interceptors.open_health import OpenHealth
from towline_broker.interceptors.refusals import Refusals
from towline_broker.interceptors.wrapping import WrappingInterceptor
from towline_broker.server.configuration.auth_settings import AuthSettings
from towline_broker.server.configuration.guard_settings import GuardSettings
from towline_broker.server.identity.authenticating import Credentials


class Access:
    """``default_queue``: that of a pushed job that names none. Without any setting of ``settings``
    nobody is asked, and all callers share a limit on answers that they do not read. Raises
    ConfigError."""

    def __init__(self, settings: AuthSettings, guards: GuardSettings, default_queue: str) -> None:
        self.refusals = Refusals()
        self._guards = Guards(_allowances(guards, known=settings.enabled))
        #: What sees a call first, and what sees its message.
        self.outer: Sequence[WrappingInterceptor] = [self._guards]
        self.inner: Sequence[WrappingInterceptor] = ()
        self._credentials: Credentials | None = None
        self._watching: asyncio.Task[None] | None = None
        if settings.enabled:
            self._credentials = Credentials(settings)
            self._authentication = Authentication(self._credentials, self.refusals)
            self.outer = [
                OpenHealth(self._authentication),
                self._authentication,
                RequestIntake(),
                self._guards,
            ]
            self.inner = [Authorization(rules(default_queue), self.refusals)]

    @property
    def asks(self) -> bool:
        """Whether callers have to say who they are."""
        return self._credentials is not None

    def prepare(self, settings: AuthSettings, guards: GuardSettings) -> Callable[[], None]:
        """What puts changed settings in force, at once and as a whole; parked calls end of which
        the credentials are no longer what they were.

        Raises ConfigError if a file is no good. It changes nothing by itself. Whether anybody is
        asked at all is decided at the start (see taken_over in the room "life").
        """
        credentials = self._credentials
        known = None if credentials is None else credentials.prepare(settings)

        def put_in_force() -> None:
            self._guards.replace(_allowances(guards, known=self.asks))
            if credentials is not None and known is not None:
                credentials.replace(known)
                self._authentication.end_changed()

        return put_in_force

    async def start(self) -> None:
        if self._credentials is not None:
            await self._credentials.start()
            changed = self._authentication.end_changed
            self._watching = asyncio.create_task(self._credentials.watch(changed))

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()


def _allowances(guards: GuardSettings, *, known: bool) -> Callable[[str], Allowance]:
    """``known``: callers can be told from each other."""
    if known:
        return guards.allowance_of

    def of_all(identity: str) -> Allowance:
        return Allowance(answer_bytes=guards.allowance_of(identity).answer_bytes)

    return of_all

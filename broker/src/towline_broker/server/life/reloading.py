"""A running broker rereads its settings on SIGHUP, and takes over those that may change.

What may not goes on as it was, and is named. Settings with a mistake are refused whole.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from towline_broker.domain.events import event
from towline_broker.server.configuration.catalogue import ANY_NAME, all_settings
from towline_broker.server.configuration.explaining import dotted, explain
from towline_broker.server.configuration.marks import Place
from towline_broker.server.configuration.merging import Merged
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import Sources
from towline_broker.server.exits import ConfigError, WrongSettings
from towline_broker.server.life.stopping import Stopping
from towline_broker.server.life.systemd import Systemd

log = logging.getLogger("towline.broker")

Model = TypeVar("Model", bound=BaseModel)

#: Settings that a line of the log names: there may be some for each of many queues.
MOST_NAMED = 50


class Reloading:
    """``sources``: those that ``settings`` came from; None: nothing is reread."""

    def __init__(self, settings: Settings, sources: Sources | None, systemd: Systemd) -> None:
        self._running = settings
        self._sources = sources
        self._systemd = systemd
        self._take_over: Callable[[Settings], None] | None = None
        self._asked = False
        self._rereading: asyncio.Task[None] | None = None
        self._of_terminal = _has_terminal()

    def listen(self, stopping: Stopping) -> None:
        """For SIGHUP; before :meth:`begin`, one is kept until then. If it comes because the
        terminal is gone in which the broker was started, it asks the broker to stop."""

        if self._sources is None:
            return

        def heard() -> None:
            if self._of_terminal and not _has_terminal():
                stopping.hear(signal.SIGHUP)
            else:
                self._hear()

        stopping.on(signal.SIGHUP, heard)

    def begin(self, take_over: Callable[[Settings], None]) -> None:
        """``take_over`` is given the settings that hold from now on. It raises ConfigError if they
        cannot, having changed nothing."""
        self._take_over = take_over
        if self._asked:
            self._hear()

    def _hear(self) -> None:
        """Whoever asks while the settings are being reread has them reread once more."""
        self._asked = True
        rereads = self._rereading is not None and not self._rereading.done()
        if self._take_over is not None and self._sources is not None and not rereads:
            rereading = self._reread_while_asked(self._sources, self._take_over)
            self._rereading = asyncio.create_task(rereading)

    async def _reread_while_asked(
        self, sources: Sources, take_over: Callable[[Settings], None]
    ) -> None:
        while self._asked:
            self._asked = False
            with self._systemd.reloading():
                try:
                    await self._reread(sources, take_over)
                except ConfigError as error:
                    _tell_mistakes(error)
                except Exception:  # a defect; the broker has other things to do than to end
                    log.exception(
                        "the settings cannot be reread; those before stay in force",
                        extra=event("settings_refused"),
                    )

    async def _reread(self, sources: Sources, take_over: Callable[[Settings], None]) -> None:
        running = self._running

        def read() -> tuple[Settings, list[Place], list[Place]]:
            """Takes a second, where a thousand queues have settings of their own."""
            wanted = sources.load().settings
            settings = taken_over(running, wanted)
            return settings, differences(running, settings), differences(settings, wanted)

        settings, changed, kept = await asyncio.to_thread(read)
        take_over(settings)
        self._running = settings
        if changed:
            log.info(
                "settings reread; in force from now on: %s",
                _named(changed),
                extra=event("settings_reread", settings=_names(changed)),
            )
        else:
            log.info(
                "settings reread; nothing that can change while the broker runs has changed",
                extra=event("settings_reread", settings=[]),
            )
        if kept:
            log.warning(
                "settings that take effect at the next start: %s",
                _named(kept),
                extra=event("settings_for_next_start", settings=_names(kept)),
            )


def _tell_mistakes(error: ConfigError) -> None:
    mistakes = error.mistakes if isinstance(error, WrongSettings) else [str(error)]
    for mistake in mistakes:
        log.error(
            "wrong setting: %s",
            mistake,
            extra=event("setting_wrong", reason=str(mistake)),
        )
    log.error(
        "the settings were reread and refused; those before stay in force",
        extra=event("settings_refused"),
    )


def taken_over(running: Settings, wanted: Settings) -> Settings:
    """The settings of a broker that runs with some, and is to run with others as far as it can.

    Raises ConfigError if the new ones do not go together with those that stay.
    """
    if running.auth.enabled != wanted.auth.enabled:
        # What asks callers who they are is built into the server at its start: a broker that asks
        # goes on asking, and one that does not says that it still does not.
        wanted = wanted.model_copy(update={"auth": running.auth})
    settings = _blended(running, wanted, ())
    try:
        return Settings.model_validate_json(settings.model_dump_json())
    except ValidationError as error:
        raise WrongSettings(
            [
                f"{mistake}, together with settings that only change at the next start"
                for mistake in explain(error, Merged())
            ]
        ) from None


def differences(one: Settings, other: Settings) -> list[Place]:
    """Where they say different things."""
    return list(_differences(one, other, ()))


def _differences(one: Any, other: Any, place: Place) -> Iterator[Place]:
    if one == other:
        return
    parts, others = _parts(one), _parts(other)
    if parts is None and others is None:
        yield place
        return
    # A section that is missing is compared with one in which nothing is set.
    for name in {**(parts or {}), **(others or {})}:
        yield from _differences((parts or {}).get(name), (others or {}).get(name), (*place, name))


def _parts(value: Any) -> Mapping[str, Any] | None:
    """What is in a section, by name; None: it is a value."""
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value if isinstance(value, Mapping) else None


def _blended(running: Model, wanted: Model, place: Place) -> Model:
    """``running``, with what is live of ``wanted``."""
    changes = {}
    for name in type(running).model_fields:
        old, new = getattr(running, name), getattr(wanted, name)
        if old != new:
            changes[name] = _blended_value(old, new, (*place, name))
    return running.model_copy(update=changes)


def _blended_value(old: Any, new: Any, place: Place) -> Any:
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        return _blended(old, new, place)
    if _are_sections(old) and _are_sections(new):
        return _blended_sections(old, new, (*place, ANY_NAME))
    return new if _is_live(place) else old


def _are_sections(value: Any) -> bool:
    """By names that the operator chose."""
    return isinstance(value, Mapping) and all(isinstance(e, BaseModel) for e in value.values())


def _blended_sections(
    old: Mapping[str, BaseModel], new: Mapping[str, BaseModel], place: Place
) -> dict[str, BaseModel]:
    """A section that is new, or gone, is compared with one in which nothing is set."""
    found = {}
    for name in {**old, **new}:
        empty = type(old.get(name) or new[name])()
        section = _blended(old.get(name, empty), new.get(name, empty), place)
        if name in new or section != empty:
            found[name] = section
    return found


def _is_live(place: Place) -> bool:
    """Of a value, or of a section with all that is in it."""
    within = [each for each in all_settings() if each.place[: len(place)] == place]
    return bool(within) and all(each.live for each in within)


def _named(places: list[Place]) -> str:
    more = len(places) - MOST_NAMED
    return ", ".join(_names(places)) + (f" and {more} more" if more > 0 else "")


def _names(places: list[Place]) -> list[str]:
    return [dotted(place) for place in places[:MOST_NAMED]]


def _has_terminal() -> bool:
    return any(os.isatty(each) for each in (0, 1, 2))

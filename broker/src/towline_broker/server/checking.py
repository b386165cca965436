"""What is found out about settings before a broker starts with them: what it would refuse, and what
is surely not meant so."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_IROTH

from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.core.unkept import unkept
from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.interface import Capabilities
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.catalogue import setting_at
from towline_broker.server.configuration.explaining import dotted
from towline_broker.server.configuration.merging import AsOption
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import DEFAULT_FILE, Loaded
from towline_broker.server.configuration.variables import DOTENV, ENVIRONMENT, variable_of
from towline_broker.server.exits import StartError, WrongSettings
from towline_broker.server.exposure import check_exposure
from towline_broker.server.serving import BrokerServer, check_shared


@dataclass(frozen=True)
class Findings:
    """``refusals``: why a broker would not start, as far as that can be known without its stores
    and its port. ``warnings``: what is allowed, and surely not meant so."""

    refusals: Sequence[str]
    warnings: Sequence[str]


async def look_at(loaded: Loaded) -> Findings:
    """Starts nothing, and opens no store."""
    warnings = [
        *_useless(loaded.settings),
        *_without_identities(loaded.settings),
        *_hidden_variables(loaded),
        *_told_to_all(loaded),
        *_typed(loaded),
        *_files_not_read(loaded),
    ]
    refusals = list(_wrong_urls(loaded))
    if not refusals:
        exposed: list[str] = []
        checks = (
            lambda settings: exposed.extend(_exposed(settings)),
            check_queue_options,
            _check_processes,
            _check_http,
        )
        for check in checks:
            refusals += _found_by(check, loaded)
        warnings = [*exposed, *warnings]
    return Findings(refusals, warnings)


def _found_by(check: Callable[[Settings], None], loaded: Loaded) -> list[str]:
    try:
        check(loaded.settings)
    except WrongSettings as error:
        return error.mistakes
    except (StartError, StoreRefused) as error:
        return [_with_origin(str(error), loaded)]
    return []


def _with_origin(message: str, loaded: Loaded) -> str:
    """Errors of a start begin with the name of a setting, but know nothing of its source."""
    place = tuple(message.partition(":")[0].split("."))
    origin = loaded.merged.origin(place) if setting_at(place) else ""
    return message + (f" ({origin})" if origin else "")


def _check_http(settings: Settings) -> None:
    if settings.http.address is not None:
        # What serves HTTP takes a while to load.
        from towline_broker.server.http.endpoint import allowed_address

        allowed_address(settings.http, settings.insecure)


def check_queue_options(settings: Settings) -> None:
    """Raises WrongSettings for options of queues that their stores do not offer, as far as that can
    be known of a store that is not opened."""
    found = list(unkept(settings.to_queue_options(), settings.to_routes(), _stores(settings)))
    if found:
        raise WrongSettings(found)


def _stores(settings: Settings) -> dict[str, Capabilities]:
    """What each could promise at best."""
    return {name: create_driver(url).capabilities for name, url in settings.all_stores.items()}


def _check_processes(settings: Settings) -> None:
    if settings.processes > 1:
        check_shared(settings, _stores(settings))


def _wrong_urls(loaded: Loaded) -> Iterator[str]:
    for name, url in loaded.settings.all_stores.items():
        place = ("store",) if name == DEFAULT_STORE else ("stores", name)
        try:
            create_driver(url)
        except StoreRefused as error:
            origin = loaded.merged.origin(place)
            yield f"{dotted(place)}: {error}" + (f" ({origin})" if origin else "")


def _exposed(settings: Settings) -> Iterator[str]:
    """Raises StartError and StoreRefused, as a start does."""
    server = BrokerServer(settings)
    address, protection = server.address.resolve(), server.protection
    check_exposure(settings.listen, address, protection, settings.insecure)
    if not (address.is_loopback or protection.complete):
        yield f"listen: insecure: {protection.danger(settings.listen)}"


def _useless(settings: Settings) -> Iterator[str]:
    used = {options.store for options in settings.queues.values()}
    for name in settings.stores:
        if name not in used:
            yield f"{dotted(('stores', name))}: no queue is given to this store; see [queues]"
    for name, queue in settings.queues.items():
        if queue.dead_letters is False and queue.dead_letter_retention is not None:
            place = dotted(("queues", name, "dead_letter_retention"))
            yield f"{place}: has no effect, for dead_letters is false"


def _without_identities(settings: Settings) -> Iterator[str]:
    default = type(settings.guards)()
    others = settings.guards.model_copy(update={"answer_bytes": default.answer_bytes})
    if others != default and not settings.auth.enabled:
        why = "for without auth nobody is told from others"
        yield f"guards: nothing of them but answer_bytes has an effect, {why}"


def _hidden_variables(loaded: Loaded) -> Iterator[str]:
    for place, weaker, stronger in loaded.merged.hidden:
        if (weaker.label, stronger.label) == (DOTENV, ENVIRONMENT):
            yield f"{dotted(place)}: {weaker.of(place)} does not count: {stronger.of(place)} does"


def _told_to_all(loaded: Loaded) -> Iterator[str]:
    """A file that holds a password, and that everybody on this machine may read."""
    file = loaded.file
    if file is None or not file.path.stat().st_mode & S_IROTH:
        return
    urls = loaded.settings.all_stores.values()
    if any(url != shown_url(url) and url in file.text for url in urls):
        yield (
            f"file {file.path}: holds a password, and everybody on this machine can read it; "
            f"chmod o-r {file.path}"
        )


def _typed(loaded: Loaded) -> Iterator[str]:
    """What is typed stands in the list of processes, for as long as the broker runs."""
    for name, url in loaded.settings.all_stores.items():
        place = ("store",) if name == DEFAULT_STORE else ("stores", name)
        if url != shown_url(url) and isinstance(loaded.merged.origins.get(place), AsOption):
            variable = variable_of(place)
            yield (
                f"{dotted(place)}: everybody on this machine can see a password that was typed; "
                f"put the url into {variable} or a file (--config)"
            )


def _files_not_read(loaded: Loaded) -> Iterator[str]:
    if loaded.file is not None:
        return
    for suffix in (".yaml", ".yml", ".json"):
        other = Path(DEFAULT_FILE.stem + suffix)
        if other.exists():
            yield f"file {other}: is not read unless it is named: --config {other}"

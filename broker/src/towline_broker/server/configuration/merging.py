"""Values of several sources laid over each other, and for each where it came from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from towline_broker.server.configuration.marks import Place
from towline_broker.server.configuration.settings_file import SettingsFile

#: Options that are called otherwise than their setting.
_OPTIONS: Mapping[Place, Place] = {("http", "listen"): ("http",)}


class Origin(Protocol):
    """One source."""

    @property
    def label(self) -> str:
        """What it is, without any one setting."""

    def of(self, place: Place) -> str:
        """Where in it this is set."""


@dataclass(frozen=True)
class InFile:
    file: SettingsFile

    @property
    def label(self) -> str:
        return f"file {self.file.path}"

    def of(self, place: Place) -> str:
        line = self.file.line_of(place)
        return self.label + (f", line {line}" if line else "")


@dataclass(frozen=True)
class AsOption:
    label: str = "option"

    def of(self, place: Place) -> str:
        words = ("store",) if place[0] == "stores" else _OPTIONS.get(place, place)
        return "option --" + "-".join(words).replace("_", "-")


@dataclass
class Merged:
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, Origin] = field(default_factory=dict)
    #: What another source has set otherwise, and so does not count: the weaker, then the stronger.
    hidden: list[tuple[Place, Origin, Origin]] = field(default_factory=list)

    def add(self, values: Mapping[str, Any], origin: Origin, place: Place = ()) -> None:
        """Lays ``values`` over those that are there."""
        target = self.values
        for key in place:
            target = target.setdefault(key, {})
        for key, value in values.items():
            here = (*place, key)
            if isinstance(value, Mapping) and isinstance(target.get(key, {}), dict):
                target.setdefault(key, {})
                self.origins.setdefault(here, origin)
                self.add(value, origin, here)
            else:
                if key in target and target[key] != value:
                    self.hidden.append((here, self.origins[here], origin))
                target[key] = value
                self.origins[here] = origin

    def origin(self, place: Place) -> str:
        """In words, of a value or else of the section in which it should stand; empty if no source
        has set either."""
        while place and place not in self.origins:
            place = place[:-1]
        return self.origins[place].of(place) if place else ""

    def own_origin(self, place: Place) -> str:
        """The same, but not of the section that it stands in."""
        return self.origins[place].of(place) if place in self.origins else ""

    def below(self, place: Place) -> Iterator[Place]:
        """What has been set in this section."""
        return (at for at in self.origins if len(at) > len(place) and at[: len(place)] == place)

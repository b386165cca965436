"""Types that fields of jobs may have, for tests."""

import dataclasses
import enum
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Generic, NamedTuple, NewType, NotRequired, Self, TypedDict, TypeVar
from uuid import UUID

import pydantic
from typing_extensions import TypeAliasType

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(enum.Enum):
    """Its values cannot be told apart in JSON, so it is carried by name."""

    SMALL = (1, 2)
    LARGE = (3, 4)


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: int
    y: Decimal
    label: str = ""


class Options(TypedDict):
    since: date
    limit: NotRequired[int]


class Node(TypedDict):
    name: str
    children: "list[Node]"


class OwnTuple(tuple[int, int]):
    pass


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]
    following: "Page[T] | None" = None


@dataclasses.dataclass
class Named(Generic[T]):
    name: T


@dataclasses.dataclass
class NamedPage(Page[date], Named[UUID]):
    """Two bases whose variable has one name and stands for two types."""


@dataclasses.dataclass
class Cat:
    name: str


@dataclasses.dataclass
class Dog:
    name: str
    breed: str = ""


@dataclasses.dataclass
class Puppy(Dog):
    weeks: int = 1


@dataclasses.dataclass
class Branch:
    name: str
    grown: "list[Cat | Branch]"


class Guest(pydantic.BaseModel):
    name: str


class Member(Guest):
    number: int


class Money:
    """Says by itself how it is written."""

    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.amount == self.amount

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> Any:
        return {"amount": self.amount}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(Decimal(data["amount"]))


class User(pydantic.BaseModel):
    """A strict model with aliases, which is where a careless way there and back fails."""

    model_config = pydantic.ConfigDict(strict=True)

    name: str = pydantic.Field(alias="userName")
    born: date
    avatar: bytes = b""


@dataclasses.dataclass
class Address:
    street: str
    number: int = 1


@dataclasses.dataclass
class Tree:
    name: str
    children: list["Tree"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Checked:
    age: int

    def __post_init__(self) -> None:
        if self.age < 0:
            raise ValueError("age must not be negative")


UserId = NewType("UserId", int)
Alias = TypeAliasType("Alias", int)  # what `type Alias = int` makes, from Python 3.12 on

UUID_1 = UUID("01890000-0000-7000-8000-000000000001")

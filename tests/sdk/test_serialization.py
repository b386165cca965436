"""What a job declares is what travels: strict both ways, and every error names the field."""

import dataclasses
import json
import math
import traceback
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Literal,
    Optional,
)
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.sample_types import (
    UUID_1,
    Address,
    Alias,
    Branch,
    Cat,
    Checked,
    Colour,
    Dog,
    Guest,
    Level,
    Member,
    Money,
    NamedPage,
    Node,
    Options,
    OwnTuple,
    Page,
    Point,
    Puppy,
    Right,
    Size,
    Tree,
    User,
    UserId,
)
from towline.errors import InvalidJob, InvalidPayload
from towline.serialization import record_for
from towline.serializers import JsonSerializer, MsgpackSerializer, Serializer, read, write

ROUND_TRIPS: list[tuple[Any, Any, Any]] = [
    (str, "é\u2028\U0001f600", "é\u2028\U0001f600"),
    (int, 2**80, 2**80),
    (float, 0.1, 0.1),
    (bool, True, True),
    (None, None, None),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (bytes, b"\x00\xff", "AP8="),
    (Decimal, Decimal("10.50"), "10.50"),
    (UUID, UUID_1, str(UUID_1)),
    (date, date(2026, 1, 31), "2026-01-31"),
    (time, time(23, 59, 1), "23:59:01"),
    (datetime, datetime(2026, 1, 1, 12, tzinfo=UTC), "2026-01-01T12:00:00+00:00"),
    (datetime, datetime(2026, 1, 1, 12), "2026-01-01T12:00:00"),  # noqa: DTZ001  # stays naive
    (timedelta, timedelta(minutes=1, microseconds=1), 60.000001),
    (Colour, Colour.RED, "red"),
    (Level, Level.HIGH, 2),
    (Literal["a", 1, True], True, True),
    (list[int], [1, 2], [1, 2]),
    (list, [1, "a"], [1, "a"]),
    (set[str], {"a"}, ["a"]),
    (frozenset[int], frozenset({1}), [1]),
    (tuple[int, ...], (1, 2), [1, 2]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (Sequence[int], [1], [1]),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[int, str], {-1: "a"}, {"-1": "a"}),
    (dict[Colour, int], {Colour.RED: 1}, {"red": 1}),
    (dict[UUID, int], {UUID_1: 1}, {str(UUID_1): 1}),
    (dict[Literal["a"], int], {"a": 1}, {"a": 1}),
    (Mapping[str, Any], {"a": None}, {"a": None}),
    (Optional[int], None, None),  # noqa: UP045  # the old spelling is in use
    (int | str, "1", "1"),
    (int | float, 1, 1),
    (list[datetime | None], [None], [None]),
    (Address, Address("A", 2), {"street": "A", "number": 2}),
    (list[Address], [Address("A")], [{"street": "A", "number": 1}]),
    (
        Tree,
        Tree("a", [Tree("b")]),
        {"name": "a", "children": [{"name": "b", "children": []}]},
    ),
    (Size, Size.LARGE, "LARGE"),
    (dict[Size, int], {Size.SMALL: 1}, {"SMALL": 1}),
    (Right, Right.READ | Right.WRITE, 3),
    (Path, Path("/srv/a b"), "/srv/a b"),
    (PurePosixPath, PurePosixPath("a"), "a"),
    (dict[Path, int], {Path("a"): 1}, {"a": 1}),
    (MutableMapping[str, MutableSequence[int]], {"a": [1]}, {"a": [1]}),
    (Point, Point(1, Decimal("0.5"), "p"), [1, "0.5", "p"]),
    (Options, {"since": date(2026, 1, 1)}, {"since": "2026-01-01"}),
    (Options, {"since": date(2026, 1, 1), "limit": 5}, {"since": "2026-01-01", "limit": 5}),
    (
        Node,
        {"name": "a", "children": [{"name": "b", "children": []}]},
        {"name": "a", "children": [{"name": "b", "children": []}]},
    ),
    (
        Page[date],
        Page([date(2026, 1, 1)], Page([])),
        {"items": ["2026-01-01"], "following": {"items": [], "following": None}},
    ),
    (Page[list[UUID]], Page([[UUID_1]]), {"items": [[str(UUID_1)]], "following": None}),
    (Page, Page([1, "a"]), {"items": [1, "a"], "following": None}),
    (
        NamedPage,
        NamedPage(UUID_1, [date(2026, 1, 1)]),
        {"name": str(UUID_1), "items": ["2026-01-01"], "following": None},
    ),
    # Of alternatives that fit, the one that was meant.
    (Cat | Dog, Dog("a", "b"), {"name": "a", "breed": "b"}),
    (Dog | Cat, Dog("a"), {"name": "a", "breed": ""}),
    (Cat | Dog | None, Cat("a"), {"name": "a"}),
    (Dog | Cat, Cat("a"), {"name": "a"}),
    (Dog | Puppy, Puppy("a", "b", 3), {"name": "a", "breed": "b", "weeks": 3}),
    (Cat | Branch, Branch("a", [Cat("b")]), {"name": "a", "grown": [{"name": "b"}]}),
    (Guest | Member, Member(name="a", number=1), {"name": "a", "number": 1}),
    (Cat | Options, {"since": date(2026, 1, 1)}, {"since": "2026-01-01"}),
    (Money, Money(Decimal("1.50")), {"amount": "1.50"}),
    (
        User,
        User(userName="Ann", born=date(2000, 1, 1), avatar=b"png"),
        {"userName": "Ann", "born": "2000-01-01", "avatar": "png"},
    ),
    (list[User | Money], [Money(Decimal(1))], [{"amount": "1"}]),
    (Alias, 5, 5),
    (Annotated[int, "a note"], 1, 1),
    (UserId, UserId(1), 1),
]


def converter(hint: Any) -> Any:
    kind = dataclasses.make_dataclass("Job", [("field", hint)], kw_only=True)
    kind.__module__ = __name__
    return record_for(kind, "Job")


@pytest.mark.parametrize(("hint", "value", "expected"), ROUND_TRIPS)
def test_a_value_arrives_as_it_was_sent(hint: Any, value: Any, expected: Any) -> None:
    record = converter(hint)
    job = dataclasses.make_dataclass("Job", [("field", hint)])(value)
    data = record.encode_fields(job, "Job")
    assert data == {"field": expected}
    received = record.decode_fields(json.loads(json.dumps(data)), "Job")
    assert received == {"field": value}
    assert type(received["field"]) is type(value)


WRONG_TO_SEND: list[tuple[Any, Any, str]] = [
    (str, 5, "Job.field: expected str, got 5"),
    (int, True, "Job.field: expected int, got True"),
    (int, 1.0, "Job.field: expected int, got 1.0"),
    (int, "1", "Job.field: expected int, got a value of type str"),
    (float, math.nan, "Job.field: expected a finite number, got nan"),
    (float, 10**400, "Job.field: expected float"),
    (bool, 1, "Job.field: expected bool, got 1"),
    (date, datetime(2026, 1, 1, tzinfo=UTC), "Job.field: expected date, got a value of type"),
    (bytes, "text", "Job.field: expected bytes"),
    (list[int], "12", "Job.field: expected list"),
    (list[int], [1, None], "Job.field[1]: expected int, got None"),
    (set[int], [1], "Job.field: expected set"),
    (tuple[int, str], (1,), "Job.field: expected 2 items"),
    (dict[str, int], {"a": "x"}, "Job.field.a: expected int"),
    (dict[str, int], {1: 1}, "Job.field: expected str, got 1"),
    (int | None, "x", "Job.field: expected int or None"),
    (Literal[1], True, "Job.field: expected one of 1, got True"),
    (Colour, "red", "Job.field: expected Colour"),
    (Address, {"street": "A"}, "Job.field: expected Address"),
    (Address, Address(street=5), "Job.field.street: expected str, got 5"),  # type: ignore[arg-type]
    (Point, (1, Decimal(1)), "Job.field: expected Point"),
    (Options, {"limit": 1}, "Job.field.since: is missing"),
    (Options, {"since": date(2026, 1, 1), "limits": 1}, "Job.field: Options has no key 'limits'"),
    (Options, [], "Job.field: expected Options, a dict"),
    (Page[int], Page(["x"]), "Job.field.items[0]: expected int"),
    (Money, Decimal(1), "Job.field: expected Money"),
    (Dog, Puppy("a"), "Job.field: a Puppy would come back as a Dog; declare Dog | Puppy"),
    (User, {"userName": "a"}, "Job.field: expected User"),
    (Right, 3, "Job.field: expected Right, got 3"),
    (Any, object(), "Job.field: values of type object cannot be written as JSON"),
    (Any, {(1, 2): 1}, "Job.field: a key must be a string or a whole number"),
]


@pytest.mark.parametrize(("hint", "value", "message"), WRONG_TO_SEND)
def test_a_value_that_does_not_fit_is_not_sent(hint: Any, value: Any, message: str) -> None:
    job = dataclasses.make_dataclass("Job", [("field", hint)])(value)
    with pytest.raises(InvalidPayload) as caught:
        converter(hint).encode_fields(job, "Job")
    assert str(caught.value).startswith(message)


WRONG_TO_RECEIVE: list[tuple[Any, Any, str]] = [
    (str, 5, "Job.field: expected str, got 5"),
    (int, "5", "Job.field: expected int"),
    (int, 5.5, "Job.field: expected int, got 5.5"),
    (int, False, "Job.field: expected int, got False"),
    (float, "1", "Job.field: expected float"),
    (datetime, "yesterday", "Job.field: expected ISO date-time"),
    (datetime, 5, "Job.field: expected ISO date-time as a string, got 5"),
    (date, "2026-02-30", "Job.field: expected ISO date"),
    (timedelta, 1e300, "Job.field: expected timedelta in seconds"),
    (UUID, "x", "Job.field: expected UUID"),
    (Decimal, "ten", "Job.field: expected Decimal"),
    (bytes, "a", "Job.field: expected base64"),
    (bytes, "é", "Job.field: expected base64"),
    (Colour, "green", "Job.field: expected one of 'red', 'blue'"),
    (Level, True, "Job.field: expected one of 1, 2, got True"),
    (list[int], {"a": 1}, "Job.field: expected an array"),
    (list[list[int]], [[1], [1, "x"]], "Job.field[1][1]: expected int"),
    (tuple[int, str], [1, "a", 2], "Job.field: expected 2 items"),
    (dict[int, int], {"x": 1}, "Job.field: expected a whole number as key"),
    (dict[str, int], [], "Job.field: expected an object"),
    (Address, [], "Job.field: expected an object"),
    (Address, {}, "Job.field.street: is missing and has no default"),
    (Size, "HUGE", "Job.field: expected one of 'SMALL', 'LARGE'"),
    (Right, 4, "Job.field: expected flags of Right"),
    (Right, True, "Job.field: expected int, got True"),
    (Path, 5, "Job.field: expected Path as a string"),
    (Point, [1], "Job.field: expected an array of 3 items"),
    (Point, [1, "1", "a", 1], "Job.field: expected an array of 3 items"),
    (Point, ["a", "1"], "Job.field.x: expected int"),
    (Options, {}, "Job.field.since: is missing"),
    (Options, {"since": "2026-01-01", "limit": "x"}, "Job.field.limit: expected int"),
    (Node, {"name": "a", "children": [{}]}, "Job.field.children[0].children: is missing"),
    (Page[date], {"items": ["x"]}, "Job.field.items[0]: expected ISO date"),
    (Money, {}, "Job.field: KeyError: 'amount'"),
    (User, {"userName": "a"}, "Job.field.born: does not fit (missing)"),
    (User, [], "Job.field: does not fit (model_type)"),
    (Address | None, {"street": 5}, "Job.field.street: expected str, got 5"),
    (Checked, {"age": -1}, "Job.field: ValueError: age must not be negative"),
    (list[Tree], [{"name": "a", "children": [{}]}], "Job.field[0].children[0].name: is missing"),
]


@pytest.mark.parametrize(("hint", "data", "message"), WRONG_TO_RECEIVE)
def test_a_payload_that_does_not_fit_is_refused(hint: Any, data: Any, message: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        converter(hint).decode_fields({"field": data}, "Job")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("hint", "data"),
    [
        (int, "hunter2"),
        (User, {"userName": "Ann", "born": "hunter2"}),
        (Point, [1, "hunter2"]),
        (Options, {"since": "hunter2"}),
        (Size, "hunter2"),
    ],
)
def test_no_text_of_a_payload_ends_in_an_error(hint: Any, data: Any) -> None:
    with pytest.raises(InvalidPayload) as caught:
        converter(hint).decode_fields({"field": data}, "Job")
    # With its causes, which end in the failure of the job as well.
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, chain=True))


def test_what_another_program_wrote_may_be_shorter_or_hold_bytes() -> None:
    assert converter(Point).decode_fields({"field": [1, "2"]}, "Job")["field"] == Point(
        1, Decimal(2)
    )
    assert converter(bytes).decode_fields({"field": b"x"}, "Job")["field"] == b"x"


def test_unknown_fields_are_passed_over_and_missing_ones_take_their_default() -> None:
    record = record_for(Address, "Address")
    assert record.decode({"street": "A", "later": 1}, "Address") == Address("A", 1)
    newer = {"name": "a", "breed": "b", "later": 1}
    assert converter(Dog | Cat).decode_fields({"field": newer}, "Job")["field"] == Dog("a", "b")
    options = converter(Options).decode_fields({"field": {"since": "2026-01-01", "x": 1}}, "Job")
    assert options == {"field": {"since": date(2026, 1, 1)}}


@pytest.mark.parametrize(
    "hint",
    [
        complex,
        type,
        dict[tuple[int, int], str],
        dict[float, str],
        list[complex],
        Literal[b"x"],
        OwnTuple,
        dataclasses.InitVar[int],
        Callable[[], int],
    ],
)
def test_a_type_that_cannot_be_carried_is_refused_with_the_field(hint: Any) -> None:
    with pytest.raises(InvalidJob, match=r"^Job\.field: "):
        converter(hint)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1,]", b"\xff", b'{"a": NaN}', b"Infinity", b"[" * 100_000, b"9" * 5_000, b"nul"],
)
def test_malformed_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidPayload, match=r"^Job: "):
        read(text, "Job")


def test_what_json_cannot_hold_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (circle, math.inf, {"a": {1.5: 2}}, "\ud800"):
        with pytest.raises(InvalidPayload, match=r"^result"):
            write(value, "result")


def test_a_result_of_any_shape_is_written_by_what_it_is() -> None:
    value = {
        "at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        Colour.RED: {1},
        "address": Address("A"),
        3: (Decimal("1.0"), b"x"),
        "more": [
            Size.LARGE,
            Path("a"),
            Point(1, Decimal(2)),
            Money(Decimal(3)),
            Duration(seconds=4),
        ],
        "user": User(userName="Ann", born=date(2000, 1, 1)),
    }
    assert json.loads(write(value, "result")) == {
        "at": "2026-01-01T00:00:00+02:00",
        "red": [1],
        "address": {"street": "A", "number": 1},
        "3": ["1.0", "eA=="],
        "more": ["LARGE", "a", [1, "2", ""], {"amount": "3"}, "4s"],
        "user": {"userName": "Ann", "born": "2000-01-01", "avatar": ""},
    }


def json_values(integers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"]))
    numbers = integers | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner) | st.dictionaries(text, inner),
        max_leaves=20,
    )


JSON = json_values(st.integers())


@given(JSON)
def test_any_json_survives_the_way(value: Any) -> None:
    assert read(write(value, "value"), "value") == value


def refusal(read: Callable[[], object]) -> str:
    """What reading is refused with; empty when it is not. Any other exception passes."""
    try:
        read()
    except InvalidPayload as error:
        return str(error)
    return ""


@pytest.mark.parametrize("serializer", [JsonSerializer(), MsgpackSerializer()])
@given(text=st.binary())
def test_no_input_makes_reading_fail_in_another_way(serializer: Serializer, text: bytes) -> None:
    record = record_for(Tree, "Tree")
    refused = refusal(lambda: record.decode(read(text, "Tree", serializer), "Tree"))
    assert refused.startswith("Tree")


@given(json_values(st.integers(-(2**63), 2**64 - 1)))
def test_messagepack_says_the_same_as_json(value: Any) -> None:
    packed = MsgpackSerializer()
    assert read(write(value, "value", packed), "value", packed) == value


@given(JSON)
def test_no_json_makes_reading_fail_in_another_way(value: Any) -> None:
    record = record_for(Tree, "Tree")
    refused = refusal(lambda: record.decode({"name": "x", "children": value}, "Tree"))
    assert (refused == "") if value == [] else refused.startswith("Tree.children")


@given(
    st.datetimes(timezones=st.timezones()) | st.dates() | st.timedeltas() | st.uuids()
    | st.decimals(allow_nan=False) | st.binary()
)  # fmt: skip
def test_any_scalar_survives_the_way(value: Any) -> None:
    kind = datetime if isinstance(value, datetime) else type(value)
    data = converter(kind).encode_fields(dataclasses.make_dataclass("J", ["field"])(value), "Job")
    received = converter(kind).decode_fields(json.loads(json.dumps(data)), "Job")["field"]
    if kind is timedelta:  # a float of seconds is exact for 270 years
        assert abs(received - value) <= abs(value) / 10**15
    elif kind is datetime:  # a time that its zone had twice equals none of another zone
        assert received.isoformat() == value.isoformat()
    else:
        assert received == value

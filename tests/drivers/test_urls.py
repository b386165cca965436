"""What is told of a store's url."""

import pytest

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.registry import create_driver, parse_url
from towline_broker.drivers.urls import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5/d?lanes=1", "postgresql://u:***@h:5/d?lanes=1"),
        ("mysql://u:secret@h/d", "mysql://u:***@h/d"),
        ("redis://:secret@h", "redis://:***@h"),
        (
            "redis+sentinel://u:secret@a:1,b:2/main/0?sentinel_password=secret&ssl=1",
            "redis+sentinel://u:***@a:1,b:2/main/0?sentinel_password=***&ssl=***",
        ),
        ("sqs://?aws_secret_access_key=secret", "sqs://?aws_secret_access_key=***"),
        ("postgresql://h/d?PassWord=secret", "postgresql://h/d?PassWord=***"),
        ("redis://u:sec#ret@h", "redis://u:***@h"),
        # No driver takes these, but somebody may well write them.
        ("postgresql://u:sec/r@t@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:sec?r@e#t@h/d?x=1", "postgresql://u:***@h/d?x=***"),
        ("postgresql:u:secret@h/d", "postgresql:u:***@h/d"),
        (
            "redis+sentinel://u:secret@h?sentinel_password=sec@ret",
            "redis+sentinel://u:***@h?sentinel_password=***",
        ),
        ("mysql://u:secret@[::1/d", "mysql://u:***@[::1/d"),
        ("u:secret@h/d", "u:***@h/d"),
        ("//u:secret@h/d", "//u:***@h/d"),
        ("postgres//u:secret@h", "postgres//u:***@h"),
        ("redis:///:secret@h", "redis:///:***@h"),
        ("redis://secret@h", "redis://***@h"),
        ("sqlite://u:secret@h/d", "sqlite://u:***@h/d"),
        # Written as a part of a url is, or cut short.
        ("postgresql://u%3Asecret@h/d", "postgresql://u%3A***@h/d"),
        ("postgresql://u:secret%40h/d", "postgresql://u:***%40h/d"),
        ("redis://:secret", "redis://:***"),
        ("redis://:sec/ret", "redis://:***"),
        # An option that nobody knows may be anything.
        ("redis://h?passwrd=secret", "redis://h?passwrd=***"),
        ("redis://h?secret", "redis://h?***"),
        ("postgresql://h/d?password=sec&ret", "postgresql://h/d?password=***&***"),
        ("sqs:///?endpoint=http%3A%2F%2Fu%3Asecret%40h", "sqs:///?endpoint=***"),
        ("sqlite:///x.db?secret", "sqlite:///x.db?***"),
    ],
)
def test_passwords_are_not(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///towline.db",
        "sqlite:////a:b@c/d.db",
        "memory:",
        "mysql://u@h",
        "mysql://h:1/d?lanes=4",
        "redis://[::1]:6379/0",
        "redis+cluster://h:6379,g:6380",
        "sqs:///?region=eu-west-1&endpoint=http://127.0.0.1:4566",
    ],
)
def test_all_else_is(url: str) -> None:
    assert shown_url(url) == url


def test_nor_are_they_when_a_url_is_refused() -> None:
    for refused in (
        lambda: create_driver("postgrse://u:secret@h/d"),
        lambda: parse_url("redis://u:secret@h?colour=red", ["db"]),
        lambda: parse_url("redis://u:secret@h?db=", ["db"]),
        lambda: parse_url("redis://u:secret@h?db", ["db"]),
    ):
        with pytest.raises(StoreRefused) as caught:
            refused()
        assert "u:***@h" in str(caught.value)
        assert "secret" not in str(caught.value)

"""What a row has to be, and the table that it goes to."""

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, dataclass

COLUMNS = ("number", "name", "email")

SCHEMA = """
CREATE TABLE IF NOT EXISTS customers (number INTEGER PRIMARY KEY, name TEXT, email TEXT)
"""

UPSERT = """
INSERT INTO customers (number, name, email) VALUES (?, ?, ?)
ON CONFLICT (number) DO UPDATE SET name = excluded.name, email = excluded.email
"""


class BadRow(ValueError):
    """A row that is no customer; the message says why."""


@dataclass
class Customer:
    number: int
    name: str
    email: str

    @classmethod
    def of(cls, row: list[str]) -> "Customer":
        """Raises BadRow."""
        if len(row) != len(COLUMNS):
            raise BadRow(f"expected {len(COLUMNS)} columns, got {len(row)}")
        number, name, email = (value.strip() for value in row)
        if not number.isdecimal():
            raise BadRow("number is not a whole number")
        if not name:
            raise BadRow("name is empty")
        if "@" not in email:
            raise BadRow("email is no address")
        return cls(int(number), name, email)


def save(database: sqlite3.Connection, customers: Iterable[Customer]) -> None:
    """Saving a customer again changes nothing: the number says who it is."""
    database.execute(SCHEMA)
    database.executemany(UPSERT, [astuple(customer) for customer in customers])

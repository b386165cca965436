from typing import Any

from flask import Blueprint, request

from .database import connection
from .jobs import CheckEntry

guest_book = Blueprint("guest_book", __name__)


@guest_book.post("/entries")
def write() -> tuple[dict[str, Any], int]:
    with connection() as database:
        query = "INSERT INTO entries (text) VALUES (?)"
        entry_id = database.execute(query, [request.form["text"]]).lastrowid
        assert entry_id is not None
    # By the default client: TOWLINE_URL says where the broker is. After the commit, not before.
    CheckEntry(entry_id=entry_id).dispatch()
    return {"id": entry_id}, 202


@guest_book.get("/entries")
def read() -> dict[str, Any]:
    entries = connection().execute("SELECT id, text FROM entries WHERE state = 'shown'")
    return {"entries": [dict(entry) for entry in entries]}

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from towline.testing import Harness, InlineWorker

from . import create_app
from .jobs import CheckEntry
from .worker import AppContext


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app({"DATABASE": str(tmp_path / "guests.sqlite3"), "TESTING": True})


@pytest.fixture
def web(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def towline_worker_options(app: Flask) -> dict[str, Any]:
    return {"middleware": [AppContext(app)]}


def test_an_entry_is_dispatched_to_be_checked(web: FlaskClient, towline: Harness) -> None:
    entry = web.post("/entries", data={"text": "Hello"}).get_json()

    towline.assert_dispatched(CheckEntry, entry_id=entry["id"], times=1)
    assert web.get("/entries").get_json() == {"entries": []}


def test_entries_are_shown_unless_they_are_spam(
    web: FlaskClient, towline: Harness, towline_worker: InlineWorker
) -> None:
    for text in ("Hello", "Win in our CASINO", "Bye"):
        web.post("/entries", data={"text": text})
    towline_worker.run_all()

    shown = web.get("/entries").get_json()["entries"]
    assert [entry["text"] for entry in shown] == ["Hello", "Bye"]

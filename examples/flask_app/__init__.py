"""A guest book whose entries are checked by a worker: ``flask --app flask_app run``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from . import database, views, worker


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        DATABASE=os.environ.get("DATABASE", str(Path.cwd() / "guests.sqlite3")),
        FORBIDDEN=("casino", "lottery"),
    )
    app.config.from_mapping(config)
    database.init_app(app)
    app.register_blueprint(views.guest_book)
    app.cli.add_command(worker.run_worker)
    return app

from flask import current_app

from towline import Job

from .database import connection


class CheckEntry(Job):
    queue = "guests"
    entry_id: int

    def handle(self) -> str:
        """Uses the application as a view does: its configuration, and its database."""
        with connection() as database:
            query = "SELECT text FROM entries WHERE id = ?"
            (text,) = database.execute(query, [self.entry_id]).fetchone()
            spam = any(word in text.lower() for word in current_app.config["FORBIDDEN"])
            state = "hidden" if spam else "shown"
            database.execute("UPDATE entries SET state = ? WHERE id = ?", [state, self.entry_id])
        return state

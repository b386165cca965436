"""Generate the Python code of the contract, or check that the committed code is up to date.

Run by ``make proto`` and ``make proto-check`` with the interpreter of .venv-codegen, whose
versions are pinned in requirements/codegen.txt.
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
# The proto root equals the Python package, because generated code imports absolutely: towline.v1.
PACKAGES = ROOT / "client" / "src"
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")


def declares_service(proto: Path) -> bool:
    return re.search(r"^service\s", proto.read_text(encoding="utf-8"), re.MULTILINE) is not None


def generate(protos: list[Path], into: Path) -> None:
    """Run protoc; ends the process with protoc's own message when a .proto is wrong."""
    bundled = files("grpc_tools") / "_proto"
    # protoc looks for protoc-gen-mypy on PATH; this interpreter may have been called by path alone.
    plugins = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

    def protoc(sources: list[Path], *outputs: str) -> None:
        if not sources:
            return
        names = [path.relative_to(PROTOS).as_posix() for path in sources]
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I.",
            f"-I{bundled}",
            *outputs,
            *names,
        ]
        done = subprocess.run(command, cwd=PROTOS, env={**os.environ, "PATH": plugins})
        if done.returncode:
            sys.exit("generate: protoc failed, see above")

    protoc(protos, f"--python_out={into}", f"--mypy_out=quiet:{into}")
    services = [path for path in protos if declares_service(path)]
    protoc(services, f"--grpc_python_out={into}", f"--mypy_grpc_out=quiet:{into}")


def read_generated(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*"))
        if GENERATED.search(path.name)
    }


def show_difference(old: dict[str, str], new: dict[str, str]) -> bool:
    different = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    for name in different:
        before, after = old.get(name, "").splitlines(), new.get(name, "").splitlines()
        diff = list(
            difflib.unified_diff(
                before, after, f"committed {name}", f"generated {name}", lineterm="", n=1
            )
        )
        print("\n".join(line[:200] for line in diff[:20]))
    return bool(different)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if the committed code differs"
    )
    check = parser.parse_args().check

    protos = sorted(PROTOS.rglob("*.proto"))
    if not protos:
        sys.exit("generate: there is no .proto file under protos/")
    with tempfile.TemporaryDirectory() as folder:
        generate(protos, Path(folder))
        new = read_generated(Path(folder))
    old = read_generated(PACKAGES)

    if check:
        if show_difference(old, new):
            sys.exit("generate: the committed code is not what protos/ generates; run `make proto`")
        print(f"generate: {len(new)} generated files are up to date")
        return
    for name in old.keys() - new.keys():
        (PACKAGES / name).unlink()
    for name, text in new.items():
        if old.get(name) != text:
            path = PACKAGES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    print(f"generate: {len(new)} files under {PACKAGES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""Write docs/contract.md: services, calls, messages and fields, with the comments of protos/.

Run by ``make contract-docs`` after a change of a .proto.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "contract.md"
PACKAGE = ".towline.v1."

HEAD = """\
# The contract

What a client and a broker say to each other: package `towline.v1`, in
[Protocol Buffers](https://protobuf.dev) over gRPC. This page is written by `make contract-docs`
from the comments of the files in [protos/towline/v1](../protos/towline/v1), and a test holds it
true. A field that is not set has the default of its type: 0, false, empty. How a call fails, and
what is safe to try again: [errors.proto](#errorsproto).
"""

# Where things stand in a descriptor, as google/protobuf/descriptor.proto numbers them.
SYNTAX, MESSAGE, ENUM, SERVICE = 12, 4, 5, 6
FIELD, NESTED, NESTED_ENUM, VALUE, METHOD = 2, 3, 4, 2, 2

SCALARS = {
    FieldDescriptorProto.Type.Value(name): name.removeprefix("TYPE_").lower()
    for name in FieldDescriptorProto.Type.keys()  # noqa: SIM118 - it is no mapping
}
CODE = re.compile(r"(`[^`]+`)")


def read_contract() -> list[FileDescriptorProto]:
    """The files of protos/, with their comments, the services of producers and workers first."""
    buf = Path(sys.executable).with_name("buf")
    built = subprocess.run(
        [buf, "build", "--as-file-descriptor-set", "-o", "-"],
        cwd=ROOT / "protos",
        stdout=subprocess.PIPE,
        check=True,
    )
    found = {
        each.name.rpartition("/")[2]: each
        for each in FileDescriptorSet.FromString(built.stdout).file
    }
    first = ("queue_service.proto", "dead_letter_service.proto", "admin_service.proto")
    rest = sorted(name for name, each in found.items() if _ours(each) and name not in first)
    return [found[name] for name in (*first, *rest)]


def _ours(file: FileDescriptorProto) -> bool:
    return file.package == PACKAGE.strip(".")


class Comments:
    """Of one file, by the path of what they stand before."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._found = {tuple(each.path): each for each in file.source_code_info.location}

    def at(self, *path: int) -> list[str]:
        """The lines, without what all of them are indented by."""
        found = self._found.get(path)
        if found is None:
            return []
        text = found.leading_comments or found.trailing_comments
        return [line.removeprefix(" ").rstrip() for line in text.rstrip().splitlines()]


def escaped(text: str) -> str:
    """Text as Markdown that shows it; what stands in backquotes is left alone."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<>\[\]|])", r"\\\1", part)
        for part in CODE.split(text)
    )


def prose(lines: list[str]) -> Iterator[str]:
    """A comment as paragraphs; what is indented in it (tables, lists) as it stands."""
    fenced = False
    for line in lines:
        indented = line.startswith("  ") or (fenced and not line)
        if indented and not fenced:
            yield from ("", "```text")
        if fenced and not indented:
            yield from ("```", "")
        fenced = indented
        yield line if indented else escaped(line)
    if fenced:
        yield "```"


def cell(lines: list[str]) -> str:
    """A comment in one line, for a table."""
    paragraphs = "\n".join(lines).split("\n\n")
    return "<br>".join(escaped(" ".join(each.split())) for each in paragraphs)


def type_of(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    """How its type is written, with a link where this page tells of it."""
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = (type_of(each, {}) for each in entry.field)
        return f"map of {key} to {value}"
    repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    optional = "optional " if field.proto3_optional else ""
    return repeated + optional + _named(field.type_name or SCALARS[field.type])


def _named(name: str) -> str:
    if not name.startswith(PACKAGE):
        return f"`{name.strip('.')}`"
    short = name.removeprefix(PACKAGE)
    return f"[{short}](#{anchor(short)})"


def anchor(heading: str) -> str:
    return heading.lower().replace(".", "")


def service(
    found: ServiceDescriptorProto, comments: Comments, path: tuple[int, ...]
) -> Iterator[str]:
    yield from prose(comments.at(*path))
    for index, call in enumerate(found.method):
        asked, answer = _named(call.input_type), _named(call.output_type)
        if call.client_streaming:
            asked = f"a stream of {asked}"
        if call.server_streaming:
            answer = f"a stream of {answer}"
        yield from ("", f"### {found.name}.{call.name}", "", f"{asked} → {answer}", "")
        yield from prose(comments.at(*path, METHOD, index))


def message(
    found: DescriptorProto, comments: Comments, path: tuple[int, ...], within: str = ""
) -> Iterator[str]:
    name = within + found.name
    maps = {each.name: each for each in found.nested_type if each.options.map_entry}
    yield from ("", f"### {name}", "", *prose(comments.at(*path)), "")
    if found.field:
        yield from ("| field | type | |", "|---|---|---|")
    else:
        yield "It has no fields."
    for index, field in enumerate(found.field):
        text = cell(comments.at(*path, FIELD, index))
        if field.HasField("oneof_index") and not field.proto3_optional:
            choice = found.oneof_decl[field.oneof_index].name
            text = f"One of `{choice}`. {text}".rstrip()
        yield f"| {field.number} `{field.name}` | {type_of(field, maps)} | {text} |"
    for index, nested in enumerate(found.nested_type):
        if nested.name not in maps:
            yield from message(nested, comments, (*path, NESTED, index), f"{name}.")
    for index, values in enumerate(found.enum_type):
        yield from enumeration(values, comments, (*path, NESTED_ENUM, index), f"{name}.")


def enumeration(
    found: EnumDescriptorProto, comments: Comments, path: tuple[int, ...], within: str = ""
) -> Iterator[str]:
    yield from ("", f"### {within}{found.name}", "", *prose(comments.at(*path)), "")
    yield from ("| value | |", "|---|---|")
    for index, value in enumerate(found.value):
        yield f"| {value.number} `{value.name}` | {cell(comments.at(*path, VALUE, index))} |"


def page() -> str:
    """The text of the page. Raises CalledProcessError if protos/ cannot be compiled."""
    lines = [HEAD]
    for file in read_contract():
        comments = Comments(file)
        about = prose(comments.at(SYNTAX))
        for index, each in enumerate(file.service):
            lines += ["", f"## {each.name}", "", *about, ""]
            lines += service(each, comments, (SERVICE, index))
            lines += ["", f"## Messages of {each.name}"]
        if not file.service:
            lines += ["", f"## {file.name.rpartition('/')[2]}", "", *about]
        for index, of_message in enumerate(file.message_type):
            lines += message(of_message, comments, (MESSAGE, index))
        for index, of_enum in enumerate(file.enum_type):
            lines += enumeration(of_enum, comments, (ENUM, index))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def main() -> None:
    try:
        text = page()
    except subprocess.CalledProcessError:
        sys.exit("contract-docs: buf cannot read protos/, see above")
    PAGE.write_text(text, encoding="utf-8")
    print(f"contract-docs: wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

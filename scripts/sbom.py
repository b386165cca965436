"""Write a bill of materials of a distribution: CycloneDX, as JSON. Part of ``make dist``.

It names what the distribution brings with all its extras (the suite for drivers left out), in the
versions that it is tested with. What only an extra brings has the scope "optional". The same
commit gives the same bytes.
"""

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from scripts.dependencies import Package, closure, direct, package

SUITE = frozenset({"testing"})
NAMESPACE = uuid.UUID("5f0a2c7e-6d0b-4b0e-9a55-3c1f2b7f8f10")
_licences = LicenseFactory()


def component(each: Package, **more: object) -> Component:
    return Component(
        name=each.name,
        version=each.version,
        bom_ref=f"{each.key}@{each.version}",
        purl=PackageURL("pypi", name=each.key, version=each.version),
        licenses=[_licences.make_from_string(each.licence)],
        **more,  # type: ignore[arg-type] # of Component's many parameters
    )


def bill_of_materials(project: str, wheel: Path, epoch: int) -> str:
    """The text of the bill, which the schema admits. ``epoch``: seconds since 1970."""
    brought = closure(project, SUITE)
    always = closure(project, SUITE | {each.extra for each in direct(project) if each.extra})
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    root = component(
        package(project),
        type=ComponentType.APPLICATION if project == "towline-broker" else ComponentType.LIBRARY,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    parts = {
        key: component(
            each,
            type=ComponentType.LIBRARY,
            scope=ComponentScope.REQUIRED if key in always else ComponentScope.OPTIONAL,
        )
        for key, each in brought.items()
    }
    bom = Bom(
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(epoch, UTC)),
        components=parts.values(),
        serial_number=uuid.uuid5(NAMESPACE, f"{project} {digest} {sorted(brought)}"),
    )
    for asker, its_component in ((canonicalize_name(project), root), *parts.items()):
        asked = [
            parts[key]
            for key, each in brought.items()
            if asker in {canonicalize_name(name) for name in each.brought_by}
        ]
        bom.register_dependency(its_component, asked)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise AssertionError(f"the bill of materials of {project} is against its schema: {error}")
    return text + "\n"

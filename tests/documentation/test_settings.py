"""The settings that pages show are settings: a broker would start with them, were its files and its
stores there."""

from pathlib import Path

import pytest

from tests.documentation.scene import Scene
from tests.documentation.shell import Call
from tests.documentation.takers import taken_by
from tests.support.pages import Block

#: Drivers and files are looked at, servers are not.
CHECK = "towline-broker config check --config"
#: What a part of the settings needs around it.
AROUND = {
    "[auth.jwt": 'tls = { cert = "broker.pem", key = "broker.key" }\n',
    "[auth]": '[tls]\ncert = "broker.pem"\nkey = "broker.key"\nclient_ca = "ca.pem"\n',
}


@pytest.mark.parametrize("block", taken_by(__file__), ids=str)
def test_a_broker_takes_them(block: Block, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    around = next((text for part, text in AROUND.items() if block.text.startswith(part)), "")
    file = scene.folder / f"shown.{block.language}"
    file.write_text(scene.here(around + block.text))
    done = scene.run(Call(words=[*CHECK.split(), Path(file).name]), monkeypatch)
    assert done.code == 0, done.err

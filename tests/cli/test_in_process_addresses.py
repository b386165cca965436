"""Addresses that lead nowhere outside of a process are refused, so that no job is lost at one."""

import pytest

from tests.cli.conftest import Command


@pytest.mark.parametrize("url", ["memory://", "memory://name", "sync://"])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_command_refuses_them(
    towline: Command, url: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_URL", url if by == "environment" else "")

    done = towline("push", "SendEmail", "{}", *(["--url", url] if by == "option" else []))

    assert done.code == 2
    assert f"what is at {url} ends with the process" in done.err
    assert done.out == ""

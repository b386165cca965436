"""A payload is read as the job declares, and a result is what the handler returned."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from towline import InvalidPayload, Job, Registry


@pytest.fixture
def registry() -> Registry:
    return Registry()


class TestPayloads:
    def test_a_payload_is_read_as_the_job_declares(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            to: str
            day: timedelta = timedelta(days=1)

        definition = registry.lookup("Mail")
        assert definition is not None
        mail = Mail(to="a", day=timedelta(seconds=5))
        assert definition.decode(*definition.encode(mail)) == mail
        assert definition.decode(b'{"to": "a", "new": 1}', "") == Mail(to="a")

    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json",
         "application/octet-stream", ""],
    )  # fmt: skip
    def test_json_is_read_under_these_content_types(
        self, content_type: str, registry: Registry
    ) -> None:
        class Mail(Job, registry=registry):
            to: str

        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.decode(b'{"to": "a"}', content_type) == Mail(to="a")

    @pytest.mark.parametrize(
        ("payload", "content_type", "message"),
        [
            (b'{"to": 5}', "application/json", "Mail.to: expected str, got 5"),
            (b"{}", "application/json", "Mail.to: is missing and has no default"),
            (b"[]", "application/json", "Mail: expected an object, got a list"),
            (b"{", "application/json", "Mail: is no valid JSON"),
            (b"\x80\x04", "", "Mail: is no valid JSON"),
            (b"{}", "application/x-pickle", "Mail: the payload is 'application/x-pickle'"),
        ],
    )
    def test_any_other_payload_is_refused(
        self, payload: bytes, content_type: str, message: str, registry: Registry
    ) -> None:
        class Mail(Job, registry=registry):
            to: str

        definition = registry.lookup("Mail")
        assert definition is not None
        with pytest.raises(InvalidPayload) as caught:
            definition.decode(payload, content_type)
        assert str(caught.value).startswith(message)

    def test_whatever_from_dict_raises_refuses_the_payload(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            to: str

            def to_dict(self) -> dict[str, Any]:
                return {"recipient": self.to}

            @classmethod
            def from_dict(cls, data: Mapping[str, Any]) -> "Mail":
                return cls(to=data["recipient"])

        definition = registry.lookup("Mail")
        assert definition is not None
        payload, _ = definition.encode(Mail(to="a"))
        assert payload == b'{"recipient":"a"}'
        assert definition.decode(payload, "") == Mail(to="a")
        with pytest.raises(InvalidPayload, match="Mail: KeyError: 'recipient'"):
            definition.decode(b"{}", "")

    def test_own_conversions_may_carry_any_type(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            at: complex

            def to_dict(self) -> dict[str, Any]:
                return {"re": self.at.real}

            @classmethod
            def from_dict(cls, data: Mapping[str, Any]) -> "Mail":
                return cls(at=complex(data["re"]))

        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.decode(*definition.encode(Mail(at=1j))) == Mail(at=0j)

    def test_results_are_json(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            pass

        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.encode_result({"a": (1, None)}) == b'{"a":[1,null]}'
        assert definition.encode_result(None) == b"null"
        with pytest.raises(
            InvalidPayload, match=r"^Mail result.x: values of type object cannot be written"
        ):
            definition.encode_result({"x": object()})

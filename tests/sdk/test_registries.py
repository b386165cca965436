"""Which types a worker knows: by being defined, by being registered, by older names; and who makes
the jobs of them."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Self

import pytest

from tests.support.broker_process import BrokerProcess
from towline import (
    Client,
    InvalidJob,
    InvalidPayload,
    Job,
    JobFailed,
    Registry,
    Worker,
    job,
)
from towline.registry import default_registry

elsewhere = Registry()


class Mail(Job, registry=elsewhere):
    """Its mailer is none of its arguments: whoever runs it gives it one."""

    to: str
    mailer: list[str] = field(default_factory=list, init=False, repr=False)

    def handle(self) -> int:
        self.mailer.append(self.to)
        return len(self.mailer)


@job(registry=elsewhere)
def add(a: int, b: int = 1) -> int:
    return a + b


class TestRegistering:
    def test_a_registry_holds_what_it_is_given(self) -> None:
        registry = Registry([Mail, add])
        assert registry.types() == ["Mail", "add"]
        definition = registry.lookup("add")
        assert definition is not None
        assert definition.decode(b'{"a": 1}', "").handle() == 2

    def test_also_by_a_decorator(self) -> None:
        registry = Registry()

        @registry.register
        class Here(Job, registry=Registry()):
            pass

        @registry.register(factory=lambda kind, data: kind(to="made"))
        class There(Job, registry=Registry()):
            to: str

        assert registry.types() == ["Here", "There"]
        there = registry.lookup("There")
        assert there is not None
        assert there.decode(b"{}", "") == There(to="made")

    @pytest.mark.parametrize("wrong", [5, print, Job, type("Base", (Job,), {}, abstract=True)])
    def test_only_jobs_can_be_registered(self, wrong: Any) -> None:
        with pytest.raises(
            InvalidJob, match=r"^register: expected a Job class that is not abstract"
        ):
            Registry([wrong])

    def test_another_type_of_that_name_is_refused(self) -> None:
        registry = Registry([Mail])
        other = type("Letter", (Job,), {"job_type": "Mail"}, registry=Registry())
        with pytest.raises(InvalidJob, match="'Mail' is defined twice"):
            registry.register(other)
        assert registry.register(Mail) is Mail


class TestFactories:
    def test_a_factory_makes_every_job_that_comes_in(self) -> None:
        sent: list[str] = []

        def with_mailer(job_class: type[Any], data: Mapping[str, Any]) -> Job:
            made: Job = job_class.from_dict(data)
            if isinstance(made, Mail):
                made.mailer = sent
            return made

        registry = Registry([Mail, add], factory=with_mailer)
        with (
            BrokerProcess("memory:") as server,
            Worker(server.address, registry=registry),
            Client(server.address) as client,
        ):
            assert client.dispatch(Mail(to="a")).result(timeout=20) == 1
            assert client.dispatch(Mail(to="b")).result(timeout=20) == 2
            assert client.dispatch(add, a=1).result(timeout=20) == 2
        assert sent == ["a", "b"]

    def test_that_of_a_type_comes_before_that_of_the_registry(self) -> None:
        registry = Registry(factory=lambda kind, data: kind(to="by the registry"))
        registry.register(Mail, factory=lambda kind, data: kind(to="by its own"))
        registry.register(add)
        mail, other = registry.lookup("Mail"), registry.lookup("add")
        assert mail is not None
        assert mail.decode(b"{}", "") == Mail(to="by its own")
        assert other is not None
        with pytest.raises(TypeError):
            other.decode(b"{}", "")

    def test_it_may_be_set_later_also_of_the_default_registry(self) -> None:
        registry = Registry([Mail])
        registry.factory = lambda kind, data: kind(to="late")
        mail = registry.lookup("Mail")
        assert mail is not None
        assert mail.decode(b"{}", "") == Mail(to="late")
        assert default_registry.factory is None

    def test_what_it_raises_is_a_failed_attempt_and_a_wrong_payload_is_dead(self) -> None:
        attempts: list[None] = []

        def fails_once(job_class: type[Any], data: Mapping[str, Any]) -> Job:
            attempts.append(None)
            if len(attempts) == 1:
                raise ConnectionError("no connection for the mailer yet")
            made: Job = job_class.from_dict(data)
            return made

        with (
            BrokerProcess("memory:") as server,
            Worker(server.address, registry=Registry([Mail], factory=fails_once)),
            Client(server.address) as client,
        ):
            assert client.dispatch(Mail(to="a"), backoff=0).result(timeout=20) == 1
            with pytest.raises(JobFailed, match=r"REJECTED.*InvalidPayload.*Mail.to: is missing"):
                client.dispatch("Mail", {}).result(timeout=20)
        assert len(attempts) == 3

    def test_it_must_make_the_right_thing(self) -> None:
        registry = Registry([Mail], factory=lambda kind, data: add.job(1))
        mail = registry.lookup("Mail")
        assert mail is not None
        with pytest.raises(InvalidJob, match="the factory of Mail returned a add, not a Mail"):
            mail.decode(b"{}", "")


class TestAliases:
    @pytest.fixture
    def registry(self) -> Registry:
        return Registry()

    def test_jobs_of_an_older_name_are_run(self, registry: Registry) -> None:
        class SendInvoice(Job, registry=registry):
            job_type = "billing.invoice"
            job_aliases = ("SendInvoice", "Invoice")
            number: int

            def handle(self) -> int:
                return self.number

        assert registry.types() == ["billing.invoice"]
        with (
            BrokerProcess("memory:") as server,
            Worker(server.address, registry=registry),
            Client(server.address) as client,
        ):
            assert client.dispatch("Invoice", {"number": 7}).result(timeout=20) == 7
            handle = client.dispatch(SendInvoice(number=8), retention=60)
            assert handle.result(timeout=20) == 8
            assert handle.status().type == "billing.invoice"

    def test_so_it_is_with_functions_and_they_are_not_inherited(self, registry: Registry) -> None:
        @job(registry=registry, job_aliases=["old_sum"])
        def sum_up(numbers: list[int]) -> int:
            return sum(numbers)

        class Base(Job, registry=registry):
            job_aliases = ("Foundation",)

        class Derived(Base, registry=registry):
            pass

        old = registry.lookup("old_sum")
        assert old is not None
        assert old.run(old.decode(b'{"numbers": [1, 2]}', "")) == 3
        foundation = registry.lookup("Foundation")
        assert foundation is not None
        assert foundation.job_class is Base
        assert registry.types() == ["Base", "Derived", "sum_up"]

    def test_a_name_has_one_meaning(self, registry: Registry) -> None:
        type("Invoice", (Job,), {"job_aliases": ("Bill",)}, registry=registry)
        with pytest.raises(InvalidJob, match="'Bill' is defined twice"):
            type("Bill", (Job,), {}, registry=registry)
        with pytest.raises(InvalidJob, match="'Invoice' is defined twice"):
            type("Reminder", (Job,), {"job_aliases": ("Invoice",)}, registry=registry)
        assert registry.types() == ["Invoice"]

    @pytest.mark.parametrize(
        ("aliases", "message"),
        [
            ("Old", "expected a tuple of names"),
            (5, "expected a tuple of names"),
            (["a b"], "expected a name of letters"),
            (["Mail"], "'Mail' is its job_type already"),
        ],
    )
    def test_impossible_ones_are_refused(
        self, aliases: Any, message: str, registry: Registry
    ) -> None:
        with pytest.raises(InvalidJob, match=rf"^Mail\.job_aliases: {message}"):
            type("Mail", (Job,), {"job_aliases": aliases}, registry=registry)


class TestOlderPayloads:
    """The rule: what is unknown is passed over, what is missing takes its default or is refused;
    and from_dict() may read what an older version wrote."""

    def test_unknown_fields_are_passed_over_and_missing_ones_take_their_default(self) -> None:
        registry = Registry()

        class Report(Job, registry=registry):
            month: str
            layout: str = "plain"

        definition = registry.lookup("Report")
        assert definition is not None
        assert definition.decode(b'{"month": "2026-01", "colour": 1}', "") == Report(
            month="2026-01"
        )
        with pytest.raises(InvalidPayload, match=r"^Report\.month: is missing and has no default"):
            definition.decode(b'{"layout": "wide"}', "")

    def test_from_dict_reads_what_an_older_version_wrote(self) -> None:
        registry = Registry()

        class Report(Job, registry=registry):
            first: str
            last: str

            @classmethod
            def from_dict(cls, data: Mapping[str, Any]) -> Self:
                if "month" in data:  # until 2025
                    data = {"first": data["month"], "last": data["month"]}
                return super().from_dict(data)

        definition = registry.lookup("Report")
        assert definition is not None
        assert definition.decode(b'{"month": "2025-01"}', "") == Report(
            first="2025-01", last="2025-01"
        )
        new = Report(first="2026-01", last="2026-02")
        assert definition.decode(*definition.encode(new)) == new
        with pytest.raises(InvalidPayload, match=r"^Report\.last: is missing"):
            definition.decode(b'{"first": "2025-01"}', "")

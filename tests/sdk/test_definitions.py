"""Jobs are known by being defined, and a wrong definition says so at once, with the field."""

import sys
from dataclasses import field
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from tests.sdk.defining import define
from towline import Exponential, InvalidJob, Job, Registry, job
from towline.registry import default_registry
from towline.requests import job_message


@pytest.fixture
def registry() -> Registry:
    return Registry()


class TestClasses:
    def test_fields_are_keyword_arguments_with_defaults(self, registry: Registry) -> None:
        class SendEmail(Job, registry=registry):
            to: str
            subject: str = "Hello"
            copies: list[str] = field(default_factory=list)

        sent = SendEmail(to="a")
        assert (sent.to, sent.subject, sent.copies) == ("a", "Hello", [])
        assert sent == SendEmail(to="a")
        with pytest.raises(TypeError):
            SendEmail("a")  # type: ignore[call-arg]

    def test_a_subclass_is_known_by_its_name(self, registry: Registry) -> None:
        class SendEmail(Job, registry=registry):
            async def handle(self) -> None: ...

        definition = registry.lookup("SendEmail")
        assert definition is not None
        assert definition.type == "SendEmail"
        assert definition.job_class is SendEmail
        assert definition.is_async
        assert definition.runnable
        assert registry.types() == ["SendEmail"]
        assert registry.lookup("Other") is None

    def test_without_a_registry_of_its_own_it_goes_into_the_default_one(self) -> None:
        class OnlyInThisTest(Job):
            pass

        definition = default_registry.lookup("OnlyInThisTest")
        assert definition is not None
        assert not definition.runnable

    def test_job_type_names_it_otherwise_and_is_not_inherited(self, registry: Registry) -> None:
        class Invoice(Job, registry=registry):
            job_type = "billing.invoice"

        class Reminder(Invoice, registry=registry):
            pass

        assert registry.types() == ["Reminder", "billing.invoice"]
        assert Invoice.job_type == "billing.invoice"
        assert Reminder.job_type == "Reminder"

    def test_an_abstract_class_hands_down_policy_and_fields(self, registry: Registry) -> None:
        class Base(Job, abstract=True):
            queue = "emails"
            tenant: str

        class Mail(Base, registry=registry):
            priority = 3
            to: str

        assert registry.types() == ["Mail"]
        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.options == {"queue": "emails", "priority": 3}
        assert Mail(to="a", tenant="t").to_dict() == {"tenant": "t", "to": "a"}

    def test_class_variables_are_not_fields(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            timeout: ClassVar[float] = 5
            server: ClassVar[str] = "smtp"
            to: str

        assert Mail(to="a").to_dict() == {"to": "a"}
        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.timeout == 5.0

    def test_a_field_may_refer_to_what_is_defined_further_down(self, registry: Registry) -> None:
        module = define(
            "from __future__ import annotations\n"
            "from dataclasses import dataclass\n"
            "class Mail(Job, registry=registry):\n  to: Person\n"
            "@dataclass\nclass Person:\n  name: str\n",
            registry,
        )
        sys.modules["app.jobs"] = module
        try:
            mail = module.Mail(to=module.Person("A"))
            assert mail.to_dict() == {"to": {"name": "A"}}
        finally:
            del sys.modules["app.jobs"]

    def test_a_field_of_what_is_never_defined_is_refused_when_used(
        self, registry: Registry
    ) -> None:
        class Mail(Job, registry=registry):
            to: "Nobody"  # type: ignore[name-defined]  # noqa: F821

        with pytest.raises(InvalidJob, match="not defined: name 'Nobody'"):
            Mail(to=1).to_dict()


class TestPolicy:
    def test_every_option_is_checked_and_kept(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            queue = "emails"
            priority = -5
            max_attempts = 5
            backoff = (10, timedelta(minutes=1))
            jitter = 0.5
            timeout = timedelta(seconds=30)
            delay = 1.5
            expires_in = 3600
            retention = 60
            unique_key = "one"
            unique_for = 10

        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.options == {
            "queue": "emails",
            "priority": -5,
            "max_attempts": 5,
            "backoff": [timedelta(seconds=10), timedelta(minutes=1)],
            "jitter": 0.5,
            "timeout": timedelta(seconds=30),
            "delay": timedelta(seconds=1.5),
            "expires_in": timedelta(hours=1),
            "retention": timedelta(minutes=1),
            "unique_key": "one",
            "unique_for": timedelta(seconds=10),
        }
        assert definition.timeout == 30.0

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("queue = 'a b'", "Mail.queue: expected a name"),
            ("queue = ''", "Mail.queue: expected a name"),
            ("queue = '.a'", "Mail.queue: expected a name"),
            ("queue = 'a\\n'", "Mail.queue: expected a name"),
            ("queue = 5", "Mail.queue: expected a name"),
            ("job_type = 'a/b'", "Mail.job_type: expected a name"),
            ("job_type = None", "Mail.job_type: expected a name"),
            ("priority = 2**31", "Mail.priority: expected a whole number from -2147483648"),
            ("priority = 1.0", "Mail.priority: expected a whole number"),
            ("priority = True", "Mail.priority: expected a whole number"),
            ("max_attempts = 0", "Mail.max_attempts: expected a whole number from 1 to 2147483647"),
            ("max_attempts = '3'", "Mail.max_attempts: expected a whole number"),
            ("backoff = []", "Mail.backoff: expected delays, got an empty list"),
            ("backoff = [1, -1]", "Mail.backoff[1]: expected seconds >= 0"),
            ("backoff = 'fast'", "Mail.backoff: expected seconds, a timedelta, a list"),
            ("jitter = 1.01", "Mail.jitter: expected a number from 0 to 1"),
            ("jitter = float('nan')", "Mail.jitter: expected a number from 0 to 1"),
            ("timeout = -1", "Mail.timeout: expected seconds >= 0"),
            ("timeout = float('inf')", "Mail.timeout: expected seconds >= 0"),
            ("timeout = 1e300", "Mail.timeout: expected seconds >= 0"),
            ("timeout = 0", "Mail.timeout: expected more than 0 seconds, got 0; None is no limit"),
            ("expires_in = 1e-9", "Mail.expires_in: expected more than 0 seconds"),
            ("unique_for = 0", "Mail.unique_for: expected more than 0 seconds"),
            ("timeout = '30'", "Mail.timeout: expected seconds >= 0"),
            ("delay = True", "Mail.delay: expected seconds >= 0"),
            ("unique_key = ''", "Mail.unique_key: expected a string that is not empty"),
            ("unique_key = 5", "Mail.unique_key: expected a string"),
            ("timeout: int = 30", "Mail.timeout: this is policy, not a field"),
            ("job_type: str = 'x'", "Mail.job_type: this is policy, not a field"),
            ("handle: str", "Mail.handle: a field cannot have the name of a method"),
            ("retry_on = 'OSError'", "Mail.retry_on: expected exception classes, got 'OSError'"),
            ("dead_on = [OSError, 5]", "Mail.dead_on: expected exception classes, got 5"),
            (
                "dead_on = OSError\n  retry_on = (KeyError, TimeoutError)",
                "Mail.retry_on: TimeoutError is never retried, because dead_on",
            ),
            ("display_name = 5", "Mail.display_name: expected a string, got 5"),
            ("display_name: str = 'x'", "Mail.display_name: this is policy, not a field"),
            ("backoff = lambda self, attempt: 5", "Mail.backoff: expected seconds, a timedelta"),
            ("tries = 5", "Mail.tries: did you mean 'max_attempts'?"),
            ("max_retries = 5", "Mail.max_retries: did you mean 'max_attempts', which counts the"),
            ("countdown = 5", "Mail.countdown: did you mean 'delay'?"),
            ("autoretry_for = (OSError,)", "Mail.autoretry_for: did you mean 'retry_on'?"),
            ("min_backoff = 5", "Mail.min_backoff: did you mean 'backoff', such as Exponential("),
            ("max_age = 5", "Mail.max_age: did you mean 'expires_in'? If not, annotate it"),
            ("dead_upon = (OSError,)", "Mail.dead_upon: did you mean 'dead_on'?"),
            ("max_attemps = 5", "Mail.max_attemps: did you mean 'max_attempts'?"),
            ("retension = 60", "Mail.retension: did you mean 'retention'?"),
            ("handle = 5", "Mail.handle(): expected a method, got 5"),
            ("def handle(self, to): ...", "Mail.handle(): is called with self alone"),
            ("handle = staticmethod(lambda: None)", "Mail.handle(): is called with self alone"),
            ("def handle(self): yield", "Mail.handle(): is a generator"),
            ("async def handle(self): yield", "Mail.handle(): is a generator"),
            ("def __init__(self, to): ...", "Mail.__init__(): a job is made from its fields"),
            ("to: list = []", "Mail: mutable default <class 'list'> for field to"),
            ("to: object = object\n  at: complex", "Mail.at: values of type complex cannot be"),
        ],
    )
    def test_an_impossible_definition_is_refused_and_not_known(
        self, line: str, message: str, registry: Registry
    ) -> None:
        with pytest.raises(InvalidJob) as caught:
            define(f"class Mail(Job, registry=registry):\n  {line}\n", registry)
        assert str(caught.value).startswith(message)
        assert registry.types() == []

    def test_what_only_looks_like_policy_can_be_annotated(self, registry: Registry) -> None:
        class Mail(Job, registry=registry):
            queues: ClassVar[list[str]] = ["a"]
            delays: int = 3
            template = "hello"

        assert (Mail().delays, Mail.queues, Mail.template) == (3, ["a"], "hello")

    @pytest.mark.parametrize("made", [5, "emails", type("Mail", (), {})])
    def test_only_a_function_can_be_decorated(self, made: Any, registry: Registry) -> None:
        with pytest.raises(InvalidJob, match=r"^@job: expected a function, got "):
            job(registry=registry)(made)
        with pytest.raises(InvalidJob, match=r"^@job: expected a function, got "):
            job(made)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("def work():\n  yield", "work: is a generator"),
            ("async def work():\n  yield", "work: is a generator"),
            ("def work(self, to: str): ...", "work: a method cannot be a job"),
        ],
    )
    def test_a_function_that_could_not_run_is_refused(
        self, source: str, message: str, registry: Registry
    ) -> None:
        with pytest.raises(InvalidJob) as caught:
            define(f"@job(registry=registry)\n{source}\n", registry)
        assert str(caught.value).startswith(message)
        assert registry.types() == []

    def test_exponential_is_checked(self) -> None:
        assert Exponential().maximum == 600
        for wrong in ({"initial": -1}, {"multiplier": 0.9}, {"multiplier": "2"}, {"maximum": "x"}):
            with pytest.raises(InvalidJob, match=rf"^Exponential\.{next(iter(wrong))}: expected"):
                Exponential(**wrong)


class TestDuplicates:
    SOURCE = "class Mail(Job, registry=registry):\n  to: str\n"

    def test_two_modules_cannot_define_one_type(self, registry: Registry) -> None:
        define(self.SOURCE, registry, "app.mail")
        with pytest.raises(InvalidJob) as caught:
            define(self.SOURCE, registry, "app.other")
        assert "app.mail.Mail and by app.other.Mail" in str(caught.value)

    def test_nor_can_one_module_by_two_names(self, registry: Registry) -> None:
        with pytest.raises(InvalidJob, match="is defined twice"):
            define(
                self.SOURCE + "@job(type='Mail', registry=registry)\ndef mail(): ...\n", registry
            )

    def test_a_module_that_is_loaded_again_replaces_its_definitions(
        self, registry: Registry
    ) -> None:
        define(self.SOURCE, registry)
        again = define(self.SOURCE, registry)
        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.job_class is again.Mail

    def test_a_definition_inside_a_function_can_be_made_anew(self, registry: Registry) -> None:
        def make() -> type[Job]:
            class Mail(Job, registry=registry):
                pass

            return Mail

        make()
        latest = make()
        definition = registry.lookup("Mail")
        assert definition is not None
        assert definition.job_class is latest


class TestFunctions:
    def test_calling_it_runs_it(self, registry: Registry) -> None:
        @job(registry=registry)
        def add(a: int, b: int = 2) -> int:
            """Adds."""
            return a + b

        assert add(1) == 3
        assert add(1, b=4) == 5
        assert add.__name__ == "add"
        assert add.__doc__ == "Adds."

    def test_its_job_carries_the_arguments_by_name(self, registry: Registry) -> None:
        @job(queue="sums", type="math.add", registry=registry)
        def add(a: int, b: int = 2) -> int:
            return a + b

        made = add.job(1, b=3)
        assert made.to_dict() == {"a": 1, "b": 3}
        assert add.job(5).to_dict() == {"a": 5, "b": 2}
        definition = registry.lookup("math.add")
        assert definition is not None
        assert definition.options == {"queue": "sums"}
        assert definition.run(made) == 4
        assert definition.run(definition.decode(b'{"a": 7}', "application/json")) == 9

    async def test_an_async_function_runs_as_a_coroutine(self, registry: Registry) -> None:
        @job(registry=registry)
        async def add(a: int) -> int:
            return a + 1

        definition = registry.lookup("add")
        assert definition is not None
        assert definition.is_async
        assert await definition.run(add.job(a=1)) == 2

    def test_without_parentheses(self) -> None:
        @job
        def only_in_this_test(x: "int") -> int:
            return x

        assert only_in_this_test.job(x=1).to_dict() == {"x": 1}

    def test_parameters_without_annotation_carry_any_json(self, registry: Registry) -> None:
        made = define("@job(registry=registry)\ndef f(x, y=[]): return x\n", registry).f
        assert made.job({"a": [1]}).to_dict() == {"x": {"a": [1]}, "y": []}

    def test_unique_key_may_be_a_function_of_the_job(self, registry: Registry) -> None:
        @job(unique_key=lambda made: f"month:{made.month}", registry=registry)
        def report(month: str) -> None: ...

        message = job_message(report.job("2026-01"), None, {})
        assert message.unique_key == "month:2026-01"

    @pytest.mark.parametrize(
        ("signature", "message"),
        [
            ("(*args)", "f: the parameter '*args' cannot be carried by name"),
            ("(a, /)", "f: the parameter 'a' cannot be carried by name"),
            ("(**more)", "f: the parameter '**more' cannot be carried by name"),
            ("(queue)", "f: a parameter of a job cannot be called 'queue'"),
            ("(handle: int)", "f: a parameter of a job cannot be called 'handle'"),
            ("(a: complex)", "f.a: values of type complex cannot be carried"),
        ],
    )
    def test_parameters_that_cannot_be_carried_are_refused(
        self, signature: str, message: str, registry: Registry
    ) -> None:
        with pytest.raises(InvalidJob) as caught:
            define(f"@job(registry=registry)\ndef f{signature}: ...\n", registry)
        assert str(caught.value).startswith(message)

    def test_an_unknown_option_is_refused(self, registry: Registry) -> None:
        with pytest.raises(InvalidJob, match="f: @job has no option 'que'"):
            define("@job(que='x', registry=registry)\ndef f(): ...\n", registry)
        with pytest.raises(
            InvalidJob, match="no option 'max_retries': did you mean 'max_attempts'"
        ):
            define("@job(max_retries=1, registry=registry)\ndef f(): ...\n", registry)

    def test_wrong_arguments_are_refused(self, registry: Registry) -> None:
        @job(registry=registry)
        def add(a: int) -> int:
            return a

        with pytest.raises(InvalidJob, match="add: missing a required argument: 'a'"):
            add.job()  # type: ignore[call-arg]
        with pytest.raises(InvalidJob, match=r"add: got an unexpected keyword argument 'b'$"):
            add.job(1, b=2)  # type: ignore[call-arg]
        with pytest.raises(InvalidJob, match=r"argument 'countdown': did you mean 'delay'\?"):
            add.job(1, countdown=2)  # type: ignore[call-arg]
        with pytest.raises(InvalidJob, match=r"'delay'; an option .*job\(...\).dispatch\(delay="):
            add.dispatch(1, delay=2)  # type: ignore[call-arg]

"""examples/django_app: its tests pass, and a server and a worker of it send a receipt."""

from pathlib import Path

import httpx

from tests.examples.processes import answers, copy_of, program, run
from tests.support.broker_process import BrokerProcess
from tests.support.servers.ports import free_port


def test_its_own_tests_pass(tmp_path: Path) -> None:
    folder = copy_of("django_app", tmp_path)
    assert "OK" in run("manage.py", "test", folder=folder)
    run("manage.py", "makemigrations", "--check", "--dry-run", folder=folder)


def test_an_order_is_placed_in_one_process_and_its_receipt_sent_by_another(tmp_path: Path) -> None:
    folder = copy_of("django_app", tmp_path)
    run("manage.py", "migrate", folder=folder)
    site = f"127.0.0.1:{free_port()}"
    with (
        BrokerProcess("memory:") as broker,
        program(
            *("manage.py", "runserver", "--noreload", site),
            folder=folder,
            log=tmp_path / "server.log",
            TOWLINE_URL=broker.address,
        ) as server,
        program(
            *("manage.py", "towline_worker"),
            folder=folder,
            log=tmp_path / "worker.log",
            TOWLINE_URL=broker.address,
        ) as worker,
    ):
        server.wait_for(lambda: answers(f"http://{site}/"), "the server answers")
        placed = httpx.post(
            f"http://{site}/orders/", data={"email": "ann@example.com", "item": "a rope"}
        )
        assert placed.status_code == 201

        def sent() -> object:
            order = httpx.get(f"http://{site}/orders/{placed.json()['id']}/").json()
            return order["receipt_sent_at"]

        worker.wait_for(sent, "the receipt is sent")
        worker.stop()
    assert worker.output.count("To: ann@example.com") == 1
    assert "Thank you for buying a rope." in worker.output
    assert "SendReceipt" in worker.output

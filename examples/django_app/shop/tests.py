from django.core import mail
from django.db import transaction
from django.test import TestCase

from shop.jobs import SendReceipt
from shop.models import Order
from towline import testing


class OrderTest(TestCase):
    def setUp(self) -> None:
        self.towline = self.enterContext(testing.broker())

    def order(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/orders/", {"email": "ann@example.com", "item": "a rope"})

    def test_an_order_dispatches_its_receipt(self) -> None:
        self.order()

        order = Order.objects.get()
        self.towline.assert_dispatched(SendReceipt, order_id=order.pk, queue="mail", times=1)

    def test_an_order_that_is_rolled_back_has_no_receipt(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            self.client.post("/orders/", {"email": "ann@example.com", "item": "a rope"})
            transaction.set_rollback(True)  # as ATOMIC_REQUESTS does after an error

        self.assertEqual(Order.objects.count(), 0)
        self.towline.assert_nothing_dispatched()

    def test_the_receipt_is_sent_once_even_if_the_job_runs_twice(self) -> None:
        self.order()
        SendReceipt(order_id=Order.objects.get().pk).dispatch()

        self.assertEqual(len(self.towline.worker().run_all()), 2)

        [message] = mail.outbox
        self.assertEqual(message.to, ["ann@example.com"])
        self.assertIsNotNone(Order.objects.get().receipt_sent_at)

    def test_a_receipt_for_an_order_that_is_gone_is_dead_at_once(self) -> None:
        SendReceipt(order_id=42).dispatch()

        self.towline.worker().run_all(check=False)

        [dead] = self.towline.dead
        self.assertEqual((dead.attempt, dead.failure.type), (1, "DoesNotExist"))

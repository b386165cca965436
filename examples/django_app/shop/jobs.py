from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from shop.models import Order
from towline import Job


class SendReceipt(Job):
    queue = "mail"
    max_attempts = 5
    backoff = (10, 60, 300)
    dead_on = Order.DoesNotExist
    order_id: int

    def handle(self) -> str:
        with transaction.atomic():
            order = Order.objects.select_for_update().get(pk=self.order_id)
            if order.receipt_sent_at is None:  # a job may run twice
                send_mail("Your order", f"Thank you for buying {order.item}.", None, [order.email])
                order.receipt_sent_at = timezone.now()
                order.save(update_fields=["receipt_sent_at"])
        return order.email

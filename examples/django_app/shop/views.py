from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.jobs import SendReceipt
from shop.models import Order
from towline.contrib.django import dispatch_on_commit


@csrf_exempt  # an API without cookies
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        order = Order.objects.create(email=request.POST["email"], item=request.POST["item"])
        # Pushed by the commit: before, a worker could not see the order. robust: while the broker
        # is away orders are taken all the same, and what the push raises is logged.
        dispatch_on_commit(SendReceipt(order_id=order.pk), robust=True)
    return JsonResponse({"id": order.pk}, status=201)


def show_order(request: HttpRequest, order_id: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"item": order.item, "receipt_sent_at": order.receipt_sent_at})

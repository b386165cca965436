from django.db import models


class Order(models.Model):
    email = models.EmailField()
    item = models.CharField(max_length=100)
    receipt_sent_at = models.DateTimeField(null=True)

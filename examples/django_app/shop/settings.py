from pathlib import Path

BASE_DIR = Path(__file__).parents[1]

SECRET_KEY = "of this example, which keeps no secrets"
DEBUG = True
ROOT_URLCONF = "shop.urls"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "shop.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # a web server and a worker write to it
    }
}
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
DEFAULT_FROM_EMAIL = "shop@example.com"

INSTALLED_APPS = ["towline.contrib.django", "shop"]

TOWLINE = {"default": {"call_timeout": 5}}  # no address: TOWLINE_URL, or 127.0.0.1:7480
TOWLINE_WORKER = {"concurrency": 4, "drain_timeout": 20}

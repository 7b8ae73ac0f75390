import os
from pathlib import Path

DATA = Path(os.environ["BOOKMARKS_DATA"])
SAME_FILE = os.environ.get("BOOKMARKS_QUEUE") == "same file"

SECRET_KEY = "of a test"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["bookmarks", "litequeue.integrations.django"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "bookmarks.db",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=wal",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

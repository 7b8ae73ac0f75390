from django.conf import settings

from litequeue import Queue

if settings.SAME_FILE:
    queue = Queue(settings.DATA / "bookmarks.db", driver="sqlite3")
else:
    queue = Queue(settings.DATA / "queue.db", on_commit=True)

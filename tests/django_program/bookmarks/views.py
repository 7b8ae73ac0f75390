from django.conf import settings
from django.db import connection, transaction
from django.http import HttpResponse

from bookmarks.models import Bookmark
from bookmarks.tasks import snapshot


def up(request):
    return HttpResponse("up")


def save(number):
    bookmark = Bookmark.objects.create(number=number, url=f"https://example.com/{number}")
    task = snapshot.using(within=connection) if settings.SAME_FILE else snapshot
    task.enqueue(number, bookmark.pk)


def add(request, number):
    with transaction.atomic():
        save(number)
    return HttpResponse("saved")


def add_then_fail(request, number):
    with transaction.atomic():
        save(number)
        raise RuntimeError("rolled back on purpose")

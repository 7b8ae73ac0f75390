from project.queue import queue

from bookmarks.models import Bookmark, Snapshot


@queue.task
def snapshot(number: int, bookmark_id: int) -> None:
    bookmark = Bookmark.objects.get(pk=bookmark_id, number=number)  # fails if it began before the commit
    Snapshot.objects.create(bookmark=bookmark, html=f"<p>{bookmark.url}</p>")

from django.db import models


class Bookmark(models.Model):
    number = models.IntegerField(unique=True)
    url = models.URLField()

    def __str__(self):
        return self.url


class Snapshot(models.Model):
    bookmark = models.ForeignKey(Bookmark, on_delete=models.CASCADE)
    html = models.TextField()

    def __str__(self):
        return self.html

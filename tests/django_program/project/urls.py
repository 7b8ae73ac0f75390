from bookmarks.views import add, add_then_fail, up
from django.urls import path

urlpatterns = [path("up", up), path("add/<int:number>", add), path("add_then_fail/<int:number>", add_then_fail)]

"""A shop on Django that stays up, in one file: limits, deadlines, failover, health.

    pip install mainstay django uvicorn gunicorn
    gunicorn --threads 8 django_shop:wsgi
    uvicorn django_shop:asgi

`STOCK_URLS` says where the servers of the stock are.
"""

import json
import math
import os
import urllib.request
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from prometheus_client import REGISTRY, generate_latest

import mainstay.integrations.asgi
import mainstay.integrations.wsgi
from mainstay import (
    Bulkhead,
    DeadlineExpiredError,
    FailoverPool,
    Member,
    Probe,
    RejectedError,
    deadline_headers,
    remaining,
    transient,
)


def ask(url: str, item: str) -> Any:
    """Ask one server of the stock, which is told how much time is left."""
    request = urllib.request.Request(f"{url}/{item}", headers=deadline_headers())
    with urllib.request.urlopen(request, timeout=remaining(default=2.0)) as answer:
        return json.load(answer)


def ping(url: str) -> bool:
    """Find out if one is there."""
    ask(url, "health")
    return True


urls = os.environ.get("STOCK_URLS", "http://stock-1:8000 http://stock-2:8000").split()
stock = FailoverPool(
    "stock",
    [Member(f"stock-{number}", url) for number, url in enumerate(urls, 1)],
    on=transient,
    probe=Probe(ping, every=1.0),
)


class PolicyErrors:
    """Answers what policies raise in views; Django would make 500 of it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer 503 or 504."""
        if isinstance(error, RejectedError):
            seconds = str(math.ceil(error.retry_after or 1))
            return HttpResponse("try again later", status=503, headers={"Retry-After": seconds})
        if isinstance(error, DeadlineExpiredError):
            return HttpResponse("the time of the request is over", status=504)
        return None


def show(_request: HttpRequest, item: str) -> HttpResponse:
    """Answer a customer."""
    return JsonResponse(stock.call(ask, item))


def export(_request: HttpRequest) -> HttpResponse:
    """Answer Prometheus."""
    return HttpResponse(generate_latest(REGISTRY), content_type="text/plain; version=0.0.4")


urlpatterns = [path("stock/<item>", show), path("metrics", export)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.PolicyErrors"],
    SECRET_KEY=os.environ.get("SECRET_KEY", "for the example"),
)
django.setup()

options: dict[str, Any] = {
    "name": "shop",
    "bulkhead": Bulkhead("shop-places", limit=20, max_wait=0.5),
    "ready": ("stock",),
    "exempt": ("/metrics",),
}
wsgi = mainstay.integrations.wsgi.Middleware(get_wsgi_application(), **options)
asgi = mainstay.integrations.asgi.Middleware(get_asgi_application(), **options)

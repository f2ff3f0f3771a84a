"""A bucket in the memory of the test, which keeps to conditions, and fails where it is told to."""

import hashlib
import threading
from collections import Counter

from mainstay.stores._s3.failures import S3Failure
from mainstay.stores._s3.requests import Delete, Found, Get, Listed, ListPage, Put
from mainstay.stores.s3 import S3Store
from support.store_conformance import now

CUT = S3Failure("the connection was lost", retryable=True, cut=True)
LATE = S3Failure("the server did not answer in time", retryable=True)
CONFLICT = S3Failure("ConditionalRequestConflict (status 409)", retryable=True, status=409)
DENIED = S3Failure("AccessDenied (status 403)", "AccessDenied", status=403)


class FakeBucket:
    """Answers requests as a bucket of S3 does, on the clock of the context.

    Attributes:
        objects: The content of each object, and when it was written.
        requests: What was asked, in order.
        before: Called with each request; what it raises is the answer, and nothing is done.
        after: Called with each request that was done; what it raises is the answer all the same.
        page: How many objects a list has at once.
    """

    def __init__(self):
        self.objects = {}
        self.requests = []
        self.before = self.after = lambda _request: None
        self.page = 1000
        self.lock = threading.RLock()

    def send(self, request, seconds):
        assert seconds > 0
        with self.lock:
            self.requests.append(request)
            self.before(request)
            answer = self.done(request)
            self.after(request)
            return answer

    async def asend(self, request, seconds):
        return self.send(request, seconds)

    def close(self):
        pass

    def done(self, request):
        match request:
            case Get(name=name):
                return self.found(name)
            case Put(name=name, data=data, condition=condition):
                there = self.found(name)
                if condition is not None and condition != (there.etag if there else ""):
                    return None
                self.objects[name] = data, now()
                return self.found(name).etag
            case Delete(names=names):
                for name in names:
                    self.objects.pop(name, None)
                return None
            case ListPage(folder=folder, after=after):
                names = [
                    n for n in sorted(self.objects) if n.startswith(f"{folder}/") and n > after
                ]
                return [self.listed(name) for name in names[: self.page]]

    def found(self, name):
        if name not in self.objects:
            return None
        data, modified = self.objects[name]
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Found(data, etag, modified // 1)

    def listed(self, name):
        found = self.found(name)
        return Listed(name, len(found.data), found.etag)

    def kinds(self):
        """Give how many requests of each kind there were since this was asked last."""
        kinds = Counter(type(each).__name__.removesuffix("Page").lower() for each in self.requests)
        self.requests.clear()
        return dict(kinds)

    def names(self, folder):
        """Give the names of the objects in a folder."""
        return sorted(name for name in self.objects if name.startswith(folder))


def store_on(bucket, **options):
    """Give a store on a bucket, in a process of its own as far as the store can tell."""
    store = S3Store("s3://key:secret@bucket/jobs?region=us-east-1", **options)
    store._runner.bucket = bucket
    store._operations.clock = now
    return store

"""Requests to applications of WSGI, and applications, without a server."""

from mainstay.integrations.wsgi import Middleware


class Server:
    """Serves one request at a time, as PEP 3333 has it."""

    def __init__(self, app, *, takes=None):
        self.app = app
        self.takes = takes  # how many chunks the client reads before it leaves
        self.status = None
        self.headers = {}
        self.body = b""
        self.headers_are_out = False

    def start_response(self, status, headers, exc_info=None):
        if exc_info is not None:
            if self.headers_are_out:
                raise exc_info[1].with_traceback(exc_info[2])
        else:
            assert self.status is None, "a second response"
        self.line, self.headers = status, dict(headers)
        self.status = int(status[:3])
        return self.write

    def write(self, data):
        self.headers_are_out = True
        self.body += data

    def get(self, path="/", method="GET", **environ):
        found = self.app(
            {"REQUEST_METHOD": method, "PATH_INFO": path, **environ}, self.start_response
        )
        try:
            for number, chunk in enumerate(found):
                assert self.status is not None
                self.write(chunk)
                if self.takes is not None and number + 1 >= self.takes:
                    break
        finally:
            if hasattr(found, "close"):
                found.close()
        return self


def get(app, path="/", **request):
    return Server(app).get(path, **request)


def answering(status=200, *parts, before=None, between=None, after=None):
    """An application that sends a response of these parts, the first of which is there at once."""

    def app(environ, start_response):
        if before is not None:
            before()
        start_response(f"{status} Whatever", [("content-type", "text/plain")])
        return body()

    def body():
        try:
            for part in parts or (b"done",):
                yield part
                if between is not None:
                    between()
        finally:
            if after is not None:
                after()

    return app


def raising(error):
    def app(environ, start_response):
        raise error

    return app


def shop(app, **options):
    return Middleware(app, **{"name": "shop", **options})

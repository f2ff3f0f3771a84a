"""What a server or a connection said, and whether the same request may succeed a moment later."""

import re
from collections.abc import Mapping

from mainstay.stores._failure import ServerFailure

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_FORBIDDEN = 403
_NO_KEY = (
    "there is no access key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give the machine a "
    "role, or write key:secret@ before the bucket in the URL"
)
_PASSING_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "OperationAborted"})
_HINTS: Mapping[str, str] = {
    "Certificate": "; for authorities of your own, name their file in $SSL_CERT_FILE",
    "NoSuchBucket": "; create the bucket, or mend its name in the URL",
    "PermanentRedirect": "; give ?region= in the URL the region of the bucket",
    "AuthorizationHeaderMalformed": "; give ?region= in the URL the region of the bucket",
    "InvalidAccessKeyId": "; mend the access key",
    "SignatureDoesNotMatch": "; mend the secret of the access key",
    "ExpiredToken": "; the session token of the environment has expired",
    "RequestTimeTooSkewed": "; set the clock of this machine",
    "AccessDenied": (
        "; grant the access key s3:GetObject, s3:PutObject and s3:DeleteObject on the objects of "
        "the prefix, and s3:ListBucket on the bucket"
    ),
}
_LASTING = re.compile(
    r"Name or service not known|nodename nor servname|No address associated"
    r"|builder error|BadScheme"
)
"""What of a failure without an answer will not pass."""
_LATE = re.compile(r"\bTimedOut\b|timed out")
_OF_THE_MACHINE = re.compile(r"//169\.254\.|/latest/api/token")
"""Where obstore asks for the role of the machine, if it was given no access key."""
_REDIRECTED = re.compile(r"redirect without LOCATION")
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
_CERTIFICATE = re.compile(r"\bInvalidCertificate\(\s*(\w+)")


class S3Failure(ServerFailure):
    """What S3 or a connection said.

    Attributes:
        status: The status of the answer; 0 if there was none.
    """

    HINTS = _HINTS

    def __init__(
        self,
        problem: str,
        code: str = "",
        *,
        retryable: bool = False,
        cut: bool = False,
        status: int = 0,
    ) -> None:
        super().__init__(problem, code, retryable=retryable, cut=cut)
        self.status = status


def failed(text: str) -> S3Failure:
    """Return the failure of which obstore says *text*."""
    status = _STATUS.search(text)
    number = int(status[1]) if status else 0
    if _OF_THE_MACHINE.search(text):
        passes = number in _PASSING_STATUSES
        return S3Failure(_NO_KEY, "NoKey", retryable=passes, status=number)
    if _REDIRECTED.search(text):
        return S3Failure("the bucket is in another region", "PermanentRedirect")
    return _refused(text, number) if number else _lost(text)


def _refused(text: str, status: int) -> S3Failure:
    """Return the failure that a server answered with."""
    code, message = _first(_CODE, text), _first(_MESSAGE, text)
    if not code and status == _FORBIDDEN:
        code = "AccessDenied"
    told = ": ".join(filter(None, (code, message))) or "the server refused"
    passes = status in _PASSING_STATUSES or code in _PASSING_CODES
    return S3Failure(f"{told} (status {status})", code, retryable=passes, status=status)


def _lost(text: str) -> S3Failure:
    """Return the failure for a request that was not answered."""
    if _LATE.search(text):
        return S3Failure.late()
    certificate = _CERTIFICATE.search(text)
    if certificate is not None:
        return S3Failure(f"the server's certificate is refused: {certificate[1]}", "Certificate")
    causes = [" ".join(each.split()) for each in _CAUSE.findall(text)]
    told = causes[-1] if causes else "the connection was lost"
    return S3Failure(told, retryable=_LASTING.search(text) is None, cut=True)


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else " ".join(found[1].split())

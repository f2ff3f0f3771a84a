"""What the tests of `transient` against real clients and servers share."""

import subprocess

from mainstay import transient

BOTH, AGAIN, FAILING, NEITHER = (True, True), (True, False), (False, True), (False, False)
"""May it be sent again? Is what was called failing?"""


def said_of(call, *args, **options):
    """Both answers about what *call* raises."""
    try:
        call(*args, **options)
    except Exception as error:  # noqa: BLE001 - that is what is judged
        return transient(error), transient.failing(error)
    raise AssertionError("it has worked well")


def self_signed(folder):
    """A certificate that nobody knows, and its key, in one file."""
    path = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", path, "-out", folder / "public.pem"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (folder / "public.pem").read_bytes())
    return path

"""Just enough of MySQL's and MongoDB's servers to be in trouble, on top of `faulty`.

They take the client's greeting as the real ones do; of what is asked then, *behave* decides.

Source:
    MySQL, "Client/Server Protocol" (Protocol::HandshakeV10, ERR_Packet, OK_Packet); MongoDB, "Wire
    Protocol" (OP_MSG, OP_REPLY).
"""

import struct

# MySQL.

SSL = 0x0800
CAPABILITIES = 0x000FA20F  # a long password, a schema, 4.1's protocol, transactions, plugins
OK = b"\x00\x00\x00\x02\x00\x00\x00"
QUERY = 3


def mysql_packet(number, payload):
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def mysql_greeting(capabilities=CAPABILITIES):
    return mysql_packet(
        0,
        b"\x0a8.0.0\x00"
        + struct.pack("<I8sxHBHHB10x", 1, b"a" * 8, capabilities & 0xFFFF, 45, 2,
                      capabilities >> 16, 21)
        + b"b" * 12 + b"\x00mysql_native_password\x00",
    )  # fmt: skip


def mysql_error(code, message, number=1):
    return mysql_packet(number, b"\xff" + struct.pack("<H", code) + b"#HY000" + message.encode())


def read_exactly(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def read_mysql(connection):
    header = read_exactly(connection, 4)
    return read_exactly(connection, int.from_bytes(header[:3], "little"))


def mysql(behave):
    """Return what greets a client, and leaves what it asks but settings to *behave*.

    It goes on as long as that returns something.
    """

    def serve(connection, over):
        connection.sendall(mysql_greeting())
        read_mysql(connection)
        connection.sendall(mysql_packet(2, OK))
        while True:
            command = read_mysql(connection)
            if command[0] != QUERY or command[1:4].upper() == b"SET":
                connection.sendall(mysql_packet(1, OK))
            elif not behave(connection, over):
                return

    return serve


def mysql_says(code, message):
    """Return what answers each question with an error."""
    return mysql(lambda connection, _over: connection.send(mysql_error(code, message)))


def mysql_refuses(code, message):
    """Return what answers with an error in place of the greeting."""

    def serve(connection, _over):
        connection.sendall(mysql_error(code, message, 0))
        connection.recv(1)

    return serve


def mysql_with_tls(context):
    """Return what speaks TLS after the greeting."""

    def serve(connection, _over):
        connection.sendall(mysql_greeting(CAPABILITIES | SSL))
        read_mysql(connection)
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    return serve


# MongoDB.

MESSAGE, ANSWER = 2013, 1


def mongo(bson, behave):
    """Return what says hello as a primary, and leaves everything else to *behave*.

    Args:
        bson: The module of pymongo.
        behave: Gets what was asked; returns the answer, a document, or raises to close.
    """
    hello = {
        "ok": 1, "isWritablePrimary": True, "ismaster": True, "helloOk": True,
        "minWireVersion": 0, "maxWireVersion": 21, "maxBsonObjectSize": 1 << 24,
        "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "readOnly": False,
    }  # fmt: skip

    def serve(connection, over):
        connection.settimeout(60)
        while True:
            size, number, _, kind = struct.unpack("<4i", read_exactly(connection, 16))
            body = read_exactly(connection, size - 16)
            document = body[5:] if kind == MESSAGE else body[body.index(0, 4) + 9 :]
            asked = bson.decode(document[: int.from_bytes(document[:4], "little")])
            command = next(iter(asked))
            answer = hello if "hello" in command.lower() or command == "ismaster" else None
            if command == "endSessions":
                answer = {"ok": 1}
            if answer is None:
                answer = behave(asked, over)
            head = struct.pack("<iB", 0, 0) if kind == MESSAGE else struct.pack("<iqii", 8, 0, 0, 1)
            payload = head + bson.encode(answer)
            kind = MESSAGE if kind == MESSAGE else ANSWER
            connection.sendall(struct.pack("<4i", 16 + len(payload), 1, number, kind) + payload)

    return serve

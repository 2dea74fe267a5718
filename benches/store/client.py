"""A client of PostgreSQL that sends messages made beforehand, so that a measurement has the server's work and the transfer.

It speaks as drivers do: a statement with its values beside it, as text or in binary form. COPY goes the same way.
"""

import socket
import struct

TEXT, BINARY = 0, 1


class Client:
    """A session over the socket of a server on this machine that trusts it."""

    def __init__(self, connection):
        options = dict(word.split("=", 1) for word in connection.split())
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(f"{options['host']}/.s.PGSQL.{options['port']}")
        self.incoming = self.socket.makefile("rb")
        words = ["user", options["user"], "database", options["dbname"], ""]
        body = struct.pack("!i", 3 << 16) + b"".join(word.encode() + b"\0" for word in words)
        self.send(struct.pack("!i", len(body) + 4) + body)

    def close(self):
        """Ends the session."""
        self.socket.sendall(message(b"X"))
        self.socket.close()

    def send(self, messages):
        """Sends messages and waits until the server is ready again. Returns the first value of each row."""
        self.socket.sendall(messages)
        found = []
        while True:
            kind, length = struct.unpack("!ci", self.incoming.read(5))
            body = self.incoming.read(length - 4)
            if kind == b"E":
                raise RuntimeError(body.decode(errors="replace"))
            if kind == b"D":
                size = struct.unpack_from("!i", body, 2)[0]
                found.append(body[6:6 + size].decode() if size >= 0 else None)
            if kind == b"Z" or kind == b"G":
                return found


def message(kind, *parts):
    """A message of the protocol."""
    body = b"".join(parts)
    return kind + struct.pack("!i", len(body) + 4) + body


def statement(sql):
    """A statement without values."""
    return message(b"Q", sql.encode() + b"\0")


def call(sql, types, values, form):
    """A statement with its values beside it, as bytes in one form; a type of 0 leaves it to the server."""
    declared = struct.pack(f"!h{len(types)}I", len(types), *types)
    sizes = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return b"".join([
        message(b"P", b"\0", sql.encode() + b"\0", declared),
        message(b"B", b"\0\0", struct.pack("!hhh", 1, form, len(values)), sizes, struct.pack("!h", 0)),
        message(b"E", b"\0", struct.pack("!i", 0)),
        message(b"S"),
    ])


def copied(data):
    """The rows of a COPY that has begun, and its end."""
    size = 64 * 1024
    return b"".join(message(b"d", data[i:i + size]) for i in range(0, len(data), size)) + message(b"c")


def binary_array(element_type, elements):
    """An array without NULL, of elements in binary form."""
    head = struct.pack("!iiIii", 1, 0, element_type, len(elements), 1)
    return head + b"".join(struct.pack("!i", len(element)) + element for element in elements)


def binary_vector(numbers):
    """A vector of pgvector's."""
    return struct.pack(f"!hh{len(numbers)}f", len(numbers), 0, *numbers)

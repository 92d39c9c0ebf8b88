"""Messages of protocol buffers, read and written as what they are: numbered fields.

https://protobuf.dev/programming-guides/encoding; an .onnx file is one (onnx_proto.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

_BYTES, _FIXED = 2, {1: 8, 5: 4}  # wire types: with a length in front; with a size of its own


Fields = Sequence[tuple[int, bytes, bytes]]  # as `fields` yields them


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield a message's fields: number, content where its wire type has a length, and all of it."""
    begin = 0
    while begin < len(message):
        tag, at = _read_varint(message, begin)
        number, wire = tag >> 3, tag & 7
        content = b""
        if wire == _BYTES:
            size, at = _read_varint(message, at)
            content = message[at : at + size]
            if len(content) < size:
                raise ValueError("it ends early")
            at += size
        elif wire in _FIXED:
            at += _FIXED[wire]
        elif wire == 0:
            _, at = _read_varint(message, at)
        else:
            raise ValueError("it is no ONNX file")
        yield number, content, message[begin:at]
        begin = at


def edited(message: bytes, edits: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
    """Return a message of whose fields some have another content; every other byte stays.

    Args:
        message: what to change.
        edits: by the number of a field that has a length, what makes its new content of the old.
    """
    return b"".join(
        field(number, edits[number](content)) if number in edits else whole
        for number, content, whole in fields(message)
    )


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def field(number: int, content: bytes) -> bytes:
    """Return a field that has a length: a string, bytes or a message."""
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def number_field(number: int, value: int) -> bytes:
    """Return a field that is a whole number."""
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    """Return a whole number as it is written, seven bits a byte."""
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])

"""A decoder written from docs/format.md alone, in plain Python: archives of one array by an embedded histogram."""

from __future__ import annotations

import bisect
import hashlib
import json
import struct
import zlib

USUAL = b'[{"kind":"array","name":"","key":"","count":1,"dtype":"|u1","layout":"NHWC","shape":[3,28,28],"levels":256,'
USUAL += b'"values":"pixels"},{"kind":"kept"},{"kind":"list","count":1}{"kind":"pictures","names":["1.png","2.png"]}]'
USUAL_MODEL = b'","model":"PixelCNNMADE","shape":[3,28,28],"levels":4}{"arithmetic":1,"fingerprint":"","probe":"",'
USUAL_MODEL += b'"model":"LogisticPixelCNN","shape":[3,null,null],"levels":256}'


def frequencies_of(logits):
    """The head: logits as floats → integers that sum to 2^22."""
    one = 1 << 192
    ratio, term = 0, one
    for k in range(1, 64):
        ratio, term = ratio + term, -term // (k << 10)

    def table(d):
        value = one
        for _ in range(d):
            value = value * ratio >> 192
        return (value + (1 << 160)) >> 161

    whole = [min(max(round(logit * 1024), -(2**24)), 2**24) for logit in logits]
    top, levels = max(whole), len(whole)
    weights = [table(min(top - level, 30_000)) for level in whole]
    result = [1 + w * (2**22 - levels) // sum(weights) for w in weights]
    result[whole.index(top)] += 2**22 - sum(result)
    return result


class AnsDecoder:
    def __init__(self, payload):
        self.words = list(struct.unpack(f"<{len(payload) // 4}I", payload))
        self.state = 0
        self.refill()

    def refill(self):
        while self.state < 2**32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def symbol(self, frequencies):
        levels, cumulative, left = len(frequencies), 0, []
        for i, frequency in enumerate(frequencies):
            left.append((cumulative * (2**24 - levels) >> 22) + i)
            cumulative += frequency
        left.append(2**24)
        q = self.state % 2**24
        i = bisect.bisect_right(left, q) - 1
        self.state = (left[i + 1] - left[i]) * (self.state >> 24) + q - left[i]
        self.refill()
        return i


def decode(blob):
    """(header, events as a list of levels) of an archive."""
    place, seal = 0, b""

    def take(n):
        nonlocal place
        assert place + n <= len(blob)
        place += n
        return blob[place - n : place]

    def check(*parts):
        nonlocal seal
        crc = take(4)
        assert crc == struct.pack("<I", zlib.crc32(b"".join(parts)))
        seal += crc

    def number():
        value = shift = 0
        while (byte := take(1)[0]) > 127:
            value, shift = value | (byte & 127) << shift, shift + 7
        return value | byte << shift

    prefix = take(14)
    magic, version, length = struct.unpack("<8sHI", prefix)
    assert (magic, version) == (b"\x89CRZ\r\n\x1a\n", 2)
    packed = take(length)
    check(prefix, packed)
    header = json.loads(zlib.decompressobj(-15, USUAL).decompress(packed))
    (member,) = header
    assert member["kind"] == "array"
    start = take(13)
    tag, known_length, config_length, weights_length = struct.unpack("<cIII", start)
    assert tag == b"M"
    known, config, weights = take(known_length), take(config_length), take(weights_length)
    check(start, known, config, weights)
    assert json.loads(zlib.decompressobj(-15, USUAL_MODEL).decompress(known))["arithmetic"] == 1
    assert json.loads(config)["class"] == "Histogram"

    (described,) = struct.unpack("<Q", weights[:8])
    first, last = json.loads(weights[8 : 8 + described])["theta"]["data_offsets"]
    theta = weights[8 + described + first : 8 + described + last]
    frequencies = frequencies_of(struct.unpack(f"<{len(theta) // 4}f", theta))

    events = []
    while (tag := take(1)) == b"C":
        rest = take(40)
        length, count, digest = struct.unpack("<II32s", rest)
        begun = place
        assert number() == 0  # the first of the archive's models
        payload = take(begun + length - place)
        check(tag, rest, blob[begun : begun + length])
        decoder = AnsDecoder(payload)
        levels = [decoder.symbol(frequencies) for _ in range(count)]  # one site an event
        assert (decoder.state, decoder.words) == (0, [])
        assert hashlib.sha256(bytes(levels)).digest() == digest
        events += levels
    assert tag == b"E"
    assert len(events) == member["count"]
    assert take(4) == struct.pack("<I", zlib.crc32(seal + tag))
    assert place == len(blob)
    return header, events

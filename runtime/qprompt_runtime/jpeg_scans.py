"""Whether every row of a JPEG without an end marker is there, and where its picture ends.

A decoder that runs out of data continues with zeros, or with whatever follows the picture, and reports
nothing. So the codes are walked here as a strict decoder would read them (ITU-T T.81, annexes F and G), every
block of every scan, without making pixels. A picture is whole when all its coefficients were sent in full. If
something else is walked by mistake (another file, filling zeros), it soon breaks a rule: a code that does not
exist, a block of more than 64 coefficients, a brightness out of range, a run of empty blocks beyond the last
one, padding that is not of ones.

This takes about a second for a megabyte. It is done only for pictures that do not end as they should.
"""

from __future__ import annotations

from array import array
from typing import BinaryIO

from qprompt_runtime.jpeg_bits import Bits
from qprompt_runtime.jpeg_markers import BETWEEN_SCANS, SOS, JpegError, header, read_segment
from qprompt_runtime.jpeg_picture import Block, Picture, Scan, band_of, read_scan, unit_blocks

_MOST_SCANS = 100
_ZERO_RUN = 15
_FILLER = 16  # equal bytes, or letters, that no picture ends with


def picture_end(stream: BinaryIO) -> int:
    """Walk a JPEG's scans until its picture is whole.

    Args:
        stream: The file; may be followed by anything.

    Returns:
        The offset behind the last byte of coded data; an end marker belongs there.

    Raises:
        JpegError: Rows are missing, what should be rows is something else, or the picture is of a kind, or of
            a size, that is not walked.
    """
    picture = Picture()
    for segment in header(stream):
        picture.take(segment)
    for _ in range(_MOST_SCANS):
        end, filled = _walk(picture, read_scan(picture, segment), stream, segment.end)
        if picture.is_complete():
            _check_end(stream, end, filled)
            return end
        while (segment := read_segment(stream, end)).marker != SOS:
            if segment.marker not in BETWEEN_SCANS:
                raise JpegError("scans are missing")
            picture.take(segment)
            end = segment.end
    raise JpegError("too many scans")


def _check_end(stream: BinaryIO, end: int, filled: bool) -> None:
    """Refuse an end that lies somewhere within what is no picture."""
    stream.seek(max(0, end - _FILLER))
    before = stream.read(min(_FILLER, end))
    behind = stream.read(2)
    if not behind or behind[:1] == b"\xff":
        return
    if not filled or len(set(before)) == 1 or (before.isascii() and before.decode().isprintable()):
        raise JpegError("other data in the place of the last rows")


def _walk(picture: Picture, scan: Scan, stream: BinaryIO, offset: int) -> tuple[int, bool]:
    """Walk one scan, an interval between restarts at a time; returns what `Bits.end` does."""
    frame = picture.frame
    assert frame is not None
    across, down = frame.units if len(scan.planes) > 1 else frame.blocks(scan.planes[0][0])
    bits, done, count = Bits(stream, offset), 0, across * down
    while True:
        upto = min(count, done + picture.interval) if picture.interval else count
        if scan.band[0] > 0:
            walk = _walk_refined if scan.before else _walk_band
            position = walk(*band_of(picture, scan), bits, (done, upto))
        else:
            position = _walk_blocks(unit_blocks(picture, scan), scan.before, bits, upto - done)
        if upto == count:
            return bits.end(position)
        bits.restart(position, done // picture.interval)
        done = upto


def _walk_blocks(blocks: list[Block], refined: int, bits: Bits, count: int) -> int:
    """Walk units of blocks whose average is sent; in sequential scans, with all the rest.

    Returns the position.
    """
    position, words, limit, averages = 0, bits.words, bits.limit, [0] * 4
    for _ in range(count):
        for plane, sizes, steps, most in blocks:
            if position > limit:
                position = bits.more(position)
                words, limit = bits.words, bits.limit
            if refined:  # one more bit of the average, and nothing else
                position += 1
                continue
            entry = sizes[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
            position, size = position + (entry & 31), entry >> 5
            if entry == 0 or size > 11:
                raise JpegError("a code that does not exist")
            if size:
                value = words[position >> 3] >> 32 - size - (position & 7) & (1 << size) - 1
                position += size
                averages[plane] += value if value >> size - 1 else value - (1 << size) + 1
                if not -most <= averages[plane] <= most:
                    raise JpegError("a brightness out of range")
            if steps is None:
                continue
            k = 1
            while k < 64:
                step = steps[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
                if step <= 0:
                    if step == 0:
                        raise JpegError("a code that does not exist")
                    position -= step
                    break
                position += step & 63
                k += step >> 6
            if k > 64:
                raise JpegError("more coefficients than a block has")
    return position


def _walk_band(
    symbols: list[int], band: tuple[int, int], known: array[int], bits: Bits, part: tuple[int, int]
) -> int:
    """Walk blocks of which a band of coefficients is sent for the first time (annex G.1.2.2).

    Args:
        symbols: Code table.
        band: First and last coefficient.
        known: For each block of the plane, a bit for each coefficient that is not zero; new ones are added.
        bits: The data.
        part: First block, and the one behind the last.

    Returns:
        The position behind them.
    """
    position, words, limit = 0, bits.words, bits.limit
    block, upto = part
    while block < upto:
        if position > limit:
            position = bits.more(position)
            words, limit = bits.words, bits.limit
        k = band[0]
        while k <= band[1]:
            entry = symbols[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
            if entry == 0:
                raise JpegError("a code that does not exist")
            position, zeros, size = position + (entry & 31), entry >> 9, entry >> 5 & 15
            if size == 0 and zeros < _ZERO_RUN:  # nothing more in this block, nor in the next of a run
                block += (1 << zeros) - 1
                block += words[position >> 3] >> 32 - zeros - (position & 7) & (1 << zeros) - 1
                position += zeros
                break
            k += zeros
            if size:
                if k > band[1]:
                    raise JpegError("more coefficients than a block has")
                known[block] |= 1 << k
                position += size
            k += 1
        block += 1
    if block > upto:
        raise JpegError("a run beyond the last block")
    return position


def _walk_refined(
    symbols: list[int], band: tuple[int, int], known: array[int], bits: Bits, part: tuple[int, int]
) -> int:
    """Walk blocks of which one more bit of a band is sent (annex G.1.2.3); arguments as for `_walk_band`.

    Coefficients that are known to be not zero send a bit each as they are passed.
    """
    position, words, limit, run = 0, bits.words, bits.limit, 0
    for block in range(*part):
        if position > limit:
            position = bits.more(position)
            words, limit = bits.words, bits.limit
        k, nonzero = band[0], known[block]
        while run == 0 and k <= band[1]:
            entry = symbols[words[position >> 3] >> 16 - (position & 7) & 0xFFFF]
            position, zeros, size = position + (entry & 31), entry >> 9, entry >> 5 & 15
            if entry == 0 or size > 1:
                raise JpegError("a code that does not exist")
            position += size
            if size == 0 and zeros < _ZERO_RUN:
                run = (1 << zeros) + (words[position >> 3] >> 32 - zeros - (position & 7) & (1 << zeros) - 1)
                position += zeros
                break
            while k <= band[1] and (zeros or nonzero >> k & 1):
                if nonzero >> k & 1:
                    position += 1
                else:
                    zeros -= 1
                k += 1
            if size:
                if k > band[1]:
                    raise JpegError("more coefficients than a block has")
                known[block] |= 1 << k
            k += 1
        if run:
            position += (nonzero >> k & (2 << band[1] - k) - 1).bit_count() if k <= band[1] else 0
            run -= 1
    if run:
        raise JpegError("a run beyond the last block")
    return position

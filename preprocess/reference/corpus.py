"""Writes the corpus of small images of every kind, and Pillow's pixels for them: python corpus.py (needs Pillow and numpy).

corpus/inputs/KIND/NAME is an image file. corpus/outputs/KIND/NAME.png holds the pixels of
`ImageOps.exif_transpose(image).convert("RGB")` (16-bit grey: its high byte); there is none where Pillow does not read
the file. The kinds are the rows of the table in docs/images.md.
"""

import base64
import shutil
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from make import HERE, ORIENTATION, cmyk, encode, orientation, scene, ycck

CORPUS = HERE / "corpus"
SIZES = [(1, 1), (2, 3), (7, 5), (8, 8), (1, 40), (40, 1), (17, 9), (33, 20)]
FEW = [(1, 1), (7, 5), (17, 9)]

# Made with `cjpeg -arithmetic`, which Pillow has no option for.
ARITHMETIC = {
    "dot": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
        "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
        "FBQUFBQUFBT/yQARCAABAAEDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AO7dfv/Z"
    ),
    "grey": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
        "FRUVDA8XGBYUGBIUFRT/yQALCAALAAkBAREA/8wABgAQEAX/2gAIAQEAAD8A/wDo2c1Nl3CQl+onuKUeIKkgJ6hn05oZpf8A0v5A"
        "/9k="
    ),
    "colour": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
        "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
        "FBQUFBQUFBT/yQARCAARABgDAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANficoHTL+sKTQD0cBmvvxZWstvE"
        "VAFc70bekXmd38l/j6vk7tbnL3H93WW3L3H/AGGJZELN6ca9fmA956QmM/CMXVQn82XEGwtsHIfFvdVkAM9fX/Gt1KW35z822dDf"
        "3kqrYo5bxeDCArAK4elEtv7oXTRPCUbYX5DXOQZQqc04wzVk0/6YncjSEX57nlOLL07XxsICNw9Rwe0l4Mb1H2Ug2P5oDugUwEtZ"
        "xzFwrTQxBvqkBAPqyulf2/GvGtdX+/Y/nGkeWtKr5ViXFek6OmgNeO6Df94jzzhpNY1ssIBYSxC8YxpQAP6mrGuhn7KjeR98/oWM"
        "3IKg1cR3ObF9N90cuRC3u87PnrvS4oCEmyDpNw3vRVhsRxk9CcrzTINubkKLjCxD/l9FmTzgOjdR5BcXu3V9JnIjAkqeOVioqNmi"
        "AQDPYdM48KTt0DuWyCuxgtPkEeIdDWvqZztOrLhQhbEjRlN6U/y+sD1iXxw7JbBBGnLf+HtSNK2H/JvEUH+YKf6XvtcJF1cOeqhF"
        "n1flpJdtsZpps9qNXKqEL/bn8L+Xpm9mZQVHCMpleP3tTsvTmjN1rTt9eO/sGWMCBqOUXMfo6wyKrALKPNW5PPRO9C/86gN8ad91"
        "xNDJmarD2kTIRXmforoQazHFJOytXsDsmRBvJJC0wdc5Y+NMoKuBVxo3hGZvS/QNAjKRwc5BygKXIEMdcgrlCyvv7DThNA+NMqAJ"
        "Bk85MxVw9Eag/gD60Ry+n0fzwtGnFdbb/9k="
    ),
    "subsampled": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
        "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
        "FBQUFBQUFBT/yQARCAARABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANficoHTL+sKTQD0cBmvvxZWstu/"
        "U4O9956QmM/CMXVQn82XEGwtsHIfFvdVkAM9fX/Gt1KW35z822dDf3kqrZ6D3EVRBEZB7MuRhxwHER9vdEa0JIodoY3IND15ETI0"
        "bbGpuUCv9g8GL6yCXS+aG2Ek2dixLOx4/fzidaVg2R+n8TB8Nnf9udmBExYrcnEUHQRgcJ3sTuJspLPWSUlJDsrfycgrgYRJ7Vo7"
        "0BW54yLwZtVHSAcsRLVYHyxhjhfV8A4Obvdg9RV8J36M5sGMUYYLAiVfpe07GPPqVeIJD2y3OEe7et6wjnYcaBUMweMlUlYUGg0e"
        "phWNrNqbWvzMWgt91KzXSHP3EcQK6lZN8D9n8Osc5eY4irpGbuPRnOuJBjfn+JEa/iRkQrsq1FM+ZdIF/G4F23Mfas9nzH9W07CB"
        "OoWYvRUext8aCB3zEmqs8y4fhlMsxb9Rk734Qd1n44mq2cut9bl0mkYxykD/2Q=="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
        "FRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
        "FBQUFBQUFBT/ygARCAARABgDASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAf8AqQEYdubojUdIgpGN+5MIwWIeG8bc+XlC"
        "MP/MAAQQBf/aAAgBAQABBQIWb54Uc7ty3NgRh94atFx7Gptr7QtF3hRLUbpgBUjA/8wABBEF/9oACAEDAQE/ARYxR3ExVIVpasBJ"
        "qABoAOJQSRNusg7xQjpsCSyoed1haujm+3QR5K0tIP/MAAQRBf/aAAgBAgEBPwE4rMEZevhArxDwH5fsQi+ePaHRK1mMShhTJ0TH"
        "CcYVzRBCIzUWzmPNw5DfUWD/zAAEEAX/2gAIAQEABj8CHHE0IIaQc7GaGErX2gBKR4Dnkna3L3X2rXOjvjBgkaaTF/g/tit19vLf"
        "h5SiDeVigP/MAAQQBf/aAAgBAQABPyEX4Q4lHG1QL6KBI5CT+VJZTigzRkeR38kPyOwFknAQuiddOLo93gSguk1ZKhkwitT/2gAM"
        "AwEAAgADAAAAEHoyu//MAAQRBf/aAAgBAwEBPxCOlqvhZPp8iHRPHza4eHc5gjWT/dgMyzIETWD33P/MAAQRBf/aAAgBAgEBPxCn"
        "uP5GY7Fep0APFToiXIrwzfnMx++BH5Y0/se8/8wABBAF/9oACAEBAAE/EKwk7ERpGTZTFUCOWo35TFeQg5Zga9taAoup4Y6Y7rmq"
        "cwQr3WrFjDFNSnLKQScGMdHtMZBrp0Cs2/RZMjYM0aEVrlQK/9k="
    ),
}


def size_name(size):
    return "{}x{}".format(*size)


def pixels(image):
    """Pillow's RGB pixels, with the exception that make.py explains."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


# --- EXIF and XMP


def tiff(number, kind=3, count=1, endian="<"):
    """EXIF data with the orientation as a value of this TIFF type."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[endian] + struct.pack(endian + "L", 8)
    formats = {1: "B", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 11: "f", 12: "d", 16: "Q"}
    value = struct.pack(endian + "LL", number, 1) if kind == 5 else struct.pack(endian + formats[kind], number) * count
    inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(endian + "L", 26)
    entry = struct.pack(endian + "HHHL", 1, ORIENTATION, kind, count) + inline
    return head + entry + b"\0" * 4 + (value if len(value) > 4 else b"")


def xmp(number):
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{number}"/></x:xmpmeta>'.encode()


# --- JPEG


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def exif_segment(data):
    return segment(0xE1, b"Exif\0\0" + data)


def xmp_segment(data):
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + data)


def split_jpeg(encoded):
    """The segments before the scan, as (marker, bytes), and the rest from the scan's marker on."""
    at, segments = 2, []
    while encoded[at + 1] != 0xDA:
        length = 2 + struct.unpack(">H", encoded[at + 2 : at + 4])[0]
        segments.append((encoded[at + 1], encoded[at : at + length]))
        at += length
    return segments, encoded[at:]


def join_jpeg(segments, rest):
    return b"\xff\xd8" + b"".join(data for _, data in segments) + rest


def insert(encoded, *data):
    """Puts segments at the start."""
    return encoded[:2] + b"".join(data) + encoded[2:]


def without(encoded, *markers):
    segments, rest = split_jpeg(encoded)
    return join_jpeg([(marker, data) for marker, data in segments if marker not in markers], rest)


def jpegs():
    for kind, options in [
        ("jpeg-444", {"subsampling": 0}),
        ("jpeg-422", {"subsampling": 1}),
        ("jpeg-420", {"subsampling": 2}),
        ("jpeg-progressive", {"progressive": True}),
    ]:
        for size in SIZES:
            yield kind, size_name(size) + ".jpg", encode(scene(*size), "JPEG", quality=90, **options)
    for size in SIZES:
        yield "jpeg-grey", size_name(size) + ".jpg", encode(scene(*size).convert("L"), "JPEG", quality=90)
    photo = encode(scene(24, 17), "JPEG", quality=85, subsampling=2)
    segments, rest = split_jpeg(photo)

    kind = "jpeg-stray-bytes"
    for count in (1, 2, 3, 4, 40):
        yield kind, f"zeros-{count}.jpg", insert(photo, b"\0" * count)
    for at in range(1, len(segments)):
        yield kind, f"before-segment-{at}.jpg", join_jpeg(segments[:at] + [(0, b"abc")] + segments[at:], rest)
    yield kind, "before-scan.jpg", join_jpeg(segments + [(0, b"\0\0\0")], rest)
    yield kind, "escaped.jpg", insert(photo, b"\xff\0\xff\0")
    yield kind, "fill.jpg", insert(photo, b"\xff\xff\xff\xff")
    yield kind, "after-end.jpg", photo + b"trailing bytes"
    yield kind, "second-image.jpg", photo + encode(scene(9, 9), "JPEG")

    for name, options in [("420", {}), ("422", {"subsampling": 1}), ("444", {"subsampling": 0})]:
        webcam = without(encode(scene(32, 24), "JPEG", **options), 0xC4)
        yield "jpeg-without-huffman-tables", name + ".jpg", webcam
        motion = insert(without(webcam, 0xE0), segment(0xE0, b"AVI1\0\0\0\0\0\0\0\0\0\0"))
        yield "jpeg-without-huffman-tables", name + "-avi1.jpg", motion
    grey = without(encode(scene(9, 9).convert("L"), "JPEG"), 0xC4)
    yield "jpeg-without-huffman-tables", "grey.jpg", grey

    for name, encoded in ARITHMETIC.items():
        yield "jpeg-arithmetic", name + ".jpg", base64.b64decode(encoded)

    for size in FEW:
        yield "jpeg-cmyk", size_name(size) + ".jpg", encode(cmyk(scene(*size)), "JPEG", quality=90)
        plain = without(encode(cmyk(scene(*size)), "JPEG", quality=90), 0xEE)
        yield "jpeg-cmyk", size_name(size) + "-without-adobe.jpg", plain
        yield "jpeg-ycck", size_name(size) + ".jpg", ycck(scene(*size))
    rgb = encode(scene(17, 9), "JPEG", quality=90, keep_rgb=True)
    yield "jpeg-colour-marks", "rgb.jpg", rgb
    yield "jpeg-colour-marks", "rgb-without-adobe.jpg", without(rgb, 0xEE)
    yield "jpeg-colour-marks", "without-jfif.jpg", without(photo, 0xE0)
    for transform in (0, 1, 2):
        adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
        yield "jpeg-colour-marks", f"adobe-{transform}.jpg", insert(without(photo, 0xE0), adobe)
        yield "jpeg-colour-marks", f"jfif-and-adobe-{transform}.jpg", insert(photo, adobe)
    for first in (0, 2, 65):
        frame = next(data for marker, data in segments if marker == 0xC0)
        ids = {frame[10 + 3 * i]: first + i for i in range(3)}
        renamed = bytearray(frame)
        scan = bytearray(rest)
        for i in range(3):
            renamed[10 + 3 * i] = ids[frame[10 + 3 * i]]
            scan[5 + 2 * i] = ids[rest[5 + 2 * i]]
        changed = [(m, bytes(renamed) if m == 0xC0 else d) for m, d in segments if m != 0xE0]
        yield "jpeg-colour-marks", f"identifiers-from-{first}.jpg", join_jpeg(changed, bytes(scan))
    yield "jpeg-restarts", "rows.jpg", encode(scene(33, 40), "JPEG", restart_marker_rows=1)
    yield "jpeg-restarts", "blocks.jpg", encode(scene(33, 40), "JPEG", restart_marker_blocks=2)
    yield "jpeg-restarts", "optimised.jpg", encode(scene(33, 40), "JPEG", optimize=True)

    large = encode(scene(64, 48), "JPEG", quality=70)
    scan = large.index(b"\xff\xda")
    kind = "jpeg-damaged"
    # Other bits leave coefficients out of range, whose pixels depend on the processor's instructions in libjpeg itself.
    for number in (0, 3, 4, 5, 6):
        damaged = bytearray(large)
        damaged[scan + 40 + 37 * number] ^= 1 << number
        yield kind, f"bit-{number}.jpg", bytes(damaged)
    for at in (20, 100, 300):
        yield kind, f"end-after-{at}.jpg", large[: scan + at] + b"\xff\xd9"
    yield kind, "zeros.jpg", large[: scan + 100] + b"\0" * 30 + large[scan + 130 :]
    for name, cut in [("end", 2), ("half-end", 1), ("byte", 3), ("tenth", len(large) // 10), ("half", len(large) // 2)]:
        yield "jpeg-lost-end", f"without-{name}.jpg", large[:-cut]
    yield "jpeg-lost-end", "header.jpg", large[: scan - 20]
    yield "jpeg-lost-end", "start.jpg", large[:2]
    for name, options in [("progressive", {"progressive": True}), ("grey", {})]:
        image = scene(64, 48).convert("L") if name == "grey" else scene(64, 48)
        yield "jpeg-lost-end", name + ".jpg", encode(image, "JPEG", **options)[:-40]
    frame = photo.index(b"\xff\xc0")
    yield "jpeg-unsupported", "12-bit.jpg", photo[: frame + 4] + b"\x0c" + photo[frame + 5 :]
    yield "jpeg-unsupported", "no-height.jpg", photo[: frame + 5] + b"\0\0" + photo[frame + 7 :]
    yield "jpeg-unsupported", "hierarchical.jpg", photo[: frame + 1] + b"\xc5" + photo[frame + 2 :]

    kind, base = "jpeg-orientation", encode(scene(9, 6), "JPEG", subsampling=0)
    for number in range(10):
        yield kind, f"exif-{number}.jpg", insert(base, exif_segment(tiff(number, endian="<>"[number % 2])))
        yield "jpeg-orientation-xmp", f"xmp-{number}.jpg", insert(base, xmp_segment(xmp(number)))
    kind = "jpeg-orientation-odd"
    for type_ in (1, 4, 5, 6, 7, 8, 9, 11, 12, 16):
        yield kind, f"type-{type_}.jpg", insert(base, exif_segment(tiff(6, type_)))
    yield kind, "count-2.jpg", insert(base, exif_segment(tiff(6, count=2)))
    yield kind, "count-0.jpg", insert(base, exif_segment(tiff(6, count=0)))
    yield kind, "prefix-twice.jpg", insert(base, exif_segment(b"Exif\0\0" + tiff(6)))
    yield kind, "two-segments.jpg", insert(base, exif_segment(tiff(1)), exif_segment(tiff(6)))
    yield kind, "in-two-parts.jpg", insert(base, exif_segment(tiff(6)[:12]), exif_segment(tiff(6)[12:]))
    yield kind, "no-exif.jpg", insert(base, exif_segment(b"nothing of the kind"))
    yield kind, "empty-then-exif.jpg", insert(base, exif_segment(b""), exif_segment(tiff(6)))
    yield kind, "exif-before-xmp.jpg", insert(base, exif_segment(tiff(3)), xmp_segment(xmp(6)))
    yield kind, "xmp-before-exif.jpg", insert(base, xmp_segment(xmp(6)), exif_segment(tiff(3)))
    yield kind, "xmp-element.jpg", insert(base, xmp_segment(b"<tiff:Orientation>8</tiff:Orientation>"))
    yield kind, "two-xmp.jpg", insert(base, xmp_segment(xmp(6)), xmp_segment(xmp(8)))


# --- PNG

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data, checksum=None):
    body = kind + data
    crc = zlib.crc32(body) if checksum is None else checksum
    return struct.pack(">I", len(data)) + body + struct.pack(">I", crc)


def chunks(encoded):
    at, found = 8, []
    while at < len(encoded):
        length = struct.unpack(">I", encoded[at : at + 4])[0]
        found.append((encoded[at + 4 : at + 8], encoded[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(parts):
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


def packed(rows, bits):
    """Unfiltered rows of samples [height, width, channels] with this many bits."""
    lines = []
    for row in rows.reshape(rows.shape[0], -1):
        if bits == 16:
            data = row.astype(">u2").tobytes()
        elif bits == 8:
            data = row.astype(np.uint8).tobytes()
        else:
            each = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
            data = np.packbits(each.astype(np.uint8)).tobytes()
        lines.append(b"\0" + data)
    return b"".join(lines)


def raw_png(samples, colour, bits, interlaced=False, palette=None, extra=()):
    height, width = samples.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in passes]
    data = b"".join(packed(part, bits) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    found = [(b"IHDR", header)]
    if palette is not None:
        found.append((b"PLTE", palette))
    return png([*found, *extra, (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")])


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def samples_of(size, colour, bits):
    rgb = np.asarray(scene(*size)).astype(np.int64)
    planes = [rgb[..., i % 3] for i in range(CHANNELS[colour])]
    samples = np.stack(planes, axis=-1)
    return samples * 257 % 65536 if bits == 16 else samples >> (8 - bits)


def pngs():
    kinds = [("grey", 0, (1, 2, 4, 8, 16)), ("rgb", 2, (8, 16)), ("palette", 3, (1, 2, 4, 8))]
    for name, colour, depths in [*kinds, ("grey-alpha", 4, (8, 16)), ("rgba", 6, (8, 16))]:
        for bits in depths:
            for size in FEW:
                palette = bytes(np.random.default_rng(1).integers(0, 256, 3 << bits, np.uint8)) if colour == 3 else None
                samples = samples_of(size, colour, bits)
                for interlaced in (False, True):
                    kind = f"png-{name}-interlaced" if interlaced else f"png-{name}"
                    encoded = raw_png(samples, colour, bits, interlaced, palette)
                    yield kind, f"{bits}-bit-{size_name(size)}.png", encoded
    small = scene(9, 6)
    base = encode(small, "PNG")
    found = chunks(base)
    head, data, end = found[0], found[1:-1], found[-1]
    kind = "png-transparent"
    yield kind, "rgb.png", raw_png(np.asarray(small), 2, 8, extra=[(b"tRNS", struct.pack(">HHH", 250, 240, 20))])
    yield kind, "grey.png", raw_png(samples_of((9, 6), 0, 8), 0, 8, extra=[(b"tRNS", struct.pack(">H", 40))])
    palette = bytes(range(3 * 16))
    extra = [(b"tRNS", b"\xff\0\x80")]
    yield kind, "palette.png", raw_png(samples_of((9, 6), 3, 4), 3, 4, palette=palette, extra=extra)
    yield kind, "short-palette.png", raw_png(samples_of((9, 6), 3, 4), 3, 4, palette=palette[:15])

    kind = "png-checksum"
    bad = [(name, content, 7) for name, content in data]
    yield kind, "pixels.png", png([head, *bad, end])
    yield kind, "end.png", png([head, *data, (*end, 7)])
    yield kind, "after-pixels.png", png([head, *data, (b"tEXt", b"Comment\0x", 7), end])
    yield kind, "text.png", png([head, (b"tEXt", b"Comment\0x", 7), *data, end])
    yield kind, "header.png", png([(*head, 7), *data, end])
    yield kind, "unknown.png", png([head, (b"abCd", b"x", 7), *data, end])
    stream = b"".join(content for _, content in data)
    yield kind, "adler.png", png([head, (b"IDAT", stream[:-4] + b"abcd"), end])

    kind = "png-lost-end"
    yield kind, "without-end.png", png([head, *data])
    yield kind, "half-end.png", png([head, *data, end])[:-6]
    yield kind, "without-checksum.png", png([head, *data])[:-4]
    yield kind, "without-adler.png", png([head, (b"IDAT", stream[:-4]), end])
    yield kind, "in-text.png", png([head, *data, (b"tEXt", b"Comment\0" + b"x" * 30)])[:-20]
    for missing in (8, 20, len(base) // 2, len(base) - 20, len(base) - 10):
        yield kind, f"without-{missing}.png", png([head, *data])[:-missing]
    yield kind, "after-end.png", base + b"trailing bytes"

    kind = "png-parts"
    parts = [(b"IDAT", stream[i : i + 7]) for i in range(0, len(stream), 7)]
    yield kind, "of-7-bytes.png", png([head, *parts, end])
    yield kind, "empty.png", png([head, (b"IDAT", b""), *parts, (b"IDAT", b""), end])
    yield kind, "more-data.png", png([head, (b"IDAT", stream + b"more"), end])
    profile = (b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))
    yield kind, "odd-chunks.png", png([head, profile, (b"gAMA", b"\0\0\0\1"), (b"sBIT", b"\1\1\1"), *data, end])

    kind = "png-orientation"
    for number in range(1, 9):
        yield kind, f"exif-{number}.png", png([head, (b"eXIf", tiff(number)), *data, end])
    for number in (3, 6, 8):
        yield kind, f"behind-{number}.png", png([head, *data, (b"eXIf", tiff(number, endian=">")), end])
    yield kind, "two.png", png([head, (b"eXIf", tiff(3)), *data, (b"eXIf", tiff(6)), end])
    yield kind, "prefix.png", png([head, (b"eXIf", b"Exif\0\0" + tiff(6)), *data, end])
    digits = (b"Exif\0\0" + tiff(6)).hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    text = f"\nexif\n{len(digits) // 2:8}\n{lines}\n".encode()
    name = b"Raw profile type exif\0"
    packed_text = zlib.compress(text)
    for where, before, after in [("before", True, False), ("behind", False, True)]:
        for form, part in [
            ("text", (b"tEXt", name + text)),
            ("compressed", (b"zTXt", name + b"\0" + packed_text)),
            ("international", (b"iTXt", name + b"\0\0\0\0" + text)),
            ("both", (b"iTXt", name + b"\1\0\0\0" + packed_text)),
        ]:
            yield "png-raw-profile", f"{form}-{where}.png", png([head, *[part] * before, *data, *[part] * after, end])
    exif_and_profile = [head, (b"eXIf", tiff(3)), (b"tEXt", name + text), *data, end]
    yield "png-raw-profile", "exif-first.png", png(exif_and_profile)
    yield "png-raw-profile", "no-digits.png", png([head, (b"tEXt", name + b"\nexif\n4\n"), *data, end])
    name = b"XML:com.adobe.xmp\0"
    yield "png-xmp", "before.png", png([head, (b"iTXt", name + b"\0\0\0\0" + xmp(6)), *data, end])
    yield "png-xmp", "behind.png", png([head, *data, (b"iTXt", name + b"\0\0\0\0" + xmp(8)), end])
    yield "png-xmp", "compressed.png", png([head, (b"iTXt", name + b"\1\0\0\0" + zlib.compress(xmp(6))), *data, end])
    yield "png-xmp", "beside-exif.png", png([head, (b"iTXt", name + b"\0\0\0\0" + xmp(6)), (b"eXIf", tiff(3)), *data, end])

    frames = [scene(9, 6).rotate(90 * i) for i in range(3)]
    moving = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "png-animated", "first-frame.png", moving
    still = encode(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    yield "png-animated", "default-image.png", still


# --- Others


def webps():
    for size in SIZES:
        yield "webp-lossless", size_name(size) + ".webp", encode(scene(*size), "WEBP", lossless=True)
        yield "webp-lossy", size_name(size) + ".webp", encode(scene(*size), "WEBP", quality=90)
    for size in FEW:
        alpha = scene(*size)
        alpha.putalpha(scene(*size).convert("L"))
        yield "webp-alpha", size_name(size) + ".webp", encode(alpha, "WEBP", lossless=True, exact=True)
        yield "webp-alpha", size_name(size) + "-lossy.webp", encode(alpha, "WEBP", quality=90, exact=True)
    small = scene(9, 6)
    for number in (2, 3, 5, 6, 7, 8):
        yield "webp-orientation", f"exif-{number}.webp", encode(small, "WEBP", lossless=True, exif=tiff(number))
    yield "webp-orientation", "prefix.webp", encode(small, "WEBP", lossless=True, exif=b"Exif\0\0" + tiff(6))
    yield "webp-orientation", "xmp.webp", encode(small, "WEBP", lossless=True, xmp=xmp(6))
    frames = [small, small.rotate(180)]
    yield "webp-animated", "frames.webp", encode(small, "WEBP", lossless=True, save_all=True, append_images=frames)
    whole = encode(scene(33, 20), "WEBP", quality=90)
    yield "webp-lost-end", "half.webp", whole[: len(whole) // 2]
    yield "webp-lost-end", "header.webp", whole[:24]


def gifs():
    for size in SIZES:
        yield "gif", size_name(size) + ".gif", encode(scene(*size).quantize(60), "GIF")
    small = scene(17, 9)
    yield "gif", "grey.gif", encode(small.convert("L"), "GIF")
    yield "gif", "interlaced.gif", encode(small.quantize(30), "GIF", interlace=1)
    yield "gif", "transparent.gif", encode(small.quantize(30), "GIF", transparency=4)
    yield "gif", "orientation-is-not-read.gif", encode(small.quantize(30), "GIF", comment=b"Exif\0\0" + tiff(6))
    frames = [small.quantize(20), small.rotate(180).quantize(20)]
    moving = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "gif-animated", "frames.gif", moving
    yield "gif-animated", "cut-in-second.gif", moving[:-30]
    plain = encode(small.quantize(30), "GIF")
    canvas = plain[:6] + struct.pack("<HH", 30, 20) + plain[10:]
    yield "gif", "larger-canvas.gif", canvas
    yield "gif", "smaller-canvas.gif", plain[:6] + struct.pack("<HH", 5, 4) + plain[10:]
    yield "gif-lost-end", "half.gif", plain[: len(plain) // 2]
    yield "gif-lost-end", "without-trailer.gif", plain[:-1]
    yield "gif-lost-end", "header.gif", plain[:13]


def bmps():
    for size in FEW:
        image = scene(*size)
        for mode in ("RGB", "L", "1", "RGBA"):
            yield "bmp", f"{mode.lower()}-{size_name(size)}.bmp", encode(image.convert(mode), "BMP")
        yield "bmp", f"palette-{size_name(size)}.bmp", encode(image.quantize(16), "BMP")
    whole = encode(scene(17, 9), "BMP")
    height = whole.index(struct.pack("<i", 9), 18)
    yield "bmp", "top-down.bmp", whole[:height] + struct.pack("<i", -9) + whole[height + 4 :]
    yield "bmp-lost-end", "half.bmp", whole[: len(whole) // 2]
    yield "bmp-lost-end", "header.bmp", whole[:30]


def tiffs():
    for size in FEW:
        image = scene(*size)
        for mode in ("RGB", "L", "1", "RGBA", "CMYK"):
            yield "tiff", f"{mode.lower()}-{size_name(size)}.tif", encode(image.convert(mode), "TIFF")
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
            name = f"{compression.replace('_', '-')}-{size_name(size)}.tif"
            yield "tiff", name, encode(image, "TIFF", compression=compression)
    wide = np.asarray(scene(17, 9).convert("L")).astype(np.uint16) * 257
    yield "tiff", "16-bit.tif", encode(Image.fromarray(wide), "TIFF")
    small = scene(9, 6)
    yield "tiff", "jpeg.tif", encode(small, "TIFF", compression="jpeg")
    for number in range(1, 9):
        yield "tiff-orientation", f"{number}.tif", encode(small, "TIFF", exif=orientation(number))
    yield "tiff-animated", "pages.tif", encode(small, "TIFF", save_all=True, append_images=[small.rotate(180)])
    whole = encode(scene(17, 9), "TIFF")
    yield "tiff-lost-end", "half.tif", whole[: len(whole) // 2]
    yield "tiff-lost-end", "header.tif", whole[:8]
    yield "named", "tiff-palette.tif", encode(small.quantize(16), "TIFF")
    yield "named", "tiff-float.tif", encode(small.convert("F"), "TIFF")


def named():
    """Pillow reads most of these. They are refused by name."""
    small = scene(9, 6)
    yield "named", "image.avif", encode(small, "AVIF")
    yield "named", "image.jp2", encode(small, "JPEG2000")
    yield "named", "image.ico", encode(scene(16, 16), "ICO")
    yield "named", "image.ppm", encode(small, "PPM")
    yield "named", "image.dds", encode(small, "DDS")
    yield "named", "image.qoi", encode(small, "QOI")


def not_images():
    kind = "not-an-image"
    yield kind, "empty", b""
    yield kind, "page.html", b"<!DOCTYPE html><html><body>not found</body></html>"
    yield kind, "document.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    yield kind, "base64.txt", base64.b64encode(encode(scene(9, 6), "JPEG"))
    yield kind, "url.txt", b"https://example.com/cat.jpg"
    yield kind, "photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
    yield kind, "film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + b"\0" * 40
    yield kind, "image.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40
    yield kind, "random", bytes(np.random.default_rng(2).integers(0, 256, 200, np.uint8))
    yield kind, "lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def main():
    shutil.rmtree(CORPUS, ignore_errors=True)
    # Damaged metadata is what the corpus is about.
    warnings.simplefilter("ignore")
    for make in (jpegs, pngs, webps, gifs, bmps, tiffs, named, not_images):
        for kind, name, encoded in make():
            path = CORPUS / "inputs" / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists(), path
            path.write_bytes(encoded)
            try:
                with Image.open(BytesIO(encoded)) as image:
                    expected = pixels(image)
            except (OSError, SyntaxError, ValueError):
                continue
            output = CORPUS / "outputs" / kind / f"{name}.png"
            output.parent.mkdir(parents=True, exist_ok=True)
            expected.save(output, optimize=True)


if __name__ == "__main__":
    main()

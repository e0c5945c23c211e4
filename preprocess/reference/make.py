"""Writes the reference images, and Pillow's results for them: python make.py (needs Pillow and numpy).

inputs/NAME is an encoded image. outputs/NAME.webp (lossless) is the result of torchvision's ResNet preprocessing before
normalisation, 224x224 pixels. The photographs in ../../photos have outputs only.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
PHOTOS = HERE.parent.parent / "photos"
ORIENTATION = 0x112


def prepare(image):
    """Resizes the shorter side to 256 (the longer side is truncated to an integer) and crops the centre 224x224, as
    torchvision does."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # convert() clips 16-bit samples at 255, so the image would be white. Take the high byte, as Pillow does for RGB.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    width, height = int(256 * width / shorter), int(256 * height / shorter)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    return image.crop((left, top, left + 224, top + 224))


def scene(width, height):
    """Gradients, edges and a disc, different in each channel. The eight orientations of the image all differ."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    red = 255 * x
    green = 127 + 120 * np.sin(9 * y + 4 * x)
    blue = np.where((x - 0.3) ** 2 + (y - 0.25) ** 2 < 0.04, 230, 40 + 150 * y)
    rgb = np.stack([red, green, blue], axis=-1)
    rgb[(x > 0.6) & (x < 0.7)] = (250, 240, 20)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def encode(image, format, **options):
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def orientation(number):
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif


def cmyk(rgb):
    """Converts to CMYK with values in the black channel, which convert() leaves at 0."""
    channels = np.array(rgb.convert("CMYK"))
    channels[..., 3] = np.linspace(0, 200, channels.shape[1])
    return Image.fromarray(channels, "CMYK")


def ycck(rgb):
    """Encodes a YCCK JPEG, which Pillow cannot write: the channels are written as CMYK (which is stored inverted), then
    the colour transform in the Adobe segment is set to YCCK."""
    channels = 255 - np.dstack([rgb.convert("YCbCr"), rgb.getchannel(0).point(lambda level: 255 - level // 2)])
    encoded = encode(Image.fromarray(channels, "CMYK"), "JPEG", quality=90)
    transform = encoded.index(b"Adobe") + 11
    assert encoded[transform] == 0
    return encoded[:transform] + b"\2" + encoded[transform + 1 :]


def png16(samples, color_type):
    """Encodes a PNG with 16-bit samples; Pillow cannot write 16-bit colour."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def inputs():
    wide, small = scene(301, 200), scene(120, 97)
    alpha = small.copy()
    alpha.putalpha(small.convert("L"))
    grey = small.convert("L")
    grey_alpha = grey.copy()
    grey_alpha.putalpha(255)
    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        yield f"jpeg-{name}.jpg", encode(wide, "JPEG", quality=90, subsampling=sampling)
    yield "jpeg-progressive.jpg", encode(wide, "JPEG", quality=85, progressive=True)
    yield "jpeg-restarts.jpg", encode(wide, "JPEG", quality=85, restart_marker_rows=1)
    yield "jpeg-grey.jpg", encode(grey, "JPEG", quality=90)
    yield "jpeg-grey-progressive.jpg", encode(grey, "JPEG", quality=90, progressive=True)
    yield "jpeg-rgb.jpg", encode(small, "JPEG", quality=90, keep_rgb=True)
    yield "jpeg-cmyk.jpg", encode(cmyk(small), "JPEG", quality=90)
    yield "jpeg-ycck.jpg", ycck(small)
    yield "jpeg-large.jpg", encode(scene(1111, 777), "JPEG", quality=60)
    for name, size in [("1x1", (1, 1)), ("7x5", (7, 5)), ("600x17", (600, 17)), ("17x600", (17, 600))]:
        yield f"jpeg-{name}.jpg", encode(scene(*size), "JPEG", quality=90)
    for number in range(1, 9):
        # At a width of 257 the crop's offset is 16.5: rounding it before rotation differs from rounding it after.
        options = {"quality": 75, "subsampling": 0, "exif": orientation(number)}
        yield f"jpeg-orientation-{number}.jpg", encode(scene(257, 256), "JPEG", **options)
    yield "png-rgb.png", encode(small, "PNG", optimize=True)
    yield "png-rgba.png", encode(alpha, "PNG", optimize=True)
    yield "png-rgb-transparent.png", encode(small, "PNG", optimize=True, transparency=(250, 240, 20))
    yield "png-grey.png", encode(grey, "PNG", optimize=True)
    yield "png-grey-alpha.png", encode(grey_alpha, "PNG", optimize=True)
    yield "png-1-bit.png", encode(small.convert("1"), "PNG")
    yield "png-palette.png", encode(small.quantize(200), "PNG")
    yield "png-palette-4-bit.png", encode(small.quantize(11), "PNG", bits=4)
    yield "png-palette-transparent.png", encode(small.quantize(50), "PNG", transparency=3)
    wide_samples = np.array(small).astype(np.uint16) * 256 + np.arange(120, dtype=np.uint16)[None, :, None]
    yield "png-16-bit-rgb.png", png16(wide_samples, 2)
    yield "png-16-bit-rgba.png", png16(np.dstack([wide_samples, wide_samples[..., :1]]), 6)
    yield "png-16-bit-grey.png", png16(wide_samples[..., 1], 0)
    yield "png-orientation-6.png", encode(small, "PNG", optimize=True, exif=orientation(6))
    yield "webp-lossy.webp", encode(wide, "WEBP", quality=85)
    yield "webp-lossless.webp", encode(small, "WEBP", lossless=True)
    yield "webp-alpha.webp", encode(alpha, "WEBP", lossless=True, exact=True)
    yield "webp-lossy-alpha.webp", encode(alpha, "WEBP", quality=85, exact=True)
    yield "webp-orientation-8.webp", encode(small, "WEBP", lossless=True, exif=orientation(8))


def main():
    for folder in ("inputs", "outputs"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).iterdir():
            old.unlink()
    for name, encoded in inputs():
        (HERE / "inputs" / name).write_bytes(encoded)
    for path in sorted([*(HERE / "inputs").iterdir(), *PHOTOS.glob("*.jpg")]):
        prepare(Image.open(path)).save(HERE / "outputs" / f"{path.name}.webp", lossless=True, quality=100, method=6)


if __name__ == "__main__":
    main()

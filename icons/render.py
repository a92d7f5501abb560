#!/usr/bin/env python3
"""Renders icons/inkling.svg into the sizes that the bundles need. Needs `rsvg-convert` (librsvg2-bin).

The .ico and .icns files hold PNG images, which every system that Inkling runs on reads, so a few lines of
packing replace an image library.
"""

import pathlib
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
PNG_SIZES = {"32x32.png": 32, "64x64.png": 64, "128x128.png": 128, "128x128@2x.png": 256, "icon.png": 512}
ICO_SIZES = (16, 24, 32, 48, 64, 256)
# Apple's four-letter names for PNG images of a size in pixels.
ICNS_TYPES = {b"icp4": 16, b"icp5": 32, b"ic07": 128, b"ic08": 256, b"ic09": 512}


def main() -> None:
    for name, size in PNG_SIZES.items():
        (HERE / name).write_bytes(png(size))
    (HERE / "icon.ico").write_bytes(ico())
    (HERE / "icon.icns").write_bytes(icns())


def png(size: int) -> bytes:
    command = ["rsvg-convert", "--width", str(size), "--height", str(size), str(HERE / "inkling.svg")]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def ico() -> bytes:
    images = [png(size) for size in ICO_SIZES]
    entries, offset = b"", 6 + 16 * len(images)
    for size, image in zip(ICO_SIZES, images):
        # A side of 256 is written as 0; one plane, 32 bits a pixel.
        entries += struct.pack("<BBBBHHII", size % 256, size % 256, 0, 0, 1, 32, len(image), offset)
        offset += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + entries + b"".join(images)


def icns() -> bytes:
    body = b""
    for kind, size in ICNS_TYPES.items():
        image = png(size)
        body += kind + struct.pack(">I", 8 + len(image)) + image
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


if __name__ == "__main__":
    main()

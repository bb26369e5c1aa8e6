#!/usr/bin/env python3
"""make_pictures.py -- picture files of every kind that shards contain, and what Pillow and OpenCLIP's transform make of them.

    python tests/parity/make_pictures.py      writes tests/parity/data/pictures.bin

Needs Pillow, numpy, open_clip_torch. The file, little-endian, for each picture: u8 length and name, u32 size and the file, u32
width and height, u64 FNV-1a of the pixels of Image.open(..).convert("RGB"), u64 of the 8-bit 224 x 224 square that the
validation transform makes of the opened file (planes), u64 of the one it makes of the picture converted to RGB first, and
three floats of the normalised result, from the middle.
"""
import io, os, struct
import numpy as np
from PIL import Image, ImageCms
import open_clip
from torchvision.transforms import Compose

SIDE = 224


def fnv(data):
    h = 0xCBF29CE484222325
    for c in data:
        h = (h ^ c) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def scene(w, h, channels, seed):
    """Smooth colours with edges and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    planes = [127 + 90 * np.sin(x / (7 + 3 * c) + c) * np.cos(y / (9 + 2 * c)) + 30 * ((x // 5 + y // 3) % 2) for c in range(channels)]
    noise = rng.integers(-6, 7, (h, w, channels))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def encode(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pictures():
    def rgb(w, h, seed=1):
        return Image.fromarray(scene(w, h, 3, seed))
    for w, h in ((1, 1), (2, 3), (224, 224), (223, 225), (31, 47), (448, 9), (5, 300), (224, 300), (301, 224)):
        yield "jpeg %dx%d" % (w, h), encode(rgb(w, h), "JPEG", quality=80)
    flat = Image.fromarray(np.broadcast_to(scene(4000, 1, 3, 2), (300, 4000, 3)).copy())
    yield "jpeg 4000x300", encode(flat, "JPEG", quality=40)
    small = rgb(60, 44)
    yield "jpeg 4:4:4", encode(small, "JPEG", quality=90, subsampling=0)
    yield "jpeg 4:2:2", encode(small, "JPEG", quality=90, subsampling=1)
    yield "jpeg progressive", encode(small, "JPEG", quality=85, progressive=True)
    yield "jpeg restart markers", encode(small, "JPEG", quality=85, restart_marker_blocks=2)
    yield "jpeg grey", encode(small.convert("L"), "JPEG")
    yield "jpeg CMYK", encode(Image.fromarray(scene(60, 44, 4, 3), "CMYK"), "JPEG", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg with an orientation, which is ignored", encode(small, "JPEG", exif=exif)
    yield "jpeg with a colour profile, which is ignored", encode(small, "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for w, h in ((1, 1), (40, 30)):
        yield "png RGB %dx%d" % (w, h), encode(rgb(w, h), "PNG")
    yield "png RGBA", encode(Image.fromarray(scene(40, 30, 4, 4), "RGBA"), "PNG")
    yield "png RGBA with clear parts", encode(Image.fromarray(np.where(scene(40, 30, 4, 4) > 120, 255, 0).astype(np.uint8), "RGBA"), "PNG")
    yield "png grey", encode(small.convert("L"), "PNG")
    yield "png grey and alpha", encode(Image.fromarray(scene(40, 30, 2, 5), "LA"), "PNG")
    yield "png palette", encode(small.quantize(37), "PNG")
    yield "png palette with a clear colour", encode(small.quantize(16), "PNG", transparency=3)
    yield "png palette of 2 bits", encode(small.quantize(4), "PNG", bits=2)
    yield "png 1 bit", encode(small.convert("1"), "PNG")
    yield "png RGB with a clear colour", encode(small, "PNG", transparency=(1, 2, 3))
    yield "png grey of 16 bits", encode(Image.fromarray(scene(40, 30, 1, 6)[..., 0].astype(np.uint16) * 2), "PNG")
    yield "webp", encode(small, "WEBP", quality=80)
    yield "webp lossless", encode(small, "WEBP", lossless=True)
    yield "webp RGBA", encode(Image.fromarray(scene(40, 30, 4, 7), "RGBA"), "WEBP", quality=80)
    yield "webp 1x1", encode(rgb(1, 1), "WEBP")


def main():
    transform = open_clip.image_transform(SIDE, is_train=False)
    before = Compose(transform.transforms[:3])                   # resize, crop, RGB
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "pictures.bin")
    out, count = bytearray(), 0

    def planes(image):
        return np.asarray(before(image)).transpose(2, 0, 1).tobytes()

    for name, data in pictures():
        def opened():
            return Image.open(io.BytesIO(data))
        whole = opened().convert("RGB")
        x = transform(opened()).numpy()
        out += struct.pack("<B", len(name)) + name.encode() + struct.pack("<I", len(data)) + data
        out += struct.pack("<II", *whole.size) + struct.pack("<QQQ", fnv(whole.tobytes()), fnv(planes(opened())), fnv(planes(whole)))
        out += struct.pack("<3f", *x[:, SIDE // 2, SIDE // 2].tolist())
        count += 1
    with open(path, "wb") as f:
        f.write(bytes(out))
    print("%s: %d pictures, %d bytes" % (path, count, len(out)))


if __name__ == "__main__":
    main()

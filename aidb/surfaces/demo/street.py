"""A small street video that is drawn here, from noon to night, so that the truth about every frame is known.

It looks the way a fixed camera would see it: two lanes, two pavements, shadows, noise, a dusk, lamps and headlights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aidb.surfaces.demo import sprites
from aidb.surfaces.demo.traffic import HEIGHT, LANES, WIDTH, Passer, light, passers, truth

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from PIL import Image

_DAY, _NIGHT = (1.0, 1.0, 1.0), (0.27, 0.31, 0.45)
_DUSK_TINT = (1.10, 0.92, 0.76)
_LAMP_POSTS = (38, 118, 198, 278)
_LAMP_LIGHT, _HEADLIGHT, _TAIL_LIGHT = (1.0, 0.80, 0.48), (1.0, 0.96, 0.84), (1.0, 0.12, 0.08)


@dataclass(frozen=True)
class Street:
    """A drawn video: its file, how many frames it has, how many a second, and what they show (see `traffic.truth`)."""

    path: Path
    frames: int
    fps: int
    truth: pa.Table

    def yellow_bus(self) -> list[int]:
        """The frames in which the whole of the yellow bus can be seen."""
        return [
            row["frame_id"]
            for row in self.truth.to_pylist()
            if (row["label"], row["color"]) == ("bus", "yellow") and row["xmin"] > 0 and row["xmax"] < WIDTH
        ]


def draw(path: str | Path, *, frames: int = 1800, fps: int = 10, seed: int = 7) -> Street:
    """Draw the street and write it as an H.264 video, 320 x 180 pixels; some seconds for three minutes of street.

    The same arguments give the same traffic and the same pictures. Needs ``aidb[video]``; raises
    `aidb.errors.OperationalError` if PyAV is not there or the file can't be written.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    everybody = passers(frames / fps, rng)
    path = Path(path)
    _encode(path, render(everybody, frames, fps, rng), fps)
    return Street(path, frames, fps, truth(everybody, frames, fps))


def render(everybody: list[Passer], frames: int, fps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The frames one by one, as RGB ``uint8 [180, 320, 3]``."""
    import numpy as np

    base, windows = _backdrop(rng)
    post, glow = _lamp_post(), _glow(windows)
    # Noise is drawn once and shifted about: cheap, and no eye or detector sees a pattern in it.
    grain = rng.normal(0, 1, (HEIGHT * 2, WIDTH * 2, 1)).astype(np.float32)
    beams = _spot(34, 9, _HEADLIGHT), _spot(8, 5, _HEADLIGHT), _spot(7, 5, _TAIL_LIGHT)
    by_lane = [[p for p in everybody if p.lane is lane] for lane in LANES]
    for frame in range(frames):
        now, day = frame / fps, light(frame / frames)
        picture = base.copy()
        shown: list[Passer] = []
        for lane, members in zip(LANES, by_lane, strict=True):
            if lane is LANES[-1]:
                for x in _LAMP_POSTS:
                    picture.paste(post, (x - post.width // 2, 160 - post.height), post)
            present = [p for p in members if p.shown(now)]
            shown += present
            for p in present:
                sprite = _sprite(p, now)
                picture.paste(sprite.image, sprite.corner(p.left(now), lane.ground), sprite.image)
        pixels = np.asarray(picture, np.float32) * _tint(day)
        if day < 0.75:
            dark = min(1.0, (0.75 - day) / 0.5)
            pixels += glow * dark * (0.5 * pixels + 50)
            for p in shown:
                if p.kind != "pedestrian":
                    _add_lights(pixels, p, now, dark, *beams)
        dy, dx = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        pixels += grain[dy : dy + HEIGHT, dx : dx + WIDTH] * (1.6 + 1.6 * (1 - day))
        yield np.clip(pixels, 0, 255).astype(np.uint8)


def _sprite(p: Passer, now: float) -> sprites.Sprite:
    flip = p.speed < 0
    if p.kind == "pedestrian":
        phase = int((now + p.look) * 1.7 * sprites.WALK_PHASES) % sprites.WALK_PHASES
        return sprites.pedestrian(p.color, p.height, phase, p.look, flip=flip)
    draw_one = sprites.bus if p.kind == "bus" else sprites.car
    return draw_one(p.color, p.width, p.height, flip=flip)


def _tint(day: float) -> np.ndarray:
    """What remains of each colour of daylight: white by day, warm at dusk, a dark blue at night."""
    import numpy as np

    dusk = 4 * day * (1 - day)
    mixed = np.array(_DAY) * day + np.array(_NIGHT) * (1 - day)
    return np.asarray(mixed * (1 + dusk * (np.array(_DUSK_TINT) - 1)), np.float32)


def _spot(rx: int, ry: int, color: tuple[float, float, float]) -> np.ndarray:
    """A soft oval of light, ``float32 [2 ry + 1, 2 rx + 1, 3]``, 1 in the middle at most."""
    import numpy as np

    y, x = np.mgrid[-ry : ry + 1, -rx : rx + 1].astype(np.float32)
    strength = np.clip(1 - np.hypot(x / rx, y / ry), 0, 1) ** 1.5
    return np.asarray(strength[..., None] * np.array(color, np.float32))


def _add(pixels: np.ndarray, spot: np.ndarray, x: float, y: float, strength: float) -> None:
    """Add a spot of light around a point, in place, as far as it lies in the picture."""
    ry, rx = spot.shape[0] // 2, spot.shape[1] // 2
    left, top = round(x) - rx, round(y) - ry
    x0, x1 = max(0, left), min(WIDTH, left + spot.shape[1])
    y0, y1 = max(0, top), min(HEIGHT, top + spot.shape[0])
    if x0 < x1 and y0 < y1:
        pixels[y0:y1, x0:x1] += strength * spot[y0 - top : y1 - top, x0 - left : x1 - left]


def _add_lights(
    pixels: np.ndarray, p: Passer, now: float, dark: float, beam: np.ndarray, lamp: np.ndarray, tail: np.ndarray
) -> None:
    left, ahead = p.left(now), 1 if p.speed > 0 else -1
    front, back = (left + p.width, left) if ahead > 0 else (left, left + p.width)
    height = p.lane.ground - 0.32 * p.height
    _add(pixels, beam, front + ahead * 24, p.lane.ground - 2, 75 * dark)
    _add(pixels, lamp, front, height, 130 * dark)
    _add(pixels, tail, back, height, 120 * dark)


def _backdrop(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """The empty street at noon: sky, houses, pavements and road; and the windows where light burns at night."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFilter

    scale = 4
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale))
    draw = ImageDraw.Draw(image)

    def box(x0: float, y0: float, x1: float, y1: float, color: tuple[int, int, int]) -> None:
        draw.rectangle([x0 * scale, y0 * scale, x1 * scale - 1, y1 * scale - 1], fill=color)

    for y in range(70):
        t = y / 70
        box(0, y, WIDTH, y + 1, (round(118 + 80 * t), round(172 + 44 * t), round(226 + 14 * t)))
    for x, y, r in ((60, 16, 9), (72, 13, 12), (86, 17, 8), (222, 24, 8), (234, 21, 10), (247, 25, 7)):
        draw.ellipse(
            [(x - 2 * r) * scale, (y - r / 2) * scale, (x + 2 * r) * scale, (y + r / 2) * scale], fill=(236, 242, 246)
        )
    image = image.filter(ImageFilter.GaussianBlur(2.5 * scale))
    draw = ImageDraw.Draw(image)
    walls = ((178, 126, 104), (202, 186, 158), (150, 152, 160), (190, 148, 110), (168, 112, 100), (208, 198, 180))
    windows = []
    x, k = -6, 0
    while x < WIDTH:
        width, top = int(rng.integers(38, 62)), int(rng.integers(26, 48))
        wall = walls[k % len(walls)]
        box(x, top, x + width, 90, wall)
        box(x, top - 2, x + width, top + 1, (92, 82, 80))
        for wy in range(top + 6, 70, 12):
            for wx in range(x + 5, x + width - 7, 10):
                box(wx, wy, wx + 5, wy + 7, (84, 100, 118) if rng.random() < 0.8 else (196, 206, 210))
                if rng.random() < 0.3:
                    windows.append((wx, wy, wx + 5, wy + 7))
        box(x + 5, 76, x + width - 5, 90, (74, 86, 98))
        awning = ((176, 60, 54), (56, 98, 84), (68, 84, 134))[k % 3]
        box(x + 3, 73, x + width - 3, 77, awning)
        x, k = x + width, k + 1
    box(0, 90, WIDTH, 104, (168, 164, 158))
    box(0, 103, WIDTH, 105, (126, 124, 122))
    box(0, 105, WIDTH, 158, (96, 97, 100))
    box(0, 158, WIDTH, 160, (128, 126, 124))
    box(0, 160, WIDTH, HEIGHT, (160, 156, 150))
    for x in range(-10, WIDTH, 32):
        box(x, 127, x + 17, 129, (214, 212, 204))
    for x in range(-20, WIDTH, 24):
        box(x, 160, x + 0.5, HEIGHT, (146, 142, 138))
    pixels = np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), np.float32)
    rough = rng.normal(0, 2.2, (HEIGHT, WIDTH, 1)).astype(np.float32)
    rough[:90] *= 0.4
    return Image.fromarray(np.clip(pixels + rough, 0, 255).astype(np.uint8)), windows


def _lamp_post() -> Image.Image:
    """A lamp on its post, with alpha; it stands on the kerb in front of the road."""
    from PIL import Image, ImageDraw

    scale, width, height = 8, 20, 92
    image = Image.new("RGBA", (width * scale, height * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    metal, middle = (58, 62, 66, 255), width * scale // 2
    draw.rectangle([middle - 0.8 * scale, 5 * scale, middle + 0.8 * scale, height * scale], fill=metal)
    draw.rectangle([middle - 2 * scale, (height - 5) * scale, middle + 2 * scale, height * scale], fill=metal)
    draw.rounded_rectangle([2 * scale, 3 * scale, (width - 2) * scale, 5.5 * scale], scale, fill=metal)
    for x in (2, width - 7):
        draw.rounded_rectangle([x * scale, 5 * scale, (x + 5) * scale, 7.5 * scale], scale, fill=(250, 244, 222, 255))
    return image.resize((width, height), Image.Resampling.BOX)


def _glow(windows: list[tuple[int, int, int, int]]) -> np.ndarray:
    """What shines at night, ``float32 [180, 320, 3]``: windows, a halo around each lamp, a pool of light below it."""
    import numpy as np

    glow = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for x0, y0, x1, y1 in windows:
        glow[y0:y1, max(0, x0) : max(0, x1)] = np.array(_LAMP_LIGHT, np.float32) * 1.6
    halo, pool = _spot(26, 26, _LAMP_LIGHT), _spot(70, 44, _LAMP_LIGHT)
    for x in _LAMP_POSTS:
        _add(glow, halo, x - 6, 74, 1.0)
        _add(glow, halo, x + 6, 74, 1.0)
        _add(glow, pool, x, 140, 1.0)
    return glow


def _encode(path: Path, frames: Iterator[np.ndarray], fps: int) -> None:
    from aidb.errors import OperationalError

    try:
        import av
    except ImportError as missing:
        raise OperationalError("drawing a video needs PyAV: pip install 'aidb[video]'") from missing
    try:
        with av.open(str(path), "w") as container:
            # One thread and a keyframe every two seconds: the same bytes each time, and quick to jump about in.
            stream = container.add_stream(
                "libx264", rate=fps, options={"crf": "23", "preset": "veryfast", "threads": "1"}
            )
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 2 * fps
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    except (OSError, av.FFmpegError) as broken:
        raise OperationalError(f"can't write the video {path}: {broken}") from broken

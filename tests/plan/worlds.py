"""Data for tests: a small adversarial world, full of NULLs, parents without rows, and shared column names."""

from __future__ import annotations

from random import Random

from tests.plan.harness import Spec

VIEWS = {
    "vbox": "SELECT b.*, f.cam FROM box b JOIN frames f ON b.frame_id = f.frame_id WHERE x > 0",
    "vagg": "SELECT frame_id, count(*) AS n FROM box GROUP BY frame_id",
    "vu": "SELECT frame_id, x FROM box UNION ALL SELECT frame_id, mood FROM mood",
    "vrev": "SELECT * FROM reviews WHERE stars > 0",
}

COLUMNS = {
    "frames": ["frame_id", "cam", "ts", "dark"],
    "Docs": ["doc_id", "cam", "n"],
    "reviews": ["rid", "body", "stars", "tone", "lang", "echo"],
    "box": ["frame_id", "box_id", "x", "cls", "hue"],
    "color": ["frame_id", "box_id", "color", "x"],
    "shade": ["frame_id", "box_id", "shade"],
    "mood": ["frame_id", "mood", "n"],
    "Tag": ["doc_id", "Tag_id", "cls", "n"],
    "match": ["frame_id", "doc_id", "score"],
    "near": ["frame_id", "box_id", "near_id", "n"],
    "seen": ["frame_id", "doc_id", "who"],
    "fit": ["frame_id", "box_id", "z"],
    "vbox": ["frame_id", "box_id", "x", "cls", "hue", "cam"],
    "vagg": ["frame_id", "n"],
    "vu": ["frame_id", "x"],
    "vrev": ["rid", "body", "stars", "tone", "lang", "echo"],
}


def street(rng: Random, frames: tuple[int, int] = (2, 8), docs: tuple[int, int] = (0, 5)) -> Spec:
    """Frames with boxes, colours and shades in a chain; documents; pairs of both; virtual columns on three kinds."""

    def value() -> int | None:
        return rng.choice([None, 0, 1, 2, 3, 4])

    spec = Spec(views=dict(VIEWS))
    frame = [(i, value(), rng.randint(0, 5)) for i in range(rng.randint(*frames))]
    doc = [(i, value(), value()) for i in range(rng.randint(*docs))]
    review = [(i, value(), value()) for i in range(rng.randint(0, 7))]
    spec.store("frames", "frame_id cam ts", frame)
    spec.store("Docs", "doc_id cam n", doc)
    spec.store("reviews", "rid body stars", review)
    box = [(f[0], j, value(), value()) for f in frame for j in range(rng.choice([0, 0, 1, 2, 3]))]
    color = [(b[0], b[1], value(), value()) for b in box if rng.random() < 0.95]
    mood = [(f[0], value(), value()) for f in frame if rng.random() < 0.95]
    spec.table("box", "frames", "frame_id", "x cls", box, many=True)
    spec.table("color", "box", "frame_id box_id", "color x", color)
    spec.table("shade", "color", "frame_id box_id", "shade", [(c[0], c[1], value()) for c in color])
    spec.table("mood", "frames", "frame_id", "mood n", mood)
    tag = [(d[0], j, value(), value()) for d in doc for j in range(rng.choice([0, 1, 2]))]
    spec.table("Tag", "docs", "doc_id", "cls n", tag, many=True)
    pairs = [(f[0], d[0], value()) for f in frame for d in doc if rng.random() < 0.8]
    spec.table("match", "frames Docs", "frame_id doc_id", "score", pairs)
    spec.table("seen", "match", "frame_id doc_id", "who", [(p[0], p[1], value()) for p in pairs if rng.random() < 0.8])
    near = [
        (b[0], b[1], j, value()) for b in box for m in mood if m[0] == b[0] for j in range(rng.choice([0, 1, 1, 2]))
    ]
    spec.table("near", "box mood", "frame_id box_id", "n", near, many=True)
    fit = [(c[0], c[1], value()) for c in color if rng.random() < 0.8]
    spec.table("fit", "box color", "frame_id box_id", "z", fit)
    spec.extend("frames", "dark", "frame_id", [(f[0], value()) for f in frame if rng.random() < 0.9])
    spec.extend("box", "hue", "frame_id box_id", [(b[0], b[1], value()) for b in box if rng.random() < 0.9])
    bodies = sorted({r[1] for r in review}, key=repr)
    spec.extend("reviews", "tone lang", "body", [(b, value(), value()) for b in bodies], null_safe=True)
    values = [None, 0, 1, 2, 3, 4]
    spec.extend("reviews", "echo", "tone", [(v, value()) for v in values], null_safe=True)
    return spec

"""Cut, garbled and empty videos: what can be decoded is, the rest fails item by item, nothing raises or hangs."""

from __future__ import annotations

import numpy as np
import pytest
from aidb_connectors import web
from aidb_connectors.video import Video

from aidb.spi import ItemFailure, Ref

av = pytest.importorskip("av")


def results_of(path, rows):
    items = rows(Video(), path)
    results = list(Video().read([Ref(**r["image"]) for r in items]))
    assert len(results) == len(items) >= 1
    assert all(isinstance(r, ItemFailure | np.ndarray) for r in results)
    return items, results


@pytest.mark.parametrize("data", [b"", b"no video at all, this", b"\0" * 5000, b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"])
def test_what_is_no_video_is_one_failing_item(tmp_path, make_clip, rows, data):
    (tmp_path / "bad.mp4").write_bytes(data)
    make_clip(tmp_path / "good.mp4", frames=5)
    _, results = results_of(tmp_path, rows)
    assert [isinstance(r, ItemFailure) for r in results] == [True, *[False] * 5]
    assert ("empty" if not data else "not a video") in results[0].message


def test_a_promise_that_the_file_does_not_keep_fails_frame_by_frame(tmp_path, make_clip, rows):
    """An mp4 with its index in front and its end cut off: the index names frames that are not there."""
    path = make_clip(tmp_path / "a.mp4", frames=60, movflags="faststart")
    whole = rows(Video(), path)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) * 7 // 10])
    items, results = results_of(path, rows)
    assert len(items) == 60
    assert [r["ts"] for r in items] == pytest.approx([r["ts"] for r in whole])
    good = [isinstance(r, np.ndarray) for r in results]
    assert 20 < sum(good) < 58
    assert "cut short" in results[-1].message


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.ts", "libx264", {}),
        ("a.mkv", "libx264", {}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.mpg", "mpeg2video", {"rate": 25}),
        ("a.gif", "gif", {"pixels": "rgb8"}),
        ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    ],
)
def test_cut_anywhere(tmp_path, make_clip, rows, name, codec, options):
    path = make_clip(tmp_path / name, codec, 20, size=(32, 32), **options)
    data = path.read_bytes()
    most = 0
    for part in range(1, 10):
        path.write_bytes(data[: len(data) * part // 10])
        _, results = results_of(path, rows)
        most = max(most, sum(isinstance(r, np.ndarray) for r in results))
    assert most >= 10


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libvpx-vp9", {"cpu-used": "8"}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.ts", "mpeg2video", {"rate": 25}),
    ],
)
@pytest.mark.timeout(60)
def test_random_damage_never_raises(tmp_path, make_clip, rows, name, codec, options):
    path = make_clip(tmp_path / name, codec, 12, size=(32, 32), gop=4, **options)
    data = path.read_bytes()
    rng = np.random.default_rng(11)
    good = 0
    for i in range(50):
        hurt = bytearray(data)
        if i % 4 == 0:
            del hurt[int(rng.integers(len(hurt))) :]
        else:
            for at in rng.integers(len(hurt), size=int(rng.integers(1, 12))):
                hurt[at] ^= int(rng.integers(1, 256))
        path.write_bytes(hurt)
        items, results = results_of(path, rows)
        assert len(items) < 1000
        good += sum(isinstance(r, np.ndarray) for r in results)
    assert good > 100


def test_references_that_no_frame_answers(tmp_path, make_clip, refs):
    path = make_clip(tmp_path / "a.mp4", frames=10)
    wanted = refs(Video(), path)
    odd = [Ref(str(path), pos, "image", "video") for pos in (-5, 1, wanted[4].pos + 1, 10**15, -(10**15))]
    results = list(
        Video().read([odd[0], wanted[0], odd[1], wanted[4], odd[2], wanted[5], odd[3], wanted[9], odd[4], wanted[2]])
    )
    assert [isinstance(r, ItemFailure) for r in results] == [True, False] * 5


def test_a_file_that_vanished(tmp_path, make_clip, refs):
    a, b = make_clip(tmp_path / "a.mp4", frames=6), make_clip(tmp_path / "b.mp4", frames=6)
    wanted = refs(Video(), tmp_path)
    a.unlink()
    results = list(Video().read(wanted))
    assert [isinstance(r, ItemFailure) for r in results] == [True] * 6 + [False] * 6
    assert "No such file" in results[5].message
    assert b.exists()


def test_a_server_that_breaks_off_while_listing_leaves_no_half_video(tmp_path, make_clip, serve, rows, monkeypatch):
    make_clip(tmp_path / "a.mkv", "ffv1", 20, size=(320, 240), noise=True)
    server = serve()
    request = web._request

    def breaks(method, url, headers=None, **kw):
        if headers and headers.get("Range", "").startswith("bytes=1048576"):
            raise OSError("the connection was lost")
        return request(method, url, headers, **kw)

    assert (tmp_path / "a.mkv").stat().st_size > 1 << 20
    monkeypatch.setattr(web, "_request", breaks)
    (row,) = rows(Video(), f"{server.url}/a.mkv")
    assert row["image"]["pos"] is None
    (result,) = Video().read([Ref(**row["image"])])
    assert "connection was lost" in result.message

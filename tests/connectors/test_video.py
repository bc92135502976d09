"""Videos: every frame is listed at its time, sampled as asked, and decoded exactly, in whatever order it is wanted."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from aidb_connectors.video import Sampling, Video, parse_time
from aidb_connectors.video_decoder import Decoder, DecoderPool
from aidb_connectors.video_index import VideoIndex, index_video
from PIL import Image

from aidb.errors import OperationalError, ProgrammingError, UnknownName
from aidb.spi import ItemFailure, Options, Ref, Scan

av = pytest.importorskip("av")

KINDS = {
    "mp4": ("a.mp4", "libx264", {}),
    "mov": ("a.mov", "libx264", {"bf": "4"}),
    "m4v": ("a.m4v", "mpeg4", {"format": "mp4", "bf": "2"}),
    "mkv": ("a.mkv", "libx264", {}),
    "lossless": ("l.mkv", "ffv1", {}),
    "webm": ("a.webm", "libvpx-vp9", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp8": ("8.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}),
    "avi": ("a.avi", "mpeg4", {"bf": "2"}),
    "avi h264": ("h.avi", "libx264", {}),  # whose container has no place for the true times
    "ts": ("a.ts", "libx264", {}),
    "mpg": ("a.mpg", "mpeg2video", {"rate": 25, "bf": "2"}),
    "gif": ("a.gif", "gif", {"pixels": "rgb8"}),
    "open gop": ("o.mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3:scenecut=0"}),
    "vfr": ("v.mp4", "libx264", {"times": [i * 100 + 30 * (i % 3) for i in range(40)]}),
}


def in_order(path: Path) -> list[np.ndarray]:
    """All frames as a plain loop over the file decodes them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture
def clip(tmp_path, make_clip, request):
    name, codec, options = KINDS[request.param]
    return make_clip(tmp_path / name, codec, 40, **options)


every_kind = pytest.mark.parametrize("clip", KINDS, indirect=True)


@every_kind
def test_every_frame_is_listed_and_exact_in_any_order(clip, rows):
    connector = Video()
    items = rows(connector, clip)
    expected = in_order(clip)
    assert [r["frame"] for r in items] == list(range(40)) == list(range(len(expected)))
    assert all(a["pts"] < b["pts"] and a["ts"] < b["ts"] for a, b in pairwise(items))
    assert {(r["width"], r["height"]) for r in items} == {(64, 48)}
    refs = [Ref(**r["image"]) for r in items]
    for got, want in zip(connector.read(refs), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    order = np.random.default_rng(0).permutation(40)
    for i, got in zip(order, connector.read([refs[i] for i in order]), strict=True):
        np.testing.assert_array_equal(got, expected[i])
    for step in (3, 11):
        for i, got in zip(range(1, 40, step), connector.read(refs[1::step]), strict=True):
            np.testing.assert_array_equal(got, expected[i])
    (last,) = Video().read([refs[-1]])
    np.testing.assert_array_equal(last, expected[-1])
    connector.close()


def test_times_are_seconds_from_the_start(tmp_path, make_clip, rows):
    times = [i * 100 + 30 * (i % 3) for i in range(12)]
    items = rows(Video(), make_clip(tmp_path / "v.mp4", frames=12, times=times))
    np.testing.assert_allclose([r["ts"] for r in items], np.array(times) / 1000, atol=1e-3)
    shifted = rows(Video(), make_clip(tmp_path / "a.ts", frames=12))  # whose timestamps begin at 1.4 s or so
    assert shifted[0]["pts"] > 0
    np.testing.assert_allclose([r["ts"] for r in shifted], np.arange(12) / 10, atol=1e-4)


def test_streams_without_times_are_counted(tmp_path, make_clip, rows):
    with av.open(str(make_clip(tmp_path / "a.ts", frames=12))) as source:
        raw = b"".join(bytes(packet) for packet in source.demux(video=0))
    path = tmp_path / "raw.h264"
    path.write_bytes(raw)
    items = rows(Video(), path)
    assert [r["pts"] for r in items] == list(range(12))
    refs = [Ref(**r["image"]) for r in items]
    assert refs[0].uri == f"frames=counted::{path}"
    assert items[0]["file"] == str(path)
    for got, want in zip(Video().read(refs[::-1]), in_order(path)[::-1], strict=True):
        np.testing.assert_array_equal(got, want)


def test_files_joined_end_to_end_are_counted(tmp_path, make_clip, rows):
    part = make_clip(tmp_path / "a.ts", frames=12).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(part + part)
    items = rows(Video(), path)
    assert [r["frame"] for r in items] == list(range(24))
    results = list(Video().read([Ref(**r["image"]) for r in items]))
    assert sum(isinstance(r, np.ndarray) for r in results) == 24


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied(tmp_path, make_clip, turn_clip, rows, degrees):
    path = make_clip(tmp_path / "r.mp4", frames=3)
    turn_clip(path, degrees)
    items = rows(Video(), path)
    (frame,) = Video().read([Ref(**items[1]["image"])])
    assert frame.shape == ((48, 64, 3) if degrees in (0, 180) else (64, 48, 3))
    assert (items[0]["height"], items[0]["width"]) == frame.shape[:2]
    assert frame.flags.c_contiguous
    corner = {0: (2, 2), 90: (2, -3), 180: (-3, -3), 270: (-3, 2)}[degrees]  # the red one, turned clockwise
    assert frame[corner][0] > 200
    assert frame[corner][1] < 60


def test_the_best_stream_is_taken_and_sound_is_not_video(tmp_path, make_clip):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for width in (32, 64):
            stream = out.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, 32, "yuv420p"
            streams.append(stream)
        beside = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for i in range(5):
            for stream in streams:
                rgb = np.full((32, stream.width, 3), i, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        for stream in streams:
            out.mux(stream.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        out.mux(beside.encode(frame))
    index = index_video(str(path))
    assert (index.width, len(index.pts)) == (64, 5)
    results = list(Video().read([Ref(str(path), int(pts), "image", "video") for pts in index.pts]))
    assert [r.shape for r in results] == [(32, 64, 3)] * 5


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac" if path.suffix == ".mp4" else "flac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_a_file_without_video_is_one_failing_item(tmp_path, rows):
    (row,) = rows(Video(), sound(tmp_path / "s.mp4"))
    assert (row["frame"], row["pts"], row["ts"], row["image"]["pos"]) == (0, 0, None, None)
    (result,) = Video().read([Ref(**row["image"])])
    assert isinstance(result, ItemFailure)
    assert "no video stream" in result.message


# Sampling


def index(seconds) -> VideoIndex:
    seconds = np.asarray(seconds, float)
    return VideoIndex(np.arange(len(seconds)), seconds, 1, 1, False)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), range(20)),
        (Sampling(fps=10), range(20)),
        (Sampling(fps=1000), range(20)),
        (Sampling(fps=1e12), range(20)),
        (Sampling(fps=5), range(0, 20, 2)),
        (Sampling(fps=1), [0, 10]),
        (Sampling(fps=0.1), [0]),
        (Sampling(fps=4), [0, 2, 5, 7, 10, 12, 15, 17]),
        (Sampling(fps=3), [0, 3, 7, 10, 13, 17]),
        (Sampling(every=1), range(20)),
        (Sampling(every=7), [0, 7, 14]),
        (Sampling(start=0.5), range(5, 20)),
        (Sampling(end=0.5), range(5)),
        (Sampling(fps=5, start=0.5, end=1.2), [6, 8, 10]),
        (Sampling(every=6, start=1), [12, 18]),
        (Sampling(start=99), []),
    ],
)
def test_sampling_a_steady_video(sampling, expected):
    assert sampling.choose(index(np.arange(20) / 10)).tolist() == list(expected)


def test_sampling_uneven_videos():
    assert Sampling(fps=1).choose(index([0, 0.1, 0.2, 2.9, 3.0, 3.1])).tolist() == [0, 2, 3, 4]
    assert Sampling(fps=5).choose(index([0])).tolist() == [0]
    assert Sampling(fps=0.5).choose(index([0, 30])).tolist() == [0, 1]
    third = Sampling(fps=30000 / 1001 / 3).choose(index(np.arange(300) * 1001 / 30000)).tolist()
    assert third == list(range(0, 300, 3))


def test_sampling_options_end_to_end(tmp_path, make_clip, rows):
    path = make_clip(tmp_path / "a.mp4")
    for options, expected in (
        ({"fps": 5}, range(0, 30, 2)),
        ({"FPS": "10/4"}, range(0, 30, 4)),
        ({"every": "10"}, [0, 10, 20]),
        ({"start": "0:01", "end": "00:00:01.5"}, range(10, 15)),
    ):
        assert [r["frame"] for r in rows(Video(), path, **options)] == list(expected), options
    assert rows(Video(), path, start=100) == []


def test_times_of_options():
    assert [parse_time(t) for t in (5, 1.5, "90", "1:30", "01:00:00.5")] == [5, 1.5, 90, 90, 3600.5]
    for bad in ("1:2:3:4", "x", "-1", "1:99", "", True, "nan", "inf"):
        with pytest.raises(ValueError, match=r"\w"):
            parse_time(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0},
        {"fps": -1},
        {"fps": "x"},
        {"fps": "1/0"},
        {"fps": True},
        {"fps": "nan"},
        {"every": 0},
        {"every": 1.5},
        {"start": "a:b"},
        {"end": -1},
        {"fps": 1, "every": 2},
        {"end": 1, "start": 2},
    ],
)
def test_wrong_options_are_named(options):
    with pytest.raises(ProgrammingError, match=f"option.*{next(iter(options))}"):
        Video().schema(Scan("a.mp4", Options(options)))
    with pytest.raises(UnknownName, match="did you mean fps"):
        Video().items(Scan("a.mp4", Options({"fp": 1})))


# Decoding in one sweep


def test_a_sweep_decodes_each_frame_once_however_it_is_cut_into_calls(tmp_path, make_clip, refs, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", frames=60, gop=20)
    connector = Video()
    wanted = refs(connector, path)
    came_out, seeks = [], []
    shown, seek = Decoder._shown, Decoder._seek

    def watch(self, packet):
        for position, frame in shown(self, packet):
            came_out.append(position)
            yield position, frame

    monkeypatch.setattr(Decoder, "_shown", watch)
    monkeypatch.setattr(Decoder, "_seek", lambda self, position: (seeks.append(position), seek(self, position)))
    for begin in range(0, 60, 7):
        assert all(isinstance(r, np.ndarray) for r in connector.read(wanted[begin : begin + 7]))
    assert came_out == [ref.pos for ref in wanted]
    assert seeks == []


def test_a_wide_gap_is_jumped_and_a_small_one_is_not(tmp_path, make_clip, refs, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", frames=120, gop=30)
    wanted = refs(Video(), path)
    seeks = []
    seek = Decoder._seek
    monkeypatch.setattr(Decoder, "_seek", lambda self, position: (seeks.append(position), seek(self, position)))
    assert all(isinstance(r, np.ndarray) for r in Video().read([wanted[i] for i in (0, 9, 25, 35)]))
    assert seeks == []
    assert all(isinstance(r, np.ndarray) for r in Video().read([wanted[i] for i in (0, 100)]))
    assert seeks == [wanted[100].pos]


def test_one_keyframe_in_all_does_not_make_reading_start_over_each_time(tmp_path, make_clip, refs, monkeypatch):
    path = make_clip(tmp_path / "a.mkv", frames=1600, gop=100_000, size=(16, 16), preset="ultrafast", sc_threshold="0")
    wanted = refs(Video(), path)[::300]
    seeks = []
    seek = Decoder._seek
    monkeypatch.setattr(Decoder, "_seek", lambda self, position: (seeks.append(position), seek(self, position)))
    assert all(isinstance(r, np.ndarray) for r in Video().read(wanted))
    assert len(seeks) <= 2


def test_a_replaced_file_is_opened_anew(tmp_path, make_clip, refs):
    connector, path = Video(), tmp_path / "a.mp4"
    make_clip(path, frames=10)
    before = list(connector.read(refs(connector, path)[:5]))
    make_clip(tmp_path / "b.mp4", frames=10, size=(32, 32)).replace(path)
    after = list(connector.read(refs(connector, path)[5:]))
    assert before[0].shape == (48, 64, 3)
    assert after[0].shape == (32, 32, 3)


def test_few_files_stay_open(tmp_path, make_clip):
    path = make_clip(tmp_path / "a.mp4")
    pool = DecoderPool(idle=2)
    start = index_video(str(path)).pts
    lent = []
    for i in range(4):
        with pool.lend(str(path), False, 0) as decoder:
            lent.append(decoder)
            decoder.frame(int(start[10 - i]))  # each stands beyond what the next one wants
    assert lent[3] is not lent[2]
    with pool.lend(str(path), False, int(start[29])) as again:
        assert again is lent[2]
        again.frame(int(start[29]))
        with pytest.raises(ValueError, match="ends before"):
            again.frame(10**9)
    assert again not in [d for _, d in pool._idle]  # at its end, so it was closed
    pool.close()
    assert pool._idle == []


def test_many_threads_read_one_file(tmp_path, make_clip, refs):
    path = make_clip(tmp_path / "a.mp4", frames=60, gop=15)
    connector = Video()
    wanted, expected = refs(connector, path), in_order(path)

    def sweep(offset: int) -> bool:
        chosen = range(offset, 60, 3)
        got = [
            item for i in range(0, len(chosen), 4) for item in connector.read([wanted[j] for j in chosen[i : i + 4]])
        ]
        return all(np.array_equal(g, expected[j]) for g, j in zip(got, chosen, strict=True))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(sweep, range(8)))


# Where files lie, what they are called


@pytest.mark.parametrize("ranges", [True, False])
def test_over_the_web(tmp_path, make_clip, serve, refs, ranges):
    path = make_clip(tmp_path / "big.mp4", "mpeg4", 60, size=(320, 240), noise=True, qmin="2", qmax="2")
    assert path.stat().st_size > 2 << 20  # more than one request's worth
    server = serve(ranges=ranges)
    wanted = refs(Video(), f"{server.url}/big.mp4")
    expected = in_order(path)
    for got, i in zip(Video().read([wanted[i] for i in (0, 30, 59, 5)]), (0, 30, 59, 5), strict=True):
        np.testing.assert_array_equal(got, expected[i])
    path.unlink()
    (gone,) = Video().read(wanted[:1])
    assert isinstance(gone, ItemFailure)
    assert "404" in gone.message


def test_names_that_look_like_patterns(tmp_path, make_clip, refs):
    plain = make_clip(tmp_path / "plain.gif", "gif", 6, pixels="rgb8")
    for name in ("x%03d.gif", "a*.gif", "[1].gif", "what?.gif", "a b#c'.gif"):
        path = tmp_path / name
        path.write_bytes(plain.read_bytes())
        results = list(Video().read(refs(Video(), path)))
        assert len(results) == 6
        assert all(isinstance(r, np.ndarray) for r in results), name


def test_a_playlist_may_not_open_other_files(tmp_path, make_clip, rows):
    make_clip(tmp_path / "secret.ts", frames=5)
    for name in ("list.mp4", "li%st.mp4"):
        (tmp_path / name).write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
        )
        (row,) = rows(Video(), tmp_path / name)
        (result,) = Video().read([Ref(**row["image"])])
        assert isinstance(result, ItemFailure)


def test_encoded_frames_are_exact_pngs(tmp_path, make_clip, refs):
    path = make_clip(tmp_path / "a.mp4", frames=5)
    (data,) = Video().read(refs(Video(), path)[3:4], encoded=True)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), in_order(path)[3])


def test_short_clips_share_batches(tmp_path, make_clip):
    data = make_clip(tmp_path / "0.gif", "gif", 20, size=(16, 16), pixels="rgb8").read_bytes()
    for i in range(1, 20):
        (tmp_path / f"{i}.gif").write_bytes(data)
    batches = list(Video().items(Scan(f"{tmp_path}/*.gif")))
    assert [b.num_rows for b in batches] == [400]
    assert batches[0]["file"].to_pylist()[::20] == [str(tmp_path / f"{i}.gif") for i in range(20)]
    assert len(set(batches[0]["content_id"].to_pylist())) == 20


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(OperationalError, match=r"pip install 'aidb\[video\]'"):
        Video().items(Scan(str(tmp_path)))


# Real footage


@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [
        ("one-by-one-person-detection.mp4", 1394, (768, 432)),
        ("bottle-detection.mp4", 1189, (640, 360)),
        ("person-bicycle-car-detection.gif", 41, (480, 270)),
    ],
)
def test_real_footage_is_the_same_from_everywhere(media, rows, name, frames, size):
    items = rows(Video(), media / name)
    assert len(items) == frames
    assert {(r["width"], r["height"]) for r in items} == {size}
    chosen = [0, 1, *np.random.default_rng(5).choice(min(frames, 400), 9, replace=False).tolist(), min(frames, 400) - 1]
    expected = {}
    with av.open(str(media / name)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i in chosen:
                expected[i] = frame.to_ndarray(format="rgb24")
            if i >= 400:
                break
    for order in (chosen, sorted(set(chosen))):
        got = Video().read([Ref(**items[i]["image"]) for i in order])
        for i, frame in zip(order, got, strict=True):
            np.testing.assert_array_equal(frame, expected[i])

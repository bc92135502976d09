"""Which files a source names: paths, folders, patterns, odd names, links, stores, and what an empty answer says."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from itertools import islice
from pathlib import Path

import fsspec
import pytest
from aidb_connectors.files import count_claimed, list_files
from aidb_connectors.globs import natural_key, split_pattern
from aidb_connectors.images import Images
from aidb_connectors.storage import File, read_bytes, split_hints, with_hints
from aidb_connectors.text import Text
from aidb_connectors.video import Video

from aidb.errors import SourceError
from aidb.spi import Options, Scan

KINDS = frozenset({".jpg", ".png"})


def names(source: object, folder: Path, extensions: frozenset[str] = KINDS) -> list[str]:
    return [os.path.relpath(f.uri, folder) for f in list_files(str(source), extensions, "images")]


def fill(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


def complaint(source: object) -> str:
    with pytest.raises(SourceError) as e:
        list_files(str(source), KINDS, "images")
    return str(e.value)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return fill(
        tmp_path,
        "a/img10.jpg",
        "a/img2.JPG",
        "a/note.txt",
        "a/.hidden.jpg",
        "a/b/deep.png",
        "a/.git/x.jpg",
        "c/img1.png",
    )


def test_a_folder_lists_its_own_files_in_natural_order(tree):
    assert names(tree / "a", tree) == ["a/img2.JPG", "a/img10.jpg"]
    assert names(f"{tree}/a/", tree) == ["a/img2.JPG", "a/img10.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**", ["a/b/deep.png", "a/img2.JPG", "a/img10.jpg", "c/img1.png"]),
        ("**/*", ["a/b/deep.png", "a/img2.JPG", "a/img10.jpg", "c/img1.png"]),
        ("**/**/*.png", ["a/b/deep.png", "c/img1.png"]),
        ("*/*", ["a/img2.JPG", "a/img10.jpg", "c/img1.png"]),
        ("a/**/*.png", ["a/b/deep.png"]),
        ("a/**/b/*", ["a/b/deep.png"]),
        ("?/img[0-9].*", ["a/img2.JPG", "c/img1.png"]),
        ("?/img[!2].*", ["c/img1.png"]),
        ("*/.hidden*", ["a/.hidden.jpg"]),
        ("a/.git/*", ["a/.git/x.jpg"]),
        ("a/*.txt", ["a/note.txt"]),  # an extension that is spelled out is meant
    ],
)
def test_patterns(tree, pattern, expected):
    assert names(tree / pattern, tree) == expected


def test_a_file_named_outright_is_listed_whatever_it_is_called(tree):
    assert names(tree / "a/note.txt", tree) == ["a/note.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "a b.jpg",
        "it's.jpg",
        'say "x".jpg',
        "straße 猫.jpg",
        "a#1.jpg",
        "100%.jpg",
        "%20.jpg",
        "a[1].jpg",
        "*.jpg",
        "?.jpg",
        "[.jpg",
    ],
)
def test_odd_names_are_listed_and_read(tmp_path, name):
    fill(tmp_path, name, "other.jpg", "a1.jpg")
    (file,) = list_files(str(tmp_path / name), KINDS, "images")
    assert read_bytes(file.uri) == name.encode()
    every = list(list_files(str(tmp_path), KINDS, "images"))
    assert sorted(read_bytes(f.uri).decode() for f in every) == sorted([name, "other.jpg", "a1.jpg"])


def test_folders_with_brackets_in_their_names(tmp_path):
    fill(tmp_path, "[2020] x/1.jpg", "2 x/2.jpg")
    assert names(tmp_path / "[2020] x" / "*.jpg", tmp_path) == ["2 x/2.jpg", "[2020] x/1.jpg"]
    assert names(tmp_path / "[2020] x" / "1.jpg", tmp_path) == ["[2020] x/1.jpg"]
    assert names(tmp_path / "[2020] x", tmp_path) == ["[2020] x/1.jpg"]


def test_a_name_that_is_not_utf8_travels_as_a_file_url(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    (file,) = list_files(str(tmp_path), KINDS, "images")
    assert file.uri.startswith("file://")
    assert file.uri.endswith("caf%E9.jpg")
    assert read_bytes(file.uri) == b"x"


def test_ways_to_write_a_path(tree, monkeypatch):
    expected = [str(tree / "c/img1.png")]
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree / "c"))
    for source in (
        "c/img1.png",
        "./c/*",
        "~/img1.png",
        "~",
        "a/../c",
        (tree / "c").as_uri(),
        f"file://localhost{tree}/c",
    ):
        assert [f.uri for f in list_files(source, KINDS, "images")] == expected, source
    (tree / "c" / "50%.jpg").write_bytes(b"x")
    assert [f.uri for f in list_files((tree / "c" / "50%.jpg").as_uri(), KINDS, "images")] == [str(tree / "c/50%.jpg")]
    assert "three slashes" in complaint("file://elsewhere/x.jpg")


def test_links_are_followed_but_loops_are_not(tree):
    (tree / "a" / "again").symlink_to(tree / "a", target_is_directory=True)
    (tree / "a" / "b" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "c" / "side").symlink_to(tree / "a" / "b", target_is_directory=True)
    assert names(tree / "**", tree) == ["a/b/deep.png", "a/img2.JPG", "a/img10.jpg", "c/img1.png", "c/side/deep.png"]


def test_a_link_that_leads_nowhere_is_listed_and_fails_when_read(tree):
    (tree / "c" / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    assert names(tree / "c", tree) == ["c/gone.jpg", "c/img1.png"]
    assert names(tree / "c" / "gone.jpg", tree) == ["c/gone.jpg"]
    with pytest.raises(OSError, match="No such file"):
        read_bytes(str(tree / "c" / "gone.jpg"))


def test_a_folder_that_may_not_be_listed_turns_up_in_place_of_its_files(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("a/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(tree / "a" / "**", tree) == ["a/b", "a/img2.JPG", "a/img10.jpg"]
    assert "Permission denied" in complaint(tree / "a" / "b")


def test_content_id_changes_with_the_file_only(tmp_path):
    path = fill(tmp_path, "a.jpg", "b.jpg") / "a.jpg"

    def ids() -> list[str]:
        return [f.content_id for f in list_files(str(tmp_path), KINDS, "images")]

    before = ids()
    assert len(set(before)) == 2
    assert ids() == before
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert ids()[0] != before[0]
    assert ids()[1] == before[1]
    assert len(File("x", None, None, "").content_id) == 24


def test_a_large_folder_is_streamed(tmp_path):
    (tmp_path / "z").mkdir()
    for i in range(5000):
        (tmp_path / f"{i}.jpg").touch()
    batches = Images().items(_scan(tmp_path, header=False))
    assert [b.num_rows for b in batches] == [4096, 904]
    stats = list(islice(list_files(str(tmp_path), KINDS, "images"), 3))
    assert [Path(f.uri).name for f in stats] == ["0.jpg", "1.jpg", "2.jpg"]


def _scan(source, **options):
    return Scan(str(source), Options(options))


# What is said when there is nothing


def test_nothing_is_explained(tree):
    assert "did you mean 'img2.JPG'" in complaint(tree / "a" / "img2.jpg")
    assert "there is no 'aa' in" in complaint(tree / "aa" / "*.jpg")
    assert "did you mean 'a'" in complaint(tree / "aa" / "*.jpg")
    assert "no file matches" in complaint(tree / "c" / "*.jpeg")
    assert "it holds 'img1.png'" in complaint(tree / "c" / "*.jpeg")
    assert "there is no 'x' in" in complaint(tree / "x" / "y" / "z.jpg")
    assert "source is empty" in complaint(" ")
    fill(tree, "d/1.txt", "d/2.txt", "d/3.mp4", "d/e/4.jpg")
    said = complaint(tree / "d")
    assert "2 .txt, 1 .mp4" in said
    assert f"{tree}/d/**" in said
    assert ".jpg, .png" in complaint(tree / "d" / "*")
    (tree / "empty").mkdir()
    assert "holds no images" in complaint(tree / "empty")


def test_nothing_is_said_before_anything_is_consumed(tmp_path):
    for connector in (Images(), Video(), Text()):
        with pytest.raises(SourceError):
            connector.items(_scan(tmp_path / "nothing"))


# Stores behind fsspec


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_memory_store(memory):
    for path in ("box/10.jpg", "box/2.jpg", "box/a#1 [x]%.png", "box/deep/er/3.jpg", "box/n.txt"):
        memory.pipe("/" + path, path.encode())

    def found(source: str) -> list[str]:
        files = list(list_files(source, KINDS, "images"))
        assert all(f.size == len(read_bytes(f.uri)) and f.mtime_ns and f.tag for f in files)
        return [read_bytes(f.uri).decode() for f in files]

    assert found("memory://box") == ["box/2.jpg", "box/10.jpg", "box/a#1 [x]%.png"]
    assert found("memory://box/*.jpg") == ["box/2.jpg", "box/10.jpg"]
    assert found("memory://box/**/*.jpg") == ["box/2.jpg", "box/10.jpg", "box/deep/er/3.jpg"]
    assert found("memory://box/a#1 [x]%.png") == ["box/a#1 [x]%.png"]
    assert "did you mean" in complaint("memory://bax/*.jpg")
    assert count_claimed("memory://box/**", KINDS) == 4
    before = [f.content_id for f in list_files("memory://box", KINDS, "images")]
    time.sleep(0.001)
    memory.pipe("/box/2.jpg", b"other..")
    after = [f.content_id for f in list_files("memory://box", KINDS, "images")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("p/1.jpg", b"one")
        archive.writestr("p/2.jpg", b"two")
    files = list(list_files(f"zip://p/*.jpg::{tmp_path}/all.zip", KINDS, "images"))
    assert [f.uri for f in files] == [f"zip://p/{i}.jpg::{tmp_path}/all.zip" for i in (1, 2)]
    assert [read_bytes(f.uri) for f in files] == [b"one", b"two"]


def test_schemes_that_are_not_there(monkeypatch):
    assert "foo" in complaint("foo://x/y.jpg")
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    assert "s3fs" in complaint("s3://bucket/*.jpg")
    with pytest.raises(SourceError, match="s3fs"):
        count_claimed("s3://bucket/*.jpg", KINDS)


# The web


def test_web_files(tmp_path, serve):
    fill(tmp_path, "a b#1.jpg", "forbidden.jpg")
    server = serve()
    url = f"{server.url}/a%20b%231.jpg?size=large"
    assert count_claimed(url, KINDS) == 1
    assert server.requests == []
    (file,) = list_files(url, KINDS, "images")
    assert (file.uri, file.size) == (url, 9)
    assert file.tag
    assert read_bytes(url) == b"a b#1.jpg"
    assert "no such file" in complaint(f"{server.url}/b.jpg")
    assert "pattern" in complaint(f"{server.url}/*.jpg")
    assert "403" in complaint(f"{server.url}/forbidden.jpg")
    with pytest.raises(OSError, match="404"):
        read_bytes(f"{server.url}/b.jpg")


def test_a_server_that_is_down():
    assert "127.0.0.1:9" in complaint("http://127.0.0.1:9/x.jpg")


# Choosing a connector


@pytest.mark.parametrize(
    ("files", "winner"),
    [
        (["a.mp4", "b.gif"], "video"),
        (["a.jpg", "b.gif"], "images"),
        (["a.gif"], "video"),
        (["a.jpg", "b.jpg", "n.txt"], "images"),
        (["a.txt", "b.csv"], "text"),
    ],
)
def test_most_files_win(tmp_path, files, winner):
    fill(tmp_path, *files)
    best = max((Images(), Video(), Text()), key=lambda c: (c.claims(str(tmp_path)), c.priority))
    assert best.name == winner


def test_claims_are_cheap_and_honest(tree):
    assert count_claimed(str(tree / "a"), KINDS) == 2
    assert count_claimed(str(tree / "a" / "note.txt"), KINDS) == 0
    assert count_claimed("nobody-knows://x", KINDS) == 0
    with pytest.raises(SourceError, match="did you mean 'a'"):
        count_claimed(str(tree / "aa"), KINDS)
    with pytest.raises(SourceError, match="nothing matches"):
        count_claimed(str(tree / "a" / "*.qqq"), KINDS)


# Small parts


def test_natural_order():
    names = ["a10", "a9", "A9", "a010", "b1", "", "9", "10"]
    assert sorted(names, key=natural_key) == ["", "9", "10", "A9", "a9", "a010", "a10", "b1"]


def test_patterns_are_split_at_the_first_magic_part():
    assert split_pattern("/a/b/*/c") == ("/a/b", ("*", "c"))
    assert split_pattern("/*.jpg") == ("/", ("*.jpg",))
    assert split_pattern("bucket/*.jpg") == ("bucket", ("*.jpg",))


def test_hints_survive_any_uri():
    for uri in ("/a=b::c.txt", "/a/b.txt", "zip://x::/y.zip", "s3://b/k=1::2", "http://h/?a=b::c"):
        assert split_hints(with_hints(uri, encoding="utf-16", x=None)) == (uri, {"encoding": "utf-16"})
        assert split_hints(uri) == (uri, {})

"""Results as pictures: what is drawn where, what is left out, and what stands in the place of what can't be read."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aidb
from aidb.connection import Connection
from aidb.errors import OperationalError, ProgrammingError
from aidb.handles import read_all
from aidb.spi import ItemFailure, Ref
from aidb.surfaces.pictures import sheet
from aidb.surfaces.pictures.boxes import Box, box_columns
from aidb.surfaces.pictures.contact import Section, write_png
from aidb.surfaces.pictures.drawing import name_of, thumbnail
from aidb.surfaces.pictures.tiles import gallery
from aidb.testing import MemoryConnector

GREY = np.full((120, 180, 3), 128, np.uint8)
VIVID = (0, 158, 115)  # the first colour of boxes


def filled(con: Connection, **options: object) -> MemoryConnector:
    """A blob table ``pics`` of five grey pictures; item-3 can't be read."""
    memory = MemoryConnector([GREY] * 5, broken=[3], content="image", key="image_id", **options)  # type: ignore[arg-type]
    con.register_connector(memory)
    con.execute("CREATE BLOB TABLE pics FROM 'memory:*' USING memory")
    return memory


@pytest.fixture
def con() -> Connection:
    return aidb.connect()


class Page(HTMLParser):
    """Tags with their attributes, and the text of each class."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.scripts = 0
        self.words: dict[str, list[str]] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.images += [found] if tag == "img" else []
        self.scripts += tag == "script"
        self._inside = found.get("class") or tag
        self.words.setdefault(self._inside, [])

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.words[self._inside].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def picture(self, k: int) -> np.ndarray:
        data = re.sub("^data:image/jpeg;base64,", "", str(self.images[k]["src"]))
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return np.asarray(image.convert("RGB"))


# ---- boxes


def test_boxes_are_found_by_the_names_of_their_columns() -> None:
    def found(*names: str) -> list[tuple[tuple[int, ...], tuple[int, ...], int | None]]:
        return [(b.corners, b.words, b.score) for b in box_columns(names)]

    assert found("id", "xmin", "ymin", "xmax") == []
    assert found("label", "XMIN", "ymin", "xmax", "ymax", "confidence") == [((1, 2, 3, 4), (0,), 5)]
    assert found("x1", "y1", "x2", "y2") == [((0, 1, 2, 3), (), None)]
    car = "car_xmin", "car_ymin", "car_xmax", "car_ymax", "car_label"
    bus = "xmin", "ymin", "xmax", "ymax", "label"
    assert found(*car, *bus) == [((0, 1, 2, 3), (4,), None), ((5, 6, 7, 8), (9,), None)]
    assert found(*bus, *bus) == [((0, 1, 2, 3), (4,), None), ((5, 6, 7, 8), (9,), None)]
    assert found(*bus, "color")[0][1] == (5, 4)


@pytest.mark.parametrize(
    "row",
    [(None, 1, 5, 5), (float("nan"), 1, 5, 5), ("1", 1, 5, 5), (5, 1, 5, 5), (6, 1, 5, 5), (True, 0, 5, 5)],
)
def test_what_is_no_box_is_not_drawn(row: tuple[object, ...]) -> None:
    [columns] = box_columns(["xmin", "ymin", "xmax", "ymax"])
    assert columns.read(row) is None
    assert columns.read((0, 0.5, 4, 5)) == Box(0, 0.5, 4, 5)


def test_a_box_is_drawn_where_it_is_in_the_smaller_picture() -> None:
    large = np.full((400, 800, 3), 128, np.uint8)
    drawn = np.asarray(thumbnail(large, [Box(200, 100, 600, 300)], (200, 200), {"": VIVID})).astype(int)
    assert drawn.shape == (100, 200, 3)
    green = (np.abs(drawn - VIVID) < 30).all(axis=2)
    ys, xs = np.nonzero(green)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (50, 150, 25, 75)
    assert not green[40:60, 60:140].any()


@pytest.mark.parametrize(
    "box", [Box(-50, -50, 1e6, 1e6, "x" * 100, 0.5), Box(500, 500, 600, 600, "out"), Box(0.1, 0.1, 0.2, 0.2, "日本語")]
)
@pytest.mark.parametrize("shape", [(1, 1), (2000, 3), (120, 180)])
def test_strange_boxes_and_pictures_are_drawn_all_the_same(box: Box, shape: tuple[int, int]) -> None:
    assert max(thumbnail(np.zeros((*shape, 3), np.uint8), [box], (100, 100), {}).size) <= 100


# ---- sheets


def test_each_item_is_shown_once_with_all_its_boxes(con: Connection) -> None:
    filled(con)
    cursor = con.execute(
        "SELECT image, name, n, 10 * n AS xmin, 10 AS ymin, 10 * n + 5 AS xmax, 50 AS ymax, 'car' AS label "
        "FROM pics, range(3) AS r(n) WHERE image_id < 2 ORDER BY n, name"
    )
    found = gallery(cursor, 10)
    assert [(t.rows, len(t.boxes), t.caption) for t in found.tiles] == [(3, 3, "name item-0"), (3, 3, "name item-1")]
    assert len(cursor.fetchall()) == 6


def test_a_page_holds_pictures_with_their_boxes_and_says_what_is_missing(con: Connection, tmp_path: Path) -> None:
    filled(con)
    cursor = con.execute(
        "SELECT image, '<script>alert(1)</script>' || image_id AS caption, 20 AS xmin, 20 AS ymin, 90 AS xmax, "
        "90 AS ymax FROM pics ORDER BY image_id"
    )
    done = sheet(cursor, tmp_path / "page.html", title="<b>", limit=4)
    assert (done.items, done.left_out, done.unreadable) == (4, 1, 1)
    assert str(done) == f"{tmp_path / 'page.html'}: 4 pictures, 1 of them can't be read, 1 more left out"
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.images) == 3
    assert page.scripts == 0
    assert page.words["gone"] == ["memory:item-3: memory:item-3: can't be decoded"]
    assert page.words["figcaption"][0] == "<script>alert(1)</script>0"
    assert page.words["p"] == ["1 more left out"]
    picture = page.picture(0).astype(int)
    assert picture.shape == GREY.shape
    assert (np.abs(picture[20:22, 30:80] - VIVID) < 60).all()


def test_a_page_has_no_more_bytes_than_it_may(con: Connection, tmp_path: Path) -> None:
    con.register_connector(
        MemoryConnector([np.random.default_rng(k).integers(0, 255, (200, 200, 3), np.uint8) for k in range(4)])
    )
    con.execute("CREATE BLOB TABLE noise FROM 'memory:*' USING memory")
    done = sheet(con.execute("SELECT content FROM noise"), tmp_path / "p.html", room=150_000)
    page = Page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert 0 < len(page.images) < 4
    assert len(page.images) == done.items == 4 - done.left_out
    assert (tmp_path / "p.html").stat().st_size < 160_000
    assert [f"{done.left_out} had no room in the 0 MB of this page"] == page.words["p"]


def test_a_png_shows_boxes_words_and_reasons(con: Connection, tmp_path: Path) -> None:
    filled(con)
    columns = "image, 20 AS xmin, 20 AS ymin, 90 AS xmax, 90 AS ymax"

    def pixels(sql: str) -> np.ndarray:
        done = sheet(con.execute(sql), tmp_path / "sheet.png")
        assert done.path == tmp_path / "sheet.png"
        with Image.open(done.path) as image:
            return np.asarray(image)

    plain = pixels("SELECT image FROM pics WHERE image_id = 0")
    boxed = pixels(f"SELECT {columns} FROM pics WHERE image_id = 0")
    worded = pixels(f"SELECT {columns}, 'face' AS label FROM pics WHERE image_id = 0")
    assert plain.shape == boxed.shape
    assert 500 < (plain != boxed).any(axis=2).sum() < (plain != worded).any(axis=2).sum()
    broken = pixels("SELECT image FROM pics WHERE image_id = 3")
    assert len(np.unique(broken[20:60, 20:300].reshape(-1, 3), axis=0)) > 5  # words on grey


def test_a_png_grows_by_rows_and_sections(con: Connection, tmp_path: Path) -> None:
    filled(con)
    tile = gallery(con.execute("SELECT image, 'x' || repeat('yz', 10_000) AS caption FROM pics"), 1).tiles[0]

    def height(*counts: int) -> int:
        write_png(tmp_path / "s.png", [Section("h", [tile] * n) for n in counts])
        with Image.open(tmp_path / "s.png") as image:
            return image.height

    assert height(1) == height(5) < height(6) < height(6, 1)
    assert height(6, 0) == height(6)


def test_texts_and_sounds_have_their_place(con: Connection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Dear <reader>,\n" + "and so on " * 100, encoding="utf-8")
    (tmp_path / "b.wav").write_bytes(b"RIFF" + bytes(100))
    con.execute(f"CREATE BLOB TABLE docs FROM '{tmp_path}/*.txt'")
    con.execute(f"CREATE BLOB TABLE sounds FROM '{tmp_path}/*.wav' WITH (header = false)")
    sheet(con.execute("SELECT text FROM docs"), tmp_path / "docs.html")
    text = Page((tmp_path / "docs.html").read_text(encoding="utf-8")).words["text"][0]
    assert text.startswith("Dear <reader>,\nand so on")
    assert text.endswith("…")
    assert len(text) < 450
    sheet(con.execute("SELECT audio FROM sounds"), tmp_path / "sounds.html")
    assert '<audio controls preload="metadata" title="b.wav" src="data:audio/x-wav;base64,UklGR' in (
        tmp_path / "sounds.html"
    ).read_text(encoding="utf-8")
    for table, column in (("docs", "text"), ("sounds", "audio")):
        assert sheet(con.execute(f"SELECT {column} FROM {table}"), tmp_path / "s.png").unreadable == 0


def test_files_that_are_gone_are_said_to_be_gone(con: Connection, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    con.execute(f"CREATE BLOB TABLE photos FROM '{tmp_path}/*.png'")
    (tmp_path / "one.png").unlink()
    (tmp_path / "two.png").write_bytes(b"no picture")
    done = sheet(con.execute("SELECT image FROM photos"), tmp_path / "s.html")
    assert done.unreadable == 2
    gone = Page((tmp_path / "s.html").read_text(encoding="utf-8")).words["gone"]
    assert gone[0] == "one.png: can't read the file: No such file or directory"
    assert gone[1] == "two.png: not an image of a known format"


def test_items_are_read_once_and_in_order(con: Connection, tmp_path: Path) -> None:
    memory = filled(con)
    cursor = con.execute("SELECT image FROM pics, range(3) ORDER BY image_id DESC")
    sheet(cursor, tmp_path / "s.html")
    assert memory.reads == [f"item-{k}" for k in range(5)]


def test_a_connector_that_is_not_there_or_breaks_costs_nothing_but_its_pictures(con: Connection) -> None:
    class Broken(MemoryConnector):
        def read(self, refs, *, encoded=False):  # type: ignore[no-untyped-def]
            yield from super().read(refs[:1], encoded=encoded)
            raise RuntimeError("out of order")

    con.register_connector(Broken([GREY] * 3))
    con.execute("CREATE BLOB TABLE pics FROM 'memory:*' USING memory")
    handles = [row[0] for row in con.execute("SELECT content FROM pics").fetchall()]
    read = [content for _, content in read_all(handles)]
    assert isinstance(read[0], np.ndarray)
    assert read[1:] == [ItemFailure("out of order")] * 2
    lost = con.execute(
        "SELECT {'uri': 'x', 'pos': NULL::BIGINT, 'media': 'image', 'connector': 'gone'} AS c"
    ).fetchone()
    assert lost is not None
    [(_, content)] = read_all([lost[0]])
    assert isinstance(content, ItemFailure)
    assert "gone" in content.message


def test_no_secret_of_an_address_is_shown() -> None:
    assert name_of(Ref("https://u:p@host/a/bus.jpg?signature=s#f", None, "image", "images")) == "bus.jpg"
    assert name_of(Ref("frames=counted::/a/street.mp4", 12, "image", "video")) == "street.mp4 at 12"
    assert name_of(Ref("/a/what?.jpg", None, "image", "images")) == "what?.jpg"


def test_what_can_not_be_a_sheet_is_refused_in_words(con: Connection, tmp_path: Path) -> None:
    filled(con)
    cursor = con.execute("SELECT image FROM pics")
    with pytest.raises(ProgrammingError, match=r"'sheet\.gif' ends in neither"):
        sheet(cursor, tmp_path / "sheet.gif")
    for name in ("s.png", "s.html"):
        with pytest.raises(OperationalError, match=r"can't write the sheet .*missing"):
            sheet(cursor, tmp_path / "missing" / name)
    with pytest.raises(ProgrammingError, match="no content column"):
        sheet(con.execute("SELECT 1"), tmp_path / "s.png")
    with pytest.raises(ProgrammingError, match="no rows with one"):
        sheet(con.execute("SELECT image FROM pics WHERE false"), tmp_path / "s.png")
    with pytest.raises(ProgrammingError, match="no query"):
        sheet(con.execute("CREATE TABLE t (x INT)"), tmp_path / "s.png")
    assert not list(tmp_path.iterdir())

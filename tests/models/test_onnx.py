"""Networks in ONNX files: real detectors on real pictures, and every format on files written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aidb_models.onnx import Onnx
from aidb_models.onnx_graph import read_graph
from onnx_writer import channel_means, fixed_answer, node, tensor_info, write

from aidb.errors import OperationalError, ProgrammingError, UnknownName
from aidb.spi import ItemError, Options, ServiceError
from aidb.testing.models import ModelContract

pytest.importorskip("onnxruntime", reason="pip install 'aidb[onnx]'")
pytest.importorskip("cv2", reason="pip install 'aidb[onnx]'")


def make(path: Path | str, **options: object) -> Onnx:
    return Onnx("net", Options({"weights": str(path), **options}, "model net"))


def seen(model: Onnx, *images: np.ndarray) -> list[list[tuple[str, float]]]:
    """Labels and rounded confidences of each picture."""
    columns = model.predict([list(images)])
    rows = list(zip(columns["_row"], columns["label"], columns["confidence"], strict=True))
    return [[(label, round(float(c), 2)) for row, label, c in rows if row == i] for i in range(len(images))]


def plain(color: tuple[int, int, int], height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


# --- real networks


class TestYolox(ModelContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def real(cls, weights, photos):
        cls.file, cls.pictures = weights / "yolox_nano_416.onnx", [photos["bus"], photos["zidane"][::2, ::2]]

    def make(self):
        return make(self.file)

    def inputs(self):
        return [list(self.pictures)]


def test_yolox_sees_bus_and_persons(weights, photos):
    model = make(weights / "yolox_nano_416.onnx", confidence=0.5)
    bus, zidane = seen(model, photos["bus"], photos["zidane"])
    assert [label for label, _ in bus] == ["bus", "person", "person", "person"]
    assert [label for label, _ in zidane] == ["person", "person"]
    assert bus[0][1] == pytest.approx(0.91, abs=0.02)


def test_yolov8_answers_as_its_authors_program(weights, photos):
    """Confidences that ultralytics gives for the same weights on a picture padded to a square."""
    model = make(weights / "yolov8n_deq_fp32_dyn.onnx")
    bus, zidane = seen(model, photos["bus"], photos["zidane"])
    assert [label for label, _ in bus] == ["person", "person", "person", "bus", "person"]
    assert [c for _, c in bus] == pytest.approx([0.92, 0.91, 0.91, 0.86, 0.38], abs=0.015)
    assert zidane[:3] == [
        ("person", pytest.approx(0.92, abs=0.01)),
        ("person", pytest.approx(0.85, abs=0.01)),
        ("tie", pytest.approx(0.44, abs=0.01)),
    ]
    columns = model.predict([[photos["zidane"]]])
    box = [float(columns[side][0]) for side in ("xmin", "ymin", "xmax", "ymax")]
    assert box == pytest.approx([148, 199, 1125, 717], abs=12)  # the man in front


def test_both_networks_agree_where_the_bus_is(weights, photos):
    places = []
    for file in ("yolox_nano_416.onnx", "yolov8n_deq_fp32_dyn.onnx"):
        columns = make(weights / file, only="bus").predict([[photos["bus"]]])
        assert columns["label"] == ["bus"]
        assert columns["class_id"].tolist() == [5]
        places.append([float(columns[side][0]) for side in ("xmin", "ymin", "xmax", "ymax")])
    assert places[0] == pytest.approx(places[1], abs=40)


def test_head_of_a_file_is_read_without_a_runtime(weights):
    yolox, yolov8 = (read_graph(weights / f) for f in ("yolox_nano_416.onnx", "yolov8n_deq_fp32_dyn.onnx"))
    assert [(t.name, t.dtype, t.shape) for t in yolox.inputs] == [("images", "float32", (1, 3, 416, 416))]
    assert yolox.outputs[0].shape == (1, 3549, 85)
    assert yolov8.inputs[0].shape == (None, 3, 640, 640)
    assert len(yolov8.outputs) == 6


# --- networks written by hand


class TestClassifier(ModelContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def file(cls, tmp_path_factory):
        cls.path = channel_means(tmp_path_factory.mktemp("onnx") / "c.onnx")

    def make(self):
        return make(self.path, classes=["red", "green", "blue"], mean=0, std=1)

    def inputs(self):
        return [[plain((200, 30, 10)), plain((0, 0, 255), 50, 7), plain((9, 99, 9))]]

    def test_names_the_strongest_channel(self):
        assert self.loaded().predict(self.inputs())["label"] == ["red", "blue", "green"]


class TestFixedBatch(ModelContract):
    """A graph for four pictures at a time answers any number of them."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def file(cls, tmp_path_factory):
        cls.path = channel_means(tmp_path_factory.mktemp("onnx") / "four.onnx", batch=4)

    def make(self):
        return make(self.path, task="embed", mean=0, std=1, color="bgr")

    def inputs(self):
        return [[plain((10 * i, 100, 200)) for i in range(6)]]

    def test_channels_in_the_order_asked_for(self):
        vectors = self.loaded().predict(self.inputs())["embedding"].to_pylist()
        assert np.array(vectors) * 255 == pytest.approx(np.array([[200, 100, 10 * i] for i in range(6)]), abs=0.01)


CORNERS = np.array([[2, 4, 10, 12, 0.9, 1], [2, 4, 10, 12, 0.8, 0], [0, 0, 5, 5, 0.1, 0]], np.float32)


@pytest.mark.parametrize("labels", ["int64", "float32"])
def test_ssd_answers_have_no_batch_dimension(tmp_path, labels):
    answers = {
        "boxes": CORNERS[:, :4],
        "labels": CORNERS[:, 5].astype(labels),
        "scores": np.ascontiguousarray(CORNERS[:, 4]),
    }
    model = make(fixed_answer(tmp_path / "ssd.onnx", answers), task="detect", classes=["cat", "dog"])
    columns = model.predict([[plain((0, 0, 0), 64, 96), plain((0, 0, 0), 32, 32)]])
    assert columns["_row"].tolist() == [0, 0, 1, 1]
    assert list(columns["label"]) == ["dog", "cat"] * 2
    # The first picture was squeezed from 96 x 64 to 32 x 32.
    assert columns["xmin"].tolist() == pytest.approx([6, 6, 2, 2])
    assert columns["ymax"].tolist() == pytest.approx([24, 24, 12, 12])


def test_end_to_end_export_of_ultralytics_needs_no_options(tmp_path):
    path = fixed_answer(
        tmp_path / "e.onnx",
        {"output0": CORNERS[None]},
        author="Ultralytics",
        task="detect",
        names="{0: 'cat', 1: 'dog'}",
        imgsz="[32, 32]",
    )
    assert seen(make(path), plain((0, 0, 0), 32, 32)) == [[("dog", 0.9), ("cat", 0.8)]]
    assert seen(make(path, only="cat", confidence=0.05), plain((0, 0, 0), 32, 32)) == [[("cat", 0.8), ("cat", 0.1)]]
    assert seen(make(path, max_det=1), plain((0, 0, 0), 32, 32)) == [[("dog", 0.9)]]


def test_yolov8_rows_after_the_classes_are_left_alone(tmp_path):
    """Masks and key points follow the classes; the names in the file say where they begin."""
    raw = np.zeros((1, 4 + 2 + 3, 21), np.float32)
    raw[0, :, 7] = [16, 16, 8, 4, 0.1, 0.7, 9, 9, 9]
    path = fixed_answer(tmp_path / "seg.onnx", {"output0": raw}, task="segment", names="{0: 'cat', 1: 'dog'}")
    columns = make(path).predict([[plain((0, 0, 0), 32, 32)]])
    assert columns["label"] == ["dog"]
    assert [float(columns[k][0]) for k in ("xmin", "ymin", "xmax", "ymax")] == [12, 14, 20, 18]


def test_not_a_number_is_a_failure_of_the_picture(tmp_path):
    raw = np.zeros((1, 6, 21), np.float32)
    raw[0, 4, 3] = np.nan
    model = make(fixed_answer(tmp_path / "nan.onnx", {"output0": raw}), classes=["a", "b"], family="yolov8")
    with pytest.raises((ItemError, ServiceError), match="not a finite number"):
        model.predict([[plain((0, 0, 0))]])


@pytest.mark.parametrize("bad", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8), None])
def test_what_is_no_picture_is_refused(tmp_path, bad):
    model = make(channel_means(tmp_path / "c.onnx"))
    with pytest.raises(ItemError, match="picture"):
        model.predict([[bad]])


# --- what goes into the fingerprint


def test_fingerprint_follows_answers_and_nothing_else(tmp_path):
    path = channel_means(tmp_path / "a.onnx")
    base = make(path).spec.fingerprint
    copied = tmp_path / "elsewhere.onnx"
    copied.write_bytes(path.read_bytes())
    assert make(copied).spec.fingerprint == base
    assert make(path, batch_size=4, threads=2, device="cpu", price_per_call=1).spec.fingerprint == base
    assert make(path, mean=0.5).spec.fingerprint != base
    assert make(path, classes=["a", "b", "c"]).spec.fingerprint != base
    other = channel_means(tmp_path / "b.onnx", metadata={"note": "retrained"})
    assert make(other).spec.fingerprint != base


# --- errors


def test_errors_when_the_model_is_created(tmp_path):
    path = channel_means(tmp_path / "c.onnx")
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"not a network at all")
    for options, message in [
        ({"weights": str(tmp_path / "none.onnx")}, "no file"),
        ({"weights": str(tmp_path)}, "is a folder"),
        ({"weights": str(noise)}, "not an ONNX file"),
        ({}, "weights"),
        ({"weights": str(path), "size": 640}, "fixed to"),
        ({"weights": str(path), "task": "detect", "confidence": 2}, "between 0 and 1"),
        ({"weights": str(path), "task": "detect", "confidence": float("nan")}, "finite"),
        ({"weights": str(path), "confidence": 0.5}, "belongs to task = 'detect'"),
        ({"weights": str(path), "task": "dance"}, "detect, classify or embed"),
        ({"weights": str(path), "device": "toaster"}, "auto, cpu"),
        ({"weights": str(path), "classes": "no-such-file.txt"}, "no such file"),
        ({"weights": str(path), "mean": [1, 2]}, "three channels"),
    ]:
        with pytest.raises(ProgrammingError, match=message):
            Onnx("net", Options(options))
    with pytest.raises(UnknownName, match="did you mean confidence"):
        make(path, confidense=0.5)
    with pytest.raises(UnknownName, match="output"):
        make(path, output="z")


def test_a_truncated_file_is_refused(weights, tmp_path):
    whole = (weights / "yolox_nano_416.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProgrammingError, match="not an ONNX file"):
        make(cut)


def test_missing_external_weights_are_named(tmp_path):
    """A large network keeps its weights in a second file."""
    location = b"\x0a\x08location\x12\x06w.data"
    tensor = b"\x42\x01w" + b"\x6a" + bytes([len(location)]) + location
    graph_tail = b"\x2a" + bytes([len(tensor)]) + tensor
    base = write(
        tmp_path / "e.onnx",
        [node("Identity", ["x"], ["y"])],
        [tensor_info("x", "float32", [1, 3, 8, 8])],
        [tensor_info("y", "float32", [1, 3, 8, 8])],
    )
    # A message may come in two pieces, which are merged; here the second graph piece stands alone with the outputs.
    outputs = tensor_info("y", "float32", [1, 3])
    graph = graph_tail + b"\x62" + bytes([len(outputs)]) + outputs
    base.write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
    with pytest.raises(ProgrammingError, match=r"w\.data"):
        make(base)


def test_errors_when_the_model_is_loaded(tmp_path):
    path = channel_means(tmp_path / "c.onnx")
    for options, message in [
        ({"classes": ["a", "b"]}, "3 classes, but 2 names"),
        ({"task": "detect"}, "of no family"),
        ({"task": "embed", "dimensions": 7}, "dimensions = 3"),
        ({"device": "cuda"}, "CUDAExecutionProvider"),
    ]:
        with pytest.raises(ServiceError, match=message) as raised:
            make(path, **options).load()
        assert not raised.value.retry


def test_a_network_without_fixed_size_needs_one(tmp_path):
    path = write(
        tmp_path / "free.onnx",
        [node("GlobalAveragePool", ["x"], ["m"]), node("Flatten", ["m"], ["y"], axis=1)],
        [tensor_info("x", "float32", ["n", 3, "h", "w"])],
        [tensor_info("y", "float32", ["n", 3])],
    )
    with pytest.raises(ProgrammingError, match="set the option 'size'"):
        make(path)
    assert make(path, size=[16, 24]).predict([[plain((9, 9, 200))]])["label"] == ["2"]


def test_a_missing_runtime_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("aidb_models.runtimes.importlib.util.find_spec", lambda name: None)
    with pytest.raises(OperationalError, match=r"aidb\[onnx\]"):
        make(tmp_path / "any.onnx")

"""Boxes on their way through a detector: placed, decoded, thinned out, handed over."""

from __future__ import annotations

import numpy as np
import pytest
from aidb_models.boxes import Detections, classes_found, corners, overlap, probabilities, suppress
from aidb_models.classes import COCO, from_metadata, given_classes
from aidb_models.decoders import Asked, recognise, yolov5, yolov8, yolox
from aidb_models.pictures import PAD, Preparation, alike, middle
from aidb_models.vectors import unit_length, vector_column

from aidb.spi import ItemError, ServiceError


def some_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    start = rng.uniform(0, 80, (n, 2))
    return np.concatenate([start, start + rng.uniform(1, 40, (n, 2))], axis=1)


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


@pytest.mark.parametrize("seed", range(20))
def test_suppression_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    boxes, scores, ids = some_boxes(rng, 60), rng.uniform(size=60).round(1), rng.integers(0, 3, 60)
    expected: list[int] = []
    for i in sorted(range(60), key=lambda i: -scores[i]):
        if all(ids[i] != ids[k] or slow_iou(boxes[i], boxes[k]) <= 0.4 for k in expected):
            expected.append(i)
    assert suppress(boxes, scores, ids, 0.4, 100).tolist() == expected
    assert suppress(boxes, scores, ids, 0.4, 5).tolist() == expected[:5]


def test_suppression_of_nothing():
    assert suppress(np.empty((0, 4)), np.empty(0), np.empty(0), 0.5, 10).tolist() == []


def test_overlap_of_empty_boxes_is_zero():
    assert overlap(np.zeros(4), np.array([[0, 0, 0, 0], [0, 0, 2, 2]], float)).tolist() == [0, 0]


@pytest.mark.parametrize("fit", ["center", "topleft", "none", "crop"])
@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (37, 91), (1000, 33), (20, 301)])
def test_a_box_finds_its_way_back(fit, shape):
    """A white patch in a black picture lies, in the network's input, where the placement says."""
    height, width = shape
    image = np.zeros((height, width, 3), np.uint8)
    top, bottom, left, right = height * 4 // 10, height * 6 // 10, width * 4 // 10, width * 6 // 10
    image[top:bottom, left:right] = 255
    pixels, placement = Preparation(size=(160, 224), fit=fit)(image)
    assert pixels.shape == (3, 160, 224)
    y, x = np.nonzero(pixels[0] > 127 if fit in ("none", "crop") else pixels[0] > 190)
    found = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float64)
    tolerance = 1.5 / min(placement.scale) + 1
    expected = [left, top, right, bottom]
    if fit == "crop":  # what lies outside of the middle is not seen
        seen = placement.back(np.array([[0.0, 0, 224, 160]]))[0]
        expected = np.clip(expected, np.tile(seen[:2], 2), np.tile(seen[2:], 2))
    assert placement.back(found)[0] == pytest.approx(np.array(expected), abs=tolerance)


def test_boxes_are_clipped_to_the_picture():
    _, placement = Preparation(size=(64, 64))(np.zeros((30, 60, 3), np.uint8))
    assert placement.back(np.array([[-50.0, -50, 500, 500]]))[0].tolist() == [0, 0, 60, 30]


def test_preparation_says_what_a_network_sees():
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0] = 255
    pixels, _ = Preparation(size=(20, 20), scale=1 / 255, mean=(0.5, 0, 0), std=(0.5, 1, 1))(red)
    assert pixels[:, 10, 10].tolist() == [1, 0, 0]
    assert pixels[1, 0, 0] == pytest.approx(PAD / 255)
    bgr, _ = Preparation(size=(20, 20), bgr=True, channels_last=True, dtype="uint8")(red)
    assert bgr[10, 10].tolist() == [0, 0, 255]


def test_three_families_say_the_same_boxes_in_their_own_way():
    """One box, 8 x 4 around (20, 12), class 1 of 2, written as each family would."""
    size, cells = (32, 32), 16 + 4 + 1
    asked = Asked(size, None, 0.25)
    expected = ([[16, 10, 24, 14]], [pytest.approx(0.72)], [1])
    cell = 1 * 4 + 2  # row 1, column 2 of the finest grid, 8 pixels a cell
    v8 = np.zeros((6, cells), np.float32)
    v8[:, cell] = [20, 12, 8, 4, 0.1, 0.72]
    v5 = np.zeros((3 * cells, 7), np.float32)
    v5[cell] = [20, 12, 8, 4, 0.9, 0.1, 0.8]
    x = np.zeros((cells, 7), np.float32)
    x[cell] = [20 / 8 - 2, 12 / 8 - 1, 0, np.log(0.5), 0.9, 0.1, 0.8]
    for decode, raw, name in ((yolov8, v8, "yolov8"), (yolov5, v5, "yolov5"), (yolox, x, "yolox")):
        boxes, scores, ids = decode([raw], asked)
        assert (boxes.round(3).tolist(), scores.tolist(), ids.tolist()) == expected
        assert recognise([raw], size) == name


def test_yolox_with_another_size_is_an_error_not_a_guess():
    with pytest.raises(ServiceError, match="size"):
        yolox([np.zeros((100, 85), np.float32)], Asked((416, 416), 80, 0.3))


def test_detections_keep_pictures_and_order_apart():
    found = Detections(("a", "b"), ("note",))
    found.add(0, np.empty((0, 4)), [], [], {"note": []})
    found.add(1, [[0, 0, 1, 1], [1, 1, 2, 2]], [0.9, 0.8], [1, 7], {"note": ["x", None]})
    columns = found.columns()
    assert columns["_row"].tolist() == [1, 1]
    assert columns["label"] == ["b", "7"]  # a number without a name stands for itself
    assert columns["note"] == ["x", None]
    assert Detections((), ("note",)).columns()["note"] == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad):
    with pytest.raises(ItemError, match="finite"):
        Detections(("a",)).add(0, [[0, 0, bad, 1]], [0.5], [0])
    with pytest.raises(ItemError, match="finite"):
        classes_found(np.array([[0.1, bad]]), ("a", "b"))
    with pytest.raises(ItemError, match="finite"):
        vector_column(np.array([[1.0, bad]]), False)


def test_probabilities():
    logits = np.array([[1.0, 2.0, 3.0]])
    soft = np.exp(logits) / np.exp(logits).sum()
    assert probabilities(logits, "auto") == pytest.approx(soft)
    assert probabilities(soft, "auto") == pytest.approx(soft)  # a distribution is left alone
    assert probabilities(soft, "softmax") != pytest.approx(soft)
    assert probabilities(np.array([[0.0]]), "sigmoid").tolist() == [[0.5]]
    assert probabilities(np.array([[1000.0, 0.0]]), "softmax").tolist() == [[1, 0]]


def test_unit_length_leaves_zero_alone():
    assert unit_length(np.array([[3, 4], [0, 0]], np.float32)).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]


def test_corners():
    assert corners(np.array([[10.0, 20, 4, 6]])).tolist() == [[8, 17, 12, 23]]


def test_alike_groups_by_shape():
    shapes = [(2, 2), (3, 3), (2, 2), (3, 3)]
    images = [np.zeros((*s, 3), np.uint8) for s in shapes]
    assert sorted(map(sorted, alike(images))) == [[0, 2], [1, 3]]
    assert list(alike(images, in_order=True)) == [[0], [1], [2], [3]]


def test_names_of_classes(tmp_path):
    assert (len(COCO), COCO[0], COCO[5], COCO[79]) == (80, "person", "bus", "toothbrush")
    assert from_metadata("{0: 'cat', 2: 'dog'}") == ("cat", "1", "dog")
    assert from_metadata("['cat', 'dog']") == ("cat", "dog")
    assert from_metadata("__import__('os')") == from_metadata(None) == ()
    file = tmp_path / "names.txt"
    file.write_text("cat\ndog\n")
    assert given_classes(str(file)) == ("cat", "dog")
    (tmp_path / "names.json").write_text('{"0": "cat", "1": "dog"}')
    assert given_classes(str(tmp_path / "names.json")) == ("cat", "dog")
    file.write_text("cat\n\ndog\n")
    with pytest.raises(ValueError, match="empty name"):
        given_classes(str(file))


@pytest.mark.parametrize("shape", [(10, 401), (401, 10), (30, 40), (1, 1)])
def test_the_middle_is_in_the_middle(shape):
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2, shape[1] // 2] = 255
    cut = middle(image)
    assert max(cut.shape[:2]) <= 4 * min(cut.shape[:2]) + 1
    assert cut[cut.shape[0] // 2, cut.shape[1] // 2, 0] == 255
    assert cut.shape == image.shape or max(shape) > 4 * min(shape)

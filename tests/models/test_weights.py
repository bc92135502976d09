"""Files of weights: what is refused, and what tells one from another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from aidb_models import devices, runtimes
from aidb_models.weights import digest, existing_file, folder_digest, state_dict

from aidb.errors import OperationalError, ProgrammingError
from aidb.spi import OutOfMemory, ServiceError


def test_digest_follows_the_bytes(tmp_path):
    file = tmp_path / "w.bin"
    file.write_bytes(b"one")
    first = digest(file)
    file.write_bytes(b"three")
    assert digest(file) != first
    file.write_bytes(b"one")
    assert digest(file) == first


def test_digest_is_not_computed_twice(tmp_path):
    """Size and modification time stand for the bytes, so a large file is read once."""
    file = tmp_path / "w.bin"
    file.write_bytes(b"one")
    first, times = digest(file), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    assert digest(file) == first
    os.utime(file, ns=(times[0], times[1] + 1_000_000))
    assert digest(file) != first


def test_digest_of_a_folder_follows_names_and_bytes(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_text("{}")
    first = folder_digest(tmp_path, ("*.json",))
    (tmp_path / "readme.md").write_text("not counted")
    assert folder_digest(tmp_path, ("*.json",)) == first
    (tmp_path / "sub" / "a.json").rename(tmp_path / "sub" / "b.json")
    assert folder_digest(tmp_path, ("*.json",)) != first


def test_files_that_are_none(tmp_path):
    empty = tmp_path / "empty.pt"
    empty.touch()
    for value, message in [(tmp_path / "no.pt", "no file"), (tmp_path, "is a folder"), (empty, "is empty")]:
        with pytest.raises(ProgrammingError, match=message):
            existing_file(str(value))


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_pickle_runs_no_code(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install 'aidb[torch]'")
    trap, file = tmp_path / "trap", tmp_path / "evil.pth"
    torch.save({"w": torch.zeros(1), "x": _Payload(str(trap))}, file)
    with pytest.raises(ServiceError, match="can run any code") as raised:
        state_dict(file)
    assert not raised.value.retry
    assert not trap.exists()


def test_state_dicts_are_unwrapped(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install 'aidb[torch]'")
    safetensors = pytest.importorskip("safetensors.torch", reason="pip install 'aidb[torch]'")
    tensors = {"a.weight": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "plain.pth")
    torch.save({"state_dict": {"module.a.weight": tensors["a.weight"]}, "epoch": 7}, tmp_path / "wrapped.pth")
    safetensors.save_file(tensors, tmp_path / "safe.safetensors")
    for name in ("plain.pth", "wrapped.pth", "safe.safetensors"):
        read = state_dict(tmp_path / name)
        assert list(read) == ["a.weight"]
        assert read["a.weight"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
def test_noise_is_no_weights(tmp_path, name):
    pytest.importorskip("torch", reason="pip install 'aidb[torch]'")
    (tmp_path / name).write_bytes(b"\x07 these are not the tensors you are looking for" * 9)
    with pytest.raises(ServiceError, match=name) as raised:
        state_dict(tmp_path / name)
    assert not raised.value.retry


def test_a_list_is_no_state_dict(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install 'aidb[torch]'")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ServiceError, match="state dict"):
        state_dict(tmp_path / "list.pth")


# --- devices and runtimes


@pytest.mark.parametrize(("value", "expected"), [("CPU", "cpu"), (0, "cuda:0"), ("cuda:3", "cuda:3"), ("auto", "auto")])
def test_device_names(value, expected):
    assert devices.device_name(value) == expected


@pytest.mark.parametrize("value", ["gpu", "cuda:x", "cpu:1", "", "mps:0"])
def test_what_is_no_device(value):
    with pytest.raises(ValueError, match="choose"):
        devices.device_name(value)


def test_a_device_that_is_not_there_is_no_silent_cpu():
    torch = pytest.importorskip("torch", reason="pip install 'aidb[torch]'")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ServiceError, match="CUDA device") as raised:
        devices.settle(missing)
    assert not raised.value.retry
    assert devices.settle("cpu") == "cpu"
    with pytest.raises(ServiceError, match="half = true"):
        devices.half_refused(True, "cpu")


def test_memory_errors_are_told_apart():
    with pytest.raises(OutOfMemory):
        devices.translate_memory(RuntimeError("CUDA out of memory. Tried to allocate"))
    devices.translate_memory(RuntimeError("something else"))


def test_missing_packages_name_the_extra():
    with pytest.raises(OperationalError, match=r"needs? no_such_package: pip install 'aidb\[video\]'"):
        runtimes.require("video", "json", "no_such_package", provider="x")
    with pytest.raises(ServiceError, match=r"pip install 'aidb\[video\]'"):
        runtimes.imported("no_such_package", "video")


def test_a_broken_torchvision_says_what_to_install(monkeypatch):
    """A torchvision built against another torch raises RuntimeError at import, once, and differently afterwards."""
    pytest.importorskip("torch", reason="pip install 'aidb[torch]'")
    real = runtimes.importlib.import_module
    tries = []

    def broken(name: str):
        if name == "torchvision":
            tries.append(name)
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name)

    monkeypatch.setattr(runtimes.importlib, "import_module", broken)
    monkeypatch.setattr(runtimes, "_broken_torchvision", None)
    for _ in range(2):
        with pytest.raises(ServiceError, match=r"nms does not exist.*two builds that belong together") as raised:
            runtimes.torchvision()
        assert not raised.value.retry
    assert tries == ["torchvision"]


def test_importing_providers_imports_no_runtime():
    providers = ("color", "embedding", "onnx", "opencv", "torchvision", "ultralytics")
    code = (
        f"import sys; [__import__('aidb_models.' + n) for n in {providers!r}]; "
        "print(sorted({'torch', 'torchvision', 'ultralytics', 'onnxruntime', 'cv2', 'transformers'} & set(sys.modules)))"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")

import hashlib
import socket
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from torchvision.datasets import utils

from savi.data import DATASETS, TensorDataModule
from savi.data.sets import mnist
from savi.data.sets.published import Published
from savi.errors import InputError

FILES = {
    "mnist": ("data/MNIST/raw", "train-images-idx3-ubyte.gz"),
    "kmnist": ("data/KMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
    "fashion_mnist": ("data/FashionMNIST/raw", "t10k-images-idx3-ubyte.gz"),
    "cifar10": ("data/cifar-10-batches-py", "data_batch_5"),
    "svhn": ("data", "test_32x32.mat"),
    "omniglot": ("data/omniglot-py", "images_evaluation.zip"),
    "celeba": ("data/celeba", "list_eval_partition.txt"),
}


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path, monkeypatch):
    """An empty current folder, no installed data, and no gdown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist, "DEBIAN", tmp_path / "absent")
    monkeypatch.setitem(sys.modules, "gdown", None)


@pytest.fixture
def network(monkeypatch):
    """Replace the two functions by which torchvision reaches the network."""

    def answer(retrieve) -> None:
        monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)
        monkeypatch.setattr(utils, "_urlretrieve", retrieve)

    return answer


def left_over(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.name != "data"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "failure",
    [
        URLError("Name or service not known"),
        HTTPError("https://example.org", 404, "Not Found", None, None),
        TimeoutError("timed out"),
    ],
)
def test_a_download_that_fails_says_which_files_to_put_where(network, tmp_path, name, failure):
    def fail(url: str, filename: str) -> None:
        raise failure

    network(fail)
    data = TensorDataModule(name)
    folder, file = FILES[name]
    with pytest.raises(InputError, match="could not be downloaded") as raised:
        data.setup()
    message = str(raised.value)
    assert message.startswith(f"data set '{name}' is not in {folder} and could not")
    assert file in message
    assert f" in {tmp_path / folder}, or set data.path to the folder that holds them" in message
    assert "\n" not in message
    reason = "'gdown' is required" if name == "celeba" else str(failure).split(":")[0]
    assert reason in message
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("name", [name for name in FILES if name != "celeba"])
def test_a_download_that_is_not_what_was_published_leaves_nothing_behind(network, tmp_path, name):
    network(lambda url, filename: Path(filename).write_bytes(b"a page that asks to log in"))
    with pytest.raises(InputError, match=r"could not be downloaded .*corrupted"):
        TensorDataModule(name).setup()
    assert left_over(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing_behind(network, tmp_path):
    def break_off(url: str, filename: str) -> None:
        Path(filename).write_bytes(b"the first half")
        raise ConnectionResetError("connection reset by peer")

    network(break_off)
    with pytest.raises(InputError, match=r"\(connection reset by peer\)"):
        DATASETS["omniglot"]()
    assert left_over(tmp_path) == []


def download(root: Path) -> None:
    assert socket.getdefaulttimeout() == 30
    for folder in ("first", "second"):
        (root / "mine" / folder).mkdir(parents=True)
        (root / "mine" / folder / "part.gz").write_text(hashlib.md5(folder.encode()).hexdigest())


def test_a_download_is_moved_into_place_when_it_is_complete(tmp_path):
    published = Published("mine", ("first/part.gz", "second/part.gz"), download, folder="mine")
    with published.opened(None) as folder:
        assert folder == Path("data/mine")
        assert {file.name for file in folder.iterdir()} == {"first", "second"}
        assert (folder / "second/part.gz").read_text() == hashlib.md5(b"second").hexdigest()
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["mine"]
    assert socket.getdefaulttimeout() is None


def test_files_at_hand_are_not_downloaded(tmp_path):
    def forbidden(root: Path) -> None:
        raise AssertionError

    (tmp_path / "part").touch()
    published = Published("mine", ("part.gz",), forbidden, elsewhere=(tmp_path,))
    for path in (None, tmp_path):
        with published.opened(path) as folder:
            assert folder == tmp_path
            assert published.locate(folder, "part.gz") == tmp_path / "part"
    (tmp_path / "part").unlink()
    with pytest.raises(InputError, match="is not in data"), published.opened(tmp_path):
        pass


def test_no_path_reaches_the_network(network, tmp_path):
    def forbidden(url: str, filename: str) -> None:
        raise AssertionError

    network(forbidden)
    for name, (_, file) in FILES.items():
        with pytest.raises(InputError, match=f"'{name}' is not in data.path .*{file}"):
            TensorDataModule(name, path=str(tmp_path)).setup()
